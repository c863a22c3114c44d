"""kgen build: specs -> code objects and a manifest in one target's folder.

What is there and current is kept, the rest is compiled, the manifest is replaced whole at the end. Safe to kill at any time and to run
twice at once: one lock per folder, outputs are taken over only when whole, and what an earlier build finished is believed only if its
digest is the recorded one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kgen.build.folder import BuildFolder, disk_errors, disk_full, write_whole
from kgen.build.key import Toolchain, deciding_files, environment_digest
from kgen.build.manifest import Compiler, KernelEntry, Manifest, parse_manifest
from kgen.errors import CodeObjectError, ManifestError, Problem, SpecError

if TYPE_CHECKING:  # a build that finds nothing to do renders nothing, reads no code object and runs no ninja
    from kgen.build.plan import BuildPlan, Variant
    from kgen.spec.base import KernelSpec

Progress = Callable[[int, int, str, float], None]
"""Called as each compile ends: (done, total, kernel name, estimated seconds left)."""

_FULL_WORDS = ("No space left on device", "Disk quota exceeded")
_NO_ROOM = 64 * 1024  # bytes: less than any code object and its temporary files need


@dataclass(frozen=True)
class Failure:
    """A kernel that could not be built: the shortened words, and the file with all of them if there are more."""

    name: str
    error: str
    log: Path | None


@dataclass(frozen=True)
class BuildResult:
    """What a build left: the folder's manifest, the asked kernels that failed, how many were compiled now, and in what time."""

    folder: Path
    manifest: Manifest
    failed: list[Failure] = field(default_factory=list)
    compiled: int = 0
    seconds: float = 0.0


def build(
    specs: Iterable[KernelSpec],
    *,
    arch: str,
    progress: Progress | None = None,
    jobs: int | None = None,
    folder: Path | None = None,
    tools: Toolchain | None = None,
    waiting: Callable[[str], None] | None = None,
) -> BuildResult:
    """Build the specs (all of target `arch`) into its folder, next to what is there and still current.

    jobs      compiles at a time; default: all processors
    folder    default: settings.build_dir(arch)
    tools     default: the compiler that kgen.toolchain finds
    waiting   gets one sentence when another build holds the folder

    Failed variants are in the result and the manifest and do not stop the rest; they are tried again by the next build. Raises SpecError
    (a spec of another target), ToolchainError (no compiler), MissingPieceError (no ninja; no space, then nothing is lost).
    """
    from kgen.settings import build_dir

    start = time.monotonic()
    wanted = _by_name(specs, arch)
    tools = tools or _find_tools(arch)
    home = BuildFolder(Path(folder) if folder is not None else build_dir(arch))
    with home.locked(waiting) as lock, disk_errors(home.path):
        before = _Before.read(home, wanted, tools, arch)
        if before.nothing_to_do:
            assert before.manifest is not None
            return BuildResult(home.path, before.manifest, seconds=time.monotonic() - start)
        home.clean_work()
        plan = before.plan(tools)
        work = _Work(home, plan, progress)
        work.take_over_finished()
        work.compile(tools, jobs, lock)
        manifest = _manifest(arch, tools, [*before.current.values(), *work.entries.values()])
        _finish(home, manifest, before.environment)
    failed = [
        Failure(entry.name, entry.error or "", home.path / entry.log if entry.log else None)
        for entry in manifest.kernels
        if not entry.built
    ]
    return BuildResult(home.path, manifest, failed, len(plan.edges), time.monotonic() - start)


def dry_run(
    specs: Iterable[KernelSpec], *, arch: str, folder: Path | None = None, tools: Toolchain | None = None
) -> BuildPlan:
    """What `build` would do now, touching nothing: `edges` would be compiled. Kernels that are current without rendering are left out."""
    from kgen.settings import build_dir

    tools = tools or _find_tools(arch)
    home = BuildFolder(Path(folder) if folder is not None else build_dir(arch))
    return _Before.read(home, _by_name(specs, arch), tools, arch).plan(tools)


def _find_tools(arch: str) -> Toolchain:
    from kgen.toolchain.find import find_toolchain

    return find_toolchain(arch)


def _by_name(specs: Iterable[KernelSpec], arch: str) -> dict[str, KernelSpec]:
    """The specs by kernel name; raises SpecError for those of another target."""
    wanted = {spec.name: spec for spec in specs}
    stray = [spec for spec in wanted.values() if spec.arch != arch]
    if stray:
        problems = [Problem(("arch",), spec.arch, arch, where=name) for name, spec in wanted.items() if spec in stray]
        raise SpecError(f"a build for {arch} was given specs for another target", problems)
    return wanted


