"""Train on each example once, not on its copies.

Does: finds exact copies by hash, near ones by MinHash, and keeps one of each.
Helps: text and images collected from the web.
Avoid: copies that are meant as weights.
Safety: changes_training. Another data set; duplicates between training and evaluation go, too.
Place: remove x data. Copies go.
Source: Lee et al. (2107.06499): language models without duplicates need "fewer train steps to
    achieve the same or better accuracy"; no factor given.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import BOTH, fewer_steps, indexed
from speedprof.profiler.run import Run

HOPE = "copies of an example teach nothing new"
BY_HAND = """\
seen, kept = set(), []
for index in range(len(raw_files)):
    digest = hashlib.sha256(raw_files[index].read_bytes()).digest()
    if digest not in seen:
        seen.add(digest)
        kept.append(index)
dataset = torch.utils.data.Subset(dataset, kept)"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    return fewer_steps(run, indexed, hope=HOPE, by_hand=BY_HAND)


MITIGATION = remedy("deduplication", __doc__, treats=BOTH, assess=assess, how="patch")
