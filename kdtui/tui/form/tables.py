"""The tables of a profile whose keys depend on their kind: data, student, and the lists of loss terms.

Their fields are made from the registered tables, of kdtui and of other packages, so a new kind, term or key is in the
form without a change here. A text of the draft has the key of the profile as its name, such as ``data.height`` or
``distillation.terms[1].weight``. The text of a list, such as ``loss.terms``, has the kinds of its terms, separated by
commas; while it is empty, the terms are those of the profile.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from kdtui.profile.settings import SETTINGS, SectionName, Value, plain, toml
from kdtui.tui.form.defaults import looked_up

if TYPE_CHECKING:
    from pydantic import BaseModel

    from kdtui.profile import Profile
    from kdtui.profile.table_fields import TableField, TableKind

TABLES = ("data", "student")
"""Keys of the tables that have a kind."""
PLAIN: tuple[Literal["distillation", "training", "teacher"], ...] = ("distillation", "training", "teacher")
"""Keys of tables without a kind."""
TERMS = "distillation.terms"
"""Key of the list that a method sets."""
LISTS = (TERMS, "loss.terms")
"""Keys of the lists of tables that have a kind."""
SMP = "smp"
"""The kind of network with encoders of the catalog, for which the form has controls of its own."""
_TABLE, _LIST = ("|".join(map(re.escape, keys)) for keys in ((*TABLES, *PLAIN), LISTS))
_NAME = re.compile(rf"({_TABLE})(\.\w+)+|({_LIST})(\[\d+\](\.\w+)+)?")
_ITEM = re.compile(r"\[\d+\]$")
# Teacher and method decide whether there is a distillation.
_WITH_CONTROLS = frozenset(setting.key for setting in SETTINGS.values()) | {"distillation.enabled"}


def is_generated(name: str) -> bool:
    """Whether a name is that of a generated field, or of a list."""
    return _NAME.fullmatch(name) is not None and name not in _WITH_CONTROLS


def part_of(name: str) -> str:
    """The table or list to which a key of a profile belongs; empty for a key of another table."""
    return next(
        (key for key in (*TABLES, *LISTS, *PLAIN) if name == key or name.startswith((f"{key}.", f"{key}["))), ""
    )


@dataclass(frozen=True)
class ShownTable:
    """A table as the form displays it.

    Attributes:
        key: ``data``, ``training``, or that of a term, such as ``loss.terms[0]``.
        kind: Name of its kind; empty if it has none.
        about: What it is; empty for an unknown kind.
        fields: Its fields, without those for which the form has other controls.
        known: Whether its kind is registered.
    """

    key: str
    kind: str
    about: str = ""
    fields: tuple[TableField, ...] = ()
    known: bool = True


def registered(key: str) -> tuple[TableKind, ...]:
    """The kinds of a table, or of the tables in a list; the first call imports pydantic."""
    from kdtui.profile.data_tables import data_kinds
    from kdtui.profile.network_tables import network_kinds
    from kdtui.profile.table_fields import kinds_of
    from kdtui.profile.term_tables import distillation_terms, supervised_terms

    registries: dict[str, tuple[Callable[[], tuple[type[Any], ...]], SectionName]] = {
        "data": (data_kinds, "data"),
        "student": (network_kinds, "student"),
        "distillation.terms": (distillation_terms, "distillation"),
        "loss.terms": (supervised_terms, "loss"),
    }
    tables, section = registries[key]
    return kinds_of(tables(), section)


def field_at(key: str, tables: Iterable[ShownTable]) -> str:
    """The field or list of a key, or the first field of the table with this key; empty if there is none.

    An item of a list belongs to the field of the list.
    """
    names = [*LISTS, *(field.name for table in tables for field in table.fields)]
    whole = _ITEM.sub("", key)
    below = (name for name in names if name.startswith(f"{key}."))
    return key if key in names else next(below, whole if whole in names else "")


class DraftTables:
    """The tables of one draft.

    Args:
        texts: The typed texts by name.
        own: The profile without typed values; None if there is none yet.
        by_recipe: Whether the student is chosen independently of the profile.

    Attributes:
        kinds: Registered kinds by table or list.
        shown: The tables, in the order of the form.
        own: Texts by name: what an empty text stands for.
    """

    def __init__(self, texts: Mapping[str, str], own: Profile | None, *, by_recipe: bool) -> None:
        self._texts, self._profile, self._by_recipe = texts, own, by_recipe
        self.kinds = {key: registered(key) for key in (*TABLES, *LISTS)}
        self.own: dict[str, str] = {}
        self._values = {} if own is None else own.model_dump(mode="json")
        self._own_kinds = {"data": _kind_of(own.data), "student": _kind_of(own.student)} if own is not None else {}
        self._own_terms = {key: [] if own is None else _own_terms(own, key) for key in LISTS}
        tables = (*(self._table(key) for key in TABLES), *map(self._plain, PLAIN))
        self.shown = (*tables, *(one for key in LISTS for one in self._list(key)))

    @property
    def names(self) -> frozenset[str]:
        """Names of all fields and lists."""
        return frozenset({*LISTS, *(field.name for table in self.shown for field in table.fields)})

    @property
    def network(self) -> str:
        """The kind of the student."""
        return self._chosen("student")

    def applies(self, key: str) -> bool:
        """Whether a key of the profile exists with these kinds; also if the kind is unknown."""
        kind = self._find("student", self.network)
        return part_of(key) != "student" or kind is None or key in {f"student.{field.key}" for field in kind.fields}

    def sets(self) -> dict[str, str]:
        """The ``KEY=VALUE`` texts of ``--set`` for what differs from the profile, each with its field or list."""
        found = {}
        for table in self.shown[: len(TABLES) + len(PLAIN)]:
            same = table.kind == self._own_kinds.get(table.key, table.kind)
            for field in table.fields:
                text = self._texts.get(field.name, "")
                is_kind = field.name == f"{table.key}.kind"
                value = self._chosen(table.key) if is_kind else field.value(text) if text else None
                own = looked_up(self._values, field.key)
                # A key that is not in a table of the profile has its default.
                default = own is None and self._has_table_of(field) and value is not None
                equal = own == value or (default and plain(value) == field.default)
                unchanged = same and (is_kind or equal)
                if value is not None and not unchanged and (text or not same):
                    found[f"{field.key}={toml(value)}"] = field.name
        for key in LISTS:
            terms = self._terms(key)
            if self._shortest(key, terms) != self._shortest(key, self._own_terms[key]):
                found[f"{key}={toml(terms)}"] = key
        return found

    def _has_table_of(self, field: TableField) -> bool:
        """Whether the profile has the table of a key, such as ``data.unlabelled``."""
        return looked_up(self._values, field.key.rpartition(".")[0]) is not None

    def place(self, key: str) -> str:
        """The field or list at which a mistake of a key is displayed; empty if there is none."""
        return field_at(key, self.shown) or (part_of(key) if part_of(key) in LISTS else "")

    def conflicts(self, key: str) -> bool:
        """Whether a key is also typed in a field."""
        part = part_of(key)
        typed = [name for name, text in self._texts.items() if text and is_generated(name)]
        return any(name == key or (part in LISTS and part_of(name) == part) for name in typed)

    # What is displayed.

    def _chosen(self, key: str) -> str:
        """The kind of a table."""
        return self._texts.get(f"{key}.kind") or self._default(key)

    def _default(self, key: str) -> str:
        if key == "student" and self._by_recipe:
            return SMP
        return self._own_kinds.get(key) or self.kinds[key][0].name

    def _find(self, key: str, name: str) -> TableKind | None:
        return next((kind for kind in self.kinds[key] if kind.name == name), None)

    def _table(self, key: str) -> ShownTable:
        from kdtui.profile.table_fields import TableField

        name = self._chosen(key)
        kind = self._find(key, name)
        names = tuple(one.name for one in self.kinds[key])
        fields = [
            TableField(
                *(f"{key}.kind", f"{key}.kind", "kind"),
                section=self.kinds[key][0].fields[0].section,
                kind="text",
                help=f"one of {', '.join(names)}",
                words=names,
                reads="text",
            )
        ]
        if kind is not None:
            fields += [field for field in kind.within(key) if field.key not in _WITH_CONTROLS]
        for field in fields[1:]:
            self.own[field.name] = self._own_text(field, same_kind=name == self._own_kinds.get(key))
        self.own[f"{key}.kind"] = self._default(key)
        return ShownTable(key, name, "" if kind is None else kind.about, tuple(fields), kind is not None)

    def _plain(self, key: SectionName) -> ShownTable:
        from kdtui.profile import Distillation, Teacher, Training
        from kdtui.profile.table_fields import fields_of

        tables: Mapping[str, type[BaseModel]] = {"distillation": Distillation, "training": Training, "teacher": Teacher}
        shown = tuple(field for field in fields_of(tables[key], key, key) if field.key not in _WITH_CONTROLS)
        self.own |= {field.name: self._own_text(field) for field in shown}
        return ShownTable(key, "", fields=shown)

    def _own_text(self, field: TableField, *, same_kind: bool = True) -> str:
        """What an empty text stands for: the profile's value, or the default if the profile has the table."""
        value = looked_up(self._values, field.key) if same_kind else None
        default = field.default if self._has_table_of(field) else ""
        return default if value is None else plain(value)

    def _list(self, key: str) -> Iterator[ShownTable]:
        typed = kinds_in(self._texts.get(key, ""))
        terms = [{"kind": name} for name in typed] or self._own_terms[key]
        for term, table in zip(terms, listed(key, ",".join(term["kind"] for term in terms), self.kinds), strict=True):
            for field in table.fields:
                value = looked_up(term, field.label)
                self.own[field.name] = field.default if value is None else plain(value)
            yield table

    def is_method(self, terms: Iterable[Mapping[str, Any]]) -> bool:
        """Whether the distillation terms are these, apart from keys that have their default."""
        return self._shortest(TERMS, terms) == self._shortest(TERMS, self._terms(TERMS))

    def _terms(self, key: str) -> list[dict[str, Any]]:
        """The terms of a list with the typed texts."""
        typed = kinds_in(self._texts.get(key, ""))
        terms = [{"kind": name} for name in typed] or [dict(term) for term in self._own_terms[key]]
        tables = [table for table in self.shown if part_of(table.key) == key]
        for term, table in zip(terms, tables, strict=True):
            for field in table.fields:
                text = self._texts.get(field.name, "")
                if text:
                    _put(term, field.label, field.value(text))
        return terms

    def _shortest(self, key: str, terms: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The terms without keys that have their default."""
        found = []
        for term in terms:
            kind = self._find(key, str(term.get("kind")))
            defaults = {} if kind is None else {field.key: field.default for field in kind.fields}
            found.append({name: value for name, value in term.items() if plain(value) != defaults.get(name)})
        return found


def listed(key: str, text: str, kinds: Mapping[str, tuple[TableKind, ...]]) -> tuple[ShownTable, ...]:
    """The tables of a list from its text.

    Args:
        key: The list.
        text: The kinds of its terms.
        kinds: Registered kinds by table or list.
    """
    known = {kind.name: kind for kind in kinds.get(key, ())}
    return tuple(
        ShownTable(f"{key}[{place}]", name, known[name].about, known[name].within(f"{key}[{place}]"))
        if name in known
        else ShownTable(f"{key}[{place}]", name, known=False)
        for place, name in enumerate(kinds_in(text))
    )


def kinds_in(text: str) -> list[str]:
    """The kinds in the text of a list."""
    return text.replace(",", " ").split()


def edited_list(
    key: str,
    tables: Collection[ShownTable],
    texts: Mapping[str, str],
    own: Mapping[str, str],
    *,
    add: str = "",
    remove: int | None = None,
) -> dict[str, str]:
    """The texts of a list after a term is added at its end, or removed; the texts of removed fields are empty.

    Args:
        key: The list.
        tables: The displayed tables.
        texts: The typed texts.
        own: What an empty text stands for.
        add: Kind of the term to add.
        remove: Number of the term to remove, from 0.
    """
    terms = [table for table in tables if part_of(table.key) == key]
    after = {name: "" for name in texts if part_of(name) == key}
    kept = [table for place, table in enumerate(terms) if place != remove]
    for place, table in enumerate(kept):
        for field in table.fields:
            text = texts.get(field.name) or own.get(field.name, "")
            after[f"{key}[{place}].{field.label}"] = "" if text == field.default else text
    kinds = [*(table.kind for table in kept), *([add] if add else [])]
    return {**after, key: ",".join(kinds)}


def _kind_of(table: Any) -> str:
    return str(type(table).model_fields["kind"].default)


def _own_terms(profile: Profile, key: str) -> list[dict[str, Any]]:
    """The terms that a profile lists, or its default ones, without keys that have their default."""
    from kdtui.profile import Loss

    if key == "distillation.terms":
        terms: Collection[Any] = profile.distillation.listed_terms(profile.data.task)
    else:
        terms = (profile.loss or Loss()).active_terms()
    return [{"kind": _kind_of(term), **term.model_dump(mode="json", exclude_defaults=True)} for term in terms]


def _put(table: dict[str, Any], key: str, value: Value) -> None:
    *path, last = key.split(".")
    for part in path:
        table = table.setdefault(part, {})
    table[last] = value
