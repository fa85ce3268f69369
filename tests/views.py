"""Views for report tests.

Runs as they turn out on real machines, with a judgement and advice written out.
"""

from __future__ import annotations

import random

import msgspec

from speedprof.advisor.finding import Finding, Verdict
from speedprof.advisor.judgement import Judgement
from speedprof.mitigations.catalogue import Advice
from speedprof.mitigations.mitigation import Fit, Gain, Misfit, Mitigation
from speedprof.profiler.run import (
    PHASES,
    Bar,
    Compute,
    Environment,
    GpuSample,
    Host,
    Lane,
    Line,
    Loader,
    Machine,
    Model,
    NotMeasured,
    Operator,
    Optimizer,
    Outside,
    Phase,
    Rank,
    Run,
    Sample,
    StepSeries,
    StepTimes,
    Timeline,
    Transform,
)
from speedprof.reports.view import View

HOSTILE = (
    "\"'></script><script>alert(1)</script>\n\x1b[31mred\x1b[0m\x07\u202eevil\udcff${x}$é漢 & <b>"
)


def phases(step_ms: float, *shares: float) -> dict[str, Phase]:
    return {
        name: Phase(
            share=share,
            low=max(share - 0.02, 0.0),
            high=min(share + 0.02, 1.0),
            ms=share * step_ms,
        )
        for name, share in zip(PHASES, shares, strict=True)
    }


def step_times(mean_ms: float, count: int = 312, batch: int = 32) -> StepTimes:
    return StepTimes(
        count=count,
        mean_ms=mean_ms,
        median_ms=mean_ms * 0.985,
        p10_ms=mean_ms * 0.95,
        p90_ms=mean_ms * 1.12,
        samples_per_s=batch * 1000 / mean_ms,
        low_ms=mean_ms * 0.98,
        high_ms=mean_ms * 1.02,
    )


def series(points: int, wall_ms: float, wait_ms: float) -> StepSeries:
    draw = random.Random(7)
    wall = [wall_ms * draw.lognormvariate(0, 0.06) for _ in range(points)]
    wall[:3] = [wall_ms * 4, wall_ms * 2, wall_ms * 1.5]
    starts = [0.0]
    for one in wall[:-1]:
        starts.append(starts[-1] + one / 1000)
    return StepSeries(
        start_s=starts,
        wall_ms=wall,
        input_wait_ms=[min(one, wait_ms * draw.uniform(0.8, 1.2)) for one in wall],
        outside_ms=[0.0 if k % 100 else wall_ms * 0.4 for k in range(points)],
        traced=[k % 150 in range(40, 46) for k in range(points)],
    )


def samples(count: int, gpus: int = 0, cpu: float = 0.6) -> list[Sample]:
    draw = random.Random(11)
    return [
        Sample(
            at_s=k * 0.25,
            cpu=min(1.0, cpu * draw.uniform(0.9, 1.2)),
            tree_cpu=min(1.0, cpu * draw.uniform(0.8, 1.0)),
            memory_bytes=int(2.1e9 + 4e6 * k),
            available_bytes=int(9e9 - 4e6 * k),
            read_bytes_per_s=draw.uniform(20e6, 40e6),
            write_bytes_per_s=draw.uniform(0, 2e6),
            sent_bytes_per_s=draw.uniform(0, 1e6),
            received_bytes_per_s=draw.uniform(0, 1e6),
            gpus=[
                GpuSample(
                    index=g,
                    utilisation=min(1.0, draw.uniform(0.5, 0.9)),
                    memory_bytes=int(41e9),
                    pcie_received_bytes_per_s=draw.uniform(2e9, 5e9),
                    sm_mhz=1755,
                    power_w=draw.uniform(380, 540),
                )
                for g in range(gpus)
            ],
        )
        for k in range(count)
    ]


def machine(node: str = "lab-3", *, gpus: int = 0, cpu: float = 0.6, count: int = 120) -> Machine:
    return Machine(
        node=node,
        cpu="AMD EPYC 9354 32-Core Processor",
        cores=16,
        memory_bytes=128 << 30,
        gpus=["NVIDIA H200"] * gpus,
        samples=samples(count, gpus, cpu),
        cpu_load=cpu,
        other_load=0.03,
    )


