"""Workers written into a script: not kept where that would show, none beside an open file."""

from __future__ import annotations

import pytest

from speedprof.tests.rewrites import outcome, refused, written

IMPORT = "from torch.utils.data import DataLoader\n"
TRAINING = f"""\
{IMPORT}
data = Samples(folder)
loader = DataLoader(data, 8)
for epoch in range(3):
    for batch in loader:
        train(batch)
"""


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("train(batch)", "train(next(iter(loader)))", "line 7 begins a pass over loader within"),
        ("train(batch)", "[train(a) for a in b]\n        for other in loader:\n            pass",
         "line 8 begins a pass over loader within another one over it"),
        ("in loader", "in zip(loader, loader)", "line 6 begins a pass over loader within"),
        ("    for b", "    data.set_epoch(epoch)\n    for b", "line 6 changes the data set"),
        ("    for b", "    data.crop = 32 * epoch\n    for b", "line 6 changes the data set"),
        ("    for b", "    loader.dataset.view.p[0] = 1\n    for b", "line 6 changes the data"),
    ],
)  # fmt: skip
def test_workers_are_not_kept_where_that_would_show(old: str, new: str, why: str) -> None:
    assert "num_workers=2, persistent_workers=True)" in written(TRAINING, "loader-workers")
    source = TRAINING.replace(old, new, 1)
    assert source != TRAINING
    changed, made = outcome(source, "loader-workers")
    assert "DataLoader(data, 8, num_workers=2)\n" in changed
    assert "the workers are not kept: " in made.why
    assert why in made.why
    own = source.replace("data, 8", "data, 8, num_workers=2")
    assert why in refused(own, "persistent-workers")


def test_a_data_set_is_set_up_before_its_workers_are() -> None:
    source = TRAINING.replace("loader =", "data.crop = 32\nloader =")
    assert "persistent_workers=True" in written(source, "loader-workers")


OPENED = f"""\
import h5py
{IMPORT}
class Samples:
    def __init__(self, path):
        self.file = h5py.File(path)

    def __getitem__(self, index):
        return self.file["images"][index]

loader = DataLoader(Samples("a.h5"), 8)
"""


def test_a_data_set_that_keeps_a_file_open_gets_no_workers() -> None:
    why = refused(OPENED, "loader-workers")
    assert why.startswith("line 6 keeps what h5py.File() opens, and forked workers would read on")
    plain = OPENED.replace("h5py.File(path)", "open(path)")
    assert "line 6 keeps what open() opens" in refused(plain, "loader-workers")
    for harmless in (
        OPENED.replace("h5py.File(path)", "h5py.File(path)['images'][:]"),
        OPENED.replace("self.file = h5py.File(path)", "self.path = path"),
        OPENED.replace("__getitem__", "write"),
    ):
        assert "num_workers=2" in written(harmless, "loader-workers")
