"""Calls that leave out torch's dispatcher, and everything that must not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import kgen.ops
from kgen.errors import OpError
from kgen.runtime import session
from kgen.runtime.library import Library
from tests.runtime.tiny import tensors

pytestmark = pytest.mark.hipcc
op = torch.ops.kgen.wvsplitk
BF16 = torch.bfloat16


@pytest.fixture
def known(library: Library) -> Iterator[tuple[Tensor, Tensor]]:
    """Tensors of a problem that has a plan."""
    x, weight = tensors(2, 21, 136, BF16)
    with torch.no_grad():
        op(x, weight)
        yield x, weight


def through_dispatcher(call: Callable[[], Any]) -> bool:
    """Whether a call reaches torch's own entry of the op."""
    called: list[Any] = []
    sys.setprofile(lambda frame, event, arg: called.append(arg) if event == "c_call" else None)
    try:
        call()
    finally:
        sys.setprofile(None)
    return any(arg is op._op or arg == op._op for arg in called)


def launches() -> int:
    return sum(session.stats().values())


def test_a_first_call_goes_through_the_dispatcher_and_later_ones_do_not(library: Library) -> None:
    x, weight = tensors(2, 21, 136, BF16)
    assert through_dispatcher(lambda: op(x, weight))
    assert not through_dispatcher(lambda: op(x, weight))
    assert not through_dispatcher(lambda: op(x=x.clone(), weight=weight))
    assert through_dispatcher(lambda: op(x[:1], weight))
    assert not through_dispatcher(lambda: op(x[:1], weight))
    assert launches() == 5


def test_both_ways_give_the_same(known: tuple[Tensor, Tensor]) -> None:
    x, weight = known
    bias = torch.randn(21).to(BF16)
    for args in ((x, weight), (x, weight, bias), (x, weight, None), (x[None], weight, bias)):
        want = op.default(*args)
        assert torch.equal(op(*args), want)
        assert torch.equal(op(*args), want)


def test_an_op_is_still_a_packet_of_overloads() -> None:
    for name in (
        "wvsplitk",
        "llmm1",
        "wvsplitkrc",
        "wvsplitkq",
        "wvsplitk_int4",
        "gemm_w4a16",
        "w4a16_linear",
        "gemm_4bit",
    ):
        packet = getattr(torch.ops.kgen, name)
        assert isinstance(packet, torch._ops.OpOverloadPacket)
        assert type(packet) is kgen.ops.direct.DirectPacket
        assert packet.overloads() == ["default"]
        assert isinstance(packet.default, torch._ops.OpOverload)
        assert packet.default._overloadpacket is packet


