"""What a search is: teacher, data and training, candidates, budget, and how many of them are trained."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdtui.errors import ProfileError, UsageError
from kdtui.launch.teachers import TeacherChoice, find_teacher, prepare, recipe, with_normalisation
from kdtui.profile.find import parse_tables
from kdtui.profile.matched import IDENTITY
from kdtui.profile.network_tables import Model
from kdtui.profile.settings import toml
from kdtui.store.values import fits
from kdtui.sweep.folder import SweepFolder
from kdtui.sweep.members import cell_key
from kdtui.sweep.search.budget import Budget, Target
from kdtui.sweep.search.candidates import Candidate, candidates

if TYPE_CHECKING:
    from kdtui.profile import Profile
    from kdtui.store.store import RunStore

KIND = "search"
TRIALS = 12
"""The default number of networks that are trained."""
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class SearchSpec:
    """A search.

    Attributes:
        base: Data, training, teacher and distillation; its student is replaced by that of each candidate.
        normalise: Whether the normalisation of images follows from a student's published weights.
        budget: What the student may cost.
        target: Where that is measured.
        retention: Share of the teacher's score that the student shall reach; None without such a goal.
        encoders: Names of encoders.
        architectures: Names of architectures.
        widths: Decoder widths, as shares of the default.
        trials: How many candidates are trained; None with ``hours``.
        hours: Time for all trainings, from which the number of trials follows; None with ``trials``.
        seeds: Of the final trainings; trials have the first.
    """

    base: Profile
    normalise: bool
    budget: Budget
    target: Target
    retention: float | None
    encoders: tuple[str, ...]
    architectures: tuple[str, ...]
    widths: tuple[float, ...]
    trials: int | None
    hours: float | None
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name in its id."""
        return f"{self.base.name[:70].rstrip('-.')}-search"

    @property
    def id(self) -> str:
        """Name and a hash of everything that determines the runs."""
        tables = self.to_tables()
        base = {key: value for key, value in tables["base"].items() if key not in IDENTITY}
        text = json.dumps({**tables, "base": base}, sort_keys=True)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def student(self) -> Model:
        """The table of the base that candidates share, as published weights of the encoder."""
        assert isinstance(self.base.student, Model)
        return self.base.student

    def candidates(self) -> list[Candidate]:
        """All networks that are considered."""
        return candidates(self.encoders, self.architectures, self.widths, depth=self.student.encoder_depth)

    def key_of(self, cell: str) -> str | None:
        """The key of the candidate with a cell, see :func:`kdtui.sweep.members.cell_key`; None if there is none."""
        return self._keys.get(cell)

    @functools.cached_property
    def _keys(self) -> Mapping[str, str]:
        return {cell_key(one.cell): one.key for one in self.candidates()}

    def to_tables(self) -> dict[str, Any]:
        """The tables of ``spec.toml``."""
        from kdtui.profile import dump

        values: dict[str, Any] = {
            "kind": KIND,
            "normalise": self.normalise,
            "budget": dataclasses.asdict(self.budget),
            "target": dataclasses.asdict(self.target),
            "retention": self.retention,
            "encoders": list(self.encoders),
            "architectures": list(self.architectures),
            "widths": list(self.widths),
            "trials": self.trials,
            "hours": self.hours,
            "seeds": list(self.seeds),
        }
        values["budget"] = {key: value for key, value in values["budget"].items() if value is not None}
        written = {key: value for key, value in values.items() if value is not None}
        return {**written, "base": parse_tables(dump(self.base).decode())}


def from_tables(folder: SweepFolder) -> SearchSpec:
    """The search of a folder.

    Raises:
        UsageError: It is a sweep.
        StoreError: Its ``spec.toml`` cannot be used.
    """
    from kdtui.profile.loading import of_run

    tables = folder.read()
    if tables.get("kind") != KIND:
        raise UsageError("this is a sweep, not a search", found=folder.id, hint=f"`kdtui sweep show {folder.id}`")
    try:
        budget, target = _build(Budget, tables["budget"]), _build(Target, tables["target"])
        rest: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in tables.items()
            if key in ("normalise", "encoders", "architectures", "widths", "seeds")
        }
        optional: dict[str, Any] = {key: tables.get(key) for key in ("retention", "trials", "hours")}
        base = of_run(dict(tables["base"]), folder.spec_path)
        spec = SearchSpec(base=base, budget=budget, target=target, **rest, **optional)
        if not spec.candidates() or not spec.seeds or not isinstance(base.student, Model):
            raise ValueError("no candidates or no seeds")
    except ProfileError as error:
        raise folder.damaged("; ".join(error.mistakes)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise folder.damaged(f"{type(error).__name__}: {error}") from error
    return spec


def _build(kind: Any, table: Mapping[str, Any]) -> Any:
    if not fits(kind, table):
        raise ValueError(f"a value of {kind.__name__.lower()} has the wrong type")
    return kind(**table)


def base_profile(
    store: RunStore, teacher: str, profile: str | None, sets: Sequence[str] = (), seeds: Sequence[int] = SEEDS
) -> tuple[Profile, bool, TeacherChoice]:
    """Data, training, teacher and distillation of a search.

    Args:
        store: The run store.
        teacher: A run or a file.
        profile: Name or file of a profile; None for that of the teacher's run.
        sets: ``--set`` texts.
        seeds: Of the search; the first is that of the views, unless the profile has one.

    Returns:
        The profile, whether its normalisation follows from published weights, and the teacher.

    Raises:
        UsageError: The teacher is neither a run nor a file, or its data are unknown.
    """
    chosen = find_teacher(teacher, store)
    if profile is not None:
        made = prepare(profile, sets, chosen)
    else:
        named = [] if chosen.run is None else [f"name={toml(chosen.run.profile().name)}"]
        made = recipe(chosen, "student", [*named, *sets], named=bool(named))
    if not isinstance(made.student, Model):
        raise UsageError(
            "a search tries networks of segmentation-models-pytorch",
            where="student.kind",
            found=getattr(made.student, "kind", made.student.label),
            allowed="smp",
            hint="name a profile of such a student: --profile NAME",
        )
    if made.student.weights is not None:
        raise UsageError(
            "initial weights of one network do not fit all candidates",
            where="student.weights",
            found=made.student.weights,
            allowed="none, imagenet",
            hint="--set student.weights=imagenet",
        )
    plain = made.model_copy(update={"data": made.data.model_copy(update={"mean": None, "std": None})})
    normalise = with_normalisation(plain) == made
    base = plain if normalise else made
    if base.data.view_seed is None:
        # All runs see the same views, so that the logits of the teacher are computed once for all of them.
        base = base.model_copy(update={"data": base.data.model_copy(update={"view_seed": seeds[0]})})
    return base, normalise, chosen
