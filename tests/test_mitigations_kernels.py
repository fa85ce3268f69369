"""Remedies of compute and host: what they ask of a run, and the lines that they write."""

from __future__ import annotations

import ast

import pytest
import remedies_compute
import remedies_host
import remedies_memory
import runs
from case_runs import flagged, hosting
from msgspec.structs import replace
from test_mitigations import assess, finding

from speedprof.mitigations.catalogue import find
from speedprof.mitigations.compute import products
from speedprof.mitigations.host.create_on_device import created_there
from speedprof.mitigations.kernel_gains import MOST_SPREAD
from speedprof.mitigations.mitigation import Fit, Misfit
from speedprof.profiler.roofs.roofs import Level, Processor, Roofs
from speedprof.profiler.run import Arithmetic, ArithmeticKind, Environment, Operator, Run

OURS = remedies_compute.APPLIES | remedies_host.APPLIES | remedies_memory.APPLIES
EACH = pytest.mark.parametrize("name", OURS)
WHOLE = remedies_compute.WHOLE
A100 = "NVIDIA A100-SXM4-80GB"


def fitting(name: str, run: Run) -> Fit:
    fit = assess(name, run)
    assert isinstance(fit, Fit), fit
    return fit


def level(rate: float) -> Level:
    return Level(best=rate, median=rate, worst=rate, repeats=3)


def with_roofs(fp32: float, bf16: float) -> Run:
    processor = Processor(name="a GPU", matmul_tflops={"fp32": level(fp32), "bf16": level(bf16)})
    roofs = Roofs(machine="m", node="node0", cores=16.0, gpu=processor)
    return flagged(WHOLE, models=[runs.model()], roofs=roofs)


@EACH
def test_the_lines_to_write_are_python_or_shell(name: str) -> None:
    lines = fitting(name, OURS[name]()).by_hand.splitlines()
    shell = ("export ", "unset ")
    ast.parse("\n".join(line for line in lines if not line.startswith(shell)))


@EACH
def test_a_range_is_narrow_enough_to_say_something(name: str) -> None:
    gain = fitting(name, OURS[name]()).gain
    assert gain is not None
    assert gain.high <= MOST_SPREAD * gain.low * (1 + 1e-9)


@EACH
def test_a_remedy_goes_only_with_and_after_others_of_the_catalogue(name: str) -> None:
    remedy = find(name)
    for other in (*remedy.conflicts, *remedy.after):
        assert find(other) is not remedy


@EACH
def test_conflicts_are_mutual(name: str) -> None:
    for other in find(name).conflicts:
        assert name in find(other).conflicts


def test_measured_roofs_say_how_much_faster_half_precision_is() -> None:
    slowest, fastest = products.faster(with_roofs(50.0, 400.0), "matmul", "bf16")
    assert fastest == pytest.approx(8.0)
    assert slowest == pytest.approx(8.0**0.5)


def test_published_roofs_are_taken_where_none_were_measured() -> None:
    run = flagged(WHOLE, name=A100)
    assert products.faster(run, "matmul", "bf16")[1] == pytest.approx(0.75 * 16)
    assert products.faster(run, "matmul", "tf32")[1] == pytest.approx(0.75 * 8)


def test_convolutions_run_in_tf32_unless_the_script_says_otherwise() -> None:
    assert products.now(flagged({"cudnn.allow_tf32": "True"}), "convolution") == "tf32"
    assert products.now(flagged({"cudnn.allow_tf32": "False"}), "convolution") == "fp32"
    assert products.now(flagged({}), "convolution") is None


def test_bf16_gains_less_where_tf32_is_on_already() -> None:
    low = {"float32_matmul_precision": "high", "autocast": "off"}
    whole = fitting("bf16-autocast", flagged(WHOLE | {"autocast": "off"}, name=A100))
    tf32 = fitting("bf16-autocast", flagged(low, name=A100))
    assert whole.gain is not None
    assert tf32.gain is not None
    assert tf32.gain.high < whole.gain.high
    assert "was not recorded" not in whole.reason


