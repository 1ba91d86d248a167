"""The scores of a sweep as a grid of two keys: cells, the best one with its interval, and the means of each value."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kdtui.compare.bootstrap import difference, score_interval
from kdtui.compare.statistics import Interval, over_seeds
from kdtui.errors import StoreError, UsageError
from kdtui.profile.settings import read_value
from kdtui.store.run import Run
from kdtui.store.state import LIVE, RunSummary, State
from kdtui.sweep.folder import BASELINE
from kdtui.sweep.runs import Member, SweepRuns
from kdtui.sweep.spec import Axis, affects_baseline


@dataclass(frozen=True)
class GridCell:
    """A field of the grid: all runs with one value of the rows and one of the columns.

    Attributes:
        row: Index of its row.
        column: Index of its column.
        members: Its runs, over seeds and the values of other keys, made or missing.
        score: Name of the score.
    """

    row: int
    column: int
    members: tuple[Member, ...]
    score: str = "miou"

    @property
    def runs(self) -> tuple[RunSummary, ...]:
        """Its runs that exist."""
        return tuple(member.run for member in self.members if member.run is not None)

    @property
    def scores(self) -> dict[int, list[float]]:
        """Scores of its finished runs by seed."""
        return _scores(self.members, self.score, (State.FINISHED,))

    @property
    def whole(self) -> bool:
        """Whether all of its runs have finished."""
        return all(member.run is not None and member.run.state is State.FINISHED for member in self.members)

    @property
    def mean(self) -> float | None:
        """Mean score so far; of runs that have not finished, the best score until now."""
        found = [value for values in _scores(self.members, self.score, None).values() for value in values]
        return statistics.fmean(found) if found else None

    @property
    def mark(self) -> str:
        """State of a field that is not whole: the glyph of the state that needs attention first; empty otherwise."""
        if self.whole:
            return ""
        order = (State.FAILED, State.LOST, State.STOPPED, State.RUNNING, State.QUEUED, State.NEVER_LAUNCHED)
        states = {run.state for run in self.runs}
        return next((state.glyph for state in order if state in states), "·")


def _scores(members: Iterable[Member], score: str, states: Sequence[State] | None) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for member in members:
        if member.run is not None and (states is None or member.run.state in states):
            value = member.run.best(score)
            if value is not None:
                found.setdefault(member.seed, []).append(value)
    return found


@dataclass(frozen=True)
class Best:
    """The best field.

    Attributes:
        cell: The field.
        values: Value of each of its keys; of keys that are averaged none.
        mean: Its mean score.
        interval: 95 % interval of its score over seeds, or over images for one seed; None if there is none.
        delta: Mean difference to the matched baselines; None without any.
        delta_interval: Its interval.
        rivals: Fields whose difference to the best one is within noise.
    """

    cell: GridCell
    values: Mapping[str, Any]
    mean: float
    interval: Interval | None = None
    delta: float | None = None
    delta_interval: Interval | None = None
    rivals: tuple[GridCell, ...] = ()


@dataclass(frozen=True)
class HeatMap:
    """Scores over two keys of a sweep.

    Attributes:
        rows: The key of the rows.
        columns: The key of the columns; None for a sweep over one key.
        fixed: Value of each key that was chosen.
        averaged: Keys over whose values each field is a mean.
        grid: The fields by row and column.
        runs: All runs of the sweep.
        score: Name of the score: that of the runs, ``miou`` unless their kind of network has another one.
    """

    rows: Axis
    columns: Axis | None
    fixed: Mapping[str, Any]
    averaged: tuple[Axis, ...]
    grid: tuple[tuple[GridCell, ...], ...]
    runs: SweepRuns
    score: str

    @property
    def cells(self) -> list[GridCell]:
        """All fields, row by row."""
        return [cell for row in self.grid for cell in row]

    @property
    def limits(self) -> tuple[float, float] | None:
        """Lowest and highest mean of whole fields, of all fields while none is whole; None without any."""
        scored = [cell for cell in self.cells if cell.mean is not None]
        means = [cell.mean for cell in [cell for cell in scored if cell.whole] or scored if cell.mean is not None]
        return (min(means), max(means)) if means else None

    def level(self, value: float | None) -> int:
        """The shade of a mean, 0 (lowest) to 4 (highest)."""
        limits = self.limits
        if value is None or limits is None or limits[1] <= limits[0]:
            return 0
        return max(0, min(4, int(5 * (value - limits[0]) / (limits[1] - limits[0]))))

    def marginals(self) -> dict[str, list[tuple[str, float | None, int]]]:
        """Of each key each value with the mean of its finished runs and their number, whatever is displayed."""
        means: dict[str, list[tuple[str, float | None, int]]] = {}
        for axis in self.runs.spec.axes:
            means[axis.key] = []
            for value, text in zip(axis.values, axis.texts, strict=True):
                members = [one for one in _students(self.runs) if one.cell[axis.key] == value]
                scores = [one for some in _scores(members, self.score, (State.FINISHED,)).values() for one in some]
                means[axis.key].append((text, statistics.fmean(scores) if scores else None, len(scores)))
        return means

    def values_of(self, cell: GridCell) -> dict[str, Any]:
        """Value of each key that is not averaged."""
        values = {self.rows.key: self.rows.values[cell.row]}
        if self.columns is not None:
            values[self.columns.key] = self.columns.values[cell.column]
        return {**values, **self.fixed}

    @cached_property
    def best_cell(self) -> GridCell | None:
        """The whole field with the highest mean; None while no field is whole."""
        whole = [(cell.mean, cell) for cell in self.cells if cell.whole and cell.mean is not None]
        return max(whole, key=lambda pair: pair[0])[1] if whole else None

    @cached_property
    def pairs(self) -> dict[tuple[int, int], list[tuple[RunSummary, RunSummary]]]:
        """Of each field its finished runs with their finished matched baselines, by row and column."""
        bases = {_pairing(one): one.run for one in self.runs.members if one.role == BASELINE}
        pairs = {}
        for cell in self.cells:
            own = [(one.run, bases.get(_pairing(one))) for one in cell.members]
            pairs[cell.row, cell.column] = [
                (run, base)
                for run, base in own
                if run is not None and base is not None and {run.state, base.state} == {State.FINISHED}
            ]
        return pairs

    def delta(self, cell: GridCell) -> float | None:
        """Mean difference of the runs of a field to their baselines; None without any."""
        differences = [
            own - other
            for run, base in self.pairs[cell.row, cell.column]
            if (own := run.best(self.score)) is not None and (other := base.best(self.score)) is not None
        ]
        return statistics.fmean(differences) if differences else None

    def best(self) -> Best | None:
        """The best field with its intervals, which are read from the runs' folders; None while no field is whole."""
        cell = self.best_cell
        if cell is None or cell.mean is None:
            return None
        values = _by_seed(cell)
        rivals = [one for one in self.cells if one is not cell and one.whole and self._within_noise(cell, one)]
        return Best(
            cell,
            self.values_of(cell),
            cell.mean,
            interval=over_seeds(values) if len(values) > 1 else _of_run(cell, self.score),
            delta=self.delta(cell),
            delta_interval=_of_pairs(self.pairs[cell.row, cell.column], self.score),
            rivals=tuple(rivals),
        )

    def _within_noise(self, best: GridCell, other: GridCell) -> bool:
        """Whether the difference of two whole fields, paired by seed and averaged keys, is within noise."""
        keys = [axis.key for axis in self.averaged]

        def identity(member: Member) -> str:
            return f"{member.seed} {[member.cell[key] for key in keys]}"

        theirs = {identity(one): one.run for one in other.members}
        pairs = [(one.run, theirs.get(identity(one))) for one in best.members]
        found = _of_pairs([(run, base) for run, base in pairs if run is not None and base is not None], self.score)
        return found is not None and found.verdict == "within noise"


