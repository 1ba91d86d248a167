"""What the controller of a search does: measure candidates, train and prune trials, train the winner whole, export it.

Each look derives what is done from the files of the search and of its runs, and then does the next thing.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from kdtui.errors import KdtuiError, LaunchError, UsageError
from kdtui.events import Stopped
from kdtui.export_options import ExportOptions
from kdtui.launch import export as exports
from kdtui.launch import measure as measurements
from kdtui.launch.engine_process import EngineStep
from kdtui.launch.groups import group_id
from kdtui.launch.local import take_lock
from kdtui.launch.slots import place as device_place
from kdtui.launch.start import create, once_over
from kdtui.launch.targets import launcher_for, launcher_of
from kdtui.profile.matched import baseline_of
from kdtui.store.run import EventLog, Run
from kdtui.store.scan import scan
from kdtui.store.state import PRUNED, State
from kdtui.sweep.controller import Controls
from kdtui.sweep.folder import BASELINE, STUDENT, manifest_entry
from kdtui.sweep.search import screening
from kdtui.sweep.search.candidates import profile_of
from kdtui.sweep.search.halving import Decision, decide, pick
from kdtui.sweep.search.hours import trials_within
from kdtui.sweep.search.members import (
    PAUSED,
    SEARCH_STOPPED,
    Member,
    Members,
    Place,
)
from kdtui.sweep.search.results import (
    measured_export,
    record_candidates,
    recorded_candidates,
    recorded_trials,
    trial_of,
)
from kdtui.sweep.search.spec import SearchSpec, from_tables
from kdtui.text import counted, milliseconds

if TYPE_CHECKING:
    from kdtui.profile import Profile
    from kdtui.sweep.search.screening import Screened


class SearchWork:
    """The decisions of one search; see :class:`kdtui.sweep.controller.Work`."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        self._store, self._folder = controls.store, controls.folder
        self.spec = from_tables(controls.folder)
        self._candidates = {one.key: one for one in self.spec.candidates()}
        self._members = Members(self._store, self._folder.id, list(self._candidates.values()))
        self._trials: list[Screened] | None = None
        self._launched: set[str] = set()  # ids of runs that this attempt launched
        self._retried: set[str] | None = None if controls.retry else set()  # ids of failed runs that were retried
        self._noted: set[str] = set()

    def step(self) -> str | None:
        """See the protocol."""
        if self._trials is None:
            self._trials = self._measured_trials()
        members = self._members.read()
        self._note_ends(members)
        decision = self._halve(members, self._trials)
        if not decision.decided:
            return None
        if decision.winner is None:
            raise LaunchError(
                "no trial could be trained",
                where=self._folder.id,
                hint=f"`kdtui runs --filter sweep={self._folder.id}` shows why; `kdtui search resume "
                f"{self._folder.id} --retry` trains them again",
            )
        if not self._trained_whole(members, decision.winner):
            return None
        return self._finish(self._members.read(), decision.winner)

    def stop(self) -> bool:
        """See the protocol."""
        live = [member for member in self._members.read().values() if member.live]
        for member in live:
            if not member.run.stop_requested():
                member.run.request_stop(SEARCH_STOPPED)
        return not live

    # -- candidates ------------------------------------------------------------------------------------------------

    def _measured_trials(self) -> list[Screened]:
        """The candidates that are trained, once all were measured."""
        found = recorded_candidates(self._folder, self.spec)
        if found is None:
            found = self._screen()
            trials = self.spec.trials or trials_within(self.spec, self._store, found)
            record_candidates(self._folder, found, trials)
        trials = recorded_trials(self._folder, self.spec.trials or 1)
        chosen = pick(found, trials)
        if not chosen:
            raise no_candidate(self.spec, found)
        fitting = sum(one.fits for one in found)
        self._note(
            f"{counted(fitting, 'candidate')} of {len(found)} within {self.spec.budget}; {len(chosen)} are trained"
        )
        return chosen

    def _screen(self) -> list[Screened]:
        spec, root = self.spec, self._store.root
        found = screening.screened(spec, root)
        parameters = screening.count_parameters(spec, screening.unknown_parameters(spec, found))
        found = screening.screened(spec, root, parameters)
        needed = [one.candidate for one in found if one.word == "to measure"]
        self._note(f"measuring {counted(len(needed), 'untrained network')} ({spec.target})")

        def step(now: EngineStep) -> None:
            if now.words.startswith("waiting"):
                self._note(now.words)

        screening.measure(spec, root, needed, on_step=step, cancelled=self._controls.stopped)
        return screening.screened(spec, root, parameters)

    # -- trials ----------------------------------------------------------------------------------------------------

    def _halve(self, members: Mapping[Place, Member], trials: Sequence[Screened]) -> Decision:
        seed = self.spec.seeds[0]
        own = {one.candidate.key: members.get(Place(one.candidate.key, seed, STUDENT)) for one in trials}
        states = [trial_of(key, member) for key, member in own.items()]
        states = [
            dataclasses.replace(trial, status="idle" if self._is_retried(member) else trial.status)
            if member is not None and not self._stopped_by_hand(member)
            else dataclasses.replace(trial, status="failed" if member is not None else trial.status)
            for trial, member in zip(states, own.values(), strict=True)
        ]
        decision = decide(states, self.spec.base.training.epochs)
        for key in decision.pruned:
            if (member := own[key]) is not None:
                self._prune(member)
        for key in decision.pause:
            if (member := own[key]) is not None and not member.run.stop_requested():
                member.run.request_stop(f"{PAUSED} at epoch {decision.epoch}")
        self._launch([Place(key, seed, STUDENT) for key in decision.start], members)
        return decision

    def _prune(self, member: Member) -> None:
        """Stop a trial for good; one that is paused gets the reason only."""
        if member.live:
            if member.run.stop_reason() != PRUNED:
                member.run.request_stop(PRUNED)
                self._note(f"pruned {member.summary.name} at epoch {member.epoch}")
        elif member.summary.state in (State.STOPPED, State.LOST) and not member.summary.pruned:
            mark_stopped(member.run, PRUNED)
            self._note(f"pruned {member.summary.name} at epoch {member.epoch}")

    def _stopped_by_hand(self, member: Member) -> bool:
        """Whether someone else stopped a run that this attempt launched; a later attempt continues it."""
        row = member.summary
        ours = row.detail.startswith((PAUSED, PRUNED, SEARCH_STOPPED))
        return row.state is State.STOPPED and member.run.id in self._launched and not ours

    def _is_retried(self, member: Member) -> bool:
        """Whether a failed run is trained again, once."""
        if member.summary.state is not State.FAILED:
            return False
        if self._retried is None:
            rows = self._members.read().values()
            self._retried = {one.run.id for one in rows if one.summary.state is State.FAILED}
        return member.run.id in self._retried and member.run.id not in self._launched

    def _launch(self, places: Sequence[Place], members: Mapping[Place, Member]) -> None:
        """Start or continue runs, as many at once as the device has slots."""
        training = self.spec.base.training
        slots = device_place(training.accelerator, training.devices)
        free = max(1, len(slots.names) // max(1, slots.needed)) - sum(member.live for member in members.values())
        for place in places[: max(0, free)]:
            if self._controls.stopped():
                return
            member = members.get(place)
            if member is None:
                with self._folder.locked():
                    run = self._create(place)
                launcher_for(run.profile(), self._store).launch(run)
            else:
                run = member.run
                once_over(self._store, run, partial(self._continue, run))
            self._launched.add(run.id)

    def _continue(self, run: Run) -> None:
        launcher_of(run, self._store).launch(run)

    def _create(self, place: Place) -> Run:
        candidate = self._candidates[place.key]
        student = self._profile(Place(place.key, place.seed, STUDENT))
        entry = manifest_entry(self._folder.id, candidate.cell, place.seed, place.role)
        return create(self._store, self._profile(place), origin="kdtui search", group=group_id(student), sweep=entry)

    def _profile(self, place: Place) -> Profile:
        spec = self.spec
        student = profile_of(spec.base, self._candidates[place.key], place.seed, normalise=spec.normalise)
        return student if place.role == STUDENT else baseline_of(student)

    # -- the winner ------------------------------------------------------------------------------------------------

    def _trained_whole(self, members: Mapping[Place, Member], winner: str) -> bool:
        """Whether all final runs have ended; starts those that have not."""
        self._note(f"{winner} wins; training it whole with {counted(len(self.spec.seeds), 'seed')} and its baseline")
        places = [Place(winner, seed, role) for seed in self.spec.seeds for role in (STUDENT, BASELINE)]
        waiting, ended = [], 0
        for place in places:
            member = members.get(place)
            if member is not None and self._stopped_by_hand(member):
                ended += 1
            elif member is None or self._is_retried(member) or trial_of(winner, member).status == "idle":
                waiting.append(place)
            elif not member.live:
                ended += 1
        self._launch(waiting, members)
        return ended == len(places)

    def _finish(self, members: Mapping[Place, Member], winner: str) -> str:
        """Export and measure the best of the seeds."""
        students = [member for place, member in members.items() if place.key == winner and place.role == STUDENT]
        done = [member for member in students if member.summary.state is State.FINISHED]
        if not done:
            raise LaunchError(
                "no training of the winner finished",
                where=winner,
                hint=f"`kdtui search resume {self._folder.id} --retry` trains it again",
            )
        best = max(done, key=lambda member: member.best or 0.0)
        spec = self.spec
        options = ExportOptions(precision=spec.target.precision)
        request = exports.export_request(best.run.id, self._store, options)
        if not request.target.is_file():
            self._note(f"exporting {best.run.id} in {spec.target.precision}")
            self._export(request)
        if measured_export(best, spec)[1] is None:
            self._note(f"measuring {best.run.id}")
            measurements.measure(self._store.root, [best.run], spec.target.options, cancelled=self._controls.stopped)
        _, latency = measured_export(best, spec)
        return f"{winner}, {milliseconds(latency)}"

    def _export(self, request: exports.ExportRequest) -> None:
        failed: list[KdtuiError] = []

        def finished(_: exports.ExportRequest, outcome: dict[str, object] | KdtuiError) -> None:
            if isinstance(outcome, KdtuiError):
                failed.append(outcome)

        exports.export([request], finished=finished, cancelled=self._controls.stopped)
        if failed:
            raise failed[0]

    # -- events ----------------------------------------------------------------------------------------------------

    def _note_ends(self, members: Mapping[Place, Member]) -> None:
        for member in members.values():
            row = member.summary
            if row.state is State.FAILED and not self._is_retried(member):
                self._note(f"{row.id} failed: {row.detail}")
            elif self._stopped_by_hand(member):
                self._note(f"{row.id} was stopped; `kdtui search resume {self._folder.id}` continues it")

    def _note(self, message: str) -> None:
        """Write a message once."""
        if message not in self._noted:
            self._noted.add(message)
            self._controls.note(message)


def mark_stopped(run: Run, reason: str) -> None:
    """Give a run without processes another reason of its stop."""
    lock = take_lock(run)
    if lock is None:  # its processes are still exiting
        return
    try:
        found = scan(run.events_path)
        newest = max((one for one in (found.train, found.val) if one), key=lambda one: one.step, default=None)
        run.request_stop(reason)
        with EventLog(run.events_path) as log:
            log.append(Stopped(newest.step if newest else 0, newest.epoch if newest else 0, reason=reason))
    finally:
        os.close(lock)


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
        hint="a larger budget, or smaller networks with --encoders and --widths",
    )