def test_tf32_is_turned_on_for_convolutions_only_where_it_was_turned_off() -> None:
    run = remedies_compute.imaging(WHOLE | {"cudnn.allow_tf32": "False"})
    fit = fitting("tf32", run)
    assert "torch.backends.cudnn.allow_tf32 = True" in fit.by_hand
    assert "cudnn" not in fitting("tf32", flagged(WHOLE)).by_hand


def test_a_model_whose_batches_change_shape_is_compiled_for_changing_shapes() -> None:
    fixed = fitting("compile-model", remedies_compute.imaging(batch=remedies_compute.FIXED))
    varied = fitting("compile-model", remedies_compute.imaging(batch=remedies_compute.VARIED))
    assert "torch.compile(model)" in fixed.by_hand
    assert "torch.compile(model, dynamic=True)" in varied.by_hand


def test_a_vocabulary_is_rounded_up_to_the_next_multiple_of_64() -> None:
    lines = fitting("padded-dimensions", remedies_compute.odd([1000, 50257])).by_hand
    assert lines.splitlines()[0].startswith("50304  # instead of 50257")
    assert lines.splitlines()[1].startswith("1024  # instead of 1000")


@pytest.mark.parametrize(
    ("code", "there"),
    [
        ("x = torch.zeros(3, 4).to(device)", "x = torch.zeros(3, 4, device=device)"),
        ("x = torch.arange(n).cuda()", "x = torch.arange(n, device='cuda')"),
        ("x = torch.ones(3).to('cuda') + y", "x = torch.ones(3, device='cuda') + y"),
        (
            "f(torch.rand(2).to(self.device, non_blocking=True))",
            "f(torch.rand(2, device=self.device))",
        ),
        ("x = torch.eye(3).to(device=x.device)", "x = torch.eye(3, device=x.device)"),
        ("x = torch.zeros(3, device='cpu').to(device)", None),
        ("x = torch.zeros(3).to(other)", None),
        ("x = torch.zeros(3).to(device, torch.float16)", None),
        ("x = torch.zeros(3).to(device, dtype=half)", None),
        ("x = torch.tensor([1, 2]).to(device)", None),
        ("for x in torch.zeros(3).to(device):", None),
    ],
)
def test_a_line_that_copies_a_new_tensor_makes_it_on_its_device(
    code: str, there: str | None
) -> None:
    assert created_there(code) == there


def test_deterministic_algorithms_are_named_as_a_cost_but_not_switched_off() -> None:
    flags = remedies_host.CHECKED | {"deterministic_algorithms": "True"}
    fit = fitting("no-debugging", hosting(environment=Environment(flags=flags)))
    assert "deterministic algorithms cost time, too" in fit.reason
    assert "deterministic" not in fit.by_hand
    alone = {"anomaly_detection": "False", "deterministic_algorithms": "True"}
    assert isinstance(
        assess("no-debugging", hosting(environment=Environment(flags=alone))), Misfit
    )


def test_each_debugging_switch_is_blamed_for_what_it_slows_down() -> None:
    flags = remedies_host.CHECKED | {
        "CUDA_LAUNCH_BLOCKING": "1", "TORCH_DISTRIBUTED_DEBUG": "DETAIL", "profilers": "cProfile",
    }  # fmt: skip
    run = hosting(environment=Environment(flags=flags))
    fit = fitting("no-debugging", run)  # Python's time
    assert "anomaly_detection" in fit.reason
    assert "cProfile" in fit.reason
    assert "CUDA_LAUNCH_BLOCKING" not in fit.reason
    assert "TORCH_DISTRIBUTED_DEBUG" not in fit.reason


def test_looking_for_nan_costs_a_part_of_the_backward_pass() -> None:
    environment = Environment(flags=remedies_host.CHECKED)
    run = runs.run(compute=runs.compute(backward_ms=40.0), environment=environment)
    answer = find("no-debugging").assess(run, finding("bf16-autocast", run))
    assert isinstance(answer, Fit)
    assert answer.gain is not None
    assert answer.gain.low == pytest.approx(1 / 0.96)
    assert answer.gain.high == pytest.approx(1 / 0.8)


