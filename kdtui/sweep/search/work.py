"""What the controller of a search does: measure candidates, train and prune trials, train the winner whole, export it.

Each look derives what is done from the files of the search and of its runs, and then does the next thing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
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
from kdtui.sweep.search.halving import Decision, decide, pick
from kdtui.sweep.search.hours import trials_within
from kdtui.sweep.search.results import (
    measured_export,
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
        decision = self._halve(members, self._trials)
        if not decision.decided:
            return None
        if decision.winner is None:
            raise LaunchError(
                "no trial could be trained",
                where=self.folder.id,
                hint=f"`kdtui runs --filter sweep={self.folder.id}` shows why; `kdtui search resume "
                f"{self.folder.id} --retry` trains them again",
            )
        if not self._trained_whole(members, decision.winner):
            return None
        return self._finish(self.members.read(), decision.winner)

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

    def _halve(self, members: Mapping[Place, Member], trials: Sequence[Screened]) -> Decision:
        seed = self.spec.seeds[0]
        own = {one.candidate.key: members.get(Place(one.candidate.key, seed, STUDENT)) for one in trials}
        states = [trial_of(key, member) for key, member in own.items()]
        states = [
            dataclasses.replace(trial, status="idle" if self.is_retried(member) else trial.status)
            if member is not None and not self.stopped_by_hand(member)
            else dataclasses.replace(trial, status="failed" if member is not None else trial.status)
            for trial, member in zip(states, own.values(), strict=True)
        ]
        decision = decide(states, self.spec.base.training.epochs)
        for key in decision.pruned:
            if (member := own[key]) is not None:
                self.prune(member)
        for key in decision.pause:
            if (member := own[key]) is not None and not member.run.stop_requested():
                member.run.request_stop(f"{PAUSED} at epoch {decision.epoch}")
        self.launch([Place(key, seed, STUDENT) for key in decision.start], members)
        return decision

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

    # -- the winner ------------------------------------------------------------------------------------------------

    def _trained_whole(self, members: Mapping[Place, Member], winner: str) -> bool:
        """Whether all final runs have ended; starts those that have not."""
        self.note(f"{winner} wins; training it whole with {counted(len(self.spec.seeds), 'seed')} and its baseline")
        places = [Place(winner, seed, role) for seed in self.spec.seeds for role in (STUDENT, BASELINE)]
        waiting, ended = [], 0
        for place in places:
            member = members.get(place)
            if member is not None and self.stopped_by_hand(member):
                ended += 1
            elif member is None or self.is_retried(member) or trial_of(winner, member).status == "idle":
                waiting.append(place)
            elif not member.live:
                ended += 1
        self.launch(waiting, members)
        return ended == len(places)

    def _finish(self, members: Mapping[Place, Member], winner: str) -> str:
        """Export and measure the best of the seeds."""
        students = [member for place, member in members.items() if place.key == winner and place.role == STUDENT]
        done = [member for member in students if member.summary.state is State.FINISHED]
        if not done:
            raise LaunchError(
                "no training of the winner finished",
                where=winner,
                hint=f"`kdtui search resume {self.folder.id} --retry` trains it again",
            )
        best = max(done, key=lambda member: member.best or 0.0)
        spec = self.spec
        options = ExportOptions(precision=spec.target.precision)
        request = exports.export_request(best.run.id, self.store, options)
        if not request.target.is_file():
            self.note(f"exporting {best.run.id} in {spec.target.precision}")
            self._export(request)
        if measured_export(best, spec)[1] is None:
            self.note(f"measuring {best.run.id}")
            measurements.measure(self.store.root, [best.run], spec.target.options, cancelled=self.controls.stopped)
        _, latency = measured_export(best, spec)
        return f"{winner}, {milliseconds(latency)}"

    def _export(self, request: exports.ExportRequest) -> None:
        failed: list[KdtuiError] = []

        def finished(_: exports.ExportRequest, outcome: dict[str, object] | KdtuiError) -> None:
            if isinstance(outcome, KdtuiError):
                failed.append(outcome)

        exports.export([request], finished=finished, cancelled=self.controls.stopped)
        if failed:
            raise failed[0]


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
