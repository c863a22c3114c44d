"""What the expert ops accept: one check for the op, its fake and its reference. Weights are stacks in the layout of kgen.ops.pack."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, float32, int32
from torch import dtype as TorchDtype

from kgen.errors import OpError, Problem
from kgen.ops.check import (
    DTYPES,
    MAX_STRIDE,
    LinearProblem,
    beside,
    differentiated,
    indexed_stride,
    row_stride,
    shape_words,
)
from kgen.ops.check_int4 import WEIGHT_STRIDE
from kgen.spec.moe_down_reduce import MOST_SLOTS
from kgen.spec.moe_gemm_w4a16 import BLOCK_SIZES as GEMM_BLOCK_SIZES
from kgen.spec.moe_gemm_w4a16 import MOST_BYTES
from kgen.spec.moe_wvsplitk_int4 import MOST_EXPERTS, MOST_TOP_K
from kgen.spec.problem import MoeDownShape, MoeGemmShape, MoeShape, MoeUpShape, ceil_div
from kgen.spec.w4 import GROUP_SIZES, WORD

BLOCK_SIZES = (1, 2, 4)
MAX_EXPERT_STRIDE = 1 << 32  # elements; the kernels multiply it in 64 bits


@dataclass(frozen=True)
class Stack:
    """A checked stack of int4 weights: E experts of `rows` weight rows. Strides of rows and of experts in elements (codes, zeros: words)."""

    E: int
    rows: int
    K: int
    group: int
    has_zp: bool
    strides: tuple[int, int, int]
    experts: tuple[int, int, int]


@dataclass(frozen=True)
class MoeProblem(LinearProblem):
    """A checked problem of one expert kernel; `weight_stride` is that of the codes."""

    stack: Stack
    permuted: bool = False  # slots are rows, in their order

    @property
    def moe(self) -> MoeShape:
        """The shape by its own type."""
        assert isinstance(self.shape, MoeShape)
        return self.shape

    @property
    def sizes(self) -> tuple[int, ...]:
        """M, K and strides in the order of the kernels' arguments."""
        return (self.shape.M, self.shape.K, *self.stack.strides, self.act_stride, *self.stack.experts)


@dataclass(frozen=True)
class LayerProblem(LinearProblem):
    """A checked layer, or its experts behind a router: both GEMMs."""

    up: MoeProblem
    down: MoeProblem


class _Found:
    """The problems of one op, raised together."""

    def __init__(self, op: str):
        self.op = op
        self.problems: list[Problem] = []

    def add(self, field: str, found: object, allowed: str, hint: str = "") -> None:
        self.problems.append(Problem((field,), str(found), allowed, hint))

    def done(self) -> None:
        if self.problems:
            raise OpError(f"torch.ops.kgen.{self.op}: not possible with these tensors", self.problems)

    def dtype(self, name: str, tensor: Tensor | None, wanted: TorchDtype) -> None:
        if tensor is not None and tensor.dtype != wanted:
            self.add(f"{name}.dtype", tensor.dtype, str(wanted), f"{name}.to({wanted})")

    def rows(self, x: Tensor, dims: int = 2) -> None:
        if x.dtype not in DTYPES:
            self.add("x.dtype", x.dtype, " or ".join(map(str, DTYPES)), "x.to(torch.bfloat16)")
        if x.dim() != dims:
            self.add("x.shape", shape_words(x), "[rows, K]")


