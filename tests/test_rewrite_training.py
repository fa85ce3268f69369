"""Models, loops and flags rewritten: where each line goes, and what is not understood."""

from __future__ import annotations

import pytest

from speedprof.mitigations.rewrite.order import Known
from speedprof.mitigations.rewrite.rewriting import rewrite
from speedprof.tests.rewrites import added, order, refused, unchanged, written

SCRIPT = """\
import argparse
import time

import torch
from torch import nn
from torch.utils.data import DataLoader


def main(options):
    loader = DataLoader(dataset, batch_size=8)

    # what is trained
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten())
    model.to(options.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    # the training
    for epoch in range(3):
        for images, labels in loader:
            # forward
            scores = model(images)
            loss = nn.functional.cross_entropy(
                scores, labels
            )  # mean
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


main(argparse.Namespace(device="cuda"))
"""


def changed_part(name: str, known: Known | None = None, source: str = SCRIPT) -> str:
    """Return the new lines of a script, the old ones being all there."""
    return "\n".join(added(source, written(source, name, known)))


def test_the_model_is_compiled_where_it_is_complete() -> None:
    changed = written(SCRIPT, "compile-model")
    assert changed == SCRIPT.replace(
        "    model.to(options.device)\n", "    model.to(options.device)\n    model.compile()\n"
    )
    assert 'model.compile(mode="reduce-overhead")' in written(
        SCRIPT, "compile-model", mode="reduce-overhead"
    )


def test_layout_of_model_and_images_change_together() -> None:
    changed = written(SCRIPT, "channels-last", Known(batch_dims=(4, 1)))
    wanted = SCRIPT.replace(
        "    model.to(options.device)\n",
        "    model.to(options.device)\n    model = model.to(memory_format=torch.channels_last)\n",
    ).replace("model(images)", "model(images.contiguous(memory_format=torch.channels_last))")
    assert changed == wanted


def test_only_images_are_converted() -> None:
    for dims in (None, (2, 1), (4, 4)):
        assert "model(images)" in written(SCRIPT, "channels-last", Known(batch_dims=dims))
    for other in ("images = images.flatten(1)", "images = crop(images)", "images, y = f(images)"):
        source = SCRIPT.replace("# forward", other)
        assert "model(images)" in written(source, "channels-last", Known(batch_dims=(4, 1)))
    moved = SCRIPT.replace("# forward", "images = images.to(options.device)")
    assert "model(images.cont" in written(moved, "channels-last", Known(batch_dims=(4, 1)))
    assert "no Conv2d" in refused(SCRIPT, "channels-last", Known(has_conv2d=False))
    assert "no Conv2d" in refused(SCRIPT.replace("Conv2d", "Linear"), "channels-last")


def test_forward_and_loss_run_under_autocast() -> None:
    changed = written(SCRIPT, "bf16-autocast", Known(device="cuda"))
    old = SCRIPT.partition("            # forward\n")[2].partition("            optimizer")[0]
    inner = "".join(f"    {line}\n" for line in old.splitlines())
    block = (
        '            # forward\n            with torch.autocast("cuda", dtype=torch.bfloat16):\n'
    )
    assert changed == SCRIPT.replace(f"            # forward\n{old}", block + inner)


def test_autocast_asks_the_images_where_the_device_is_not_known() -> None:
    assert "torch.autocast(images.device.type, dtype=" in written(SCRIPT, "bf16-autocast")


def test_garbage_is_frozen_before_the_outermost_loop() -> None:
    changed = written(SCRIPT, "collect-garbage-less")
    assert "import argparse\nimport gc\nimport time\n" in changed
    lines = changed.partition("lr=0.1)\n\n")[2].splitlines()
    assert [line.split("(")[0].strip() for line in lines[:3]] == [
        "gc.collect",
        "gc.freeze",
        "gc.set_threshold",
    ]
    assert lines[3:5] == ["    # the training", "    for epoch in range(3):"]


def test_flags_stand_below_the_imports() -> None:
    orders = [order("tf32"), order("cudnn-benchmark"), order("fewer-threads", threads=3)]
    changed, outcomes = rewrite(SCRIPT, orders)
    assert {one.state for one in outcomes} == {"written"}
    assert changed == SCRIPT.replace(
        "import DataLoader\n",
        'import DataLoader\n\ntorch.set_float32_matmul_precision("high")\n'
        "torch.backends.cudnn.benchmark = True\ntorch.set_num_threads(3)\n",
    )
    assert rewrite(changed, orders)[0] == changed


