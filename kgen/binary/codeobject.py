"""AMDGPU code objects (.hsaco) as they are: target, kernels, resources, arguments, instruction bytes. No GPU, no ROCm.

Sources: LLVM "User Guide for AMDGPU Backend", sections ELF Code Object (e_flags machine numbers), Code Object Metadata (the
NT_AMDGPU_METADATA note, MessagePack) and Kernel Descriptor. The machine numbers were read back from files compiled for each target.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kgen.binary.elf import MACHINE_AMDGPU, MACHINE_CUDA, STT_FUNC, Elf, machine_name
from kgen.errors import CodeObjectError, WrongArchError

NT_AMDGPU_METADATA = 32
_MACH_MASK = 0xFF
_ARCH_OF_MACH = {
    0x2C: "gfx900", 0x2F: "gfx906", 0x30: "gfx908", 0x3F: "gfx90a", 0x4C: "gfx942", 0x4F: "gfx950",
    0x36: "gfx1030", 0x41: "gfx1100", 0x46: "gfx1101", 0x47: "gfx1102", 0x44: "gfx1103",
    0x43: "gfx1150", 0x4A: "gfx1151", 0x55: "gfx1152", 0x58: "gfx1153", 0x48: "gfx1200", 0x4E: "gfx1201", 0x49: "gfx1250",
    0x5F: "gfx9-4-generic", 0x54: "gfx11-generic", 0x59: "gfx12-generic",
}  # fmt: skip
_DESCRIPTOR = struct.Struct(
    "<IIIIq20xIIIHH4x"
)  # group, private, kernarg, reserved, entry, ..., rsrc3, rsrc1, rsrc2, properties, preload


@dataclass(frozen=True)
class KernelArg:
    """One kernel argument: offset and size in bytes in the argument buffer; `kind` is "global_buffer", "by_value" or the metadata's
    other words ("hidden_block_count_x", "dynamic_shared_pointer" ...). `name` is empty if the compiler kept none."""

    name: str
    offset: int
    size: int
    kind: str

    @property
    def hidden(self) -> bool:
        """True for an argument that the runtime fills in by itself."""
        return self.kind.startswith("hidden_")


@dataclass(frozen=True)
class KernelResources:
    """What one kernel takes, as the file says.

    vgpr            32-bit vector registers a lane is given; gfx90a and later count VGPR + AGPR here (the unified file), as the metadata
                    does; NVIDIA: registers per thread
    agpr            accumulation registers among them (gfx90a and later), 0 elsewhere
    sgpr            scalar registers of a wave, with VCC and the like
    lds_bytes       static LDS of a work-group; dynamic LDS comes on top at launch
    scratch_bytes   private memory per lane
    vgpr_spills     registers spilled to memory, sgpr_spills to VGPR lanes; None: the file does not say and there is scratch
    kernarg_bytes   size of the argument buffer, with hidden arguments
    wave            lanes of a wave
    max_flat_workgroup_size   work-items the kernel was compiled for at most
    code_bytes      instructions inside the symbol; alignment padding after it is not counted
    dynamic_stack   the compiler could not bound the scratch
    args            explicit arguments, then hidden ones, by offset
    """

    symbol: str
    vgpr: int
    agpr: int
    sgpr: int
    lds_bytes: int
    scratch_bytes: int
    vgpr_spills: int | None
    sgpr_spills: int | None
    kernarg_bytes: int
    wave: int
    max_flat_workgroup_size: int
    code_bytes: int
    args: tuple[KernelArg, ...] = ()
    dynamic_stack: bool = False

    @property
    def arch_vgpr(self) -> int:
        """Vector registers without the accumulation registers. The unified count rounds them up to 4 first if there are any of those."""
        return self.vgpr - self.agpr

    @property
    def explicit_args(self) -> tuple[KernelArg, ...]:
        """The arguments that the caller passes."""
        return tuple(a for a in self.args if not a.hidden)


@dataclass(frozen=True)
class KernelCode:
    """Instruction bytes of one kernel and the address of the first, as linked."""

    address: int
    data: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the instructions alone; kernels with equal digests are twins."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class CodeObject:
    """A compiled file: its target, its kernels by symbol, SHA-256 of the whole file, its size in bytes."""

    arch: str
    kernels: Mapping[str, KernelResources]
    digest: str
    size: int
    codes: Mapping[str, KernelCode] = field(repr=False)
    what: str = ""
    data: bytes = field(default=b"", repr=False)

    def kernel(self, symbol: str) -> KernelResources:
        """The resources of a kernel; raises CodeObjectError that lists the kernels there are."""
        self._has(symbol)
        return self.kernels[symbol]

    def code(self, symbol: str) -> KernelCode:
        """The instructions of a kernel; raises CodeObjectError that lists the kernels there are."""
        self._has(symbol)
        return self.codes[symbol]

    def require_arch(self, arch: str) -> None:
        """Raises WrongArchError, naming both, unless the file was built for `arch`."""
        if self.arch != arch:
            raise WrongArchError(
                f"{self.what}: built for {self.arch}, wanted {arch}; `kgen build --arch {arch}` makes the right one"
            )

    def _has(self, symbol: str) -> None:
        if symbol not in self.kernels:
            raise CodeObjectError(
                f"{self.what}: no kernel {symbol!r}; it has: {', '.join(sorted(self.kernels)) or 'none'}"
            )


def read_bytes(source: bytes | str | Path, what: str = "") -> tuple[bytes, str]:
    """(contents, name for messages) of a file or of bytes; raises CodeObjectError if the file cannot be read."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source), what or "code object"
    try:
        return Path(source).read_bytes(), what or str(source)
    except OSError as error:
        raise CodeObjectError(
            f"{what or source}: cannot be read: {error.strerror or error}; `kgen build` makes it again"
        ) from error