def check_up(
    op: str,
    x: Tensor,
    weight: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    expert_ids: Tensor,
    sorted_ids: Tensor | None,
    padded_slots: Tensor | None,
    block_size: int,
    top_k: int,
    silu: bool,
) -> MoeProblem:
    """The problem of the first GEMM; raises OpError with everything that is wrong.

    x             [rows, K], bf16 or fp16, rows at one distance that is a multiple of 8 elements; there are rows * top_k slots
    weight        int32 [E, M, K / 8], with silu [E, 2 M, K / 8]; rows and experts a multiple of 16 bytes apart
    scales        [E, rows of weight, K / group], x's type; zeros: none or int32 [E, ceil(rows of weight / 8), K / group]
    expert_ids    int32 [blocks], an expert or -1 for each block of block_size slots
    sorted_ids    none (slot i of block b is b * block_size + i), or int32 [at least blocks * block_size]; from rows * top_k on: padding
    padded_slots  none, or int32 with one element: how many places of sorted_ids are filled
    """
    found = _Found(op)
    blocks = _check_lists(found, x, (expert_ids, sorted_ids, padded_slots), block_size, BLOCK_SIZES, top_k)
    stack = _stack(found, "", x, weight, scales, zeros, 2 if silu else 1)
    problem = _up_problem(found, x, stack, blocks, block_size, top_k, silu, False)
    return replace(problem, permuted=sorted_ids is None and top_k == 1)


def check_gemm(
    op: str,
    x: Tensor,
    weight: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    expert_ids: Tensor,
    sorted_ids: Tensor | None,
    padded_slots: Tensor | None,
    topk_weights: Tensor | None,
    block_size: int,
    top_k: int,
    silu: bool,
) -> MoeProblem:
    """The problem of either GEMM on the matrix cores; raises OpError with everything that is wrong.

    All but these as in `check_up`:
    block_size    16, 32, 64 or 128
    topk_weights  none, or fp32, contiguous, one for each slot in their order: its row is multiplied by it, and slots in blocks of expert -1 are zeros
    """
    found = _Found(op)
    found.dtype("topk_weights", topk_weights, float32)
    found.problems += beside(x, topk_weights=topk_weights)
    blocks = _check_lists(found, x, (expert_ids, sorted_ids, padded_slots), block_size, GEMM_BLOCK_SIZES, top_k)
    if topk_weights is not None and (topk_weights.numel() != x.shape[0] * top_k or not topk_weights.is_contiguous()):
        allowed = f"{x.shape[0] * top_k} elements side by side, one for each slot"
        found.add("topk_weights.shape", shape_words(topk_weights), allowed, "topk_weights.contiguous()")
    stack = _stack(found, "", x, weight, scales, zeros, 2 if silu else 1)
    return gemm_problem(stack, x, blocks, block_size, top_k, silu, found)


def gemm_problem(
    stack: Stack, x: Tensor, blocks: int, block_size: int, top_k: int, silu: bool, found: _Found | None = None
) -> MoeProblem:
    """What `check_gemm` answers, once the weights are known to be good."""
    found = found or _Found("moe_gemm_w4a16")
    M, act_stride = _rows_of(found, x, stack, silu)
    for name, span in (("x", 2 * x.shape[0] * act_stride), ("weight", 4 * stack.rows * stack.strides[0])):
        if span >= MOST_BYTES:
            found.add(f"{name}.shape", f"{span} bytes from the first row to the last", f"fewer than {MOST_BYTES}")
    found.done()
    traits = (stack.group, stack.has_zp, silu)
    tokens = x.shape[0]
    shape = MoeGemmShape(M, block_size, stack.K, *traits, experts=stack.E, top_k=top_k, tokens=tokens, blocks=blocks)
    return MoeProblem(shape, (tokens * top_k, M), stack.strides[0], act_stride, 0, stack)


def _check_lists(
    found: _Found,
    x: Tensor,
    lists: tuple[Tensor, Tensor | None, Tensor | None],
    block_size: int,
    sizes: tuple[int, ...],
    top_k: int,
) -> int:
    """How many blocks the lists describe; raises with what was found before where they cannot be followed."""
    expert_ids, sorted_ids, padded_slots = lists
    found.rows(x)
    if block_size not in sizes:
        found.add("block_size", block_size, " or ".join(map(str, sizes)))
    if top_k < 1:
        found.add("top_k", top_k, "at least 1")
    for name, tensor in (("expert_ids", expert_ids), ("sorted_ids", sorted_ids), ("padded_slots", padded_slots)):
        found.dtype(name, tensor, int32)
        if tensor is not None and not (tensor.dim() <= 1 and tensor.is_contiguous()):
            found.add(f"{name}.shape", shape_words(tensor), "one dimension, elements side by side", f"{name}.flatten()")
    found.problems += beside(x, expert_ids=expert_ids, sorted_ids=sorted_ids, padded_slots=padded_slots)
    found.done()
    blocks = expert_ids.numel()
    if sorted_ids is not None and sorted_ids.numel() < blocks * block_size:
        found.add("sorted_ids.shape", shape_words(sorted_ids), f"at least {blocks} blocks of {block_size} slots")
    if padded_slots is not None and padded_slots.numel() != 1:
        found.add("padded_slots.shape", shape_words(padded_slots), "one element")
    return blocks


