"""Find a compiler for the wanted targets: the user's own first, kgen's own last, each tried before it is believed.

Order: KGEN_HIPCC; ROCM_PATH, ROCM_HOME, HIP_PATH; ROCm's Python package; /opt/rocm, then the highest /opt/rocm-*; hipcc on PATH;
clang++-23 to clang++-19 on PATH; the folder of `kgen toolchain install`. hipcc is the front door; clang++ of the same ROCm does the
same compile and is taken where hipcc fails.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kgen.errors import ToolchainError
from kgen.toolchain.nvidia import NvidiaToolchain, find_nvidia
from kgen.toolchain.prefix import LLVM, has_space, installed
from kgen.toolchain.probe import Verdict, VerdictCache, compile_flags, describe, stamp, try_compiler

AMD_ENV = {"HIP_PLATFORM": "amd"}  # with nvcc on PATH hipcc may otherwise choose NVIDIA
CLANG_VERSIONS = (23, 22, 21, 20, 19)
OUTPUT_CHANGING_ENV = ("HIPCC_COMPILE_FLAGS_APPEND", "HIPCC_LINK_FLAGS_APPEND", "CCC_OVERRIDE_OPTIONS", "CPATH")
ROCM_VARIABLES = ("ROCM_PATH", "ROCM_HOME", "HIP_PATH")
ROCM_PACKAGES = ("_rocm_sdk_devel", "_rocm_sdk_core", "rocm_sdk")
CURE = "kgen toolchain install"


@dataclass(frozen=True)
class LLVMTools:
    """What disassembly needs of an LLVM.

    libllvm       the shared library, or None
    disassembler  llvm-objdump, or None
    preload       libraries to load before libllvm, in this order: its own search would not find them
    """

    libllvm: Path | None = None
    disassembler: Path | None = None
    preload: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A compiler that might do. `flavour` is "hipcc" or "clang"; `origin` says in words where it was found."""

    command: Path
    flavour: str
    origin: str
    known_id: str = ""

    @property
    def key(self) -> str:
        """Name of its verdict in the cache."""
        return f"{self.flavour} {self.command}"


@dataclass(frozen=True)
class AmdToolchain:
    """A compiler that was seen to compile for `arches`.

    command       what to start: hipcc or clang++
    env           to be added to the environment of every compile
    flavour       "hipcc" or "clang": how it is told what to do
    version       for people
    identity      for keys: changes with the compiler's content, not with its place
    source        where it was found, in words
    llvm          the shared LLVM and llvm-objdump behind it, as far as they are there
    """

    command: tuple[str, ...]
    env: dict[str, str]
    flavour: str
    version: str
    identity: str
    source: str
    arches: tuple[str, ...]
    llvm: LLVMTools = LLVMTools()
    vendor: str = field(default="amd", init=False)

    @property
    def libllvm(self) -> Path | None:
        """The shared LLVM behind the compiler, or None."""
        return self.llvm.libllvm

    @property
    def disassembler(self) -> Path | None:
        """llvm-objdump of the same LLVM, or None."""
        return self.llvm.disassembler

    def flags(self, arch: str) -> list[str]:
        """The options of a compile for `arch`, without any path."""
        return compile_flags(self.flavour, arch)

    def compile_command(self, arch: str, source: Path | str, out: Path | str) -> list[str]:
        """The command that turns one self-contained source file into one raw code object."""
        return [*self.command, *self.flags(arch), str(source), "-o", str(out)]


Toolchain = AmdToolchain | NvidiaToolchain


def find_toolchain(arch: str, *more: str) -> Toolchain:
    """The compiler for one target, or for several of the same vendor. Raises ToolchainError as `find_amd` and `find_nvidia` do."""
    arches = (arch, *more)
    return find_nvidia(arches) if arch.startswith("sm_") else find_amd(arches)