def heat_map(
    runs: SweepRuns, *, rows: str | None = None, columns: str | None = None, at: Mapping[str, Any] | None = None
) -> HeatMap:
    """The scores of a sweep over two of its keys.

    Args:
        runs: The runs of the sweep.
        rows: Key of the rows; default: the temperature, else the first key that is not fixed.
        columns: Key of the columns; default: alpha, else the next key.
        at: Value of each key that is fixed; the others are averaged.

    Raises:
        UsageError: A key or value is not one of the sweep.
    """
    axes = {axis.key: axis for axis in runs.spec.axes}
    fixed = {_axis(axes, key, "--at").key: _value(_axis(axes, key, "--at"), value) for key, value in (at or {}).items()}
    free = [axis for axis in axes.values() if axis.key not in fixed]
    chosen = [_axis(axes, key, option) for key, option in ((rows, "--rows"), (columns, "--columns")) if key is not None]
    _check_choice(chosen, fixed)
    usual = sorted(free, key=lambda axis: _USUAL.get(axis.key, len(_USUAL)))
    row = _axis(axes, rows, "--rows") if rows else next((axis for axis in usual if axis not in chosen), None)
    if row is None:
        raise UsageError("every key is fixed, so there is nothing to show", where="--at", hint="fix fewer keys")
    column = _axis(axes, columns, "--columns") if columns else next((axis for axis in usual if axis != row), None)
    members = [one for one in _students(runs) if all(one.cell[key] == value for key, value in fixed.items())]
    scores = {one.run.score for one in members if one.run is not None and one.run.best_miou is not None}
    score = scores.pop() if len(scores) == 1 else "miou"
    grid = tuple(
        tuple(
            GridCell(
                place,
                other,
                tuple(
                    one
                    for one in members
                    if one.cell[row.key] == value and (column is None or one.cell[column.key] == column.values[other])
                ),
                score,
            )
            for other in range(1 if column is None else len(column.values))
        )
        for place, value in enumerate(row.values)
    )
    averaged = tuple(axis for axis in free if axis not in (row, column))
    return HeatMap(row, column, fixed, averaged, grid, runs, score)


