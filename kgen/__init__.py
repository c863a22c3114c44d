"""kgen: specialised HIP kernels from small specs. See README.md for a tour.

Importing kgen imports no torch; `kgen.load()` does.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load", "set_deterministic", "warm_up"]


def __getattr__(name: str) -> Any:
    """`load` and `warm_up` come from the runtime, which needs torch, when they are first used."""
    if name in ("load", "warm_up"):
        from importlib import import_module

        import_module("kgen.ops")  # registers torch.ops.kgen.*
        from kgen.runtime import session

        return getattr(session, name)
    if name == "set_deterministic":
        from kgen.settings import set_deterministic

        return set_deterministic
    raise AttributeError(f"module 'kgen' has no attribute {name!r}")
