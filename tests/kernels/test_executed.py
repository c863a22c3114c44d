"""Every kernel that a dispatch table names, and every value of every parameter, executed in the emulator on all five AMD targets."""

from __future__ import annotations

import pytest

from kgen.spec.wvsplitk import WvSplitKSpec
from kgen.verify.devices import EmulatedDevice
from kgen.verify.run import check_manifest
from tests.kernels.built import AMD, all_specs, of_family

PARTS = 4  # shares of a target's kernels, so that workers of xdist have something to split


@pytest.mark.hipcc
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("arch", AMD)
def test_kernels_are_right_within_bounds_and_free_of_races(arch, part, built):
    names = sorted(all_specs(arch))[part::PARTS]
    kernels = built(arch)
    results = check_manifest(kernels.folder, EmulatedDevice(arch), names=names)
    assert {result.kernel for result in results} == set(names)
    wrong = [f"{result.kernel}: {result.words}: {result.why}" for result in results if not result.ok]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("arch", [*AMD, "sm_90"])
def test_wvsplitk_has_default_kernels_for_every_n_and_dtype(arch):
    covered = {(spec.dtype, spec.N) for spec in of_family(WvSplitKSpec, arch).values()}
    assert covered == {(dtype, n) for dtype in ("bf16", "fp16") for n in range(1, 9)}
