"""What the device can do at best: reading cold bytes, by a kernel of ours that does nothing else, in the same kind of graph."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kgen.bench.timing import Call, Graph
from kgen.errors import BuildError
from kgen.render.environment import environment
from kgen.runtime.arguments import ArgumentLayout
from kgen.runtime.driver import Driver
from kgen.spec.arch import arch_facts
from kgen.spec.base import Launch, layout_args
from kgen.spec.problem import ceil_div
from kgen.toolchain.find import find_toolchain

_ARGS = layout_args(("const u32*", "data"), ("u32*", "out"), ("u32", "pieces"), ("u32", "groups"))
_CONFIGURATIONS = ((128, 4), (256, 1), (256, 4), (256, 8), (512, 2))  # threads, 16-byte loads in flight per lane


class ReadFloor:
    """Times how long a device takes to read cold bytes: the best of a few simple kernels, which are built when first needed."""

    def __init__(self, driver: Driver):
        self._driver = driver
        self._layout = ArgumentLayout(_ARGS)
        self._kernels = [(threads, unroll, self._build(threads, unroll)) for threads, unroll in _CONFIGURATIONS]

    def microseconds(self, sets: Sequence[Any], replays: int = 5) -> float:
        """Time per set to read each tensor of `sets` once, in microseconds: the best configuration's median replay."""
        best = float("inf")
        for threads, unroll, function in self._kernels:
            pieces = sets[0].numel() * sets[0].element_size() // 16
            all_groups = ceil_div(pieces, threads * unroll)
            resident = self._driver.device.cu * max(1, 2048 // threads)
            for groups in {all_groups, min(all_groups, resident)}:
                graph = Graph([self._call(function, threads, groups, pieces, data) for data in sets])
                best = min(best, sorted(graph.replay_us() for _ in range(replays))[replays // 2])
        return best

    def _call(self, function: Any, threads: int, groups: int, pieces: int, data: Any) -> Call:
        import torch

        out = torch.empty(1024, dtype=torch.int32, device=data.device)
        launch = self._driver.bind(function, Launch((groups, 1, 1), (threads, 1, 1), 0), self._layout)
        values = (data.data_ptr(), out.data_ptr(), pieces, groups)
        driver: Callable[[], int] = self._driver.stream
        return lambda: launch(driver(), values, (data, out))

    def _build(self, threads: int, unroll: int) -> Any:
        arch = self._driver.device.arch
        name = f"read_{threads}_{unroll}"
        template = environment().get_template("bench/read.hip.jinja")
        text = template.render(arch=arch_facts(arch), name=name, threads=threads, unroll=unroll)
        with tempfile.TemporaryDirectory(prefix="kgen-bench-") as folder:
            source, out = Path(folder) / f"{name}.hip", Path(folder) / f"{name}.bin"
            source.write_text(text, encoding="utf-8")
            tools = find_toolchain(arch)
            done = subprocess.run(
                tools.compile_command(arch, source, out),
                env={**_environ(), **tools.env},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise BuildError(f"{name} for {arch} does not compile:\n{done.stderr[-2000:]}")
            module = self._driver.load(out.read_bytes(), name)
        return self._driver.function(module, name, 0)


def _environ() -> dict[str, str]:
    import os

    return dict(os.environ)
