"""A draft is read: what is typed becomes profiles ready to start, mistakes, and a command.

The profiles are made by the functions that ``kdtui train`` and ``kdtui distill`` call, with the same texts, so the form
accepts what the command line accepts and the command beside it starts the same runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from kdtui.catalog import Cost
from kdtui.errors import KdtuiError, UsageError
from kdtui.launch.teachers import TeacherChoice, find_teacher, prepare, recipe
from kdtui.profile.find import expanded
from kdtui.store.files import check_name
from kdtui.store.store import RunStore
from kdtui.tui.form.command import Twin, nearby
from kdtui.tui.form.costs import Shape, cost_of, shape_of
from kdtui.tui.form.draft import Checked, Draft
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
from kdtui.tui.form.mistakes import GENERAL, one_line, placed
from kdtui.tui.form.own import looked_up, own_texts, teacher_options

if TYPE_CHECKING:
    from kdtui.profile import Profile

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

    def _twin(self, own: Profile | None) -> Twin:
        table = {} if own is None else own.model_dump(mode="json")
        typed = {name: text for name in SETTINGS if (text := self._draft.text(name))}
        values = {name: self._values.get(name, text) for name, text in typed.items()}
        if self._base is not None:
            values = {name: value for name, value in values.items() if looked_up(table, name) != value}
        else:
            values = {n: v for n, v in values.items() if n == "encoder" or looked_up(table, n) != v}
        distils = own is None or own.distillation.enabled
        named = "" if self._draft.teacher == ALONE or self._is_own_teacher(own) else self._draft.teacher
        return Twin(
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