@dataclass
class _Before:
    """The folder as it was found.

    current      entries that stand as they are: made in this very environment, files whole
    todo         specs to render: asked and not current, then those of earlier builds
    keys         key of every entry of the old manifest
    have         code object files that are whole, whoever made them
    """

    home: BuildFolder
    arch: str
    environment: str
    wanted: dict[str, KernelSpec]
    manifest: Manifest | None
    current: dict[str, KernelEntry]

    @classmethod
    def read(cls, home: BuildFolder, wanted: dict[str, KernelSpec], tools: Toolchain, arch: str) -> _Before:
        """Look at the folder. A damaged manifest counts as none: building is how it is mended."""
        modules = {type(spec).__module__ for spec in wanted.values()}
        environment = environment_digest(tools, arch, deciding_files(modules))
        manifest, digest = _read_manifest(home, arch)
        current = {}
        if manifest is not None and home.read_stamp() == (environment, digest):
            current = {e.name: e for e in manifest.kernels if e.built and _files_whole(home, e)}
        return cls(home, arch, environment, wanted, manifest, current)

    @property
    def nothing_to_do(self) -> bool:
        return (
            self.manifest is not None
            and self.current.keys() >= self.wanted.keys()
            and len(self.current) == len(self.manifest.kernels)
        )

    def plan(self, tools: Toolchain) -> BuildPlan:
        """What is asked and not current, and what earlier builds left if its key is still the same."""
        from kgen.build.plan import BuildPlan, plan_build

        entries = self.manifest.entries if self.manifest is not None else {}
        asked = [spec for name, spec in self.wanted.items() if name not in self.current]
        others = [e for name, e in entries.items() if e.built and name not in self.wanted and name not in self.current]
        earlier = [spec for entry in others if (spec := _spec_of(entry)) is not None]
        plan = plan_build(self.arch, [*asked, *earlier], tools, self._whole_objects())
        gone = {v.name for v in plan.variants if v.name not in self.wanted and v.key != entries[v.name].key}
        return BuildPlan(
            self.arch,
            tuple(v for v in plan.variants if v.name not in gone),
            tuple(v for v in plan.edges if v.name not in gone),
        )

    def _whole_objects(self) -> set[str]:
        digests = {e.path: e.digest for e in self.manifest.kernels if e.path} if self.manifest is not None else {}
        digests.update(self.home.journalled())
        return {name for name, digest in digests.items() if self.home.whole(name, digest)}


