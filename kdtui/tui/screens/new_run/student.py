"""The student: its encoder from a searchable list with what each would cost, and the width of its decoder."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult

from kdtui.catalog import Cost
from kdtui.text import millions, ratio
from kdtui.tui.form import Checked, Draft
from kdtui.tui.form.costs import Shape, found, listed_cost, smaller, work
from kdtui.tui.screens.new_run.picking import PickingSection
from kdtui.tui.screens.new_run.section import FieldRow
from kdtui.tui.widgets.panel import Span
from kdtui.tui.widgets.table import Cell, Column

_COLUMNS = (
    Column("encoder", "encoder", 14, grow=True),
    Column("parameters", "params", 7, right=True),
    Column("macs", "MACs", 6, right=True),
    Column("smaller", "less", 6, right=True),
)
_USUAL = Shape("Unet", 5, 4, 256, 256)
"""What costs are shown for while no profile is chosen."""


class StudentSection(PickingSection):
    """Encoders, as the cursor moves over them, and the decoder."""

    TITLE = "STUDENT"
    PLACES = ("encoder", "decoder")

    def __init__(self) -> None:
        super().__init__(_COLUMNS, placeholder="search encoders", empty="enter takes any tu-NAME of timm", id="student")
        self._shape = _USUAL
        self._teacher: Cost | None = None
        self._chosen = ""
        self._own = ""

    def fields(self) -> ComposeResult:
        """Mistake, list, costs of the one under the cursor, decoder."""
        yield from super().fields()
        yield FieldRow("decoder")

    def chose(self, draft: Draft) -> None:
        """Show which is chosen."""
        self._chosen = draft.text("encoder")
        self._mark()

    def show(self, checked: Checked) -> None:
        """Show what is wrong, and what the profile's own encoder and size are."""
        super().show(checked)
        before = (self._shape, self._own)
        self._shape, self._own = checked.shape or _USUAL, checked.own.get("encoder", "")
        if before != (self._shape, self._own):
            self._picker.search()
            self._mark()

    def against(self, teacher: Cost | None) -> None:
        """Measure every encoder against this teacher; its MACs may be 0 where nobody knows them."""
        if teacher != self._teacher:
            self._teacher = teacher
            self._picker.search()
            self._tell()

    def _mark(self) -> None:
        name = self._chosen or self._own
        self._picker.choose(name or None)
        self.entitle(name, "" if self._chosen or not self._own else "the profile's own")
        self._tell()

    def _find(self, text: str) -> list[str]:
        """Smallest student first: its decoder counts as well."""
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
        """What the one under the cursor would give."""
        key = self._picker.cursor_key
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
        """This one."""
        self._choose(encoder=key)

    def entered(self, text: str) -> None:
        """One that the catalog does not have."""
        self._choose(encoder=text)


def _against(student: Cost, teacher: Cost) -> list[Span]:
    """How much less than the teacher it is, or more."""
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
