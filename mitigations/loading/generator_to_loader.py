"""Turn a hand-written generator of batches into a DataLoader with workers.

Does: moves what makes one sample into a Dataset, and lets worker processes make batches ahead.
Helps: generators that read or prepare data in the training thread while the device waits.
Avoid: batches that depend on the model or on the step before; generators of cheap batches.
Safety: reseeded. The same samples; shuffling and random transforms draw from other generators.
Place: system. It changes who makes batches, not what is trained.
Source: PyTorch documentation of torch.utils.data; the model is the one of loader-workers.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.loading import data_lines
from speedprof.advisor.shares import at, number, step_ms
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import Pipeline, best_workers, handoff_ms, workers_gain
from speedprof.mitigations.loading.loader_workers import READERS_PER_CORE, within
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.run import Run

MOST_WORKERS = 8  # until the loader's own times are known, no more than this
BY_HAND = """\
# {where}: instead of the generator
class Samples(torch.utils.data.Dataset):
    def __len__(self):
        return ...  # how many samples there are

    def __getitem__(self, index):
        return ...  # what {where} does for one sample

loader = torch.utils.data.DataLoader(
    Samples(), batch_size=..., shuffle=True, num_workers={workers}, persistent_workers=True
)
for batch in loader:"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    if run.input_kind not in ("generator", "function"):
        return Misfit(reason="batches do not come from a hand-written generator")
    mean, have = step_ms(run), facts.cores(run)
    if mean is None or have is None or run.phases is None:
        return Misfit(reason="the step, or how many cores there are, was not measured")
    lines = data_lines(run)
    waiting = sum(line.ms for line in lines if line.kind == "waiting")
    loading = run.phases["data_loading"].ms
    pipeline = Pipeline(
        now_ms=mean,
        workers=0,
        rest_ms=mean - loading,
        cpu_ms=max(loading - waiting, 0.0),
        waiting_ms=min(waiting, loading),
        handoff_ms=handoff_ms(None, run.batches_per_step or 1.0),
        cores=have,
        rest_cores=facts.rest_cores(run, max(loading - waiting, 0.0)),
    )
    readers = READERS_PER_CORE if pipeline.waiting_ms > pipeline.cpu_ms else 1.0
    workers = best_workers(pipeline, min(MOST_WORKERS, round(have * readers)))
    fewer = facts.fewer_threads(run, pipeline, workers)
    return Fit(
        reason=(
            f"the training thread makes its batches itself{at(finding.where)}, {number(loading)} "
            "of each "
            f"{number(mean)} ms{facts.threads_reason(run, fewer)}"
        ),
        gain=within(run, workers_gain(pipeline, workers)),
        parameters={"num_workers": workers},
        by_hand=facts.threads_line(fewer)
        + BY_HAND.format(where=finding.where or "the training script", workers=workers),
    )


MITIGATION = remedy(
    "generator-to-loader",
    __doc__,
    treats=(("data_loading", "storage"), ("data_loading", "cpu_preparation")),
    assess=assess,
)
