"""torch's idea of the current device, stream and capture, for the drivers whose tensors are on a GPU.

torch calls AMD GPUs "cuda" too, so HIP and CUDA share this. The raw calls are what torch's own compiler emits into its programs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch

Answer = TypeVar("Answer", bound=Callable[..., Any])


def current_stream(ordinal: int) -> int:
    """Raw handle (hipStream_t, CUstream) of torch's current stream on a device."""
    return torch._C._cuda_getCurrentRawStream(ordinal)


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
