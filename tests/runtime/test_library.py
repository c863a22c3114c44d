"""Libraries load what was built and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from kgen.binary.codeobject import KernelArg
from kgen.errors import CodeObjectError, LaunchError, ManifestError, MissingPieceError, TableError, WrongArchError
from kgen.runtime.driver import Device
from kgen.runtime.emu import EmuDriver
from kgen.runtime.emulated_hip import EmulatedHipDriver
from kgen.runtime.launch import argument_problem
from kgen.runtime.library import Library
from kgen.spec.problem import GemmShape
from tests.runtime.tiny import ARCH, OTHER, OTHER_SPECS, SPECS

NAME = SPECS[0].name


class Counting:
    """Mixed into a driver: logs what is loaded; `capture` pretends that a graph is being captured."""

    def __init__(self, arch: str = ARCH):
        super().__init__(arch)  # type: ignore[call-arg]
        self.loaded: list[str] = []
        self.capture = False

    def load(self, image: bytes, what: str) -> Any:
        self.loaded.append(what)
        return super().load(image, what)  # type: ignore[misc]

    def capturing(self) -> bool:
        return self.capture


class CountingEmuDriver(Counting, EmuDriver):
    pass


class CountingHipDriver(Counting, EmulatedHipDriver):
    pass


@pytest.fixture(params=["emu", "hip"])
def make(request: pytest.FixtureRequest) -> type[Any]:
    """The emulator's own driver; hip-python over the emulated HIP runtime."""
    if request.param == "hip":
        pytest.importorskip("hip")
    return {"emu": CountingEmuDriver, "hip": CountingHipDriver}[request.param]


def edit_manifest(folder: Path, change: Any) -> None:
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def entry_of(data: dict[str, Any], name: str = NAME) -> dict[str, Any]:
    return next(entry for entry in data["kernels"] if entry["name"] == name)


def object_file(folder: Path, name: str = NAME) -> Path:
    return folder / entry_of(json.loads((folder / "manifest.json").read_text()), name)["path"]


# ---- what loads


@pytest.mark.hipcc
def test_each_kernel_loads_at_its_first_use_and_once(built: Path, make: type[Any]) -> None:
    driver = make()
    library = Library(built, driver)
    assert driver.loaded == []
    assert library.kernel(NAME) is library.kernel(NAME)
    assert len(driver.loaded) == 1


@pytest.mark.hipcc
def test_warm_up_loads_everything_and_later_loads_nothing(built: Path, make: type[Any]) -> None:
    driver = make()
    library = Library(built, driver)
    assert library.warm_up() == len(SPECS)
    assert len(driver.loaded) == len(SPECS)
    driver.capture = True
    for spec in SPECS:
        library.kernel(spec.name)
    library.pick("wvsplitk", GemmShape(M=16, N=2, K=64), "bf16")
    assert len(driver.loaded) == len(SPECS)


@pytest.mark.hipcc
def test_nothing_loads_while_a_graph_is_captured(built: Path, make: type[Any]) -> None:
    driver = make()
    driver.capture = True
    with pytest.raises(LaunchError, match=r"kgen\.warm_up\(\)"):
        Library(built, driver).kernel(NAME)
    assert driver.loaded == []


