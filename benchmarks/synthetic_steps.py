"""One step of a training that never was, as a trace's text with holes for times and numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

LAYERS = 100  # of the model, unless told otherwise: about 3,000 events a step
HOST, AUTOGRAD, DEVICE = 4242, 4243, 0  # the process, autograd's thread, the device
COMPUTE_STREAM, COLLECTIVE_STREAM = 7, 20
BATCH_BYTES, GRADIENT_ELEMENTS = 64 * 3 * 224 * 224 * 4, 25_000_000
LATE_US = 2_000.0  # the rank that is last: so much later than rank 0
LAUNCH_US, LATENCY_US, KERNEL_US, TRANSFER_US = 4.0, 3.0, 12.0, 900.0
KERNELS = {
    "aten::addmm": "ampere_sgemm_128x64_tn",
    "aten::relu": (
        "void at::native::vectorized_elementwise_kernel<4, at::native::(anonymous namespace)::"
        "launch_clamp_scalar(at::TensorIteratorBase&, c10::Scalar, c10::Scalar, at::native::"
        "detail::ClampLimits)::{lambda()#1}::operator()() const::{lambda()#7}, at::detail::"
        "Array<char*, 2> >(int, std::array<char*, 2ul>)"
    ),
    "aten::mm": "ampere_sgemm_64x32_sliced1x4_nt",
    "aten::threshold_backward": (
        "void at::native::vectorized_elementwise_kernel<4, at::native::(anonymous namespace)::"
        "threshold_kernel_impl<float>(at::TensorIteratorBase&, float, float)::"
        "{lambda(float, float)#1}, at::detail::Array<char*, 3> >(int, std::array<char*, 3ul>)"
    ),
    "aten::_foreach_add_": (
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<at::native::(anonymous "
        "namespace)::TensorListMetadata<2>, at::native::(anonymous namespace)::BinaryOpListAlpha"
        "Functor<float, 2, 2, 0>, std::plus<float>, float>(...)"
    ),
}
ALL_REDUCE = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)"
LOADER = "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__"


@dataclass(frozen=True, kw_only=True)
class Training:
    """What the trace is of."""

    layers: int = LAYERS
    rank: int = 0
    world_size: int = 1

    @property
    def late_us(self) -> float:
        """Return how much later than rank 0 this rank's batch comes, evenly spread."""
        return LATE_US * self.rank / max(self.world_size - 1, 1)


@dataclass
class Step:
    """One step as text with holes for its numbers, and what each hole grows by from step to step.

    Times are us since the step began.
    """

    texts: list[str] = field(default_factory=list)
    holes: list[float] = field(default_factory=list)
    grow: list[str] = field(default_factory=list)
    ids: int = 0
    launches: int = 0
    host: float = 0.0
    device: float = 0.0
    thread: int = HOST

    def hole(self, value: float, kind: str) -> None:
        self.holes.append(value)
        self.grow.append(kind)

    def event(self, category: str, name: str, start: float, lasts: float, rest: str = "") -> None:
        """Add an event of the current thread; `rest` is what its args say beside its id."""
        self.ids += 1
        self.texts.append(
            f'{{"ph": "X", "cat": "{category}", "name": "{name}", "pid": {HOST}, '
            f'"tid": {self.thread}, "ts": %.3f, "dur": {lasts:.3f}, '
            f'"args": {{"External id": %d, "Record function id": 0, "Ev Idx": %d{rest}}}}}'
        )
        self.hole(start, "time")
        self.hole(self.ids, "id")
        self.hole(self.ids, "id")

    def operator(self, name: str, lasts: float, rest: str = "") -> None:
        self.event("cpu_op", name, self.host, lasts, rest)

    def launched(self, category: str, name: str, lasts: float, said: str, call: str) -> None:
        """Add a runtime call, what it starts on the device, and the arrow between them."""
        self.launches += 1
        stream = COLLECTIVE_STREAM if "nccl" in name else COMPUTE_STREAM
        began = max(self.device, self.host + LAUNCH_US + LATENCY_US)
        self.device = began + lasts
        common = '"External id": %d, "correlation": %d'
        self.texts.append(
            f'{{"ph": "X", "cat": "cuda_runtime", "name": "{call}", "pid": {HOST}, '
            f'"tid": {self.thread}, "ts": %.3f, "dur": {LAUNCH_US:.3f}, '
            f'"args": {{{common}, "cbid": 211}}}}'
        )
        self.hole(self.host, "time")
        self._ids()
        self.texts.append(
            f'{{"ph": "X", "cat": "{category}", "name": "{name}", "pid": {DEVICE}, '
            f'"tid": {stream}, "ts": %.3f, "dur": {lasts:.3f}, "args": {{{common}, '
            f'"device": {DEVICE}, "context": 1, "stream": {stream}, {said}}}}}'
        )
        self.hole(began, "time")
        self._ids()
        for phase, at, process, thread in (
            ("s", self.host, HOST, self.thread),
            ("f", began, DEVICE, stream),
        ):
            binding = ', "bp": "e"' if phase == "f" else ""
            self.texts.append(
                f'{{"ph": "{phase}", "id": %d, "pid": {process}, "tid": {thread}, "ts": %.3f, '
                f'"cat": "ac2g", "name": "ac2g"{binding}}}'
            )
            self.hole(self.launches, "launch")
            self.hole(at, "time")
        self.host += LAUNCH_US

    def kernel(self, operator: str) -> None:
        said = (
            '"queued": 0, "registers per thread": 32, "shared memory": 0, "blocks per SM": 4.0, '
            '"grid": [432, 1, 1], "block": [128, 1, 1], "est. achieved occupancy %%": 41'
        )
        self.launched("kernel", KERNELS[operator], KERNEL_US, said, "cudaLaunchKernel")

    def _ids(self) -> None:
        self.hole(self.ids, "id")
        self.hole(self.launches, "launch")


