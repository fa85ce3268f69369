"""Cases of mitigations/training: where each applies, where not and why, where that is unknown."""

from __future__ import annotations

import runs
from case_runs import Case, Make, full_device, hosting

APPLIES: dict[str, Make] = {
    "larger-batch": lambda: hosting(loaders=[runs.loader()]),
}

MISFITS: dict[str, list[Case]] = {
    "larger-batch": [
        (lambda: hosting(loaders=[runs.loader()], ranks=[full_device(90)]), "90 % full")
    ],
}

NOT_MEASURED: dict[str, list[Make]] = {
    "larger-batch": [hosting],
}
