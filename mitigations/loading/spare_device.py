"""Whether the device could take work from the CPU: it must be another one, with time to spare."""

from __future__ import annotations

from speedprof.advisor.shares import percent
from speedprof.mitigations import facts
from speedprof.profiler.run import Run

# NERSC's GPU, 97.8 % busy, gained 7 % from decoding there: from three quarters of the step on
# there is little to fill, and computing is the verdict (advisor.judgement).
BUSY = 0.75


def no_time_to_spare(run: Run) -> str | None:
    """Return why the device cannot take work from the CPU, None where it can."""
    computing = run.share("compute")
    if not facts.is_gpu(run):
        return f"the training runs on {run.device}: there is no other processor"
    if computing is None:
        return "how busy the GPU is was not measured"
    if computing >= BUSY:
        return f"the GPU computes for {percent(computing)} of the step already"
    return None
