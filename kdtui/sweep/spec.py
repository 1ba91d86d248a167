"""What a sweep consists of: a resolved profile, axes with their values, seeds; and the id that follows from them."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kdtui.errors import ProfileError, UsageError
from kdtui.launch.references import linked, with_references
from kdtui.launch.teachers import TeacherChoice, named_run, ready, student_sets, with_normalisation
from kdtui.profile.find import locate, parse_tables
from kdtui.profile.matched import IDENTITY, TREATMENT
from kdtui.profile.methods import find_method
from kdtui.profile.settings import SETTINGS, plain, read_value, split_list, toml
from kdtui.sweep.folder import GRID, SweepFolder
from kdtui.sweep.ranges import is_range
from kdtui.text import one_line

if TYPE_CHECKING:
    from kdtui.profile import Profile
    from kdtui.store.store import RunStore

METHOD = "method"
"""Key of the axis whose values are methods of distillation."""
_ENCODER = SETTINGS["encoder"].key
_NO_LIST = {
    "name": "the name of all runs",
    "description": "a description, which changes no training",
    "tags": "the tags of all runs",
    "extends": "a parent, which is resolved first",
    "seed": "the seeds, which --seeds lists",
    "launch": "where the runs are trained",
    "training.accelerator": "where the runs are trained",
    "training.devices": "where the runs are trained",
    "training.workers": "how fast the data are read, which changes no result",
    "training.threads": "how many threads are used, which changes no result",
    "training.cache_gib": "the size of a cache, which changes no result",
    "data.cache_gib": "the size of a cache, which changes no result",
}
"""Keys that have one value in a sweep, and what they are."""
MOST_CELLS = 1000
_SUFFIX = re.compile(r"[^A-Za-z0-9._+]+")


@dataclass(frozen=True)
class Axis:
    """A key with the values that the sweep tries.

    Attributes:
        key: Key of the profile, or ``method``.
        values: Distinct values, as the profile has them.
        sets: The ``--set`` texts of each value.
    """

    key: str
    values: tuple[Any, ...]
    sets: tuple[tuple[str, ...], ...]

    @property
    def label(self) -> str:
        """Its short name, as in the form."""
        return label_of(self.key)

    @property
    def texts(self) -> tuple[str, ...]:
        """The values as typed text."""
        return tuple(plain(value) for value in self.values)

    @property
    def text(self) -> str:
        """All values in words."""
        return ", ".join(self.texts)

    def all_values(self) -> Iterable[Any]:
        """Its values."""
        return self.values

    def sets_of(self, value: Any) -> tuple[str, ...]:
        """The ``--set`` texts of one of its values."""
        return self.sets[self.values.index(value)]


def label_of(key: str) -> str:
    """The short name of a key: ``T`` for the temperature."""
    labels = {setting.key: setting.label for setting in SETTINGS.values() if setting.key}
    return labels.get(key, key)


@dataclass(frozen=True)
class Cell:
    """One combination of values.

    Attributes:
        values: Value by key.
        profile: The complete profile, with the seed of the base.
    """

    values: Mapping[str, Any]
    profile: Profile

    def text(self) -> str:
        """The values in words, as in ``T 2, α 0.5``."""
        return ", ".join(f"{label_of(key)} {plain(value)}" for key, value in self.values.items())


@dataclass(frozen=True)
class Spec:
    """A sweep.

    Attributes:
        base: The resolved profile; the values of a cell are laid over it.
        axes: In the order in which they were given.
        seeds: Each cell is trained with each of them.
        with_baseline: Whether each student has its matched baseline.
        normalise: Whether the normalisation of a cell follows from its student's initial weights.
        reference: ``base`` with the paths of checkpoints of awaited runs, for the id.
    """

    base: Profile
    axes: tuple[Axis, ...]
    seeds: tuple[int, ...]
    with_baseline: bool = False
    normalise: bool = True
    reference: Profile | None = field(default=None, compare=False)

    @property
    def id(self) -> str:
        """Name and a hash of everything else; independent of the order of axes, values and seeds."""
        without = IDENTITY | {"seed"}
        canonical = {
            "base": {key: value for key, value in tables_of(self.reference or self.base).items() if key not in without},
            "axes": {axis.key: sorted(zip(map(_text, axis.values), axis.sets, strict=True)) for axis in self.axes},
            "seeds": sorted(self.seeds),
            "with_baseline": self.with_baseline,
        }
        return f"{self.base.name}-{hashlib.sha256(_text(canonical).encode()).hexdigest()[:8]}"

    @property
    def size(self) -> int:
        """Number of cells."""
        return math.prod(len(axis.values) for axis in self.axes)

    def cells(self) -> list[Cell]:
        """All cells, the last axis varies fastest; resolved once.

        Raises:
            UsageError: The profile of a cell is not valid.
        """
        return list(self._cells)

    @functools.cached_property
    def _cells(self) -> list[Cell]:
        return [self._cell(places) for places in itertools.product(*(range(len(axis.values)) for axis in self.axes))]

    def _cell(self, places: Sequence[int]) -> Cell:
        values = {axis.key: axis.values[place] for axis, place in zip(self.axes, places, strict=True)}
        sets = [text for axis, place in zip(self.axes, places, strict=True) for text in axis.sets[place]]
        texts = {axis.key: (axis.texts[place], place) for axis, place in zip(self.axes, places, strict=True)}
        return make_cell(self.base, values, sets, run_name(self.base.name, texts), normalise=self.normalise)

    def to_tables(self) -> dict[str, Any]:
        """The tables of ``spec.toml``."""
        axes = [
            {"key": axis.key, "values": list(axis.values), "sets": list(map(list, axis.sets))} for axis in self.axes
        ]
        return {
            "kind": GRID,
            "seeds": list(self.seeds),
            "with_baseline": self.with_baseline,
            "normalise": self.normalise,
            "axes": axes,
            "base": tables_of(self.base),
        }


def make_cell(base: Profile, values: Mapping[str, Any], sets: Sequence[str], name: str, *, normalise: bool) -> Cell:
    """A cell from its values.

    Args:
        base: The profile of the sweep.
        values: Value by key.
        sets: Their ``--set`` texts.
        name: The name of its runs.
        normalise: Whether its normalisation follows from the initial weights of its student.

    Raises:
        UsageError: Its profile is not valid.
    """
    from kdtui.profile import amend

    profile = amend(base, [*sets, f"name={toml(name)}"], what=f"the profile of the cell {_described(values)}")
    return Cell(values, ready(with_normalisation(profile) if normalise else profile))


def run_name(name: str, values: Mapping[str, tuple[str, int]]) -> str:
    """The name of the runs of a cell, such as ``NAME-T2-a0.5``; at most 80 characters.

    Args:
        name: The name of the profile.
        values: By key a value as text, and its place in the list of values, which replaces a text that is too long.
    """
    parts = []
    for key, (value, place) in values.items():
        text = _SUFFIX.sub("-", value).strip("-.")
        short = {"distillation.temperature": "T", "distillation.alpha": "a", METHOD: "", _ENCODER: ""}
        own = short.get(key, key.rpartition(".")[2] + "-")
        parts.append(f"{own}{text}" if 0 < len(text) <= 24 else f"{own}{place + 1}")
    return "-".join([name, *parts])[:80].rstrip("-.")


def from_tables(folder: SweepFolder) -> Spec:
    """The sweep of a folder.

    Raises:
        StoreError: Its ``spec.toml`` cannot be used, see :meth:`kdtui.sweep.folder.SweepFolder.read`.
    """
    from kdtui.profile.loading import of_run

    tables = folder.read()
    try:
        axes = tuple(
            Axis(str(axis["key"]), tuple(axis["values"]), tuple(tuple(map(str, sets)) for sets in axis["sets"]))
            for axis in tables["axes"]
        )
        seeds = tuple(int(seed) for seed in tables["seeds"])
        base = of_run(dict(tables["base"]), folder.spec_path)
        if any(not axis.values or len(axis.values) != len(axis.sets) for axis in axes) or not axes or not seeds:
            raise ValueError("an axis without values, or no seeds")
        return Spec(base, axes, seeds, bool(tables["with_baseline"]), bool(tables["normalise"]))
    except ProfileError as error:
        raise folder.damaged("; ".join(error.mistakes)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise folder.damaged(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Varied:
    """What a command or a file requests: a profile, and the keys that have several values or a range.

    Attributes:
        lists: The keys with several values.
        ranges: ``KEY=LOW..HIGH`` texts, by key.
        normalise: See :class:`Spec`, as for ``reference``.
    """

    base: Profile
    lists: tuple[Listed, ...]
    ranges: Mapping[str, str]
    seeds: tuple[int, ...]
    normalise: bool
    reference: Profile


def read_varied(
    store: RunStore,
    profile: str,
    assignments: Sequence[str],
    *,
    teacher: TeacherChoice | None = None,
    methods: str | None = None,
    encoders: str | None = None,
    seeds: Sequence[int] = (),
    ranges: bool = False,
) -> Varied:
    """Read what is requested.

    Args:
        store: The run store, for the runs that the profile names.
        profile: Name or file of the profile.
        assignments: ``KEY=VALUE``, ``KEY=VALUE,VALUE`` and, with ``ranges``, ``KEY=LOW..HIGH`` texts.
        teacher: The teacher, if one was chosen.
        methods: Methods of distillation, separated by commas.
        encoders: Encoders of the student, separated by commas.
        seeds: Seeds; default: that of the profile.
        ranges: Whether keys may have ranges.

    Raises:
        UsageError: No key has several values, a list is empty, a key takes no list, or the profile is not valid.
    """
    from kdtui.profile import absolute, load

    lists = [Listed(METHOD, split_list(methods), "--method")] if methods is not None else []
    lists += [Listed(_ENCODER, split_list(encoders), "--student")] if encoders is not None else []
    lists += [_assignment(text) for text in assignments]
    _check_keys(lists, ranges=ranges)
    varied = [one for one in lists if len(one.parts) > 1]
    ranged = {one.key: one.parts[0] for one in lists if one.is_range}
    fixed = [text for one in lists if not one.varies for text in one.sets(one.parts[0])]
    base = absolute(load(profile, [*(teacher.sets() if teacher else []), *fixed]))
    base = linked([base], store)[0]
    if not varied and not ranged:
        allowed = "--temperature 1,2,4, --alpha 0.3,0.7, --student, --method, or --set KEY=VALUE,VALUE"
        raise UsageError(
            f"a sweep needs a key with several values{' or a range' if ranges else ''}",
            allowed=f"{allowed}, or --set KEY=LOW..HIGH" if ranges else allowed,
            hint="`kdtui train PROFILE --seeds 0,1,2` trains one profile with several seeds",
        )
    return Varied(
        base=base,
        lists=tuple(varied),
        ranges=ranged,
        seeds=tuple(seeds) or (base.seed,),
        normalise=not (locate(profile).parent / "run.json").is_file(),  # a run's profile has its own already
        reference=with_references(base, lambda one: str(named_run(one.text, store, one.where).best.absolute())),
    )


def make_spec(
    store: RunStore,
    profile: str,
    assignments: Sequence[str],
    *,
    with_baseline: bool = False,
    **options: Any,
) -> Spec:
    """Read a grid: a profile, and ``KEY=VALUE`` texts of which some have several values.

    Args:
        store: The run store, for the runs that the profile names.
        profile: Name or file of the profile.
        assignments: ``KEY=VALUE`` and ``KEY=VALUE,VALUE`` texts.
        with_baseline: Whether each student has its matched baseline.
        **options: Of :func:`read_varied`.

    Raises:
        UsageError: No key has several values, a list is empty or has a value twice, a key takes no list, or a profile
            is not valid.
    """
    varied = read_varied(store, profile, assignments, **options)
    size = math.prod(len(one.parts) for one in varied.lists) * len(varied.seeds)
    if size > MOST_CELLS:
        raise too_large(size)
    spec = Spec(
        base=varied.base,
        axes=tuple(make_axis(varied.base, one) for one in varied.lists),
        seeds=varied.seeds,
        with_baseline=with_baseline,
        normalise=varied.normalise,
        reference=varied.reference,
    )
    spec.cells()  # every one has to be valid
    return spec


def too_large(size: int) -> UsageError:
    """The error for a grid that is too large for any machine."""
    return UsageError(
        "the grid is too large",
        found=f"{size:,} runs",
        allowed=f"up to {MOST_CELLS:,}",
        hint="try fewer values of each key",
    )


@dataclass(frozen=True)
class Listed:
    """A key with the texts of its values, and the option or entry that has them."""

    key: str
    parts: list[str]
    where: str

    @property
    def is_range(self) -> bool:
        """Whether it is one range."""
        return len(self.parts) == 1 and is_range(self.parts[0])

    @property
    def varies(self) -> bool:
        """Whether it has a range or several values."""
        return len(self.parts) > 1 or self.is_range

    def sets(self, text: str) -> list[str]:
        """The ``--set`` texts of a value."""
        if self.key == METHOD:
            return find_method(text).sets()
        if self.key == _ENCODER:
            return student_sets(str(read_value(text)))
        return [f"{self.key}={text}"]


def _assignment(text: str) -> Listed:
    key, equals, value = text.partition("=")
    key = ".".join(part.strip() for part in key.split("."))
    if not equals:
        return Listed(key, [value], "--set")  # the profile's own message
    return Listed(key, split_list(value), key)


def _check_keys(lists: Sequence[Listed], *, ranges: bool) -> None:
    """Check the keys and their values.

    Raises:
        UsageError: A key is listed twice or takes no list, or a list is empty.
    """
    for place, one in enumerate(lists):
        _check_ranges(one, ranges=ranges)
        if any(one.key == other.key and (one.varies or other.varies) for other in lists[:place]):
            raise UsageError("a key is given twice", where=one.where, found=one.key, hint="give each key once")
        if any(not part for part in one.parts):
            raise UsageError(
                "a list has an empty value",
                where=one.where,
                found=",".join(one.parts),
                allowed="values separated by single commas, as in 1,2,4",
            )
        for key, meaning in _NO_LIST.items() if one.varies else ():
            if one.key == key or one.key.startswith(f"{key}."):
                what = f"this key takes one value, not a {'range' if one.is_range else 'list'}"
                raise UsageError(what, where=one.key, found=",".join(one.parts), allowed=meaning)


def _check_ranges(listed: Listed, *, ranges: bool) -> None:
    """Check that a key has a range only where one is allowed, and alone.

    Raises:
        UsageError: It is not allowed, or has other values beside it.
    """
    found = [part for part in listed.parts if is_range(part)]
    if found and not ranges:
        raise UsageError(
            "a grid takes values, not a range",
            where=listed.where,
            found=found[0],
            allowed="values separated by commas, as in 1e-4,1e-3,1e-2",
            hint="`kdtui sweep PROFILE --temperature 1..8 --sampler tpe --trials 20` draws values from ranges",
        )
    if found and len(listed.parts) > 1:
        raise UsageError(
            "a key has a range or values, not both",
            where=listed.where,
            found=",".join(listed.parts),
            allowed="one range, as in 1..8, or values separated by commas",
        )


def make_axis(base: Profile, listed: Listed) -> Axis:
    """The axis of a list; values that the profile reads as equal are one value given twice."""
    from kdtui.profile import amend

    values: list[Any] = []
    sets: list[tuple[str, ...]] = []
    for text in listed.parts:
        own = listed.sets(text)
        value = read_value(text) if listed.key != METHOD else text
        if isinstance(value, dict) and listed.key.count(".") == 0:
            raise UsageError("this key is a table and takes no list", where=listed.where, found=one_line(text)[:80])
        profile = amend(base, own, what="the profile")
        value = value if listed.key == METHOD else value_at(tables_of(profile), listed.key, value)
        if _text(value) in map(_text, values):
            raise UsageError(
                "a value is listed twice", where=listed.where, found=plain(value), hint="list each value once"
            )
        values.append(value)
        sets.append(tuple(own) if listed.key in (METHOD, _ENCODER) else (f"{listed.key}={toml(value)}",))
    return Axis(listed.key, tuple(values), tuple(sets))


def value_at(tables: Mapping[str, Any], key: str, default: Any) -> Any:
    """The value of a dotted key in the tables of a profile; the default where it is not written."""
    inner: Any = tables
    for part in key.split("."):
        if not isinstance(inner, Mapping) or part not in inner:
            return default
        inner = inner[part]
    return inner


def tables_of(profile: Profile) -> dict[str, Any]:
    """The tables of the profile as a run's file has them."""
    from kdtui.profile import dump

    return parse_tables(dump(profile).decode())


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _described(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={plain(value)}" for key, value in values.items())


def affects_baseline(key: str) -> bool:
    """Whether the matched baseline depends on a key: not on what only a distillation uses."""
    return key != METHOD and not any(key == table or key.startswith(f"{table}.") for table in TREATMENT)
