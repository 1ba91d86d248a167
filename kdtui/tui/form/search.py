"""The form of a search, without widgets: its texts, and what they mean.

The texts are read by the functions of ``kdtui search``, so the form accepts what the command line accepts, and the
displayed command starts the same search.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kdtui.errors import KdtuiError, ProfileError, UsageError
from kdtui.profile.settings import each_key_once
from kdtui.store.store import RunStore
from kdtui.sweep.search.options import OPTIONS, SearchRequest
from kdtui.tui.form.fields import Unreadable, split_sets
from kdtui.tui.form.mistakes import error_text, in_form

if TYPE_CHECKING:
    from kdtui.sweep.search.screening import Screened
    from kdtui.sweep.search.spec import SearchSpec

SETS = "set"
"""The field for other keys of the profile."""
FIELDS: Mapping[str, str] = {
    **{name: option.title for name, option in OPTIONS.items()},
    SETS: "other keys",
}
"""The fields with their labels."""
_HELP = {SETS: "KEY=VALUE of the profile, as in training.epochs=5; several with spaces between them"}
_LABELS = {f"--{name}": label for name, label in FIELDS.items()}


@dataclass(frozen=True)
class SearchDraft:
    """The texts of the form, as typed, by field; those that are missing are empty."""

    texts: Mapping[str, str] = field(default_factory=dict)

    def edited(self, **texts: str) -> SearchDraft:
        """A copy with other texts."""
        return SearchDraft({name: text for name, text in {**self.texts, **texts}.items() if text})

    def text(self, name: str) -> str:
        """Text of a field, without surrounding spaces."""
        return self.texts.get(name, "").strip()

    def request(self) -> SearchRequest:
        """The request.

        Raises:
            Unreadable: The field for other keys cannot be split.
        """
        texts = {name: self.text(name) for name in OPTIONS if self.text(name)}
        return SearchRequest(texts, tuple(split_sets(self.text(SETS))))


@dataclass(frozen=True)
class CheckedSearch:
    """The result of checking a draft.

    Attributes:
        spec: The search; None if there are mistakes or missing texts.
        candidates: Its candidates, with what is known of their costs without an engine.
        teacher: Checkpoint of the teacher; None if there is none.
        mistakes: Messages by field.
        missing: Fields that need a text and have none.
        command: The equivalent command line.
    """

    spec: SearchSpec | None = None
    candidates: tuple[Screened, ...] = ()
    teacher: Path | None = None
    mistakes: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    command: str = ""


def check(draft: SearchDraft, store: RunStore) -> CheckedSearch:
    """Check a draft; nothing is started, and mistakes are returned, not raised.

    Call it in a thread: the first call imports pydantic, and every call reads files.
    """
    from kdtui.sweep.search.request import known, read

    mistakes: dict[str, str] = {}
    try:
        request = draft.request()
        each_key_once(list(request.sets))
    except (Unreadable, UsageError) as error:
        mistakes[SETS] = rephrased(error.brief if isinstance(error, UsageError) else str(error))
        request = draft.edited(**{SETS: ""}).request()
    found = read(request, store)
    mistakes = {**{name: _message(error, draft.text(name)) for name, error in found.mistakes.items()}, **mistakes}
    spec = None if mistakes else found.spec
    folder = [] if store.root == RunStore().root else ["--runs-dir", str(store.root)]
    return CheckedSearch(
        spec=spec,
        candidates=() if spec is None else known(spec, store.root),
        teacher=None if found.teacher is None else found.teacher.checkpoint,
        mistakes=mistakes,
        missing=found.missing,
        command=shlex.join(request.words([*folder, "--detach"])),
    )


def _message(error: KdtuiError, typed: str) -> str:
    if isinstance(error, ProfileError) and error.mistakes:
        return rephrased("; ".join(error.mistakes))
    return error_text(error, typed, _LABELS) if error.hint is None else error_text(error, labels=_LABELS)


def rephrased(text: str) -> str:
    """A message or hint of the command line, phrased for this form."""
    return in_form(text, _LABELS)


def about(name: str) -> str:
    """What a field sets, and what an empty text stands for."""
    if name not in OPTIONS:
        return f"{FIELDS[name]}: {_HELP[name]}"
    option = OPTIONS[name]
    own = f"; empty: {option.default}" if option.default and "efault" not in option.help else ""
    return f"{FIELDS[name]}: {rephrased(option.help).rstrip('.')}{own}"
