"""From the texts of a request to a search, its plan and its start, for the command line and the cockpit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtui.errors import KdtuiError, UsageError
from kdtui.launch.teachers import TeacherChoice, find_teacher
from kdtui.profile.seeds import read_seeds
from kdtui.sweep.controlled import start
from kdtui.sweep.folder import SweepFolder, create
from kdtui.sweep.search import budget as costs
from kdtui.sweep.search import candidates as networks
from kdtui.sweep.search.hours import Estimate, estimated, trials_within
from kdtui.sweep.search.options import DEFAULT_DEVICE, DEFAULT_PRECISION, OPTIONS, SearchRequest
from kdtui.sweep.search.screening import Screened, count_parameters, screened, to_json, unknown_parameters
from kdtui.sweep.search.spec import SEEDS, TRIALS, SearchSpec, base_profile
from kdtui.text import counted, span

if TYPE_CHECKING:
    from kdtui.launch.launcher import Check
    from kdtui.launch.plan import Ask
    from kdtui.store.store import RunStore

SETS = "set"
"""The place of a mistake in ``--set`` texts."""


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


_READERS: Mapping[str, tuple[Callable[[str], Any], Any]] = {
    "latency": (costs.read_latency, None),
    "parameters": (costs.read_parameters, None),
    "size": (costs.read_size, None),
    "retention": (costs.read_retention, None),
    "trials": (costs.read_trials, None),
    "hours": (costs.read_hours, None),
    "seeds": (read_seeds, SEEDS),
    "encoders": (lambda text: networks.check_encoders(_parts(text)), networks.ENCODERS),
    "architectures": (lambda text: networks.check_architectures(_parts(text)), networks.ARCHITECTURES),
    "widths": (networks.read_widths, networks.WIDTHS),
}
"""How the text of an option is read, and its default."""


@dataclass(frozen=True)
class ReadRequest:
    """A request that was read.

    Attributes:
        spec: The search; None if there are mistakes.
        teacher: The teacher; None if it was not found.
        mistakes: Errors by option, or :data:`SETS`, the first of each; in the order of the options.
        missing: Names of required options that have no text.
    """

    spec: SearchSpec | None = None
    teacher: TeacherChoice | None = None
    mistakes: Mapping[str, KdtuiError] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def read(request: SearchRequest, store: RunStore) -> ReadRequest:
    """Read all options; nothing is started, and errors are returned, not raised.

    Args:
        request: The texts.
        store: The run store; of it only the teacher's run is read.
    """
    mistakes: dict[str, KdtuiError] = {}
    values: dict[str, Any] = {}
    for name, (reader, default) in _READERS.items():
        text = request.text(name)
        try:
            values[name] = reader(text) if text else default
        except UsageError as error:
            mistakes[name] = error
    try:
        values["target"] = costs.read_target(
            request.text("on") or DEFAULT_DEVICE,
            request.text("runtime") or None,
            request.text("precision") or DEFAULT_PRECISION,
        )
    except UsageError as error:
        mistakes[str(error.where).removeprefix("--")] = error
    if request.text("trials") and request.text("hours"):
        mistakes.setdefault("hours", UsageError("--trials and --hours exclude each other", hint="omit one of them"))
    missing = tuple(name for name, option in OPTIONS.items() if option.required and not request.text(name))
    teacher = base = None
    if "teacher" not in missing:
        teacher, base = _base(request, store, values.get("seeds", SEEDS), mistakes)
    mistakes = {name: mistakes[name] for name in (*OPTIONS, SETS) if name in mistakes}
    if mistakes or missing or base is None:
        return ReadRequest(None, teacher, mistakes, missing)
    spec = SearchSpec(
        base=base[0],
        normalise=base[1],
        budget=costs.Budget(values["latency"], values["parameters"], values["size"]),
        trials=None if values["hours"] is not None else values["trials"] or TRIALS,
        **{name: values[name] for name in ("target", "retention", "encoders", "architectures", "widths")},
        **{name: values[name] for name in ("hours", "seeds")},
    )
    return ReadRequest(spec, teacher)


def _base(
    request: SearchRequest, store: RunStore, seeds: tuple[int, ...], mistakes: dict[str, KdtuiError]
) -> tuple[TeacherChoice | None, tuple[Any, bool] | None]:
    """Teacher and profile; their errors are added to the mistakes."""
    teacher, profile = request.text("teacher"), request.text("profile") or None
    try:
        chosen = find_teacher(teacher, store)
    except KdtuiError as error:
        mistakes["teacher"] = error
        return None, None
    try:
        base, normalise, chosen = base_profile(store, teacher, profile, request.sets, seeds)
    except KdtuiError as error:
        place = SETS if request.sets and _works(store, teacher, profile) else "profile" if profile else "teacher"
        mistakes[place] = error
        return chosen, None
    return chosen, (base, normalise)


def _works(store: RunStore, teacher: str, profile: str | None) -> bool:
    """Whether teacher and profile make a search without ``--set`` texts."""
    try:
        base_profile(store, teacher, profile)
    except KdtuiError:
        return False
    return True


@dataclass(frozen=True)
class SearchPlan:
    """What a search would do.

    Attributes:
        candidates: All, with what is known of their costs before new measurements.
        trials: The most that are trained.
        time: Time of all trainings; None if no earlier run tells it.
        checks: Pre-flight checks of the first training.
    """

    spec: SearchSpec
    candidates: tuple[Screened, ...]
    trials: int
    time: Estimate | None
    checks: tuple[Check, ...]

    @property
    def failed(self) -> list[Check]:
        """The checks that did not pass."""
        return [check for check in self.checks if not check.ok]

    def lines(self) -> list[str]:
        """The plan in sentences, without the candidates."""
        spec = self.spec
        hours = ""
        if self.time is not None:
            hours = f", about {span(self.time.seconds)} (estimated from {', '.join(self.time.source)})"
        return [
            f"{outlook(spec, self.candidates)}, up to {counted(self.trials, 'trial')}",
            f"trials are compared at equal epochs of {spec.base.training.epochs}; the winner is trained with "
            f"{counted(len(spec.seeds), 'seed')} and its baseline{hours}",
            f"search {spec.id}",
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values with stable keys."""
        return {
            "id": self.spec.id,
            "candidates": [to_json(one) for one in self.candidates],
            "to_measure": sum(one.word == "to measure" for one in self.candidates),
            "trials": self.trials,
            "eta_seconds": None if self.time is None else self.time.seconds,
            "checks": [dataclasses.asdict(check) for check in self.checks],
        }


