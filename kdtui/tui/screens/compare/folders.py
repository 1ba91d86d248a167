"""What a comparison reads from the folders of its runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kdtui.compare.measured import usable_measurements
from kdtui.errors import StoreError
from kdtui.store.files import brief
from kdtui.store.run import Run


@dataclass
class Folders:
    """What was read, by run id.

    Attributes:
        profiles: As plain tables.
        troubles: Why a run's profile cannot be read.
        measurements: Of the runs that were measured.
        unmeasured: Why a run's measurements cannot be used, in a sentence.
    """

    profiles: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)
    measurements: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    unmeasured: dict[str, str] = field(default_factory=dict)


def read_folders(runs: Iterable[Run]) -> Folders:
    """Read profiles and measurements; what is damaged is told in the answer, never raised."""
    found = Folders()
    for run in runs:
        try:
            found.profiles[run.id] = run.profile_table()
        except StoreError as error:
            found.troubles[run.id] = brief(error)
        measured, trouble = usable_measurements(run)
        if measured is not None:
            found.measurements[run.id] = measured
        if trouble:
            found.unmeasured[run.id] = trouble
    return found
