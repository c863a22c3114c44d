"""Code objects that are not what they should be, and what is read from those that are."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import numpy as np
import pytest

from kgen.emu import EmulatorError, Module
from kgen.errors import CodeObjectError
from tests.emu.compiler import compiled
from tests.emu.harness import on, raises, same

SAMPLES = Path(__file__).parents[1] / "binary" / "data"
TARGETS = ("gfx1100", "gfx1151", "gfx1201", "gfx942", "gfx950")


def sample(target="gfx1151"):
    return (SAMPLES / f"small.{target}.hsaco").read_bytes()


@pytest.mark.parametrize("target", TARGETS)
def test_a_code_object_knows_its_target_and_kernels(target):
    module = Module(sample(target), name="small")
    assert module.target == target
    assert module.kernels
    for kernel in module.kernels.values():
        assert kernel.wave_size == (64 if target.startswith("gfx9") else 32)
        assert kernel.explicit_size <= kernel.kernarg_size


def test_a_truncated_code_object_is_refused_at_every_length():
    data = sample()
    step = max(1, len(data) // 97)
    # behind the last segment lie symbol and section tables; what is cut there is noticed too
    for length in [*range(0, len(data) - 1, step), len(data) - 1]:
        with pytest.raises(CodeObjectError, match="small: "):
            Module(data[:length], name="small")


def test_garbage_is_refused_in_words():
    for data in (b"", b"\x7fELF", b"not a code object at all", bytes(4096)):
        with pytest.raises(CodeObjectError, match="x: "):
            Module(data, name="x")


def test_flipped_bytes_never_end_in_anything_but_an_error_of_ours():
    data = sample()
    rng = np.random.default_rng(11)
    for _ in range(150):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 4):
            damaged[at] ^= int(rng.integers(1, 256))
        with contextlib.suppress(CodeObjectError):
            Module(bytes(damaged), name="x")


def test_another_machine_s_elf_is_refused():
    data = bytearray(sample())
    struct.pack_into("<H", data, 18, 62)
    with pytest.raises(CodeObjectError, match="not for AMDGPU"):
        Module(bytes(data))


def test_a_target_that_is_not_modelled_is_refused_by_name():
    data = sample().replace(b"gfx1151", b"gfx1030")
    with pytest.raises(CodeObjectError, match="target gfx1030 is not modelled"):
        Module(data)


def test_an_offload_bundle_is_opened():
    elf = sample()
    ident = b"hip-amdgcn-amd-amdhsa--gfx1151"
    head = b"__CLANG_OFFLOAD_BUNDLE__" + struct.pack("<Q", 1)
    at = len(head) + 24 + len(ident)
    bundle = head + struct.pack("<QQQ", at, len(elf), len(ident)) + ident + elf
    assert Module(bundle).target == "gfx1151"
    with pytest.raises(CodeObjectError):
        Module(bundle[: len(head) + 10])
    with pytest.raises(CodeObjectError, match="compressed"):
        Module(b"CCOB" + bundle)


@on()
def test_every_instruction_of_the_test_kernels_is_known(t):
    for name in t.mod.kernels:
        assert t.mod.unsupported(name) == []


@on("gfx1151", "gfx942")
def test_an_unsupported_instruction_is_listed_without_running(t):
    kernel = t.mod.kernels["vadd"]
    start = kernel.entry + (256 if kernel.preload & 127 else 0)
    data = bytearray(compiled(t.gfx))
    at = data.index(bytes(t.mod.image.bytes[start : start + 64]))
    data[at : at + 4] = struct.pack("<I", 0xBF920000 if t.ws == 64 else 0xBFFF0000)  # not an SOPP operation / a trap
    module = Module(bytes(data))
    names = module.unsupported("vadd")
    if names:
        words = raises(EmulatorError, names[0], module.run, "vadd", 1, 1, [np.zeros(1, "f4")] * 3 + [np.int32(1)])
        assert "vadd+" in words


@on("gfx1151", "gfx942")
def test_modules_do_not_share_globals(t):
    one, two = Module(compiled(t.gfx)), Module(compiled(t.gfx))
    one.symbol("gvar", "f4")[0] = 77
    same(two.symbol("gvar", "f4"), np.array([10, 20, 30, 40], "f4"))
