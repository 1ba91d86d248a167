"""What the controllers of searches and sampled sweeps share: starting, continuing, pruning and stopping runs."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar

from kdtui.events import Stopped
from kdtui.launch.local import take_lock
from kdtui.launch.slots import place as device_place
from kdtui.launch.start import once_over
from kdtui.launch.targets import launcher_for, launcher_of
from kdtui.store.run import EventLog, Run
from kdtui.store.scan import scan
from kdtui.store.state import PRUNED, State
from kdtui.sweep.controller import Controls
from kdtui.sweep.members import PAUSED, Member, Members, Place

if TYPE_CHECKING:
    from kdtui.profile import Profile
MOST_LAUNCHES = 3
"""How often one attempt of the controller launches a run whose processes are killed."""


class TrialWork(ABC):
    """Work of a controller whose trials are ordinary runs; see :class:`kdtui.sweep.controller.Work`.

    Args:
        controls: What the controller offers.
        base: Profile with the device of all runs.
        key_of: See :class:`kdtui.sweep.members.Members`.
    """

    VERB: ClassVar[str]
    """The group of commands, as in ``kdtui VERB resume``."""
    STOPPED: ClassVar[str]
    """The reason of the stops that it requests when it is stopped itself."""

    def __init__(self, controls: Controls, base: Profile, key_of: Callable[[str], str | None] = str) -> None:
        self.controls = controls
        self.store, self.folder = controls.store, controls.folder
        self.members = Members(self.store, self.folder.id, key_of)
        self._training = base.training
        self._launched: Counter[str] = Counter()  # how often this attempt launched each run
        self._retried: set[str] | None = None if controls.retry else set()  # ids of failed runs that were retried
        self._noted: set[str] = set()

    @abstractmethod
    def step(self) -> str | None:
        """See the protocol."""

    @abstractmethod
    def create(self, place: Place) -> Run:
        """Create the run of a place."""

    def stop(self) -> bool:
        """See the protocol."""
        live = [member for member in self.members.read().values() if member.live]
        for member in live:
            if not member.run.stop_requested():
                member.run.request_stop(self.STOPPED)
        return not live

    def launch(self, places: Sequence[Place], members: Mapping[Place, Member]) -> int:
        """Start or continue runs in order, as many at once as the device has slots.

        Returns:
            How many; ``members`` does not show what became of them.
        """
        launched = 0
        for place in places[: self.free(members)]:
            if self.controls.stopped():
                break
            member = members.get(place)
            if member is None:
                with self.folder.locked():
                    run = self.create(place)
                launcher_for(run.profile(), self.store).launch(run)
            else:
                run = member.run
                once_over(self.store, run, partial(self._continue, run))
            self._launched[run.id] += 1
            launched += 1
        return launched

    def _continue(self, run: Run) -> None:
        launcher_of(run, self.store).launch(run)

    def free(self, members: Mapping[Place, Member]) -> int:
        """How many runs can start now."""
        return max(0, self._at_once - sum(member.live for member in members.values()))

    @cached_property
    def _at_once(self) -> int:
        """How many runs the device has slots for; asked once, as every step asks and counting GPUs starts a process."""
        slots = device_place(self._training.accelerator, self._training.devices)
        return max(1, len(slots.names) // max(1, slots.needed))

    def prune(self, member: Member) -> None:
        """Stop a trial for good; one that is paused gets the reason only."""
        if member.live:
            if member.run.stop_reason() != PRUNED:
                member.run.request_stop(PRUNED)
                self.note(f"pruned {member.summary.name} at epoch {member.epoch}")
        elif member.summary.state in (State.STOPPED, State.LOST) and not member.summary.pruned:
            mark_stopped(member.run, PRUNED)
            self.note(f"pruned {member.summary.name} at epoch {member.epoch}")

    def stopped_by_hand(self, member: Member) -> bool:
        """Whether someone else stopped a run that this attempt launched; a later attempt continues it.

        So is a run whose processes were killed each of :data:`MOST_LAUNCHES` times, as for lack of memory.
        """
        row, launches = member.summary, self._launched[member.run.id]
        ours = row.detail.startswith((PAUSED, PRUNED, self.STOPPED))
        if row.state is State.LOST:
            return launches >= MOST_LAUNCHES
        return row.state is State.STOPPED and launches > 0 and not ours

    def is_retried(self, member: Member) -> bool:
        """Whether a failed run is trained again, once."""
        if member.summary.state is not State.FAILED:
            return False
        if self._retried is None:
            rows = self.members.read().values()
            self._retried = {one.run.id for one in rows if one.summary.state is State.FAILED}
        return member.run.id in self._retried and member.run.id not in self._launched

    def note_ends(self, members: Mapping[Place, Member]) -> None:
        """Note which runs failed or were stopped by someone else."""
        for member in members.values():
            row = member.summary
            if row.state is State.FAILED and not self.is_retried(member):
                self.note(f"{row.id} failed: {row.detail}")
            elif self.stopped_by_hand(member):
                what = "was stopped" if row.state is State.STOPPED else "lost its processes again and again"
                self.note(f"{row.id} {what}; `kdtui {self.VERB} resume {self.folder.id}` continues it")

    def note(self, message: str) -> None:
        """Write a message to the events, once."""
        if message not in self._noted:
            self._noted.add(message)
            self.controls.note(message)


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
