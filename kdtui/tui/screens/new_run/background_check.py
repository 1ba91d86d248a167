"""What the form asks of threads: reading a draft, listing, inspecting, planning, launching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdtui.errors import KdtuiError, LaunchError
from kdtui.launch.slots import capacity
from kdtui.launch.teachers import TeacherRow, teacher_rows
from kdtui.profile.find import ProfileFile, listing
from kdtui.store.state import RunSummary
from kdtui.store.store import RunStore
from kdtui.tui.debounce import Debounced, Do
from kdtui.tui.engine_client import Ask, Door, Inspected
from kdtui.tui.form import Checked, Draft, check
from kdtui.tui.form.browse import FolderEntry, entries
from kdtui.tui.form.queue import Machine, machine

if TYPE_CHECKING:
    from kdtui.launch.plan import Plan


ORIGIN = "kdtui"
"""What the manifest says of who made the run."""
Failed = Callable[[KdtuiError], None]


@dataclass(frozen=True)
class Launched:
    """Runs that were started, and what kept the next one from it."""

    ids: tuple[str, ...]
    error: KdtuiError | None = None


class Behind:
    """Every piece of work has a line of its own, so that typing never waits for a disk or for torch.

    Args:
        store: Where the runs are; each line gets a view of its own.
        ask: The engine's door.
        do: Does work in a thread.
        row: The row of a run, if it is known.
    """

    def __init__(self, store: RunStore, ask: Ask, do: Do, row: Callable[[str], RunSummary | None]) -> None:
        self._do = do
        self._store = store.for_thread()
        self._launching = store.for_thread()
        self.door = Door(store, ask, row)
        self._checks, self._plans, self._browsing, self._lists = (Debounced(do) for _ in range(4))

    def check(self, draft: Draft, then: Callable[[Draft, Checked], None], failed: Failed) -> None:
        """Read a draft."""
        self._checks.ask(lambda: check(draft, self._store), lambda checked: then(draft, checked), failed)

    def plan(self, checked: Checked, then: Callable[[Plan], None], failed: Failed, *, tested: bool) -> None:
        """Plan the runs; with ``tested`` the engine is asked whether they would work, which takes some seconds."""
        self._plans.ask(lambda: self.door.plan(checked.profiles, checks=tested), then, failed)

    def inspect(
        self, checkpoint: Path, options: Sequence[str], then: Callable[[Inspected], None], failed: Failed
    ) -> None:
        """Look into a checkpoint."""
        self._do(lambda: self.door.inspect(checkpoint, options), then, failed=failed)

    def profiles(self, then: Callable[[list[ProfileFile]], None]) -> None:
        """The profiles that can be named here."""
        self._do(listing, then, failed=None)

    def machine(self, then: Callable[[Machine], None], failed: Failed) -> None:
        """Count the devices of this machine, which may mean asking ``nvidia-smi``, and see who uses them."""
        self._do(lambda: machine(capacity(), self._store.root), then, failed=failed)

    def teachers(self, rows: Sequence[RunSummary], then: Callable[[list[TeacherRow]], None], failed: Failed) -> None:
        """Which of these runs have a checkpoint that could teach."""
        self._lists.ask(lambda: teacher_rows(self._store, summaries=rows), then, failed)

    def browse(self, text: str, then: Callable[[list[FolderEntry]], None], failed: Failed) -> None:
        """What a typed path could go on with."""
        self._browsing.ask(lambda: entries(text), then, failed)

    def launch(self, checked: Checked, then: Callable[[Launched], None], failed: Failed) -> None:
        """Make and launch the runs, one after the other; the first that fails ends it."""

        def work() -> Launched:
            from kdtui.launch.start import start

            done: list[str] = []
            for profile in checked.profiles:
                try:
                    run = start(self._launching, profile, tags=checked.tags, origin=ORIGIN)
                except KdtuiError as error:
                    return Launched(tuple(done), error)
                except OSError as error:
                    failure = LaunchError.of(error)
                    return Launched(tuple(done), failure)
                done.append(run.id)
            return Launched(tuple(done))

        self._do(work, then, failed=failed)
