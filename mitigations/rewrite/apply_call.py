"""What needs code of its own around the script's: a call of `speedprof.apply()` at its top."""

from __future__ import annotations

import libcst as cst

from speedprof.mitigations.applied.automatic import AUTOMATIC
from speedprof.mitigations.rewrite.code import Code, Refused
from speedprof.mitigations.rewrite.order import Order
from speedprof.mitigations.rewrite.torch_names import at_top
from speedprof.mitigations.source_text import written

MODULE, CALL = "speedprof", "speedprof.apply"
NEEDS = "the script then needs speedprof where it runs"


def rewrite(code: Code, order: Order) -> None:
    """Name the remedy in a call of `speedprof.apply()`, one for all of them."""
    word = _word(order)
    found = [call for call in code.calls(CALL) if _named(call) is not None]
    if not found:
        at_top(code, MODULE, f'{{module}}.apply("{word}")')
        code.notes.append(NEEDS)
        return
    call, words = found[0], _named(found[0]) or []
    if code.condition(call) is not None:
        raise Refused(
            f"line {code.line(call)} calls speedprof.apply() where it may not be reached"
        )
    if word in words:
        return
    others = [one for one in words if one.partition("=")[0].strip() != order.name]
    if len(others) < len(words) and not order.named:
        return  # the script's own value
    text = written(",".join([*others, word]))
    code.edit(call.args[0], lambda one: one.with_changes(value=cst.parse_expression(text)))
    code.notes.append(NEEDS)


def _word(order: Order) -> str:
    """Return a remedy as `speedprof.apply()` reads it: "cache-samples=64"."""
    remedy = AUTOMATIC[order.name]
    for name, value in order.parameters.items():
        if name != remedy.main and value != remedy.parameters[name].default:
            raise Refused(
                f"{name}={value} is written into a plan alone; speedprof.apply() reads one, too"
            )
    main = remedy.main
    if main is None or main not in order.named or order.parameters[main] in ("", None):
        return order.name
    value = order.parameters[main]
    return f"{order.name}={value if isinstance(value, str) else written(value)}"


def _named(call: cst.Call) -> list[str] | None:
    """Return the remedies that a call names in its line, None where it reads a file or more."""
    if len(call.args) != 1 or not isinstance(call.args[0].value, cst.SimpleString):
        return None
    text = call.args[0].value.evaluated_value
    if not isinstance(text, str) or text.endswith(".toml"):
        return None
    return [one.strip() for one in text.split(",") if one.strip()]
