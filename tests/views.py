"""Views for report tests.

Runs as they turn out on real machines, with a judgement and advice written out.
"""

from __future__ import annotations

import msgspec
from view_facts import (
    COMPUTE,
    ENVIRONMENT,
    LINES,
    loader,
    machine,
    phases,
    series,
    step_times,
    timeline,
)

from speedprof.advisor.finding import Finding, Verdict
from speedprof.advisor.judgement import Judgement
from speedprof.mitigations.catalogue import Advice
from speedprof.mitigations.mitigation import Fit, Gain, Misfit, Mitigation
from speedprof.profiler.ceilings import ceilings
from speedprof.profiler.run import (
    Host,
    Model,
    NotMeasured,
    Optimizer,
    Outside,
    Rank,
    Run,
)
from speedprof.reports.view import View


def run(**changes: object) -> Run:
    """Return a loader-bound run on a CPU, with some of it changed."""
    wall = 41.2
    one_step = timeline(
        wall,
        ("main thread", 0.00, 0.61, "data_loading", "DataLoader.__next__"),
        ("main thread", 0.61, 0.72, "compute", "forward"),
        ("main thread", 0.72, 0.86, "compute", "backward"),
        ("main thread", 0.86, 0.90, "compute", "optimizer"),
        ("main thread", 0.90, 0.98, "host", "python"),
        ("autograd", 0.73, 0.86, "compute", "backward"),
        ("exposed", 0.00, 0.61, "data_loading", "data loading"),
        ("exposed", 0.61, 0.90, "compute", "compute"),
        ("exposed", 0.90, 0.98, "host", "host"),
        ("exposed", 0.98, 1.00, "outside", "outside"),
    )
    made = Run(
        folder="speedprof-runs/20260314-101502-train",
        name="train",
        command=["train.py", "--epochs", "3", "--data", "/data/flowers"],
        cwd="/home/ada/flowers",
        started_at=1773483302.0,
        wall_s=19.8,
        finished=True,
        exit_status=0,
        version="0.1.0",
        ranks=[
            Rank(
                rank=0,
                node="lab-3",
                pid=4711,
                device="cpu",
                steps=312,
                step_ms=step_times(wall),
                phases=phases(wall, 0.61, 0.0, 0.29, 0.0, 0.08, 0.02),
                peak_memory_bytes=1_900_000_000,
            )
        ],
        steps=312,
        warmup_steps=10,
        traced_steps=12,
        windows=2,
        step_definition="one optimizer update: SGD.step at train.py:55",
        updates_per_step=1.0,
        batches_per_step=1.0,
        step_ms=step_times(wall),
        series=series(312, wall, 25.1),
        phases=phases(wall, 0.61, 0.0, 0.29, 0.0, 0.08, 0.02),
        compute=COMPUTE,
        host=Host(launch_ms=0.9, python_ms=2.0, allocator_ms=0.2, synchronisation_ms=0.2),
        outside=Outside(checkpoint_ms=0.6, evaluation_ms=0.0, logging_ms=0.1, other_ms=0.1),
        input_kind="loader",
        loaders=[loader()],
        lines=LINES,
        timelines=[one_step],
        machines=[machine(cpu=0.31)],
        environment=ENVIRONMENT,
        optimizers=[
            Optimizer(
                name="SGD",
                parameters=62,
                elements=11_689_512,
                fused=None,
                foreach=True,
                where="train.py:38",
            )
        ],
        models=[
            Model(
                name="ResNet",
                parameters=11_689_512,
                bytes=46_758_048,
                dtypes=["float32"],
                compiled=False,
            )
        ],
        garbage_ms=0.1,
        startup_s=3.4,
        not_measured=[
            NotMeasured(what="host_to_device", why="no CUDA device"),
            NotMeasured(what="communication", why="one process"),
        ],
        changes=[
            "_BaseDataLoaderIter.__next__: time the wait for input",
            "torch.autograd.backward: time the backward pass",
        ],
    )
    return msgspec.structs.replace(made, **changes)


def _never(_run: Run, _finding: Finding) -> Misfit:
    return Misfit(reason="only shown here, never assessed")


def advice(
    name: str,
    finding: Finding,
    *,
    gain: Gain | None,
    title: str,
    safety: str = "exact",
    how: str = "automatic",
    action: str | None = None,
    component: str | None = None,
    parameters: dict[str, object] | None = None,
    by_hand: str = "",
    reason: str = "",
    source: str = "PyTorch performance tuning guide.",
) -> Advice:
    mitigation = Mitigation(
        name=name,
        treats=((finding.phase, finding.cause),),
        safety=safety,
        how=how,
        place="system" if action is None else "5r",
        action=action,
        component=component,
        source=source,
        card=f"{title}.\n\nDoes: what its name says.\nHelps: {reason}\nSafety: {safety}.\n",
        assess=_never,
    )
    fit = Fit(reason=reason, gain=gain, parameters=parameters or {}, by_hand=by_hand)
    return Advice(mitigation=mitigation, finding=finding, fit=fit)