def find_amd(arches: Sequence[str]) -> AmdToolchain:
    """The first compiler, in kgen's order, that compiles for every wanted target.

    Raises ToolchainError when none does: the message lists every candidate with the reason of its refusal, and the cure.
    """
    from kgen.settings import HIPCC, cache_dir

    wanted = tuple(dict.fromkeys(arches))
    cache = VerdictCache(cache_dir() / "compilers.json")
    refused: list[tuple[Candidate, str]] = []
    for candidate in candidates(HIPCC.value):
        verdict, reason = judge(candidate, wanted, cache)
        if verdict is not None and reason is None:
            return _toolchain(candidate, verdict, wanted)
        refused.append((candidate, reason or "could not be tried"))
    raise ToolchainError(refusals(wanted, refused, explicit=HIPCC.value))


def refusals(wanted: Sequence[str], refused: Sequence[tuple[Candidate, str]], explicit: str | None) -> str:
    """The words for "no compiler": every candidate, why not, and what to do."""
    lines = [f"no compiler on this machine makes code for {', '.join(wanted)}"]
    lines += [f"  {candidate.command} ({candidate.origin})\n      {reason}" for candidate, reason in refused]
    if not refused:
        lines.append(
            "  looked at: "
            + ", ".join((*ROCM_VARIABLES, "/opt/rocm*", "hipcc and clang++-N on PATH", "kgen's own folder"))
        )
    if explicit:
        lines.append("  try: correct KGEN_HIPCC, or unset it so that kgen looks for a compiler itself")
    elif any(candidate.known_id for candidate, _ in refused):
        lines.append(
            f"  kgen's own compiler was refused too: check the target's name, or install it anew ({CURE} --force)"
        )
    else:
        lines.append(f"  try: {CURE}        (about 67 MB, no root needed)")
    return "\n".join(lines)


def judge(candidate: Candidate, arches: Sequence[str], cache: VerdictCache) -> tuple[Verdict | None, str | None]:
    """Try a candidate for these targets, asking only what is not known yet. The reason is None when all of them compile."""
    path = candidate.command
    if not path.is_file() or not os.access(path, os.X_OK):
        return None, "is not there" if not path.exists() else "is not an executable file"
    if candidate.flavour == "hipcc" and has_space(path):
        return None, "hipcc does not work from a path with a space or another sign that a shell would take apart"
    verdict = cache.get(candidate.key)
    missing = [arch for arch in arches if verdict is None or arch not in verdict.arches]
    if missing:
        if verdict is None:
            version, identity, real = describe((str(path),), AMD_ENV)
            files = [stamp(file) for file in (path, real) if file is not None]
            verdict = Verdict(files, version, candidate.known_id or identity)
        for arch in missing:
            verdict.arches[arch] = try_compiler((str(path),), candidate.flavour, arch, AMD_ENV)
        cache.put(candidate.key, verdict)
    assert verdict is not None, "an unknown compiler misses every target"
    bad = [f"{arch}: {verdict.arches[arch]}" for arch in arches if verdict.arches[arch] is not None]
    return verdict, "; ".join(bad) or None


def candidates(explicit: str | None = None) -> Iterator[Candidate]:
    """Every compiler that might do, best first; with `explicit` (KGEN_HIPCC) that one alone."""
    if explicit:
        found = shutil.which(explicit) or explicit
        yield Candidate(Path(found), "hipcc" if "hipcc" in Path(found).name else "clang", "KGEN_HIPCC")
        return
    seen: set[Path] = set()
    for candidate in _all_candidates():
        if candidate.command.is_file() and candidate.command not in seen:
            seen.add(candidate.command)
            yield candidate


def _all_candidates() -> Iterator[Candidate]:
    for variable in ROCM_VARIABLES:
        if os.environ.get(variable):
            yield from _of_rocm(Path(os.environ[variable]), variable)
    for name in ROCM_PACKAGES:
        spec = importlib.util.find_spec(name)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            yield from _of_rocm(Path(folder), f"Python package {name}")
    for root in rocm_folders(Path("/opt")):
        yield from _of_rocm(root, str(root))
    on_path = shutil.which("hipcc")
    if on_path:
        yield Candidate(Path(on_path), "hipcc", "PATH")
    for number in CLANG_VERSIONS:
        found = shutil.which(f"clang++-{number}")
        if found:
            yield Candidate(Path(found), "clang", "PATH")
    own = installed()
    if own is not None:
        if own.hipcc is not None:
            yield Candidate(own.hipcc, "hipcc", CURE, own.id)
        yield Candidate(own.clangxx, "clang", CURE, own.id)


