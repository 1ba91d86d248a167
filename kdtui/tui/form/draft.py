"""What stands in the form, and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from kdtui.catalog import Cost
from kdtui.tui.form.costs import Shape

if TYPE_CHECKING:
    from kdtui.profile import Profile


@dataclass(frozen=True)
class Draft:
    """What stands in the form, as typed. An empty text leaves the profile's own value.

    Attributes:
        profile: Name or file; with neither this nor ``clone`` it is the recipe of the teacher's own run.
        clone: Id of a run whose resolved profile is taken instead.
        teacher: A run, a file, or ``-`` for none.
        seeds: One or several with commas; each makes a run.
        extra: ``KEY=VALUE`` texts for any other key.
    """

    profile: str = ""
    clone: str = ""
    teacher: str = ""
    encoder: str = ""
    decoder: str = ""
    temperature: str = ""
    alpha: str = ""
    epochs: str = ""
    batch_size: str = ""
    learning_rate: str = ""
    seeds: str = ""
    precision: str = ""
    accelerator: str = ""
    devices: str = ""
    name: str = ""
    tags: str = ""
    extra: str = ""

    @property
    def by_recipe(self) -> bool:
        """Whether the teacher's own run says what to train on, and how."""
        return not self.profile and not self.clone

    def text(self, name: str) -> str:
        """What was typed into a field, without the blanks around it."""
        return str(getattr(self, name)).strip()

    def stripped(self) -> Draft:
        """The same without blanks around the texts."""
        return Draft(**{each.name: self.text(each.name) for each in fields(self)})


@dataclass(frozen=True)
class Checked:
    """What a draft comes to.

    Attributes:
        profiles: Ready to start, one per seed; none while there are mistakes.
        tags: Tags of each run beside its profile's own.
        mistakes: Message by field; the empty name is for what no field can mend.
        commands: The command line that starts the same run, one per run; with mistakes, the one that is being typed.
        own: The profile's own values as texts, by field: what an empty text stands for.
        teacher: The checkpoint that teaches, typed or the profile's own.
        teacher_options: What else the profile says of it, as options of ``kdtui inspect``.
        distils: Whether the runs would have a teacher.
        shape: What the student's cost depends on beside its encoder; None while no profile can be read.
        cost: What the student costs; None where the catalog cannot tell.
    """

    profiles: tuple[Profile, ...] = ()
    tags: tuple[str, ...] = ()
    mistakes: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    own: Mapping[str, str] = field(default_factory=dict)
    teacher: Path | None = None
    teacher_options: tuple[str, ...] = ()
    distils: bool = False
    shape: Shape | None = None
    cost: Cost | None = None

    @property
    def ready(self) -> bool:
        """Whether there is something to start and nothing to mend."""
        return bool(self.profiles) and not self.mistakes
