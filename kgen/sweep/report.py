"""The report: one HTML file that needs nothing else. What should change and how sure that is; what each axis is worth; what failed and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgen.build.folder import write_whole
from kgen.sweep import analysis, plots
from kgen.sweep.analysis import Standing
from kgen.sweep.records import Time, rebased
from kgen.sweep.store import Store

if TYPE_CHECKING:
    from kgen.sweep.conduct import Outcome, Request

SCAN = 3  # problems in a row of sizes that make a scan
LINES = 12  # lines in one plot; more cannot be told apart


def report_path(request: Request) -> Path:
    """Where the report goes."""
    return request.home / f"{request.family}.html"


def write_report(request: Request, outcome: Outcome) -> Path:
    """Draw the report of what the store holds. Raises MissingPieceError without matplotlib."""
    store = Store(request.home / "store.sqlite", request.arch)
    try:
        html = render_report(outcome, store)
    finally:
        store.close()
    path = report_path(request)
    write_whole(path, html.encode())
    return path


def render_report(outcome: Outcome, store: Store) -> str:
    """The report's text."""
    from kgen.render.environment import environment

    family, plan = outcome.request.family, outcome.plan
    found = rebased(store.times(outcome.device.name), outcome.picks)
    times = [time for time in found if time.kind == outcome.kind]
    points = store.points(family)
    standings = analysis.standings(plan, times, outcome.picks)
    twins = {point["name"]: point["twin_of"] for point in points if point["twin_of"]}
    worth = analysis.axis_worth(plan, times, twins)
    scans = _scans(standings)
    crossings = analysis.crossover(plan, standings)[:LINES]
    page: dict[str, Any] = {
        "outcome": outcome,
        "counts": outcome.counts,
        "standings": standings,
        "worth": worth,
        "idle": outcome.idle,
        "cliffs": analysis.cliffs(plan, standings),
        "crossings": crossings,
        "reasons": _reasons(points),
        "clocks": sorted({time.clock for time in times}),
        "diff": [(_kind_of_line(line), line) for line in outcome.promotion.diff().splitlines()],
        "plots": {
            "times": plots.times_plot(standings) if standings else "",
            "roofline": plots.roofline_plot(standings) if standings else "",
            "axes": plots.axes_plot(worth) if worth else "",
            "scan": plots.scan_plot(scans[:LINES]) if scans else "",
            "crossover": plots.crossover_plot(crossings) if crossings else "",
        },
        "rounds": _rounds(times),
    }
    return environment().get_template("sweep/report.html.jinja").render(**page)


def _reasons(points: Sequence[dict[str, Any]]) -> list[tuple[str, str, int]]:
    """(state, words, how many) of points that were not timed, most first."""
    found = Counter((p["state"], p["why"]) for p in points if p["state"] in ("pruned", "failed", "wrong", "planned"))
    return [(state, why, count) for (state, why), count in found.most_common()]


def _rounds(times: Sequence[Time]) -> dict[str, int]:
    """Stage -> rounds of its times."""
    return {time.stage: len(time.rounds) for time in times}


def _scans(standings: Sequence[Standing]) -> list[tuple[str, str, list[tuple[int, float]]]]:
    """Lines of at least SCAN problems that differ in one size alone, longest first."""
    out = []
    for fixed, walked in (("M", "K"), ("K", "M")):
        lines: dict[str, list[tuple[int, float]]] = {}
        for standing in standings:
            if standing.reach is not None:
                sizes = standing.workload.sizes
                name = ", ".join([f"{fixed} {sizes[fixed]}", f"N {sizes.get('N')}", *standing.workload.words])
                lines.setdefault(name, []).append((sizes[walked], standing.reach))
        out += [(walked, name, sorted(points)) for name, points in lines.items() if len(points) >= SCAN]
    return sorted(out, key=lambda line: -len(line[2]))


def _kind_of_line(line: str) -> str:
    if line.startswith(("+++", "---", "@@")):
        return "head"
    return {"+": "new", "-": "old"}.get(line[:1], "same")
