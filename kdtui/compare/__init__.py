"""Comparison of runs: ranking, differing settings, Δ to the matched baseline, statistics over seeds.

Pure functions, used by the command line and the cockpit.
"""

from __future__ import annotations

from kdtui.compare.comparison import Comparison, Row, compare
from kdtui.compare.entries import ComparedRun, entries_of, matched, settings
from kdtui.compare.groups import Aggregate, Group, Pair
from kdtui.compare.named import called
from kdtui.compare.pareto import COSTS, Pareto, Point, pareto
from kdtui.compare.render import FORMATS, cells, render, to_json

__all__ = [
    "COSTS",
    "FORMATS",
    "Aggregate",
    "ComparedRun",
    "Comparison",
    "Group",
    "Pair",
    "Pareto",
    "Point",
    "Row",
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
