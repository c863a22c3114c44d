"""torch.ops.kgen.OP called from Python: straight to its plan where there is one, through torch's dispatcher otherwise.

The dispatcher turns every argument into its own kind of value and back, gives up the interpreter's lock and takes it again, to find what an op
without gradients always finds: the code for the tensors' device. That is a third of a call. It is left out only where it would do nothing else:

* a plan's guard passes the tensors, which compares their dispatch keys too, with those that this thread has switched on or off: tracing, functorch's
  transforms, functionalisation, autocast, tensors that are not plain ones, all go through the dispatcher, and so does a first call;
* no mode is active (fake tensors, `TorchDispatchMode`, `TorchFunctionMode`, a default device) and no profiler, which wants to see the op.

Overloads (torch.ops.kgen.OP.default), which compiled programs call, are torch's own, as is what torch.compile and torch.export see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverloadPacket
from torch.autograd import profiler

from kgen.ops.guard import KNOWS_DISPATCH

Missed = Callable[..., Tensor]
"""Called with a key and the op's arguments where no plan is kept for them."""

Maker = Callable[[Missed | None], Callable[..., Tensor]]
"""Makes an op's code: looks for a plan, calls it or what was missed."""

_function_mode: Any = getattr(torch._C, "_is_torch_function_mode_enabled", None)
_dispatch_modes: Any = getattr(torch._C, "_len_torch_dispatch_stack", None)


class DirectPacket(OpOverloadPacket):
    """torch's packet of an op's overloads, with another way to be called. _direct: the op's code, going through the dispatcher where it misses."""

    _direct: Callable[..., Tensor]

    def __call__(self, /, *args: Any, **kwargs: Any) -> Tensor:
        if _function_mode() or _dispatch_modes() or profiler._is_profiler_enabled:
            return self._op(*args, **kwargs)
        try:
            return self._direct(*args, **kwargs)
        except (AttributeError, TypeError):
            return self._op(*args, **kwargs)  # no tensors, too few or too many arguments: the error has torch's words


def call_directly(name: str, maker: Maker) -> None:
    """Let torch.ops.kgen's op of this name go straight to its plans; nothing where this torch does not say enough of what is active."""
    if None in (_function_mode, _dispatch_modes) or not KNOWS_DISPATCH or not hasattr(profiler, "_is_profiler_enabled"):
        return
    packet = getattr(torch.ops.kgen, name)
    through_dispatcher = packet._op

    def missed(key: Any, *args: Any, **kwargs: Any) -> Tensor:
        out: Tensor = through_dispatcher(*args, **kwargs)
        return out

    packet.__class__ = DirectPacket
    packet._direct = maker(missed)
