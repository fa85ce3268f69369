"""Sums of losses that stay on the device: what is written, what is refused, the same digits."""

from __future__ import annotations

import io
import textwrap
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from speedprof.mitigations.rewrite.order import Known
from speedprof.mitigations.rewrite.rewriting import rewrite
from speedprof.tests.rewrites import order, outcome, refused, written

NAME = "deferred-reading"
EXAMPLE = Path(__file__).parent.parent / "examples" / "imagefolder.py"
SCRIPT = """\
import torch
from torch import nn


def main(loader, model, optimizer):
    for epoch in range(3):
        total, correct, seen = 0.0, 0, 0  # of the epoch
        for step, (x, y) in enumerate(loader):
            scores = model(x)
            loss = nn.functional.cross_entropy(scores, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)  # weighted
            correct += (scores.argmax(1) == y).sum().item()
            seen += len(y)
            if step % 5 == 4:
                print(f"{step}: {total / seen!r}")
        print(f"epoch {epoch}: {total / seen!r}, {correct} of {seen}")
    return total
"""


def test_a_sum_of_losses_is_read_where_it_is_printed() -> None:
    changed = written(SCRIPT, NAME)
    expected = (
        SCRIPT.replace("loss.item() * len(y)", "loss.detach().double() * len(y)")
        .replace(".sum().item()", ".sum()")
        .replace("total / seen!r", "float(total) / seen!r")
        .replace("{correct} of", "{int(correct)} of")
        .replace("return total", "return float(total)")
    )
    assert changed == expected


def test_what_was_done_is_said() -> None:
    _, made = outcome(SCRIPT, NAME)
    assert made.why == "total is summed on the device; correct is summed on the device"
    _, made = outcome(SCRIPT, NAME, Known(device="mps"))
    assert "total is summed on the device, in float32: the last digits may differ" in made.why


def test_without_double_precision_it_is_summed_in_single() -> None:
    assert "total += loss.detach() * len(y)  # weighted" in written(
        SCRIPT, NAME, Known(device="mps")
    )


def test_the_rewritten_script_prints_the_same_digits() -> None:
    torch = pytest.importorskip("torch")
    texts = []
    for source in (SCRIPT, written(SCRIPT, NAME)):
        torch.manual_seed(0)
        data = [(torch.randn(7, 4), torch.randint(0, 3, (7,))) for _ in range(23)]
        model = torch.nn.Linear(4, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        names: dict[str, object] = {}
        exec(compile(source, "script", "exec"), names)
        with redirect_stdout(io.StringIO()) as said:
            assert isinstance(names["main"](data, model, optimizer), float)  # type: ignore[operator]
        texts.append(said.getvalue())
    assert texts[0].count("epoch") == 3
    assert texts[1] == texts[0]


def test_the_demo_sums_on_the_device() -> None:
    source = EXAMPLE.read_text(encoding="utf-8")
    changed = written(source, NAME, Known(device="cuda"))
    assert "total += loss.detach().double() * len(labels)\n" in changed
    assert "correct += (scores.argmax(1) == labels).sum()\n" in changed
    assert "{float(total) / seen:.3f}" in changed
    assert "{int(correct) / seen:.0%}" in changed


def test_losses_that_float_reads_are_kept_as_well() -> None:
    source = SCRIPT.replace("loss.item()", "float(loss)")
    assert "total += loss.detach().double() * len(y)" in written(source, NAME)


def test_several_losses_in_one_line_are_all_kept() -> None:
    source = SCRIPT.replace("loss.item() * len(y)", "(loss.item() + aux_loss.item()) / 2")
    assert "total += (loss.detach().double() + aux_loss.detach().double()) / 2" in written(
        source, NAME
    )


def test_updates_of_several_passes_keep_the_sum_outside_of_them() -> None:
    source = """\
        for x in loader:
            for part in x:
                loss = model(part).mean()
                loss.backward()
            optimizer.step()
            total += loss.item()
        print(total)
    """
    changed = written(source, NAME)
    assert "total += loss.detach().double()" in changed
    assert "print(float(total))" in changed


def test_what_a_validation_reads_is_left_alone() -> None:
    source = (
        SCRIPT
        + "\n\ndef validate(loader, model):\n    wrong = 0.0\n"
        + (
            "    for x, y in loader:\n        wrong += loss_of(model(x), y).item()\n"
            "    return wrong\n"
        )
    )
    assert written(source, NAME).endswith("        wrong += loss_of(model(x), y).item()\n"
                                          "    return wrong\n")  # fmt: skip


def test_a_name_of_another_function_is_another_sum() -> None:
    source = SCRIPT + "\n\ndef other(total):\n    return total + 1\n"
    assert written(source, NAME).endswith("def other(total):\n    return total + 1\n")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("seen += len(y)", "bar.set_postfix(loss=total / step)", "total is read at every step"),
        ("seen += len(y)", "if total > 9: break", "total is read at every step"),
        ("return total", "return lambda: total", "total is read in a function in line"),
        ("    return total", "    def told():\n        return total", "total is read in"),
        ("    for epoch", "    global total\n    for epoch", "shares total between functions"),
        ("return total", "print(f'{total=}')", "prints the name total with its value"),
        ("main(loader", "main(total, loader", "gives total a value that is not seen"),
        ("import torch\n", "import torch\nfloat = torch.float\n", "the name float or int"),
        ("total += loss.item() * len(y)", "losses.append(loss.item())",
         "uses loss.item() otherwise than in a sum"),
        ("total += loss.item() * len(y)", "total += math.exp(loss.item())",
         "math.exp(loss.item()) in line 14 needs its value at once"),
        ("total += loss.item() * len(y)", "self.total += loss.item()",
         "sums in self.total, which is no plain name"),
        ("total += loss.item() * len(y)", "total += scores.max().item()",
         "whether scores.max().item() in line 14 is a whole number is not seen"),
        ("total += loss.item() * len(y)", "total += (x == y).sum().item() / 3",
         "sums whole numbers and others"),
    ],
)  # fmt: skip
def test_a_sum_that_is_needed_otherwise_is_refused_by_name(old: str, new: str, why: str) -> None:
    source = SCRIPT.replace("correct += (scores.argmax(1) == y).sum().item()", "pass")
    source = source.replace(old, new)
    assert why in refused(source, NAME)


