"""Comparison of runs: ranked, what differs, Δ against the matched baseline, seeds aggregated, curves aligned.

Pure functions; both faces render what they return.
"""

from __future__ import annotations

from kdtui.compare.align import Aligned, align
from kdtui.compare.comparison import Aggregate, Comparison, Entry, Row, compare, entries_of, matched, settings
from kdtui.compare.named import called
from kdtui.compare.pareto import COSTS, Pareto, Point, pareto
from kdtui.compare.render import FORMATS, cells, render, to_json

__all__ = [
    "COSTS",
    "FORMATS",
    "Aggregate",
    "Aligned",
    "Comparison",
    "Entry",
    "Pareto",
    "Point",
    "Row",
    "align",
    "called",
    "cells",
    "compare",
    "entries_of",
    "matched",
    "pareto",
    "render",
    "settings",
    "to_json",
]
