"""Every environment variable that kgen reads, declared once; `kgen doctor` lists them.

Values are read when asked for, not at import, so that a program may set them first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs


@dataclass(frozen=True)
class Setting:
    """One environment variable: its name and what it decides."""

    name: str
    doc: str

    @property
    def value(self) -> str | None:
        """The variable's value, or None when unset or empty."""
        return os.environ.get(self.name) or None


ARCH = Setting(
    "KGEN_ARCH", "target that kgen.load() and the command line take when none is named (gfx1151, sm_90, ...)"
)
BUILD_DIR = Setting(
    "KGEN_BUILD_DIR", "folder of the builds, one folder per target inside; default: build/ in the working directory"
)
CACHE_DIR = Setting(
    "KGEN_CACHE_DIR", "compiler, emulator engine and decoded programs; default: the user's cache folder"
)
HIPCC = Setting("KGEN_HIPCC", "path of the hipcc or clang++ to use, instead of looking for one")
CC = Setting("KGEN_CC", "C compiler for the emulator's engine, instead of looking for one")
EMU_ARCH = Setting(
    "KGEN_EMU_ARCH", "targets of the emulated HIP runtime, with commas; set: kgen's hip device is emulated, GPU or not"
)
EMU_VERBOSE = Setting("KGEN_EMU_VERBOSE", "1: the emulated HIP runtime names every function it does not have")
FAST_SKINNY_GEMM = Setting(
    "KGEN_FAST_SKINNY_GEMM", "1: split-K families may add with atomics, so results depend on the order of arrival"
)

SETTINGS = (ARCH, BUILD_DIR, CACHE_DIR, HIPCC, CC, EMU_ARCH, EMU_VERBOSE, FAST_SKINNY_GEMM)

_deterministic: bool | None = None


def settings() -> Iterator[tuple[Setting, str | None]]:
    """All settings with their present values."""
    return ((setting, setting.value) for setting in SETTINGS)


def set_deterministic(wanted: bool | None) -> None:
    """Whether split-K ops give the same bits on every run where the call does not say; None: as KGEN_FAST_SKINNY_GEMM says."""
    global _deterministic
    _deterministic = wanted


def deterministic() -> bool:
    """What `set_deterministic` was told, else False with KGEN_FAST_SKINNY_GEMM=1, else True."""
    return _deterministic if _deterministic is not None else os.environ.get(FAST_SKINNY_GEMM.name) != "1"


def cache_dir() -> Path:
    """Where downloads and compiled helpers are kept between runs."""
    return Path(CACHE_DIR.value or platformdirs.user_cache_dir("kgen")).expanduser()


def build_dir(arch: str) -> Path:
    """The build folder of one target."""
    return Path(BUILD_DIR.value or "build").expanduser() / arch


def data_dir(name: str) -> Path:
    """The folder `templates` or `specs`: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    shipped = package / "_data" / name
    return shipped if shipped.is_dir() else package.parent / name
