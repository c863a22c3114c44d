"""Devices, properties, attributes, errors: what hip-python reads from the emulated runtime."""

from __future__ import annotations

import threading

import pytest

from kgen.emu import hipdevice, hiplibrary
from kgen.emu.hiprecords import ATTRIBUTES, DIMENSIONS, PropertiesR0000, PropertiesR0600
from kgen.runtime import standin
from kgen.spec.arch import arch_facts
from tests.emu_hip.conftest import ARCH, Hip, text


def test_the_device_is_the_target_of_the_facts(api: Hip) -> None:
    number = api.ok("hipGetDevice")
    properties, facts = api.properties(number), arch_facts(ARCH)
    assert (text(properties.gcnArchName), text(properties.name)) == (ARCH, f"emulated {facts.part}")
    assert (properties.multiProcessorCount, properties.warpSize) == (facts.cu, facts.wave)
    assert (properties.sharedMemPerBlock, properties.maxThreadsPerBlock) == (facts.lds_per_group, 1024)
    assert (properties.major, properties.minor) == (11, 5)
    assert list(properties.maxGridSize) == [2**31 - 1, 65536, 65536]
    assert properties.totalGlobalMem == api.ok("hipDeviceTotalMem", number)
    assert properties.asicRevision == 0  # the last field: nothing lies behind what hip-python has room for