@pytest.mark.parametrize("layer", ["LayerNorm", "GroupNorm"])
def test_the_written_norm_computes_the_same_in_autocasts_type(layer: str) -> None:
    torch = pytest.importorskip("torch")
    fit = fitting("low-precision-norm", remedies_compute.normalising(remedies_compute.HALF, layer))
    shape = (16,) if layer == "LayerNorm" else (4, 16)
    model = torch.nn.Sequential(getattr(torch.nn, layer)(*shape))
    inputs = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    before = model(inputs)
    exec(fit.by_hand, {"torch": torch, "model": model})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        after = model(inputs)
    assert after.dtype == torch.bfloat16
    assert torch.allclose(before, after.float(), atol=0.05)


def test_half_precision_is_not_advised_where_this_machine_was_measured_to_be_no_faster() -> None:
    misfit = assess("bf16-autocast", with_roofs(50.0, 45.0))
    assert isinstance(misfit, Misfit)
    assert "0.90 times as fast as fp32 here" in misfit.reason


def test_products_far_below_their_roof_gain_by_half_the_bytes_at_most() -> None:
    slow = ArithmeticKind(ms=60.0, counted_ms=60.0, flops=1e9, tflops_per_s=0.1, of_peak=0.1)
    counted = Arithmetic(
        flops=1e9, tflops_per_s=0.1, coverage=1.0, precisions={"fp32": 1e9},
        kinds={"matmul": slow},
    )  # fmt: skip
    inside = runs.compute("memory_bandwidth", arithmetic=counted)
    run = flagged(WHOLE, name=A100, compute=inside)
    assert products.faster(run, "matmul", "bf16") == (pytest.approx(2.0**0.5), 2.0)


@pytest.mark.parametrize(
    ("name", "flags"), [("Tesla V100-SXM2-16GB", {}), ("a GPU", {"cuda_capability": "7.5"})]
)
def test_before_ampere_half_precision_is_fp16_with_a_scaled_loss(
    name: str, flags: dict[str, str]
) -> None:
    fit = fitting("fp16-autocast", flagged(flags, name=name))
    assert "torch.float16" in fit.by_hand
    assert "GradScaler" in fit.by_hand


def test_since_ampere_half_precision_is_bf16() -> None:
    flags = {"cuda_capability": "8.0"}
    assert "bfloat16" in fitting("bf16-autocast", flagged(flags, name="a GPU")).by_hand
    assert "bfloat16" in fitting("bf16-autocast", flagged({}, name=A100)).by_hand


def test_a_gpu_without_tf32_computes_in_full_precision_whatever_the_switch_says() -> None:
    allowed = {"cudnn.allow_tf32": "True"}
    assert products.now(flagged(allowed, name="Tesla V100-SXM2-16GB"), "convolution") == "fp32"
    run = remedies_compute.imaging(allowed, name="Tesla V100-SXM2-16GB")
    misfit = assess("channels-last", run)
    assert isinstance(misfit, Misfit)
    assert "first lower the precision" in misfit.reason


@pytest.mark.parametrize(("enabled", "told"), [("math", True), ("flash, math", False)])
def test_fused_attention_is_enabled_where_the_script_turned_it_off(
    enabled: str, told: bool
) -> None:
    run = replace(remedies_compute.attending(), environment=Environment(flags={"sdpa": enabled}))
    assert ("enable_flash_sdp" in fitting("fused-attention", run).by_hand) is told


def test_heads_of_torch_are_told_not_to_return_their_weights() -> None:
    models = [runs.model(modules={"MultiheadAttention": 4})]
    run = replace(remedies_compute.attending(), models=models)
    assert "need_weights=False" in fitting("fused-attention", run).by_hand


def test_short_products_on_a_cpu_gain_little_in_half_precision() -> None:
    """A small GPT's products of 0.4 ms: 1.17x measured, where long ones gained 3.5x."""
    short, long = (
        runs.run(
            compute=runs.compute(
                operators=[Operator(name="aten::mm", kind="matmul", ms=90.0, calls=calls)]
            )
        )
        for calls in (200.0, 9.0)
    )
    assert products.faster(short, "matmul", "bf16")[0] == 1.0
    assert (
        products.faster(short, "matmul", "bf16")[1] == products.faster(long, "matmul", "bf16")[0]
    )
