"""Background work of the form: checking a draft, listing, inspecting, planning, launching."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

from kdtui.errors import KdtuiError, LaunchError
from kdtui.launch.device_queue import Queue, read_queue
from kdtui.launch.slots import capacity
from kdtui.launch.teachers import TeacherRow, teacher_rows
from kdtui.profile.find import ProfileFile, listing
from kdtui.store.run import Run
from kdtui.store.state import RunSummary
from kdtui.store.store import RunStore
from kdtui.tui.debounce import Debounced, Do
from kdtui.tui.engine_client import EngineCall, EngineClient, Inspected
from kdtui.tui.form import Checked, RunDraft, check
from kdtui.tui.form.browse import FolderEntry, entries
from kdtui.tui.form.queue import DeviceUse, machine

if TYPE_CHECKING:
    from kdtui.launch.plan import Plan


ORIGIN = "kdtui"
"""Origin of the run in its manifest."""
OnError = Callable[[KdtuiError], None]


@dataclass(frozen=True)
class Launched:
    """The launched runs, and the error of the next one."""

    ids: tuple[str, ...]
    error: KdtuiError | None = None


class Behind:
    """Each kind of work has its own queue, so that typing never waits for a disk or for torch.

    Args:
        store: The run store; each queue gets its own view of it.
        ask: Calls the engine.
        do: Does work in a thread.
        row: Function from the id of a run to its summary, if that was read.
    """

    def __init__(self, store: RunStore, ask: EngineCall, do: Do, row: Callable[[str], RunSummary | None]) -> None:
        self._do = do
        self._store = store.for_thread()
        self._launching = store.for_thread()
        self.door = EngineClient(store, ask, row)
        self._checks, self._plans, self._browsing, self._lists = (Debounced(do) for _ in range(4))

    def check(self, draft: RunDraft, then: Callable[[RunDraft, Checked], None], failed: OnError) -> None:
        """Check a draft."""
        self._checks.ask(lambda: check(draft, self._store), lambda checked: then(draft, checked), failed)

    def plan(self, checked: Checked, then: Callable[[Plan], None], failed: OnError, *, tested: bool) -> None:
        """Plan the runs; with ``tested`` the engine also runs the pre-flight checks, which takes seconds."""
        self._plans.ask(lambda: self.door.plan(checked.group, checks=tested), then, failed)

    def inspect(
        self, checkpoint: Path, options: Sequence[str], then: Callable[[Inspected], None], failed: OnError
    ) -> None:
        """Inspect a checkpoint."""
        self._do(lambda: self.door.inspect(checkpoint, options), then, failed=failed)

    def profiles(self, then: Callable[[list[ProfileFile]], None]) -> None:
        """List the available profiles."""
        self._do(listing, then, failed=None)

    def machine(self, then: Callable[[DeviceUse], None], failed: OnError) -> None:
        """Count the devices of this machine, which may call ``nvidia-smi``, and read their queue."""
        self._do(lambda: machine(capacity(), self._store.root), then, failed=failed)

    def teachers(self, rows: Sequence[RunSummary], then: Callable[[list[TeacherRow]], None], failed: OnError) -> None:
        """List the checkpoints of these runs that can be used as teachers."""
        self._lists.ask(lambda: teacher_rows(self._store, summaries=rows), then, failed)

    def browse(self, text: str, then: Callable[[list[FolderEntry]], None], failed: OnError) -> None:
        """List completions of a typed path."""
        self._browsing.ask(lambda: entries(text), then, failed)

    def launch(self, checked: Checked, then: Callable[[Launched], None], failed: OnError) -> None:
        """Launch the runs, one after the other; stop at the first failure."""

        def work() -> Launched:
            from kdtui.launch.groups import start_group
            from kdtui.launch.start import start

            done: list[Run] = []
            error: KdtuiError | None = None
            try:
                if checked.sampled is not None:
                    from kdtui.sweep.sampled.control import begin

                    begin(self._launching, checked.sampled, checked.trials, tags=checked.tags)
                elif checked.sweep is not None:
                    from kdtui.sweep.runs import launch

                    launch(self._launching, checked.sweep.spec, tags=checked.tags, on_start=done.append)
                elif len(checked.group.runs) == 1:  # which is no group
                    done.append(start(self._launching, checked.profiles[0], tags=checked.tags, origin=ORIGIN))
                else:
                    start_group(self._launching, checked.group, tags=checked.tags, origin=ORIGIN, on_start=done.append)
            except KdtuiError as failure:
                error = failure
            except OSError as failure:
                error = LaunchError.of(failure)
            return Launched(tuple(run.id for run in done), error)

        self._do(work, then, failed=failed)


class QueueRead(Message, bubble=False):
    """Posted when the queue of this machine changed."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        super().__init__()


class QueueSource:
    """The queue of this machine, as a source of the watch.

    Args:
        post: Posts a message.
    """

    period = 2.0

    def __init__(self, post: Callable[[Message], object]) -> None:
        self._post = post
        self._before: Queue | None = None

    def poll(self) -> Iterable[Message]:
        """See :class:`kdtui.tui.watch.Source`."""
        queue = read_queue()
        if queue.claims() != (None if self._before is None else self._before.claims()):
            self._before = queue
            self._post(QueueRead(queue))
        return ()
