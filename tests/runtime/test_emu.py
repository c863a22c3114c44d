"""The emulator as a device: what a kernel may touch, and what is logged."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from kgen.emu import Options, Region, Stats
from kgen.errors import SpecError
from kgen.runtime.arguments import ArgumentLayout
from kgen.runtime.emu import EmuDriver, emulation, regions_of
from kgen.spec.base import Launch
from tests.runtime.tiny import SPECS

LAYOUT = ArgumentLayout(SPECS[0].args)
GEOMETRY = Launch((2, 1, 1), (128, 1, 1), 64)


class FakeModule:
    """Records launches instead of running them."""

    def __init__(self) -> None:
        self.launches: list[tuple[Any, ...]] = []

    def launch(self, *args: Any) -> Stats:
        self.launches.append(args)
        return Stats("k", "gfx1151", instructions=10)


def run(module: FakeModule) -> None:
    out = torch.empty(4)
    EmuDriver("gfx1151").bind((module, "k"), GEOMETRY, LAYOUT)(0, tuple(range(10)), (out, out, None, out))


def test_the_device_is_the_part_in_the_table_of_facts() -> None:
    device = EmuDriver("gfx942").device
    assert (device.kind, device.arch, device.cu, device.torch_name) == ("emu", "gfx942", 304, "cpu")


def test_nvidia_targets_are_refused() -> None:
    with pytest.raises(SpecError, match="sm_90 needs an NVIDIA GPU"):
        EmuDriver("sm_90")


def test_regions_are_the_bytes_from_first_to_last_element() -> None:
    weight = torch.zeros(10, 96, dtype=torch.bfloat16)[2:5, 8:72]
    act, out = torch.zeros(1, 64, dtype=torch.bfloat16).expand(4, 64), torch.zeros(4, 3, dtype=torch.bfloat16)
    assert regions_of(LAYOUT, (weight, act, None, out)) == [
        Region(weight.data_ptr(), 2 * (2 * 96 + 64), False, "weight"),
        Region(act.data_ptr(), 2 * 64, False, "act"),
        Region(out.data_ptr(), 2 * 12, True, "out"),
    ]


def test_a_launch_hands_over_geometry_bytes_and_lds() -> None:
    module = FakeModule()
    run(module)
    symbol, grid, block, kernarg, regions, lds, options = module.launches[0]
    assert (symbol, grid, block, lds) == ("k", (2, 1, 1), (128, 1, 1), 64)
    assert kernarg == LAYOUT.struct.pack(*range(10))
    assert [region.label for region in regions] == ["weight", "act", "out"]
    assert options == Options()


def test_blocks_nest_the_innermost_options_hold_and_every_log_gets_the_launch() -> None:
    module = FakeModule()
    with emulation(Options(races=True)) as outer:
        run(module)
        with emulation(Options(count_ops=True)) as inner:
            run(module)
        run(module)
    run(module)
    assert [launch[-1].races for launch in module.launches] == [True, False, True, False]
    assert (len(outer.launches), len(inner.launches)) == (3, 1)
    assert (outer.instructions, outer.kernels["k"]) == (30, 3)


def test_launches_of_other_threads_are_logged() -> None:
    with emulation() as log:
        threads = [threading.Thread(target=run, args=(FakeModule(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(log.launches) == 4


def test_a_block_that_raises_is_over() -> None:
    module = FakeModule()
    with pytest.raises(ZeroDivisionError), emulation(Options(races=True)):
        raise ZeroDivisionError
    run(module)
    assert module.launches[0][-1] == Options()
