"""Results of ``kdtui data``, kept in the run store: whether every sample of a profile's data was read.

A result is found by the settings of the data, and is current while the fingerprint of each split is the recorded one:
the same files with the same sizes and times. Sizes of the network's input, augmentation and such are no part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtui.errors import KdtuiError
from kdtui.store.files import read_file
from kdtui.store.values import MOST_BYTES, fits, parse_json

if TYPE_CHECKING:
    from kdtui.profile import DataTable

FORMAT = 1
"""Changes with what is recorded of a sample or of a split; results of another format are not used."""
SPLITS = ("train", "val", "test")
NEEDED = ("train", "val")
"""The splits that a training reads."""


@dataclass(frozen=True)
class SplitCheck:
    """The kept result for one split.

    Attributes:
        fingerprint: See :func:`fingerprint`.
        samples: Number of samples that were read.
        time: Unix time of the end.
        errors: What makes training impossible, one sentence each.
        warnings: Number of warnings.
    """

    fingerprint: str
    samples: int
    time: float
    errors: tuple[str, ...] = ()
    warnings: int = 0


def data_folder(root: Path) -> Path:
    """The folder of kept results in a run store."""
    return root / ".cache" / "data"


def settings_digest(data: DataTable) -> str:
    """A name for the settings of the data, as far as they change what is read."""
    settings = json.dumps([FORMAT, data.as_stored().model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(settings.encode()).hexdigest()[:24]


def fingerprint(data: DataTable, split: str) -> str:
    """A digest that changes with the files of a split.

    Raises:
        KdtuiError: The files cannot be listed.
        OSError: A file cannot be examined.
    """
    return hashlib.sha256(data.as_stored().fingerprint(split).encode()).hexdigest()


def kept_checks(root: Path, data: DataTable) -> dict[str, SplitCheck]:
    """The kept results by split, current or not; empty if there are none or their file is damaged."""
    try:
        content = parse_json(read_file(data_folder(root) / f"{settings_digest(data)}.json", most=MOST_BYTES))
    except (OSError, ValueError):
        return {}
    splits = content.get("splits") if isinstance(content, dict) else None
    if not isinstance(splits, dict):
        return {}
    return {name: SplitCheck(**values) for name, values in splits.items() if name in SPLITS and _sound(values)}


def current(data: DataTable, split: str, check: SplitCheck) -> bool:
    """Whether the files of a split are those that were read."""
    try:
        return fingerprint(data, split) == check.fingerprint
    except (KdtuiError, OSError):  # reported when the data are read
        return False


def to_json(checks: Mapping[str, SplitCheck]) -> dict[str, Any]:
    """The content of the kept file."""
    return {"splits": {name: vars(check) | {"errors": list(check.errors)} for name, check in checks.items()}}


def _sound(values: Any) -> bool:
    required = {"fingerprint", "samples", "time"}
    return isinstance(values, dict) and required <= values.keys() and fits(SplitCheck, values)
