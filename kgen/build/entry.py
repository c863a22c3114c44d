"""A manifest entry: what the spec says and what the code object says, and that both agree."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kgen.binary import CodeObject, KernelResources, read_binary
from kgen.binary.occupancy import occupancy
from kgen.build.manifest import KernelEntry
from kgen.build.plan import Variant
from kgen.errors import CodeObjectError
from kgen.spec.base import KernelSpec


def built_entry(variant: Variant, image: bytes, log: str | None = None) -> KernelEntry:
    """The entry of a compiled kernel. Raises CodeObjectError when the code object is damaged or is not what the spec describes."""
    spec = variant.spec
    code = read_binary(image, variant.object_file)
    code.require_arch(spec.arch)
    kernel = code.kernel(variant.source.symbol)
    check_matches(spec, code, kernel)
    resident = occupancy(spec.facts, kernel, spec.block[0] * spec.block[1] * spec.block[2])
    return KernelEntry(
        **_said_by_spec(variant),
        status="ok",
        log=log,
        path=variant.object_file,
        digest=code.digest,
        file_bytes=code.size,
        vgpr=kernel.vgpr,
        agpr=kernel.agpr,
        sgpr=kernel.sgpr,
        lds_bytes=kernel.lds_bytes,
        scratch_bytes=kernel.scratch_bytes,
        vgpr_spills=kernel.vgpr_spills,
        sgpr_spills=kernel.sgpr_spills,
        kernarg_bytes=kernel.kernarg_bytes,
        code_bytes=kernel.code_bytes,
        code_digest=code.code(kernel.symbol).digest,
        occupancy=resident.waves_per_simd,
        groups_per_cu=resident.groups_per_cu,
        limited_by=resident.limited_by,
    )


def failed_entry(variant: Variant, error: str, log: str | None) -> KernelEntry:
    """The entry of a kernel that could not be built."""
    return KernelEntry(**_said_by_spec(variant), status="failed", error=error, log=log)


def check_matches(spec: KernelSpec, code: CodeObject, kernel: KernelResources) -> None:
    """Raises CodeObjectError unless the kernel takes the spec's arguments and can be launched with the spec's block."""
    want = [(arg.offset, arg.bytes) for arg in spec.args]
    have = [(arg.offset, arg.size) for arg in kernel.explicit_args]
    if have != want:
        raise CodeObjectError(
            f"{code.what}: the arguments (offset, bytes) are {have}, the spec says {want}; template and spec must agree"
        )
    threads = spec.block[0] * spec.block[1] * spec.block[2]
    if kernel.max_flat_workgroup_size < threads:
        raise CodeObjectError(
            f"{code.what}: compiled for at most {kernel.max_flat_workgroup_size} work-items, the spec launches {threads}"
        )
    if kernel.wave != spec.facts.wave:
        raise CodeObjectError(
            f"{code.what}: compiled for waves of {kernel.wave} lanes, {spec.arch} runs {spec.facts.wave}"
        )


def mark_twins(entries: Iterable[KernelEntry]) -> list[KernelEntry]:
    """The entries by name, each with `twin_of` set to the first with the same instructions, resources and launch, if there is one."""
    first: dict[Any, str] = {}
    out = []
    for entry in sorted(entries, key=lambda entry: entry.name):
        twin = None
        if entry.built:
            owner = first.setdefault(likeness(entry), entry.name)
            twin = owner if owner != entry.name else None
        out.append(entry if entry.twin_of == twin else entry.model_copy(update={"twin_of": twin}))
    return out


def likeness(entry: KernelEntry) -> tuple[Any, ...]:
    """What two built kernels have in common when they do the same in the same time: instructions, resources and launch."""
    code = (entry.code_digest, entry.vgpr, entry.lds_bytes, entry.scratch_bytes)
    return (*code, entry.block, entry.grid.expr, entry.lds_expr)


def _said_by_spec(variant: Variant) -> dict[str, Any]:
    """The fields that need no code object."""
    spec = variant.spec
    return {
        "name": variant.name,
        "family": spec.family,
        "arch": spec.arch,
        "spec": spec.model_dump(mode="json"),
        "symbol": variant.source.symbol,
        "key": variant.key,
        "source_path": variant.source_file,
        "source_digest": variant.source.digest,
        "block": spec.block,
        "args": [{"name": a.name, "type": a.type, "bytes": a.bytes, "offset": a.offset} for a in spec.args],
        "grid": {"rule": spec.grid_rule, "expr": spec.grid_expr},
        "lds_expr": spec.lds_expr,
    }
