"""Models compiled by torch.compile."""

from __future__ import annotations

from typing import Any

from speedprof.mitigations.applied.models import when_trained
from speedprof.mitigations.applied.process import Applied, Process


def apply(process: Process, one: Applied) -> None:
    """Compile the model in place before its second forward pass; Dynamo falls back by itself.

    `torch._dynamo.config.suppress_errors` lets what cannot be compiled run as it is.
    """

    def adopt(model: Any) -> None:
        from torch._dynamo import config

        if model._compiled_call_impl is not None:  # noqa: SLF001 - torch has no other sign
            one.note("the script compiles the model itself")
            return
        strict = config.suppress_errors
        config.suppress_errors = True
        process.changed(
            f"torch._dynamo.config.suppress_errors: {one.name}: fall back",
            lambda: setattr(config, "suppress_errors", strict),
        )
        model.compile(mode=None if one.parameters["mode"] == "default" else one.parameters["mode"])
        one.effects += 1
        process.changed(f"{type(model).__name__}: {one.name}", lambda: _uncompile(model))
        process.at_end.append(lambda: _tell(one))

    when_trained(process, one.name, adopt)


def _tell(one: Applied) -> None:
    """Say into how many graphs the model fell, and why."""
    from torch._dynamo.utils import counters

    breaks = counters["graph_break"]
    if breaks:
        reason = max(breaks, key=lambda why: breaks[why]).strip().splitlines()[0]
        one.note(f"the graph broke {sum(breaks.values())} times, most often for: {reason}")
    made = counters["stats"].get("unique_graphs", 0)
    one.note(f"{made} graph{'' if made == 1 else 's'} compiled")


def _uncompile(model: Any) -> None:
    model._compiled_call_impl = None  # noqa: SLF001 - torch has no other way back
