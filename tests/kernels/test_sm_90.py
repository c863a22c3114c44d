"""sm_90 kernels, compiled and read back; running them is tests/kernels/test_gpu.py's, on a GPU."""

from __future__ import annotations

import pytest

from kgen.build import build
from kgen.errors import ToolchainError
from kgen.spec.sets import load_set
from kgen.toolchain.nvidia import find_nvidia
from tests.kernels.built import default_specs

ARCH = "sm_90"
EVERY = 5  # of the set `parameters`: enough to see each staging and N without a minute of compiling


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    try:
        tools = find_nvidia([ARCH])
    except ToolchainError as error:
        pytest.skip(f"no NVIDIA compiler: {str(error).splitlines()[0]}; try: pip install 'kgen[cuda]'")
    wanted = default_specs(ARCH) | {spec.name: spec for spec in load_set("parameters", [ARCH])[::EVERY]}
    folder = tmp_path_factory.mktemp("sm_90")
    result = build(wanted.values(), arch=ARCH, folder=folder, tools=tools)
    assert not result.failed, "\n".join(f"{failure.name}: {failure.error}" for failure in result.failed)
    return result.manifest.entries, wanted


@pytest.mark.hipcc
def test_every_default_kernel_compiles_without_a_stack_and_with_the_lds_of_its_spec(kernels):
    entries, wanted = kernels
    assert set(default_specs(ARCH)) <= set(entries)
    for name, entry in entries.items():
        assert entry.scratch_bytes == 0, name
        assert 0 < entry.vgpr <= 255, name
        assert -(-entry.lds_bytes // 16) * 16 == -(-wanted[name].static_lds // 16) * 16, (
            name
        )  # specs count pieces of 16 bytes
        assert entry.path.endswith(".cubin"), name
