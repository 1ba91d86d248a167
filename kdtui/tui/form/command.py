"""The command line that is equivalent to the form."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdtui.profile.settings import SETTINGS, Value, plain
from kdtui.sweep.file import SAMPLERS


@dataclass(frozen=True)
class Equivalent:
    """The contents of a command line: only what differs from the profile.

    Attributes:
        profile: Name or file; empty for ``kdtui distill``, which uses the recipe of the teacher's own run.
        teacher: As typed; empty for the profile's own teacher, or none.
        student: Student for ``kdtui distill``: an encoder, or a kind of network.
        method: Method of distillation; empty for the profile's own terms.
        values: Value by field; an invalid text stays as typed.
        seeds: A list of seeds; empty for the profile's own seed.
        baseline: Whether the matched baselines are trained, too.
        equal_time: ``student`` or ``total`` for baselines with equal time; empty for none.
        sets: Other ``key=value`` settings.
        runs_dir: Folder of the run store; empty for the default.
        sweep: Whether a key has several values or a range.
        sampled: Whether values are drawn from ranges and lists.
        trials: How many trials, as typed or of the existing sweep; empty for the default of the command.
        prune: Whether worse trials are stopped.
    """

    profile: str = ""
    teacher: str = ""
    student: str = ""
    method: str = ""
    values: Mapping[str, Value] = field(default_factory=dict)
    seeds: str = ""
    baseline: bool = False
    equal_time: str = ""
    tags: Sequence[str] = ()
    sets: Sequence[str] = ()
    runs_dir: str = ""
    sweep: bool = False
    sampled: bool = False
    trials: str = ""
    prune: bool = False

    def command(self) -> str:
        """The command, quoted for a shell."""
        return shlex.join(self._words())

    def _words(self) -> Iterator[str]:
        """The words of the command, with ``--detach``, as a run started by the form is detached, too."""
        yield "kdtui"
        if self.profile:
            yield from ("sweep" if self.sweep else "train", self.profile)
            if self.teacher:
                yield from (SETTINGS["teacher"].flags[0], self.teacher)
        else:
            yield from ("distill", "--teacher", self.teacher or "CKPT|RUN")
            yield from ("--student", self.student or "ENCODER")
        if self.method:
            yield from ("--method", self.method)
        long = []
        for name, setting in SETTINGS.items():
            if name in self.values and not setting.flags:
                long += ["--set", setting.assignment(self.values[name])]
            elif name in self.values and (self.profile or name != "encoder"):
                yield from (setting.flags[0], plain(self.values[name]))
        if self.seeds:
            single = self.seeds.isdecimal() and not self.sweep
            yield from (SETTINGS["seeds"].flags[0] if single else "--seeds", self.seeds)
        if self.baseline:
            yield SETTINGS["baseline"].flags[0]
        if self.equal_time:
            yield from (SETTINGS["equal_time"].flags[0], self.equal_time)
        if self.sampled:
            yield from ("--sampler", SAMPLERS[0])
        if self.trials:
            yield from (SETTINGS["trials"].flags[0], self.trials)
        if self.prune:
            yield SETTINGS["prune"].flags[0]
        for tag in self.tags:
            yield from (SETTINGS["tags"].flags[0], tag)
        yield from long
        for text in self.sets:
            yield from ("--set", text)
        if self.runs_dir:
            yield from ("--runs-dir", self.runs_dir)
        yield "--detach"


def nearby(path: Path) -> str:
    """A path relative to the working directory if it is below it."""
    here = Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)