def outlook(spec: SearchSpec, found: tuple[Screened, ...]) -> str:
    """How many candidates there are, how many are over the budget, and how many have to be measured."""
    dropped, needed = sum(bool(one.over) for one in found), sum(one.word == "to measure" for one in found)
    return (
        f"{counted(len(found), 'candidate')}, {dropped} over the budget of {spec.budget}, "
        f"{counted(needed, 'measurement')} to make ({spec.target})"
    )


def known(spec: SearchSpec, root: Path) -> tuple[Screened, ...]:
    """The candidates with what the catalog and earlier measurements tell; no process is started."""
    return tuple(screened(spec, root))


def planned(spec: SearchSpec, store: RunStore, *, ask: Ask | None = None) -> SearchPlan:
    """Plan a search; the engine counts parameters that the catalog does not have, and checks the first training.

    Args:
        spec: The search.
        store: The run store.
        ask: Runs an engine command; default :func:`kdtui.launch.engine_process.ask`.

    Raises:
        UsageError: The budget excludes all candidates, or the hours are too few.
        KdtuiError: The engine reported an error.
    """
    from kdtui.launch.plan import plan
    from kdtui.sweep.search.work import no_candidate

    found = screened(spec, store.root)
    found = screened(spec, store.root, count_parameters(spec, unknown_parameters(spec, found)))
    left = [one for one in found if not one.over and not one.error]
    if not left:
        raise no_candidate(spec, found)
    trials = min(trials_within(spec, store, found), len(left))
    time = estimated(spec, store, found, trials)
    first = networks.profile_of(spec.base, left[0].candidate, spec.seeds[0], normalise=spec.normalise)
    checks = plan([first], store, ask=ask).runs[0].checks
    return SearchPlan(spec, tuple(found), trials, time, checks)


def launch(spec: SearchSpec, store: RunStore) -> tuple[SweepFolder, bool]:
    """Make the folder of a search, or find it, and start its controller.

    Returns:
        The folder, and whether this call started the controller; False if it is running already.

    Raises:
        StoreError: The folder is not writable.
        LaunchError: The controller could not be started.
    """
    folder = create(store.root, spec.id, spec.to_tables())
    return folder, start(folder)
