"""Plans as users write them: remedies with parameters, in a TOML file or a line of text."""

from __future__ import annotations

import difflib
import importlib
import os.path
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speedprof.mitigations import plan_lines
from speedprof.mitigations.applied.automatic import AUTOMATIC, Automatic, Parameter, Value
from speedprof.mitigations.applied.rivals import rival
from speedprof.profiler.errors import SpeedprofError

FORMAT = 1
SUFFIX = ".toml"
READER = "tomllib" if sys.version_info >= (3, 11) else "tomli"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """One remedy of a plan; parameters that the plan does not name have their defaults."""

    name: str
    parameters: Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFile:
    """Remedies in the order in which they are applied."""

    remedies: tuple[Remedy, ...]
    made_by: str | None = None  # version of speedprof
    machine: str | None = None  # where it was proved
    torch: str | None = None

    def entries(self) -> list[dict[str, object]]:
        """Return the plan as the training process gets it."""
        return [{"name": one.name, "parameters": dict(one.parameters)} for one in self.remedies]

    def proved(self) -> dict[str, str]:
        """Return where the plan was proved, as far as it says."""
        told = {"machine": self.machine, "torch": self.torch}
        return {name: text for name, text in told.items() if text is not None}


def understand(text: str, where: str = "--apply") -> PlanFile:
    """Return the plan of a file, or of a line like `loader-workers=4,tf32`.

    Raises SpeedprofError, with what to write instead, where either is wrong; `where` is what a
    line was given to.
    """
    if text.endswith(SUFFIX) or os.path.isfile(text):  # Path.is_file() raises on long lines
        return read(Path(text))
    remedies = [_word(word.strip(), where) for word in text.split(",") if word.strip()]
    return _checked(PlanFile(remedies=tuple(remedies)), where)


def read(path: Path) -> PlanFile:
    """Return a file's plan; raise SpeedprofError where it is none."""
    try:
        told = _loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpeedprofError(f"cannot read the plan {path} ({error.strerror})") from error
    except ValueError as error:
        raise SpeedprofError(f"{path} is no TOML file ({error})") from error
    _check_format(told.get("format"), path)
    tables = told.get("remedies", {})
    if not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
        raise SpeedprofError(f"{path}: remedies are tables, as in [remedies.loader-workers]")
    remedies = tuple(_remedy(name, table, str(path)) for name, table in tables.items())
    texts = {name: _text(told.get(name)) for name in ("made_by", "machine", "torch")}
    return _checked(PlanFile(remedies=remedies, **texts), str(path))


def write(plan: PlanFile) -> str:
    """Return the plan as TOML; `read` gives it back."""
    lines = ["# What `speedprof run --apply` is to do; delete what you do not want.", ""]
    lines.append(f"format = {FORMAT}")
    for name in ("made_by", "machine", "torch"):
        value = getattr(plan, name)
        if value is not None:
            lines.append(f"{name} = {_toml(value)}")
    for one in plan.remedies:
        lines += ["", f"[remedies.{one.name}]"]
        lines += [f"{name} = {_toml(value)}" for name, value in one.parameters.items()]
    return "\n".join(lines) + "\n"


def known(name: str) -> Automatic:
    """Return the automatic remedy of this name; raise SpeedprofError with what there is."""
    if name in AUTOMATIC:
        return AUTOMATIC[name]
    if name in _catalogue():
        raise SpeedprofError(
            f"{name} cannot be applied by speedprof; `speedprof explain {name}` tells how to do it"
        )
    near = difflib.get_close_matches(name, AUTOMATIC, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(AUTOMATIC)}"
    raise SpeedprofError(f"no remedy that can be applied is called {name!r}; {hint}")


def _catalogue() -> set[str]:
    """Return every remedy's name; none where the training's environment cannot read cards."""
    try:
        from speedprof.mitigations.catalogue import CATALOGUE
    except ModuleNotFoundError:
        return set()
    return {one.name for one in CATALOGUE}


def _loads(text: str) -> dict[str, Any]:
    try:
        reader: Any = importlib.import_module(READER)
    except ModuleNotFoundError:
        reader = plan_lines
    told: dict[str, Any] = reader.loads(text)
    return told


def _word(word: str, where: str) -> Remedy:
    name, equals, value = (part.strip() for part in word.partition("="))
    automatic = known(name)
    if not equals:
        return Remedy(name=name, parameters={})
    if automatic.main is None:
        raise SpeedprofError(f"{name} takes no value; write {name} alone")
    return _remedy(name, {automatic.main: _value(automatic, value)}, where)


def _value(automatic: Automatic, text: str) -> Value:
    kind = automatic.parameters[automatic.main or ""].kind
    if kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError:
        return text  # refused with the others, by what it should have been


def _remedy(name: str, table: Mapping[str, Any], where: str) -> Remedy:
    automatic = known(name)
    for parameter, value in table.items():
        allowed: Parameter | None = automatic.parameters.get(parameter)
        if allowed is None:
            names = ", ".join(automatic.parameters) or "no parameters"
            raise SpeedprofError(f"{where}: {name} has no parameter {parameter!r}, but {names}")
        fault = allowed.fault(value)
        if fault is not None:
            raise SpeedprofError(f"{where}: {parameter} of {name} {fault}")
    return Remedy(name=name, parameters=dict(table))


def _checked(plan: PlanFile, where: str) -> PlanFile:
    """Return the plan; raise SpeedprofError where it is empty or two do not go together."""
    named = {one.name: one for one in plan.remedies}
    if not named:
        raise SpeedprofError(f"{where} names no remedy; there are {', '.join(AUTOMATIC)}")
    if len(named) < len(plan.remedies):
        raise SpeedprofError(f"{where} names a remedy twice")
    for name in named:
        other = rival(name, named)
        if other is not None:
            raise SpeedprofError(f"{where}: {name} and {other} do not go together; choose one")
    return plan


def _check_format(told: object, path: Path) -> None:
    if not isinstance(told, int) or isinstance(told, bool):
        raise SpeedprofError(f"{path} is no plan: its first line should be `format = {FORMAT}`")
    if told > FORMAT:
        raise SpeedprofError(
            f"{path} was made by a newer speedprof (format {told}); install that one, or make the "
            "plan again"
        )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _toml(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'
