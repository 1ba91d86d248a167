"""The command line that starts what the form would start."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdtui.tui.form.fields import FIELDS, Value, plain, setting

_SHORT = ("temperature", "alpha", "encoder", "epochs", "batch_size")
_LONG = ("decoder", "learning_rate", "precision", "accelerator", "devices")


@dataclass(frozen=True)
class Equivalent:
    """What a command line has to say: only what differs from the profile.

    Attributes:
        profile: Name or file; empty for ``kdtui distill`` by the recipe of the teacher's own run.
        teacher: As typed; empty for the profile's own, or none.
        values: Value by field; a text that is a mistake stays as it was typed.
        seeds: One per run; an empty one is the profile's own.
        sets: Any other ``key=value``.
        runs_dir: Where the runs are; empty for the usual place.
    """

    profile: str = ""
    teacher: str = ""
    values: Mapping[str, Value] = field(default_factory=dict)
    seeds: Sequence[str] = ("",)
    tags: Sequence[str] = ()
    sets: Sequence[str] = ()
    runs_dir: str = ""

    def commands(self) -> tuple[str, ...]:
        """One command per run, quoted for a shell."""
        return tuple(shlex.join(self._words(seed)) for seed in self.seeds)

    def _words(self, seed: str) -> Iterator[str]:
        """``--detach``, because a run started here is not followed in the foreground either."""
        yield "kdtui"
        if self.profile:
            yield from ("train", self.profile)
            if self.teacher:
                yield from ("--teacher-checkpoint", self.teacher)
        else:
            yield from ("distill", "--teacher", self.teacher or "CKPT|RUN")
            yield from ("--student", plain(self.values.get("encoder", "ENCODER")))
        for name in _SHORT:
            if name in self.values and (self.profile or name != "encoder"):
                yield from (FIELDS[name].flag, plain(self.values[name]))
        if seed:
            yield from ("--seed", seed)
        if "name" in self.values:
            yield from ("--name", plain(self.values["name"]))
        for tag in self.tags:
            yield from ("--tag", tag)
        for name in _LONG:
            if name in self.values:
                yield from ("--set", setting(name, self.values[name]))
        for text in self.sets:
            yield from ("--set", text)
        if self.runs_dir:
            yield from ("--runs-dir", self.runs_dir)
        yield "--detach"


def nearby(path: Path) -> str:
    """A path as it is typed here: below this folder without the folder."""
    here = Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)