def layout(training: Training) -> tuple[Step, float]:
    """Return one step and how long it is, us."""
    step = Step()
    _batch(step, training)
    for layer in range(training.layers):
        _forward(step, layer)
    step.thread = AUTOGRAD
    for _ in range(training.layers):
        _backward(step)
    if training.world_size > 1:
        _all_reduce(step, training)
    step.thread = HOST
    step.host += 5.0
    _optimizer(step)
    # all ranks' steps are as long as that of the last of them; its host is so much later
    later_us = LATE_US - training.late_us if training.world_size > 1 else 0.0
    length = max(step.host + later_us, step.device) + 50.0
    number = step.ids + 1
    step.ids = number
    step.texts.append(
        f'{{"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#%d", "pid": {HOST}, '
        f'"tid": {HOST}, "ts": %.3f, "dur": {length - 1.0:.3f}, '
        f'"args": {{"External id": %d, "Record function id": 0, "Ev Idx": %d}}}}'
    )
    step.hole(0, "step")
    step.hole(0.0, "time")
    step.hole(number, "id")
    step.hole(number, "id")
    return step, length


def _batch(step: Step, training: Training) -> None:
    wait = 300.0 + training.late_us
    step.host += 1.0
    step.event("user_annotation", LOADER, step.host, wait)
    step.host += wait + 2.0
    step.operator("aten::to", 40.0)
    step.host += 1.0
    step.operator("aten::copy_", 30.0)
    step.host += 1.0
    said = f'"bytes": {BATCH_BYTES}, "memory bandwidth (GB/s)": 24.1'
    lasts = BATCH_BYTES / 24.1e3
    step.launched("gpu_memcpy", "Memcpy HtoD (Pinned -> Device)", lasts, said, "cudaMemcpyAsync")
    step.host += 20.0


def _forward(step: Step, layer: int) -> None:
    name = f"torch/nn/modules/module.py(1501): _call_impl of the model's Linear_{layer}"
    step.event("python_function", name, step.host, 34.0, f', "Python id": {layer}')
    shapes = (
        ', "Concrete Inputs": ["", "", "", "1", "1"], "Input type": ["float", "float", "float"], '
        '"Input Dims": [[1024], [64, 1024], [1024, 1024], [], []]'
    )
    step.operator("aten::linear", 20.0)
    step.host += 1.0
    step.operator("aten::t", 2.0)
    step.host += 3.0
    step.operator("aten::addmm", 12.0, shapes)
    step.host += 2.0
    step.kernel("aten::addmm")
    step.host += 6.0
    step.operator("aten::relu", 9.0)
    step.host += 2.0
    step.kernel("aten::relu")
    step.host += 8.0


def _backward(step: Step) -> None:
    node = "autograd::engine::evaluate_function: ReluBackward0"
    step.operator(node, 16.0, ', "Sequence number": 77, "Fwd thread id": 1')
    step.host += 1.0
    step.operator("aten::threshold_backward", 12.0)
    step.host += 1.0
    step.kernel("aten::threshold_backward")
    step.host += 12.0
    node = "autograd::engine::evaluate_function: AddmmBackward0"
    step.operator(node, 30.0, ', "Sequence number": 76, "Fwd thread id": 1')
    for _ in range(2):
        step.host += 1.0
        step.operator("aten::mm", 10.0, ', "Input Dims": [[64, 1024], [1024, 1024]]')
        step.host += 1.0
        step.kernel("aten::mm")
        step.host += 6.0
    step.host += 8.0


def _all_reduce(step: Step, training: Training) -> None:
    """Add the collective; it ends on all ranks at once, when the last one has come and sent."""
    members = "[" + ", ".join(str(rank) for rank in range(training.world_size)) + "]"
    common = (
        f'"Collective name": "allreduce", "dtype": "Float", "In msg nelems": {GRADIENT_ELEMENTS}, '
        f'"Group size": {training.world_size}, "Process Group Name": "0", '
        f'"Process Group Ranks": "{members}"'
    )
    step.operator("record_param_comms", 14.0, ", " + common)
    step.host += 2.0
    lasts = LATE_US - training.late_us + TRANSFER_US
    step.launched("kernel", ALL_REDUCE, lasts, common, "cudaLaunchKernelExC")
    step.host += 10.0


def _optimizer(step: Step) -> None:
    step.event("user_annotation", "Optimizer.step#AdamW.step", step.host, 160.0)
    for _ in range(8):
        step.host += 2.0
        step.operator("aten::_foreach_add_", 12.0)
        step.host += 2.0
        step.kernel("aten::_foreach_add_")
        step.host += 8.0
    step.host += 60.0
    step.event("user_annotation", "Optimizer.zero_grad#AdamW.zero_grad", step.host, 8.0)
    step.host += 10.0
