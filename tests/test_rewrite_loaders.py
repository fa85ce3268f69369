"""DataLoaders, copies and optimizers rewritten: whatever the import and the layout."""

from __future__ import annotations

import pytest

from speedprof.mitigations.rewrite.order import Known, Value
from speedprof.mitigations.rewrite.rewriting import rewrite
from speedprof.tests.rewrites import order, outcome, refused, unchanged, written

IMPORT = "from torch.utils.data import DataLoader\n"


def loader(call: str, name: str = "loader-workers", **given: Value) -> str:
    """Return what becomes of one call."""
    changed = written(f"{IMPORT}loader = {call}\n", name, **given)
    return changed.removeprefix(f"{IMPORT}loader = ").rstrip("\n")


@pytest.mark.parametrize(
    ("imports", "called"),
    [
        ("from torch.utils.data import DataLoader", "DataLoader"),
        ("from torch.utils.data import DataLoader as DL", "DL"),
        ("from torch.utils.data.dataloader import DataLoader", "DataLoader"),
        ("import torch", "torch.utils.data.DataLoader"),
        ("import torch as t", "t.utils.data.DataLoader"),
        ("import torch.utils.data", "torch.utils.data.DataLoader"),
        ("import torch.utils.data as data", "data.DataLoader"),
        ("from torch.utils import data", "data.DataLoader"),
        ("from torch import utils", "utils.data.DataLoader"),
        ("from torch.utils.data import DataLoader", "DataLoader[int]"),
    ],
)
def test_a_loader_is_known_by_whatever_import(imports: str, called: str) -> None:
    source = f"{imports}\n\nloader = {called}(dataset, batch_size=8)\n"
    wanted = source.replace("=8)", "=8, pin_memory=True)")
    assert written(source, "pin-memory") == wanted


def test_other_loaders_are_left_alone() -> None:
    source = "from mine import DataLoader\nimport torch\nloader = DataLoader(dataset)\n"
    assert refused(source, "loader-workers") == "no DataLoader is built in this file"


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        ("DataLoader(d)", "DataLoader(d, pin_memory=True)"),
        ("DataLoader(d, 8)", "DataLoader(d, 8, pin_memory=True)"),
        ("DataLoader(d, 8,)", "DataLoader(d, 8, pin_memory=True,)"),
        ("DataLoader( d , 8 )", "DataLoader( d , 8, pin_memory=True )"),
        ("DataLoader(dataset=d)", "DataLoader(dataset=d, pin_memory=True)"),
        (
            "DataLoader(\n    d,\n    batch_size=8,\n)",
            "DataLoader(\n    d,\n    batch_size=8,\n    pin_memory=True,\n)",
        ),
        (
            "DataLoader(\n    d,\n    batch_size=8  # few\n)",
            "DataLoader(\n    d,\n    batch_size=8,  # few\n    pin_memory=True\n)",
        ),
        (
            "DataLoader(\n    d,  # a\n    batch_size=8,  # b\n    # c\n)",
            "DataLoader(\n    d,  # a\n    batch_size=8,  # b\n    pin_memory=True,\n    # c\n)",
        ),
        (
            "DataLoader(\n    d, batch_size=8, shuffle=True\n)",
            "DataLoader(\n    d, batch_size=8, shuffle=True, pin_memory=True\n)",
        ),
        (
            "DataLoader(d,\n           batch_size=8)",
            "DataLoader(d,\n           batch_size=8,\n           pin_memory=True)",
        ),
        ("DataLoader(\n    d,\n)", "DataLoader(\n    d,\n    pin_memory=True,\n)"),
        ("DataLoader(\n    d  # mine\n)", "DataLoader(\n    d,  # mine\n    pin_memory=True\n)"),
    ],
)  # fmt: skip
def test_an_argument_is_added_as_the_others_stand(call: str, wanted: str) -> None:
    assert loader(call, "pin-memory") == wanted


def test_a_line_that_would_be_too_long_gets_an_argument_a_line() -> None:
    call = "DataLoader(dataset, batch_size=options.batch_size, shuffle=True, drop_last=True)"
    assert loader(call) == (
        "DataLoader(\n    dataset,\n    batch_size=options.batch_size,\n    shuffle=True,\n"
        "    drop_last=True,\n    num_workers=2,\n    persistent_workers=True,\n)"
    )