def _rows_of(found: _Found, x: Tensor, stack: Stack, silu: bool) -> tuple[int, int]:
    """Output features of one expert, and how far x's rows are apart."""
    if x.shape[1] != stack.K:
        found.add("x.shape", shape_words(x), f"[rows, {stack.K}]: eight codes to a word of weight")
    act_stride = row_stride("x", x, x.shape[1], 8, MAX_STRIDE, found.problems)
    found.done()
    return stack.rows // 2 if silu else stack.rows, act_stride


def _up_problem(
    found: _Found, x: Tensor, stack: Stack, blocks: int, block_size: int, top_k: int, silu: bool, rank: bool
) -> MoeProblem:
    """What `check_up` answers, once the weights are known to be good."""
    tokens = x.shape[0]
    M, act_stride = _rows_of(found, x, stack, silu)
    traits = (stack.group, stack.has_zp, silu, rank)
    shape = MoeUpShape(M, block_size, stack.K, *traits, experts=stack.E, top_k=top_k, tokens=tokens, blocks=blocks)
    return MoeProblem(shape, (tokens * top_k, M), stack.strides[0], act_stride, 0, stack)


def check_down(
    op: str,
    x: Tensor,
    weight: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    topk_ids: Tensor,
    topk_weights: Tensor,
    fuse_silu: bool,
) -> MoeProblem:
    """The problem of the second GEMM and the weighted sum; raises OpError with everything that is wrong.

    x             [tokens * top_k, K], with fuse_silu [tokens * top_k, 2 K]; else as for the first GEMM
    weight, scales, zeros   as there, [E, M, ...]
    topk_ids      int32 [tokens, top_k], -1 for a slot that adds nothing; topk_weights: fp32, the same shape
    """
    found = _Found(op)
    found.rows(x)
    found.dtype("topk_ids", topk_ids, int32)
    found.dtype("topk_weights", topk_weights, float32)
    for name, tensor in (("topk_ids", topk_ids), ("topk_weights", topk_weights)):
        if tensor.dim() != 2 or not tensor.is_contiguous():
            found.add(f"{name}.shape", shape_words(tensor), "[tokens, top_k], contiguous", f"{name}.contiguous()")
    found.problems += beside(x, topk_ids=topk_ids, topk_weights=topk_weights)
    found.done()
    tokens, top_k = topk_ids.shape
    if tuple(topk_weights.shape) != (tokens, top_k):
        found.add("topk_weights.shape", shape_words(topk_weights), f"{shape_words(topk_ids)}, as topk_ids")
    if not 1 <= top_k <= MOST_SLOTS:
        found.add("topk_ids.shape", shape_words(topk_ids), f"1 to {MOST_SLOTS} slots of a token")
    stack = _stack(found, "", x, weight, scales, zeros, 1)
    wanted = (tokens * top_k, stack.K * (2 if fuse_silu else 1))
    if tuple(x.shape) != wanted:
        found.add("x.shape", shape_words(x), f"[{wanted[0]}, {wanted[1]}]: a row per slot")
    act_stride = row_stride("x", x, wanted[1], 8, MAX_STRIDE, found.problems)
    found.done()
    return _down_problem(stack, tokens, top_k, act_stride, fuse_silu)


