"""The two ways in which another training takes less time: shorter steps, or fewer of them.

How long a step takes with less work in it can be predicted. How many steps the same quality takes
cannot be seen in a run of a few steps, so nothing is predicted there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from speedprof.advisor.judgement import COMPUTE_DOMINATES
from speedprof.advisor.shares import number, percent, plenty, step_ms
from speedprof.mitigations import facts
from speedprof.mitigations.gains import speeding_up
from speedprof.mitigations.mitigation import Fit, Gain, Misfit
from speedprof.profiler.run import Run

Need = Callable[[Run], str | None]  # why the run does not fit, None where it does

WORTH = 1.03
CONVOLUTIONAL = 0.2  # of the step in convolutions: then the batches are images
FEWEST_TOKENS = 16  # a row of fewer integers is no sequence but a few categories
BOTH = (("compute", "arithmetic"), ("compute", "memory_bandwidth"))


def shorter_steps(
    run: Run,
    needs: Need,
    *,
    faster: tuple[float, float],
    less: str,
    by_hand: str,
    share: float | None = None,
) -> Fit | Misfit:
    """Answer for less work in each step.

    `faster` is how many times as fast the affected share runs, at least and at most; the share is
    that of the model, the optimizer left out, unless one is given. `less` says what is left out.
    """
    hindrance = unsuited(run) or needs(run)
    affected, mean = share if share is not None else model_share(run), step_ms(run)
    if hindrance is not None:
        return Misfit(reason=hindrance)
    if affected is None or mean is None:
        return Misfit(reason="what the model computes was not measured")
    gain = _within_supply(run, speeding_up(affected, *faster, what=less))
    if gain.high < WORTH:
        return Misfit(reason=f"{percent(affected)} of the step would be shorter: {gain.model}")
    computing = f"{number(affected * mean)} of {number(mean)} ms"
    return Fit(
        reason=f"{computing} of each step would have less to compute: {less}",
        gain=gain,
        by_hand=by_hand,
    )


def fewer_steps(run: Run, needs: Need, *, hope: str, by_hand: str) -> Fit | Misfit:
    """Answer for a training that may need fewer steps: with what there is to save, and no gain."""
    hindrance = unsuited(run) or needs(run)
    mean, computing = step_ms(run), run.share("compute")
    if hindrance is not None:
        return Misfit(reason=hindrance)
    if mean is None or computing is None:
        return Misfit(reason="the phases of the step were not measured")
    seen = plenty(run.steps, "step")
    return Fit(
        reason=f"{hope}; each step saved saves {number(mean)} ms, {percent(computing)} of it "
        f"computing, but {seen} cannot tell how many fewer would do",
        gain=None,
        by_hand=by_hand,
    )


def unsuited(run: Run) -> str | None:
    """Return why the training itself should not be touched yet, None where it may be.

    Where computing does not dominate the step, remedies that cost no quality come first, and less
    computing would be hidden behind what does (MosaicML: 1.10x instead of 4x behind the loader).
    """
    computing = run.share("compute")
    if computing is None:
        return "the phases of the step were not measured"
    if computing < COMPUTE_DOMINATES:
        return (
            f"computing takes only {percent(computing)} of the step: what costs no quality "
            "comes first"
        )
    return None


def anything(_run: Run) -> str | None:
    """Ask nothing of the data."""
    return None


def images(run: Run) -> str | None:
    """Return why the batches are not known to be images."""
    if image_side(run) is not None:
        return None
    convolutions = facts.kinds_share(run, "convolution")
    if convolutions is not None and convolutions >= CONVOLUTIONAL:
        return None
    if run.batch is None:
        return "what the batches hold was not recorded"
    return "the batches hold no images"


def sequences(run: Run) -> str | None:
    """Return why the batches are not known to be sequences of tokens."""
    if run.batch is None:
        return "what the batches hold was not recorded"
    return None if sequence_length(run) is not None else "the batches hold no sequences of tokens"


def indexed(run: Run) -> str | None:
    """Return why single samples cannot be chosen from the data set."""
    loader = run.training_loader()
    if loader is None:
        return "no DataLoader makes the batches"
    if loader.iterable or not loader.length:
        return f"{loader.dataset} has no indexed samples to choose from"
    return None


def image_side(run: Run) -> int | None:
    """Return the shorter side of the largest images of a batch in pixels, None without any."""
    shapes = run.batch.shapes if run.batch else []
    sides = [sorted(shape[1:])[-2] for shape in shapes if len(shape) == 4]
    return max((side for side in sides if side > 1), default=None)


def sequence_length(run: Run) -> int | None:
    """Return the tokens of the longest sequences in a batch, None without any."""
    batch = run.batch
    if batch is None:
        return None
    pairs = zip(batch.shapes, batch.dtypes, strict=False)
    lengths = [
        shape[1]
        for shape, dtype in pairs
        if len(shape) == 2 and dtype.removeprefix("torch.").startswith(("int", "long"))
    ]
    return max((length for length in lengths if length >= FEWEST_TOKENS), default=None)


def model_share(run: Run) -> float | None:
    """Return the share of the step (0..1) in forward and backward."""
    share, inside = run.share("compute"), run.compute
    if share is None or inside is None or inside.optimizer_ms is None:
        return share
    mean = step_ms(run)
    return max(share - inside.optimizer_ms / mean, 0.0) if mean else share


def _within_supply(run: Run, gain: Gain) -> Gain:
    """Lower the gain to what workers can deliver: steps get no shorter than batches take."""
    loader = run.training_loader()
    pipeline = facts.pipeline(run, loader) if loader is not None else None
    if pipeline is None or pipeline.workers == 0:
        return gain
    at_once = min(float(pipeline.workers), pipeline.cores)
    supply = pipeline.cpu_ms / at_once + pipeline.waiting_ms / pipeline.workers
    most = max(pipeline.now_ms / max(supply, 1e-9), 1.0)
    if most >= gain.high:
        return gain
    model = f"{gain.model}; but workers deliver a step's batches in {number(supply)} ms"
    return replace(gain, low=min(gain.low, most), high=most, model=model)
