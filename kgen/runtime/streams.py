"""torch's idea of the current device, stream and capture, for the drivers whose tensors are on a GPU.

torch calls AMD GPUs "cuda" too, so HIP and CUDA share this. The raw calls are what torch's own compiler emits into its programs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar

import torch

from kgen.errors import MissingPieceError

Answer = TypeVar("Answer", bound=Callable[..., Any])


def torch_stream(ordinal: int) -> Callable[[], int]:
    """A call that answers the raw handle (hipStream_t, CUstream) of torch's current stream on a device, without a Python frame."""
    if not torch.cuda.is_available():
        raise MissingPieceError(
            "this torch sees no GPU, so no tensor can be on one\n  try: a torch built for the GPU's vendor, and `kgen doctor`"
        )
    return partial(torch._C._cuda_getCurrentRawStream, ordinal)


def is_capturing() -> bool:
    """Whether the current stream is being captured into a graph."""
    return torch.cuda.is_current_stream_capturing()


def on_device(call: Answer, ordinal: int) -> Answer:
    """`call` with the device made current around it; `call` itself where there is no other device."""
    if torch.cuda.device_count() < 2:
        return call
    exchange = torch._C._cuda_exchangeDevice

    @wraps(call)
    def guarded(*args: Any) -> Any:
        before = exchange(ordinal)
        try:
            return call(*args)
        finally:
            if before != ordinal:
                exchange(before)

    return guarded  # type: ignore[return-value]
