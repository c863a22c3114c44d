"""What the machine code of dequantize_w4a16 promises: wide loads and stores, words exchanged in registers, nothing in LDS, few instructions."""

from __future__ import annotations

import pytest

from kgen.binary import read_binary
from kgen.binary.isa import isa_report
from kgen.binary.sass import find
from kgen.build import build
from kgen.errors import ToolchainError
from kgen.spec.dequantize_w4a16 import DequantizeW4A16Spec
from kgen.toolchain.nvidia import find_nvidia
from tests.kernels.built import AMD, all_specs, compiler, of_family

pytestmark = pytest.mark.hipcc
# Instructions of a lane for each weight, at most, with groups of 128: memory takes longer on every target.
BARS = {("bf16", "gfx950"): 6.0, ("bf16", "gfx942"): 9.0, "bf16": 10.0, "fp16": 5.5}


def everything(arch: str) -> dict[str, DequantizeW4A16Spec]:
    """Default kernels and parameters."""
    return {name: spec for name, spec in all_specs(arch).items() if isinstance(spec, DequantizeW4A16Spec)}


@pytest.mark.parametrize("arch", AMD)
def test_nothing_spills_and_lds_is_not_used(arch, built):
    entries = built(arch).manifest.entries
    for name in everything(arch):
        entry = entries[name]
        assert (entry.vgpr_spills, entry.sgpr_spills, entry.scratch_bytes, entry.lds_bytes) == (0, 0, 0, 0), name


@pytest.mark.parametrize("arch", AMD)
def test_codes_come_and_weights_go_sixteen_bytes_at_a_time(arch, built):
    kernels = built(arch)
    for name, spec in everything(arch).items():
        opcodes = kernels.isa(name).opcodes
        stores = {opcode: count for opcode, count in opcodes.items() if "_store_" in opcode}
        assert stores == {"global_store_b128" if arch.startswith("gfx1") else "global_store_dwordx4": 4 * spec.UNRL}, (
            name
        )
        wide = opcodes["global_load_b128"] + opcodes["global_load_dwordx4"]
        assert wide == spec.UNRL, name
        assert sum(count for opcode, count in opcodes.items() if opcode.startswith("ds_")) == 0, name


@pytest.mark.parametrize("arch", AMD)
def test_full_occupancy_in_the_tables(arch, built):
    entries = built(arch).manifest.entries
    for name, spec in of_family(DequantizeW4A16Spec, arch).items():
        assert entries[name].occupancy == (8 if spec.THRDS == 64 else 16), name


@pytest.mark.parametrize("arch", AMD)
def test_a_weight_takes_few_instructions(arch, built):
    kernels = built(arch)
    for name, spec in of_family(DequantizeW4A16Spec, arch).items():
        if spec.GROUP_SIZE == 128:
            bar = BARS.get((spec.dtype, arch), BARS[spec.dtype])
            assert kernels.isa(name).instructions / spec.macs_per_step <= bar, name


def test_nvidia_loads_and_stores_sixteen_bytes_too(tmp_path):
    try:
        tools = find_nvidia(["sm_90"])
    except ToolchainError as error:
        pytest.skip(f"no NVIDIA compiler: {str(error).splitlines()[0]}")
    wanted = everything("sm_90")
    result = build(wanted.values(), arch="sm_90", folder=tmp_path, tools=tools)
    assert not result.failed, "\n".join(f"{failure.name}: {failure.error}" for failure in result.failed)
    for name, entry in result.manifest.entries.items():
        assert (entry.scratch_bytes, entry.lds_bytes) == (0, 0), name
    if find() is None:
        pytest.skip("no nvdisasm: machine code not read")
    for name, spec in of_family(DequantizeW4A16Spec, "sm_90").items():
        image = result.manifest.entries[name].image(tmp_path)
        report = isa_report(
            read_binary(image, name),
            name,
            compiler().llvm,
            multiply_pattern=spec.multiply_pattern,
            multiplies_per_step=spec.multiplies_per_step,
            macs_per_step=spec.macs_per_step,
        )
        stores = {opcode: count for opcode, count in report.opcodes.items() if opcode.startswith("ST")}
        assert stores == {"STG.E.128": 4 * spec.UNRL}, name
        assert report.categories["global_load_b128"] == spec.UNRL, name