def test_new_arguments_get_a_line_of_their_own_where_the_last_one_is_full() -> None:
    call = (
        "DataLoader(\n    dataset, batch_size=options.batch_size, shuffle=True,\n"
        "    drop_last=True, sampler=options.sampler, collate_fn=options.collate_fn)"
    )
    assert loader(call) == (call[:-1] + ",\n    num_workers=2, persistent_workers=True)")


def test_a_comment_before_the_bracket_stays_though_the_line_becomes_long() -> None:
    call = "DataLoader(d, collate_fn=lambda b: (b, 1), batch_size=128, drop_last=True{end})"
    for end in ("\n\n    # a line\n    ", "  # behind\n", ",\n    # a line\n"):
        changed = written(f"{IMPORT}l = {call.format(end=end)}\n", "loader-workers")
        assert end.strip().strip(",").strip() in changed
        assert "num_workers=2" in changed


def test_the_scripts_own_value_is_kept_unless_the_remedy_names_it() -> None:
    source = f"{IMPORT}loader = DataLoader(d, num_workers=1)\n"
    assert "num_workers=1, persistent_workers=True)" in written(source, "loader-workers")
    named, made = outcome(source, "loader-workers", num_workers=4)
    assert "num_workers=4, persistent_workers=True)" in named
    assert made.why == "num_workers=4 instead of 1"
    why = refused(f"{IMPORT}loader = DataLoader(d, pin_memory=False)\n", "pin-memory")
    assert "pin_memory=False itself in line 2; name it" in why
    unchanged(f"{IMPORT}loader = DataLoader(d, pin_memory=True)\n", "pin-memory")


def test_arguments_by_position_are_known() -> None:
    assert loader("DataLoader(d, 8, True, None, None, 0)", num_workers=2) == (
        "DataLoader(d, 8, True, None, None, 2, persistent_workers=True)"
    )
    why = refused(f"{IMPORT}l = DataLoader(d, 8, True, None, None, 0)\n", "loader-workers")
    assert "num_workers=0 itself" in why


def test_workers_that_the_script_decides_on_as_it_runs_are_asked_for() -> None:
    assert loader("DataLoader(d, num_workers=args.w)", "persistent-workers") == (
        "DataLoader(d, num_workers=args.w, persistent_workers=args.w > 0)"
    )
    assert loader("DataLoader(d, num_workers=w)", "deeper-prefetch", prefetch_factor=8) == (
        "DataLoader(d, num_workers=w, prefetch_factor=8 if w > 0 else None)"
    )
    unchanged(
        f"{IMPORT}l = DataLoader(d, num_workers=w, persistent_workers=w > 0)\n",
        "persistent-workers",
    )
    why = refused(f"{IMPORT}l = DataLoader(d, num_workers=count())\n", "persistent-workers")
    assert "num_workers=count() may be 0" in why


def test_without_workers_there_is_nothing_to_keep() -> None:
    why = refused(f"{IMPORT}l = DataLoader(d)\n", "persistent-workers")
    assert why == "the loader has no workers; take loader-workers, too"


def test_loading_in_process_takes_along_what_workers_need() -> None:
    call = "DataLoader(d, persistent_workers=True, num_workers=4, prefetch_factor=8)"
    assert loader(call, "in-process-loading") == "DataLoader(d, num_workers=0)"
    several = (
        "DataLoader(\n    d,\n    num_workers=4,  # four\n    timeout=5,  # s\n"
        "    persistent_workers=True,\n)"
    )
    assert loader(several, "in-process-loading") == (
        "DataLoader(\n    d,\n    num_workers=0,  # four\n)"
    )
    unchanged(f"{IMPORT}l = DataLoader(d)\n", "in-process-loading")


EITHER = """\
try:
    from torch.utils.data import DataLoader
except ImportError:
    from mine import DataLoader
l = DataLoader(d)
"""


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (f"{IMPORT}l = DataLoader(d, **options)", "takes arguments from **options"),
        (f"{IMPORT}l = DataLoader(*parts)", "takes arguments from *parts"),
        ("from torch.utils.data import *\nl = DataLoader(d)", "import DataLoader by its name"),
        (EITHER, "may be something else, too"),
        (f"{IMPORT}from functools import partial\nl = partial(DataLoader, d)()", "no DataLoader"),
        (f"{IMPORT}if True\n", "line 2 cannot be read as Python"),
    ],
)
def test_what_is_not_understood_is_refused_with_the_reason(source: str, why: str) -> None:
    changed, (made,) = rewrite(source, [order("loader-workers")])
    assert (changed, made.state) == (source, "refused")
    assert why in made.why