def read_code_object(source: bytes | str | Path, what: str = "") -> CodeObject:
    """Read an AMDGPU code object from a path or from its bytes; `what` names it in messages.

    Raises CodeObjectError: unreadable, not ELF, truncated, another machine, unknown target, no metadata, or parts that contradict each
    other (the note, the symbol table and the kernel descriptors state several facts twice).
    """
    data, what = read_bytes(source, what)
    elf = Elf(data, what)
    if elf.machine != MACHINE_AMDGPU:
        hint = "; read it with kgen.binary.cubin" if elf.machine == MACHINE_CUDA else ""
        raise elf.error(f"made for {machine_name(elf.machine)}, not an AMDGPU code object{hint}")
    arch = _ARCH_OF_MACH.get(elf.flags & _MACH_MASK)
    if arch is None:
        raise elf.error(f"target number {elf.flags & _MACH_MASK:#x} is not one that kgen knows")
    metadata = _metadata(elf)
    target = _get(elf, metadata, "amdhsa.target", str, "")
    if target and target.rpartition("--")[2].split(":")[0] != arch:
        raise elf.error(f"altered: its header says {arch}, its metadata {target}")
    kernels, codes = {}, {}
    for entry in _get(elf, metadata, "amdhsa.kernels", list, []):
        if not isinstance(entry, dict):
            raise elf.error("altered: a kernel's metadata is not a map")
        kernel, code = _kernel(elf, entry)
        kernels[kernel.symbol], codes[kernel.symbol] = kernel, code
    return CodeObject(arch, kernels, hashlib.sha256(data).hexdigest(), len(data), codes, what, data)


def _metadata(elf: Elf) -> dict[str, Any]:
    import msgpack  # here, so that importing this module costs nothing where only the types are wanted

    for owner, kind, text in elf.notes():
        if owner == "AMDGPU" and kind == NT_AMDGPU_METADATA:
            try:
                metadata = msgpack.unpackb(text)
            except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
                raise elf.error(f"altered: its metadata note cannot be decoded ({error})") from error
            if not isinstance(metadata, dict):
                raise elf.error("altered: its metadata note holds no map")
            return metadata
    raise elf.error(
        "no metadata: the AMDGPU note (code object v3 or later) is missing; was it stripped, or not linked?"
    )


def _get(elf: Elf, entry: Mapping[str, Any], key: str, kind: type, default: Any = None) -> Any:
    value = entry.get(key, default)
    if value is None:
        raise elf.error(f"altered: metadata {key} is missing")
    if not isinstance(value, kind) or (isinstance(value, int) and not 0 <= value < 1 << 32):
        raise elf.error(f"altered: metadata {key} is {value!r:.40}, not {kind.__name__}")
    return value


def _kernel(elf: Elf, entry: Mapping[str, Any]) -> tuple[KernelResources, KernelCode]:
    name = _get(elf, entry, ".name", str)
    descriptor_symbol = elf.symbol(_get(elf, entry, ".symbol", str))
    raw = elf.at_address(descriptor_symbol.value, _DESCRIPTOR.size, f"the descriptor of {name}")
    group, private, kernarg, _, entry_offset, *_ = _DESCRIPTOR.unpack(raw)
    function = elf.symbol(name)
    if function.type != STT_FUNC or function.value != descriptor_symbol.value + entry_offset or not function.size:
        raise elf.error(f"altered: the descriptor of {name} does not lead to its function")
    said = {
        "LDS": (group, _get(elf, entry, ".group_segment_fixed_size", int)),
        "scratch": (private, _get(elf, entry, ".private_segment_fixed_size", int)),
        "kernarg": (kernarg, _get(elf, entry, ".kernarg_segment_size", int)),
    }
    for fact, (descriptor, metadata) in said.items():
        if descriptor != metadata:
            raise elf.error(
                f"altered: {fact} bytes of {name} are {descriptor} in the descriptor, {metadata} in the metadata"
            )
    code = KernelCode(function.value, elf.at_address(function.value, function.size, f"the code of {name}"))
    kernel = KernelResources(
        symbol=name,
        vgpr=_get(elf, entry, ".vgpr_count", int),
        agpr=_get(elf, entry, ".agpr_count", int, 0),
        sgpr=_get(elf, entry, ".sgpr_count", int),
        lds_bytes=group,
        scratch_bytes=private,
        vgpr_spills=_get(elf, entry, ".vgpr_spill_count", int, 0),
        sgpr_spills=_get(elf, entry, ".sgpr_spill_count", int, 0),
        kernarg_bytes=kernarg,
        wave=_get(elf, entry, ".wavefront_size", int),
        max_flat_workgroup_size=_get(elf, entry, ".max_flat_workgroup_size", int),
        code_bytes=function.size,
        args=_args(elf, entry),
        dynamic_stack=_get(elf, entry, ".uses_dynamic_stack", bool, False),
    )
    if kernel.wave not in (32, 64):
        raise elf.error(f"altered: wave of {kernel.wave} lanes in {name}")
    return kernel, code


def _args(elf: Elf, entry: Mapping[str, Any]) -> tuple[KernelArg, ...]:
    out = []
    for arg in _get(elf, entry, ".args", list, []):
        if not isinstance(arg, dict):
            raise elf.error("altered: an argument's metadata is not a map")
        out.append(
            KernelArg(
                name=_get(elf, arg, ".name", str, ""),
                offset=_get(elf, arg, ".offset", int),
                size=_get(elf, arg, ".size", int),
                kind=_get(elf, arg, ".value_kind", str),
            )
        )
    return tuple(sorted(out, key=lambda a: a.offset))
