"""A whole sweep from a request: plan, farm, loop, promotion, report. Everything that is written lies below one folder, and the tables'."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from kgen.build.run import processors
from kgen.dispatch import DispatchTable, has_table, load_table, table_path
from kgen.errors import KgenError, Problem, SpecError
from kgen.spec.arch import arch_facts
from kgen.spec.registry import family_class
from kgen.sweep.analysis import idle_axes
from kgen.sweep.farm import DEADLINE, Farm, LocalFarm
from kgen.sweep.gpu import GpuPlan, no_gpu
from kgen.sweep.guard import Held, hold, sample_rows
from kgen.sweep.model import ModelPlan
from kgen.sweep.plan import SweepPlan, plan
from kgen.sweep.promote import GAIN, Promotion, outranking, promote
from kgen.sweep.records import DeviceState, Kind, rebased
from kgen.sweep.rows import draft_rows
from kgen.sweep.run import Progress, Sweep, SweepOptions, Tally
from kgen.sweep.space import defaults_of, space_of
from kgen.sweep.stats import MIN_PAIRS
from kgen.sweep.store import Store
from kgen.sweep.worker import WorkerPlan
from kgen.sweep.workload import Workload, layers_of, rows_of, workloads

FIRST_TABLE = """\
# {family} on {arch}. Rows are tried from the top; the first whose `when` holds wins.
# Yours to edit; then `kgen dispatch check`. Names and evidence: docs/dispatch.md; promoted rows: docs/sweep.md.
schema = 1
arch = "{arch}"
family = "{family}"