def test_every_property_is_where_hip_python_reads_it(api: Hip, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device whose every field holds another number, read back through hip-python's struct."""
    import ctypes as c

    from kgen.emu import hiprecords

    record = hiprecords.Device(memory=1, max_threads=1, lds=1)
    expected = {}
    for n, (name, kind) in enumerate(PropertiesR0600._fields_):
        if issubclass(kind, c.Array):
            value = [(n + i) % 100 + 1 for i in range(kind._length_)]
            setattr(record.r0600, name, kind(*value))
        else:
            value = 1000 + n
            setattr(record.r0600, name, value)
        expected[name] = value
    library = hiplibrary.load()
    number = library.kgenEmuAddDevice(record)
    api.runtime.arches.append(f"made up {number}")
    properties = api.properties(number)
    compared = 0
    for name, value in expected.items():
        if not hasattr(properties, name) or name in ("reserved", "hipReserved", "uuid", "arch"):
            continue
        found = getattr(properties, name)
        if isinstance(found, (int, float)):
            assert found == value, name
        elif isinstance(value, list):
            plain = (
                found.encode()
                if isinstance(found, str)
                else bytes(found)
                if isinstance(found, (bytes, bytearray))
                else list(found)
            )
            assert list(plain)[: len(value)] == value[: len(plain)], name
        else:
            assert int(found or 0) == value, name
        compared += 1
    assert compared > 100
    assert c.sizeof(PropertiesR0600) == 1472
    assert c.sizeof(PropertiesR0000) == 792


def test_attributes_have_hips_numbers_and_the_properties_values(api: Hip) -> None:
    number = api.ok("hipGetDevice")
    properties = api.properties(number)
    spelled = {
        "major": "ComputeCapabilityMajor",
        "minor": "ComputeCapabilityMinor",
        "multiProcessorCount": "MultiprocessorCount",
        "pciBusID": "PciBusId",
        "regsPerBlock": "MaxRegistersPerBlock",
        "regsPerMultiprocessor": "MaxRegistersPerMultiprocessor",
        "sharedMemPerBlock": "MaxSharedMemoryPerBlock",
        "maxSharedMemoryPerMultiProcessor": "MaxSharedMemoryPerMultiprocessor",
        "asyncEngineCount": "AsyncEngineCount",
        "sharedMemPerMultiprocessor": "SharedMemPerMultiprocessor",
    }
    attributes = api.hip.hipDeviceAttribute_t
    for name, at in ATTRIBUTES.items():
        member = getattr(attributes, "hipDeviceAttribute" + spelled.get(name, name[0].upper() + name[1:]))
        assert int(member) == at, name
        assert api.ok("hipDeviceGetAttribute", member, number) == getattr(properties, name), name
    for name, first in DIMENSIONS.items():
        kind = {"maxThreadsDim": "Block", "maxGridSize": "Grid"}[name]
        members = [getattr(attributes, f"hipDeviceAttributeMax{kind}Dim{axis}") for axis in "XYZ"]
        assert [int(member) for member in members] == [first, first + 1, first + 2]
        assert [api.ok("hipDeviceGetAttribute", member, number) for member in members] == list(
            getattr(properties, name)
        )


def test_a_device_that_is_not_there_is_refused(api: Hip) -> None:
    count = api.ok("hipGetDeviceCount")
    assert api.status("hipSetDevice", count) == "hipErrorInvalidDevice"
    assert api.status("hipDeviceGet", -1) == "hipErrorInvalidDevice"
    attribute = api.hip.hipDeviceAttribute_t.hipDeviceAttributeWarpSize
    assert api.status("hipDeviceGetAttribute", attribute, count) == "hipErrorInvalidDevice"
    assert api.runtime.message() == f"device {count} of {count}"


def test_each_target_is_a_device_of_its_own(api: Hip) -> None:
    standin.install([ARCH, "gfx942", "gfx1201"], beside_gpu=True)
    found = {text(api.properties(n).gcnArchName) for n in range(api.ok("hipGetDeviceCount"))}
    assert {ARCH, hipdevice.gcn_name("gfx942"), "gfx1201"} <= found
    assert hipdevice.gcn_name("gfx942") == "gfx942:sramecc+:xnack-"
    assert api.properties(api.runtime.arches.index("gfx942")).warpSize == 64


def test_the_current_device_is_each_threads_own(api: Hip) -> None:
    standin.install([ARCH, "gfx942"], beside_gpu=True)
    here, seen = api.ok("hipGetDevice"), []

    def work() -> None:
        api.ok("hipSetDevice", api.runtime.arches.index("gfx942"))
        seen.append(api.ok("hipGetDevice"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [api.runtime.arches.index("gfx942")]
    assert api.ok("hipGetDevice") == here


def test_the_last_error_is_kept_once_and_success_does_not_clear_it(api: Hip) -> None:
    assert api.status("hipSetDevice", 99) == "hipErrorInvalidDevice"
    api.ok("hipGetDevice")
    assert api.status("hipPeekAtLastError") == "hipErrorInvalidDevice"
    assert api.status("hipGetLastError") == "hipErrorInvalidDevice"
    assert api.status("hipGetLastError") == "hipSuccess"


def test_errors_have_names_and_words(api: Hip) -> None:
    errors = api.hip.hipError_t
    for member in (
        errors.hipErrorNoBinaryForGpu,
        errors.hipErrorInvalidImage,
        errors.hipErrorIllegalAddress,
        errors.hipSuccess,
    ):
        answer = api.hip.hipGetErrorName(member)
        assert text(answer[-1] if isinstance(answer, tuple) else answer) == member.name
        answer = api.hip.hipGetErrorString(member)
        assert " " in text(answer[-1] if isinstance(answer, tuple) else answer)


def test_what_is_missing_says_so_and_its_name_when_asked(api: Hip, capfd: pytest.CaptureFixture[str]) -> None:
    library = hiplibrary.load()
    assert library.hipMemcpy2D() == 801  # hipErrorNotSupported
    assert "hipMemcpy2D" in api.runtime.message()
    assert capfd.readouterr().err == ""
    library.kgenEmuSetup(api.runtime._calls.record, 1)
    try:
        library.hipMemcpy2D()
    finally:
        library.kgenEmuSetup(api.runtime._calls.record, 0)
    assert (
        capfd.readouterr().err == "kgen: the emulated HIP runtime has no hipMemcpy2D; it answers hipErrorNotSupported\n"
    )


def test_every_name_that_hip_python_can_ask_for_is_there(api: Hip) -> None:
    answered, unsupported = hiplibrary.entry_points()
    assert {"hipModuleLaunchKernel", "hipGetDevicePropertiesR0600", "hipStreamBeginCapture"} <= set(answered)
    library = hiplibrary.load()
    for name in [*answered, *unsupported]:
        assert getattr(library, name)