@pytest.mark.hipcc
def test_threads_that_ask_together_load_once(built: Path, make: type[Any]) -> None:
    driver = make()
    library, found = Library(built, driver), []
    threads = [threading.Thread(target=lambda: found.append(library.kernel(NAME))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert len(driver.loaded) == 1


@pytest.mark.hipcc
def test_the_table_picks_kernels_and_torch(built: Path, make: type[Any]) -> None:
    library = Library(built, make())
    kernel = library.pick("wvsplitk", GemmShape(M=16, N=2, K=64), "bf16")
    assert kernel is not None
    assert kernel.name == SPECS[1].name
    assert library.pick("wvsplitk", GemmShape(M=16, N=6, K=64), "bf16") is None


@pytest.mark.hipcc
def test_a_preferred_kernel_answers_before_the_table_where_it_fits(built: Path, make: type[Any]) -> None:
    library = Library(built, make())
    library.prefer([SPECS[0].name])
    kernel = library.pick("wvsplitk", GemmShape(M=16, N=1, K=64), "bf16")
    assert kernel is not None
    assert kernel.name == SPECS[0].name
    assert not library.picker("wvsplitk").counts  # the table was not asked
    kernel = library.pick("wvsplitk", GemmShape(M=16, N=2, K=64), "bf16")
    assert kernel is not None
    assert kernel.name == SPECS[1].name
    assert sum(library.picker("wvsplitk").counts.values()) == 1
    with pytest.raises(CodeObjectError, match="no such kernel"):
        library.prefer(["wvsplitk_bf16_N9"])


@pytest.mark.hipcc
def test_unload_gives_modules_back_and_kernels_load_again(built: Path, make: type[Any]) -> None:
    driver = make()
    library = Library(built, driver)
    library.kernel(NAME)
    library.unload()
    library.kernel(NAME)
    assert len(driver.loaded) == 2


# ---- what does not


@pytest.mark.hipcc
def test_a_folder_for_another_target_is_refused_by_both_names(built: Path, make: type[Any]) -> None:
    with pytest.raises(WrongArchError, match=f"built for {OTHER}.*{ARCH}"):
        Library(built.parent / OTHER, make())


@pytest.mark.hipcc
def test_a_code_object_of_another_target_in_the_folder_is_refused_by_both_names(
    own: Path, built: Path, make: type[Any]
) -> None:
    image = object_file(built.parent / OTHER, OTHER_SPECS[0].name).read_bytes()
    object_file(own).write_bytes(image)
    digest = hashlib.sha256(image).hexdigest()
    edit_manifest(own, lambda data: entry_of(data).update(digest=digest, file_bytes=len(image)))
    with pytest.raises(WrongArchError, match=f"{OTHER}.*{ARCH}"):
        Library(own, make()).kernel(NAME)


@pytest.mark.hipcc
def test_a_truncated_code_object_is_refused(own: Path, make: type[Any]) -> None:
    path = object_file(own)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CodeObjectError, match=r"truncated.*kgen build"):
        Library(own, make()).kernel(NAME)


@pytest.mark.hipcc
def test_an_altered_code_object_is_refused(own: Path, make: type[Any]) -> None:
    path = object_file(own)
    image = bytearray(path.read_bytes())
    image[len(image) // 2] ^= 1
    path.write_bytes(image)
    driver = make()
    with pytest.raises(CodeObjectError, match=r"altered.*kgen build"):
        Library(own, driver).kernel(NAME)
    assert driver.loaded == []


@pytest.mark.hipcc
def test_a_missing_code_object_is_refused_and_the_others_load(own: Path, make: type[Any]) -> None:
    object_file(own).unlink()
    library = Library(own, make())
    with pytest.raises(CodeObjectError, match="cannot be read"):
        library.kernel(NAME)
    library.kernel(SPECS[1].name)


@pytest.mark.hipcc
def test_a_code_object_that_holds_another_kernel_is_refused(own: Path, make: type[Any]) -> None:
    other = entry_of(json.loads((own / "manifest.json").read_text()), SPECS[1].name)
    taken = {key: other[key] for key in ("path", "digest", "file_bytes")}
    edit_manifest(own, lambda data: entry_of(data).update(taken))
    with pytest.raises(CodeObjectError, match=f"no kernel '{NAME}'"):
        Library(own, make()).kernel(NAME)


@pytest.mark.hipcc
def test_a_kernel_that_failed_to_build_says_why(own: Path, make: type[Any]) -> None:
    edit_manifest(own, lambda data: entry_of(data).update(status="failed", error="it spilled", path=None, digest=None))
    library = Library(own, make())
    with pytest.raises(CodeObjectError, match="it spilled"):
        library.kernel(NAME)
    with pytest.raises(MissingPieceError, match="not built"):
        library.pick("wvsplitk", GemmShape(M=16, N=1, K=64), "bf16")
    assert library.warm_up() == len(SPECS) - 1


@pytest.mark.hipcc
def test_a_kernel_that_is_not_in_the_folder_is_refused(built: Path, make: type[Any]) -> None:
    with pytest.raises(CodeObjectError, match="no such kernel"):
        Library(built, make()).kernel("wvsplitk_nothing")


@pytest.mark.hipcc
@pytest.mark.parametrize("damage", ["", "{", '{"schema": 99}', "[]"])
def test_a_corrupt_manifest_is_refused(own: Path, damage: str, make: type[Any]) -> None:
    (own / "manifest.json").write_text(damage)
    with pytest.raises(ManifestError, match=r"manifest\.json"):
        Library(own, make())


@pytest.mark.hipcc
def test_a_corrupt_table_is_refused(own: Path, make: type[Any]) -> None:
    (own / "dispatch" / "wvsplitk.json").write_text("{")
    with pytest.raises(TableError, match=r"wvsplitk\.json"):
        Library(own, make()).pick("wvsplitk", GemmShape(M=16, N=1, K=64), "bf16")


@pytest.mark.hipcc
def test_without_a_compiled_table_the_reviewed_one_answers(own: Path, make: type[Any]) -> None:
    shutil.rmtree(own / "dispatch")
    table = Library(own, make()).picker("wvsplitk").table
    assert table.where.startswith("specs/dispatch/")


def test_other_arguments_than_the_specs_are_a_problem() -> None:
    spec = SPECS[0]
    there = [
        KernelArg(arg.name, arg.offset, arg.bytes, "global_buffer" if arg.type.endswith("*") else "by_value")
        for arg in spec.args
    ]
    assert argument_problem(spec, there, "amd") is None
    assert argument_problem(spec, there[:-1], "amd") is not None
    swapped = [*there[:4], KernelArg("M", 32, 8, "by_value"), *there[6:]]
    problem = argument_problem(spec, swapped, "amd")
    assert problem is not None
    assert "8 bytes at 32" in problem.found
    value = [KernelArg("weight", 0, 8, "by_value"), *there[1:]]
    problem = argument_problem(spec, value, "amd")
    assert problem is not None
    assert "weight" in problem.fields
    assert argument_problem(spec, value, "nvidia") is None  # cubins do not tell


def test_a_device_is_written_with_name_target_and_place() -> None:
    device = Device("cuda", "sm_90", "NVIDIA H200", 132, 232448, 1, "cuda")
    assert str(device) == "NVIDIA H200 (sm_90, cuda, tensors on cuda:1)"
