"""DataLoaders with other arguments: workers, prefetching, pinning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import libcst as cst

from speedprof.mitigations.rewrite import copies, kept_workers, opened_files
from speedprof.mitigations.rewrite.arguments import (
    Given,
    given,
    remove_from,
    same,
    set_in,
)
from speedprof.mitigations.rewrite.code import Code, Refused
from speedprof.mitigations.rewrite.loaders import loaders
from speedprof.mitigations.rewrite.order import Order
from speedprof.mitigations.source_text import written

POSITIONAL = (  # torch 2.6 to 2.15
    "dataset", "batch_size", "shuffle", "sampler", "batch_sampler", "num_workers", "collate_fn",
    "pin_memory", "drop_last", "timeout", "worker_init_fn", "multiprocessing_context", "generator",
)  # fmt: skip
OF_WORKERS = ("persistent_workers", "prefetch_factor")
WITH_WORKERS = (*OF_WORKERS, "timeout", "multiprocessing_context")  # senseless without them
PINNING = "pin-memory"


def rewrite(code: Code, order: Order) -> None:
    """Change the arguments of the training loader, or of all loaders where none is known."""
    calls = loaders(code, order)
    for call in calls:
        _change(code, call, order)
    if order.name == PINNING and order.parameters.get("pin_memory", True):
        copies.unblock_if_clear(code, order)


def _change(code: Code, call: cst.Call, order: Order) -> None:
    own = given(code, call, POSITIONAL)
    if order.parameters.get("num_workers") == 0:
        without_workers(code, call, own)
        return
    texts = {name: written(value) for name, value in order.parameters.items()}
    number = _number(code, own, order)
    texts = _other_than(code, own, _depending(texts, number))
    kept = [name for name in texts if name in own and name not in order.named]
    for name in kept:
        del texts[name]
    if kept and not texts:
        raise Refused(_kept(code, call, kept[0], own[kept[0]]))
    _check_kept(code, own, texts)
    if {"num_workers", *OF_WORKERS} & set(texts):
        _check_number(code, call, number, own, order)
    if "num_workers" in texts:
        check_workers(code, order)
    _check_pinning(texts, order)
    code.notes += [
        f"{name}={text} instead of {code.words(own[name].value)}"
        for name, text in texts.items()
        if name in own
    ]
    if texts:
        set_in(code, call, own, texts)


def _check_kept(code: Code, own: Mapping[str, Given], texts: dict[str, str]) -> None:
    """Leave out that workers are kept where that would show."""
    if texts.get("persistent_workers", "False") == "False":
        return
    why = kept_workers.why_not(code, own)
    if why is None:
        return
    if len(texts) == 1:
        raise Refused(f"the workers cannot be kept: {why}")
    del texts["persistent_workers"]
    code.notes.append(f"the workers are not kept: {why}")


def _other_than(code: Code, own: Mapping[str, Given], texts: dict[str, str]) -> dict[str, str]:
    """Return what the script does not say already."""
    return {n: text for n, text in texts.items() if n not in own or not same(code, own[n], text)}


def _kept(code: Code, call: cst.Call, name: str, own: Given) -> str:
    return (
        f"the script gives {name}={code.words(own.value)} itself in line {code.line(call)}; "
        "name it in the plan to change it"
    )


def without_workers(
    code: Code,
    call: cst.Call,
    own: Mapping[str, Given],
    number: str = "num_workers",
    senseless: Sequence[str] = WITH_WORKERS,
) -> None:
    """Take the workers away, and the arguments that are senseless without them."""
    if number not in own:
        return  # none is the default
    for name in senseless:
        if name in own and name not in _keywords(call):
            raise Refused(f"line {code.line(call)} gives {name} by position; give it by name")
    remove_from(code, call, own, senseless)
    if not same(code, own[number], "0"):
        workers = own[number]
        gone = sum(one.place < workers.place for name, one in own.items() if name in senseless)
        moved = Given(workers.place - gone, workers.value)
        set_in(code, call, {number: moved}, {number: "0"})


def _keywords(call: cst.Call) -> set[str]:
    return {argument.keyword.value for argument in call.args if argument.keyword is not None}


def _number(code: Code, own: Mapping[str, Given], order: Order) -> str:
    """Return the workers that the loader will have, as the source will say it."""
    if "num_workers" in order.parameters and (
        "num_workers" not in own or "num_workers" in order.named
    ):
        return written(order.parameters["num_workers"])
    return code.words(own["num_workers"].value) if "num_workers" in own else "0"


def _check_number(
    code: Code, call: cst.Call, number: str, own: Mapping[str, Given], order: Order
) -> None:
    """Refuse what is for workers where there are none, or may be none."""
    if number == "0" and "num_workers" in own and "num_workers" in order.parameters:
        raise Refused(_kept(code, call, "num_workers", own["num_workers"]))
    if number == "0":
        raise Refused("the loader has no workers; take loader-workers, too")
    if not number.isdigit() and not _is_dotted(number):
        raise Refused(f"num_workers={number} may be 0, and then none of this is allowed")


def _depending(texts: dict[str, str], number: str) -> dict[str, str]:
    """Ask for the number of workers where the script decides on it as it runs."""
    if not _is_dotted(number):
        return texts
    asking = dict(texts)
    if texts.get("persistent_workers") == "True":
        asking["persistent_workers"] = f"{number} > 0"
    if "prefetch_factor" in texts:
        asking["prefetch_factor"] = f"{texts['prefetch_factor']} if {number} > 0 else None"
    return asking


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def check_workers(code: Code, order: Order) -> None:
    """Refuse workers that could not work, or would make other batches."""
    known = order.known
    opened_files.refuse(code)
    if known.iterable:
        raise Refused("the dataset is iterable, and every worker would yield all of it")
    if known.start_method not in ("spawn", "forkserver"):
        return
    if known.picklable is False:
        raise Refused(f"the dataset cannot be pickled, and workers are started by "
                      f"{known.start_method}")  # fmt: skip
    if not any(one.value == "__name__" for one in code.all(cst.Name)):
        raise Refused(
            f"workers are started by {known.start_method}, which runs the script again; put its "
            'training below `if __name__ == "__main__":`'
        )


def _check_pinning(texts: Mapping[str, str], order: Order) -> None:
    if texts.get("pin_memory") == "True" and order.known.device == "cpu":
        raise Refused("the training ran on the CPU, where nothing is pinned")
