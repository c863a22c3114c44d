"""Bytes that a problem must move once: what a time is held against."""

from __future__ import annotations

from kgen.dispatch.quantities import scope
from kgen.spec.arch import arch_facts
from kgen.sweep.workload import Workload


def weight_bytes(family: str, arch: str, workload: Workload) -> int:
    """Bytes of the weights that a problem reads: of one, what the family's dispatch quantity says, 16-bit elements where it has none."""
    env = scope(family, arch).environment(workload.shape, workload.dtype, arch_facts(arch).cu)
    one = env.get("weight_bytes", env.get("expert_bytes", 2 * workload.shape.M * workload.shape.K))
    return int(one) * int(workload.shape.weights_read)


def bytes_moved(family: str, arch: str, workload: Workload) -> float:
    """Weights, activations and the 16-bit output, each once."""
    env, shape = scope(family, arch).environment(workload.shape, workload.dtype, arch_facts(arch).cu), workload.shape
    act = env.get("act_bytes", 2 * shape.N * shape.K) / shape.N * shape.act_rows
    return float(weight_bytes(family, arch, workload) + act + 2 * shape.M * shape.out_rows)
