"""What a search has found so far, derived from its files: for the command line and the cockpit."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kdtui.compare.measured import seconds, usable_measurements
from kdtui.compare.statistics import Interval, over_seeds
from kdtui.errors import StoreError
from kdtui.launch.teachers import owner
from kdtui.store.files import read_file, write_atomically
from kdtui.store.run import Run
from kdtui.store.state import PRUNED, State
from kdtui.store.store import RunStore
from kdtui.store.values import MOST_BYTES, is_whole, parse_json
from kdtui.sweep.controlled import controller_state
from kdtui.sweep.folder import BASELINE, STUDENT, SweepFolder
from kdtui.sweep.members import Member, Members, Place
from kdtui.sweep.search.budget import Costs
from kdtui.sweep.search.finals import Choice, Final, choose, measured_costs, over_budget, read_finals
from kdtui.sweep.search.halving import Decision, Trial, decide, pick
from kdtui.sweep.search.screening import Screened, screened
from kdtui.sweep.search.spec import SearchSpec, from_tables
from kdtui.text import milliseconds, one_line

_CANDIDATES = "candidates.json"
_NAMED = 2
"""How many networks a remark names."""
Role = Literal["teacher", "student", "baseline", "trial", "candidate"]


@dataclass(frozen=True)
class Entry:
    """A network in the results.

    Attributes:
        role: ``student`` is the result, ``trial`` another one that was trained, ``candidate`` one that was not.
        key: Name of the candidate, or of the teacher.
        run: Id of its run; of several seeds the best.
        state: What became of it, in a few words.
        latency: Seconds for one image: of the exported file where it was measured, else of the untrained network.
        score: Best validation score, the mean over seeds.
        spread: Standard deviation over seeds; None for one.
        epoch: Last epoch with a score.
        seeds: Number of finished seeds.
        final: Whether it was trained whole.
        over: What of it exceeds the budget.
    """

    role: Role
    key: str
    run: str | None
    state: str
    parameters: int | None = None
    bytes: int | None = None
    latency: float | None = None
    score: float | None = None
    spread: float | None = None
    epoch: int = 0
    seeds: int = 0
    final: bool = False
    over: tuple[str, ...] = ()


@dataclass(frozen=True)
class Results:
    """A search as it is now.

    Attributes:
        id: Id of the search.
        spec: The search.
        state: Of its controller.
        stage: What it does now, in a few words.
        error: Why its controller failed; empty otherwise.
        entries: Teacher, student, baseline, trials, then candidates over budget, the fastest first.
        decision: What successive halving decided; None before all candidates are measured.
        delta: Student minus baseline over seeds; None for fewer than two pairs.
        notes: Remarks, such as by how much a goal was missed.
        measured: Number of measured candidates.
        total: Number of candidates.
        choice: Which network is the student, and which were dropped.
    """

    id: str
    spec: SearchSpec
    state: State
    stage: str
    error: str
    entries: tuple[Entry, ...]
    decision: Decision | None
    delta: Interval | None
    notes: tuple[str, ...]
    measured: int
    total: int
    choice: Choice

    def of(self, *roles: Role) -> list[Entry]:
        """The entries in these roles."""
        return [entry for entry in self.entries if entry.role in roles]

    @property
    def teacher_score(self) -> float | None:
        """Score of the teacher."""
        return next((entry.score for entry in self.of("teacher")), None)


def recorded_candidates(folder: SweepFolder, spec: SearchSpec) -> list[Screened] | None:
    """The candidates as they were measured for this search; None before all are measured.

    Raises:
        StoreError: The file is damaged.
    """
    path = folder.path / _CANDIDATES
    try:
        body = parse_json(read_file(path, most=MOST_BYTES))
        by_key = {candidate.key: candidate for candidate in spec.candidates()}
        fields = {field.name for field in dataclasses.fields(Screened)} - {"candidate", "over"}
        return [
            Screened(by_key[row["key"]], **{name: row[name] for name in fields if name in row}, over=tuple(row["over"]))
            for row in body["candidates"]
        ]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            "the measured candidates cannot be read", where=path, hint="delete that file: they are measured again"
        ) from error


def record_candidates(folder: SweepFolder, found: Sequence[Screened], trials: int) -> None:
    """Keep the candidates of a search with their measurements, once all are measured."""
    rows = [{"key": one.candidate.key, **_fields(one)} for one in found]
    text = json.dumps({"trials": trials, "candidates": rows}, indent=1)
    write_atomically(folder.path / _CANDIDATES, text.encode() + b"\n")


def recorded_trials(folder: SweepFolder, default: int) -> int:
    """How many candidates are trained, as it was decided once all were measured."""
    try:
        value = parse_json(read_file(folder.path / _CANDIDATES, most=MOST_BYTES))["trials"]
    except (OSError, ValueError, KeyError, TypeError):
        return default
    return value if is_whole(value) and value > 0 else default


def _fields(one: Screened) -> dict[str, Any]:
    body = dataclasses.asdict(one)
    del body["candidate"]
    return body


def trial_of(key: str, member: Member | None) -> Trial:
    """A trial from its run."""
    if member is None:
        return Trial(key, "new")
    state = member.summary.state
    if state is State.FINISHED:
        return Trial(key, "finished", member.scores)
    if state is State.FAILED:
        return Trial(key, "failed", member.scores)
    return Trial(key, "live" if member.live else "idle", member.scores)


class ResultReader:
    """Reads the results of one search as often as needed.

    Args:
        store: A store for this thread only.
        folder: The folder of the search.

    Raises:
        StoreError: Its specification cannot be used.
        UsageError: It is a sweep.
    """

    def __init__(self, store: RunStore, folder: SweepFolder) -> None:
        self._store, self.folder = store, folder
        self.spec = from_tables(folder)
        self._members = Members(store, folder.id, self.spec.key_of)

    def read(self) -> Results:
        """The results as they are now."""
        spec, state = self.spec, controller_state(self.folder)
        whole = recorded_candidates(self.folder, spec)
        found = whole if whole is not None else screened(spec, self._store.root)
        members = self._members.read()
        decision = None
        choice = Choice()
        finals = read_finals(self.folder)
        trials: list[Screened] = []
        if whole is not None:
            trials = pick(whole, recorded_trials(self.folder, spec.trials or 1))
            first = spec.seeds[0]
            decision = decide(
                [trial_of(one.candidate.key, members.get(Place(one.candidate.key, first, STUDENT))) for one in trials],
                spec.base.training.epochs,
                spec.base.training.evaluate_every or 1,
            )
            untrained = {one.candidate.key: one.costs for one in trials}
            choice = choose(spec.budget, decision.ranking, finals, untrained)
        entries = _entries(spec, found, trials, members, choice, finals)
        delta = _delta(members, choice.student)
        return Results(
            self.folder.id,
            spec,
            state.state,
            _stage(state.state, state.reason, decision, choice, spec, entries),
            state.error,
            tuple(entries),
            decision,
            delta,
            (*_dropped(spec, trials, choice, finals), *notes(spec, entries, choice)),
            sum(one.measured or bool(one.error) or bool(one.over) for one in found),
            len(found),
            choice,
        )


def _stage(
    state: State,
    reason: str,
    decision: Decision | None,
    choice: Choice,
    spec: SearchSpec,
    entries: Sequence[Entry],
) -> str:
    if state is not State.RUNNING:
        return reason
    if decision is None:
        return "measuring candidates"
    if not decision.decided:
        return f"training candidates to epoch {decision.epoch} of {spec.base.training.epochs}"
    finished = [entry for entry in entries if entry.role in ("student", "baseline") and entry.seeds == len(spec.seeds)]
    if len(finished) == 2:
        return f"exporting and measuring {choice.student}"
    return f"training {choice.student} whole" if choice.student else "no trial finished"


def _dropped(
    spec: SearchSpec, trials: Sequence[Screened], choice: Choice, finals: Mapping[str, Final]
) -> Iterator[str]:
    """Why trials that are better than the student are not the student, and what holds if none is within the budget."""
    untrained = {one.candidate.key: one.costs for one in trials}
    for key in choice.dropped:
        yield over_budget(spec.budget, finals[key], untrained[key])
    if choice.beyond:
        expected = [f"{key} (about {milliseconds(costs.latency)})" for key, costs in choice.beyond.items()]
        more = [f"{len(expected) - _NAMED} more"] if len(expected) > _NAMED else []
        yield f"over the budget at the same ratio, so not trained whole: {', '.join([*expected[:_NAMED], *more])}"
    if choice.student in choice.dropped:
        costs = finals[choice.student].costs
        yield (
            f"no trained network is within the budget of {spec.budget}; the nearest is {choice.student}, "
            f"for {spec.budget.holding(costs)}"
        )


def _entries(
    spec: SearchSpec,
    found: Sequence[Screened],
    trials: Sequence[Screened],
    members: Mapping[Place, Member],
    choice: Choice,
    finals: Mapping[str, Final],
) -> list[Entry]:
    student = choice.student
    entries = [_entry(spec, one, members, choice, finals.get(one.candidate.key)) for one in trials]
    trained = {one.candidate.key for one in trials}
    others = [
        Entry(
            "candidate",
            one.candidate.key,
            None,
            one.error or ("over budget" if one.over else "not trained" if one.measured else "to measure"),
            one.parameters,
            one.bytes,
            one.latency,
            over=one.over,
        )
        for one in found
        if one.candidate.key not in trained
    ]
    teacher = _teacher(spec, members, student)
    baseline = _baseline(spec, entries, members, student)
    order: dict[Role, int] = {"teacher": 0, "student": 1, "baseline": 2, "trial": 3, "candidate": 4}
    whole = [*([] if teacher is None else [teacher]), *([] if baseline is None else [baseline]), *entries, *others]
    return sorted(whole, key=lambda entry: (order[entry.role], -entry.epoch, -(entry.score or 0), entry.latency or 9e9))


def _entry(
    spec: SearchSpec, one: Screened, members: Mapping[Place, Member], choice: Choice, final: Final | None
) -> Entry:
    key = one.candidate.key
    first = members.get(Place(key, spec.seeds[0], STUDENT))
    if first is None or key not in (choice.student, *choice.dropped):
        return Entry(
            "trial",
            key,
            None if first is None else first.run.id,
            _word(first),
            one.parameters,
            one.bytes,
            one.latency,
            None if first is None else first.best,
            None,
            0 if first is None else first.epoch,
            over=one.over,
        )
    own = [member for place, member in members.items() if place.key == key and place.role == STUDENT]
    done = [member for member in own if member.summary.state is State.FINISHED and member.best is not None]
    best = max(done or [first], key=lambda member: member.best or 0.0)
    costs = measured_costs(best.run, spec) if final is None else final.costs
    known = Costs(
        one.latency if costs.latency is None else costs.latency,
        one.parameters if costs.parameters is None else costs.parameters,
        one.bytes if costs.bytes is None else costs.bytes,
    )
    seeds = _word(first) if not done else f"{len(done)} of {len(spec.seeds)} seeds finished"
    return Entry(
        "student" if key == choice.student else "trial",
        key,
        best.run.id,
        "over budget" if key in choice.dropped else seeds,
        _whole(known.parameters),
        _whole(known.bytes),
        known.latency,
        *_mean([member.best for member in done or [first]]),
        first.epoch,
        len(done),
        final=costs.latency is not None,
        over=tuple(spec.budget.exceeded(known)),
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _mean(scores: Sequence[float | None]) -> tuple[float | None, float | None]:
    known = [score for score in scores if score is not None]
    if not known:
        return None, None
    return statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None


def _word(member: Member | None) -> str:
    if member is None:
        return "waits"
    row = member.summary
    if row.state is State.STOPPED:
        return PRUNED if row.pruned else row.detail.partition(";")[0] or "stopped"
    return row.state.word.lower()


def _baseline(
    spec: SearchSpec, entries: Sequence[Entry], members: Mapping[Place, Member], key: str | None
) -> Entry | None:
    own = [member for place, member in members.items() if place.key == key and place.role == BASELINE]
    done = [member for member in own if member.summary.state is State.FINISHED and member.best is not None]
    student = next((entry for entry in entries if entry.role == "student"), None)
    if not own or student is None:
        return None
    best = max(done or own, key=lambda member: member.best or 0.0)
    state = f"{len(done)} of {len(spec.seeds)} seeds finished"
    scores = _mean([member.best for member in done])
    costs = (student.parameters, student.bytes, student.latency)
    return Entry("baseline", student.key, best.run.id, state, *costs, *scores, best.epoch, len(done))


def _teacher(spec: SearchSpec, members: Mapping[Place, Member], key: str | None) -> Entry | None:
    rows = [member.summary for place, member in members.items() if place.role == STUDENT]
    row = next((row for row in rows if row.of_teacher(row.score) is not None), None)
    if row is None:
        return None
    latency = size = None
    state = ""
    for place, member in members.items():
        if place.key == key and place.role == STUDENT:
            side = (usable_measurements(member.run)[0] or {}).get("teacher") or {}
            found = seconds(side, spec.target.series)
            latency = found if found is not None else latency
            if latency is None and seconds(side, "torch") is not None:
                latency, state = seconds(side, "torch"), "measured in torch"
            size = side.get("onnx", {}).get(spec.target.precision, {}).get("bytes", size)
    path = Path(row.teacher_checkpoint or "teacher")
    run = owner(path)
    name = path.name if run is None else summary_name(run)
    score = row.of_teacher(row.score)
    return Entry("teacher", name, None, state, row.teacher_parameters, size, latency, score, final=True)


def summary_name(run: Run) -> str:
    """The name of a run; the one in its id if its manifest is damaged."""
    try:
        return one_line(run.manifest().name)
    except StoreError:
        return run.id[16:]


def _delta(members: Mapping[Place, Member], key: str | None) -> Interval | None:
    pairs = []
    for place, member in members.items():
        if place.key != key or place.role != STUDENT:
            continue
        other = members.get(Place(place.key, place.seed, BASELINE))
        finished = [one for one in (member, other) if one is not None and one.summary.state is State.FINISHED]
        if len(finished) == 2 and member.best is not None and other is not None and other.best is not None:
            pairs.append(member.best - other.best)
    return over_seeds(pairs)


def notes(spec: SearchSpec, entries: Sequence[Entry], choice: Choice) -> list[str]:
    """Remarks on the results: whether goals are reached, and which budget would reach a missed one."""
    by_role = {entry.role: entry for entry in reversed(entries)}
    student, teacher = by_role.get("student"), by_role.get("teacher")
    found = []
    if student is not None and student.final and student.key not in choice.dropped:
        found.append(
            f"within the budget of {spec.budget}"
            if not student.over
            else f"over the budget by the last measurement: {', '.join(student.over)}"
        )
    if student is None or not student.seeds or teacher is None or student.score is None or not teacher.score:
        return found
    share = student.score / teacher.score
    if spec.retention is None:
        return [*found, f"retention {share:.1%}"]
    if share >= spec.retention:
        return [*found, f"retention {share:.1%}, goal {spec.retention:.1%} reached"]
    found.append(
        f"retention {share:.1%}, {(spec.retention - share) * 100:.1f} points below the goal {spec.retention:.1%}"
    )
    return [*found, _budget_for(spec, teacher, entries)]


def _budget_for(spec: SearchSpec, teacher: Entry, entries: Sequence[Entry]) -> str:
    """Which budget would reach the goal, from what was measured."""
    goal = (spec.retention or 0.0) * (teacher.score or 0.0)
    dropped = [entry for entry in entries if entry.role == "trial" and entry.final and (entry.score or 0.0) >= goal]
    if dropped:
        fastest = min(dropped, key=lambda entry: entry.latency or 0.0)
        return f"{fastest.key} reaches it, {milliseconds(fastest.latency)}, over the budget"
    if teacher.latency is not None:
        text = f"the only measured network that reaches it is the teacher, {teacher.latency * 1e3:.2f} ms"
    else:
        text = "no measured network reaches it"
    over = [entry for entry in entries if entry.role == "candidate" and entry.over and entry.latency is not None]
    if over:
        next_one = min(over, key=lambda entry: entry.latency or 0.0)
        text += f"; the nearest over the budget is {next_one.key}, {(next_one.latency or 0) * 1e3:.2f} ms, not trained"
    return text


def to_json(results: Results) -> dict[str, Any]:
    """Plain values with stable keys."""
    spec = results.spec
    return {
        "id": results.id,
        "state": results.state.word.lower(),
        "stage": results.stage,
        "error": results.error or None,
        "budget": dataclasses.asdict(spec.budget),
        "target": dataclasses.asdict(spec.target),
        "retention_goal": spec.retention,
        "candidates": results.total,
        "measured": results.measured,
        "dropped": list(results.choice.dropped),
        "within_budget": results.choice.within if results.choice.settled else None,
        "entries": [dataclasses.asdict(entry) for entry in results.entries],
        "delta": None if results.delta is None else dataclasses.asdict(results.delta),
        "notes": list(results.notes),
    }
