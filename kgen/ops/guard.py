"""Whether tensors are like those that a plan was made for: one call of torch's own guards where they are, a comparison in Python elsewhere.

torch's compiler guards its programs by `TensorGuards`, which looks at everything of several tensors in a sixth of a microsecond; to ask each tensor
for its shape, strides, type and device takes four to seven times as long. The class is not part of torch's documented interface, so it is tried
before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Guard = Callable[..., bool]
"""Of as many tensors as it was made of, none of them None: whether each has the class, dtype, device, sizes and strides of its model, and wants
gradients only if that did, or if gradients were not enabled when the guard was made."""

ABSENT = tuple(torch.empty(0) for _ in range(16))
"""What stands for an op's optional tensors that are not given, by their place: torch's guards take no None, and no tensor twice."""


def guard(tensors: Sequence[Tensor | None]) -> Guard:
    """The guard that passes tensors like these, called with `filled` ones. It keeps none of them alive."""
    return by_torch(filled(tensors)) if TRUSTED and not _twice(tensors) else by_python(filled(tensors))


def knows_dispatch(tensors: Sequence[Tensor | None]) -> bool:
    """Whether the guard of these stops whatever torch's dispatcher would not hand straight to the code for their device, modes in Python aside."""
    return TRUSTED and KNOWS_DISPATCH and not _twice(tensors)


def _twice(tensors: Sequence[Tensor | None]) -> bool:
    """Whether one tensor is given twice."""
    there = [id(tensor) for tensor in tensors if tensor is not None]
    return len(set(there)) < len(there)


def filled(tensors: Sequence[Tensor | None]) -> list[Tensor]:
    """The tensors, with stand-ins for those that are None."""
    return [absent if tensor is None else tensor for tensor, absent in zip(tensors, ABSENT, strict=False)]


def by_torch(tensors: Sequence[Tensor]) -> Guard:
    """A guard in C++."""
    from torch._C._dynamo.guards import TensorGuards

    check: Guard = TensorGuards(*tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None).check
    return check


def by_python(tensors: Sequence[Tensor]) -> Guard:
    """The same, for a torch whose guards are others."""
    wanted = [_facts(tensor) for tensor in tensors]

    def check(*others: Tensor) -> bool:
        return [_facts(tensor) for tensor in others] == wanted

    return check


def _facts(tensor: Tensor) -> tuple[Any, ...]:
    """What a plan depends on."""
    layout = (tensor.shape, tensor.stride()) if tensor.layout == torch.strided else (tensor.layout,)
    return (type(tensor), tensor.dtype, tensor.device, tensor.requires_grad, tensor.is_conj(), *layout)


def keeps_its_promise(make: Callable[[Sequence[Tensor]], Guard]) -> bool:
    """Whether guards of this make pass what they must and stop what they must."""

    def fresh(rows: int = 2, pitch: int = 4, dtype: torch.dtype = torch.float16, device: str = "cpu") -> Tensor:
        return torch.empty_strided((rows, 3), (pitch, 1), dtype=dtype, device=device)

    try:
        with torch.inference_mode(False), torch.enable_grad():
            others = (
                fresh(1),
                fresh(pitch=3),
                fresh(dtype=torch.bfloat16),
                fresh(device="meta"),
                fresh().requires_grad_(),
            )
            check = make((fresh(), fresh()))
            passed = check(fresh(), fresh())
            stopped = [check(fresh(), other) or check(other, fresh()) for other in others]
    except (ImportError, TypeError, ValueError, RuntimeError):
        return False
    return bool(passed) and not any(stopped)


def stops_what_dispatch_would(make: Callable[[Sequence[Tensor]], Guard]) -> bool:
    """Whether guards of this make compare dispatch keys: those of the tensors, and those that are switched on for the thread."""
    one, other = torch.zeros(2), torch.zeros(2)
    check = make((one, other))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        switched_on = check(one, other)
    return check(one, other) and not switched_on and not check(torch._neg_view(one), other)


TRUSTED = keeps_its_promise(by_torch)
KNOWS_DISPATCH = TRUSTED and stops_what_dispatch_would(by_torch)
