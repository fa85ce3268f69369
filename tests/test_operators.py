"""Kinds of operators by name, their own time, and what limits them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speedprof.profiler.operators import KINDS, bound, kind, self_times

EXAMPLES = {
    "matmul": [
        "aten::addmm", "aten::mm", "aten::bmm", "aten::linear", "AddmmBackward0", "MmBackward0",
        "autograd::engine::evaluate_function: AddmmBackward0", "ampere_sgemm_128x64_tn",
        "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16>",
    ],
    "convolution": [
        "aten::convolution", "aten::mkldnn_convolution", "ConvolutionBackward0",
        "cudnn::cnn::wgrad2d_grouped_direct_kernel", "sm80_xmma_fprop_implicit_gemm",
    ],
    "attention": [
        "aten::scaled_dot_product_attention", "aten::_flash_attention_forward",
        "fmha_cutlassF_f32_aligned",
    ],
    "normalisation": [
        "aten::native_batch_norm", "aten::native_layer_norm", "NativeLayerNormBackward0",
        "cudnn::bn_fw_tr_1C11_kernel_NCHW",
    ],
    "elementwise": [
        "aten::add", "aten::mul_", "aten::relu", "aten::gelu", "aten::threshold_backward",
        "aten::clamp_min", "aten::dropout", "aten::max_pool2d", "aten::_foreach_add_",
        "void at::native::vectorized_elementwise_kernel<4, float>",
    ],
    "reduction": [
        "aten::sum", "aten::mean", "aten::_log_softmax", "aten::nll_loss_forward",
        "aten::cross_entropy_loss", "void at::native::reduce_kernel<512, 1>",
    ],
    "optimizer": ["aten::_fused_adam_", "void at::native::multi_tensor_apply_kernel<A>"],
    "copy": [
        "aten::copy_", "aten::_to_copy", "aten::contiguous", "aten::cat", "aten::zero_",
        "aten::index_select", "aten::embedding", "Memcpy DtoD (Device -> Device)",
    ],
    "other": [
        "aten::view", "aten::t", "aten::as_strided", "aten::empty", "aten::transpose", "Kernel",
    ],
}  # fmt: skip


@pytest.mark.parametrize("expected", KINDS)
def test_names_tell_the_kind(expected: str):
    assert {name: kind(name) for name in EXAMPLES[expected]} == dict.fromkeys(
        EXAMPLES[expected], expected
    )


# Names as recorded traces have them, of every generation of GPUs and libraries; shortened at
# the end where they go on with template arguments
KERNELS = {
    "matmul": [
        "volta_sgemm_128x64_nn",
        "ampere_sgemm_128x128_tn",
        "turing_fp16_s1688gemm_fp16_128x128_ldg8_f2f_nn",
        "volta_fp16_s884gemm_fp16_128x64_ldg8_f2f_tn",
        "ampere_bf16_s16816gemm_bf16_128x64_ldg8_f2f_stages_64x3_tn",
        "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1",
        "void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_128x128_16x4_nt_align1>",
        "nvjet_tst_128x256_64x4_1x2_h_bz_coopA_NNT",
        "void cublasLt::splitKreduce_kernel<32, 16, int, float, float, float, float, true>",
        "void gemv2T_kernel_val<int, int, float, float, float, float, 128, 16, 4, 4, false>",
        "Cijk_Alik_Bljk_SB_Bias_AS_SAV_UserArgs_MT64x16x32_MI16x16x1_SN_LDSB0",
        "Custom_Cijk_Alik_Bljk_BBS_BH_Bias_HA_S_SAV_UserArgs_MT256x192x64",
        "triton_tem_fused_addmm_3",
        "persistRNN_NT",
    ],
    "convolution": [
        "volta_scudnn_128x128_stridedB_splitK_small_nn_v1",
        "cudnn_infer_volta_scudnn_128x64_relu_xregs_large_nn_v1",
        "turing_fp16_s1688cudnn_fp16_128x128_ldg8_relu_f2f_exp_small_nhwc2nchw_tn_v1",
        "volta_fp16_h884cudnn_256x64_ldg8_relu_exp_small_nhwc_tn_v1",
        "void implicit_convolve_sgemm<float, float, 1024, 6, 7, 3, 3, 5, 1, false>",
        "void cudnn::winograd_nonfused::winogradForwardData4x4<float, float>",
        "void wgrad_alg0_engine<float, 128, 5, 5, 3, 3, 3, false, 512>",
        "void cudnn::detail::dgrad_engine<float, 512, 6, 5, 3, 3, 3, false>",
        "sm80_xmma_fprop_implicit_gemm_indexed_tf32f32_tf32f32_f32_nhwckrsc_nchw",
        "_ZN19cutlass_cudnn_train6KernelINS_4conv6kernel23ImplicitGemmConvolutionI",
        "igemm_wrw_gtcx3_nhwc_bf16_bx0_ex1_bt64x64x64_wt32x32x8_ws1x1_wr1x1",
        "_ZN2ck16tensor_operation6device37kernel_batched_gemm_xdlops_bwd_weightINS_47Gridwise",
        "miopenSp3AsmConv_v30_3_1_gfx9_fp32_f2x3_stride1",
        "void fft1d_r2c_32<float, float, float2, false, false>",
        "void pointwise_mult_and_sum_complex<float2, 8, 4>",
        "void cudnn::cnn::im2col4d_kernel<float, long>(cudnn::cnn::im2col4d_params)",
        "cask_cudnn::computeOffsetsKernel(cask_cudnn::ComputeOffsetsParams)",
    ],
    "attention": [
        "void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits<64, 128>",
        "fmha_cutlassB_f16_aligned_64x64_k64_dropout_sm80",
        "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128_4x1x1",
        "attn_fwd",
        "bwd_kernel_dk_dv",
        "triton_tem_fused_flex_attention_backward_1",
    ],
    "normalisation": [
        "void at::native::(anonymous namespace)::GammaBetaBackwardCUDAKernel<float, float>",
        "void cudnn::bn_bw_1C11_singleread<float, 512, true, 1, 2, 0>",
        "MIOpenBatchNormFwdTrainSpatial",
        "triton_per_fused_native_layer_norm_native_layer_norm_backward_5",
        "void at::native::batch_norm_collect_statistics_kernel<at::native::InvStd, float>",
    ],
    "elementwise": [
        "void cudnn::ops::scalePackedTensor_kernel<float, float>",
        "triton_poi_fused_convolution_relu_1",
        "triton_poi_fused_addmm_gelu_7",
        "triton__0d1d2d3d4d5d",
        "void LSTM_elementWise_fp<float, float, float, (cudnnRNNBiasMode_t)2>",
    ],
    "reduction": [
        "triton_red_fused_sum_3",
        "triton_per_fused__log_softmax_nll_loss_forward_2",
        "void (anonymous namespace)::softmax_warp_forward<float, float, float, 10, false>",
        "void at_cuda_detail::cub::DeviceRadixSortOnesweepKernel<at_cuda_detail::cub::Device>",
    ],
    "optimizer": [
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<at::native::TensorList",
        "void at::native::_fused_adam_kernel<float>",
    ],
    "copy": [
        "split_embedding_codegen_forward_unweighted_kernel<float, float, float, long, 2ul>",
        "split_embedding_backward_codegen_adam_unweighted_kernel_warp_per_row_1<float, float>",
        "void permute_pooled_embs_kernel<float>(float const*, long const*)",
        "void bounds_check_indices_kernel<long>",
        "void fbgemm_gpu::permute_2D_data_kernel<false, int, int>(int, int, int, int const*)",
        "void cudnn::ops::nchwToNhwcKernel<float, float, float, false, true>",
        "batched_transpose_16x32_half",
        "transpose_CNHW2NCHW_V2_2D_WG_off64",
        "SubTensorOpWithCastTensor1d",
        "void at::native::(anonymous namespace)::CatArrayBatchedCopy<float, unsigned int, 2>",
        "void (anonymous namespace)::compute_grad_weight<float, long>",
    ],
}


@pytest.mark.parametrize("expected", KERNELS)
def test_kernels_of_every_generation_have_a_kind(expected: str):
    assert {name: kind(name) for name in KERNELS[expected]} == dict.fromkeys(
        KERNELS[expected], expected
    )


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"matmul": 80, "elementwise": 20}, "arithmetic"),
        ({"elementwise": 50, "optimizer": 30, "matmul": 20}, "memory_bandwidth"),
        ({"matmul": 50, "elementwise": 50}, None),
        ({"matmul": 40, "other": 60}, None),
        ({}, None),
    ],
)
def test_a_limit_is_named_only_where_one_sort_of_work_dominates(times, expected):
    assert bound(times) == expected


@st.composite
def nested(draw: st.DrawFn) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []

    def fill(low: int, high: int, depth: int) -> None:
        position = low
        while position < high and draw(st.booleans()):
            start = draw(st.integers(position, high - 1))
            end = draw(st.integers(start + 1, high))
            found.append((start, end))
            if depth < 3:
                fill(start, end, depth + 1)
            position = end

    fill(0, 60, 0)
    return draw(st.permutations(found))


@given(nested())
def test_own_times_add_up_to_the_time_covered(events):
    start = np.array([s for s, _ in events], np.int64)
    end = np.array([e for _, e in events], np.int64)
    own, depth = self_times(np.zeros(len(events), np.int64), start, end)
    covered = {tick for s, e in events for tick in range(s, e)}
    assert own.sum() == len(covered)
    assert (own >= 0).all()
    outermost = sum(int(e - s) for s, e, d in zip(start, end, depth, strict=True) if d == 0)
    assert outermost == len(covered)


def test_threads_do_not_nest_in_each_other():
    thread, start, end = np.array([1, 2]), np.array([0, 5]), np.array([20, 10])
    own, depth = self_times(thread, start, end)
    assert own.tolist() == [20, 5]
    assert depth.tolist() == [0, 0]
