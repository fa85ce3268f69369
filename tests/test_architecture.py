"""The shape of the code: who imports whom, what importing does, and the limits of a file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("profiler", "advisor", "mitigations", "reports", "commands")  # each imports those before
MOST_LINES = 400
HEAVY = ("torch", "torchvision", "matplotlib", "numpy", "jinja2", "rich", "psutil", "pynvml")


def _sources() -> list[Path]:
    return sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(nodes: Iterator[ast.AST] | list[ast.stmt]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_go_from_commands_down_to_the_profiler(layer: str) -> None:
    above = LAYERS[LAYERS.index(layer) + 1 :]
    forbidden = tuple(f"speedprof.{name}" for name in above)
    upwards = [
        f"{_name(path)} imports {name}"
        for path in (ROOT / layer).rglob("*.py")
        for name in _imports(ast.walk(_tree(path)))
        if name.startswith(forbidden)
    ]
    assert upwards == []


def test_torch_is_imported_by_functions_only() -> None:
    at_import = [
        _name(path)
        for path in [*ROOT.glob("*.py"), *_sources()]
        for name in _imports(_tree(path).body)
        if name.split(".")[0] in ("torch", "torchvision")
    ]
    assert at_import == []


@pytest.mark.parametrize("layer", ["advisor", "mitigations", "reports"])
def test_a_run_is_judged_and_shown_without_torch(layer: str) -> None:
    importing = [
        f"{_name(path)} imports {name}"
        for path in (ROOT / layer).rglob("*.py")
        if path.parent.name not in ("applied", "dali")  # what is put into the training process
        for name in _imports(ast.walk(_tree(path)))
        if name.split(".")[0] in ("torch", "torchvision")
    ]
    assert importing == []


def test_only_the_fence_catches_everything() -> None:
    broad = [
        f"{_name(path)}:{node.lineno}"
        for path in _sources()
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ExceptHandler) and _is_broad(node)
    ]
    assert [place.split(":")[0] for place in broad] == ["profiler/fence.py"]


def _is_broad(handler: ast.ExceptHandler) -> bool:
    """Tell a handler that swallows any exception; one that raises it again is no such thing."""
    if any(isinstance(node, ast.Raise) and node.exc is None for node in handler.body):
        return False
    names = (
        {"BaseException"}
        if handler.type is None
        else {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
    )
    return bool(names & {"Exception", "BaseException"})


def test_only_commands_print() -> None:
    printing = [
        f"{_name(path)}:{node.lineno}"
        for path in _sources()
        if path.relative_to(ROOT).parts[0] != "commands"
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "click.echo")
    ]
    assert printing == []


def test_files_stay_short() -> None:
    lengths = {
        _name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in _sources()
    }
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_every_file_says_what_it_is_for() -> None:
    silent = [_name(path) for path in _sources() if len(ast.get_docstring(_tree(path)) or "") < 10]
    assert silent == []


def test_the_command_starts_without_anything_heavy() -> None:
    loaded = _modules_after("import speedprof.commands")
    assert loaded & set(HEAVY) == set()


def test_importing_every_module_does_nothing_to_the_process() -> None:
    modules = [
        "speedprof." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in _sources()
        if path.name != "__init__.py" and "inject" not in path.parts
    ]
    code = (
        "import importlib, os, signal, sys, threading\n"
        "before = dict(os.environ), list(sys.meta_path), signal.getsignal(signal.SIGINT)\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "after = dict(os.environ), list(sys.meta_path), signal.getsignal(signal.SIGINT)\n"
        "assert before == after and threading.active_count() == 1\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return {name.split(".")[0] for name in done.stdout.split()}
