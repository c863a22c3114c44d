"""What a running model really calls: every linear layer, with how many rows and how often.

A dispatch mode sees the matrix products below torch's own operators and kgen's ops. It looks at sizes only; nothing is copied or slowed by more than
the looking. Compiled graphs and captured CUDA graphs call kernels without asking torch: run the model eagerly. Modes belong to a thread: what
other threads call is not seen.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_PRODUCTS = {"addmm": (1, 2), "mm": (0, 1), "matmul": (0, 1), "linear": (0, 1), "_scaled_mm": (0, 1)}
"""Operator -> places of activations and weight among its arguments. mm, matmul and addmm take the weight as [K, M], linear as [M, K]."""


@dataclass(frozen=True)
class Called:
    """One kind of call: output features, activation rows, reduction, element type of the weight."""

    M: int
    N: int
    K: int
    dtype: str


@dataclass
class Log:
    """Calls and how often each was made."""

    calls: Counter[Called] = field(default_factory=Counter)

    def layers(self) -> dict[tuple[int, int], Counter[int]]:
        """(M, K) -> rows -> calls, most called first."""
        out: dict[tuple[int, int], Counter[int]] = {}
        for call, count in self.calls.most_common():
            out.setdefault((call.M, call.K), Counter())[call.N] += count
        return out

    def rows(self) -> list[int]:
        """Every number of activation rows, in order."""
        return sorted({call.N for call in self.calls})

    def toml(self, model: str, source: str) -> str:
        """A shape file (kgen.spec.shapes): one layer per M and K, with rows and calls as remarks."""
        lines = ["schema = 1", f'model = "{_plain(model)}"', f'source = "{_plain(source)}"']
        for (m, k), rows in self.layers().items():
            said = ", ".join(f"{n} rows {count} times" for n, count in sorted(rows.items()))
            kinds = ", ".join(sorted({call.dtype for call in self.calls if (call.M, call.K) == (m, k)}))
            lines += ["", "[[layer]]", f'name = "{m}x{k}"', f"M = {m}", f"K = {k}", f"# {kinds}; {said}"]
        return "\n".join(lines) + "\n"


@contextlib.contextmanager
def capturing() -> Iterator[Log]:
    """Note every linear layer that this thread calls until the block ends."""
    from torch.utils._python_dispatch import TorchDispatchMode

    log = Log()

    class Noting(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            _note(log, func, args)
            return func(*args, **(kwargs or {}))

    with Noting():
        yield log


def _note(log: Log, func: Any, args: tuple[Any, ...]) -> None:
    space, _, name = func._schema.name.partition("::")
    if space == "kgen" and len(args) >= 2 and getattr(args[1], "ndim", 0) == 2:
        x, weight = args[0], args[1]
        m, k = weight.shape
    elif space == "aten" and name in _PRODUCTS:
        at, where = _PRODUCTS[name]
        x, weight = args[at], args[where]
        if weight.ndim != 2:
            return
        m, k = weight.shape if name == "linear" else (weight.shape[1], weight.shape[0])
    else:
        return
    rows = x.numel() // k if k else 0
    if rows and m:
        log.calls[Called(int(m), int(rows), int(k), str(weight.dtype).removeprefix("torch."))] += 1


def _plain(text: str) -> str:
    return text.replace("\\", "/").replace('"', "'")
