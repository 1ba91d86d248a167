"""What is known of a checkpoint, in lines."""

from __future__ import annotations

import re
from pathlib import Path

from kdtui.text import mebibytes, millions, number
from kdtui.tui.door import Inspected
from kdtui.tui.form.fields import plain
from kdtui.tui.widgets.panel import Span

_STAMP = re.compile(r"^\d{8}-\d{6}-")


def lines_of(path: Path, found: Inspected | None) -> list[list[Span]]:
    """The lines of the inspector: architecture, size, classes, and what is wrong."""
    if found is None:
        return [
            [(path.name, "strong")],
            [("not opened yet: enter takes it and looks inside, which takes some seconds", "muted")],
        ]
    if found.mistake:
        lines: list[list[Span]] = [[(path.name, "strong")]]
        lines += [[(line, "bad")] for line in found.mistake.splitlines()]
        return [*lines, [("next: ", "muted"), (found.hint, "")]] if found.hint else lines
    return [line for line in _facts(path, found) if line]


def _facts(path: Path, found: Inspected) -> list[list[Span]]:
    unused = found.parameters_used is not None and found.parameters_used != found.parameters
    used = f" ({millions(found.parameters_used)} used)" if unused else ""
    classes = "" if found.classes is None else f"{found.classes} classes"
    names = ", ".join(found.class_names)
    best = f"best mIoU {number(found.miou)}" if found.miou is not None else ""
    where = "a run's checkpoint" if found.container == "run" else found.container
    return [
        [(found.run or path.name, "strong")],
        [(f"{found.architecture} {found.encoder}", "")],
        [(f"{millions(found.parameters)} parameters{used}", "")],
        [(f"decoder {plain(found.decoder_channels)}", "muted")] if found.decoder_channels else [],
        [(" ".join(word for word in (found.task, classes) if word), ""), (f": {names}" if names else "", "muted")],
        [(best, "good")] if best else [],
        [(f"{mebibytes(found.bytes)}, {where}", "muted")],
        [(f"{len(found.ignored_keys)} keys that are no part of it", "warn")] if found.ignored_keys else [],
    ]


def called(text: str) -> str:
    """A run's id without its time, a file without its folder: what tells it from the others in a narrow place."""
    name = Path(text).name or text
    return _STAMP.sub("", name) or name