class Seen(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.ops: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.ops.append(func)
        return func(*args, **(kwargs or {}))


class SeenFunctions(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.ops: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.ops.append(func)
        return func(*args, **(kwargs or {}))


def test_modes_see_the_op(known: tuple[Tensor, Tensor]) -> None:
    x, weight = known
    for _ in range(2):
        with Seen() as seen:
            op(x, weight)
        assert op.default in seen.ops
        with SeenFunctions() as functions:
            op(x, weight)
        assert {op, op.default} & set(functions.ops)


def test_fake_tensors_stay_fake(known: tuple[Tensor, Tensor]) -> None:
    x, weight = known
    before = launches()
    for mode in (FakeTensorMode(), FakeTensorMode(allow_non_fake_inputs=True)):
        fakes = mode.from_tensor(x), mode.from_tensor(weight)
        assert isinstance(op(*fakes), FakeTensor)
        with mode:
            assert isinstance(op(*fakes), FakeTensor)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert isinstance(op(x, weight), FakeTensor)
    assert op(x.to("meta"), weight.to("meta")).is_meta
    assert launches() == before


def test_subclasses_get_their_say(known: tuple[Tensor, Tensor]) -> None:
    x, weight = known
    called = []

    class Own(Tensor):
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            called.append(func)
            return super().__torch_function__(func, types, args, kwargs or {})

    own = x.as_subclass(Own)
    for _ in range(2):
        called.clear()
        op(own, weight)
        assert {op, op.default} & set(called)


def test_traces_hold_the_op_and_not_its_result(known: tuple[Tensor, Tensor]) -> None:
    x, weight = known
    traced = torch.jit.trace(lambda a, b: op(a, b) + 1, (x, weight), check_trace=False)
    assert "kgen::wvsplitk" in str(traced.graph)
    assert torch.equal(traced(2 * x, weight), op(2 * x, weight) + 1)
    graph = make_fx(lambda a, b: op(a, b) + 1)(x, weight)
    assert op.default in [node.target for node in graph.graph.nodes]


def test_a_tensor_given_twice_goes_through_the_dispatcher(library: Library) -> None:
    x, _ = tensors(2, 21, 136, BF16)
    for _ in range(2):
        assert through_dispatcher(lambda: op(x, x))
    assert "kgen::wvsplitk" in str(torch.jit.trace(lambda a: op(a, a), (x,), check_trace=False).graph)


def test_scripts_call_the_op(known: tuple[Tensor, Tensor]) -> None:
    def block(x: Tensor, weight: Tensor) -> Tensor:
        return torch.ops.kgen.wvsplitk(x, weight)

    scripted = torch.jit.script(block)
    assert torch.equal(scripted(*known), op(*known))


def test_transforms_do_what_they_do_with_the_overload(known: tuple[Tensor, Tensor]) -> None:
    x, weight = known

    def outcome(one: Any) -> Any:
        try:
            return torch.func.vmap(one, in_dims=(0, None))(torch.stack([x, 2 * x]), weight)
        except RuntimeError as error:
            return str(error)

    wanted, found = outcome(op.default), outcome(op)
    assert torch.equal(found, wanted) if isinstance(wanted, Tensor) else found == wanted
    assert torch.equal(torch.func.functionalize(op)(x, weight), op(x, weight))


def test_profilers_see_the_op(known: tuple[Tensor, Tensor]) -> None:
    for _ in range(2):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            op(*known)
        assert "kgen::wvsplitk" in {event.key for event in profile.key_averages()}


@pytest.mark.parametrize("mode", [nullcontext, torch.no_grad, torch.inference_mode])
def test_gradients_are_refused_where_they_are_enabled(
    known: tuple[Tensor, Tensor], mode: Callable[[], AbstractContextManager[Any]]
) -> None:
    x, weight = known[0], torch.nn.Parameter(known[1])
    want = op(*known)
    with torch.enable_grad(), mode():
        for _ in range(2):
            if mode is nullcontext:
                with pytest.raises(OpError, match="for inference"):
                    op(x, weight)
            else:
                assert torch.equal(op(x, weight), want)


def test_arguments_that_are_no_tensors_are_refused_in_torchs_words(known: tuple[Tensor, Tensor]) -> None:
    x, weight = known
    bad: tuple[tuple[Any, ...], ...] = ((), (x,), (x, [1.0]), (x, weight, None, None), (x, weight, 3))
    for args in bad:
        with pytest.raises(RuntimeError) as wanted:
            op._op(*args)
        with pytest.raises(RuntimeError) as found:
            op(*args)
        assert str(found.value) == str(wanted.value)


def test_problems_with_equal_numbers_of_elements_have_plans_of_their_own(library: Library) -> None:
    problems = [tensors(N, M, K, BF16) for N, M, K in ((1, 16, 256), (2, 32, 128), (4, 64, 64), (1, 16, 256))]
    for _ in range(2):
        for x, weight in problems:
            assert op(x, weight).shape == (x.shape[0], weight.shape[0])
            torch.testing.assert_close(op(x, weight), x @ weight.T, atol=0.1, rtol=0.02)
    assert [len(plans) for plans in session.plans.values()] == [3, 3]


def test_a_key_keeps_a_handful_of_plans(library: Library) -> None:
    _, weight = tensors(1, 16, 64, BF16)
    wide = torch.randn(3, 64 * 24).to(BF16)
    for pad in range(20):
        rows = wide.as_strided((3, 64), (64 + 8 * pad, 1))
        assert op(rows, weight).shape == (3, 16)
    assert [len(plans) for plans in session.plans.values()] == [kgen.ops.plan.PLANS_PER_KEY] * 2
