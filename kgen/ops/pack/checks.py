"""Checks of a layer's tensors that collect every problem before anything is raised."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kgen.errors import PackError, Problem

GROUPS = (32, 64, 128)
"""Elements of K under one scale that the kernels take."""
SCALE_TYPES = (torch.float16, torch.bfloat16)
GROUP_WORDS = "32, 64 or 128 elements of K for each scale; one scale per row (group -1) is refused"
REQUANTISE = "a checkpoint quantised with group size 32, 64 or 128"


class Checks:
    """Problems found so far; `done` raises them as one PackError.

    what  the error's first line, such as `AWQ layer that cannot be packed`
    """

    def __init__(self, what: str):
        self.what = what
        self.problems: list[Problem] = []

    def add(self, field: str, found: str, allowed: str = "", next: str = "") -> None:
        self.problems.append(Problem((field,), found, allowed, next))

    def matrix(self, name: str, tensor: Tensor, types: Sequence[torch.dtype], layout: str) -> None:
        """A tensor of two dimensions and one of these types; anything else ends the checks here, since no size can be read off it."""
        if tensor.dim() != 2 or tensor.dtype not in types or 0 in tensor.shape:
            self.add(name, described(tensor), f"{' or '.join(map(str, types))} {layout}, not empty")
            self.done()

    def shape(self, name: str, tensor: Tensor, expected: tuple[int, ...], layout: str) -> None:
        if tuple(tensor.shape) != expected:
            self.add(name, described(tensor), f"{layout} = {list(expected)}", "the tensors must be of one 4-bit layer")

    def group(self, K: int, groups: int) -> int:
        """Elements of K for each of `groups` scales of a row; ends the checks if the kernels do not take that."""
        group = K // groups if groups and K % groups == 0 else 0
        if group not in GROUPS:
            found = f"K = {K} under {groups} scales per row" + (f": group {group}" if group else "")
            self.add("group", found, GROUP_WORDS, REQUANTISE)
            self.done()
        return group

    def rows_of_eight(self, M: int) -> None:
        if M % 8:
            self.add("M", f"{M} output features", "a multiple of 8: zero points are eight to a word along M")

    def done(self) -> None:
        if self.problems:
            raise PackError(self.what, self.problems)


def described(tensor: Tensor) -> str:
    """`int32 [4096, 512]`."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def ordered(group_index: Tensor, K: int, group: int) -> bool:
    """Whether element k of K belongs to group k // group throughout, so that the index says nothing."""
    expected = torch.arange(K, device=group_index.device) // group
    return tuple(group_index.shape) == (K,) and torch.equal(group_index.to(expected.dtype), expected)


def check_order(checks: Checks, name: str, group_index: Tensor | None, K: int, group: int) -> None:
    """Refuse activation order: the kernels read K in storage order, and have no gather of activations."""
    if group_index is not None and not ordered(group_index, K, group):
        checks.add(
            name,
            f"{described(group_index)}, not k // {group}: quantised in activation order (desc_act, actorder group)",
            "groups of consecutive k",
            "a checkpoint made with desc_act = false, or with compressed-tensors' actorder = weight, which needs no index",
        )
