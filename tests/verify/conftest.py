"""What tests that break kernels share."""

from __future__ import annotations

import os
import subprocess

import pytest

from kgen.render import render
from kgen.verify.devices import EmulatedDevice
from kgen.verify.run import check_kernel
from tests.kernels.built import compiler


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """failures(spec, old, new) -> what a quick check has against the kernel whose source has `new` for `old`: case words -> why."""
    folder, tools = tmp_path_factory.mktemp("broken"), compiler()

    def check(spec, old="", new=""):
        text = render(spec).text
        assert old in text, f"the template has changed: no {old!r} in it"
        source, out = folder / "kernel.hip", folder / "kernel.hsaco"
        source.write_text(text.replace(old, new) if old else text)
        command = tools.compile_command(spec.arch, source, out)
        subprocess.run(command, env=os.environ | dict(tools.env), check=True, capture_output=True)
        results = check_kernel(spec, out.read_bytes(), EmulatedDevice(spec.arch))
        return {result.words.split(":")[0]: result.why for result in results if not result.ok}

    return check