@pytest.mark.parametrize(
    ("imports", "line"),
    [
        ("import torch as t", 't.set_float32_matmul_precision("high")'),
        ("import torch.nn", 'torch.set_float32_matmul_precision("high")'),
        ("from torch import nn", 'import torch\n\ntorch.set_float32_matmul_precision("high")'),
    ],
)
def test_torch_is_called_as_the_script_calls_it(imports: str, line: str) -> None:
    source = f'"""A script."""\nfrom __future__ import annotations\n{imports}\nx = 1\n'
    changed = written(source, "tf32")
    assert "\n".join(added(source, changed)) == line.replace("\n\n", "\n")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("x = 1\n", "the file imports nothing at its top"),
        ("import os\ndef f():\n    import torch\n", "torch is imported in line 3, not at the top"),
        ("import os\ntorch = 1\n", "uses the name torch for something else"),
        ('import torch\ntorch.set_float32_matmul_precision("highest")\n', "line 2 has"),
        ('import torch\nif x:\n    torch.set_float32_matmul_precision("high")\n', "not clear"),
        ("import torch\ntorch.backends.cuda.matmul.allow_tf32 = False\n", "line 2 sets"),
    ],
)
def test_flags_of_the_scripts_own_win(source: str, why: str) -> None:
    assert why in refused(source, "tf32")


def test_a_flag_that_the_plan_names_is_replaced() -> None:
    source = "import torch\ntorch.set_num_threads(8)\n"
    assert written(source, "fewer-threads", threads=2) == source.replace("8", "2")
    assert "line 2 has torch.set_num_threads(8)" in refused(source, "fewer-threads")
    unchanged(source, "fewer-threads", threads=8)


def test_trials_and_determinism_do_not_go_together() -> None:
    strict = "import torch\ntorch.backends.cudnn.deterministic = True\n"
    assert "deterministic" in refused(strict, "cudnn-benchmark")
    assert "CPU" in refused("import torch\n", "cudnn-benchmark", Known(device="cpu"))
    own = "import torch\nfrom torch.backends import cudnn\ncudnn.benchmark = "
    unchanged(f"{own}True\n", "cudnn-benchmark")
    assert "sets it itself" in refused(f"{own}False\n", "cudnn-benchmark")


IN_PARTS = """\
import torch
from torch.nn.parallel import DistributedDataParallel as DDP


def train_epoch(net, loader, optimizer):
    for x in loader:
        out = net(x)
        optimizer.zero_grad()
        out.mean().backward()
        optimizer.step()


def build(device):
    net = torch.nn.Conv2d(3, 3, 3).to(device)
    if torch.distributed.is_initialized():
        net = DDP(net)
    return net


def main(device, loader):
    whole = build(device)
    optimizer = torch.optim.Adam(whole.parameters())
    for epoch in range(3):
        train_epoch(whole, loader, optimizer)
"""


def test_a_model_is_followed_through_functions() -> None:
    compiled = written(IN_PARTS, "compile-model")
    assert "    whole = build(device)\n    whole.compile()\n" in compiled
    cast = written(IN_PARTS, "bf16-autocast", Known(device="cpu"))
    inside = (
        '        with torch.autocast("cpu", dtype=torch.bfloat16):\n            out = net(x)\n'
    )
    assert inside in cast
    frozen = written(IN_PARTS, "collect-garbage-less")
    assert "import gc\n\nimport torch\n" in frozen
    assert frozen.index("gc.freeze()") > frozen.index("def main")


def test_a_layout_is_not_changed_behind_the_wrapper() -> None:
    why = refused(IN_PARTS, "channels-last")
    assert why == "line 16 wraps whole before it has a name to change it by"


def test_a_model_is_changed_before_it_is_wrapped() -> None:
    source = SCRIPT.replace("import torch\n", "import torch\nfrom torch.nn.parallel import "
                            "DistributedDataParallel\n")  # fmt: skip
    source = source.replace(
        "    optimizer = ", "    model = DistributedDataParallel(model)\n    optimizer = "
    )
    for name in ("channels-last", "compile-model"):
        changed = written(source, name)
        assert changed.index(added(source, changed)[0]) < changed.index(
            "DistributedDataParallel(m"
        )


IN_A_CLASS = """\
import torch as t


class Trainer:
    def __init__(self, model):
        self.model = model.cuda()
        self.optimizer = t.optim.AdamW(self.model.parameters())

    def fit(self, loader):
        for x in loader:
            loss = self.model(x).mean()
            loss.backward()
            self.optimizer.step()
"""


