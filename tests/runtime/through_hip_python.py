"""Run in a process of its own, with the stub runtime in LD_LIBRARY_PATH: the driver through the real hip-python; prints JSON."""

from __future__ import annotations

import ctypes
import json

from kgen.errors import KgenError
from kgen.runtime.arguments import ArgumentLayout
from kgen.runtime.hip import HipDriver
from kgen.spec.base import Launch
from tests.runtime.tiny import SPECS


class Last(ctypes.Structure):
    _fields_ = (
        ("geometry", ctypes.c_uint * 7),
        ("function", ctypes.c_void_p),
        ("stream", ctypes.c_void_p),
        ("bytes", ctypes.c_size_t),
        ("arguments", ctypes.c_ubyte * 256),
    )


def refused(call: object, *args: object) -> str:
    try:
        call(*args)  # type: ignore[operator]
    except KgenError as error:
        return str(error)
    return ""


def main() -> None:
    driver, layout = HipDriver(0, tensors="cpu"), ArgumentLayout(SPECS[0].args)
    module = driver.load(b"\x7fELF and so on", "k.hsaco")
    function = driver.function(module, "k", 160 * 1024)
    driver.bind(function, Launch((40, 2, 1), (128, 1, 1), 4096), layout)(99, tuple(range(10)), (None,) * 4)
    library = ctypes.CDLL("libamdhip64.so")
    library.stub_last.restype = ctypes.POINTER(Last)
    last = library.stub_last().contents
    print(
        json.dumps(
            {
                "arch": driver.device.arch,
                "name": driver.device.name,
                "geometry": list(last.geometry),
                "function": last.function,
                "stream": last.stream,
                "arguments": bytes(last.arguments)[: last.bytes].hex(),
                "not_elf": refused(driver.load, b"nothing", "bad.hsaco"),
                "no_kernel": refused(driver.function, module, "other", 0),
            }
        )
    )


if __name__ == "__main__":
    main()
