"""Map the classes of a teacher to those of a run: several to one, and some to none."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from kdtui.engine.class_names import class_index, listed
from kdtui.errors import TeacherError

_KEY = "teacher.class_map"
_SHOWN_OF_GROUP = 6
_SHOWN_GROUPS = 20


def class_groups(
    class_map: Mapping[str, str], theirs: Sequence[str], count: int, ours: Sequence[str], *, where: str
) -> list[list[int]]:
    """The teacher's classes of each class of the run, by index.

    Args:
        class_map: Class of the run by class of the teacher, which is a name or a number from 0; case, spaces, dashes
            and underscores of names are ignored.
        theirs: Names of the teacher's classes; empty if they are not known.
        count: Number of the teacher's classes.
        ours: Names of the run's classes.
        where: The teacher's file.

    Raises:
        TeacherError: A class does not exist, or a class of the run has none of the teacher.
    """
    groups: list[list[int]] = [[] for _ in ours]
    for their, our in class_map.items():
        number = class_index(their, theirs)
        if number is None and their.isdecimal() and int(their) < count:
            number = int(their)
        if number is None:
            names = f"{listed(theirs)}, or " if theirs else ""
            raise _unknown(
                "the teacher has no class of this name", their, theirs, f"{names}a number from 0 to {count - 1}"
            )
        place = class_index(our, ours)
        if place is None:
            raise _unknown("the data have no class of this name", our, ours, listed(ours))
        if any(number in group for group in groups):
            raise TeacherError("the class map lists a class of the teacher twice", where=_KEY, found=their)
        groups[place].append(number)
    empty = [name for name, group in zip(ours, groups, strict=True) if not group]
    if empty:
        raise TeacherError(
            "the class map leaves classes of the data without a class of the teacher",
            where=_KEY,
            found=f"nothing for {listed(empty)}",
            allowed="at least one class of the teacher for each class of the data",
            hint=f"kdtui inspect {where} shows the teacher's classes",
        )
    return groups


def described_groups(groups: Sequence[Sequence[int]], theirs: Sequence[str], ours: Sequence[str]) -> str:
    """A note about a class map.

    Args:
        groups: The result of :func:`class_groups`.
        theirs: Names of the teacher's classes; empty if they are not known.
        ours: Names of the run's classes.
    """

    def name(place: int) -> str:
        return theirs[place] if theirs else str(place)

    used = {place for group in groups for place in group}
    parts = [
        f"{listed([name(place) for place in group], separator=' + ', most=_SHOWN_OF_GROUP)} -> {listed([our])}"
        for group, our in zip(groups, ours, strict=True)
    ]
    mapped = ", ".join(parts[:_SHOWN_GROUPS])
    more = f", … ({len(parts)} groups)" if len(parts) > _SHOWN_GROUPS else ""
    dropped = [name(place) for place in range(len(theirs)) if place not in used]
    return f"classes of the teacher were mapped: {mapped}{more}" + (f"; dropped: {listed(dropped)}" if dropped else "")


def _unknown(what: str, found: str, names: Sequence[str], allowed: str) -> TeacherError:
    nearest = difflib.get_close_matches(found, names, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else None
    return TeacherError(what, where=_KEY, found=found, allowed=allowed, hint=hint)
