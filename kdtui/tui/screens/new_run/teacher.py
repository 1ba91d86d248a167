"""The teacher and student sections of the form: lists to pick from, and details of the row under the cursor."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Container
from textual.message import Message

from kdtui.catalog import NetworkCost
from kdtui.launch.teachers import TeacherRow
from kdtui.profile.find import expanded
from kdtui.profile.settings import plain
from kdtui.text import joined_lines, mebibytes, millions, number, ratio
from kdtui.tui.engine_client import Inspected
from kdtui.tui.form import ALONE, Checked, RunDraft
from kdtui.tui.form.browse import FolderEntry, is_checkpoint_folder, is_path
from kdtui.tui.form.costs import Shape, found, listed_cost, smaller, work
from kdtui.tui.form.tables import SMP, part_of, registered
from kdtui.tui.screens.new_run.pickers import PickingSection
from kdtui.tui.screens.new_run.sections import names_of, rows_of
from kdtui.tui.screens.new_run.tables import FoldTitle, TableFields
from kdtui.tui.values import Cell, Column, Span

_STAMP = re.compile(r"^\d{8}-\d{6}-")


def lines_of(path: Path, found: Inspected | None) -> list[list[Span]]:
    """Details of a checkpoint: architecture, size, classes, and errors."""
    if found is None:
        return [
            [(path.name, "strong")],
            [("not inspected yet: enter selects and inspects it, which takes seconds", "muted")],
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
        [(f"{found.architecture} {found.encoder}".strip(), "")],
        [(found.family, "muted")] if found.family else [],
        [(f"{millions(found.parameters)} parameters{used}", "")],
        [(f"decoder {plain(found.decoder_channels)}", "muted")] if found.decoder_channels else [],
        [(" ".join(word for word in (found.task, classes) if word), ""), (f": {names}" if names else "", "muted")],
        [(f"input: {found.input}", "muted")] if found.input else [],
        [(best, "good")] if best else [],
        [(f"{mebibytes(found.bytes)}, {where}", "muted")],
        [(f"{len(found.ignored_keys)} ignored keys", "warn")] if found.ignored_keys else [],
    ]


def called(text: str) -> str:
    """A short name: the id of a run without its time, or a file name without its folder."""
    name = Path(text).name or text
    return _STAMP.sub("", name) or name


_OWN = "(own)"
_COLUMNS = (
    Column("teacher", "teacher", 12, grow=True),
    Column("encoder", "encoder", 8, 20, drop=2),
    Column("parameters", "params", 7, right=True),
    Column("miou", "mIoU", 6, right=True, drop=1),
)
_EMPTY = "no checkpoints here yet: type a path, or train a teacher first"


class TeacherSection(PickingSection):
    """The list of teachers, and details of a checkpoint.

    Args:
        known: Function from a checkpoint to what is known without opening it.
    """

    TITLE = "TEACHER"
    PLACES = ("teacher",)

    class Browse(Message):
        """Posted when a path was typed, to list completions."""

        def __init__(self, text: str) -> None:
            self.text = text
            super().__init__()

    class Inspect(Message):
        """Posted when the user picked a checkpoint that has to be inspected."""

        def __init__(self, checkpoint: Path) -> None:
            self.checkpoint = checkpoint
            super().__init__()

    def __init__(self, known: Callable[[Path], Inspected | None]) -> None:
        super().__init__(_COLUMNS, placeholder="search, or a path: / ~ .", empty=_EMPTY, id="teacher")
        self._known = known
        self._rows: dict[str, TeacherRow] = {}
        self._sought: dict[str, str] = {}
        self._found: dict[str, FolderEntry] = {}
        self._text = ""
        self._checked = Checked()
        self._asked: set[Path] = set()
        self._moved = False

    def fields(self) -> ComposeResult:
        """Compose error message, list and details."""
        yield self._mistake
        with Container(classes="pair"):
            yield self._picker
            yield self._about

    def listed(self, rows: Iterable[TeacherRow]) -> None:
        """Set the checkpoints, displayed newest first."""
        self._rows = {row.checkpoint: row for row in reversed(list(rows))}
        self._sought = {key: f"{key} {row.encoder or ''}".lower() for key, row in self._rows.items()}
        self._search()

    def browsed(self, text: str, entries: Sequence[FolderEntry], trouble: str = "") -> None:
        """Display completions of a typed path, unless the text has changed."""
        if text != self._picker.text:
            return
        self._found = {entry.path: entry for entry in entries}
        self._picker.empty = trouble or "no match in this folder"
        self._picker.show(list(self._found))
        self._tell()

    def chose(self, draft: RunDraft) -> None:
        """Display the chosen teacher."""
        self._text = draft.text("teacher")
        self._entitle()
        self._search()

    def show(self, checked: Checked) -> None:
        """Display the mistake: that of the field, or that of the file."""
        super().show(checked)
        before, self._checked = self._checked, checked
        if (before.teacher, before.own.get("teacher")) != (checked.teacher, checked.own.get("teacher")):
            self._search()
        self._entitle()
        self._tell()

    def asked(self, checkpoint: Path) -> None:
        """Display that a checkpoint is being inspected."""
        self._asked.add(checkpoint)
        self._tell()

    def answered(self, checkpoint: Path) -> None:
        """Update list, details and mistake after a checkpoint was inspected."""
        self._asked.discard(checkpoint)
        if not is_path(self._picker.text):
            self._search()
        self._mistake.say(self._wrong(self._checked))
        self._tell()

    def _wrong(self, checked: Checked) -> str:
        """The mistake of the field, or of the file."""
        mistake = super()._wrong(checked)
        if not mistake and checked.teacher is not None:
            found = self._known(checked.teacher)
            if found is not None and found.mistake:
                mistake = "; ".join(part for part in (joined_lines(found.mistake), found.hint) if part)
        return mistake

    # The list.

    def _search(self) -> None:
        """Search again; move the cursor to the chosen row, or keep it at the top."""
        self._picker.search()
        if is_path(self._picker.text):
            return
        key = self._key()
        self._picker.choose(key)
        if key is None and not self._moved and (keys := self._find("")):
            self._picker.move_to(keys[0])

    def _find(self, text: str) -> list[str] | None:
        if is_path(text):
            return None  # reads a disk that may be slow: done in a thread
        self._picker.empty = _EMPTY
        if text.strip() == ALONE:  # only this row, though other names contain a dash
            return [ALONE]
        chosen = self._checked.teacher
        keys = [*([_OWN] if self._checked.own.get("teacher") else []), *self._rows, ALONE]
        if chosen is not None and str(chosen) not in self._rows:
            keys.insert(0, str(chosen))
        words = text.lower().split()
        return [key for key in keys if all(word in self._words(key) for word in words)]

    def _key(self) -> str | None:
        if self._text == ALONE:
            return ALONE
        if not self._text:
            return _OWN if self._checked.own.get("teacher") else None
        return None if self._checked.teacher is None else str(self._checked.teacher)

    def _words(self, key: str) -> str:
        known = self._sought.get(key)
        return known if known is not None else " ".join([key, *(cell.text for cell in self._cells(key))]).lower()

    def _cells(self, key: str) -> Sequence[Cell]:
        if key == ALONE:
            return [Cell("- none: train without a teacher"), Cell(""), Cell(""), Cell("")]
        if key == _OWN:
            return [Cell(f"the profile's own: {self._checked.own.get('teacher', '')}"), *self._facts(self._path(key))]
        row, entry = self._rows.get(key), self._found.get(key)
        if row is not None:
            name = called(row.run or row.checkpoint)
            return [Cell(name), Cell(row.encoder or ""), Cell(millions(row.parameters)), Cell(number(row.miou))]
        if entry is not None:
            size = [] if entry.bytes is None else [Cell(""), Cell(mebibytes(entry.bytes)), Cell("")]
            return [Cell(entry.name, "" if entry.teaches else "accent"), *(size or [Cell("")] * 3)]
        return [Cell(Path(key).name), *self._facts(Path(key))]

    def _facts(self, path: Path | None) -> list[Cell]:
        found = None if path is None else self._known(path)
        if found is None or found.mistake:
            return [Cell(""), Cell("-"), Cell("-")]
        return [Cell(found.encoder), Cell(millions(found.parameters)), Cell(number(found.miou))]

    def _entitle(self) -> None:
        own = self._checked.own.get("teacher", "")
        if self._text == ALONE:
            self.entitle("none")
        elif self._text:
            self.entitle(called(self._text))
        else:
            further = self._checked.further_teachers
            about = "the profile's own" + (f" and {further} more" if further else "")
            self.entitle(called(own) if own else "", about if own else "")

    # The details.

    def _path(self, key: str | None) -> Path | None:
        """Path of the checkpoint of a row; None if the row has none."""
        if key is None or key == ALONE:
            return None
        if key == _OWN:
            return self._checked.teacher if not self._text else Path(self._checked.own["teacher"]).absolute()
        entry = self._found.get(key)
        if entry is not None and not entry.teaches:
            return None
        return expanded(key).absolute()

    def _tell(self) -> None:
        key = self._picker.cursor_key
        path = self._path(key)
        if path is None:
            entry = self._found.get(key or "")
            self._about.show([[("enter opens the folder", "muted")]] if entry is not None else [])
        elif path in self._asked:
            self._about.show([[("inspecting…", "strong")], [("the engine opens the file", "muted")]])
        else:
            self._about.show(lines_of(path, self._known(path)))

    def moved(self) -> None:
        """Display the details of the row, without starting a process."""
        self._moved = self._picker.has_focus_within  # by the user, not by a change of the list
        self._tell()

    def typed(self, text: str) -> None:
        """List completions of a path; other texts are searched by the picker."""
        self._found = {}
        if is_path(text):
            self.post_message(self.Browse(text))
        self._tell()

    def picked(self, key: str) -> None:
        """Choose the row; open a folder."""
        entry = self._found.get(key)
        if entry is not None and not entry.teaches:
            self._picker.text = entry.path
            return
        row = self._rows.get(key)
        text = {_OWN: "", ALONE: ALONE}.get(key, key if row is None else row.run or key)
        path = self._path(key)
        self._choose(teacher=text)
        found = None if path is None else self._known(path)
        if path is not None and (found is None or found.mistake):
            self.post_message(self.Inspect(path))

    def entered(self, text: str) -> None:
        """Choose a run by name or prefix of its id, or a path without the suffix of a checkpoint."""
        path = expanded(text).absolute()
        if is_path(text) and os.path.isdir(path) and not is_checkpoint_folder(path):  # noqa: PTH112 (raises nothing)
            self._picker.text = f"{text.rstrip(os.sep)}{os.sep}"
            return
        self._choose(teacher=text)
        if is_path(text) and os.path.exists(path):  # noqa: PTH110 (the form reports a folder without permission)
            self.post_message(self.Inspect(path))


_STUDENT_COLUMNS = (
    Column("encoder", "encoder", 14, grow=True),
    Column("parameters", "params", 7, right=True),
    Column("macs", "MACs", 6, right=True),
    Column("smaller", "smaller", 7, right=True),
)
_USUAL = Shape("Unet", 5, 4, 256, 256)
"""Shape for the costs while no profile is chosen."""


class StudentSection(PickingSection):
    """The list of encoders with their costs, the decoder, and the keys of the network, whose kind may be another."""

    TITLE = "STUDENT"
    PLACES = names_of("student")

    def __init__(self) -> None:
        super().__init__(
            _STUDENT_COLUMNS, placeholder="search encoders", empty="enter accepts any tu-NAME of timm", id="student"
        )
        self._shape = _USUAL
        self._teacher: NetworkCost | None = None
        self._draft, self._network = RunDraft(), SMP
        self._own = ""
        self._more = FoldTitle()
        self._table = TableFields()

    def fields(self) -> ComposeResult:
        """Compose error message, list, details, decoder, weights, and the folded keys of the network."""
        yield from super().fields()
        # The encoder of a kind that is not in the catalog is a text.
        self._rows = rows_of("student")
        self._rows[0].display = False
        yield from self._rows
        yield self._more
        yield self._table

    def owns(self, name: str) -> bool:
        """Whether a place is in the section."""
        return name in self.PLACES or part_of(name) == "student"

    def chose(self, draft: RunDraft) -> None:
        """Display the chosen encoder."""
        self._draft = draft
        self._mark()

    def show(self, checked: Checked) -> None:
        """Display the mistake, the keys of the network, and update the profile's own encoder and shape."""
        before = (self._shape, self._own)
        self._shape, self._own = checked.shape or _USUAL, checked.own.get("encoder", "")
        self._show_network(checked)
        super().show(checked)
        if before != (self._shape, self._own):
            self._picker.search()
            self._mark()

    def _show_network(self, checked: Checked) -> None:
        tables = [table for table in checked.tables if table.key == "student"]
        network = tables[0].kind if tables and tables[0].known else self._network  # unknown while it is typed
        if network != self._network or any(part_of(name) == "student" for name in checked.mistakes):
            self._table.display = True
        if network != self._network:
            self._network = network
            kinds = [kind for kind in registered("student") if kind.name == network]
            keys = {field.key for kind in kinds for field in kind.within("student")}
            self._picker.display = network == SMP
            for row in self._rows:
                row.display = row.field.key in keys and not (network == SMP and row.field.name == "encoder")
                row.fill(self._draft)
            self._mark()
        self._table.put(tables, self._draft, checked)
        self._fold()

    def _wrong(self, checked: Checked) -> str:
        return super()._wrong(checked) if self._network == SMP else ""

    def _fold(self) -> None:
        self._more.fold("more keys", self._network, "", unfolded=bool(self._table.display))
        self.set_class(bool(self._table.display), "-unfolded")

    def on_fold_title_pressed(self, event: FoldTitle.Pressed) -> None:
        """Display or hide the keys of the network."""
        event.stop()
        self._table.display = not self._table.display
        self._table.call_next(self._table.mount_fields)
        self._fold()
        self.post_message(self.Unfolded())

    def against(self, teacher: NetworkCost | None) -> None:
        """Set the teacher to compare with; its MACs are 0 if unknown."""
        if teacher != self._teacher:
            self._teacher = teacher
            self._picker.search()
            self._tell()

    def _mark(self) -> None:
        if self._network != SMP:
            self.entitle(self._network, "" if self._draft.text("student.kind") else "the profile's own")
            self._about.show([])
            return
        chosen = self._draft.text("encoder")
        self._picker.choose(chosen or self._own or None)
        self.entitle(chosen or self._own, "" if chosen or not self._own else "the profile's own")
        self._tell()

    def _find(self, text: str) -> list[str]:
        """Sorted by the size of the whole student, with its decoder, smallest first."""
        costs = {name: listed_cost(name, self._shape) for name in found(text)}
        return sorted(costs, key=lambda name: (cost.parameters if (cost := costs[name]) else 0, name))

    def _cells(self, key: str) -> Sequence[Cell]:
        cost = listed_cost(key, self._shape)
        if cost is None:
            return [Cell(key), Cell("-"), Cell("-"), Cell("-")]
        parameters = self._teacher.parameters if self._teacher else None
        return [
            Cell(key),
            Cell(millions(cost.parameters)),
            Cell(work(cost.macs)),
            Cell(ratio(smaller(parameters, cost.parameters))),
        ]

    def _tell(self) -> None:
        """Display the cost of the encoder under the cursor."""
        key = self._picker.cursor_key if self._network == SMP else None
        cost = None if key is None else listed_cost(key, self._shape)
        if key is None or cost is None:
            self._about.show([])
            return
        shape = self._shape
        lines: list[list[Span]] = [
            [
                (key, "strong"),
                (f"  {millions(cost.parameters)} parameters, {work(cost.macs)} MACs", ""),
                (f"  at {shape.height}x{shape.width}, {shape.out_channels} channels", "muted"),
            ]
        ]
        if self._teacher is not None:
            lines.append(_against(cost, self._teacher))
        self._about.show(lines)

    def picked(self, key: str) -> None:
        """Choose the encoder."""
        self._choose(encoder=key)

    def entered(self, text: str) -> None:
        """Choose an encoder that is not in the catalog."""
        self._choose(encoder=text)


def _against(student: NetworkCost, teacher: NetworkCost) -> list[Span]:
    """Compare parameters and MACs of the student with those of the teacher."""
    sizes = smaller(teacher.parameters, student.parameters), smaller(teacher.macs, student.macs)
    words = [
        f"{ratio(by)} fewer {what}" if by >= 1 else f"{ratio(1 / by)} more {what}"
        for by, what in zip(sizes, ("parameters", "MACs"), strict=True)
        if by
    ]
    good = all(by is None or by >= 1 for by in sizes)
    return [
        (", ".join(words), "good" if good else "warn"),
        (f"  than the teacher ({millions(teacher.parameters)})", "muted"),
    ]
