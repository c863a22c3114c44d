"""Bytes that a problem must move once: what a time is held against."""

from __future__ import annotations

from kgen.dispatch.quantities import scope
from kgen.spec.arch import arch_facts
from kgen.sweep.workload import Workload


def weight_bytes(family: str, arch: str, workload: Workload) -> int:
    """Bytes of the weight: what the family's dispatch quantity of that name says, 16-bit elements where it has none."""
    env = scope(family, arch).environment(workload.shape, workload.dtype, arch_facts(arch).cu)
    return int(env.get("weight_bytes", 2 * workload.shape.M * workload.shape.K))


def bytes_moved(family: str, arch: str, workload: Workload) -> float:
    """Weights, activations and the 16-bit output, each once."""
    env = scope(family, arch).environment(workload.shape, workload.dtype, arch_facts(arch).cu)
    act = env.get("act_bytes", 2 * workload.shape.N * workload.shape.K)
    return float(weight_bytes(family, arch, workload) + act + 2 * workload.shape.M * workload.shape.N)
