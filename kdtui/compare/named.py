"""Short, distinct names for runs that are shown together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

_ID = re.compile(r"\d{4}(?P<month>\d\d)(?P<day>\d\d)-(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)-(?P<rest>.+)")

_LETTERS = 5  # maximum number of letters before a text


class Named(Protocol):
    """The attributes of a run that its short name depends on."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def seed(self) -> int | None: ...  # noqa: D102
    @property
    def method(self) -> str | None: ...  # noqa: D102


class _Stamp(NamedTuple):
    """The parts of an id except the name: day, time, and the counter within one second."""

    day: str
    minute: str
    second: str
    number: str


def called(runs: Iterable[Named]) -> dict[str, str]:
    """A short name for each run that is distinct among them, by id, in the order of ``runs``.

    The name alone if it is distinct; otherwise with seed, method, or both, whichever is distinct for most runs:
    ``b0 s1``, ``b0 cwd``, ``b0 cwd s1``. Runs that have these in common have the differing part of their ids:
    ``b0 14:30``, ``b0 08-21``; as a last resort the full id. If a name has to be truncated, it is
    truncated before its :func:`mark`.
    """
    runs = list(runs)
    groups: dict[str, list[Named]] = {}
    for run in runs:
        groups.setdefault(run.name, []).append(run)
    names: dict[str, str] = {}
    for name, group in groups.items():
        if len(group) == 1:
            names[group[0].id] = name
            continue
        settings = _settings(group)
        rest = [run for run in group if run.id not in settings]
        names |= {run_id: f"{name} {text}" for run_id, text in settings.items()}
        names |= {run.id: f"{name} {part}" if part else run.id for run, part in zip(rest, _parts(rest), strict=True)}
    # A name in a manifest may look like one of these, or like an id.
    while twice := [name for name, times in Counter(names.values()).items() if times > 1]:
        names = {run_id: run_id if name in twice else name for run_id, name in names.items()}
    return {run.id: names[run.id] for run in runs}


def called_as(run: Named) -> tuple[str, int | None, str | None]:
    """The settings that the short name of a run depends on."""
    return run.name, run.seed, run.method


def _settings(runs: Sequence[Named]) -> dict[str, str]:
    """Seed, method, or both of the runs for which they are distinct, by id."""
    seeds = ["" if run.seed is None else f"s{run.seed}" for run in runs]
    methods = [run.method or "" for run in runs]
    both = [f"{method} {seed}".strip() for method, seed in zip(methods, seeds, strict=True)]
    choices = []
    for texts in (seeds, methods, both):
        often = Counter(texts)
        choices.append({run.id: text for run, text in zip(runs, texts, strict=True) if text and often[text] == 1})
    return max(choices, key=len)  # of equally many the first


def mark(short: str, name: str) -> str:
    """The suffix of a short name that distinguishes it from others; empty for a plain name and for an id."""
    return short.removeprefix(name) if short.startswith(f"{name} ") else ""


def lettered(text: str, runs: Sequence[str], letters: Mapping[str, str]) -> str:
    """A text about runs, after their letters; only the first few of many.

    Args:
        text: The text.
        runs: Ids of the runs.
        letters: Letter of each run; runs without one are left out.
    """
    own = [letters[run_id] for run_id in runs if run_id in letters]
    shown = "".join(own[:_LETTERS]) + ("…" if len(own) > _LETTERS else "")
    return f"{shown} {text}" if shown else text


def _parts(runs: Sequence[Named]) -> list[str]:
    """The shortest part of the ids that is distinct in all of them; empty strings if there is none."""
    stamps = [stamp for run in runs if (stamp := _stamp(run)) is not None]
    if not stamps or len(stamps) < len(runs):
        return [""] * len(runs)
    days = [stamp.day for stamp in stamps]
    seconds = [f"{stamp.day} {stamp.second}" for stamp in stamps]
    counts = [f"#{stamp.number}" for stamp in stamps]
    if len(set(seconds)) == 1:
        choices = [counts]
    elif len(set(days)) == 1:
        choices = [[stamp.minute for stamp in stamps], [stamp.second for stamp in stamps]]
    else:
        choices = [days, [f"{stamp.day} {stamp.minute}" for stamp in stamps], seconds]
    # The counter restarts every second.
    choices.append([" ".join(both) for both in zip(choices[-1], counts, strict=True)])
    return next((texts for texts in choices if len(set(texts)) == len(runs)), [""] * len(runs))


def _stamp(run: Named) -> _Stamp | None:
    match = _ID.fullmatch(run.id)
    if match is None:
        return None
    count = match["rest"].removeprefix(run.name).removeprefix("-")
    minute = f"{match['hour']}:{match['minute']}"
    day = f"{match['month']}-{match['day']}"
    return _Stamp(day, minute, f"{minute}:{match['second']}", count if count.isdecimal() else "1")
