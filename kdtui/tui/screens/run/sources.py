"""What the watch looks at for one run's screen; each finding is posted to that screen."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from textual.message import Message

from kdtui.errors import StoreError
from kdtui.store.files import TextTail
from kdtui.store.run import Run
from kdtui.tui.screens.run.files import Known, RunFiles, read_files

Post = Callable[[Message], object]
LOGS = ("training_log.txt", "worker.txt")


class FilesRead(Message, bubble=False):
    """The run's files say something else than before."""

    def __init__(self, files: RunFiles) -> None:
        self.files = files
        super().__init__()


class LogRead(Message, bubble=False):
    """A log gained text.

    Attributes:
        name: One of :data:`LOGS`.
        fresh: Whether what was read of it before is void.
        skipped: Bytes before the first that was read.
        trouble: Why it cannot be read; empty when it can.
    """

    def __init__(self, name: str, text: str, *, fresh: bool, skipped: int, trouble: str = "") -> None:
        self.name = name
        self.text = text
        self.fresh = fresh
        self.skipped = skipped
        self.trouble = trouble
        super().__init__()


class FilesSource:
    """The small files of a run and the sizes of the big ones.

    Args:
        run: The run.
        post: Takes what was found.
    """

    period = 2.0

    def __init__(self, run: Run, post: Post) -> None:
        self.known = Known()
        self._run, self._post = run, post
        self._before: RunFiles | None = None

    def look(self) -> Iterable[Message]:
        """See :class:`kdtui.tui.watch.Source`."""
        files = read_files(self._run, self.known)
        if files != self._before:
            self._before = files
            self._post(FilesRead(files))
        return ()


class LogsSource:
    """The two logs of a run.

    Args:
        run: The run.
        post: Takes what was found.
        period: Seconds between two looks.
    """

    def __init__(self, run: Run, post: Post, period: float) -> None:
        self.period = period
        self._post = post
        self._tails = dict(zip(LOGS, (TextTail(run.training_log), TextTail(run.worker_log)), strict=True))
        self._generations = dict.fromkeys(LOGS, 0)
        self._troubles = dict.fromkeys(LOGS, "")

    def look(self) -> Iterable[Message]:
        """See :class:`kdtui.tui.watch.Source`."""
        for name, tail in self._tails.items():
            text, trouble = "", ""
            try:
                text = tail.read()
            except StoreError as error:
                trouble = f"{error.what}: {error.found}"
            fresh = tail.generation != self._generations[name]
            if text or fresh or trouble != self._troubles[name]:
                self._generations[name], self._troubles[name] = tail.generation, trouble
                self._post(LogRead(name, text, fresh=fresh, skipped=tail.skipped, trouble=trouble))
        return ()
