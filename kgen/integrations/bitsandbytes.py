"""bitsandbytes' 4-bit layers on kgen's kernels: torch.ops.bitsandbytes.gemm_4bit and gemv_4bit, answered by torch.ops.kgen.gemm_4bit.

    import bitsandbytes, kgen
    from kgen.integrations import bitsandbytes as kgen_bitsandbytes
    kgen.load()
    kgen_bitsandbytes.register()       # bnb.matmul_4bit, bnb.nn.Linear4bit and transformers' load_in_4bit use it from here on

bitsandbytes defines its ops with torch.library and registers a kernel per device type; `register` puts kgen's above it, `unregister` takes it
away again. Weights stay where and as they are. Where kgen's dispatch table says torch, bitsandbytes' own dequantising kernel makes the weight and
torch multiplies.

Sources: bitsandbytes/_ops.py (schemas) and bitsandbytes/autograd/_functions.py (what matmul_4bit passes) at 0.50.2.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

import kgen.ops  # noqa: F401 - registers the ops
from kgen.errors import MissingPieceError

__all__ = ["gemm_4bit", "gemv_4bit", "register", "unregister"]

_ALIGNMENT = 16  # bytes; kernels read rows 16 bytes at a time
_libraries: list[torch.library.Library] = []
_kinds: WeakIdKeyDictionary = WeakIdKeyDictionary()


def register(device_type: str = "cuda") -> None:
    """Answer bitsandbytes' ops for tensors of a device type: "cuda" for GPUs of both vendors, "cpu" for what is emulated.

    Doing it again changes nothing. Raises MissingPieceError without the package bitsandbytes.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingPieceError('bitsandbytes is not installed\n  try: pip install "kgen[bitsandbytes]"')
    import bitsandbytes  # noqa: F401 - defines the ops

    unregister()
    library = torch.library.Library("bitsandbytes", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="[\\s\\S]*Overriding a previously registered kernel"
        )  # which is what is wanted
        for name, kernel in (("gemm_4bit", gemm_4bit), ("gemv_4bit", gemv_4bit)):
            library.impl(name, kernel, device_type.upper(), allow_override=True)
    _libraries.append(library)


def unregister() -> None:
    """Give the ops back to bitsandbytes."""
    while _libraries:
        _libraries.pop()._destroy()


def gemm_4bit(
    A: Tensor,
    B: Tensor,
    shapeB: Sequence[int],
    absmax: Tensor,
    blocksize: int,
    quant_type: str,
    bias: Tensor | None = None,
    absmax_8bit: Tensor | None = None,
    absmax_code: Tensor | None = None,
    absmax_offset: Tensor | None = None,
) -> Tensor:
    """A [..., K] @ weight^T + bias, with bitsandbytes' arguments; shapeB is [output features, K]. Activations in any layout."""
    nested = (absmax_8bit, absmax_code, absmax_offset)
    return torch.ops.kgen.gemm_4bit(_rows(A), B, shapeB, absmax, blocksize, quant_type, bias, *nested)


def gemv_4bit(A: Tensor, B: Tensor, shapeB: Sequence[int], absmax: Tensor, code: Tensor, blocksize: int) -> Tensor:
    """The same for absmax that is not nested and a type that its table `code` tells: FP4's second number is above 0, NF4's below.

    The table is looked at once, which waits for the device; afterwards the tensor is known.
    """
    kind = _kinds.get(code)
    if kind is None:
        kind = _kinds[code] = "fp4" if float(code[1]) > 0 else "nf4"
    return gemm_4bit(A, B, shapeB, absmax, blocksize, kind)


def _rows(A: Tensor) -> Tensor:
    """A with rows that kernels can read: as it is where they lie one after another, 16 bytes aligned; else a copy."""
    if not A.is_contiguous():
        A = A.contiguous()
    return A.clone() if A.data_ptr() % _ALIGNMENT else A
