"""The report's plots as SVG text, drawn by matplotlib: vector, small, and readable without any script."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from kgen.errors import MissingPieceError
from kgen.sweep.analysis import AxisValue, Standing
from kgen.sweep.records import TORCH

_COLOURS = {"pick": "#4c78a8", "torch": "#b279a2", "best": "#e45756", "floor": "#444444"}


def _figure(width: float, height: float) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPieceError(
            'reports are drawn by matplotlib, which is not installed\n  try: pip install "kgen[sweep]", then `kgen sweep report`'
        ) from None
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Any, title: str) -> str:
    """The figure as an <svg> element; the same figure gives the same text."""
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 9}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Title": title})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _plain(axis: Any) -> None:
    """Numbers on a logarithmic axis as one reads them: 20, not 2 x 10^1."""
    from matplotlib.ticker import LogLocator, ScalarFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_locator(LogLocator(subs=(1, 2, 5)))


def _label(standing: Standing) -> str:
    sizes = standing.workload.sizes
    return " ".join([f"{sizes['M']}x{sizes['K']} N{sizes.get('N', '')}", *standing.workload.words])


def times_plot(found: Sequence[Standing]) -> str:
    """Microseconds per problem over the time of reading the bytes alone: pick, torch, best."""
    figure, axes = _figure(9, 1.2 + 0.24 * len(found))
    rows = range(len(found))
    for key, values in (
        ("pick", [s.pick_us if s.pick != TORCH else None for s in found]),
        ("torch", [s.torch_us for s in found]),
        ("best", [s.best_us for s in found]),
    ):
        have = [(value, row) for value, row in zip(values, rows, strict=True) if value]
        if have:
            name = {"pick": "present pick", "torch": "torch", "best": "best kernel"}[key]
            axes.plot(*zip(*have, strict=True), "o", ms=5, alpha=0.8, color=_COLOURS[key], label=name)
    floors = [(s.floor_us, row) for s, row in zip(found, rows, strict=True) if s.floor_us]
    if floors:
        axes.plot(*zip(*floors, strict=True), "|", ms=11, mew=2, color=_COLOURS["floor"], label="reading the bytes")
    axes.set_xscale("log")
    _plain(axes.xaxis)
    axes.set_yticks(list(rows), [_label(s) for s in found])
    axes.invert_yaxis()
    axes.set_xlabel("microseconds")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="best", fontsize=8)
    return _svg(figure, "times")


def roofline_plot(found: Sequence[Standing]) -> str:
    """Bandwidth reached over bytes of the problem; the line is what the device reads at best."""
    figure, axes = _figure(9, 4)
    sizes = [s.gbs * s.best_us / 1e3 for s in found]  # MB
    axes.plot(sizes, [s.gbs for s in found], "o", color=_COLOURS["best"], label="best kernel")
    roof = sorted((mb, s.gbs * s.best_us / s.floor_us) for mb, s in zip(sizes, found, strict=True) if s.floor_us)
    if roof:
        axes.plot(*zip(*roof, strict=True), "-", color=_COLOURS["floor"], label="reading the bytes alone")
    picks = [
        (mb, s.gbs * s.best_us / s.pick_us) for mb, s in zip(sizes, found, strict=True) if s.pick_us and s.pick != TORCH
    ]
    if picks:
        axes.plot(*zip(*picks, strict=True), "x", color=_COLOURS["pick"], label="present pick")
    axes.set_xscale("log")
    _plain(axes.xaxis)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("MB moved")
    axes.set_ylabel("GB/s")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return _svg(figure, "roofline")


def axes_plot(worth: Sequence[AxisValue]) -> str:
    """What is lost if an axis is fixed at a value: the mean as a bar, the worst problem as a tick."""
    figure, axes = _figure(9, 1.2 + 0.26 * len(worth))
    rows = range(len(worth))
    axes.barh(list(rows), [100 * v.mean for v in worth], color=_COLOURS["pick"], height=0.6, label="mean loss")
    axes.plot([100 * v.worst for v in worth], list(rows), "|", ms=11, mew=2, color=_COLOURS["best"], label="worst loss")
    axes.set_yticks(list(rows), [f"{v.axis} = {v.value}" for v in worth])
    axes.invert_yaxis()
    axes.set_xlabel("percent more time than with all values to choose from")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8)
    return _svg(figure, "axes")


def scan_plot(lines: Sequence[tuple[str, str, Sequence[tuple[int, float]]]]) -> str:
    """Share of the roofline over one size, the other fixed: cliffs are dips. `lines`: (size walked, name, points)."""
    figure, axes = _figure(9, 4)
    for _, name, points in lines:
        axes.plot(*zip(*points, strict=True), "o-", ms=4, lw=1, label=name)
    axes.set_xscale("log")
    _plain(axes.xaxis)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(" or ".join(dict.fromkeys(walked for walked, _, _ in lines)))
    axes.set_ylabel("share of the roofline")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, ncols=2)
    return _svg(figure, "scan")


def crossover_plot(lines: Sequence[tuple[str, Sequence[tuple[int, float]], int | None]]) -> str:
    """Best kernel over torch against the number of rows; above 1 torch is faster."""
    figure, axes = _figure(9, 4)
    for name, points, _ in lines:
        axes.plot(*zip(*points, strict=True), "o-", ms=4, lw=1, label=name)
    axes.axhline(1.0, color=_COLOURS["floor"], lw=1)
    axes.set_xticks(sorted({n for _, points, _ in lines for n, _ in points}))
    axes.set_xlabel("activation rows N")
    axes.set_ylabel("time over torch's")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, ncols=2)
    return _svg(figure, "crossover")
