"""What the emulator's tests share: one loaded code object per target, launches on numpy arrays, comparisons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from kgen.emu import Memory, Module, Options, Stats
from tests.emu.compiler import TARGETS

BF16 = ml_dtypes.bfloat16


class Target:
    """One target: its code object, a random generator, and the launch shorthand."""

    def __init__(self, name: str, module: Module):
        self.gfx, self.mod = name, module
        self.ws = 64 if name.startswith("gfx9") else 32
        self.rng = np.random.default_rng(7)

    def run(
        self, kernel: str, grid: Any, block: Any, *args: Any, lds: int = 0, memory: Memory | None = None, **options: Any
    ) -> Stats:
        """Launch a kernel; keyword arguments are fields of `Options`."""
        return self.mod.run(kernel, grid, block, args, lds, Options(**options), memory)


def on(*prefixes: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test that takes `t` once for each target whose name starts with one of the prefixes (all of them if none is given)."""
    names = [name for name in TARGETS if name.startswith(prefixes or ("gfx",))]
    return pytest.mark.parametrize("t", [pytest.param(name, marks=pytest.mark.hipcc) for name in names], indirect=True)


def same(got: Any, want: Any, what: str = "") -> None:
    """Equal, element for element; NaN equals NaN."""
    got, want = np.asarray(got), np.asarray(want)
    bad = got != want
    if got.dtype.kind == "f":
        bad &= ~(np.isnan(got) & np.isnan(want))
    if bad.any():
        i = tuple(np.argwhere(bad)[0])
        raise AssertionError(
            f"{what}: {bad.sum()} of {bad.size} differ, first at {i}: got {got[i]!r}, want {want[i]!r}"
        )


def close(got: Any, want: Any, rtol: float = 1e-6, atol: float = 0.0, what: str = "") -> None:
    """Within atol + rtol * |want|; NaN equals NaN."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    with np.errstate(invalid="ignore"):
        near = np.abs(got - want) <= atol + rtol * np.abs(want)
        bad = ~(near | (got == want) | (np.isnan(got) & np.isnan(want)))
    if bad.any():
        i = tuple(np.argwhere(bad)[0])
        raise AssertionError(
            f"{what}: {bad.sum()} of {bad.size} differ, first at {i}: got {got[i]!r}, want {want[i]!r}"
        )


def raises(kind: type[Exception], text: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """The words of the error that a call ends with; they mention `text`."""
    with pytest.raises(kind) as caught:
        call(*args, **kwargs)
    assert text in str(caught.value), str(caught.value)
    return str(caught.value)


def bf(x: Any) -> np.ndarray:
    """Rounded to bf16."""
    return np.asarray(x).astype(BF16)


def fp8(t: Target) -> tuple[type, type]:
    """The e4m3 and e5m2 formats of a target."""
    return (
        (ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2fnuz)
        if t.gfx == "gfx942"
        else (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)
    )
