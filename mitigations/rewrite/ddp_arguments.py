"""DistributedDataParallel built with other arguments: buckets, views, a static graph."""

from __future__ import annotations

from speedprof.mitigations.rewrite.arguments import given, same, set_in
from speedprof.mitigations.rewrite.code import Absent, Code, Refused
from speedprof.mitigations.rewrite.order import Order
from speedprof.mitigations.rewrite.torch_names import DDP
from speedprof.mitigations.source_text import written

POSITIONAL = ("module", "device_ids", "output_device", "dim", "broadcast_buffers")


def rewrite(code: Code, order: Order) -> None:
    """Change what the script does not give itself, and what the plan names."""
    calls = code.calls(*DDP)
    if not calls:
        raise Absent("no DistributedDataParallel is built in this file")
    kept: list[str] = []
    for call in calls:
        own = given(code, call, POSITIONAL)
        texts = {name: written(value) for name, value in order.parameters.items()}
        wanted = {n: t for n, t in texts.items() if n not in own or not same(code, own[n], t)}
        kept += [name for name in wanted if name in own and name not in order.named]
        changes = {name: text for name, text in wanted.items() if name not in kept}
        code.notes += [
            f"{name}={text} instead of {code.words(own[name].value)}"
            for name, text in changes.items()
            if name in own
        ]
        if changes:
            set_in(code, call, own, changes)
        elif kept:
            raise Refused(f"the script gives {kept[0]} itself in line {code.line(call)}; "
                          "name it in the plan to change it")  # fmt: skip
