"""Let no more threads run than there are cores.

Does: limits the intra-op threads of the training process to the cores that its workers leave, and
    those of libraries in the workers (OpenMP, OpenCV) to one each.
Helps: workers that wait for a core while threads of the same job hold it.
Avoid: machines with idle cores; a queue that other programs cause.
Safety: rounding. With fewer threads sums are added in another order.
Place: system. It changes how work is spread, not what is trained.
Source: PyTorch performance tuning guide (OMP_NUM_THREADS, affinity, numactl); no isolated
    published figure.
"""

from __future__ import annotations

from speedprof.advisor.finding import Finding
from speedprof.advisor.shares import number, percent, plenty
from speedprof.mitigations import facts
from speedprof.mitigations.card import remedy
from speedprof.mitigations.gains import ceiling
from speedprof.mitigations.mitigation import Fit, Gain, Misfit
from speedprof.profiler.run import Run

CAUSE = "cpu-oversubscription"
SLOWER = 0.9  # two threads on one free core compute hardly faster than one, but a little
BY_HAND = """\
# first line of the script, or OMP_NUM_THREADS={threads} in its environment
torch.set_num_threads({threads})  # now {now}, beside {workers} on {cores}
# where workers use OpenCV (torch's own threads are one there): DataLoader(worker_init_fn=alone)
def alone(worker):
    cv2.setNumThreads(0)"""


def assess(run: Run, finding: Finding) -> Fit | Misfit:
    if finding.rule != CAUSE:
        return Misfit(reason="threads do not wait for a core")
    loader, node = run.training_loader(), facts.machine(run)
    threads = run.environment.threads
    if loader is None or node is None or threads is None:
        return Misfit(reason="the number of threads, or of cores, was not recorded")
    have = int(facts.own_cores(run) or 1)
    if threads + loader.num_workers <= have:
        return Misfit(
            reason=f"{threads + loader.num_workers} threads and workers fit on {have} cores; "
            "other programs hold the cores"
        )
    fewer = max(1, have - loader.num_workers)
    if fewer >= threads:
        return Misfit(
            reason=f"{plenty(loader.num_workers, 'worker')} alone fill {plenty(have, 'core')}"
        )
    return Fit(
        reason=(
            f"{plenty(threads, 'compute thread')} and {plenty(loader.num_workers, 'worker')} "
            "share "
            f"{plenty(have, 'core')}; a batch waits {number(loader.queued_ms or 0)} ms for one"
        ),
        gain=Gain(
            low=SLOWER,
            high=ceiling(finding.share),
            model=f"between {percent(finding.share)} of queueing gone and a tenth slower, "
            "because it computes with fewer threads",
        ),
        parameters={"threads": fewer},
        by_hand=BY_HAND.format(
            threads=fewer,
            now=threads,
            workers=plenty(loader.num_workers, "worker"),
            cores=plenty(have, "core"),
        ),
    )


MITIGATION = remedy(
    "fewer-threads",
    __doc__,
    treats=(("data_loading", "cpu_preparation"),),
    assess=assess,
    how="patch",
)