PREPARATION = Finding(
    rule="cpu-preparation",
    phase="data_loading",
    cause="cpu_preparation",
    share=0.61,
    low=0.59,
    high=0.63,
    evidence="The training thread prepares its own batches: 23.2 ms in __getitem__ per batch,"
    " 97 % of it CPU time.",
    where="train.py:41",
)


def loader_advice() -> tuple[Advice, ...]:
    return (
        advice(
            "loader-workers",
            PREPARATION,
            title="Prepare batches in worker processes",
            gain=Gain(low=1.4, high=2.1, model="a loader with 2 workers on 2 free cores"),
            safety="reseeded",
            parameters={"num_workers": 2, "persistent_workers": True},
            by_hand="loader = DataLoader(\n    dataset,\n    batch_size=32,\n    num_workers=2,\n"
            "    persistent_workers=True,\n)",
            reason="2 cores are idle while the training thread prepares 24.8 ms of each step"
            " itself.",
            source="Composer and Plumber: input pipelines left at 0 workers.",
        ),
        advice(
            "faster-decode",
            PREPARATION,
            title="Decode JPEG files at the size you need",
            gain=Gain(low=1.15, high=1.3, model="Amdahl on 11 ms of decoding"),
            safety="rounding",
            how="patch",
            by_hand="image.draft('RGB', (256, 256))",
            reason="Decoding full-size files takes 11.0 of 24.8 ms.",
        ),
        advice(
            "resize-offline",
            PREPARATION,
            title="Store the images at training size",
            gain=None,
            safety="changes_training",
            how="advice",
            action="restrict",
            component="data",
            by_hand="mogrify -resize 256x256^ data/**/*.jpg",
            reason="Files average 1600 px; the transforms keep 224.",
        ),
        advice(
            "channels-last",
            PREPARATION,
            title="Keep images in channels-last memory",
            gain=Gain(low=1.0, high=1.04, model="Amdahl on convolution"),
            safety="rounding",
            reason="Convolution is 69 % of compute.",
        ),
    )


def view(run: Run, finding: Finding | None, sentence: str, *advised: Advice) -> View:
    findings = () if finding is None else (finding,)
    judgement = Judgement(verdict=Verdict(finding=finding, sentence=sentence), findings=findings)
    return View(run=run, judgement=judgement, advice=advised, ceilings=ceilings(run))


def loader_bound() -> View:
    sentence = (
        "Data loading takes 61 % of each step: the training thread prepares the batches itself."
    )
    return view(run(), PREPARATION, sentence, *loader_advice())


def balanced() -> View:
    even = phases(41.2, 0.08, 0.0, 0.84, 0.0, 0.06, 0.02)
    return view(
        run(phases=even),
        None,
        "Nothing stands out: compute takes 84 % of each step, and no other phase more than 8 %.",
    )


def no_steps() -> View:
    bare = run(
        steps=0,
        step_ms=None,
        series=None,
        phases=None,
        compute=None,
        host=None,
        outside=None,
        loaders=[],
        lines=[],
        timelines=[],
        ranks=[],
        step_definition=None,
        updates_per_step=None,
        batches_per_step=None,
        optimizers=[],
        models=[],
        garbage_ms=None,
        startup_s=None,
        warmup_steps=0,
        traced_steps=0,
        windows=0,
        input_kind=None,
        not_measured=[NotMeasured(what="step", why="no optimizer stepped and no loader was used")],
    )
    return view(
        bare, None, "No training step was seen: wrap the loop in speedprof.step() to name one."
    )


def unfinished() -> View:
    killed = run(
        finished=False, exit_status=None, wall_s=None, notes=["1 damaged frame was skipped"]
    )
    return view(killed, PREPARATION, "Data loading takes 61 % of each step.", *loader_advice()[:1])


def nothing_measured() -> View:
    bare = Run(
        folder="speedprof-runs/x",
        name="x",
        command=["x.py"],
        cwd="/",
        started_at=0.0,
        wall_s=None,
        finished=False,
        exit_status=None,
        not_measured=[NotMeasured(what="everything", why="no process was reached (python -I)")],
    )
    return view(bare, None, "Nothing was measured: no Python process was reached.")
