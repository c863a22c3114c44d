"""tinygrad's AMD instruction tables: bytes -> an instruction of one architecture family.

Only `decode_inst` and the field and operand tables are used; none of tinygrad's compilation machinery is.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from typing import Any

from kgen.errors import MissingPieceError

MISSING_FORMATS = {"rdna3": ("MUBUF",), "rdna4": ("VBUFFER",), "cdna": ()}
"""Formats that are in the tables but that `decode_inst` leaves out."""


def version() -> str:
    """Version of the installed tinygrad, without importing it; "none" if there is none."""
    try:
        return importlib.metadata.version("tinygrad")
    except importlib.metadata.PackageNotFoundError:
        return "none"


class Tables:
    """The instruction tables of one family ("rdna3", "rdna4" or "cdna")."""

    def __init__(self, family: str):
        self.family = family
        try:
            self._amd = importlib.import_module("tinygrad.renderer.amd")
            formats = importlib.import_module(f"tinygrad.runtime.autogen.amd.{family}.ins")
            self._extra = [getattr(formats, name) for name in MISSING_FORMATS[family]]
            assert callable(self._amd.decode_inst), "no decode_inst"
            assert callable(self._amd._matches), "no _matches"
        except (ImportError, AttributeError, AssertionError) as error:
            raise MissingPieceError(
                f"the emulator decodes instructions with the tables of tinygrad 0.14, and they cannot be used here ({error})\n"
                f"  found: tinygrad {version()}\n"
                "  try:   pip install kgen[emu]"
            ) from error

    def decode(self, data: bytes) -> Any:
        """The instruction at the start of `data`. Raises ValueError if the tables have none."""
        try:
            return self._amd.decode_inst(data, self.family)
        except ValueError:
            for form in self._extra:
                if self._amd._matches(data, form):
                    return form.from_bytes(data)
            raise


@functools.cache
def tables_for(family: str) -> Tables:
    """The tables of a family, imported once."""
    return Tables(family)
