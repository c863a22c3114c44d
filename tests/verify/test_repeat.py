"""Ten runs beside other work: every family's kernels give the same bits, and a kernel that does not is caught."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

from kgen.errors import EmulatorError
from kgen.spec.base import KernelSpec
from kgen.spec.linear import LinearSpec
from kgen.spec.wvsplitk import WvSplitKSpec
from kgen.verify.devices import EmulatedDevice, Ran
from kgen.verify.repeat import RUNS, judge_repeats, promises_same_bits
from tests.kernels.built import AMD, Built, build_all, default_specs

SPEC = WvSplitKSpec(arch="gfx1151", dtype="bf16", N=2, THRDS=32, YTILE=2, WvPrGrp=4, UNRL=1)


class Counting:
    """A device whose outputs are decided by the test; `at_once` is the most runs that there ever were at the same time."""

    name, arch, cu, parallel = "counting", "gfx1151", 20, True

    def __init__(self, outputs):
        self.outputs, self.lock, self.runs, self.now, self.at_once = outputs, threading.Lock(), 0, 0, 0
        self.main = threading.get_ident()

    def load(self, spec, image):
        return None

    def run(self, kernel, geometry, shape, data, options, order):
        with self.lock:
            self.now += 1
            self.at_once = max(self.at_once, self.now)
        threading.Event().wait(0.002)
        with self.lock:
            self.now -= 1
        if threading.get_ident() != self.main:
            return Ran(np.zeros((shape.N, shape.M), np.uint16))
        self.runs += 1
        return Ran(np.full((shape.N, shape.M), next(self.outputs), np.uint16))


def test_ten_runs_are_made_beside_others():
    device = Counting(itertools.repeat(0))
    verdict = judge_repeats(SPEC, b"", device)
    assert verdict.ok, verdict.words
    assert device.runs == RUNS == 10
    assert device.at_once >= 2


def test_one_other_bit_in_the_last_run_fails():
    verdict = judge_repeats(SPEC, b"", Counting(iter([*[0] * 9, 1])))
    assert not verdict.ok
    assert "run 10 of 10" in verdict.words


def test_even_the_sign_of_zero_must_be_the_same():
    assert not judge_repeats(SPEC, b"", Counting(iter([*[0] * 9, 0x8000]))).ok


def test_a_failure_of_the_other_work_is_raised():
    class Failing(Counting):
        def run(self, *args):
            if threading.get_ident() != self.main:
                raise EmulatorError("beside")
            return super().run(*args)

    with pytest.raises(EmulatorError, match="beside"):
        judge_repeats(SPEC, b"", Failing(itertools.repeat(0)))


def representatives(arch: str) -> list[LinearSpec]:
    """One default kernel of every family, dtype and way of staging, the one with the most rows."""
    found: dict[tuple[object, ...], KernelSpec] = {}
    for spec in sorted(default_specs(arch).values(), key=lambda spec: getattr(spec, "N", 1)):
        if isinstance(spec, LinearSpec) and promises_same_bits(spec):
            found[spec.family, spec.dtype, getattr(spec, "STAGING", None)] = spec
    return list(found.values())


@pytest.mark.hipcc
@pytest.mark.parametrize("arch", AMD)
def test_kernels_of_every_family_give_the_same_bits_ten_times_beside_other_work(arch, request):
    kernels: Built = build_all(arch, request.config.cache.mkdir("kgen-kernels"))
    wrong, specs = [], representatives(arch)
    assert {spec.family for spec in specs} >= {"wvsplitk", "llmm1"}
    for spec in specs:
        image = kernels.manifest.entries[spec.name].image(kernels.folder)
        verdict = judge_repeats(spec, image, EmulatedDevice(arch))
        if not verdict.ok:
            wrong.append(f"{spec.name}: {verdict.words}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.hipcc
def test_a_full_check_of_a_build_folder_repeats_every_kernel(tmp_path):
    from kgen.build import build
    from kgen.verify.run import check_manifest
    from tests.kernels.built import compiler

    assert not build([SPEC], arch="gfx1151", folder=tmp_path, tools=compiler()).failed
    for level, wanted in (("quick", 0), ("full", 1)):
        results = check_manifest(tmp_path, EmulatedDevice("gfx1151"), level)
        repeats = [result for result in results if result.words == "same bits beside other work"]
        assert len(repeats) == wanted
        assert all(result.ok for result in results)
