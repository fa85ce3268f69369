"""FLOPs of operators against the time of the kernels that they launched, and against the roof."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from run_folders import Folder, process, rows
from window_cases import AUTOGRAD, MAIN, Case

from speedprof.profiler.arithmetic import arithmetic
from speedprof.profiler.attribution import load
from speedprof.profiler.device_peaks import DevicePeaks, device_peaks
from speedprof.profiler.operators import bound
from speedprof.profiler.precision import precision
from speedprof.profiler.reduced import Arithmetic, ReducedWindow

TERA = 10**12
BF16, FP32 = "ampere_bf16_s16816gemm_bf16_128x64", "volta_sgemm_128x64_nn"
ROOF = DevicePeaks(
    device="Some GPU", tflops={"bf16": 100.0, "fp32": 10.0}, gb_per_s=1000.0, source="Vendor 2020"
)


def gpu(*boundaries: float) -> Case:
    return Case(list(boundaries), device="cuda")


def product(case: Case, at: float, ms: float, flops: int, *, kernel: str = BF16) -> Case:
    """Add an operator at a time, and its kernel a while later."""
    case.event("aten::mm", at, at + 1, flops=flops)
    return case.kernel(kernel, at + 2, at + 2 + ms, launched=at + 0.5)


def found(case: Case, folder: Path) -> dict[tuple[str, str], tuple[int, int, int]]:
    return by_kind(case.reduced(folder).arithmetic)


def by_kind(entries: list[Arithmetic]) -> dict[tuple[str, str], tuple[int, int, int]]:
    """Return ms of all, ms of the counted and FLOPs, by kind and precision."""
    return {
        (e.kind, e.precision): (round(e.ns / 1e6), round(e.counted_ns / 1e6), e.flops)
        for e in entries
    }


def test_a_kernel_has_the_flops_of_the_operator_that_launched_it(tmp_path: Path):
    case = product(gpu(0, 100), 10, 20, 7000)
    case.kernel("void vectorized_elementwise_kernel<4>", 40, 60, launched=39)
    assert found(case, tmp_path) == {("matmul", "bf16"): (20, 20, 7000)}


def test_flops_count_once_however_many_kernels_an_operator_launches(tmp_path: Path):
    case = gpu(0, 100).event("aten::convolution", 10, 20, flops=9000)
    case.kernel("void cudnn::ops::nchwToNhwcKernel<__half>", 30, 35, launched=12)
    case.kernel("volta_scudnn_128x64_relu_interior_nn_v1", 35, 65, launched=14)
    assert found(case, tmp_path) == {("convolution", "fp32"): (35, 35, 9000)}


def test_an_operator_inside_a_counted_one_does_not_count_again(tmp_path: Path):
    case = gpu(0, 100).event("aten::convolution", 10, 20, flops=500)
    case.event("aten::_convolution", 11, 19, flops=500).event("aten::mm", 12, 18, flops=500)
    case.kernel(FP32, 30, 40, launched=15)
    assert found(case, tmp_path) == {("convolution", "fp32"): (10, 10, 500)}


def test_threads_have_operators_of_their_own(tmp_path: Path):
    case = gpu(0, 100).event("aten::mm", 10, 30, flops=100)
    case.event("aten::bmm", 12, 28, thread=AUTOGRAD, flops=1000)
    case.kernel(FP32, 40, 45, launched=15, thread=AUTOGRAD)
    case.kernel(BF16, 45, 55, launched=16, thread=MAIN)
    assert found(case, tmp_path) == {
        ("matmul", "fp32"): (5, 5, 1000),
        ("matmul", "bf16"): (10, 10, 100),
    }


def test_without_a_runtime_call_the_external_id_names_the_operator(tmp_path: Path):
    case = gpu(0, 100).event("aten::mm", 10, 11, flops=100, linked=7)
    case.kernel(FP32, 40, 45, linked=7)
    case.kernel(FP32, 50, 60)
    assert found(case, tmp_path) == {("matmul", "fp32"): (15, 5, 100)}


def test_what_runs_outside_the_steps_is_left_out(tmp_path: Path):
    case = product(product(gpu(0, 100), 10, 20, 50), 150, 20, 70)
    case.event("aten::mm", -30, -20, flops=900).kernel(BF16, -15, -5, launched=-25)
    assert found(case, tmp_path) == {("matmul", "bf16"): (20, 20, 50)}


def test_kernels_that_took_no_time_tell_nothing(tmp_path: Path):
    case = product(gpu(0, 100), 10, 0, 7000).kernel(FP32, 50, 60, launched=49)
    told, why = arithmetic([case.reduced(tmp_path)], ROOF, step_ms=100)
    assert told is None
    assert why is not None


def test_without_recorded_shapes_nothing_is_said(tmp_path: Path):
    case = gpu(0, 100).event("aten::mm", 10, 11).kernel(FP32, 20, 30, launched=10.5)
    assert case.reduced(tmp_path).arithmetic == []
    told, why = arithmetic([case.reduced(tmp_path)], ROOF, step_ms=100)
    assert told is None
    assert "record_shapes=True" in str(why)


def test_throughput_and_mfu_are_flops_against_kernel_time_and_step_time(tmp_path: Path):
    case = product(product(gpu(0, 100, 200), 0, 20, TERA), 100, 30, TERA)
    told, why = arithmetic([case.reduced(tmp_path)], ROOF, step_ms=100)
    assert why is None
    assert told is not None
    assert told.flops == TERA
    assert told.tflops_per_s == pytest.approx(2 / 0.05)
    assert told.mfu == pytest.approx(2 / 0.2 / 100)
    assert told.kinds["matmul"].of_peak == pytest.approx(0.4)
    assert (told.peaks, told.device, told.source) == ({"bf16": 100.0}, "Some GPU", "Vendor 2020")


def test_each_precision_is_held_against_its_own_roof(tmp_path: Path):
    case = product(gpu(0, 100), 0, 20, TERA)
    product(case, 50, 20, TERA // 10, kernel=FP32)
    told, _ = arithmetic([case.reduced(tmp_path)], ROOF, step_ms=100)
    assert told is not None
    assert told.mfu == pytest.approx((1 / 100 + 0.1 / 10) / 0.1)
    assert told.precisions == {"bf16": TERA, "fp32": TERA // 10}


def test_a_kernel_whose_name_tells_no_precision_goes_with_the_others(tmp_path: Path):
    case = product(product(gpu(0, 100), 0, 20, TERA), 50, 20, TERA, kernel="triton_tem_mm_1")
    told, _ = arithmetic([case.reduced(tmp_path)], ROOF, step_ms=100)
    assert told is not None
    assert told.mfu == pytest.approx(2 / 100 / 0.1)


def test_no_precision_anywhere_leaves_throughput_without_a_roof(tmp_path: Path):
    case = product(gpu(0, 100), 0, 20, TERA, kernel="triton_tem_mm_1")
    told, why = arithmetic([case.reduced(tmp_path)], ROOF, step_ms=100)
    assert told is not None
    assert told.mfu is None
    assert told.tflops_per_s == pytest.approx(50)
    assert "precision" in str(why)


@pytest.mark.parametrize(("roof", "says"), [(None, "roof"), (replace(ROOF, tflops={}), "bf16")])
def test_a_device_without_a_known_roof_has_throughput_alone(tmp_path: Path, roof, says):
    told, why = arithmetic(
        [product(gpu(0, 100), 0, 20, TERA).reduced(tmp_path)], roof, step_ms=100
    )
    assert told is not None
    assert (told.mfu, told.peaks, told.kinds["matmul"].of_peak) == (None, {}, None)
    assert says in str(why)


@pytest.mark.parametrize(("uncounted", "enough"), [(19, True), (21, False)])
def test_flops_of_less_than_half_of_the_products_time_are_not_enough(tmp_path, uncounted, enough):
    case = product(gpu(0, 100), 0, 20, TERA)
    case.kernel("fmha_cutlassF_bf16_aligned", 60, 60 + uncounted, launched=55)
    told, why = arithmetic([case.reduced(tmp_path)], ROOF, step_ms=100)
    assert (told is not None) == enough
    assert enough or "not enough recorded" in str(why)
    assert told is None or told.coverage == pytest.approx(20 / 39)


def test_products_far_below_the_roof_are_not_called_bound_by_arithmetic():
    times = {"matmul": 80.0, "elementwise": 20.0}
    assert bound(times, {"matmul": 0.6}) == "arithmetic"
    assert bound(times, {"matmul": 0.1}) is None
    assert bound({"matmul": 30.0, "elementwise": 70.0}, {"matmul": 0.1}) == "memory_bandwidth"
    assert bound(times, {"attention": 0.1}) == "arithmetic"


def run_with(folder: Path, case: Case, **about: object):
    made = Folder(folder, warmup=0)
    made.record(rows([100.0] * 4), about=process(device="cuda", **about))
    return load(made.window(case).end().path)


def training(flops: int) -> Case:
    case = gpu(0, 100, 200)
    for at in (0, 100):
        case.probe("backward", at + 10, at + 20).probe("optimizer", at + 25, at + 28)
        product(case, at, 60, flops)
    return case


def test_a_run_knows_its_mfu_by_the_name_of_its_device(tmp_path: Path):
    run = run_with(tmp_path, training(TERA), device_name="NVIDIA A100-SXM4-40GB")
    assert run.compute is not None
    assert run.compute.arithmetic is not None
    assert run.compute.arithmetic.mfu == pytest.approx(1 / 312 / 0.1)
    assert run.compute.bound is None  # 17 of 312 TFLOP/s: not the arithmetic units
    assert not {"arithmetic", "MFU"} & {gap.what for gap in run.not_measured}


def test_a_run_says_why_it_knows_no_mfu(tmp_path: Path):
    unknown = run_with(tmp_path / "a", training(TERA), device_name="Some GPU of tomorrow")
    without = run_with(tmp_path / "b", training(0), device_name="NVIDIA A100-SXM4-40GB")
    told = [{gap.what: gap.why for gap in run.not_measured} for run in (unknown, without)]
    assert "no published roof" in told[0]["MFU"]
    assert "shapes" in told[1]["arithmetic"]
    assert without.compute is not None
    assert without.compute.arithmetic is None
    assert without.compute.bound == "arithmetic"  # by the names of the kernels, as ever


KERNELS = {
    "fp8": ["sm90_xmma_gemm_e4m3bf16_e4m3f32_f32_tn_n", "nvjet_qqtst_128x128_128x6_h_bz"],
    "bf16": [
        "ampere_bf16_s16816gemm_bf16_128x64_ldg8_f2f_stages_64x3_tn",
        "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64",
        "void cutlass::Kernel2<cutlass_75_tensorop_bf16_s1688gemm_bf16_128x128_nn_align1>",
        "nvjet_tst_128x256_64x4_1x2_h_bz_coopA_NNT",
        "Cijk_Alik_Bljk_BBS_BH_Bias_HA_S_SAV_UserArgs_MT256x192x64",
        "igemm_wrw_gtcx3_nhwc_bf16_bx0_ex1_bt64x64x64",
        "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, cutlass::bfloat16_t>",
    ],
    "fp16": [
        "volta_fp16_s884gemm_fp16_128x64_ldg8_f2f_tn",
        "volta_h884gemm_64x64_ldg8_nn",
        "turing_fp16_s1688cudnn_fp16_128x128_ldg8_relu_f2f_exp_small_nhwc2nchw_tn_v1",
        "sm80_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize128x128x32",
        "fmha_cutlassF_f16_aligned_64x64_rf_sm80",
        "nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NNT",
        "Cijk_Ailk_Bljk_HHS_BH_Bias_HAS_SAV_UserArgs_MT16x64x64",
    ],
    "tf32": [
        "void cutlass::Kernel<cutlass_80_tensorop_s1688gemm_128x128_16x4_nt_align1>",
        "sm80_xmma_dgrad_implicit_gemm_tf32f32_tf32f32_f32_nhwckrsc_nhwc_tilesize128x128x16",
        "cutlass_tensorop_s1688dgrad_optimized_tf32_128x128_16x4_nhwc_unity_stride_align4",
    ],
    "fp32": [
        "volta_sgemm_128x64_nn",
        "cudnn_infer_volta_scudnn_128x64_relu_xregs_large_nn_v1",
        "void cudnn::detail::dgrad_engine<float, 128, 6, 7, 3, 3, 5, false>",
        "Cijk_Alik_Bljk_SB_Bias_AS_SAV_UserArgs_MT64x16x32_MI16x16x1_SN_LDSB0",
        "miopenSp3AsmConv_v30_3_1_gfx9_fp32_f2x3_stride1",
    ],
    "fp64": ["volta_dgemm_64x64_nn", "Cijk_Ailk_Bljk_DB_MT64x64x16"],
    None: ["Kernel", "triton_tem_fused_mm_3", "attn_fwd"],
}


@pytest.mark.parametrize("expected", KERNELS)
def test_a_kernels_name_tells_its_precision(expected: str | None):
    assert {name: precision(name) for name in KERNELS[expected]} == dict.fromkeys(
        KERNELS[expected], expected
    )


def test_several_windows_are_taken_together(tmp_path: Path):
    windows: list[ReducedWindow] = [
        product(gpu(0, 100), 0, 20, TERA).reduced(tmp_path),
        product(gpu(0, 300), 0, 20, 2 * TERA).reduced(tmp_path),
    ]
    told, _ = arithmetic(windows, device_peaks("NVIDIA H100 80GB HBM3"), step_ms=200)
    assert told is not None
    assert told.flops == 1.5 * TERA
    assert told.mfu == pytest.approx(3 / 989.4 / 0.4)
