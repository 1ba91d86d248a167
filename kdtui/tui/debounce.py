"""Background work that is requested faster than it can be done: only the newest request is carried out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from kdtui.errors import KdtuiError

T = TypeVar("T")


class Do(Protocol):
    """Does work in a thread and passes on its result, like :meth:`kdtui.tui.cockpit.Cockpit.do`."""

    def __call__(
        self, work: Callable[[], Any], then: Callable[[Any], None], *, failed: Callable[[KdtuiError], None] | None
    ) -> None:
        """Do the work."""
        ...


class Debounced:
    """Does one piece of work at a time; of the requests during that time only the last is carried out.

    Args:
        do: Does work in a thread.
    """

    def __init__(self, do: Do) -> None:
        self._do = do
        self._busy = False
        self._next: Callable[[], None] | None = None

    def ask(self, work: Callable[[], T], then: Callable[[T], None], failed: Callable[[KdtuiError], None]) -> None:
        """Do ``work`` now, or after the current work; ``then`` or ``failed`` is called on the UI thread."""

        def begin() -> None:
            self._busy = True
            self._do(work, self._ended(then), failed=self._ended(failed))

        if self._busy:
            self._next = begin
        else:
            begin()

    def _ended(self, tell: Callable[[Any], None]) -> Callable[[Any], None]:
        def finish(result: Any) -> None:
            self._busy = False
            following, self._next = self._next, None
            if following is not None:
                following()
            tell(result)

        return finish
