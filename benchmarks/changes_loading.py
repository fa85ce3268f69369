"""What is done to the scripts of the scoreboard that wait for their batches."""

from __future__ import annotations

from remedied import Change, lines

MAIN = "def main() -> None:\n"
WORKERS = "num_workers=<num_workers>, persistent_workers=True)"
KEPT = '''\
class Kept(torch.utils.data.Dataset):
    """Keeps each sample after its first use."""

    def __init__(self, dataset):
        self.dataset, self.kept = dataset, {}

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        if index not in self.kept:
            self.kept[index] = self.dataset[index]
        return self.kept[index]


def main() -> None:
'''
IMPORT = "from torch import nn\n"
IMPORTS = f"{IMPORT}from torch.utils.data import DataLoader, Dataset\n"
GENERATED = """\
class Batches(Dataset):
    def __init__(self, text):
        self.text = text

    def __len__(self):
        return 100

    def __getitem__(self, number):
        return next(batches(self.text, 1))


def main() -> None:
"""
CUT = """\
class Batches(Dataset):
    def __init__(self, text, alphabet):
        self.text, self.alphabet = text, alphabet

    def __len__(self):
        return 100

    def __getitem__(self, number):
        return get_batch(self.text, self.alphabet)


def main() -> None:
"""
CUT_IN_LOOP = """\
    for _step in range(100):
        inputs, targets = get_batch(text, alphabet)
"""
CUT_BY_WORKERS = """\
    dataset = Batches(text, alphabet)
    for inputs, targets in DataLoader(dataset, batch_size=None, num_workers=<num_workers>):
"""
FROM_GENERATOR = "    for batch in batches(text, 100):\n"
FROM_WORKERS = """\
    loader = DataLoader(Batches(text), batch_size=None, num_workers=<num_workers>)
    for batch in loader:
"""
FIVE_TIMES = "    for batch in (batch for _ in range(5) for batch in loader):\n"
FIRST = "num_workers=<num_workers>"
CHANGES: dict[str, dict[str, Change]] = {
    "storage": {
        "loader-workers": lines(FIRST, ("shuffle=True)", f"shuffle=True, {WORKERS}")),
        "cache-samples": lines(
            "a data set that keeps its samples",
            (MAIN, KEPT),
            ("DataLoader(SlowFiles(folder)", "DataLoader(Kept(SlowFiles(folder))"),
        ),
    },
    "storage_workers": {
        "loader-workers": lines(FIRST, ("num_workers=2)", WORKERS)),
    },
    "cpu_preparation": {
        "loader-workers": lines(FIRST, ("shuffle=True)", f"shuffle=True, {WORKERS}")),
        "cache-samples": lines(
            "a data set that keeps its samples, five epochs",
            (MAIN, KEPT),
            ("DataLoader(Parsed()", "DataLoader(Kept(Parsed())"),
            ("    for batch in loader:\n", FIVE_TIMES),
        ),
    },
    "cpu_preparation_worker": {
        "loader-workers": lines(FIRST, ("num_workers=1)", WORKERS)),
    },
    "generator": {
        "generator-to-loader": lines(
            f"a Dataset, {FIRST}",
            (IMPORT, IMPORTS),
            (MAIN, GENERATED),
            (FROM_GENERATOR, FROM_WORKERS),
        ),
    },
    "batch_function": {
        "generator-to-loader": lines(
            f"a Dataset, {FIRST}", (IMPORT, IMPORTS), (MAIN, CUT), (CUT_IN_LOOP, CUT_BY_WORKERS)
        ),
    },
    "worker_handoff": {
        "in-process-loading": lines("num_workers=0", ("num_workers=1", "num_workers=0")),
    },
    "startup": {
        "in-process-loading": lines(
            "num_workers=0", (", num_workers=2, worker_init_fn=build_index", "")
        ),
        "persistent-workers": lines(
            "persistent_workers=True",
            (
                "worker_init_fn=build_index)",
                "worker_init_fn=build_index, persistent_workers=True)",
            ),
        ),
    },
    "imagefolder": {
        "loader-workers": lines(
            "--workers <num_workers>, kept between epochs",
            (
                "num_workers=options.workers,",
                "num_workers=options.workers, persistent_workers=True,",
            ),
            arguments=("--workers", "<num_workers>"),
        ),
        "bf16-autocast": lines("--amp", arguments=("--amp",)),
        "channels-last": lines("--channels-last", arguments=("--channels-last",)),
    },
}
