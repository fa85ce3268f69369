"""Let the middle layers skip unimportant tokens.

Does: sends only a part of the tokens (or of the patches of an image) through the middle layers.
Helps: pretraining of transformers whose step is computing.
Avoid: models that are not transformers; fine-tuning of short sequences.
Safety: changes_training. Some tokens see fewer layers; check the loss.
Place: remove x data. Derived data: activations of some tokens go.
Source: Hou et al. (2203.13240): a quarter less cost of pretraining BERT at the same quality on
    downstream tasks.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.mitigations.card import remedy
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.mitigations.training.kinds import BOTH, sequences, shorter_steps
from speedprof.profiler.run import Run

FASTER = (1.1, 1.0 / 0.75)  # the published quarter at most
ENDS = 2  # layers that see all tokens: the first and the last
LESS = "a quarter of the computing on tokens"
BY_HAND = """\
kept = importance.topk(length // 2, dim=1).indices.sort(dim=1).values  # running loss of tokens
hidden[rows, kept] = middle_layers(hidden[rows, kept])  # rows: torch.arange(batch).unsqueeze(1)"""


def assess(run: Run, _finding: Finding) -> Fit | Misfit:
    return shorter_steps(run, _layers, faster=FASTER, less=LESS, by_hand=BY_HAND)


def _layers(run: Run) -> str | None:
    """Return why there are no layers between the first and the last that see tokens."""
    known = [model.modules for model in run.models if model.modules is not None]
    counts = [count for one in known for name, count in one.items() if "Attention" in name]
    if known and max(counts, default=0) <= ENDS:
        return f"of {ENDS} layers of attention or fewer, none is in the middle"
    return sequences(run)


MITIGATION = remedy("token-dropping", __doc__, treats=BOTH, assess=assess)
