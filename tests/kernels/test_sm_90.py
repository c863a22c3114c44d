"""sm_90 kernels, compiled and read back; running them is tests/kernels/test_gpu.py's, on a GPU."""

from __future__ import annotations

import pytest

from kgen.binary import read_binary, sass
from kgen.binary.disassemble import disassemble
from kgen.binary.loops import hot_loop
from kgen.build import build
from kgen.errors import ToolchainError
from kgen.spec.moe_down_reduce import MoeDownReduceSpec
from kgen.spec.moe_wvsplitk_int4 import MoeWvSplitKInt4Spec
from kgen.spec.sets import load_set
from kgen.spec.wvsplitk import WvSplitKSpec
from kgen.spec.wvsplitk_int4 import WvSplitKInt4Spec
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


def code_of(spec, folder):
    """The machine code of a kernel, compiled alone."""
    (entry,) = build([spec], arch=ARCH, folder=folder, tools=find_nvidia([ARCH])).manifest.kernels
    return disassemble(read_binary(entry.image(folder)), spec.name)


def mnemonics(spec, folder):
    return [each.mnemonic for each in code_of(spec, folder)]


def loop_mnemonics(spec, folder):
    return [each.mnemonic for each in hot_loop(code_of(spec, folder), spec.multiply_pattern)]


def places(names, start):
    return [index for index, name in enumerate(names) if name.startswith(start)]


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


@pytest.mark.hipcc
@pytest.mark.skipif(sass.find() is None, reason="no disassembler of sm_ code")
@pytest.mark.parametrize(("n", "products"), [(1, 1), (4, 1), (5, 2), (8, 2)])
def test_a_trip_of_matrix16_is_loads_products_and_a_choice_of_halves(n, products, tmp_path):
    """All loads before the first product, 16 bytes each; two selections for a piece of the activations; addresses take little."""
    values = dict(arch=ARCH, dtype="bf16", THRDS=32, WvPrGrp=8, K_WAVES=8, UNRL=8, STAGING="global", MATRIX16=True)
    spec = WvSplitKSpec(N=n, YTILE=16, **values)
    names = loop_mnemonics(spec, tmp_path)
    loads, multiplies = places(names, "LDG"), places(names, "HMMA")
    assert len(loads) == 8 * (2 + products)  # two tiles of weights, and the activations
    assert all(".128" in names[index] for index in loads)
    assert len(multiplies) == spec.multiplies_per_step == 8 * 2 * products
    assert max(loads) < min(multiplies)
    assert len(names) - len(loads) - len(multiplies) - 8 * 2 * products <= 20, names


@pytest.mark.hipcc
@pytest.mark.skipif(sass.find() is None, reason="no disassembler of sm_ code")
@pytest.mark.parametrize("matrix", [False, True])
def test_an_early_kernel_prefetches_waits_and_only_then_reads(matrix, tmp_path):
    """And where a wave has one trip, all loads of it stand side by side, each once."""
    values = dict(YTILE=2, UNRL=4, MATRIX16=True) if matrix else dict(YTILE=1, UNRL=2)
    spec = WvSplitKSpec(
        arch=ARCH, dtype="bf16", N=1, WvPrGrp=4, K_WAVES=4, STAGING="global", EARLY=True, K=2048, **values
    )
    names = mnemonics(spec, tmp_path)
    (wait,) = places(names, "ACQBULK")
    (start,) = places(names, "PREEXIT")
    (prefetch,) = places(names, "UBLKPF")
    loads = [index for index in places(names, "LDG") if ".128" in names[index]]
    assert prefetch < wait < start
    assert wait < min(places(names, "LDG"))
    assert len(loads) == 2 * spec.UNRL  # weights and activations
    assert max(loads) < min(places(names, "HMMA" if matrix else "FFMA"))
    assert places(names, "EXIT")[-1] < 200, len(names)


@pytest.mark.hipcc
@pytest.mark.skipif(sass.find() is None, reason="no disassembler of sm_ code")
def test_one_barrier_stands_between_the_logits_and_the_first_weights_where_a_wave_ranks(tmp_path):
    values = dict(YTILE=16, WvPrGrp=8, K_WAVES=4, A_CHUNK=32, UNRL=2, STAGING="wave", SILU=True, RANK=True)
    before = {}
    for ranking in ("group", "wave"):
        names = mnemonics(MoeWvSplitKInt4Spec(arch=ARCH, dtype="bf16", RANKING=ranking, **values), tmp_path / ranking)
        before[ranking] = names[: min(places(names, "LDG.E.NA"))]
    assert len(places(before["group"], "BAR")) == 2
    assert len(places(before["wave"], "BAR")) == 1
    assert places(before["wave"], "REDUX")


