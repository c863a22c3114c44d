"""What the ops accept and refuse, by shapes, strides and types alone: no kernel, no compiler."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import kgen.ops  # noqa: F401
from kgen.errors import OpError
from kgen.ops.check import check_linear
from kgen.spec.problem import GemmShape


def bf16(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.bfloat16)


def refused(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> str:
    """The words of the refusal, which the op's fake must give too."""
    with pytest.raises(OpError) as caught:
        check_linear("wvsplitk", x, weight, bias)
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        fakes = [tensor if tensor is None else mode.from_tensor(tensor) for tensor in (x, weight, bias)]
        with pytest.raises(OpError) as faked:
            torch.ops.kgen.wvsplitk(*fakes)
    assert str(faked.value) == str(caught.value)
    return str(caught.value)


def test_plain_tensors_pose_the_problem_that_their_shapes_say() -> None:
    problem = check_linear("wvsplitk", bf16(3, 64), bf16(10, 64), None)
    assert problem.shape == GemmShape(M=10, N=3, K=64)
    assert problem.out_shape == (3, 10)
    assert (problem.weight_stride, problem.act_stride, problem.bias_stride) == (64, 64, 0)


@pytest.mark.parametrize(
    ("shape", "rows"), [((64,), 1), ((1, 64), 1), ((2, 3, 64), 6), ((2, 1, 2, 64), 4), ((0, 64), 0)]
)
def test_leading_sizes_become_rows_and_come_back(shape: tuple[int, ...], rows: int) -> None:
    problem = check_linear("wvsplitk", bf16(*shape), bf16(10, 64), None)
    assert problem.shape.N == rows
    assert problem.out_shape == (*shape[:-1], 10)


def test_padded_rows_are_told_by_their_strides() -> None:
    x = bf16(4, 2, 80)[:, :, :64]
    weight = bf16(10, 96)[:, :64]
    problem = check_linear("wvsplitk", x, weight, bf16(8, 16)[:, :10])
    assert (problem.act_stride, problem.weight_stride, problem.bias_stride) == (80, 96, 16)


def test_a_broadcast_row_has_stride_zero() -> None:
    assert check_linear("wvsplitk", bf16(1, 64).expand(4, 64), bf16(10, 64), None).act_stride == 0


def test_strides_of_sizes_of_one_do_not_matter() -> None:
    x = bf16(64).as_strided((1, 1, 64), (7, 3, 1))
    assert check_linear("wvsplitk", x, bf16(10, 64), None).act_stride == 64


@pytest.mark.parametrize("shape", [(10,), (6, 10), (2, 3, 10)])
def test_bias_may_be_one_row_or_one_per_row(shape: tuple[int, ...]) -> None:
    problem = check_linear("wvsplitk", bf16(2, 3, 64), bf16(10, 64), bf16(*shape))
    assert problem.bias_stride == (0 if len(shape) == 1 else 10)


def test_rows_off_eight_are_fine_when_torch_answers() -> None:
    assert check_linear("wvsplitk", bf16(2, 61), bf16(10, 61), None).shape.K == 61


def test_wrong_dtypes_are_all_named_at_once() -> None:
    words = refused(torch.zeros(1, 64), bf16(10, 64), torch.zeros(10, dtype=torch.float16))
    assert "x.dtype  torch.float32" in words
    assert "torch.bfloat16 or torch.float16" in words
    assert "weight.dtype  torch.bfloat16" in words
    assert "bias.dtype  torch.float16" in words


def test_tensors_on_two_devices_are_refused() -> None:
    with pytest.raises(OpError, match=r"weight\.device +meta"):
        check_linear("wvsplitk", bf16(1, 64), bf16(10, 64).to("meta"), None)


def test_shapes_that_do_not_go_together_are_refused() -> None:
    assert "[1, 64] and [10, 72]" in refused(bf16(1, 64), bf16(10, 72))
    assert "allowed: [M, K]" in refused(bf16(1, 64), bf16(64))
    assert "[11]" in refused(bf16(2, 64), bf16(10, 64), bf16(11))
    assert "allowed: [10] or [2, 10]" in refused(bf16(2, 64), bf16(10, 64), bf16(10, 2))
    with pytest.raises(OpError, match="a scalar"):
        check_linear("wvsplitk", bf16(), bf16(10, 64), None)


def test_elements_of_a_row_must_lie_side_by_side() -> None:
    words = refused(bf16(64, 2).T, bf16(64, 10).T)
    assert "x.stride  stride 2 between the elements of a row" in words
    assert "weight.stride  stride 10 between the elements of a row" in words
    assert "weight.contiguous()" in words


def test_row_distances_must_be_multiples_of_eight() -> None:
    words = refused(bf16(2, 68)[:, :64], bf16(10, 65)[:, :64])
    assert "x.stride  rows 68 elements apart" in words
    assert "weight.stride  rows 65 elements apart" in words
    assert "a multiple of 8" in words


def test_leading_sizes_that_do_not_fold_are_refused() -> None:
    assert "rows at no one distance" in refused(bf16(2, 3, 64)[:, :2], bf16(10, 64))
    assert "rows at no one distance" in refused(bf16(3, 2, 64).transpose(0, 1), bf16(10, 64))


def test_rows_too_far_apart_for_32_bit_offsets_are_refused() -> None:
    far = torch.empty(1, device="meta", dtype=torch.bfloat16).as_strided((2, 64), (1 << 28, 1))
    with pytest.raises(OpError, match="below 268435456"):
        check_linear("wvsplitk", far, bf16(10, 64).to("meta"), None)


def test_gradients_are_refused_and_inference_is_not() -> None:
    weight = bf16(10, 64).requires_grad_()
    assert "requires_grad  weight" in refused(bf16(1, 64), weight)
    with torch.no_grad():
        check_linear("wvsplitk", bf16(1, 64), weight, None)


def test_the_fake_answers_shape_and_type() -> None:
    with FakeTensorMode() as mode:
        x, weight = mode.from_tensor(bf16(2, 3, 64)), mode.from_tensor(bf16(10, 64))
        out = torch.ops.kgen.wvsplitk(x, weight)
    assert (out.shape, out.dtype, out.is_contiguous()) == ((2, 3, 10), torch.bfloat16, True)
