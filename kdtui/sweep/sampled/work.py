"""What the controller of a sampled sweep does: choose values, train trials and prune them, train the best's baseline.

Each look derives what is done from the runs, tells it to the study, and then does the next thing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from kdtui.errors import LaunchError, UsageError
from kdtui.launch.groups import GroupRun, group_id
from kdtui.launch.start import create
from kdtui.store.state import State
from kdtui.sweep.folder import BASELINE, STUDENT, manifest_entry
from kdtui.sweep.members import SWEEP_STOPPED, Member, Place, cell_key
from kdtui.sweep.runs import with_view_seed
from kdtui.sweep.sampled.baseline import baselines_of
from kdtui.sweep.sampled.results import record_importance
from kdtui.sweep.sampled.spec import from_tables, read_request
from kdtui.sweep.sampled.trials import Trial, best_of, trials_of
from kdtui.sweep.trial_work import TrialWork
from kdtui.text import counted, number, score_title

if TYPE_CHECKING:
    from kdtui.store.run import Run
    from kdtui.sweep.controller import Controls

JOURNAL = "journal.log"
"""What Optuna remembers, in the folder of the sweep."""
_INVALID = 20
"""How many invalid combinations may be drawn for one trial."""


class SampledWork(TrialWork):
    """The decisions of one sampled sweep; see :class:`kdtui.sweep.controller.Work`."""

    VERB, STOPPED = "sweep", SWEEP_STOPPED

    def __init__(self, controls: Controls) -> None:
        from kdtui.sweep.sampled.study import Study

        self.spec = from_tables(controls.folder)
        super().__init__(controls, self.spec.base)
        self._study = Study(controls.folder.path / JOURNAL, self.spec)
        self._finished = -1
        self._compared = ""  # key of the trial whose baselines are known
        self._baselines: dict[Place, GroupRun] = {}

    def step(self) -> str | None:
        """See the protocol."""
        members = self.members.read()
        self.note_ends(members)
        trials = trials_of(self.spec, members)
        self._study.update(trials)
        self._weigh(trials)
        losers = self._study.losers(trials) if self.spec.prune else []
        for loser in losers:
            for member in loser.members.values():
                if member is not None:
                    self.prune(member)
        open_trials = [trial for trial in trials if self._continues(trial) and trial not in losers]
        if self.launch(list(self._waiting(open_trials, members)), members):
            return None
        if self._begin(trials, members) or losers or any(self._blocks(trial) for trial in trials):
            return None
        best = best_of(trials)
        if best is None:
            raise LaunchError(
                "no trial finished",
                where=self.folder.id,
                hint=f"`kdtui runs --filter sweep={self.folder.id}` shows why; `kdtui sweep resume {self.folder.id} "
                "--retry` trains failed runs again",
            )
        if self.spec.with_baseline and not self._baseline_ended(best, members):
            return None
        return f"best {best.text()}: {score_title(best.score_name)} {number(best.score)}"

    # -- trials ----------------------------------------------------------------------------------------------------

    def _continues(self, trial: Trial) -> bool:
        """Whether runs of a trial are started or continued."""
        retried = any(member is not None and self.is_retried(member) for member in trial.members.values())
        return trial.outcome == "open" or (trial.outcome == "failed" and retried)

    def _blocks(self, trial: Trial) -> bool:
        """Whether the end waits for a trial: not for one whose runs someone else stopped."""
        by_hand = any(member is not None and self.stopped_by_hand(member) for member in trial.members.values())
        live = any(member is not None and member.live for member in trial.members.values())
        return live or (self._continues(trial) and not by_hand)

    def _waiting(self, trials: Sequence[Trial], members: Mapping[Place, Member]) -> Iterator[Place]:
        """The places of runs to start or continue: of the earliest trials first."""
        for trial in trials:
            for seed, member in trial.members.items():
                if member is None or self._idle(member):
                    yield Place(trial.key, seed, STUDENT)

    def _idle(self, member: Member) -> bool:
        """Whether a run is started again."""
        state = member.summary.state
        stopped = state in (State.NEVER_LAUNCHED, State.LOST) or (state is State.STOPPED and not member.summary.pruned)
        return (stopped and not self.stopped_by_hand(member)) or self.is_retried(member)

    def _begin(self, trials: Sequence[Trial], members: Mapping[Place, Member]) -> bool:
        """Begin the next trial if a slot is free; whether any is still to begin."""
        wanted = read_request(self.folder).trials
        if self.spec.size is not None:
            wanted = min(wanted, self.spec.size)
        if len(trials) >= wanted:
            return False
        if self.free(members) and not self.controls.stopped():
            key = self._next({trial.key for trial in trials})
            if key is None:
                return False
            self.launch([Place(key, self.spec.seeds[0], STUDENT)], members)
        return True

    def _next(self, taken: set[str]) -> str | None:
        """The key of the next trial; None if there are no new values."""
        for _ in range(_INVALID):
            cell = self._study.ask(taken)
            if cell is None:
                self.note("no new values were found; the trials so far are all")
                return None
            try:
                self.spec.cell(cell)
            except UsageError as error:
                self._study.drop(cell)
                self.note(f"{cell_key(cell)}: {error.brief}")
            else:
                return cell_key(cell)
        raise LaunchError(
            f"{_INVALID} combinations in a row are not valid",
            where=self.folder.id,
            hint=f"`kdtui sweep show {self.folder.id}` shows the trials; make another sweep with narrower ranges",
        )

    def create(self, place: Place) -> Run:
        """See the base class."""
        tags = read_request(self.folder).tags
        if place.role == BASELINE:
            planned = self._baselines[place]
            profile, entry, group = planned.profile, planned.sweep, planned.group
        else:
            cell = json.loads(place.key)
            profile = with_view_seed(self.spec.cell(cell).profile.model_copy(update={"seed": place.seed}))
            entry, group = manifest_entry(self.folder.id, cell, place.seed, STUDENT), group_id(profile)
        return create(self.store, profile, tags=tags, origin="kdtui sweep", group=group, sweep=entry)

    def _weigh(self, trials: Sequence[Trial]) -> None:
        """Record the importance of the keys when a trial has finished."""
        finished = sum(trial.outcome == "finished" for trial in trials)
        if finished != self._finished:
            self._finished = finished
            record_importance(self.folder, self._study.importance(), finished)
            best = best_of(trials)
            if best is not None:
                self.note(f"{counted(finished, 'trial')} finished, best {best.text()}: {number(best.score)}")

    # -- baseline --------------------------------------------------------------------------------------------------

    def _baseline_ended(self, best: Trial, members: Mapping[Place, Member]) -> bool:
        """Whether the matched baselines of the best trial have ended; starts what is missing."""
        if best.key != self._compared:
            self.note(f"training the matched baseline of {best.text()}")
            self._compared = best.key
            self._baselines = baselines_of(self.store, self.spec, self.folder.id, best)
        own = {place: run for place, run in self._baselines.items() if place in members or run.reused is None}
        waiting = [place for place in own if place not in members or self._idle(members[place])]
        self.launch(waiting, members)
        return not waiting and not any(members[place].live for place in own)
