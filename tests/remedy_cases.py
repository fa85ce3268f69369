"""Where each remedy applies, where it does not and why, and where that is not known."""

from __future__ import annotations

import remedies_communication
import remedies_compute
import remedies_copies
import remedies_host
import remedies_loading
import remedies_memory
import remedies_training
from case_runs import (
    Case,
    Make,
)

APPLIES: dict[str, Make] = {}

MISFITS: dict[str, list[Case]] = {}

NOT_MEASURED: dict[str, list[Make]] = {}

for _folder in (
    remedies_loading,
    remedies_copies,
    remedies_compute,
    remedies_host,
    remedies_memory,
    remedies_communication,
    remedies_training,
):
    APPLIES |= _folder.APPLIES
    MISFITS |= _folder.MISFITS
    NOT_MEASURED |= _folder.NOT_MEASURED