def _down_problem(stack: Stack, tokens: int, top_k: int, act_stride: int, fuse_silu: bool) -> MoeProblem:
    traits = (stack.group, stack.has_zp, fuse_silu)
    slots = tokens * top_k
    shape = MoeDownShape(stack.rows, 1, stack.K, *traits, experts=stack.E, top_k=top_k, tokens=tokens, blocks=slots)
    return MoeProblem(shape, (tokens, stack.rows), stack.strides[0], act_stride, 0, stack)


def check_layer(
    op: str,
    x: Tensor,
    router: Tensor,
    w13: Tensor,
    w13_scales: Tensor,
    w13_zeros: Tensor | None,
    w2: Tensor,
    w2_scales: Tensor,
    w2_zeros: Tensor | None,
    top_k: int,
) -> LayerProblem:
    """The problem of a whole layer; raises OpError with everything that is wrong.

    x       [tokens, hidden], bf16 or fp16
    router  [E, hidden], x's type
    w13     int32 [E, 2 I, hidden / 8], gates first, with scales and zeros as for the first GEMM
    w2      int32 [E, hidden, I / 8], likewise
    """
    found = _Found(op)
    found.rows(x)
    found.dtype("router", router, x.dtype)
    found.problems += beside(x, router=router)
    found.done()
    first, second = _stacks(found, x, (w13, w13_scales, w13_zeros), (w2, w2_scales, w2_zeros))
    if tuple(router.shape) != (first.E, x.shape[1]):
        found.add("router.shape", shape_words(router), f"[{first.E}, {x.shape[1]}]: a row per expert")
    if first.E > MOST_EXPERTS:
        found.add("w13.shape", shape_words(w13), f"at most {MOST_EXPERTS} experts")
    if not 1 <= top_k <= min(MOST_TOP_K, first.E):
        found.add("top_k", top_k, f"1 to {min(MOST_TOP_K, first.E)}")
    found.done()
    return _layer_problem(found, x, first, second, top_k, True)


def check_experts(
    op: str,
    x: Tensor,
    topk_ids: Tensor,
    topk_weights: Tensor,
    w13: Tensor,
    w13_scales: Tensor,
    w13_zeros: Tensor | None,
    w2: Tensor,
    w2_scales: Tensor,
    w2_zeros: Tensor | None,
) -> LayerProblem:
    """The problem of the experts behind a router; raises OpError with everything that is wrong.

    topk_ids      int32 [tokens, top_k], contiguous; -1 for a slot that adds nothing, being another device's
    topk_weights  fp32, the same
    The rest as in `check_layer`.
    """
    found = _Found(op)
    found.rows(x)
    found.dtype("topk_ids", topk_ids, int32)
    found.dtype("topk_weights", topk_weights, float32)
    for name, tensor in (("topk_ids", topk_ids), ("topk_weights", topk_weights)):
        if tensor.dim() != 2 or not tensor.is_contiguous() or tensor.shape[0] != x.shape[0]:
            found.add(
                f"{name}.shape", shape_words(tensor), f"[{x.shape[0]}, top_k], contiguous", f"{name}.contiguous()"
            )
    found.problems += beside(x, topk_ids=topk_ids, topk_weights=topk_weights)
    found.done()
    top_k = topk_ids.shape[1]
    if topk_weights.shape != topk_ids.shape:
        found.add("topk_weights.shape", shape_words(topk_weights), f"{shape_words(topk_ids)}, as topk_ids")
    first, second = _stacks(found, x, (w13, w13_scales, w13_zeros), (w2, w2_scales, w2_zeros))
    if not 1 <= top_k <= min(MOST_TOP_K, first.E):
        found.add("topk_ids.shape", shape_words(topk_ids), f"1 to {min(MOST_TOP_K, first.E)} slots of a token")
    found.done()
    return _layer_problem(found, x, first, second, top_k, False)


