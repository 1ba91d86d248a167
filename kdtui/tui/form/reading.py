"""Converts a draft of the form to profiles, error messages and the equivalent commands.

The profiles are made by the functions of ``kdtui train`` and ``kdtui distill`` from the same texts, so the form accepts
what the command line accepts, and the displayed command starts the same runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from kdtui.catalog import NetworkCost
from kdtui.errors import KdtuiError, LaunchError, ProfileError, UsageError
from kdtui.launch.equal_time import EqualTime
from kdtui.launch.groups import Group, plan_group
from kdtui.launch.references import linked
from kdtui.launch.teachers import TeacherChoice, find_teacher, prepare, recipe
from kdtui.profile.find import OF_RUN, expanded
from kdtui.profile.seeds import read_seeds
from kdtui.profile.settings import LISTED, SETTINGS, Setting, Value, split_list
from kdtui.store.files import check_name
from kdtui.store.store import RunStore
from kdtui.sweep.ranges import is_range, low_end
from kdtui.sweep.search.budget import read_trials
from kdtui.tui.form.command import Equivalent, nearby
from kdtui.tui.form.costs import Shape, cost_of, shape_of
from kdtui.tui.form.defaults import looked_up, own_texts, own_values, teacher_options
from kdtui.tui.form.draft import ALONE, RunDraft
from kdtui.tui.form.fields import SINGLE, Unreadable, extra_of, tags_of, value_of
from kdtui.tui.form.mistakes import GENERAL, error_text, placed
from kdtui.tui.form.tables import SMP, DraftTables, ShownTable

if TYPE_CHECKING:
    from kdtui.profile import Profile
    from kdtui.profile.methods import Method
    from kdtui.profile.table_fields import TableKind
    from kdtui.sweep.runs import SweepRuns
    from kdtui.sweep.sampled.spec import SampledSpec

T = TypeVar("T")

_NO_RUNS = Group(())


@dataclass(frozen=True)
class Checked:
    """The result of checking a draft.

    Attributes:
        group: The runs, those to start and the baselines that are reused; none if there are mistakes.
        tags: Tags added to those of the profile.
        mistakes: Messages by field; those that belong to no field have an empty name.
        command: The equivalent command line; if there are mistakes, for the texts as typed.
        own: The profile's own values as texts, by field: what an empty text stands for.
        teacher: Checkpoint of the teacher, typed or from the profile; None if its run has to finish first.
        further_teachers: Number of teachers of the profile beside the first one.
        teacher_options: Settings of the teacher in the profile, as options of ``kdtui inspect``.
        distils: Whether the runs would have a teacher.
        shape: What the cost of the student depends on, apart from its encoder; None if no profile can be read.
        cost: Cost of the student; None if it is not in the catalog.
        tables: The tables with generated fields.
        kinds: Registered kinds by table or list.
        methods: Methods of distillation that can be chosen.
        method: Name of the one with these terms; empty if none has.
        sweep: The sweep of several values of a key; None if every key has one value.
        sampled: The sampled sweep of a key with a range; the runs of ``group`` are examples of its trials.
        trials: How many trials it has.
        several: Whether a key has several values or a range.
    """

    group: Group = _NO_RUNS
    tags: tuple[str, ...] = ()
    mistakes: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    own: Mapping[str, str] = field(default_factory=dict)
    teacher: Path | None = None
    further_teachers: int = 0
    teacher_options: tuple[str, ...] = ()
    distils: bool = False
    shape: Shape | None = None
    cost: NetworkCost | None = None
    tables: tuple[ShownTable, ...] = ()
    kinds: Mapping[str, tuple[TableKind, ...]] = field(default_factory=dict)
    methods: tuple[Method, ...] = ()
    method: str = ""
    sweep: SweepRuns | None = None
    sampled: SampledSpec | None = None
    trials: int = 0
    several: bool = False

    def setting(self, name: str) -> Setting | None:
        """The declaration of a field; None for places without one."""
        fields = (one for table in self.tables for one in table.fields)
        return SETTINGS.get(name) or next((one for one in fields if one.name == name), None)

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """The profiles of the runs to start."""
        return tuple(run.profile for run in self.group.new)

    @property
    def ready(self) -> bool:
        """Whether there is something to start and no mistake."""
        return bool(self.profiles) and not self.mistakes


PLACES = (GENERAL, "profile", "method", *SETTINGS)
"""All places of messages, in the order of the form."""
_TEACHERLESS = f"choose a teacher, or type {ALONE} to train without one"


def check(draft: RunDraft, store: RunStore) -> Checked:
    """Check a draft; nothing is started, and mistakes are returned, not raised.

    Call it in a thread: the first call imports pydantic, which takes 0.1 s, and every call reads the files of the
    profile.
    """
    return _Reading(draft.stripped(), store).checked()


class _Reading:
    """One check of a draft: each step records its mistakes, and the next one continues with what is valid."""

    def __init__(self, draft: RunDraft, store: RunStore) -> None:
        self._draft = draft
        self._store = store
        self._mistakes: dict[str, str] = {}
        self._values: dict[str, Value] = {}
        self._alone = ["distillation.enabled=false"] if draft.teacher == ALONE else []
        self._typed_extra: list[str] = []
        self._extra: list[str] = []  # with the first of several values
        self._lists: dict[str, str] = {}  # texts with several values, by field
        self._ranges = False  # whether one of them is a range
        self._sweep: SweepRuns | None = None
        self._sampled: SampledSpec | None = None
        self._trials = 0
        self._wanted_trials: int | None = None
        self._seeds: tuple[int, ...] = ()
        self._teacher: TeacherChoice | None = None
        self._base: str | None = None
        self._methods: tuple[Method, ...] = ()
        self._method: tuple[str, ...] = ()
        self._tables = DraftTables({}, None, by_recipe=False)

    def checked(self) -> Checked:
        """Run all steps."""
        self._read_texts()
        self._find_teacher()
        self._find_base()
        self._find_method()
        own = self._own_profile()
        self._tables = DraftTables(self._draft.generated, own, by_recipe=self._draft.by_recipe)
        self._check_tables()
        if own is not None:
            self._check_tags(own)
            self._check_teacher(own)
        profile = self._profile()
        group = _NO_RUNS if profile is None else self._group(profile)
        shown = profile or own
        shape = None if shown is None else self._shape(shown)
        cost = None if shown is None or shape is None else self._cost(shown, shape)
        if profile is not None:
            self._check_name(profile.name)
        own_teacher = shown.teacher.checkpoint if shown is not None and shown.distillation.enabled else None
        checkpoint = own_teacher if self._teacher is None else str(self._teacher.checkpoint)
        trained = checkpoint is not None and not checkpoint.startswith(OF_RUN)
        distils = not self._alone and (self._teacher is not None or (shown is not None and shown.distillation.enabled))
        return Checked(
            group=_NO_RUNS if self._mistakes else group,
            tags=tags_of(self._draft.tags),
            mistakes={
                name: self._mistakes[name]
                for name in dict.fromkeys([*PLACES, *self._mistakes])
                if name in self._mistakes
            },
            command=self._twin(own).command(),
            own={} if own is None else self._own_texts(own) | self._tables.own,
            teacher=expanded(checkpoint).absolute() if checkpoint is not None and trained and distils else None,
            further_teachers=0 if shown is None else len(shown.teacher.members) - 1,
            teacher_options=() if shown is None else teacher_options(shown),
            distils=distils,
            shape=shape,
            cost=cost,
            tables=self._tables.shown,
            kinds=self._tables.kinds,
            methods=self._methods,
            method=next((one.name for one in self._methods if one.terms and self._tables.is_method(one.terms)), ""),
            sweep=self._sweep,
            sampled=self._sampled,
            trials=self._trials,
            several=bool(self._lists),
        )

    def _read_texts(self) -> None:
        for setting in SINGLE:
            text = self._draft.text(setting.name)
            if setting.name in (*LISTED, "encoder") and len(parts := split_list(text)) > 1:
                self._lists[setting.name] = ",".join(parts)
                text = parts[0]
            elif setting.name in LISTED and is_range(text):
                self._lists[setting.name], self._ranges = text, True
                text = low_end(text)
            try:
                if text:
                    self._values[setting.name] = value_of(setting, text)
            except Unreadable as error:
                self._mistakes[setting.name] = str(error)
        try:
            self._seeds = read_seeds(self._draft.seeds) if self._draft.seeds else ()
        except UsageError as error:
            self._mistakes["seeds"] = error_text(error, self._draft.seeds)
        try:
            self._typed_extra = extra_of(self._draft.extra)
            self._extra = [self._first_value(part) for part in self._typed_extra]
        except Unreadable as error:
            self._mistakes["extra"] = str(error)
        self._wanted_trials = self._read_trials()

    def _first_value(self, part: str) -> str:
        """A ``KEY=VALUE`` text with the first of several values."""
        key, _, value = part.partition("=")
        values = split_list(value)
        if is_range(value):
            self._lists["extra"], self._ranges = part, True
            return f"{key}={low_end(value)}"
        if len(values) > 1:
            self._lists["extra"] = part
        return f"{key}={values[0]}"

    def _find_teacher(self) -> None:
        text = self._draft.teacher
        if self._draft.by_recipe and text in ("", ALONE):
            self._mistakes["teacher"] = "choose a run, to use its recipe, or choose a profile"
        elif text and text != ALONE:
            try:
                self._teacher = find_teacher(text, self._store)
            except KdtuiError as error:
                self._mistakes["teacher"] = error_text(error, text)

    def _check_tables(self) -> None:
        """Drop what does not exist with the chosen kinds, and report what is missing or typed twice."""
        inapplicable = [name for name in SETTINGS if not self._tables.applies(SETTINGS[name].key)]
        for name in inapplicable:
            self._values.pop(name, None)
            self._mistakes.pop(name, None)
        if self._draft.by_recipe and not self._student:
            self._mistakes["encoder"] = "choose the student's encoder"
        for key in (part.partition("=")[0].strip() for part in self._extra):
            if self._tables.conflicts(key):
                self._mistakes["extra"] = f"{key} is set in its own field"

    @property
    def _student(self) -> str:
        """The student of a recipe: its encoder, or the kind of a network without one."""
        return self._draft.encoder if self._tables.network == SMP else self._tables.network

    def _find_base(self) -> None:
        """Set the base for ``kdtui train``: the name or file of a profile."""
        if not self._draft.clone:
            self._base = self._draft.profile or None
            return
        try:
            self._base = nearby(self._store.find(self._draft.clone).profile_path)
        except KdtuiError as error:
            self._mistakes["profile"] = error_text(error, self._draft.clone)

    def _find_method(self) -> None:
        """Set the settings of the chosen method."""
        from kdtui.profile.methods import find_method, methods

        self._methods = tuple(methods())
        if self._draft.method:
            try:
                self._method = tuple(find_method(self._draft.method).sets())
            except UsageError as error:
                self._mistakes["method"] = error_text(error, self._draft.method)

    def _own_profile(self) -> Profile | None:
        """The profile without typed values: the defaults of the empty fields."""
        for sets in dict.fromkeys([self._method, ()]):  # without the method if it is not valid
            try:
                return self._own(sets)
            except KdtuiError as error:
                failure = error
        if self._base is None:  # otherwise reported by the next reading, which includes the typed values
            self._mistakes |= placed(failure, "teacher", {})
        return None

    def _own(self, sets: Sequence[str]) -> Profile | None:
        from kdtui.profile import load

        if self._base is not None:
            return load(self._base, sets)
        if self._teacher is None or not self._draft.by_recipe:
            return None
        return recipe(self._teacher, self._draft.encoder or "student", sets, named=False)

    def _profile(self) -> Profile | None:
        """The profile of the runs, if it is valid."""
        if self._base is None and (self._teacher is None or not self._student):
            return None
        typed = {SETTINGS[name].assignment(value): name for name, value in self._values.items()}
        others = {**dict.fromkeys(self._alone, "teacher"), **dict.fromkeys(self._extra, "extra")}
        method = dict.fromkeys(self._method, "method")
        # In the order of the command line: the last value of a key counts.
        texts = {**method, **typed, **self._tables.sets(), **others}
        try:
            if self._base is not None:
                profile = prepare(self._base, [*texts], self._teacher)
            else:
                assert self._teacher is not None
                profile = recipe(self._teacher, self._student, [*texts], named="name" in self._values)
            return linked([profile], self._store)[0]
        except KdtuiError as error:
            for name, message in self._placed(error, texts).items():
                self._mistakes.setdefault(name, message)
            return None

    def _group(self, profile: Profile) -> Group:
        """The runs of the profile, with its baselines; those of the sweep if a key has several values."""
        if self._samples:
            return self._sampled_group()
        if self._lists:
            self._sweep = self._swept()
            return _NO_RUNS if self._sweep is None else self._sweep.to_check
        baseline = bool(self._draft.baseline)
        equal_time = next((mode for mode in get_args(EqualTime) if mode == self._draft.equal_time), None)
        try:
            group = plan_group(self._store, [profile], seeds=self._seeds, with_baseline=baseline, equal_time=equal_time)
        except UsageError as error:
            field = "equal_time" if str(error.where).startswith("--equal-time") else "baseline"
            self._mistakes[field] = error_text(error)
            return _NO_RUNS
        if not group.new:
            self._mistakes["equal_time"] = f"all runs exist already: {', '.join(row.id for row in group.reused)}"
        return group

    @property
    def _samples(self) -> bool:
        """Whether values are drawn: from a range, or from lists if there is a number of trials."""
        return self._ranges or (bool(self._lists) and bool(self._draft.trials or self._draft.prune))

    def _read_trials(self) -> int | None:
        """The typed number of trials; None for that of the sweep or the default."""
        text = self._draft.trials
        if (text or self._draft.prune) and not self._lists:
            field = "trials" if text else "prune"
            self._mistakes[field] = "needs several values of a key, as in 1,2,4, or a range, as in 1..8"
        try:
            return read_trials(text) if text else None
        except UsageError as error:
            self._mistakes["trials"] = error_text(error, text)
            return None

    def _sampled_group(self) -> Group:
        """Examples of the trials of the sampled sweep; no runs if it is not valid."""
        from kdtui.sweep.sampled.optional import check_installed
        from kdtui.sweep.sampled.spec import check_trials, make_sampled_spec, trials_of_sweep

        def make(base: str, texts: Sequence[str], **options: Any) -> Group:
            check_installed()
            spec = make_sampled_spec(self._store, base, texts, prune=bool(self._draft.prune), **options)
            self._trials = check_trials(self._wanted_trials or trials_of_sweep(self._store.root, spec), spec)
            self._sampled = spec
            return plan_group(self._store, [cell.profile for cell in spec.examples()], seeds=spec.seeds[:1])

        return self._of_lists(make) or _NO_RUNS

    def _of_lists(self, make: Callable[..., T]) -> T | None:
        """What ``make`` makes of the base, the texts and the other options of a sweep; None at a mistake."""
        first = next(iter(self._lists))
        if self._base is None or self._draft.equal_time:
            field = first if self._base is None else "equal_time"
            self._mistakes[field] = "several values need a profile" if self._base is None else "not with several values"
            return None
        try:
            return make(
                self._base,
                self._swept_texts(),
                teacher=self._teacher,
                methods=self._draft.method or None,
                encoders=self._lists.get("encoder") or self._draft.encoder or None,
                seeds=self._seeds,
                with_baseline=bool(self._draft.baseline),
            )
        except ProfileError as error:
            self._mistakes |= placed(error, first, {}, self._tables.place)
        except (UsageError, LaunchError) as error:
            self._mistakes[self._list_of(error) or first] = error_text(error)
        return None

    def _swept(self) -> SweepRuns | None:
        """The runs of the sweep; None if it is not valid."""
        from kdtui.sweep.runs import MANY, runs_of
        from kdtui.sweep.spec import make_spec

        def make(base: str, texts: Sequence[str], **options: Any) -> SweepRuns:
            spec = make_spec(self._store, base, texts, **options)
            return runs_of(self._store, spec, spec.id)

        first = next(iter(self._lists))
        runs = self._of_lists(make)
        if runs is None:
            return None
        spec = runs.spec
        if not runs.missing:
            self._mistakes[first] = f"all runs of sweep {spec.id} exist: W in the list of runs displays it"
        elif len(runs.missing) > MANY:
            self._mistakes[first] = f"{len(runs.missing)} runs; the form starts at most {MANY}, `kdtui sweep` more"
        return runs

    def _swept_texts(self) -> list[str]:
        """All ``KEY=VALUE`` and ``KEY=VALUE,VALUE`` texts, but for the student's encoder."""
        single = [
            SETTINGS[name].assignment(value)
            for name, value in self._values.items()
            if name not in self._lists and name != "encoder"
        ]
        lists = [SETTINGS[name].list_assignment(text) for name, text in self._lists.items() if name in LISTED]
        return [*single, *lists, *self._tables.sets(), *self._alone, *self._typed_extra]

    def _list_of(self, error: KdtuiError) -> str:
        """The field of the list that an error names; empty if it names none."""
        where = str(error.where).removeprefix("--set ")
        fields = {
            **{SETTINGS[name].key: name for name in self._lists if SETTINGS[name].key},
            "--student": "encoder",
            "--trials": "trials",
        }
        return fields.get(where, "")

    def _placed(self, error: KdtuiError, texts: Mapping[str, str]) -> dict[str, str]:
        if error.where == "teacher.checkpoint":
            return {"teacher": _TEACHERLESS if error.found is None else error_text(error)}
        if error.where == "student.weights":
            return {"weights": error_text(error)}
        return placed(error, "teacher" if self._base is None else "profile", texts, self._tables.place)

    def _check_teacher(self, own: Profile) -> None:
        """Report a missing teacher together with other mistakes, at which reading the profile stops."""
        wanted = own.distillation.enabled and own.teacher.checkpoint is None
        switched = any(text.partition("=")[0].strip().startswith("distillation") for text in self._extra)
        if wanted and not self._draft.teacher and not switched:
            self._mistakes["teacher"] = _TEACHERLESS

    def _check_tags(self, own: Profile) -> None:
        from kdtui.profile import amend

        text = SETTINGS["tags"].assignment(list(tags_of(self._draft.tags)))
        try:
            amend(own, [text])
        except KdtuiError as error:
            self._mistakes |= placed(error, "tags", {text: "tags"})

    def _check_name(self, name: str) -> None:
        try:
            check_name(name)
        except UsageError as error:
            self._mistakes.setdefault("name", error_text(error))

    def _own_texts(self, own: Profile) -> dict[str, str]:
        texts = own_texts(own)
        if self._draft.by_recipe:  # student and teacher are chosen here, not taken from the run
            texts |= {"encoder": "", "teacher": ""}
        return texts

    def _shape(self, shown: Profile) -> Shape | None:
        """The shape with the typed decoder widths, even if no profile can be made because of another mistake."""
        shape = shape_of(shown)
        widths = self._values.get("decoder")
        if shape is None or widths is None:
            return shape
        return replace(shape, decoder_channels=[int(w) for w in widths] if isinstance(widths, list) else int(widths))

    def _cost(self, shown: Profile, shape: Shape) -> NetworkCost | None:
        encoder = str(self._values.get("encoder", shown.student.label))
        try:
            return cost_of(encoder, shape)
        except UsageError as error:
            if error.where == "student.decoder_channels":
                self._mistakes.setdefault("decoder", error_text(error))
            elif error.found == encoder:
                self._mistakes.setdefault("encoder", error_text(error, encoder))
            else:
                self._mistakes.setdefault(GENERAL, error_text(error))
            return None

    def _twin(self, own: Profile | None) -> Equivalent:
        table = {} if own is None else own_values(own)
        known = [one for one in SINGLE if self._tables.applies(one.key)]
        typed = {one.name: text for one in known if (text := self._draft.text(one.name))}
        values = {name: self._values.get(name, text) for name, text in typed.items()}
        always = () if self._base is not None else ("encoder",)  # `kdtui distill` requires it
        implied = () if self._base is not None else ("student.kind",)  # by its student
        values |= {name: text for name, text in self._lists.items() if name in values}
        values = {
            n: v for n, v in values.items() if n in always or n in self._lists or looked_up(table, SETTINGS[n].key) != v
        }
        distils = own is None or own.distillation.enabled
        named = "" if self._draft.teacher == ALONE or self._is_own_teacher(own) else self._draft.teacher
        return Equivalent(
            profile=self._base or "",
            teacher=named,
            student=self._student,
            method=self._draft.method,
            values=values,
            seeds="" if own is not None and self._seeds == (own.seed,) else self._draft.seeds.replace(" ", ""),
            baseline=bool(self._draft.baseline),
            equal_time=self._draft.equal_time,
            tags=tags_of(self._draft.tags),
            sets=[
                *(self._alone if distils else []),
                *(text for text, name in self._tables.sets().items() if name not in implied),
                *(self._extra if "extra" not in self._lists else self._typed_extra),
            ],
            sweep=bool(self._lists),
            sampled=self._samples,
            trials=self._draft.trials or str(self._trials or ""),
            prune=bool(self._draft.prune),
            runs_dir="" if self._store.root == RunStore().root else str(self._store.root),
        )

    def _is_own_teacher(self, own: Profile | None) -> bool:
        if self._base is None or own is None or self._teacher is None or own.teacher.checkpoint is None:
            return False
        return own.distillation.enabled and expanded(own.teacher.checkpoint).absolute() == self._teacher.checkpoint