def test_only_the_loader_of_the_recorded_line_changes() -> None:
    source = (
        f"{IMPORT}\nheld_out = DataLoader(d, 64)\ntraining = DataLoader(\n    d,\n    8,\n)\n"
        "third = DataLoader(d, 1)\n"
    )
    changed = written(source, "loader-workers", Known(loader_line=4))
    assert changed == source.replace(
        "    8,\n", "    8,\n    num_workers=2,\n    persistent_workers=True,\n"
    )
    assert written(source, "loader-workers").count("num_workers=2") == 3


@pytest.mark.parametrize(
    ("line", "why"),
    [(2, "line 2, where the loader was built, does not call"), (4, "builds 2 DataLoaders")],
)
def test_a_line_that_is_not_one_loader_is_refused(line: int, why: str) -> None:
    source = f"{IMPORT}l = Mine(d)\n\nl, m = DataLoader(d), DataLoader(d)\n"
    assert why in refused(source, "loader-workers", Known(loader_line=line))


def test_lines_stay_right_when_others_are_added_above() -> None:
    source = f"import torch\n{IMPORT}\nheld = DataLoader(a)\nl = DataLoader(\n    d,\n)\n"
    known = Known(loader_line=5)
    orders = [order(name, known) for name in ("tf32", "pin-memory", "loader-workers")]
    changed, outcomes = rewrite(source, orders)
    assert [one.state for one in outcomes] == ["written"] * 3
    assert "held = DataLoader(a)\nl = DataLoader(\n    d,\n    num_workers=2," in changed


@pytest.mark.parametrize(
    ("known", "why"),
    [
        (Known(iterable=True), "every worker would yield all of it"),
        (Known(start_method="spawn", picklable=False), "cannot be pickled"),
        (Known(start_method="forkserver", picklable=True), "__main__"),
    ],
)
def test_workers_that_could_not_work_are_refused(known: Known, why: str) -> None:
    assert why in refused(f"{IMPORT}l = DataLoader(d)\n", "loader-workers", known)


def test_nothing_is_pinned_for_a_cpu() -> None:
    why = refused(f"{IMPORT}l = DataLoader(d)\n", "pin-memory", Known(device="cpu"))
    assert why == "the training ran on the CPU, where nothing is pinned"


COPYING = """\
from torch.utils.data import DataLoader

def train(model, optimizer, device):
    loader = DataLoader(d, 8, pin_memory=True)
    for step, (images, labels) in enumerate(loader):
        images = images.to(device)  # a copy
        loss = model(images).mean() + labels.cuda().float()
        weights = table.to(device)
        loss.backward()
"""


def test_copies_of_batches_do_not_wait() -> None:
    wanted = COPYING.replace("images.to(device)", "images.to(device, non_blocking=True)")
    wanted = wanted.replace("labels.cuda()", "labels.cuda(non_blocking=True)")
    assert written(COPYING, "non-blocking-copies") == wanted


def test_a_pinned_loader_gets_copies_that_do_not_wait() -> None:
    source = COPYING.replace(", pin_memory=True", "")
    assert written(source, "pin-memory") == written(COPYING, "non-blocking-copies")
    why = refused(source, "non-blocking-copies")
    assert why == "the loader does not pin its batches; take pin-memory, too"
    assert "non_blocking" in written(source, "non-blocking-copies", Known(pinned=True))


@pytest.mark.parametrize(
    ("body", "copy"),
    [
        ("x, y = (part.to(device) for part in batch)", "part.to(device, non_blocking=True)"),
        ("x = {k: v.to(device) for k, v in batch.items()}", "v.to(device, non_blocking=True)"),
        ("x = batch['image'].cuda()", "batch['image'].cuda(non_blocking=True)"),
        ("x = batch.image.to(device)", "batch.image.to(device, non_blocking=True)"),
        ("x, y = batch; x = x.to(device)", "x.to(device, non_blocking=True)"),
    ],
)
def test_parts_of_a_batch_are_recognised(body: str, copy: str) -> None:
    loop = f"for batch in DataLoader(d, pin_memory=True):\n    {body}\n    f(x).backward()\n"
    source = f"{IMPORT}{loop}"
    assert copy in written(source, "non-blocking-copies")


