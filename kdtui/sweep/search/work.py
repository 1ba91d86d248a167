"""What the controller of a search does: measure candidates, train and prune trials, train the best whole, export it.

Each look derives what is done from the files of the search and of its runs, and then does the next thing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kdtui.errors import KdtuiError, LaunchError, UsageError
from kdtui.export_options import ExportOptions
from kdtui.launch import export as exports
from kdtui.launch import measure as measurements
from kdtui.launch.engine_process import EngineStep
from kdtui.launch.groups import group_id
from kdtui.launch.start import create
from kdtui.profile.matched import baseline_of
from kdtui.store.run import Run
from kdtui.store.state import State
from kdtui.sweep.controller import Controls
from kdtui.sweep.folder import BASELINE, STUDENT, manifest_entry
from kdtui.sweep.members import PAUSED, SEARCH_STOPPED, Member, Place
from kdtui.sweep.search import screening
from kdtui.sweep.search.candidates import profile_of
from kdtui.sweep.search.finals import Choice, choose, final_of, measured_costs, over_budget, read_finals, record_final
from kdtui.sweep.search.halving import Decision, decide, pick
from kdtui.sweep.search.hours import trials_within
from kdtui.sweep.search.results import (
    record_candidates,
    recorded_candidates,
    recorded_trials,
    trial_of,
)
from kdtui.sweep.search.spec import SearchSpec, from_tables
from kdtui.sweep.trial_work import TrialWork
from kdtui.text import counted, milliseconds

if TYPE_CHECKING:
    from kdtui.profile import Profile
    from kdtui.sweep.search.screening import Screened


class SearchWork(TrialWork):
    """The decisions of one search; see :class:`kdtui.sweep.controller.Work`."""

    VERB, STOPPED = "search", SEARCH_STOPPED

    def __init__(self, controls: Controls) -> None:
        self.spec = from_tables(controls.folder)
        super().__init__(controls, self.spec.base, self.spec.key_of)
        self._candidates = {one.key: one for one in self.spec.candidates()}
        self._trials: list[Screened] | None = None

    def step(self) -> str | None:
        """See the protocol."""
        if self._trials is None:
            self._trials = self._measured_trials()
        members = self.members.read()
        self.note_ends(members)
        decision = self._decision(members, self._trials)
        if not decision.decided:
            self._halve(decision, members)
            return None
        if decision.winner is None:
            raise LaunchError(
                "no trial could be trained",
                where=self.folder.id,
                hint=f"`kdtui runs --filter sweep={self.folder.id}` shows why; `kdtui search resume "
                f"{self.folder.id} --retry` trains them again",
            )
        choice = self._choice(decision)
        student = choice.student
        assert student is not None  # of the trials, at least the winner is trained whole
        self._prune(decision, members, keep=(*choice.dropped, student))
        if choice.settled:
            return self._outcome(choice, student)
        self.note(
            f"{student} {'wins' if student == decision.winner else 'is next'}; training it whole with "
            f"{counted(len(self.spec.seeds), 'seed')} and its baseline"
        )
        if self._trained_whole(members, student):
            self._export_and_measure(self.members.read(), student)
        return None

    # -- candidates ------------------------------------------------------------------------------------------------

    def _measured_trials(self) -> list[Screened]:
        """The candidates that are trained, once all were measured."""
        found = recorded_candidates(self.folder, self.spec)
        if found is None:
            found = self._screen()
            trials = self.spec.trials or trials_within(self.spec, self.store, found)
            record_candidates(self.folder, found, trials)
        trials = recorded_trials(self.folder, self.spec.trials or 1)
        chosen = pick(found, trials)
        if not chosen:
            raise no_candidate(self.spec, found)
        fitting = sum(one.fits for one in found)
        self.note(
            f"{counted(fitting, 'candidate')} of {len(found)} within {self.spec.budget}; {len(chosen)} are trained"
        )
        return chosen

    def _screen(self) -> list[Screened]:
        spec, root = self.spec, self.store.root
        found = screening.screened(spec, root)
        parameters = screening.count_parameters(spec, screening.unknown_parameters(spec, found))
        found = screening.screened(spec, root, parameters)
        needed = [one.candidate for one in found if one.word == "to measure"]
        self.note(f"measuring {counted(len(needed), 'untrained network')} ({spec.target})")

        def step(now: EngineStep) -> None:
            if now.words.startswith("waiting"):
                self.note(now.words)

        screening.measure(spec, root, needed, on_step=step, cancelled=self.controls.stopped)
        return screening.screened(spec, root, parameters)

    # -- trials ----------------------------------------------------------------------------------------------------

    def _decision(self, members: Mapping[Place, Member], trials: Sequence[Screened]) -> Decision:
        own = {one.candidate.key: self._trial_run(members, one.candidate.key) for one in trials}
        states = [trial_of(key, member) for key, member in own.items()]
        states = [
            dataclasses.replace(trial, status="idle" if self.is_retried(member) else trial.status)
            if member is not None and not self.stopped_by_hand(member)
            else dataclasses.replace(trial, status="failed" if member is not None else trial.status)
            for trial, member in zip(states, own.values(), strict=True)
        ]
        training = self.spec.base.training
        return decide(states, training.epochs, training.evaluate_every or 1)

    def _trial_run(self, members: Mapping[Place, Member], key: str) -> Member | None:
        return members.get(Place(key, self.spec.seeds[0], STUDENT))

    def _halve(self, decision: Decision, members: Mapping[Place, Member]) -> None:
        """Prune, pause and start trials."""
        self._prune(decision, members, keep=tuple(read_finals(self.folder)))
        for key in decision.pause:
            member = self._trial_run(members, key)
            if member is not None and not member.run.stop_requested():
                member.run.request_stop(f"{PAUSED} at epoch {decision.epoch}")
        self.launch([Place(key, self.spec.seeds[0], STUDENT) for key in decision.start], members)

    def _prune(self, decision: Decision, members: Mapping[Place, Member], *, keep: Collection[str | None]) -> None:
        """Stop pruned trials, but not those that are trained whole after all."""
        for key in decision.pruned:
            member = self._trial_run(members, key)
            if member is not None and key not in keep:
                self.prune(member)

    def create(self, place: Place) -> Run:
        """See the base class."""
        candidate = self._candidates[place.key]
        student = self._profile(Place(place.key, place.seed, STUDENT))
        entry = manifest_entry(self.folder.id, candidate.cell, place.seed, place.role)
        return create(self.store, self._profile(place), origin="kdtui search", group=group_id(student), sweep=entry)

    def _profile(self, place: Place) -> Profile:
        spec = self.spec
        student = profile_of(spec.base, self._candidates[place.key], place.seed, normalise=spec.normalise)
        return student if place.role == STUDENT else baseline_of(student)

    # -- the student -----------------------------------------------------------------------------------------------

    def _choice(self, decision: Decision) -> Choice:
        """Which trial is trained whole now; notes why others are not."""
        finals, budget = read_finals(self.folder), self.spec.budget
        untrained = {one.candidate.key: one.costs for one in self._trials or ()}
        choice = choose(budget, decision.ranking, finals, untrained)
        for key in choice.dropped:
            self.note(over_budget(budget, finals[key], untrained[key]))
        return choice

    def _outcome(self, choice: Choice, key: str) -> str:
        final = read_finals(self.folder)[key]
        latency = milliseconds(final.costs.latency)
        if choice.within:
            return f"{final.key}, {latency}"
        return f"no student within {self.spec.budget}; the nearest is {final.key}, {latency}"

    def _trained_whole(self, members: Mapping[Place, Member], key: str) -> bool:
        """Whether all trainings of the student and its baseline have ended; starts those that have not."""
        places = [Place(key, seed, role) for seed in self.spec.seeds for role in (STUDENT, BASELINE)]
        waiting, ended = [], 0
        for place in places:
            member = members.get(place)
            if member is not None and self.stopped_by_hand(member):
                ended += 1
            elif member is None or self.is_retried(member) or trial_of(key, member).status == "idle":
                waiting.append(place)
            elif not member.live:
                ended += 1
        self.launch(waiting, members)
        return ended == len(places)

    def _export_and_measure(self, members: Mapping[Place, Member], key: str) -> None:
        """Export and measure the best of the seeds, and keep what it costs."""
        students = [member for place, member in members.items() if place.key == key and place.role == STUDENT]
        done = [member for member in students if member.summary.state is State.FINISHED]
        if not done:
            raise LaunchError(
                f"no training of {key} finished",
                where=self.folder.id,
                hint=f"`kdtui search resume {self.folder.id} --retry` trains it again",
            )
        best = max(done, key=lambda member: member.best or 0.0)
        spec, before = self.spec, read_finals(self.folder).get(key)
        request = exports.export_request(best.run.id, self.store, ExportOptions(precision=spec.target.precision))
        if not _is_newer(request.target, request.checkpoint):
            self.note(f"exporting {best.run.id} in {spec.target.precision}")
            self._export(request)
        fresh = _is_newer(best.run.measurements_path, request.target)
        if before is not None or not fresh or measured_costs(best.run, spec).latency is None:
            self.note(f"measuring {best.run.id}{'' if before is None else ' again, as it is over the budget'}")
            measurements.measure(self.store.root, [best.run], spec.target.options, cancelled=self.controls.stopped)
        record_final(self.folder, final_of(key, best.run, spec, before))

    def _export(self, request: exports.ExportRequest) -> None:
        failed: list[KdtuiError] = []

        def finished(_: exports.ExportRequest, outcome: dict[str, object] | KdtuiError) -> None:
            if isinstance(outcome, KdtuiError):
                failed.append(outcome)

        exports.export([request], finished=finished, cancelled=self.controls.stopped)
        if failed:
            raise failed[0]


def _is_newer(file: Path, than: Path) -> bool:
    """Whether a file was written after another one; one that was exported before the training ended is not."""
    try:
        return file.stat().st_mtime_ns >= than.stat().st_mtime_ns
    except FileNotFoundError:
        return False


def no_candidate(spec: SearchSpec, found: Sequence[Screened]) -> UsageError:
    """The error for a budget that no candidate meets; it names the nearest."""
    one = screening.nearest(spec.budget, found)
    failed = next((one for one in found if one.error), None)
    if one is None:
        return UsageError(
            "no candidate can be built and measured",
            found=f"{failed.candidate.key}: {failed.error}" if failed is not None else None,
            hint="choose others with --encoders and --architectures",
        )
    return UsageError(
        "no candidate is within the budget",
        where=str(spec.budget),
        found=f"the nearest is {one.candidate.key}: {', '.join(one.over)}",
        hint=f"{spec.budget.holding(one.costs) or 'a larger budget'}, or smaller networks with --encoders and --widths",
    )
