"""The ops' schemas, their fakes, and where their code is registered.

Registered with `torch.library.Library` and not `custom_op`, whose wrappers cost more than a launch. The ops are functional and not
differentiable: tensors that want gradients are refused by the check. torch calls AMD GPUs CUDA, so that key serves both vendors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kgen.ops.check import check_linear
from kgen.ops.wvsplitk import FAMILY, wvsplitk

_library = torch.library.Library("kgen", "DEF")
_library.define(f"{FAMILY}(Tensor x, Tensor weight, Tensor? bias=None) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))
for _key in ("CPU", "CUDA"):
    _library.impl(FAMILY, wvsplitk, _key)
_library.impl(FAMILY, torch.library.fallthrough_kernel, "Autograd")  # nothing to record, so nothing to pay for


@torch.library.register_fake(f"kgen::{FAMILY}", lib=_library)
def _wvsplitk_fake(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The output's shape and type; the same check, the same words."""
    problem = check_linear(FAMILY, x, weight, bias)
    return x.new_empty(problem.out_shape)
