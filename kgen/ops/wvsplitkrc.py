"""torch.ops.kgen.wvsplitkrc on real tensors: the linear ops' plan with a workspace, and a choice between two orders of addition."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, is_grad_enabled

from kgen import settings
from kgen.errors import MissingPieceError
from kgen.ops.check import LinearProblem, check_linear
from kgen.ops.direct import Missed
from kgen.ops.guard import ABSENT
from kgen.ops.linear import linear_plan
from kgen.ops.plan import BELOW, DIRECT, Plan, make_plan, table_answer
from kgen.runtime import session
from kgen.runtime.launch import Kernel
from kgen.runtime.library import Library
from kgen.runtime.workspace import pool_of
from kgen.spec.wvsplitkrc import WvSplitKrcSpec

FAMILY = WvSplitKrcSpec.family
_NO_BIAS = ABSENT[2]


def wvsplitkrc_op(missed: Missed | None = None) -> Callable[..., Tensor]:
    """The op's code; see `kgen.ops.check.check_linear` for what it takes.

    deterministic  the same bits on every run, or sums in the order of arrival; None: `kgen.settings.deterministic()`
    missed         of a key and the op's arguments: answers where no plan is kept; None: makes one
    """
    way, otherwise = (BELOW, _first) if missed is None else (DIRECT, missed)

    def wvsplitkrc(
        x: Tensor, weight: Tensor, bias: Tensor | None = None, *, deterministic: bool | None = None
    ) -> Tensor:
        wanted = settings.deterministic() if deterministic is None else deterministic
        key = (way, FAMILY, wanted, x.numel(), weight.numel(), bias is None, is_grad_enabled())
        for same, plan in session.plans.get(key, ()):
            if same(x, weight, _NO_BIAS if bias is None else bias):
                return plan(x, weight, bias)
        return otherwise(key, x, weight, bias, deterministic=deterministic)

    return wvsplitkrc


def _first(
    key: tuple[Any, ...], x: Tensor, weight: Tensor, bias: Tensor | None, *, deterministic: bool | None
) -> Tensor:
    """The first call with such tensors; the key says what is wanted, whatever the process's setting has become meanwhile."""
    _, _, wanted, *_ = key
    plan = make_plan(FAMILY, key, (x, weight, bias), check_linear, partial(_answer, x, wanted))
    return plan(x, weight, bias)


def _answer(x: Tensor, deterministic: bool, library: Library, problem: LinearProblem) -> Plan:
    def kernel_plan(kernel: Kernel) -> Plan:
        return _kernel_plan(library, _in_order(library, kernel, problem, deterministic), problem, x)

    return table_answer(FAMILY, library, problem, x.dtype, kernel_plan)


def _in_order(library: Library, kernel: Kernel, problem: LinearProblem, deterministic: bool) -> Kernel:
    """The kernel itself, or its twin that adds in the wanted order; a wish for speed never stops a shape from being answered."""
    spec = kernel.spec
    assert isinstance(spec, WvSplitKrcSpec)
    if spec.DETERMINISTIC == deterministic:
        return kernel
    (twin,) = spec.twins()
    if not deterministic and twin.fits(problem.shape) is not None:
        return kernel
    entry = library.manifest.entries.get(twin.name)
    if entry is None or not entry.built:
        raise MissingPieceError(
            f"kernel not built: {twin.name} for {library.arch}, the twin of {spec.name}\n"
            f"  try: kgen build --arch {library.arch} --family {FAMILY}"
        )
    return library.kernel(twin.name)


def _kernel_plan(library: Library, kernel: Kernel, problem: LinearProblem, x: Tensor) -> Plan:
    shape, driver, spec = problem.shape, library.driver, kernel.spec
    assert isinstance(spec, WvSplitKrcSpec)
    geometry = spec.launch(shape, driver.device.cu)
    strides = (problem.weight_stride, problem.act_stride, problem.bias_stride)
    sizes = (shape.M, shape.K, *strides, shape.N, spec.shards(shape), geometry.grid[0])
    launch = pool_of(driver, spec.DETERMINISTIC).lend(kernel.bind(geometry, sizes))
    return linear_plan(FAMILY, kernel, launch, problem, x)
