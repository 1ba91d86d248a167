"""Encoders told apart by the shapes of their tensors: a hash of every (key, shape), looked up in a shipped table.

All encoders of smp itself are unique. Some timm encoders are twins (``tu-X`` and ``tu-tf_X``): those come back as
several names, and the user says which. ``python -m kdtui.engine.build_encoder_table`` writes the table.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("encoder_table.json")
RGB = 3
Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Match:
    """One encoder that has these shapes.

    Attributes:
        name: As smp names it.
        depth: The only depth it has these shapes at; None where the depth leaves no trace in the encoder.
        channels: Channels of its stages, from the input on.
        in_channels: Channels of the input.
    """

    name: str
    depth: int | None
    channels: tuple[int, ...]
    in_channels: int


def shape_hash(shapes: Shapes) -> str:
    """Hash of the sorted (key, shape) pairs."""
    pairs = sorted((key, list(shape)) for key, shape in shapes.items())
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:16]


def find_encoders(shapes: Shapes) -> list[Match]:
    """Every encoder of the table with these keys and shapes, whatever its number of input channels.

    Args:
        shapes: Keys without ``encoder.``, with their shapes.
    """
    table = _table()
    for stem in _stems():
        if not all(key in shapes and len(shapes[key]) >= 2 for key in stem):
            continue
        in_channels = shapes[stem[0]][1]
        as_rgb = {**shapes, **{key: (shapes[key][0], RGB, *shapes[key][2:]) for key in stem}}
        rows = [row for row in table.get(shape_hash(as_rgb), ()) if tuple(row["stem"]) == stem]
        if rows:
            return [Match(row["name"], row["depth"], tuple(row["channels"]), in_channels) for row in rows]
    return []


def resembling(shapes: Shapes, *, limit: int = 3) -> list[str]:
    """Encoders that begin alike and have about as many tensors, nearest first: for a hint, never for a choice."""
    distances: dict[str, int] = {}
    for row in (row for rows in _table().values() for row in rows):
        if all(key in shapes for key in row["stem"]):
            distance = abs(row["tensors"] - len(shapes))
            distances[row["name"]] = min(distance, distances.get(row["name"], distance))
    return sorted(distances, key=lambda name: distances[name])[:limit]


@functools.cache
def _table() -> dict[str, list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))["encoders"]
    table: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        table.setdefault(row["hash"], []).append(row)
    return table


@functools.cache
def _stems() -> list[tuple[str, ...]]:
    """The keys whose second dimension is the number of input channels, of every encoder once."""
    return sorted({tuple(row["stem"]) for rows in _table().values() for row in rows})