_USUAL = {"distillation.temperature": 0, "distillation.alpha": 1}


def _check_choice(chosen: Sequence[Axis], fixed: Mapping[str, Any]) -> None:
    for axis in chosen:
        if axis.key in fixed:
            raise UsageError("a key of the grid cannot be fixed", where="--at", found=axis.key)
    if len(chosen) == 2 and chosen[0] == chosen[1]:
        raise UsageError("rows and columns have the same key", where="--columns", found=chosen[0].key)


def _axis(axes: Mapping[str, Axis], text: str, option: str) -> Axis:
    """The axis of a key, which may also be named by its label or its last part."""
    names = [(axis, (axis.key, axis.label, axis.key.rpartition(".")[2])) for axis in axes.values()]
    for place in range(3):
        named = [axis for axis, words in names if words[place] == text]
        if len(named) == 1:
            return named[0]
    raise UsageError("not a key of this sweep", where=option, found=text, allowed=", ".join(axes))


def _value(axis: Axis, value: Any) -> Any:
    """One of the values of an axis, as typed or as it is."""
    read = read_value(value) if isinstance(value, str) else value
    for own, text in zip(axis.values, axis.texts, strict=True):
        if own in (read, value) or text == value:
            return own
    raise UsageError("not a value of this sweep", where=f"--at {axis.key}", found=value, allowed=", ".join(axis.texts))


def _students(runs: SweepRuns) -> list[Member]:
    return [member for member in runs.members if member.role != BASELINE]


def _pairing(member: Member) -> str:
    """Equal for a run and its baseline: the seed, and the values of keys that a baseline depends on."""
    values = {key: value for key, value in sorted(member.cell.items()) if affects_baseline(key)}
    return f"{member.seed} {values}"


def _by_seed(cell: GridCell) -> list[float]:
    """Mean score of each seed."""
    return [statistics.fmean(values) for _, values in sorted(cell.scores.items())]


def _of_run(cell: GridCell, score: str) -> Interval | None:
    """The interval over images of a field of one run; None if there is none."""
    if len(cell.runs) != 1:
        return None
    try:
        return score_interval(Run(cell.runs[0].path), score=score)
    except StoreError:  # no counts per image: the interval is optional
        return None


def _of_pairs(pairs: Sequence[tuple[RunSummary, RunSummary]], score: str) -> Interval | None:
    """The interval of a difference over seeds, or over images for one pair; None if there is none."""
    by_seed: dict[int | None, list[float]] = {}
    for run, other in pairs:
        by_seed.setdefault(run.seed, []).append((run.best(score) or 0.0) - (other.best(score) or 0.0))
    if len(by_seed) > 1:
        return over_seeds([statistics.fmean(values) for values in by_seed.values()])
    if len(pairs) != 1:
        return None
    try:
        return difference(Run(pairs[0][0].path), Run(pairs[0][1].path), score=score).score
    except StoreError:  # no counts per image
        return None


def live(runs: SweepRuns) -> bool:
    """Whether any run of the sweep is queued or running."""
    return bool(runs.in_state(*LIVE))
