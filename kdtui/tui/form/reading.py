"""A draft is read: what is typed becomes profiles ready to start, mistakes, and a command.

The profiles are made by the functions that ``kdtui train`` and ``kdtui distill`` call, with the same texts, so the form
accepts what the command line accepts and the command beside it starts the same runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kdtui.catalog import Cost
from kdtui.errors import KdtuiError, ProfileError, UsageError
from kdtui.launch.teachers import TeacherChoice, find_teacher, prepare, recipe
from kdtui.profile.find import expanded
from kdtui.store.files import check_name
from kdtui.store.store import RunStore
from kdtui.tui.form.command import Equivalent, nearby
from kdtui.tui.form.costs import Shape, cost_of, shape_of
from kdtui.tui.form.defaults import looked_up, own_texts, teacher_options
from kdtui.tui.form.fields import (
    FIELDS,
    SETTINGS,
    Unreadable,
    Value,
    extra_of,
    plain,
    seeds_of,
    setting,
    tags_of,
    toml,
    value_of,
)

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


GENERAL = ""
"""The line of the form for what no field can mend."""
_SHARED = (GENERAL, "extra")
"""Places where several keys can be wrong."""

_OF_TABLES = {"training": "batch_size", "student": "encoder", "teacher": "teacher", "data": "profile"}


_SET = re.compile(r"--set ([A-Za-z_][\w.]*)=(\S+)")
_SET_KEY = re.compile(r"--set ([A-Za-z_][\w.]*)")
_OPTION = re.compile(r"(--[a-z][a-z-]*)(?: (?:[A-Z]+\b(?:\|[A-Z]+\b)*))?")
_COMMAND = re.compile(r"(?:^|[`\s])kdtui (?!doctor)[a-z]+")  # the cockpit has all others
_PARTS = re.compile(r";\s+|\s+·\s+")
_OPTIONS = {field.flag: field.label for field in FIELDS.values()} | {
    "--profile": "PROFILE",
    "--teacher": FIELDS["teacher"].label,
    "--student": FIELDS["encoder"].label,
    "--tags": FIELDS["tags"].label,
}
"""Options of the command line by what the form calls them; any other loses its dashes."""


def in_form(text: str) -> str:
    """A message or hint in the form's own words: its fields for options; commands that list what it lists are left out.

    What the engine and the launcher say is said for the command line as well.
    """
    parts = [part for part in _PARTS.split(" ".join(text.split())) if part and not _COMMAND.search(part)]
    words = "; ".join(parts)
    words = _SET.sub(lambda found: f"{_called(found[1])} {found[2]}", words)
    words = _SET_KEY.sub(lambda found: _called(found[1]), words)
    return _OPTION.sub(lambda found: _option(found[1]), words)


def _called(key: str) -> str:
    """A key of a profile as the form shows it: its field, else where any key can be typed."""
    name = field_of(key)
    return FIELDS[name].label if name in FIELDS else f"{FIELDS['extra'].label}: {key}"


def _option(flag: str) -> str:
    return _OPTIONS.get(flag) or flag.removeprefix("--").replace("-", " ")


def one_line(error: KdtuiError, typed: str = "") -> str:
    """A failure as one sentence after the other: what is wrong, what was found, what is allowed, what to do.

    Args:
        error: The failure.
        typed: What stands in the field. Under it that text is not repeated, nor the command that lists what the form
            lists beside it.
    """
    facts = [error.what]
    if error.found is not None and error.found != typed:
        facts.append(f"found {error.found}")
    if error.allowed is not None:
        facts.append(f"allowed: {error.allowed}")
    if error.hint is not None and not typed:
        facts.append(error.hint)
    return in_form("; ".join(facts))


def placed(error: KdtuiError, otherwise: str, typed: Mapping[str, str]) -> dict[str, str]:
    """The mistakes of a profile by field; any other failure under ``otherwise``.

    Args:
        error: What reading the profile raised.
        otherwise: The field of a failure that is no list of mistakes.
        typed: ``key=value`` texts that the form laid on top, and the field of each.
    """
    if not isinstance(error, ProfileError) or not error.mistakes:
        return {otherwise: one_line(error)}
    found: dict[str, str] = {}
    for mistake in error.mistakes:
        field, message = _parted(mistake, typed)
        if field in found and field in _SHARED:
            message = f"{found[field]}; {message}"
        elif field in found:
            continue
        found[field] = message
    return found


def _parted(mistake: str, typed: Mapping[str, str]) -> tuple[str, str]:
    """Field and message of ``key (origin): message``; key and origin stay where the field does not tell them."""
    key = mistake.partition(" (")[0]
    for text, name in typed.items():
        message = mistake.removeprefix(f"{key} (--set {text}): ")
        if message != mistake:
            return name, in_form(message if FIELDS[name].key else f"{key}: {message}")
        if mistake.startswith(f"--set {text!r}"):
            return name, in_form(mistake.removeprefix("--set "))
    if key in _OF_TABLES:  # values that are each right and disagree with one another
        return _OF_TABLES[key], in_form(mistake.partition("): ")[2] or mistake)
    return field_of(key), in_form(mistake)


def field_of(key: str) -> str:
    """The field that sets a key of the profile; the general line for a key without one."""
    bare = key.partition("[")[0]
    return next((field.name for field in FIELDS.values() if field.key == bare), GENERAL)


ALONE = "-"
"""Typed as the teacher: the student is trained alone."""
PLACES = (GENERAL, "profile", *FIELDS)
"""Where a mistake can stand, in the order of the form."""
_TEACHERLESS = f"choose a teacher, since this profile distils; or type {ALONE} to train the student alone"


def check(draft: Draft, store: RunStore) -> Checked:
    """Read a draft; nothing is started and nothing is raised for what a person can type.

    The first call imports pydantic, which takes a tenth of a second, and every call reads the profile's files: this is
    for a thread.
    """
    return _Reading(draft.stripped(), store).checked()


class _Reading:
    """One look at a draft: every step leaves its mistakes behind and the next goes on with what is right."""

    def __init__(self, draft: Draft, store: RunStore) -> None:
        self._draft = draft
        self._store = store
        self._mistakes: dict[str, str] = {}
        self._values: dict[str, Value] = {}
        self._alone = ["distillation.enabled=false"] if draft.teacher == ALONE else []
        self._extra: list[str] = []
        self._seeds: list[int | float | str] = []
        self._teacher: TeacherChoice | None = None
        self._base: str | None = None

    def checked(self) -> Checked:
        """All steps."""
        self._read_texts()
        self._find_teacher()
        self._find_base()
        own = self._own_profile()
        if own is not None:
            self._check_tags(own)
            self._check_teacher(own)
        profiles = self._profiles()
        shown = profiles[0] if profiles else own
        shape = None if shown is None else self._shape(shown)
        cost = None if shown is None or shape is None else self._cost(shown, shape)
        if profiles:
            self._check_name(profiles[0].name)
        own_teacher = shown.teacher.checkpoint if shown is not None and shown.distillation.enabled else None
        checkpoint = own_teacher if self._teacher is None else str(self._teacher.checkpoint)
        distils = not self._alone and (self._teacher is not None or (shown is not None and shown.distillation.enabled))
        return Checked(
            profiles=() if self._mistakes else tuple(profiles),
            tags=tags_of(self._draft.tags),
            mistakes={name: self._mistakes[name] for name in PLACES if name in self._mistakes},
            commands=self._twin(own).commands(),
            own={} if own is None else self._own_texts(own),
            teacher=None if checkpoint is None or not distils else expanded(checkpoint).absolute(),
            teacher_options=() if shown is None else teacher_options(shown),
            distils=distils,
            shape=shape,
            cost=cost,
        )

    def _read_texts(self) -> None:
        for name in SETTINGS:
            text = self._draft.text(name)
            try:
                if text:
                    self._values[name] = value_of(name, text)
            except Unreadable as error:
                self._mistakes[name] = str(error)
        try:
            self._seeds = seeds_of(self._draft.seeds) if self._draft.seeds else []
        except Unreadable as error:
            self._mistakes["seeds"] = str(error)
        try:
            self._extra = extra_of(self._draft.extra)
        except Unreadable as error:
            self._mistakes["extra"] = str(error)

    def _find_teacher(self) -> None:
        text = self._draft.teacher
        if self._draft.by_recipe and text in ("", ALONE):
            self._mistakes["teacher"] = "choose a run: its own recipe says what to train on; or choose a profile"
        elif text and text != ALONE:
            try:
                self._teacher = find_teacher(text, self._store)
            except KdtuiError as error:
                self._mistakes["teacher"] = one_line(error, text)
        if self._draft.by_recipe and not self._draft.encoder:
            self._mistakes["encoder"] = "choose the student's encoder"

    def _find_base(self) -> None:
        """What ``kdtui train`` is told: a profile's name or file."""
        if not self._draft.clone:
            self._base = self._draft.profile or None
            return
        try:
            self._base = nearby(self._store.find(self._draft.clone).profile_path)
        except KdtuiError as error:
            self._mistakes["profile"] = one_line(error, self._draft.clone)

    def _own_profile(self) -> Profile | None:
        """The profile without anything typed: what the empty fields stand for."""
        from kdtui.profile import load

        if self._base is not None:
            try:
                return load(self._base)
            except KdtuiError:  # said with the next reading, which has what may mend it
                return None
        if self._teacher is None or not self._draft.by_recipe:
            return None
        try:
            return recipe(self._teacher, self._draft.encoder or "student", [], named=False)
        except KdtuiError as error:
            self._mistakes |= placed(error, "teacher", {})
            return None

    def _profiles(self) -> list[Profile]:
        """One profile per seed, as far as they can be made."""
        if self._base is None and (self._teacher is None or not self._draft.encoder):
            return []
        found = []
        typed = {setting(name, value): name for name, value in self._values.items()}
        others = dict.fromkeys([*self._alone, *self._extra], "extra")
        seeds: list[int | float | str | None] = [*self._seeds] or [None]
        for seed in seeds:
            seeded = {} if seed is None else {setting("seeds", seed): "seeds"}
            texts = {**typed, **seeded, **others}  # in the order of the command line: the last of a key counts
            try:
                found.append(self._profile([*texts]))
            except KdtuiError as error:
                for name, message in self._placed(error, texts).items():
                    self._mistakes.setdefault(name, message)
        return found

    def _profile(self, sets: list[str]) -> Profile:
        if self._base is not None:
            return prepare(self._base, sets, self._teacher)
        assert self._teacher is not None
        return recipe(self._teacher, self._draft.encoder, sets, named="name" in self._values)

    def _placed(self, error: KdtuiError, texts: Mapping[str, str]) -> dict[str, str]:
        if error.where == "teacher.checkpoint":
            return {"teacher": _TEACHERLESS}
        return placed(error, "teacher" if self._base is None else "profile", texts)

    def _check_teacher(self, own: Profile) -> None:
        """Said beside whatever else is wrong; the reading of the whole would stop before it."""
        wanted = own.distillation.enabled and own.teacher.checkpoint is None
        switched = any(text.partition("=")[0].strip().startswith("distillation") for text in self._extra)
        if wanted and not self._draft.teacher and not switched:
            self._mistakes["teacher"] = _TEACHERLESS

    def _check_tags(self, own: Profile) -> None:
        from kdtui.profile import amend

        text = f"tags={toml(list(tags_of(self._draft.tags)))}"
        try:
            amend(own, [text])
        except KdtuiError as error:
            self._mistakes |= placed(error, "tags", {text: "tags"})

    def _check_name(self, name: str) -> None:
        try:
            check_name(name)
        except UsageError as error:
            self._mistakes.setdefault("name", one_line(error))

    def _own_texts(self, own: Profile) -> dict[str, str]:
        texts = own_texts(own)
        if self._draft.by_recipe:  # its student and its teacher are what is chosen here
            texts |= {"encoder": "", "teacher": ""}
        return texts

    def _shape(self, shown: Profile) -> Shape | None:
        """The shape with the typed decoder in it, even where something else keeps the profile from being made."""
        shape = shape_of(shown)
        widths = self._values.get("decoder")
        if shape is None or widths is None:
            return shape
        return replace(shape, decoder_channels=[int(w) for w in widths] if isinstance(widths, list) else int(widths))

    def _cost(self, shown: Profile, shape: Shape) -> Cost | None:
        encoder = str(self._values.get("encoder", shown.student.encoder))
        try:
            return cost_of(encoder, shape)
        except UsageError as error:
            if error.where == "student.decoder_channels":
                self._mistakes.setdefault("decoder", one_line(error))
            elif error.found == encoder:
                self._mistakes.setdefault("encoder", one_line(error, encoder))
            else:
                self._mistakes.setdefault(GENERAL, one_line(error))
            return None

    def _twin(self, own: Profile | None) -> Equivalent:
        table = {} if own is None else own.model_dump(mode="json")
        typed = {name: text for name in SETTINGS if (text := self._draft.text(name))}
        values = {name: self._values.get(name, text) for name, text in typed.items()}
        if self._base is not None:
            values = {name: value for name, value in values.items() if looked_up(table, name) != value}
        else:
            values = {n: v for n, v in values.items() if n == "encoder" or looked_up(table, n) != v}
        distils = own is None or own.distillation.enabled
        named = "" if self._draft.teacher == ALONE or self._is_own_teacher(own) else self._draft.teacher
        return Equivalent(
            profile=self._base or "",
            teacher=named,
            values=values,
            seeds=self._seeds_told(own),
            tags=tags_of(self._draft.tags),
            sets=[*(self._alone if distils else []), *self._extra],
            runs_dir="" if self._store.root == RunStore().root else str(self._store.root),
        )

    def _is_own_teacher(self, own: Profile | None) -> bool:
        if self._base is None or own is None or self._teacher is None or own.teacher.checkpoint is None:
            return False
        return own.distillation.enabled and expanded(own.teacher.checkpoint).absolute() == self._teacher.checkpoint

    def _seeds_told(self, own: Profile | None) -> list[str]:
        if "seeds" in self._mistakes and not self._seeds:
            return [self._draft.seeds]
        return [
            "" if own is not None and own.seed == seed and isinstance(seed, int) else plain(seed)
            for seed in self._seeds
        ] or [""]