def test_a_batch_that_may_be_no_tensor_is_left() -> None:
    source = f"{IMPORT}for b in DataLoader(d, pin_memory=True):\n    f(b.to(0)).backward()\n"
    assert "was recognised" in refused(source, "non-blocking-copies")
    one_tensor = written(source, "non-blocking-copies", Known(batch_dims=(2,)))
    assert "b.to(0, non_blocking=True)" in one_tensor


def test_copies_to_the_host_and_to_several_places_are_left() -> None:
    host = COPYING.replace("images.to(device)", "images.to('cpu')")
    assert "images.to('cpu')" in written(host, "non-blocking-copies")
    several = COPYING.replace("labels.cuda()", "labels.to(other)")
    assert "several places (device, other)" in refused(several, "non-blocking-copies")
    own = COPYING.replace("images.to(device)", "images.to(device, non_blocking=False)")
    assert "images.to(device, non_blocking=False)" in written(own, "non-blocking-copies")


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        ("torch.optim.SGD(p, 0.1)", "torch.optim.SGD(p, 0.1, fused=True)"),
        ("torch.optim.adamw.AdamW(p)", "torch.optim.adamw.AdamW(p, fused=True)"),
        ("optim.Adam(p, lr=1e-3)", "optim.Adam(p, lr=1e-3, fused=True)"),
        ("Ada(p, foreach=False)", "Ada(p, foreach=False, fused=True)"),
    ],
)
def test_optimizers_are_fused(call: str, wanted: str) -> None:
    head = "import torch\nfrom torch import optim\nfrom torch.optim import Adagrad as Ada\no = "
    assert written(f"{head}{call}\n", "fused-optimizer") == f"{head}{wanted}\n"


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("torch.optim.SGD(p, foreach=True)", "line 2 asks for foreach=True"),
        ("torch.optim.SGD(p, fused=False)", "gives fused=False itself"),
        ("torch.optim.SGD(p, **options)", "takes arguments from **options"),
        ("torch.optim.LBFGS(p)", "no Adam, AdamW, SGD or Adagrad"),
    ],
)
def test_optimizers_that_the_script_builds_otherwise_stay(call: str, why: str) -> None:
    assert why in refused(f"import torch\no = {call}\n", "fused-optimizer")


def test_gradients_are_dropped() -> None:
    head = "import torch\n"
    assert written(f"{head}o.zero_grad(set_to_none=False)\n", "set-to-none") == (
        f"{head}o.zero_grad(set_to_none=True)\n"
    )
    assert written(f"{head}o.zero_grad(False)\n", "set-to-none") == f"{head}o.zero_grad(True)\n"
    unchanged(f"{head}o.zero_grad()\n", "set-to-none")
    assert "by hand" in refused(f"{head}p.grad.zero_()\no.zero_grad()\n", "set-to-none")
    assert "as it runs" in refused(f"{head}o.zero_grad(set_to_none=x)\n", "set-to-none")


DDP = "from torch.nn.parallel import DistributedDataParallel as DDP\n"


def test_data_parallel_models_get_other_buckets() -> None:
    changed = written(f"{DDP}m = DDP(net, device_ids=[0])\n", "ddp-buckets", static_graph=True)
    assert changed == (
        f"{DDP}m = DDP(\n    net,\n    device_ids=[0],\n    bucket_cap_mb=100,\n"
        "    gradient_as_bucket_view=True,\n    static_graph=True,\n)\n"
    )
    own = f"{DDP}m = DDP(net, bucket_cap_mb=25, gradient_as_bucket_view=True)\n"
    assert "bucket_cap_mb=25 itself" not in refused(own, "ddp-buckets")
    assert "bucket_cap_mb=50.5," in written(own, "ddp-buckets", bucket_cap_mb=50.5)
    positional = f"{DDP}m = DDP(net, [0], 0, 0, True, group)\n"
    assert "argument 6 by position" in refused(positional, "ddp-buckets")


def test_optimizers_of_sparse_gradients_are_not_fused() -> None:
    source = "import torch\ne = torch.nn.Embedding(9, 2, sparse=True)\no = torch.optim.SGD(p, 1)\n"
    assert "line 2 asks for sparse gradients" in refused(source, "fused-optimizer")
    written(source.replace("sparse=True", "sparse=False"), "fused-optimizer")
