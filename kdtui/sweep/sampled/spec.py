"""What a sampled sweep is: a resolved profile, lists and ranges of its keys, seeds; and how many trials it has."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtui.errors import ProfileError, StoreError, UsageError
from kdtui.profile.matched import IDENTITY
from kdtui.profile.settings import plain
from kdtui.store.files import read_file, write_atomically
from kdtui.store.values import MOST_BYTES, is_whole, parse_json
from kdtui.sweep.file import SAMPLERS
from kdtui.sweep.folder import SAMPLED, SWEEPS, SweepFolder
from kdtui.sweep.members import cell_key
from kdtui.sweep.ranges import Range, range_of, read_range
from kdtui.sweep.spec import MOST_CELLS, Axis, Cell, make_axis, make_cell, read_varied, run_name, tables_of, value_at

if TYPE_CHECKING:
    from kdtui.profile import Profile
    from kdtui.store.store import RunStore

TRIALS = 20
"""The default number of trials."""
_REQUEST = "request.json"


@dataclass(frozen=True)
class SampledSpec:
    """A sweep whose values are sampled.

    Attributes:
        base: The resolved profile; the values of a trial are laid over it.
        axes: Lists and ranges, in the order in which they were given.
        seeds: Each trial is trained with each of them.
        prune: Whether trials that are worse than others at equal epochs are stopped.
        with_baseline: Whether the best trial has its matched baseline.
        normalise: Whether the normalisation of a trial follows from its student's initial weights.
        sampler: What chooses the values.
        reference: ``base`` with the paths of checkpoints of awaited runs, for the id.
    """

    base: Profile
    axes: tuple[Axis | Range, ...]
    seeds: tuple[int, ...]
    prune: bool = False
    with_baseline: bool = False
    normalise: bool = True
    sampler: str = "tpe"
    reference: Profile | None = field(default=None, compare=False)

    @property
    def id(self) -> str:
        """Name and a hash of everything but the number of trials; independent of the order of keys and values."""
        without = IDENTITY | {"seed"}
        base = tables_of(self.reference or self.base)
        axes = {
            axis.key: axis.to_table()
            if isinstance(axis, Range)
            else sorted(zip(map(cell_key, axis.values), axis.sets, strict=True))
            for axis in self.axes
        }
        canonical = {
            "base": {key: value for key, value in base.items() if key not in without},
            "axes": axes,
            "seeds": sorted(self.seeds),
            "with_baseline": self.with_baseline,
            "prune": self.prune,
            "sampler": self.sampler,
        }
        return f"{self.base.name}-{hashlib.sha256(cell_key(canonical).encode()).hexdigest()[:8]}"

    @property
    def size(self) -> int | None:
        """Number of different trials; None if a range of floats makes it unlimited."""
        sizes = [_size(axis) for axis in self.axes]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    def cell(self, values: Mapping[str, Any]) -> Cell:
        """The cell with some values.

        Raises:
            UsageError: Its profile is not valid.
        """
        sets = [text for axis in self.axes for text in axis.sets_of(values[axis.key])]
        texts = {axis.key: (plain(values[axis.key]), _place(axis, values[axis.key])) for axis in self.axes}
        return make_cell(self.base, values, sets, run_name(self.base.name, texts), normalise=self.normalise)

    def examples(self) -> list[Cell]:
        """Cells that are checked before the start: each value of a list once, and the middle of each range."""
        first = {axis.key: axis.middle if isinstance(axis, Range) else axis.values[0] for axis in self.axes}
        others = [
            {**first, axis.key: value} for axis in self.axes if isinstance(axis, Axis) for value in axis.values[1:]
        ]
        return [self.cell(values) for values in (first, *others)]

    def to_tables(self) -> dict[str, Any]:
        """The tables of ``spec.toml``."""
        axes = [
            axis.to_table()
            if isinstance(axis, Range)
            else {"key": axis.key, "values": list(axis.values), "sets": list(map(list, axis.sets))}
            for axis in self.axes
        ]
        return {
            "kind": SAMPLED,
            "sampler": self.sampler,
            "prune": self.prune,
            "seeds": list(self.seeds),
            "with_baseline": self.with_baseline,
            "normalise": self.normalise,
            "axes": axes,
            "base": tables_of(self.base),
        }


def _size(axis: Axis | Range) -> int | None:
    if isinstance(axis, Axis):
        return len(axis.values)
    return int(axis.high - axis.low) + 1 if axis.integer else None


def _place(axis: Axis | Range, value: Any) -> int:
    return axis.values.index(value) if isinstance(axis, Axis) else 0


def make_sampled_spec(
    store: RunStore,
    profile: str,
    assignments: Sequence[str],
    *,
    sampler: str = "tpe",
    prune: bool = False,
    with_baseline: bool = False,
    **options: Any,
) -> SampledSpec:
    """Read a sampled sweep: a profile, and ``KEY=VALUE`` texts of which some have a range or several values.

    Args:
        store: The run store, for the runs that the profile names.
        profile: Name or file of the profile.
        assignments: ``KEY=VALUE``, ``KEY=VALUE,VALUE`` and ``KEY=LOW..HIGH`` texts.
        sampler: What chooses the values, of :data:`kdtui.sweep.file.SAMPLERS`.
        prune: Whether trials that are worse than others are stopped.
        with_baseline: Whether the best trial has its matched baseline.
        **options: Of :func:`kdtui.sweep.spec.read_varied`.

    Raises:
        UsageError: No key has a range or several values, or one of them or the profile is not valid.
    """
    varied = read_varied(store, profile, assignments, ranges=True, **options)
    spec = SampledSpec(
        base=varied.base,
        axes=(
            *(make_axis(varied.base, one) for one in varied.lists),
            *(_make_range(varied.base, key, text) for key, text in varied.ranges.items()),
        ),
        seeds=varied.seeds,
        prune=prune,
        with_baseline=with_baseline,
        normalise=varied.normalise,
        sampler=sampler,
        reference=varied.reference,
    )
    if with_baseline and not spec.base.distillation.enabled:
        raise UsageError(
            f"profile '{spec.base.name}' has no distillation, so it has no baseline",
            where="--with-baseline",
            hint="`kdtui sweep PROFILE --teacher RUN --with-baseline --sampler tpe` distils it",
        )
    spec.examples()  # every one has to be valid
    return spec


def _make_range(base: Profile, key: str, text: str) -> Range:
    """The range of a key, whose ends the profile reads.

    Raises:
        UsageError: It is not valid, or the key has no numbers.
    """
    from kdtui.profile import amend

    low, high, log = read_range(key, text)
    present = value_at(tables_of(base), key, None)
    try:
        ends = [value_at(tables_of(amend(base, [f"{key}={end}"])), key, None) for end in (low, high)]
    except ProfileError as error:
        if present is None or (isinstance(present, int | float) and not isinstance(present, bool)):
            raise  # an end that the key does not allow, or an unknown key
        raise _not_numeric(key, text, present) from error
    if any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends):
        raise _not_numeric(key, text, present)
    if all(isinstance(end, int) for end in ends):
        return Range(key, ends[0], ends[1], log)
    return Range(key, float(ends[0]), float(ends[1]), log)


def _not_numeric(key: str, text: str, present: Any) -> UsageError:
    return UsageError(
        "a range needs a key whose values are numbers",
        where=key,
        found=text,
        allowed=f"values separated by commas; the profile has {plain(present)}" if present is not None else None,
    )


def from_tables(folder: SweepFolder) -> SampledSpec:
    """The sampled sweep of a folder.

    Raises:
        StoreError: Its ``spec.toml`` cannot be used, see :meth:`kdtui.sweep.folder.SweepFolder.read`.
    """
    from kdtui.profile.loading import of_run

    tables = folder.read()
    try:
        axes = tuple(_axis_of(table) for table in tables["axes"])
        seeds = tuple(int(seed) for seed in tables["seeds"])
        if not axes or not seeds or tables["sampler"] not in SAMPLERS:
            raise ValueError("no keys, no seeds, or an unknown sampler")
        base = of_run(dict(tables["base"]), folder.spec_path)
        prune, with_baseline, normalise = (bool(tables[key]) for key in ("prune", "with_baseline", "normalise"))
        return SampledSpec(base, axes, seeds, prune, with_baseline, normalise, tables["sampler"])
    except ProfileError as error:
        raise folder.damaged("; ".join(error.mistakes)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise folder.damaged(f"{type(error).__name__}: {error}") from error


def _axis_of(table: Mapping[str, Any]) -> Axis | Range:
    if "low" in table:
        return range_of(table)
    axis = Axis(str(table["key"]), tuple(table["values"]), tuple(tuple(map(str, sets)) for sets in table["sets"]))
    if not axis.values or len(axis.values) != len(axis.sets):
        raise ValueError("a key without values")
    return axis


@dataclass(frozen=True)
class Request:
    """What the last command for a sweep asks for beside its specification.

    Attributes:
        trials: How many trials there shall be.
        tags: Tags of new runs.
    """

    trials: int
    tags: tuple[str, ...] = ()

    def write(self, folder: SweepFolder) -> None:
        """Replace the request of a sweep; a running controller obeys it."""
        body = {"trials": self.trials, "tags": list(self.tags)}
        write_atomically(folder.path / _REQUEST, json.dumps(body).encode() + b"\n")


def read_request(folder: SweepFolder) -> Request:
    """The request of a sweep.

    Raises:
        StoreError: It is missing or damaged.
    """
    path = folder.path / _REQUEST
    try:
        body = parse_json(read_file(path, most=MOST_BYTES))
        trials, tags = body["trials"], body["tags"]
        if not is_whole(trials) or trials < 1 or not all(isinstance(tag, str) for tag in tags):
            raise ValueError("no number of trials")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            "the number of trials of a sweep is not known",
            where=path,
            found=str(error),
            hint="`kdtui sweep PROFILE --sampler tpe --trials N`, as it was made, writes it again",
        ) from error
    return Request(trials, tuple(tags))


def trials_of_sweep(root: Path, spec: SampledSpec) -> int:
    """How many trials the sweep of a store has, else the default."""
    try:
        return read_request(SweepFolder(root / SWEEPS / spec.id)).trials
    except StoreError:  # none yet
        return TRIALS


def check_trials(trials: int, spec: SampledSpec) -> int:
    """How many trials are possible.

    Raises:
        UsageError: It is not positive, or too many runs.
    """
    if not 1 <= trials * len(spec.seeds) <= MOST_CELLS:
        raise UsageError(
            "the number of trials is out of range",
            where="--trials",
            found=trials,
            allowed=f"1 to {MOST_CELLS // len(spec.seeds)}",
        )
    return trials if spec.size is None else min(trials, spec.size)
