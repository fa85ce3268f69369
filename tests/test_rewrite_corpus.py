"""Every script of this repository survives every remedy, and keeps what is not a remedy's."""

from __future__ import annotations

import ast
import difflib
import functools
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speedprof.mitigations.rewrite.order import Known
from speedprof.mitigations.rewrite.rewriting import REWRITINGS, rewrite
from speedprof.tests.launching import bare
from speedprof.tests.rewrites import order

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(
    path
    for folder in ("examples", "tests/scripts", "tests/scripts/loops", "tests/unaware")
    for path in (ROOT / folder).glob("*.py")
)
TOGETHER = [name for name in REWRITINGS if name != "in-process-loading"]
ON_A_GPU = Known(device="cuda", batch_dims=(4, 1), has_conv2d=True, pinned=False)


@functools.cache
def everything(source: str) -> str:
    changed, outcomes = rewrite(source, [order(name, ON_A_GPU) for name in TOGETHER])
    assert [one.name for one in outcomes] == TOGETHER
    assert not any("report this as a bug" in one.why for one in outcomes)
    return changed


@pytest.fixture(scope="module", params=SCRIPTS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)  # all tests of a script in a row: it is rewritten once


def removed(before: str, after: str) -> list[str]:
    """Return the lines that are gone or are written otherwise."""
    differ = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line[2:].strip() for line in differ if line.startswith("- ")]


def test_all_remedies_together_leave_python_and_need_no_second_time(
    path: Path,
) -> None:
    source = path.read_text(encoding="utf-8")
    changed = everything(source)
    compile(changed, path.name, "exec")
    assert everything(changed) == changed


def test_only_lines_of_a_remedy_change(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    changed = everything(source)
    comments = [line.partition("#")[2] for line in source.splitlines() if "#" in line]
    assert all(comment in changed for comment in comments)
    ours = ("Loader", "optim", ".to(", ".cuda(", "zero_grad", "DDP", "DataParallel")
    step = ("loss", "scores", "model", "out", "images", "labels", "batch")  # under autocast
    assert [line for line in removed(source, changed) if not any(w in line for w in ours + step)] \
        == []  # fmt: skip
    assert _functions(source) == _functions(changed)


def _functions(source: str) -> list[str]:
    return [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    ]


def test_the_demo_gains_its_workers_and_nothing_else() -> None:
    path = ROOT / "examples" / "imagefolder.py"
    source = path.read_text(encoding="utf-8")
    line = next(n for n, text in enumerate(source.splitlines(), 1) if "return DataLoader(" in text)
    known = Known(loader_line=line, device="cpu", start_method=None)
    changed, (made,) = rewrite(source, [order("loader-workers", known, num_workers=2)])
    assert made.why == "num_workers=2 instead of options.workers"
    assert changed == source.replace(
        "        num_workers=options.workers,\n        pin_memory=options.pin_memory,\n",
        "        num_workers=2,\n        pin_memory=options.pin_memory,\n"
        "        persistent_workers=True,\n",
    )


ARGUMENT = st.sampled_from(
    ["d", "dataset=d", "batch_size=8", "shuffle = True", "num_workers=1", "pin_memory=False",
     "collate_fn=lambda b: (b, 1)", "sampler=s(\n  1)"]
)  # fmt: skip
GAP = st.sampled_from(["", " ", "\n    ", "  # why\n    ", "\n\n    # a line\n    "])


@st.composite
def calls(draw: st.DrawFn) -> str:
    """Draw a call of DataLoader in any layout that Python reads."""
    drawn = draw(st.lists(ARGUMENT, max_size=5, unique_by=lambda text: text.split("=")[0].strip()))
    arguments = sorted(drawn, key=lambda text: "=" in text and not text.startswith("sampler"))
    text = "DataLoader(" + draw(GAP)
    for place, argument in enumerate(arguments):
        last = place == len(arguments) - 1
        comma = "," if not last or draw(st.booleans()) else ""
        text += argument + draw(GAP) + comma + draw(GAP)
    return text + ")"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(call=calls(), name=st.sampled_from(["loader-workers", "pin-memory", "in-process-loading"]))
def test_a_call_in_any_layout_keeps_its_comments_and_arguments(call: str, name: str) -> None:
    source = f"from torch.utils.data import DataLoader\nloader = {call}  # end\n"
    try:
        before = ast.parse(source)
    except SyntaxError:
        return  # a keyword before what is given by position
    changed, (made,) = rewrite(source, [order(name)])
    own, new = _keywords(before), _keywords(ast.parse(changed))
    assert changed.count("#") == source.count("#")
    assert changed.endswith("  # end\n")
    assert {**own, **_asked(made.state, name, own)} == new
    assert rewrite(changed, [order(name)])[0] == changed


def _asked(state: str, name: str, own: dict[str, str]) -> dict[str, str]:
    if state != "written":
        return {}
    if name == "in-process-loading":
        return {"num_workers": "0"}
    if name == "pin-memory":
        return {"pin_memory": "True"}
    return {"num_workers": own.get("num_workers", "2"), "persistent_workers": "True"}


def _keywords(tree: ast.Module) -> dict[str, str]:
    call = next(node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {one.arg or "": ast.unparse(one.value) for one in call.keywords}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "whole", "short"),
    [("convolution", "range(80)", "range(24)"), ("checkpoint", "32 * 100", "32 * 24")],
)
def test_a_rewritten_script_trains_as_before(
    name: str, whole: str, short: str, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    source = (ROOT / "tests" / "scripts" / f"{name}.py").read_text(encoding="utf-8")
    assert whole in source
    source = source.replace(whole, short)
    remedies = [one for one in REWRITINGS if one not in ("compile-model", "in-process-loading")]
    orders = [order(one, Known(device="cpu", has_conv2d="Conv2d" in source)) for one in remedies]
    changed, outcomes = rewrite(source, orders)
    assert sum(one.state == "written" for one in outcomes) >= 5
    losses = []
    for number, text in enumerate((source, changed)):
        script = tmp_path / f"{number}.py"
        script.write_text(text, encoding="utf-8")
        done = bare(sys.executable, str(script), cwd=tmp_path)
        assert done.returncode == 0, done.stderr.decode()
        losses.append(float(done.stdout.decode().split()[1]))
    assert losses[1] == pytest.approx(losses[0], abs=0.03)  # bfloat16 has eight bits of mantissa