[[row]]
when = "true"
use = "torch"
[row.because]
kind = "default"
why = "nothing is known here yet"
"""


@dataclass(frozen=True)
class Request:
    """What is asked of a sweep.

    sets, layers  shape sets by name or file, and single layers as MxK
    rows, dtypes  activation rows (None: the family's own) and element types
    axes          as kgen.sweep.space.parse_axes gives them
    sizes         what the family's problems have besides M, N, K and traits, such as experts, each with the values to try
    out           folder of the store, the kernels and the report
    tables        folder like specs/dispatch that the promoted table goes to; None: specs/dispatch itself
    workers       worker processes; None: one per GPU, or per processor for the model
    ray           address of a Ray cluster ("local" starts one here); None: this machine alone
    model         rank by the model instead of measuring
    gain          least share of time that a promoted row must save
    """

    family: str
    arch: str
    sets: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    rows: tuple[int, ...] | None = None
    dtypes: tuple[str, ...] = ("bf16",)
    axes: Mapping[str, Sequence[Any] | None] = field(default_factory=dict)
    sizes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    out: Path = Path("build/sweep")
    tables: Path | None = None
    workers: int | None = None
    jobs: int | None = None
    ray: str | None = None
    model: bool = False
    gain: float = GAIN
    deadline: float = DEADLINE
    options: SweepOptions = field(default_factory=SweepOptions)

    @property
    def home(self) -> Path:
        """Where this target's sweeps keep their things."""
        return self.out / self.arch


@dataclass(frozen=True)
class Outcome:
    """What a sweep left: counts of points per state, what this run did, and what promotion would do or did.

    idle  axes that changed neither code nor launch
    """

    request: Request
    device: DeviceState
    kind: Kind
    counts: dict[str, int]
    tally: Tally
    promotion: Promotion
    store: Path
    plan: SweepPlan
    picks: Mapping[str, str]
    idle: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        rows = [
            {
                "when": row.when,
                "use": row.use,
                "kind": self.kind,
                "gain": row.gain.words(),
                "pairs": row.gain.pairs,
                "over": list(row.over),
                "problems": [w.sizes | {"dtype": w.dtype} for w in row.problems],
            }
            for row in self.promotion.rows
        ]
        return {
            "family": self.request.family,
            "arch": self.request.arch,
            "kind": self.kind,
            "device": self.device.name,
            "clock": self.device.clock,
            "counts": self.counts,
            "run": vars(self.tally),
            "idle": list(self.idle),
            "promoted": rows,
            "removed": list(self.promotion.removed),
            "refused": list(self.promotion.refused),
            "gain": self.promotion.gain.words() if self.promotion.gain else None,
            "store": str(self.store),
            "table": str(self.promotion.path),
        }


def planned(request: Request) -> SweepPlan:
    """The points and problems of a request; touches nothing. Raises SpecError."""
    rows = rows_of(request.family, request.arch, request.rows)
    space = space_of(request.family, request.arch, request.dtypes, rows, request.axes)
    return plan(space, _problems(request, rows, space.traits))


def _problems(request: Request, rows: Sequence[int], traits: Mapping[str, Sequence[Any]]) -> list[Workload]:
    """The problems of a request, without combinations of sizes that make none.

    Raises SpecError for sizes that the family's problems do not have, and if no combination is left.
    """
    shape = family_class(request.family).shape
    sizes = {**defaults_of(request.family, request.arch).sizes, **request.sizes}
    known = [each.name for each in fields(shape) if each.name not in ("M", "N", "K", *traits)]
    if wrong := [name for name in sizes if name not in known]:
        allowed = ", ".join(known) or f"none: problems of {request.family} have no other sizes"
        raise SpecError("sizes of a problem", [Problem(("--size",), ", ".join(wrong), allowed)])
    layers = layers_of(request.sets, request.layers)
    found = workloads(layers, rows, request.dtypes, shape, {**traits, **sizes})
    refusals = [refusal for workload in found if (refusal := workload.shape.refusal)]
    if found and len(refusals) == len(found):
        raise SpecError("these sizes make no problem", list(dict.fromkeys(refusals)))
    return [workload for workload in found if not workload.shape.refusal]


def conduct(request: Request, progress: Progress | None = None, say: Callable[[str], None] | None = None) -> Outcome:
    """Run a sweep to its end or its budget. Writes the store and kernels below `request.home`; the table is the caller's to write.

    Raises SpecError for what cannot be, MissingPieceError without a device or compiler, KgenError for a damaged store.
    """
    whole = planned(request)
    table, text = present_table(request)
    store = Store(request.home / "store.sqlite", request.arch)
    with farm_of(request, say) as farm:
        device: DeviceState = farm.call("device").result()
        kind: Kind = "model" if request.model else "measured"
        sweep = Sweep(whole, table, farm, store, device, kind, request.options, progress)
        tally = sweep.run()
    _remember(store, request, device, kind, sweep.picks)
    promotion = promotion_of(request, whole, store, device.name, kind, table, text, sweep.picks)
    _mark_promoted(
        store, request.family, {row.use.replace("{dtype}", d) for row in promotion.rows for d in request.dtypes}
    )
    counts, idle = store.counts(request.family), idle_axes(whole, store.points(request.family))
    store.close()
    path = request.home / "store.sqlite"
    return Outcome(request, device, kind, counts, tally, promotion, path, whole, sweep.picks, idle)


def guarded(request: Request, sample: int, seed: int, rounds: int) -> tuple[list[Held], list[str]]:
    """Time a sample of the table's measured rows again. Raises KgenError when the table has none on these problems."""
    table, _ = present_table(request)
    rows = request.rows or tuple(family_class(request.family).row_counts())
    problems = _problems(request, rows, family_class(request.family).traits)
    pairs, remarks = sample_rows(table, problems, sample, seed)
    if not pairs:
        raise KgenError(
            f"{table.where}: no measured row answers any of {len(problems)} problems\n  try: other --shapes, or a sweep first"
        )
    path = request.home / "store.sqlite"
    store = Store(path, request.arch) if path.is_file() else None
    with farm_of(request, None) as farm:
        return hold(table, pairs, farm, store, rounds), remarks


def recalled(request: Request) -> Outcome:
    """The outcome of the family's last sweep below `request.out`, from its store alone. Raises KgenError when there was none."""
    path = request.home / "store.sqlite"
    store = Store(path, request.arch) if path.is_file() else None
    kept = store.recall(f"sweep {request.family}") if store else None
    if store is None or kept is None:
        raise KgenError(
            f"no sweep of {request.family} on {request.arch} in {request.out}\n  try: `kgen sweep {request.family} ...` first"
        )
    asked = kept["request"]
    same = replace(
        request,
        sets=tuple(asked["sets"]),
        layers=tuple(asked["layers"]),
        rows=tuple(asked["rows"]),
        dtypes=tuple(asked["dtypes"]),
        sizes={name: tuple(values) for name, values in asked["sizes"].items()},
        axes={name: values if values is None else tuple(values) for name, values in asked["axes"].items()},
        gain=asked["gain"],
    )
    whole, device, kind = planned(same), DeviceState(**kept["device"]), kept["kind"]
    table, text = present_table(same)
    promotion = promotion_of(same, whole, store, device.name, kind, table, text, kept["picks"])
    counts, idle = store.counts(same.family), idle_axes(whole, store.points(same.family))
    store.close()
    return Outcome(same, device, kind, counts, Tally(), promotion, path, whole, kept["picks"], idle)


def _remember(store: Store, request: Request, device: DeviceState, kind: Kind, picks: Mapping[str, str]) -> None:
    """What a later report needs beside the results."""
    asked = {
        "sets": request.sets,
        "layers": request.layers,
        "rows": rows_of(request.family, request.arch, request.rows),
        "dtypes": request.dtypes,
        "axes": dict(request.axes),
        "sizes": dict(request.sizes),
        "gain": request.gain,
    }
    kept = {"request": asked, "device": vars(device), "kind": kind, "picks": dict(picks)}
    store.remember(f"sweep {request.family}", kept)


def present_table(request: Request) -> tuple[DispatchTable, str]:
    """The table that is promoted from and its text; one that answers torch throughout where there is none yet."""
    from kgen.dispatch import parse_table

    path = promoted_path(request)
    if path.is_file():
        return load_table(request.family, request.arch, path), path.read_text(encoding="utf-8")
    if has_table(request.family, request.arch):
        shipped = table_path(request.family, request.arch)
        return load_table(request.family, request.arch), shipped.read_text(encoding="utf-8")
    text = FIRST_TABLE.format(family=request.family, arch=request.arch)
    return parse_table(text, "no table yet"), text


def promoted_path(request: Request) -> Path:
    """The file that a promotion writes."""
    if request.tables is None:
        return table_path(request.family, request.arch)
    return request.tables / request.arch / f"{request.family}.toml"


def promotion_of(
    request: Request,
    whole: SweepPlan,
    store: Store,
    device: str,
    kind: Kind,
    table: DispatchTable,
    text: str,
    picks: Mapping[str, str],
) -> Promotion:
    """What the store's results say about the table."""
    ratios: dict[str, dict[str, tuple[float, ...]]] = {}
    for time in rebased(store.times(device, "explore" if kind == "model" else "final"), picks):
        if time.pick == picks.get(time.workload) and time.kind == kind and time.over_pick:
            ratios.setdefault(time.workload, {})[time.name] = time.over_pick
    pairs = 1 if kind == "model" else MIN_PAIRS
    protected = outranking(table, whole.workloads) if kind == "model" else {}
    drafts = draft_rows(whole.workloads, ratios, picks, request.gain, pairs, protected)
    return promote(table, text, promoted_path(request), drafts, kind, device, ratios)


def _mark_promoted(store: Store, family: str, names: set[str]) -> None:
    from kgen.sweep.records import Origin

    for point in store.points(family):
        if point["name"] in names and point["source"]:
            store.advance(point["name"], Origin(point["source"], point["compiler"]), "promoted")


# ---- where it runs


@contextlib.contextmanager
def farm_of(request: Request, say: Callable[[str], None] | None) -> Iterator[Farm]:
    """The request's farm, ended with the block."""
    farm: Farm
    if request.ray is not None:
        from kgen.sweep.ray_farm import RayFarm

        make = ModelPlan(request.arch) if request.model else _gpu_plan(request)
        farm = RayFarm(request.arch, make, request.ray, request.deadline, request.workers, request.model)
    else:
        plans = worker_plans(request)
        farm = LocalFarm(request.arch, request.home / "kernels", plans, request.jobs, request.deadline, say)
    try:
        yield farm
    finally:
        farm.stop()


def worker_plans(request: Request) -> list[WorkerPlan]:
    """One worker per GPU, or per processor for the model. Raises KgenError for what cannot be timed, MissingPieceError without a GPU."""
    if request.model:
        make = ModelPlan(request.arch)
        return [WorkerPlan(make, f"model-{i}") for i in range(request.workers or processors())]
    gpu = _gpu_plan(request)
    import torch

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if there == 0:
        raise no_gpu(request.arch)
    count = min(request.workers or there, there)
    variable = "HIP_VISIBLE_DEVICES" if arch_facts(request.arch).vendor == "amd" else "CUDA_VISIBLE_DEVICES"
    if there == 1:
        return [WorkerPlan(gpu, "gpu-0")]
    visible = os.environ.get(variable, "").split(",") if os.environ.get(variable) else [str(i) for i in range(there)]
    return [WorkerPlan(gpu, f"gpu-{device}", {variable: device}) for device in visible[:count]]


def _gpu_plan(request: Request) -> GpuPlan:
    """What makes the measurer of a GPU. Raises KgenError for a family whose operands kgen.bench cannot make."""
    from kgen.bench.contest import contested_families

    if request.family not in contested_families():
        known = ", ".join(contested_families())
        raise KgenError(
            f"{request.family} cannot be timed on a GPU: kgen bench has no operands for its problems\n"
            f"  try: --model, which ranks AMD kernels without one; times there are of {known}"
        )
    return GpuPlan(request.arch)
