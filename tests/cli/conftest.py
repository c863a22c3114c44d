"""Fixtures: the command line called in this process, and a small build folder made by the real compiler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from kgen.cli.main import main
from kgen.errors import MissingPieceError
from kgen.spec.base import KernelSpec
from kgen.spec.registry import spec_from_name
from kgen.toolchain.find import find_amd

ARCH = "gfx1151"
NAMES = (
    "wvsplitk_bf16_N1_THRDS32_YTILE1_WvPrGrp2_A_CHUNK8_UNRL1_STAGINGlds",
    "wvsplitk_bf16_N1_THRDS32_YTILE2_WvPrGrp2_A_CHUNK8_UNRL1_STAGINGglobal",
    "wvsplitk_fp16_N2_THRDS32_YTILE1_WvPrGrp2_A_CHUNK8_UNRL1_STAGINGlds",
)


@dataclass(frozen=True)
class Ran:
    """How a command line ended, and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("report", "--arch", "gfx1151")` is `kgen report --arch gfx1151`."""

    def call(*words: str) -> Ran:
        capsys.readouterr()
        code = main(words)
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return call


def small_set(arch: str, spec_set: str, families: object) -> list[KernelSpec]:
    """Three quick kernels in place of a set."""
    return [spec_from_name(name, arch) for name in NAMES]


@pytest.fixture
def few_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every spec set is three kernels."""
    monkeypatch.setattr("kgen.cli.build.specs_of", small_set)


@pytest.fixture(scope="session")
def small_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from kgen.build import build

    try:
        tools = find_amd([ARCH])
    except MissingPieceError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("cli") / "build"
    result = build(small_set(ARCH, "", None), arch=ARCH, folder=folder / ARCH, tools=tools)
    assert not result.failed
    return folder


@pytest.fixture
def built(small_build: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of builds, with three kernels for gfx1151; not to be changed."""
    monkeypatch.setenv("KGEN_BUILD_DIR", str(small_build))
    return small_build


@pytest.fixture
def nothing_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of builds."""
    monkeypatch.setenv("KGEN_BUILD_DIR", str(tmp_path))
    return tmp_path
