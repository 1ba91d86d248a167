"""The exceptions that kdtui raises on purpose.

::

    KdtuiError
    ├── UsageError               exit 2   the command line or a user's file is wrong
    │   ├── ProfileError                  all errors of a profile at once
    │   ├── FilterError                   a `runs --filter` expression that is not valid
    │   ├── RunNotFound                   no run matches that name
    │   └── AmbiguousRun                  several runs match
    ├── StoreError               exit 3   a run folder that cannot be read or written
    ├── LaunchError              exit 3   a process that could not be started or reached
    ├── EngineError              exit 4   the work itself failed
    │   ├── DataError                     images, masks or annotations
    │   │   └── NoSplit                   a split that the data do not have
    │   ├── ModelError                    architecture, encoder, weights
    │   ├── CheckpointError               a file that is no usable checkpoint
    │   │   └── TeacherError              a teacher that does not fit the run
    │   ├── PrecisionError                a precision the device cannot do
    │   ├── ExportError                   a failed export, or a file whose outputs differ from the network's
    │   └── DivergedError                 the loss is no longer finite
    └── Interrupted              exit 130 the user interrupted the command

An error has five parts, each on its own line if present: what is wrong, where, what was found, what is
allowed, and the next command (``hint``). The command line and the cockpit print :attr:`KdtuiError.message` and
:attr:`KdtuiError.hint`; the engine writes both into its ``failed`` event.

A hint contains complete commands, or options of every command in which the error can occur. ``--set KEY=VALUE`` may be
used in any hint: commands without that option show it as an entry of the profile, see :func:`hint_for_profiles`.
"""

from __future__ import annotations

import re
from typing import ClassVar, Self

_SETTING = re.compile(
    r"(kdtui [^`;]*)"  # not within a whole command
    r"|--set (?:'([^']+)'|([^\s'=]+=(?:\[[^]]*\]|\{[^}]*\}|[^\s;,`]+)))"
)


_LONGEST = 1500


def _bounded(text: str) -> str:
    """Shorten input of any length to its beginning and end, for a message."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 300]} … {text[-200:]}"


class KdtuiError(Exception):
    """An error with everything that a user needs to fix it.

    Args:
        what: What is wrong, in one sentence.
        where: The file, key or option with the error.
        found: The invalid value.
        allowed: The accepted values.
        hint: The next command or action.
    """

    exit_code: ClassVar[int] = 4

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        found: object = None,
        allowed: object = None,
        hint: str | None = None,
    ) -> None:
        self.what = _bounded(what)
        self.where = None if where is None else _bounded(str(where))
        self.found = None if found is None else _bounded(str(found))
        self.allowed = None if allowed is None else _bounded(str(allowed))
        self.hint = hint and _bounded(hint)
        super().__init__(what)

    @property
    def message(self) -> str:
        """The error without its hint, one part per line."""
        facts = (("where", self.where), ("found", self.found), ("allowed", self.allowed))
        return "\n".join([self.what, *(f"  {label}: {value}" for label, value in facts if value is not None)])

    @property
    def brief(self) -> str:
        """What is wrong and what was found, in one line."""
        return " ".join((self.what if self.found is None else f"{self.what}: {self.found}").split())

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  next: {self.hint}"


def hint_for_profiles(hint: str) -> str:
    """Adapt a hint to a command without ``--set``: show the settings as entries of the profile."""
    entries = _SETTING.sub(lambda match: match[1] or f"{match[2] or match[3]} in the profile", hint)
    return re.sub(r" in the profile (?=[\w.]+=)", " and ", entries)


class UsageError(KdtuiError):
    """The command line or a user's file is wrong."""

    exit_code = 2


class ProfileError(UsageError):
    """A profile with one or more errors; ``mistakes`` has one line for each."""

    def __init__(self, what: str, *, mistakes: tuple[str, ...] = (), where: object = None, hint: str | None = None):
        super().__init__(what, where=where, hint=hint)
        self.mistakes = tuple(_bounded(mistake) for mistake in mistakes)

    @property
    def message(self) -> str:
        """The error, followed by one line for each mistake."""
        return "\n".join([super().message, *(f"  - {mistake}" for mistake in self.mistakes)])


class FilterError(UsageError):
    """A filter expression that is not valid."""


class RunNotFound(UsageError):
    """No run matches that id, name or prefix."""


class AmbiguousRun(UsageError):
    """Several runs match that name or prefix."""


class StoreError(KdtuiError):
    """A run folder that cannot be read or written."""

    exit_code = 3


class LaunchError(KdtuiError):
    """A process that could not be started, reached or ended."""

    exit_code = 3

    @classmethod
    def of(cls, error: OSError) -> Self:
        """Convert an operating system error."""
        return cls(error.strerror or str(error), where=error.filename)


class EngineError(KdtuiError):
    """The engine's work failed."""


class DataError(EngineError):
    """Images, masks, annotations or class lists that cannot be used."""


class NoSplit(DataError):
    """The data do not have this split."""


class ModelError(EngineError):
    """An architecture, encoder or set of weights that cannot be built."""


class CheckpointError(EngineError):
    """A file that is not a usable checkpoint."""


class TeacherError(CheckpointError):
    """A teacher that does not fit the run."""


class PrecisionError(EngineError):
    """A precision that the device does not support."""


class ExportError(EngineError):
    """A network that could not be exported, or an exported file whose outputs differ from the network's."""


class DivergedError(EngineError):
    """The loss is no longer a finite number."""


class Interrupted(KdtuiError):
    """The user interrupted the command."""

    exit_code = 130
