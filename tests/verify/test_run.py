"""A check catches kernels that are wrong in the ways kernels are: each test breaks a good one and names what must be said."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace

import pytest

from kgen.build import build
from kgen.errors import CodeObjectError, WrongArchError
from kgen.render import render
from kgen.spec.problem import GemmShape
from kgen.spec.wvsplitk import WvSplitKSpec
from kgen.verify.cases import Case, cases
from kgen.verify.devices import CheckOptions, EmulatedDevice
from kgen.verify.run import check_kernel, check_manifest
from tests.kernels.built import compiler

SPEC = WvSplitKSpec(arch="gfx1151", dtype="bf16", N=2, THRDS=32, YTILE=2, WvPrGrp=4, UNRL=1, STAGING="window")
MATRIX = WvSplitKSpec(arch="gfx942", dtype="bf16", N=2, THRDS=64, YTILE=4, WvPrGrp=2, UNRL=1, STAGING="lds")
pytestmark = pytest.mark.hipcc


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """compiled(spec, {old: new, ...}) -> code object of the rendered source with these replacements, each of which must apply."""
    folder, tools = tmp_path_factory.mktemp("broken"), compiler()

    def compile_one(spec, changes=None):
        text = render(spec).text
        for old, new in (changes or {}).items():
            assert old in text, f"the template has changed: no {old!r} in it"
            text = text.replace(old, new)
        source, out = folder / "kernel.hip", folder / "kernel.hsaco"
        source.write_text(text)
        command = tools.compile_command(spec.arch, source, out)
        subprocess.run(command, env=os.environ | dict(tools.env), check=True, capture_output=True)
        return out.read_bytes()

    return compile_one


def failures(spec, image, options=None):
    """What a quick check has against an image: case words -> why."""
    results = check_kernel(spec, image, EmulatedDevice(spec.arch), options=options or CheckOptions())
    return {result.words: result.why for result in results if not result.ok}


@pytest.mark.parametrize("spec", [SPEC, MATRIX], ids=["dot2", "matrix"])
def test_a_good_kernel_has_no_failures(spec, compiled):
    results = check_kernel(spec, compiled(spec), EmulatedDevice(spec.arch))
    assert not [result for result in results if not result.ok]
    assert all(result.instructions for result in results)
    words = {result.words for result in results}
    assert {"same bits in another order", "same bits without padding", "same bits beside other rows"} <= words


def test_a_missing_barrier_is_a_race(compiled):
    broken = compiled(SPEC, {"      barrier();  // everyone is done with the last window\n": ""})
    assert any("since the last barrier" in why for why in failures(SPEC, broken).values())


def test_a_remainder_of_k_that_is_left_out_is_wrong(compiled):
    broken = compiled(SPEC, {"for (; k0 < end; k0 += SLAB": "for (; k0 < main_end; k0 += SLAB"})
    assert any("the tolerance" in why for why in failures(SPEC, broken).values())


def test_stale_lanes_in_a_matrix_instruction_are_wrong(compiled):
    """The instruction ignores which lanes are switched off, on the hardware and in the emulator."""
    multiply = "      UNROLL\n      for (u32 n = 0; n < N_TILES; n++)\n        UNROLL\n        for (u32 y = 0; y < Y_TILES; y++) sum"
    broken = compiled(MATRIX, {multiply: f"      if (k0 + lane_k + p * PIECE < end)\n{multiply}"})
    assert failures(MATRIX, broken)


def test_reading_beyond_the_last_weight_row_is_a_fault(compiled):
    broken = compiled(SPEC, {"m0 + y * ROWS < M ? m0 + y * ROWS : M - 1;": "m0 + y * ROWS;"})
    assert any("invalid read" in why and "argument 0" in why for why in failures(SPEC, broken).values())


def test_storing_rows_that_do_not_exist_is_caught(compiled):
    broken = compiled(SPEC, {"if (lane < YTILE && m < M)": "if (lane < YTILE)"})
    assert failures(SPEC, broken)


def test_rows_that_are_never_stored_are_caught(compiled):
    broken = compiled(SPEC, {"tile += groups": "tile += 2 * groups"})
    assert any("never written" in why for why in failures(SPEC, broken).values())


def test_truncating_instead_of_rounding_is_caught(compiled):
    cut = "__builtin_bit_cast(bf16, static_cast<u16>(__builtin_bit_cast(u32, value) >> 16))"
    broken = compiled(SPEC, {"round_to<T>(value);": f"{cut};"})
    assert any("mean error" in why for why in failures(SPEC, broken).values())


def test_a_bias_without_its_row_pitch_is_caught(compiled):
    broken = compiled(SPEC, {"bias[static_cast<u64>(n) * bias_stride + m]": "bias[m]"})
    assert failures(SPEC, broken)


def test_a_padded_row_that_counts_as_data_is_caught(compiled):
    broken = compiled(SPEC, {"weight + static_cast<u64>(m) * weight_stride": "weight + static_cast<u64>(m) * K"})
    assert failures(SPEC, broken)


def test_a_kernel_that_never_ends_fails_instead_of_hanging(compiled):
    broken = compiled(SPEC, {"tile += groups": "tile += 0"})
    found = failures(SPEC, broken, CheckOptions(max_instructions=100_000))
    assert any("more than 100000" in why for why in found.values())


def test_another_targets_kernel_is_refused_by_both_names(compiled):
    with pytest.raises(WrongArchError, match=r"gfx1151.*gfx942"):
        check_kernel(SPEC, compiled(SPEC), EmulatedDevice("gfx942"))


def test_a_truncated_image_is_refused(compiled):
    with pytest.raises(CodeObjectError):
        check_kernel(SPEC, compiled(SPEC)[:1000], EmulatedDevice("gfx1151"))


def test_no_cases_means_no_results(compiled):
    assert check_kernel(SPEC, compiled(SPEC), EmulatedDevice("gfx1151"), chosen=()) == []


def test_counts_are_in_the_results_when_asked_for(compiled):
    case = Case("one tile", GemmShape(8, 2, 256))
    (result,) = check_kernel(
        SPEC, compiled(SPEC), EmulatedDevice("gfx1151"), [case], CheckOptions(counts=True, bits=False)
    )
    assert result.traffic is not None
    # Each of the 8 weight rows once, and the two activation rows once for the group.
    assert result.traffic["bytes_loaded"] == 2 * 256 * (8 + 2)
    assert result.traffic["bytes_stored"] == 2 * 8 * 2


def test_a_manifest_is_checked_in_its_order_with_progress_and_damage_is_a_result(tmp_path):
    specs = [SPEC, SPEC.model_copy(update={"N": 1}), SPEC.model_copy(update={"dtype": "fp16"})]
    manifest = build(specs, arch="gfx1151", folder=tmp_path, tools=compiler()).manifest
    victim = manifest.kernels[1]
    (tmp_path / str(victim.path)).write_bytes(b"\x7fELF")
    seen = []
    results = check_manifest(
        tmp_path, EmulatedDevice("gfx1151"), progress=lambda done, of, name: seen.append((done, of, name))
    )
    assert [done for done, _, _ in seen] == [1, 2, 3]
    assert list(dict.fromkeys(result.kernel for result in results)) == [entry.name for entry in manifest.kernels]
    bad = [result for result in results if not result.ok]
    assert [result.kernel for result in bad] == [victim.name]
    assert "kgen build" in bad[0].why


def test_results_are_plain_json(compiled):
    broken = compiled(SPEC, {"tile += groups": "tile += 2 * groups"})
    results = check_kernel(SPEC, broken, EmulatedDevice("gfx1151"))
    row = json.loads(json.dumps([result.as_json() for result in results], allow_nan=False))[0]
    assert {"kernel", "ok", "max_abs_err", "mean_abs_err", "tolerance", "seed", "shape", "device"} <= set(row)
    assert row["shape"] == {"M": results[0].shape[0], "N": 2, "K": results[0].shape[2]}


def test_the_same_case_gives_the_same_result_twice(compiled):
    image, chosen = compiled(SPEC), [replace(cases(SPEC)[0], words="again")]
    first, second = (check_kernel(SPEC, image, EmulatedDevice("gfx1151"), chosen) for _ in range(2))
    assert first == second
