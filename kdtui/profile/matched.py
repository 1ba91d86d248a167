"""Matched baselines: what a baseline and the distilled run that it is compared with may differ in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kdtui.profile.find import names

if TYPE_CHECKING:
    from kdtui.profile.tables import Profile

IDENTITY = frozenset({"name", "tags", "description"})
"""Keys that only describe a run."""
TREATMENT = ("teacher", "distillation", "data.unlabelled")
"""Tables that a baseline does not have."""
_LONGEST_NAME = 80


def untreated(table: Mapping[str, Any]) -> dict[str, Any]:
    """A plain table of a profile without the tables of :data:`TREATMENT`."""
    table = without_own_view_seed(without_treated_data(table))
    return {key: value for key, value in table.items() if key not in TREATMENT}


def without_own_view_seed(table: Mapping[str, Any]) -> dict[str, Any]:
    """A plain table of a profile without a ``data.view_seed`` that equals its seed, which is the default."""
    data, seed = table.get("data"), table.get("seed", 0)
    if isinstance(data, Mapping) and seed is not None and data.get("view_seed") == seed:
        return {**table, "data": {key: value for key, value in data.items() if key != "view_seed"}}
    return dict(table)


def without_treated_data(table: Mapping[str, Any], *, but: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A plain table of a profile without the tables in ``[data]`` that only a distillation uses.

    Args:
        table: The plain table.
        but: Tables that are named here remain.
    """
    rest = dict(table)
    for outer, _, inner in (key.partition(".") for key in TREATMENT if "." in key):
        kept = isinstance((but or {}).get(outer), Mapping) and inner in (but or {})[outer]
        if isinstance(rest.get(outer), Mapping) and not kept:
            rest[outer] = {name: value for name, value in rest[outer].items() if name != inner}
    return rest


def treated(table: Mapping[str, Any]) -> dict[str, Any]:
    """A plain table of a profile, without those tables if its distillation is not enabled."""
    enabled = isinstance(table.get("distillation"), Mapping) and table["distillation"].get("enabled") is True
    return without_own_view_seed(table) if enabled else untreated(table)


def baseline_of(profile: Profile) -> Profile:
    """The matched baseline: the same student on the same data in the same order and views, without a teacher.

    It is called ``NAME-baseline``, and ``X-baseline`` for ``X-distilled`` where a profile of that name exists.
    """
    from kdtui.profile.tables import Distillation, Teacher

    pair = f"{profile.name.removesuffix('-distilled')}-baseline"
    name = pair if pair in names() else f"{profile.name[: _LONGEST_NAME - len('-baseline')]}-baseline"
    tags = tuple(dict.fromkeys("baseline" if tag == "distilled" else tag for tag in profile.tags))
    changes: dict[str, Any] = {"teacher": Teacher(), "distillation": Distillation(), "name": name, "tags": tags}
    changes["description"] = f"Matched baseline of {profile.name}"
    for key in TREATMENT:
        outer, _, inner = key.partition(".")
        table = getattr(profile, outer)
        if inner and inner in type(table).model_fields:
            changes[outer] = table.model_copy(update={inner: type(table).model_fields[inner].default})
    return profile.model_copy(update=changes)