def rocm_folders(opt: Path) -> list[Path]:
    """/opt/rocm, then /opt/rocm-* with the highest version first."""
    versioned = [path for path in opt.glob("rocm-*") if path.is_dir()]
    versioned.sort(key=lambda path: [int(number) for number in re.findall(r"\d+", path.name)], reverse=True)
    return [path for path in (opt / "rocm", *versioned) if path.is_dir()]


def _of_rocm(root: Path, origin: str) -> Iterator[Candidate]:
    yield Candidate(root / "bin" / "hipcc", "hipcc", origin)
    for folder in ("lib/llvm/bin", "llvm/bin"):
        yield Candidate(root / folder / "clang++", "clang", origin)


def _toolchain(candidate: Candidate, verdict: Verdict, arches: tuple[str, ...]) -> AmdToolchain:
    identity = verdict.identity
    changing = [f"{name}={os.environ[name]}" for name in OUTPUT_CHANGING_ENV if os.environ.get(name)]
    if changing:
        identity += " with " + hashlib.sha256("\n".join(changing).encode()).hexdigest()[:12]
    return AmdToolchain(
        command=(str(candidate.command),),
        env=dict(AMD_ENV),
        flavour=candidate.flavour,
        version=verdict.version,
        identity=identity,
        source=candidate.origin,
        arches=arches,
        llvm=llvm_tools(_llvm_bins(candidate.command, [Path(str(entry[0])) for entry in verdict.files])),
    )


def _llvm_bins(command: Path, real: Sequence[Path]) -> list[Path]:
    """Folders of the LLVM programs behind a compiler; `real` are the programs that it was seen to be."""
    beside = [command.parent.parent / folder for folder in (f"{LLVM}/bin", "lib/llvm/bin", "llvm/bin")]
    folders = dict.fromkeys((*(path.parent for path in real), command.resolve().parent, *beside))
    return [path for path in folders if path.is_dir()]


def llvm_tools(bins: Sequence[Path]) -> LLVMTools:
    """The first shared LLVM and the first llvm-objdump in or beside these folders of LLVM programs."""
    objdump = next((path for bin in bins if (path := bin / "llvm-objdump").is_file()), None)
    for lib in (bin.parent / "lib" for bin in bins):
        found = sorted((path for path in lib.glob("libLLVM*.so*") if path.exists()), key=lambda path: len(path.name))
        if found:
            # libxml2 needs ICU and has no search path of its own; loaded first, all are found by name (dependency order)
            names = ("icudata", "icuuc", "xml2", "md", "bsd", "edit", "z3")
            beside = {path.resolve(): None for name in names for path in sorted(lib.glob(f"lib{name}.so.*"))}
            return LLVMTools(found[0].resolve(), objdump, tuple(beside))
    return LLVMTools(None, objdump)


def find_llvm_tools() -> LLVMTools:
    """What can disassemble, from any compiler that is there; nothing is started or compiled for it."""
    from kgen.settings import HIPCC

    best = LLVMTools()
    for candidate in candidates(HIPCC.value):
        tools = llvm_tools(_llvm_bins(candidate.command, ()))
        if tools.libllvm is not None:
            return tools
        best = tools if tools.disassembler and not best.disassembler else best
    return best


def engine_compilers() -> list[tuple[str, ...]]:
    """C compilers that kgen's own folder offers, as command prefixes.

    They have no C library's headers or start files: enough for the emulator's engine, which needs neither.
    """
    own = installed()
    return [(str(own.clang), "-fuse-ld=lld")] if own is not None else []
