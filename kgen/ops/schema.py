"""The ops' schemas, their fakes, and where their code is registered.

Registered with `torch.library.Library` and not `custom_op`, whose wrappers cost more than a launch. The ops are functional and not
differentiable: tensors that want gradients are refused by the check. torch calls AMD GPUs CUDA, so that key serves both vendors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kgen.ops.check import check_linear
from kgen.ops.linear import linear_op

LINEAR = ("wvsplitk", "llmm1")  # families with the signature of torch's linear

_library = torch.library.Library("kgen", "DEF")


def _linear_fake(family: str) -> Callable[..., Tensor]:
    """The output's shape and type; the same check, the same words."""

    def fake(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        problem = check_linear(family, x, weight, bias)
        return x.new_empty(problem.out_shape)

    return fake


for _family in LINEAR:
    _library.define(
        f"{_family}(Tensor x, Tensor weight, Tensor? bias=None) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,)
    )
    for _key in ("CPU", "CUDA"):
        _library.impl(_family, linear_op(_family), _key)
    _library.impl(_family, torch.library.fallthrough_kernel, "Autograd")  # nothing to record, so nothing to pay for
    torch.library.register_fake(f"kgen::{_family}", _linear_fake(_family), lib=_library)
