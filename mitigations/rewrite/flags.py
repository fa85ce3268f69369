"""Torch's flags, set once below the imports: TF32, cuDNN's trials, threads."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from speedprof.mitigations.rewrite.code import Code, Refused
from speedprof.mitigations.rewrite.order import Order
from speedprof.mitigations.rewrite.torch_names import at_top
from speedprof.mitigations.source_text import written

PRECISION = "torch.set_float32_matmul_precision"
THREADS = "torch.set_num_threads"
BENCHMARK = "torch.backends.cudnn.benchmark"
ALLOW = ("torch.backends.cuda.matmul.allow_tf32", "torch.backends.cuda.matmul.fp32_precision")
DETERMINISTIC = ("torch.backends.cudnn.deterministic", "torch.use_deterministic_algorithms")


def precision(code: Code, order: Order) -> None:
    """Let float32 products use TF32."""
    for assign in _assignments(code, *ALLOW):
        raise Refused(f"line {code.line(assign)} sets {code.words(assign).strip()} itself")
    _call(code, order, PRECISION, "precision")


def threads(code: Code, order: Order) -> None:
    """Let operators use fewer threads."""
    _call(code, order, THREADS, "threads")


def benchmark(code: Code, order: Order) -> None:
    """Let cuDNN try its algorithms."""
    if order.known.device == "cpu":
        raise Refused("the training ran on the CPU, where cuDNN is not used")
    for assign in _assignments(code, BENCHMARK):
        if code.words(assign.value) == "True" and code.condition(assign) is None:
            return
        raise Refused(f"line {code.line(assign)} sets it itself: {code.words(assign).strip()}")
    wanted = [*_assignments(code, DETERMINISTIC[0]), *code.calls(DETERMINISTIC[1])]
    for one in wanted:
        if "False" not in code.words(one):
            raise Refused(
                f"line {code.line(one)} asks for deterministic algorithms, and trials choose "
                "another one each time"
            )
    at_top(code, "torch", "{module}.backends.cudnn.benchmark = True")


def _call(code: Code, order: Order, function: str, parameter: str) -> None:
    """Call one of torch's setters, or give another value to the call that is there."""
    value = written(order.parameters[parameter])
    found = code.calls(function)
    if not found:
        at_top(code, "torch", f"{{module}}.{function.removeprefix('torch.')}({value})")
        return
    if len(found) > 1 or code.condition(found[0]) is not None:
        raise Refused(f"line {code.line(found[0])} sets it already, where or when is not clear")
    call = found[0]
    own = code.words(call.args[0].value) if len(call.args) == 1 else ""
    if own.replace("'", '"') == value:
        return
    if not own or parameter not in order.named:
        raise Refused(
            f"line {code.line(call)} has {code.words(call)}; name the value in the plan to "
            "change it"
        )
    code.edit(call.args[0], lambda one: one.with_changes(value=cst.parse_expression(value)))


def _assignments(code: Code, *names: str) -> Iterator[cst.Assign]:
    for assign in code.all(cst.Assign):
        for target in assign.targets:
            if code.qualified(target.target) & set(names):
                yield assign