class _Work:
    """The part of a build that makes files: `entries` fills up with one entry per variant of the plan."""

    def __init__(self, home: BuildFolder, plan: BuildPlan, progress: Progress | None):
        self.home = home
        self.plan = plan
        self.progress = progress
        self.entries: dict[str, KernelEntry] = {}
        self.refused: dict[str, str] = {}
        self.edges = {variant.name: variant for variant in plan.edges}
        self.start = time.monotonic()

    def take_over_finished(self) -> None:
        """Write the sources, and read the code objects that need no compiling; one that does not match its spec is a failure."""
        for variant in self.plan.variants:
            if not self.home.whole(variant.source_file, variant.source.digest):
                write_whole(self.home.path / variant.source_file, variant.source.text.encode(), durable=False)
            if variant.name not in self.edges:
                self._take(variant, self.home.path / variant.object_file, self._kept_log(variant))

    def compile(self, tools: Toolchain, jobs: int | None, lock: int) -> None:
        """Run ninja over the edges. Raises MissingPieceError when the disk is full; what was finished stays in the journal."""
        from kgen.build.ninja import write_ninja
        from kgen.build.run import processors, run_ninja

        codes: dict[str, int | None] = {}
        if self.plan.edges:
            self.home.ninja_file.write_text(write_ninja(self.plan, tools), encoding="utf-8")
            ended = run_ninja(self.home, tools.env, jobs or processors(), lock, self._finished)
            codes = dict(ended.codes)
            self._stop_if_full(ended.words)
        for variant in self.plan.variants:
            if variant.name not in self.entries:
                self.entries[variant.name] = self._failure(variant, codes.get(variant.name))

    def _finished(self, name: str, done: int, total: int) -> None:
        variant = self.edges[name]
        made = self.home.work / variant.object_file
        if made.is_file():
            final = self.home.path / variant.object_file
            self._take(variant, made, self._keep_log(variant))
            if name in self.entries:
                made.replace(final)
                self.home.note(variant.object_file, self.entries[name].digest or "")
        if self.progress is not None:
            left = (time.monotonic() - self.start) / done * (total - done)
            self.progress(done, total, name, left)

    def _take(self, variant: Variant, path: Path, log: str | None) -> None:
        from kgen.build.entry import built_entry

        try:
            self.entries[variant.name] = built_entry(variant, path.read_bytes(), log)
        except CodeObjectError as error:
            self.refused[variant.name] = str(error)

    def _failure(self, variant: Variant, code: int | None) -> KernelEntry:
        from kgen.build.entry import failed_entry
        from kgen.build.run import shortened

        log = self._keep_log(variant)
        text = (self.home.path / log).read_text(encoding="utf-8", errors="replace") if log else ""
        return failed_entry(variant, self.refused.get(variant.name) or shortened(text, code), log)

    def _keep_log(self, variant: Variant) -> str | None:
        """Move the compiler's words from the work folder to logs/, in place of older ones; None if it had none."""
        said, kept = self.home.work / f"{variant.name}.log", self.home.logs / f"{variant.name}.log"
        if not said.is_file():
            return self._kept_log(variant)
        if not said.stat().st_size:
            kept.unlink(missing_ok=True)
            return None
        kept.parent.mkdir(exist_ok=True)
        said.replace(kept)
        return self._kept_log(variant)

    def _kept_log(self, variant: Variant) -> str | None:
        kept = self.home.logs / f"{variant.name}.log"
        return str(kept.relative_to(self.home.path)) if kept.is_file() else None

    def _stop_if_full(self, ninja_words: str) -> None:
        """A compiler that finds the disk full says nothing about its kernel: stop, rather than write down failures."""
        missing = [name for name in self.edges if name not in self.entries and name not in self.refused]
        if not missing:
            return
        logs = [self.home.work / f"{name}.log" for name in missing]
        words = [ninja_words, *(log.read_text(encoding="utf-8", errors="replace") for log in logs if log.is_file())]
        stat = os.statvfs(self.home.path)
        if stat.f_bavail * stat.f_frsize < _NO_ROOM or any(full in text for text in words for full in _FULL_WORDS):
            error = disk_full(self.home.path)
            self.home.clean_work()
            raise error


def _read_manifest(home: BuildFolder, arch: str) -> tuple[Manifest | None, str]:
    """(manifest, SHA-256 of its file), or (None, "") when there is none that can be used."""
    import hashlib

    try:
        data = home.manifest.read_bytes()
        manifest = parse_manifest(data, str(home.manifest), "")
    except (FileNotFoundError, ManifestError):
        return None, ""
    return (manifest, hashlib.sha256(data).hexdigest()) if manifest.arch == arch else (None, "")


def _files_whole(home: BuildFolder, entry: KernelEntry) -> bool:
    return home.whole(entry.path or "", entry.digest) and home.whole(entry.source_path, entry.source_digest)


def _spec_of(entry: KernelEntry) -> KernelSpec | None:
    """The spec of an earlier build's kernel, or None if today's families do not know it any more."""
    from kgen.spec.registry import spec_from_name

    try:
        return spec_from_name(entry.name, entry.arch)
    except SpecError:
        return None


def _manifest(arch: str, tools: Toolchain, entries: Sequence[KernelEntry]) -> Manifest:
    from kgen.build.entry import mark_twins

    compiler = Compiler(
        flavour=tools.flavour, version=tools.version, identity=tools.identity, flags=tuple(tools.flags(arch))
    )
    return Manifest(schema=1, arch=arch, compiler=compiler, kernels=tuple(mark_twins(entries)))


def _finish(home: BuildFolder, manifest: Manifest, environment: str) -> None:
    """Replace the manifest, then forget what it makes superfluous. Killed between the steps, the next build only works a little more."""
    import hashlib

    data = manifest.dump()
    write_whole(home.manifest, data)
    home.write_stamp(environment, hashlib.sha256(data).hexdigest())
    home.journal.unlink(missing_ok=True)
    home.clean_work()
    home.remove_stale(
        name for entry in manifest.kernels for name in (entry.path, entry.source_path) if name is not None
    )
