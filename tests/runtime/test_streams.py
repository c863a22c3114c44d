"""Current device and stream, as the GPU drivers ask torch for them."""

from __future__ import annotations

import pytest

from kgen.errors import MissingPieceError
from kgen.runtime import streams


class Devices:
    """torch's current device, with a log of what it was while calls ran."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int):
        self.current = 0
        monkeypatch.setattr("torch.cuda.device_count", lambda: count)
        monkeypatch.setattr("torch._C._cuda_exchangeDevice", self.exchange, raising=False)

    def exchange(self, ordinal: int) -> int:
        before, self.current = self.current, ordinal
        return before


def test_with_one_device_nothing_is_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    Devices(monkeypatch, 1)
    call = lambda: 1  # noqa: E731
    assert streams.on_device(call, 0) is call


def test_with_several_the_call_runs_on_its_own_and_the_callers_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = Devices(monkeypatch, 2)
    assert streams.on_device(lambda: devices.current, 1)() == 1
    assert devices.current == 0

    def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        streams.on_device(fails, 1)()
    assert devices.current == 0


def test_the_stream_is_asked_for_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [111]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch._C._cuda_getCurrentRawStream", lambda ordinal: now[0] + ordinal, raising=False)
    stream = streams.torch_stream(1)
    assert stream() == 112
    now[0] = 222
    assert stream() == 223


def test_a_torch_without_gpu_is_a_missing_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(MissingPieceError, match="sees no GPU"):
        streams.torch_stream(0)