@pytest.mark.hipcc
@pytest.mark.skipif(sass.find() is None, reason="no disassembler of sm_ code")
@pytest.mark.parametrize("dequant", ["magic", "digits"])
def test_an_early_second_gemm_has_its_weights_under_way_when_it_waits_and_reads_activations_behind(dequant, tmp_path):
    """The compiler takes loads by the path of what no one writes (LDG CONSTANT) in front of the wait."""
    values = dict(YTILE=16, WvPrGrp=8, K_WAVES=8, UNRL=6, A_CHUNK=32, STAGING="wave", EARLY=True, K=768)
    names = mnemonics(MoeDownReduceSpec(arch=ARCH, dtype="bf16", DEQUANT=dequant, **values), tmp_path)
    wait, *again = places(names, "ACQBULK")
    experts = places(names, "LDG.E.STRONG.GPU")
    codes = places(names, "LDGSTS.E.BYPASS")
    scales = [index for index in places(names, "LDGSTS") if index not in codes]
    act = [index for index in places(names, "LDG.") if index not in experts]
    # What weighs comes with the experts; six slabs of two rows.
    assert (len(experts), len(codes), len(scales)) == (2, 12, 2)
    assert max(experts) < min(codes)
    assert max(codes + scales) < wait < min(act)
    assert len(act) == 3
    assert max(act) < min(places(names, "DEPBAR"))  # they come while weights do
    assert not any("CONSTANT" in names[index] for index in act)
    assert len(again) == 1  # of a wave that has no unit
    assert wait < min(places(names, "PREEXIT"))


@pytest.mark.hipcc
@pytest.mark.skipif(sass.find() is None, reason="no disassembler of sm_ code")
@pytest.mark.parametrize("ranking", ["group", "wave"])
def test_a_first_gemm_waits_before_it_reads_logits_and_lets_the_next_kernel_start_behind_the_experts(ranking, tmp_path):
    values = dict(YTILE=16, WvPrGrp=8, K_WAVES=4, A_CHUNK=32, UNRL=4, DEQUANT="digits", K=2048)
    spec = MoeWvSplitKInt4Spec(arch=ARCH, dtype="bf16", RANKING=ranking, STAGING="wave", SILU=True, RANK=True, **values)
    names = mnemonics(spec, tmp_path)
    (wait,) = places(names, "ACQBULK")
    (start,) = places(names, "PREEXIT")
    loads = places(names, "LDG.")
    early = [names[index] for index in loads if index < wait]
    # Activations of a trip, which the router had too; what the router makes comes behind the wait.
    assert len(early) == 2
    assert all(name.startswith("LDG.E.128") for name in early)
    assert min(index for index in loads if ".U16" in names[index]) > wait
    stores = [index for index in places(names, "STG") if index < start]
    assert len(stores) == 2  # an expert and what it weighs
    assert max(stores) < min(index for index in places(names, "MEMBAR") if index > max(stores)) < start
    assert any(max(stores) < index < start for index in places(names, "BAR"))


@pytest.mark.hipcc
@pytest.mark.skipif(sass.find() is None, reason="no disassembler of sm_ code")
def test_weights_are_asked_for_before_digits_are_made_and_masks_stay_where_they_are(tmp_path):
    """Activations were once waited for in front of the weights' loads, and the mask of codes was moved in for every word."""
    values = dict(YTILE=16, WvPrGrp=16, K_WAVES=16, UNRL=2, GrpsPerCU=2, DEQUANT="digits", STAGING="wave")
    names = mnemonics(WvSplitKInt4Spec(arch=ARCH, dtype="bf16", N=1, THRDS=32, **values), tmp_path)
    weights = places(names, "LDG.E.NA")
    assert len(weights) == 4  # two slabs of two rows
    assert max(weights) < min(places(names, "VIMNMX3"))  # the search for the largest activation of a slab
    assert len(places(names, "IMMA")) == 8
    assert len(places(names, "IMAD.MOV.U32")) < 8


@pytest.mark.hipcc
@pytest.mark.skipif(sass.find() is None, reason="no disassembler of sm_ code")
def test_more_rows_of_digits_take_more_tiles_of_columns_and_no_more_decoding(tmp_path):
    values = dict(YTILE=16, WvPrGrp=8, K_WAVES=8, UNRL=1, DEQUANT="digits", STAGING="own")
    masks = {}
    for n, tiles in ((2, 1), (8, 4)):
        spec = WvSplitKInt4Spec(arch=ARCH, dtype="bf16", N=n, THRDS=32, **values)
        loop = loop_mnemonics(spec, tmp_path / spec.name)
        assert len(places(loop, "IMMA")) == spec.multiplies_per_step == 4 * tiles
        masks[n] = len(places(loop, "LOP3"))
    assert masks[8] <= masks[2] + 2


