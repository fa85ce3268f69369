"""Remedies that the library's training loop takes as arguments of its own."""

from __future__ import annotations

from collections.abc import Mapping

import libcst as cst

from speedprof.mitigations.applied.automatic import AUTOMATIC
from speedprof.mitigations.rewrite import kept_workers
from speedprof.mitigations.rewrite.arguments import Given, given, same, set_in
from speedprof.mitigations.rewrite.code import Absent, Code, Refused
from speedprof.mitigations.rewrite.loader_arguments import check_workers, without_workers
from speedprof.mitigations.rewrite.order import Order
from speedprof.mitigations.trainers import NAMES, ON_CPU, PARAMETER, Call

CALLED = {  # full names of what is called, by the name that the spelling gives it
    "TrainingArguments": (
        "transformers.TrainingArguments",
        "transformers.training_args.TrainingArguments",
        "transformers.Seq2SeqTrainingArguments",
        "transformers.training_args_seq2seq.Seq2SeqTrainingArguments",
    ),
    "Trainer": (
        "lightning.Trainer",
        "lightning.pytorch.Trainer",
        "pytorch_lightning.Trainer",
    ),
    "Accelerator": ("accelerate.Accelerator", "accelerate.accelerator.Accelerator"),
}
POSITIONAL = {"TrainingArguments": ("output_dir",)}
PARSED = "TrainingArguments"
PARSERS = ("transformers.HfArgumentParser", "transformers.hf_argparser.HfArgumentParser")
WORKERS = "dataloader_num_workers"
KEPT = "dataloader_persistent_workers"
OF_WORKERS = (KEPT, "dataloader_prefetch_factor")


def takes(order: Order) -> Call | None:
    """Return the call that takes a remedy with its parameters, None where it is written elsewhere.

    Where a run on a CPU needs more than the remedy, what is told is refused here by its reason.
    """
    known = order.known.training
    call = None if known is None else known.call(order.name)
    if (
        call is None
        or call.name not in CALLED
        or (call.told and call is not ON_CPU.get(order.name))
    ):
        return None
    allowed = AUTOMATIC[order.name].parameters if order.name in AUTOMATIC else {}
    unusual = {name for name, value in order.parameters.items()
               if name not in allowed or value != allowed[name].default}  # fmt: skip
    return call if unusual <= call.parameters else None


def rewrite(code: Code, order: Order) -> None:
    """Give the one call of its kind the remedy's arguments."""
    wanted, training = takes(order), order.known.training
    assert wanted is not None
    assert training is not None
    texts = wanted.written(order.parameters)
    calls = code.calls(*CALLED[wanted.name])
    if len(calls) != 1:
        raise _none(code, wanted, order, texts, len(calls))
    call = calls[0]
    own = _given(code, call, wanted, texts)
    if texts.get(WORKERS) == "0":
        without_workers(code, call, own, WORKERS, OF_WORKERS)
        return
    _check_beside(code, wanted, own)
    texts = _changes(code, call, own, texts, order)
    now = code.words(own[WORKERS].value) if WORKERS in own else "0"
    _check_workers(code, texts, now, order)
    if texts:
        set_in(code, call, own, texts)
        code.notes.append(f"in the words of {NAMES[training.trainer]}")


def _changes(
    code: Code, call: cst.Call, own: Mapping[str, Given], texts: Mapping[str, str], order: Order
) -> dict[str, str]:
    """Return what to write: what the script says otherwise stays, unless it is named."""
    wanted = takes(order)
    assert wanted is not None
    texts = {n: t for n, t in texts.items() if n not in own or not same(code, own[n], t)}
    kept = [n for n in texts if n in own and not wanted.is_named(n, order.named)]
    for name in kept:
        del texts[name]
    if kept and not texts:
        now = code.words(own[kept[0]].value)
        can = "name it in the plan" if PARAMETER.search(wanted.arguments[kept[0]]) else "go there"
        raise Refused(
            f"the script gives {kept[0]}={now} itself in line {code.line(call)}; "
            f"{can} to change it"
        )
    code.notes += [
        f"{name}={text} instead of {code.words(own[name].value)}"
        for name, text in texts.items()
        if name in own
    ]
    return texts


def _check_beside(code: Code, wanted: Call, own: Mapping[str, Given]) -> None:
    """Refuse what the library refuses beside what the script gives."""
    other = wanted.excludes
    if other is not None and other in own and not same(code, own[other], "False"):
        raise Refused(
            f"{wanted.name} does not take it beside {other}={code.words(own[other].value)}"
        )
    if wanted.told and ("use_cpu" not in own or same(code, own["use_cpu"], "False")):
        raise Refused(
            f"without a GPU {wanted.name} takes bf16=True only beside use_cpu=True, which would "
            "keep the script on the CPU for good; write both where that is wanted"
        )


def _check_workers(code: Code, texts: dict[str, str], now: str, order: Order) -> None:
    """Refuse workers that could not work; leave out that they are kept where that would show.

    `now` is how many the script has, as its source says it.
    """
    if not any(name in texts for name in (WORKERS, *OF_WORKERS)):
        return
    number = texts.get(WORKERS, now)
    if number == "0":
        raise Refused("the loader has no workers; take loader-workers, too")
    if not number.isdigit():
        raise Refused(f"{WORKERS}={number} may be 0, and then none of this is allowed")
    if WORKERS in texts:
        check_workers(code, order)
    if texts.get(KEPT, "False") == "False":
        return
    why = kept_workers.why_not(code, {}) or _epochs(code)
    if why is not None and len(texts) == 1:
        raise Refused(f"the workers cannot be kept: {why}")
    if why is not None:
        del texts[KEPT]
        code.notes.append(f"the workers are not kept: {why}")


def _epochs(code: Code) -> str | None:
    """Return where a data set learns its epoch, which reaches no worker that is kept."""
    for one in code.all(cst.FunctionDef):
        if one.name.value == "set_epoch":
            return f"line {code.line(one)} changes the data set between passes"
    return None


def _given(code: Code, call: cst.Call, wanted: Call, texts: Mapping[str, str]) -> dict[str, Given]:
    """Return the call's arguments; where they cannot be told, say what to write there."""
    try:
        return given(code, call, POSITIONAL.get(wanted.name, ()))
    except Refused as refused:
        what = ", ".join(f"{name}={text}" for name, text in texts.items())
        raise Refused(str(refused).replace("write it there", f"write {what} there")) from None


def _none(code: Code, wanted: Call, order: Order, texts: dict[str, str], count: int) -> Refused:
    """Say why there is no one call, and where to write the arguments all the same."""
    if count:
        return Refused(f"{count} calls of {wanted.name} stand in this file")
    if wanted.name == PARSED and code.calls(*PARSERS):
        _check_beside(code, wanted, {})
        if texts.get(WORKERS) != "0":
            _check_workers(code, texts, str(order.known.num_workers or 0), order)
        options = " ".join(f"--{one} {text}" for one, text in texts.items())
        return Refused(
            f"the script takes {wanted.name} from its command line: add {options} there"
        )
    what = ", ".join(f"{name}={text}" for name, text in texts.items())
    return Absent(f"no {wanted.name}(...) stands in this file; write {what} where it does")