def test_a_model_that_a_class_keeps_is_found() -> None:
    line = "        self.model = model.cuda()\n"
    assert written(IN_A_CLASS, "compile-model") == IN_A_CLASS.replace(
        line, f"{line}        self.model.compile()\n"
    )
    assert "with t.autocast(x.device.type, dtype=t.bfloat16):" in written(
        IN_A_CLASS, "bf16-autocast"
    )


@pytest.mark.parametrize(
    ("old", "new", "name", "why"),
    [
        ("model.to(o", "model = torch.compile(model) if f else model; model.to(o", "compile-model",
         "line 14 compiles it already, under a condition"),
        ("for epoch", "if f:\n        model.compile()\n    for epoch", "compile-model",
         "compiles it already, under a condition"),
        ("model.parameters(), ", "[*model.parameters(), *head.parameters()], ", "compile-model",
         "several models could be meant (head, model)"),
        ("(model.parameters(), lr=0.1)", "([w])", "compile-model", "the model was not found"),
        ("model.to(options.device)", "model = nn.DataParallel(model)", "compile-model",
         "wrapped by DataParallel in line 14"),
        ("loss.backward()", "pass", "bf16-autocast", "no loss.backward() is in this file"),
        ("loss.backward()", "loss.backward(); critic(x).backward()", "bf16-autocast", None),
        ("scores = model(images)", "scores = model(images) + model(labels)", "bf16-autocast",
         "called several times"),
        ("scores = model(images)", "scores = forward(images)", "bf16-autocast",
         "model is not called in the loop"),
        ("            loss = nn", "            if f:\n                pass\n            loss = nn",
         "bf16-autocast", "line 22 stands between the forward pass and the loss"),
        ("nn.functional.cross_entropy(", "nn.functional.binary_cross_entropy(", "bf16-autocast",
         "take binary_cross_entropy_with_logits"),
        ("scores = model(images)", "scaler = torch.amp.GradScaler(); scores = model(images)",
         "bf16-autocast", "trains in float16 already"),
        ("# what is trained", "gc = torch.autocast('cuda', enabled=options.amp)", "bf16-autocast",
         "has an autocast of its own"),
        ("optimizer.step()", "optimizer.step(); keep(scores.cpu().numpy())", "bf16-autocast",
         "line 27 hands a tensor to NumPy, which has no bfloat16"),
        ("optimizer.step()", "optimizer.step(); keep(scores.float().numpy())", "bf16-autocast",
         None),
        ("def main", "class Net(nn.Module):\n    def compile(self):\n        pass\n\n\ndef main",
         "compile-model", "line 10 defines a compile() of the model's own"),
        ("def main", "def compile(x):\n    pass\n\n\ndef main", "compile-model", None),
        ("import time", "import gc; gc.disable()", "collect-garbage-less",
         "line 2 decides on it itself: gc.disable()"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(old: str, new: str, name: str, why: str | None) -> None:
    source = SCRIPT.replace(old, new)
    assert source != SCRIPT
    if why is None:
        written(source, name)
        return
    assert why in refused(source, name)


def test_several_trainings_are_not_told_apart() -> None:
    source = SCRIPT + "\n\ndef again():\n    for x in y:\n        g(x).backward()\n"
    why = refused(source, "bf16-autocast")
    assert why == "there are several backward passes (lines 26, 35)"


def test_what_the_source_does_already_stays() -> None:
    compiled = SCRIPT.replace("model.to(options", "model = torch.compile(model).to(options")
    unchanged(compiled, "compile-model")
    cast = SCRIPT.replace(
        "scores = model(images)",
        "with torch.autocast('cuda'):\n                scores = model(images)",
    )
    unchanged(cast, "bf16-autocast")


def test_blank_lines_and_comments_stay_with_what_they_belong_to() -> None:
    tabs = SCRIPT.replace("    ", "\t").replace("\n", "\r\n")
    orders = [order(name, Known(batch_dims=(4, 1))) for name in (
        "loader-workers", "channels-last", "compile-model", "bf16-autocast",
        "collect-garbage-less", "tf32",
    )]  # fmt: skip
    changed, outcomes = rewrite(tabs, orders)
    assert {one.state for one in outcomes} == {"written"}, outcomes
    assert changed.count("\n") == changed.count("\r\n")
    assert "    " not in changed
    compile(changed, "tabs", "exec")


def test_a_source_for_a_newer_python_is_written_all_the_same() -> None:
    newer = "import torch\n\n\ndef first[T](items: list[T]) -> T:\n    return items[0]\n"
    changed, (made,) = rewrite(newer, [order("tf32")])
    assert made.state == "written"
    assert changed.replace('\ntorch.set_float32_matmul_precision("high")\n', "") == newer