def _layer_problem(found: _Found, x: Tensor, first: Stack, second: Stack, top_k: int, rank: bool) -> LayerProblem:
    """Both GEMMs on stacks that belong together; rank: the first one chooses the experts."""
    tokens = x.shape[0]
    up = _up_problem(found, x, first, tokens * top_k, 1, top_k, True, rank)
    down = _down_problem(second, tokens, top_k, first.rows // 2, False)
    return LayerProblem(up.shape, (tokens, second.rows), up.weight_stride, up.act_stride, 0, up, down)


def _stacks(
    found: _Found,
    x: Tensor,
    w13: tuple[Tensor, Tensor, Tensor | None],
    w2: tuple[Tensor, Tensor, Tensor | None],
) -> tuple[Stack, Stack]:
    """Both stacks of a layer; that they do not belong together is added to what was found."""
    first, second = _stack(found, "w13", x, *w13, 2), _stack(found, "w2", x, *w2, 1)
    wanted = (first.E, first.K, first.rows // 2)
    if (second.E, second.rows, second.K) != wanted:
        allowed = f"[{wanted[0]}, {wanted[1]}, {wanted[2] // WORD}]: back from what w13 {shape_words(w13[0])} makes"
        found.add("w2.shape", shape_words(w2[0]), allowed)
    return first, second


def _stack(
    found: _Found, name: str, x: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor | None, halves: int
) -> Stack:
    """Types, shapes and strides of a stack; what is wrong is raised together with what was found before."""
    of = f"{name}_" if name else ""
    weight_name = name or "weight"
    tensors = {weight_name: weight, f"{of}scales": scales, f"{of}zeros": zeros}
    for key, tensor, dtype in (
        (weight_name, weight, int32),
        (f"{of}scales", scales, x.dtype),
        (f"{of}zeros", zeros, int32),
    ):
        found.dtype(key, tensor, dtype)
        if tensor is not None and tensor.dim() != 3:
            found.add(f"{key}.shape", shape_words(tensor), "[E, rows, columns]: a stack of experts")
    found.problems += [*beside(x, **tensors), *differentiated(x=x, **{f"{of}scales": scales})]
    found.done()
    E, rows, K = weight.shape[0], weight.shape[1], WORD * weight.shape[2]
    groups = scales.shape[2]
    if E < 1 or rows < halves or rows % halves:
        allowed = (
            "at least one expert, and an even number of rows: gates and what they gate"
            if halves == 2
            else "at least one expert and row"
        )
        found.add(f"{weight_name}.shape", shape_words(weight), allowed)
    if tuple(scales.shape[:2]) != (E, rows) or groups == 0 or not any(groups * size == K for size in GROUP_SIZES):
        sizes = " or ".join(f"[{E}, {rows}, {K // size}]" for size in GROUP_SIZES if K % size == 0)
        found.add(
            f"{of}scales.shape",
            shape_words(scales),
            sizes or f"K = {K} has no such groups",
            "groups of 32, 64 or 128 elements of K",
        )
    elif zeros is not None and tuple(zeros.shape) != (E, ceil_div(rows, 8), groups):
        found.add(
            f"{of}zeros.shape", shape_words(zeros), f"[{E}, {ceil_div(rows, 8)}, {groups}]", "eight rows to a word"
        )
    found.done()
    code = _strides(found, weight_name, weight, WEIGHT_STRIDE)
    scale = _strides(found, f"{of}scales", scales, 1)
    zero = (0, 0) if zeros is None else _strides(found, f"{of}zeros", zeros, 1)
    found.done()
    return Stack(E, rows, K, K // groups, zeros is not None, (code[0], scale[0], zero[0]), (code[1], scale[1], zero[1]))


def _strides(found: _Found, name: str, tensor: Tensor, multiple: int) -> tuple[int, int]:
    """Distances of a stack's rows and experts in elements; rows of one expert are at one distance."""
    rows = indexed_stride(name, tensor[0], multiple, MAX_STRIDE // 8, found.problems)
    between = tensor.stride(0)
    if tensor.shape[0] > 1 and (between % multiple or not 0 <= between < MAX_EXPERT_STRIDE):
        allowed = f"a multiple of {multiple}, below {MAX_EXPERT_STRIDE}"
        found.add(f"{name}.stride", f"experts {between} elements apart", allowed, f"{name}.contiguous()")
    return rows, between if tensor.shape[0] > 1 else 0
