"""Run kernels over their cases and judge what comes back. One `CaseResult` per kernel and case, also where the kernel was stopped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kgen.build.manifest import KernelEntry, load_manifest
from kgen.build.run import processors
from kgen.errors import KgenError, WrongArchError
from kgen.spec.base import KernelSpec
from kgen.spec.registry import family_class
from kgen.verify.accuracy import Verdict, judge, judge_exact
from kgen.verify.cases import Case, Level
from kgen.verify.data import Data
from kgen.verify.devices import CheckDevice, CheckOptions, Ran
from kgen.verify.kinds import kind_of
from kgen.verify.repeat import judge_repeats, promises_same_bits

Progress = Callable[[int, int, str], None]
"""(kernels done, kernels in all, name of the last one)."""

DEFAULT = CheckOptions()


@dataclass(frozen=True)
class CaseResult:
    """One kernel on one case.

    words         the case; why: what the rules say of it, or what stopped the kernel
    max_abs_err, mean_abs_err, tolerance   absolute; None where there is no output or it is not finite
    instructions  wave instructions executed, where they are counted; traffic: bytes and lines, where asked for
    """

    kernel: str
    arch: str
    device: str
    words: str
    shape: tuple[int, int, int]
    seed: int
    ok: bool
    why: str
    max_abs_err: float | None = None
    mean_abs_err: float | None = None
    tolerance: float | None = None
    instructions: int | None = None
    traffic: dict[str, int] | None = None

    def as_json(self) -> dict[str, Any]:
        """A plain dict; `shape` becomes {"M", "N", "K"}."""
        return {**asdict(self), "shape": dict(zip("MNK", self.shape, strict=True))}


def check_kernel(
    spec: KernelSpec,
    image: bytes,
    device: CheckDevice,
    chosen: Sequence[Case] | None = None,
    options: CheckOptions = DEFAULT,
) -> list[CaseResult]:
    """Run one kernel over `chosen` cases (default: the quick ones) and over its bit comparisons.

    A fault, race or endless loop is a failed result, not an exception. Raises CodeObjectError when the image cannot be loaded at all and
    WrongArchError when the device runs another target.
    """
    if spec.arch != device.arch:
        raise WrongArchError(f"{spec.name} is built for {spec.arch}; {device.name} runs {device.arch}")
    check = _Check(spec, device, device.load(spec, image), options)
    todo = list(kind_of(spec).cases(spec, "quick") if chosen is None else chosen)
    out = [check.judged(case) for case in todo]
    if options.bits and todo and spec.same_bits:
        out += check.bits(todo[0])
    return out


def check_manifest(
    folder: Path,
    device: CheckDevice,
    level: Level = "quick",
    names: Iterable[str] | None = None,
    options: CheckOptions = DEFAULT,
    progress: Progress | None = None,
    jobs: int | None = None,
) -> list[CaseResult]:
    """Check the built kernels of a build folder (or those in `names`), side by side where the device allows it.

    Results come in the manifest's order. A kernel that was not built, or whose file is damaged, is one failed result.
    """
    manifest = load_manifest(folder)
    wanted = None if names is None else set(names)
    entries = [entry for entry in manifest.kernels if wanted is None or entry.name in wanted]
    found: dict[str, list[CaseResult]] = {}
    with ThreadPoolExecutor((jobs or processors()) if device.parallel else 1) as pool:
        running = {pool.submit(_check_entry, entry, folder, device, level, options): entry.name for entry in entries}
        for future in as_completed(running):
            found[running[future]] = future.result()
            if progress is not None:
                progress(len(found), len(entries), running[future])
    return [result for entry in entries for result in found[entry.name]]


def _check_entry(
    entry: KernelEntry, folder: Path, device: CheckDevice, level: Level, options: CheckOptions
) -> list[CaseResult]:
    try:
        spec = family_class(entry.family).checked(entry.spec, where=entry.name)
        image = entry.image(folder)
        found = check_kernel(spec, image, device, kind_of(spec).cases(spec, level), options)
        return [*found, _repeated(spec, image, device)] if level == "full" and promises_same_bits(spec) else found
    except WrongArchError:
        raise
    except KgenError as error:
        return [CaseResult(entry.name, entry.arch, device.name, "load", (0, 0, 0), 0, False, str(error))]


def _repeated(spec: KernelSpec, image: bytes, device: CheckDevice) -> CaseResult:
    """The kernel's first case ten times beside other work."""
    check = _Check(spec, device, None, DEFAULT)
    case = kind_of(spec).cases(spec, "quick")[0]
    return check.result(case, "same bits beside other work", judge_repeats(spec, image, device, case))


class _Check:
    """One loaded kernel on a device."""

    def __init__(self, spec: KernelSpec, device: CheckDevice, kernel: Any, options: CheckOptions):
        self.spec, self.device, self.kernel, self.options = spec, device, kernel, options
        self.kind = kind_of(spec)

    def judged(self, case: Case) -> CaseResult:
        """One case by the accuracy rules; zero inputs by equality."""
        data = self.kind.data(self.spec, case)
        try:
            ran = self._run(case, data)
        except KgenError as error:
            return self.result(case, case.title(), Verdict(False, math.nan, math.nan, math.nan, str(error)))
        if data.expected is not None:
            verdict = judge_exact(ran.out, data.expected, self.spec.dtype)
        else:
            model = self.kind.accumulation(self.spec, case.shape)
            verdict = judge(ran.out, data.reference, data.magnitude, self.spec.dtype, model)
        return self.result(case, case.title(), verdict, ran)

    def bits(self, case: Case) -> list[CaseResult]:
        """The same sums must give the same bits, in every way that the kind knows."""
        data, dtype = self.kind.data(self.spec, case), self.spec.dtype
        out = []
        try:
            first = self._run(case, data).out
            for variant in self.kind.variants(self.spec, case, data):
                ran = self._run(case, variant.data, variant.order)
                verdict = judge_exact(ran.out[variant.ours], first[variant.theirs], dtype)
                out.append(self.result(case, variant.words, verdict, ran))
        except KgenError as error:
            out.append(self.result(case, "same bits", Verdict(False, math.nan, math.nan, math.nan, str(error))))
        return out

    def _run(self, case: Case, data: Data, order: str = "linear") -> Ran:
        geometry = self.spec.launch(case.shape, case.cu or self.device.cu)
        return self.device.run(self.kernel, geometry, case.shape, data, self.options, order)

    def result(self, case: Case, words: str, verdict: Verdict, ran: Ran | None = None) -> CaseResult:
        """A verdict as a row of the report."""
        max_err, mean_err, bound = (
            value if math.isfinite(value) else None
            for value in (verdict.max_abs_err, verdict.mean_abs_err, verdict.tolerance)
        )
        return CaseResult(
            kernel=self.spec.name,
            arch=self.spec.arch,
            device=self.device.name,
            words=words,
            shape=(case.shape.M, case.shape.N, case.shape.K),
            seed=case.seed,
            ok=verdict.ok,
            why=verdict.words,
            max_abs_err=max_err,
            mean_abs_err=mean_err,
            tolerance=bound,
            instructions=ran.instructions if ran else None,
            traffic=ran.traffic if ran else None,
        )
