"""Which targets and kernels the words on the command line mean."""

from __future__ import annotations

from typing import Any

import pytest

from kgen.cli.targets import arches_of, find_kernel, find_kernels, one_arch, specs_of
from kgen.errors import SpecError
from kgen.spec.arch import ARCHES


class FakeManifest:
    """A manifest as far as names go."""

    def __init__(self, *names: str):
        self.arch = "gfx1151"
        self.kernels = tuple(type("Entry", (), {"name": name})() for name in names)
        self.entries = {entry.name: entry for entry in self.kernels}


ONE, SIXTEEN, HALF = "wvsplitk_bf16_N1_YTILE4", "wvsplitk_bf16_N16_YTILE4", "wvsplitk_fp16_N1_YTILE1"
MANIFEST: Any = FakeManifest(ONE, SIXTEEN, HALF)


def test_targets_come_by_commas_and_by_repeating_without_repeats():
    assert arches_of(["gfx1151,gfx942", "gfx1151"]) == ["gfx1151", "gfx942"]


def test_all_is_every_target():
    assert arches_of(["all"]) == list(ARCHES)


def test_kgen_arch_is_the_default(monkeypatch):
    monkeypatch.setenv("KGEN_ARCH", "gfx950")
    assert arches_of(None) == ["gfx950"]


def test_unknown_targets_are_named_all_at_once():
    with pytest.raises(SpecError) as caught:
        arches_of(["gfx9,gfx1151", "strix"])
    assert [problem.found for problem in caught.value.problems] == ["'gfx9'", "'strix'"]
    assert "gfx1201" in str(caught.value)


def test_no_target_says_what_there_is(monkeypatch):
    monkeypatch.delenv("KGEN_ARCH", raising=False)
    with pytest.raises(SpecError, match="--arch  not given"):
        arches_of(None)


def test_one_target_is_not_two():
    with pytest.raises(SpecError, match="one target at a time"):
        one_arch("gfx1151,gfx942")


def test_a_word_ends_where_a_parameter_ends():
    assert find_kernel(MANIFEST, "bf16,N1").name == ONE


def test_a_word_may_end_anywhere_if_nothing_else_is_found():
    assert find_kernel(MANIFEST, "fp16 YTI").name == HALF


def test_several_kernels_are_listed():
    with pytest.raises(SpecError, match="2 kernels of gfx1151") as caught:
        find_kernel(MANIFEST, "N1")
    assert ONE in str(caught.value)
    assert HALF in str(caught.value)


def test_no_pattern_is_every_kernel():
    assert len(find_kernels(MANIFEST, None)) == 3


def test_no_kernel_says_what_there_is():
    with pytest.raises(SpecError, match="no kernel of gfx1151") as caught:
        find_kernels(MANIFEST, "N3")
    assert ONE in str(caught.value)


@pytest.mark.parametrize("arch", list(ARCHES))
def test_the_default_set_is_what_the_dispatch_tables_name(arch):
    from kgen.dispatch import has_table, kernels_named, load_table
    from kgen.spec.registry import FAMILIES

    tables = [load_table(family, arch) for family in FAMILIES if has_table(family, arch)]
    specs = specs_of(arch, "default", None)
    assert [spec.name for spec in specs] == [name for table in tables for name in kernels_named(table)]


def test_an_unknown_set_lists_the_sets():
    with pytest.raises(SpecError, match="parameters"):
        specs_of("gfx1151", "no-such-set", None)


def test_an_unknown_family_lists_the_families():
    with pytest.raises(SpecError, match="wvsplitk"):
        specs_of("gfx1151", "default", ["gemm"])


def test_a_table_of_torch_rows_alone_needs_no_kernel_and_is_remarked(capsys):
    assert specs_of("gfx1151", "default", ["wvsplitkq"]) == []
    assert "torch answers every problem of wvsplitkq" in capsys.readouterr().err
    with pytest.raises(SpecError, match="no kernels in set 'parameters' for gfx1151"):
        specs_of("gfx1151", "parameters", ["wvsplitkq"])
    assert {spec.family for spec in specs_of("gfx1151", "default", ["wvsplitk", "wvsplitkq"])} == {"wvsplitk"}
    assert capsys.readouterr().err == ""
