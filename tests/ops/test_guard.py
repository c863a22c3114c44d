"""Guards: what passes is like what they were made for in everything that a plan depends on."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kgen.ops import guard as module
from kgen.ops.guard import (
    by_python,
    by_torch,
    filled,
    guard,
    keeps_its_promise,
    knows_dispatch,
    stops_what_dispatch_would,
)

MAKES = (by_torch, by_python)


def fresh() -> Tensor:
    return torch.zeros(4, 16, dtype=torch.bfloat16)[:, :8]


OTHERS: dict[str, Callable[[], Tensor]] = {
    "rows": lambda: fresh()[:3],
    "columns": lambda: fresh()[:, :7],
    "rank": lambda: fresh()[None],
    "strides": lambda: fresh().contiguous(),
    "dtype": lambda: torch.zeros(4, 16, dtype=torch.float16)[:, :8],
    "device": lambda: torch.zeros(4, 16, dtype=torch.bfloat16, device="meta")[:, :8],
    "class": lambda: torch.nn.Parameter(fresh(), requires_grad=False),
    "gradient": lambda: fresh().requires_grad_(),
    "layout": lambda: fresh().float().to_sparse().to(torch.bfloat16),
}


@pytest.mark.parametrize("make", MAKES)
def test_tensors_like_its_own_pass_whatever_they_hold(make: Callable[..., Callable[..., bool]]) -> None:
    check = make([fresh(), fresh()[0]])
    assert check(fresh(), fresh()[0])
    assert check(torch.ones(5, 16, dtype=torch.bfloat16)[1:, 8:], fresh()[3])


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("what", OTHERS)
def test_every_difference_stops_a_tensor_in_every_place(make: Callable[..., Callable[..., bool]], what: str) -> None:
    check = make([fresh(), fresh()])
    assert not check(OTHERS[what](), fresh())
    assert not check(fresh(), OTHERS[what]())
    assert check(fresh(), fresh())


def test_torchs_own_guards_are_used_where_they_do_this() -> None:
    assert keeps_its_promise(by_torch)
    assert keeps_its_promise(by_python)
    assert module.TRUSTED


def test_torchs_own_guards_stop_what_the_dispatcher_would_not_hand_straight_on() -> None:
    assert stops_what_dispatch_would(by_torch)
    assert not stops_what_dispatch_would(by_python)
    x = fresh()
    assert knows_dispatch([x, fresh(), None])
    assert not knows_dispatch([x, None, x])  # guarded in Python


def test_a_make_of_guards_that_fails_is_found_out() -> None:
    def refused(tensors: object) -> Callable[..., bool]:
        raise TypeError("missing dynamic_dims_sizes=...")

    assert not keeps_its_promise(refused)
    assert not keeps_its_promise(lambda tensors: lambda *others: True)
    assert not keeps_its_promise(lambda tensors: lambda *others: False)
    assert not keeps_its_promise(lambda tensors: lambda *others: others[0].dtype == torch.float16)


def test_a_missing_tensor_and_one_given_twice_are_guarded_too() -> None:
    x = fresh()
    check = guard([x, None, x])
    assert check(*filled([x, None, x]))
    assert check(*filled([fresh(), None, fresh()]))
    assert not check(*filled([x, None, fresh()[:3]]))
    assert guard([fresh(), None])(*filled([fresh(), None]))


def test_a_guard_keeps_no_tensor_alive() -> None:
    x = fresh()
    for make in MAKES:
        check, seen = make([x, fresh()]), weakref.ref(x)
        x = fresh()
        gc.collect()
        assert seen() is None
        assert check(fresh(), fresh())