@pytest.mark.hipcc
@pytest.mark.skipif(sass.find() is None, reason="no disassembler of sm_ code")
@pytest.mark.parametrize(
    ("n", "group", "waves", "unrl"), [(1, 128, 16, 1), (1, 128, 8, 2), (1, 32, 16, 2), (2, 64, 16, 2)]
)
def test_activations_of_digits_are_waited_for_apart_from_weights(n, group, waves, unrl, tmp_path):
    """An instruction that waits for activations waits for all loads of their scoreboard. With the weights' own a layer took 13 to 30 % longer."""
    values = dict(YTILE=16, WvPrGrp=waves, K_WAVES=waves, UNRL=unrl, GROUP_SIZE=group, DEQUANT="digits", STAGING="wave")
    spec = WvSplitKInt4Spec(arch=ARCH, dtype="bf16", N=n, THRDS=32, **values)
    loads = [each for each in code_of(spec, tmp_path) if each.mnemonic.startswith(("LDG.E.128", "LDG.E.NA"))]
    weights = {each.scoreboards.result for each in loads if "NA" in each.mnemonic}
    activations = {each.scoreboards.result for each in loads if "NA" not in each.mnemonic}
    assert weights
    assert activations
    assert weights.isdisjoint(activations)


LANES = [
    *((1, 128, 8, 8, 1, "wave"), (1, 128, 16, 8, 1, "own"), (2, 128, 16, 8, 1, "wave"), (4, 128, 16, 16, 2, "own")),
    *((8, 128, 16, 16, 2, "own"), (1, 64, 16, 8, 1, "wave"), (1, 32, 16, 16, 2, "own"), (2, 64, 16, 16, 2, "own")),
]


def lanes_spec(n, group, rows, waves, unrl, staging):
    values = dict(YTILE=rows, WvPrGrp=waves, K_WAVES=waves, UNRL=unrl, GROUP_SIZE=group, STAGING=staging)
    return WvSplitKInt4Spec(arch=ARCH, dtype="bf16", N=n, THRDS=32, DEQUANT="digits2", **values)


@pytest.mark.hipcc
@pytest.mark.skipif(sass.find() is None, reason="no disassembler of sm_ code")
@pytest.mark.parametrize(("n", "group", "rows", "waves", "unrl", "staging"), LANES)
def test_digits_of_lanes_take_no_lds_and_wait_for_activations_alone(n, group, rows, waves, unrl, staging, tmp_path):
    spec = lanes_spec(n, group, rows, waves, unrl, staging)
    code = code_of(spec, tmp_path)
    names = [each.mnemonic for each in code]
    first = min(places(names, "IMMA"))
    weights = [index for index in places(names, "LDG.E.NA") if index < first]
    activations = [index for index in places(names, "LDG.E.128") if index < first]
    assert len(weights) == unrl * spec.loads  # all of a trip before the first product
    assert len(activations) == unrl * spec.column_tiles * 2
    assert max(activations) < max(weights)
    assert {code[index].scoreboards.result for index in activations}.isdisjoint(
        code[index].scoreboards.result for index in weights
    )
    assert len(places(names, "STS")) == spec.column_tiles * spec.octets  # sums, once
    assert len(places(names, "LDS")) == spec.column_tiles
    assert all("128" in names[index] for index in places(names, "LDS"))


@pytest.mark.hipcc
@pytest.mark.skipif(sass.find() is None, reason="no disassembler of sm_ code")
def test_the_loop_of_digits_of_lanes_grows_little_with_activation_rows(tmp_path):
    """16 rows of 512 codes, and the end of a tile: 263, 312 and 400 instructions at one, two and four activation rows."""
    length = {}
    for n, unrl in ((1, 1), (2, 2), (4, 4)):
        spec = lanes_spec(n, 128, 16, 8, unrl, "own")
        loop = loop_mnemonics(spec, tmp_path / spec.name)
        assert len(places(loop, "IMMA")) == spec.multiplies_per_step == 16  # for 16 rows of 512
        length[n] = len(loop)
    assert length[1] <= 270, length
    assert length[2] <= 1.25 * length[1], length
    assert length[4] <= 1.6 * length[1], length