def test_one_sum_is_written_while_another_is_refused() -> None:
    source = SCRIPT.replace("seen += len(y)", "print(correct)")
    changed, made = outcome(source, NAME)
    assert "total += loss.detach().double()" in changed
    assert "correct += (scores.argmax(1) == y).sum().item()" in changed
    assert "still read at every step: correct is read at every step in line 16" in made.why


def test_a_whole_number_is_not_divided_in_place() -> None:
    source = SCRIPT.replace('        print(f"epoch', '        correct /= 3\n        print(f"epoch')
    _, made = outcome(source, NAME)
    assert "changes correct otherwise than by adding" in made.why


def test_on_a_cpu_nothing_waits() -> None:
    assert "on the CPU" in refused(SCRIPT, NAME, Known(device="cpu"))


def test_a_file_without_reads_or_without_a_loop_has_nothing_to_change() -> None:
    source = SCRIPT.replace(".item()", "")
    _, made = outcome(source, NAME)
    assert made.absent
    assert made.why == "no .item() is called at every step of the training loop"
    assert "no loss.backward() is in this file" in refused("import torch\n", NAME)


def test_tabs_windows_line_ends_and_parentheses_stay() -> None:
    source = SCRIPT.replace("total += loss.item() * len(y)", "total += ( loss.item( ) )*len(y)")
    source = source.replace("    ", "\t").replace("\n", "\r\n")
    changed, (made,) = rewrite(source, [order(NAME)])
    assert made.state == "written"
    assert "total += ( loss.detach().double() )*len(y)  # weighted\r\n" in changed
    assert changed.count("\n") == changed.count("\r\n")


@pytest.mark.gpu
def test_on_a_gpu_the_digits_are_the_same_as_well() -> None:
    torch = pytest.importorskip("torch")
    source = """\
        for number, x in enumerate(batches):
            loss = (x * w).square().mean()
            loss.backward()
            w.grad = None
            total += loss.item() * len(x)
        print(repr(total))
    """
    texts = []
    for text in (textwrap.dedent(source), written(source, NAME, Known(device="cuda"))):
        torch.manual_seed(0)
        w = torch.randn(50, device="cuda", requires_grad=True)
        batches = [torch.randn(7, 50, device="cuda") for _ in range(40)]
        with redirect_stdout(io.StringIO()) as said:
            exec(text, {"w": w, "batches": batches, "total": 0.0})
        texts.append(said.getvalue())
    assert texts[1] == texts[0]
