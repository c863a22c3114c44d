"""In which order points are tried: all of them while they fit the budget, else Optuna's choice.

Points are grouped by what no problem can mix: element type, activation rows, traits. A group's points are compared by the mean of the logarithms of
their times over the present pick's, so that a point that is good everywhere beats one that is good once.
"""

from __future__ import annotations

import importlib.util
import math
import random
from collections.abc import Sequence
from typing import Any, Literal

from kgen.errors import MissingPieceError
from kgen.sweep.plan import Point

Mode = Literal["auto", "all", "optuna"]
STARTUP = 24  # points of a group that are drawn evenly before a sampler has anything to go by
_SEED = 7


class Search:
    """Hands out points until there are none left; knows what they scored.

    points  those that may be built
    axes    the parameters to choose from
    """

    def __init__(self, points: Sequence[Point], axes: Sequence[str], mode: Mode = "auto"):
        self.mode = mode
        self.blind = False
        self._axes = list(axes)
        shuffled = list(points)
        random.Random(_SEED).shuffle(shuffled)
        self._left: dict[Any, dict[str, Point]] = {}
        for point in shuffled:
            self._left.setdefault(_group(point), {})[point.name] = point
        self._scores: dict[str, tuple[Point, float]] = {}
        self._studies: dict[Any, Any] = {}
        self._choices = {axis: sorted({getattr(p.spec, axis) for p in points}, key=_order) for axis in self._axes}

    @property
    def remaining(self) -> int:
        """Points not handed out yet."""
        return sum(map(len, self._left.values()))

    def settle(self, seconds_per_point: float, seconds_left: float) -> Mode:
        """Decide, once the pace is known, whether the rest fits the budget; "all" or "optuna".

        Without Optuna the points simply come in their shuffled order until the budget is over: `blind` says so.
        """
        if self.mode == "auto":
            fits = self.remaining * seconds_per_point <= seconds_left
            self.blind = not fits and importlib.util.find_spec("optuna") is None
            self.mode = "all" if fits or self.blind else "optuna"
        return self.mode

    def next(self, count: int) -> list[Point]:
        """Up to `count` points, taken from all groups in turn."""
        out: list[Point] = []
        while len(out) < count and self.remaining:
            for key in [key for key, left in self._left.items() if left]:
                if len(out) < count:
                    out.append(self._take(key))
        return out

    def told(self, point: Point, score: float) -> None:
        """What a point scored: the mean log ratio to the present pick over its problems; infinite for one that is wrong or failed."""
        self._scores[point.name] = point, score
        study = self._studies.get(_group(point))
        if study is not None:
            self._add(study, point, score)

    def _take(self, key: Any) -> Point:
        left = self._left[key]
        scored = sum(1 for point, _ in self._scores.values() if _group(point) == key)
        name = self._ask(key) if self.mode == "optuna" and scored >= min(STARTUP, 8) else next(iter(left))
        return left.pop(name)

    # ---- Optuna

    def _ask(self, key: Any) -> str:
        """The point left that the sampler likes best: its proposal if that is still there, else the nearest to it."""
        study = self._studies.get(key)
        if study is None:
            study = self._studies[key] = self._study(key)
        left = self._left[key]
        choices = self._choices
        trial = study.ask()
        wanted = {axis: choices[axis][trial.suggest_int(axis, 0, len(choices[axis]) - 1)] for axis in choices}
        study.tell(trial, state=_state("FAIL"))  # what is measured is told as a trial of its own
        return min(left, key=lambda name: _distance(wanted, left[name], choices))

    def _study(self, key: Any) -> Any:
        try:
            import optuna
        except ImportError:
            raise MissingPieceError(
                "the space does not fit the budget, and what chooses then is not installed: optuna\n"
                '  try: pip install "kgen[sweep]"; or a larger --budget; or fewer values by --axes'
            ) from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=_SEED, n_startup_trials=4))
        for point, score in self._scores.values():
            if _group(point) == key:
                self._add(study, point, score)
        return study

    def _add(self, study: Any, point: Point, score: float) -> None:
        import optuna

        choices = self._choices
        value = score if math.isfinite(score) else 2.0  # e^2 times the pick's time: worse than anything that runs
        study.add_trial(
            optuna.trial.create_trial(
                params={axis: values.index(getattr(point.spec, axis)) for axis, values in choices.items()},
                distributions={
                    axis: optuna.distributions.IntDistribution(0, len(v) - 1) for axis, v in choices.items()
                },
                value=value,
            )
        )


def _group(point: Point) -> Any:
    spec = point.spec
    rows = None if spec.any_rows else getattr(spec, "N", None)
    return spec.dtype, rows, *(getattr(spec, name) for name in spec.traits)


def _order(value: Any) -> tuple[bool, str, Any]:
    """Numbers by size, words by letters, None first."""
    return (
        value is not None,
        "" if isinstance(value, (int, type(None))) else str(value),
        value if isinstance(value, int) else 0,
    )


def _distance(wanted: dict[str, Any], point: Point, choices: dict[str, list[Any]]) -> tuple[int, str]:
    steps = sum(
        abs(values.index(wanted[axis]) - values.index(getattr(point.spec, axis))) for axis, values in choices.items()
    )
    return steps, point.name


def _state(name: str) -> Any:
    import optuna

    return optuna.trial.TrialState[name]