def loader(**changes: object) -> Loader:
    return msgspec.structs.replace(
        Loader(
            number=0,
            role="training",
            where="train.py:41",
            dataset="ImageFolder",
            iterable=False,
            length=9984,
            batch_size=32,
            num_workers=0,
            pin_memory=False,
            persistent_workers=False,
            prefetch_factor=None,
            start_method=None,
            batches=312,
            iterations=1,
            explicit=["batch_size", "shuffle"],
            picklable=True,
            wait_ms=25.1,
            startup_ms=1.8,
            first_batch_ms=31.0,
            batch_bytes=32 * 3 * 224 * 224 * 4,
            getitem_ms=23.2,
            getitem_cpu_ms=22.4,
            collate_ms=1.6,
            collate_cpu_ms=1.6,
            queued_ms=0.2,
            storage_wait_ms=0.6,
            read_bytes=3.4e6,
            disk_bytes=0.0,
            transforms=[
                Transform(name="RandomResizedCrop", ms_per_sample=0.31, calls=9984),
                Transform(name="RandomHorizontalFlip", ms_per_sample=0.02, calls=9984),
                Transform(name="ToTensor", ms_per_sample=0.09, calls=9984),
                Transform(name="Normalize", ms_per_sample=0.05, calls=9984),
            ],
        ),
        **changes,
    )


OPERATORS = [
    Operator(name="aten::convolution_backward", kind="convolution", ms=4.1, calls=20),
    Operator(name="aten::mkldnn_convolution", kind="convolution", ms=2.6, calls=20),
    Operator(name="aten::native_batch_norm", kind="normalisation", ms=0.9, calls=20),
    Operator(name="aten::threshold_backward", kind="elementwise", ms=0.5, calls=17),
    Operator(name="aten::_foreach_add_", kind="optimizer", ms=0.4, calls=4),
    Operator(name="aten::addmm", kind="matmul", ms=0.2, calls=1),
]
COMPUTE = Compute(
    forward_ms=3.9,
    backward_ms=5.3,
    optimizer_ms=0.6,
    kinds={
        "convolution": 6.7,
        "normalisation": 1.3,
        "elementwise": 0.9,
        "optimizer": 0.5,
        "matmul": 0.2,
        "other": 0.2,
    },
    operators=OPERATORS,
    operators_per_step=412,
    bound="arithmetic",
)
LINES = [
    Line(
        where="train.py:41",
        function="<listcomp>",
        phase="data_loading",
        kind="batches",
        share=0.48,
        ms=19.8,
        code="images, labels = next(batches)",
    ),
    Line(
        where="train.py:58",
        function="train",
        phase="host",
        kind="python",
        share=0.03,
        ms=1.2,
        code="history.append(float(loss))",
    ),
    Line(
        where="train.py:66",
        function="save",
        phase="outside",
        kind="checkpoint",
        share=0.02,
        ms=0.8,
        code="torch.save(model.state_dict(), path)",
    ),
]
ENVIRONMENT = Environment(
    python="3.12.4",
    torch="2.11.0",
    cuda="13.0",
    torchvision="0.26.0",
    threads=8,
    flags={"tf32": "off", "cudnn.benchmark": "off", "OMP_NUM_THREADS": "8"},
)


def _timeline(wall: float, *bars: tuple[str, float, float, str, str], rank: int = 0) -> Timeline:
    lanes: dict[str, list[Bar]] = {}
    for lane, start, end, phase, label in bars:
        lanes.setdefault(lane, []).append(
            Bar(start_ms=start * wall, end_ms=end * wall, phase=phase, label=label)
        )
    named = [Lane(name=name, bars=items) for name, items in lanes.items()]
    return Timeline(rank=rank, step=45, wall_ms=wall, lanes=named)


def run(**changes: object) -> Run:
    """Return a loader-bound run on a CPU, with some of it changed."""
    wall = 41.2
    timeline = _timeline(
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
        timelines=[timeline],
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
    return View(run=run, judgement=judgement, advice=advised)


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
