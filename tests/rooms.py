"""Print one line a room from a report of ``coverage json``: ``coverage json -o - | python -m tests.rooms``."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any


def rooms(files: Mapping[str, Any]) -> dict[str, tuple[int, int, int, int]]:
    """Branches taken, branches, statements run and statements of each folder, by its name."""
    counted: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for name, file in files.items():
        keys = ("covered_branches", "num_branches", "covered_lines", "num_statements")
        for place, key in enumerate(keys):
            counted[str(PurePath(name).parent)][place] += file["summary"][key]
    return {name: (one[0], one[1], one[2], one[3]) for name, one in sorted(counted.items())}


def table(files: Mapping[str, Any]) -> str:
    """The rooms with their percentages, as text."""
    lines = ["branches  statements  room"]
    for name, (taken, branches, run, statements) in rooms(files).items():
        shares = f"{taken / max(1, branches):8.1%}  {run / max(1, statements):10.1%}"
        lines.append(f"{shares}  {name}  ({taken} of {branches} branches)")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(json.load(sys.stdin)["files"]))
