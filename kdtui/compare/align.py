"""Curves of several runs on one axis."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Axis = Literal["images", "steps", "times"]


class CurveLike(Protocol):
    """The shape of :class:`kdtui.store.history.Curve`."""

    @property
    def steps(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def images(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def times(self) -> Sequence[float]: ...  # noqa: D102
    @property
    def values(self) -> Sequence[float]: ...  # noqa: D102


@dataclass(frozen=True)
class Aligned:
    """Values of all curves at the same positions; None outside a curve's range and at its gaps."""

    axis: tuple[float, ...]
    values: Mapping[str, tuple[float | None, ...]]


def align(curves: Mapping[str, CurveLike], axis: Axis = "images") -> Aligned:
    """Interpolate curves linearly at the union of their positions.

    Use ``images`` to compare runs of different batch sizes or numbers of ranks. On ``times`` each curve starts at 0.
    """
    places = {name: _places(curve, axis) for name, curve in curves.items()}
    union = sorted({x for xs in places.values() for x in xs})
    return Aligned(
        tuple(union),
        {name: tuple(_at(x, places[name], curve.values) for x in union) for name, curve in curves.items()},
    )


def _places(curve: CurveLike, axis: Axis) -> list[float]:
    if axis == "times":
        return [time - curve.times[0] for time in curve.times]
    return [float(x) for x in (curve.images if axis == "images" else curve.steps)]


def _at(x: float, xs: Sequence[float], values: Sequence[float]) -> float | None:
    right = bisect.bisect_left(xs, x)
    if right == len(xs):
        return None
    if xs[right] == x:
        return _finite(values[right])
    if right == 0:
        return None
    left = right - 1
    before, after = _finite(values[left]), _finite(values[right])
    if before is None or after is None:
        return None
    return before + (after - before) * (x - xs[left]) / (xs[right] - xs[left])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
