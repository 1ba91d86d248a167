"""Fields that are made from the tables of a profile: data, further keys of the student, and loss terms."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.events import Click, Key
from textual.message import Message
from textual.widget import Widget

from kdtui.profile.settings import SETTINGS, Setting
from kdtui.tui.form import Checked, RunDraft
from kdtui.tui.form.tables import LISTS, ShownTable, edited_list, kinds_in, listed, part_of
from kdtui.tui.screens.new_run.sections import FieldRow, Section
from kdtui.tui.values import Cell, Column
from kdtui.tui.widgets.choices import Heading, LineInput, Mistake
from kdtui.tui.widgets.picker import Picker, matching


class Title(Heading, can_focus=True):
    """A heading that takes the focus and is pressed by some keys.

    Args:
        help: What its keys do.
    """

    DEFAULT_CSS = """
    Title:focus { text-style: reverse; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "app.focus_previous", "Field above", show=False),
        Binding("down", "app.focus_next", "Field below", show=False),
    ]
    PRESSED_BY: ClassVar[Collection[str]] = ("enter", "space")

    def __init__(self, help: str) -> None:
        super().__init__()
        self.help = help

    def on_key(self, event: Key) -> None:
        """Press the title. Not a binding: fast typing may have moved the focus before it runs."""
        if event.key in self.PRESSED_BY:
            event.stop()
            self.press()

    def press(self) -> None:
        """Carry out what its keys do."""
        raise NotImplementedError


class FoldTitle(Title):
    """The title of fields that are displayed when it is pressed."""

    class Pressed(Message):
        """Posted when the title was pressed."""

    def __init__(self) -> None:
        super().__init__("enter or space shows or hides the fields")

    def fold(self, title: str, words: str, right: str, *, unfolded: bool) -> None:
        """Display whether the fields are displayed, and what is chosen in them."""
        self.entitle(f"{'▾' if unfolded else '▸'} {title}", words, right)

    def on_click(self, event: Click) -> None:
        """Press the title."""
        event.stop()
        self.press()

    def press(self) -> None:
        """Post the message."""
        self.post_message(self.Pressed())


class TermTitle(Title):
    """The title of one term of a list.

    Args:
        number: Its place in the list, from 0.
    """

    DEFAULT_CSS = """
    TermTitle { background: $background; }
    """
    PRESSED_BY = ("delete", "backspace")

    class Removed(Message):
        """Posted to remove the term."""

        def __init__(self, number: int) -> None:
            self.number = number
            super().__init__()

    def __init__(self, number: int) -> None:
        super().__init__("del removes this term")
        self._number = number

    def press(self) -> None:
        """Post the message."""
        self.post_message(self.Removed(self._number))


class Group(NamedTuple):
    """Fields that are mounted and removed together.

    Attributes:
        title: Number and kind of a term; empty for other tables.
        about: What it is.
    """

    title: str
    about: str
    fields: Sequence[Setting]


class TableFields(Vertical):
    """The fields of some tables, which are mounted when they are first displayed.

    Args:
        titled: Whether each table has a title.
    """

    DEFAULT_CSS = """
    TableFields { height: auto; width: 1fr; }
    TableFields .knobs { height: auto; width: 1fr; }
    TableFields Labelled > Horizontal > .label { width: 22; }
    """

    def __init__(self, *, titled: bool = False) -> None:
        super().__init__()
        self.display = False
        self._titled = titled
        self._tables: Sequence[ShownTable] = ()
        self._mounted: list[tuple[Group, list[Widget]]] = []
        self._draft, self._checked = RunDraft(), Checked()

    def put(self, tables: Sequence[ShownTable], draft: RunDraft, checked: Checked) -> None:
        """Set the tables; fields are replaced only if they are others, and not while a kind is being typed."""
        self._draft, self._checked = draft, checked
        if not self._tables or all(table.known for table in tables):
            self._tables = tables
        if self.display:
            self.call_next(self.mount_fields)

    async def mount_fields(self) -> None:
        """Mount the fields of the tables; those that are mounted already stay."""
        wanted = [group for number, table in enumerate(self._tables) for group in self._groups(number, table)]
        same = 0
        while same < min(len(wanted), len(self._mounted)) and wanted[same] == self._mounted[same][0]:
            same += 1
        gone, self._mounted = self._mounted[same:], self._mounted[:same]
        if not gone and same == len(wanted):
            return
        with self.app.batch_update():  # otherwise each field that is mounted lays out the screen
            for _, widgets in gone:
                for widget in widgets:
                    for row in widget.query("*").results(FieldRow):
                        row.display = False  # no longer read, though it is removed a moment later
                    widget.display = False
                    widget.remove()
            new = [(group, self._widgets(group)) for group in wanted[same:]]
            self._mounted += new
            await self.mount(*(widget for _, widgets in new for widget in widgets))
        self.post_message(Section.Unfolded())

    def _groups(self, number: int, table: ShownTable) -> Iterator[Group]:
        """The field of the kind stays while the other fields change with what is typed into it."""
        if self._titled:
            yield Group(f"{number + 1} {table.kind}", table.about, table.fields)
        else:
            kind = bool(table.kind)
            yield Group("", "", table.fields[:kind])
            yield Group("", "", table.fields[kind:])

    def _widgets(self, group: Group) -> list[Widget]:
        rows = [FieldRow(field, self._draft.typed(field.name)) for field in group.fields]
        for row in rows:
            row.show(self._checked)
        knobs = Container(*rows, classes="knobs")
        if not group.title:
            return [knobs]
        title = TermTitle(int(group.title.partition(" ")[0]) - 1)
        title.entitle(group.title, group.about)
        return [title, knobs]


class FoldedSection(Section):
    """A section of fields that are displayed when its title is pressed, or when one of them has a mistake.

    Args:
        key: Its table or list in a profile.
    """

    def __init__(self, key: str) -> None:
        super().__init__(id=f"{key.replace('.', '-')}-keys")
        self._key = key
        self._heading: FoldTitle = FoldTitle()
        self._fields = TableFields(titled=key in LISTS)
        self._tables: tuple[ShownTable, ...] = ()
        self._draft, self._checked = RunDraft(), Checked()

    def fields(self) -> ComposeResult:
        """Compose the fields."""
        yield self._fields

    def owns(self, name: str) -> bool:
        """Whether a place is in the section."""
        return part_of(name) == self._key

    def chose(self, draft: RunDraft) -> None:
        """Remember the texts."""
        self._draft = draft

    def show(self, checked: Checked) -> None:
        """Display the tables, the defaults and the mistakes."""
        self._checked = checked
        self._tables = tuple(table for table in checked.tables if part_of(table.key) == self._key)
        if any(self.owns(name) and name not in SETTINGS for name in checked.mistakes):
            self._fields.display = True
        self._update()
        super().show(checked)

    def focus_place(self, name: str) -> None:
        """Focus a field, once it is mounted."""
        if self._fields.display and all(row.field.name != name for row in self.rows):
            self._fields.call_next(super().focus_place, name)
        else:
            super().focus_place(name)

    def entitle(self, chosen: str, right: str = "") -> None:
        """Set the chosen value and the right text of the title."""
        self._heading.fold(self.TITLE, chosen, right, unfolded=bool(self._fields.display))

    def on_fold_title_pressed(self, event: FoldTitle.Pressed) -> None:
        """Display or hide the fields."""
        event.stop()
        self._fields.display = not self._fields.display
        self._update()
        self.post_message(self.Unfolded())

    def _update(self) -> None:
        """Display the current tables."""
        self.entitle(self._chosen())
        self._fields.put(self._tables, self._draft, self._checked)

    def _chosen(self) -> str:
        """What is chosen, for the title."""
        raise NotImplementedError


class KeysSection(FoldedSection):
    """The keys of a table that have no field of their own; its title has those that are not the default.

    Args:
        key: The table.
    """

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.PLACES = (key,)  # type: ignore[misc]
        self.TITLE = f"{key.upper()} KEYS"  # type: ignore[misc]

    def _chosen(self) -> str:
        texts, own = self._draft.generated, self._checked.own
        fields = [field for table in self._tables for field in table.fields]
        set_to = {field: texts.get(field.name) or own.get(field.name, "") for field in fields}
        return "  ".join(f"{field.label} {text}" for field, text in set_to.items() if text and text != field.default)


class DataSection(FoldedSection):
    """The kind of data and its keys."""

    TITLE = "DATA"
    PLACES = ("data.kind",)

    def __init__(self) -> None:
        super().__init__("data")

    def _chosen(self) -> str:
        own = self._checked.own
        size = "x".join(self._draft.text(key) or own.get(key, "") for key in ("data.height", "data.width"))
        kind = "".join(table.kind for table in self._tables)
        return f"{kind}  {size}".strip("x ")


_KIND_COLUMNS = (Column("kind", "term", 10, 24), Column("about", "", 0, grow=True))


class TermsSection(FoldedSection):
    """A list of loss terms: the fields of each, and the registered kinds, to add one.

    Args:
        key: ``distillation.terms`` or ``loss.terms``.
        title: Its title.
    """

    def __init__(self, key: str, title: str) -> None:
        super().__init__(key)
        self.PLACES = (key,)  # type: ignore[misc]
        self.TITLE = title  # type: ignore[misc]
        self._mistake = Mistake()
        self._picker = Picker(
            _KIND_COLUMNS, self._cells, find=self._find, placeholder="add a term: search", empty="no such term"
        )

    def fields(self) -> ComposeResult:
        """Compose the mistake of the list, the fields of the terms, and the kinds."""
        yield self._mistake
        yield from super().fields()
        yield self._picker

    def show(self, checked: Checked) -> None:
        """Display the list, unless a term was added or removed since this check."""
        typed = kinds_in(self._draft.text(self._key))
        if typed and typed != [table.kind for table in checked.tables if part_of(table.key) == self._key]:
            return
        fresh = self._checked.kinds != checked.kinds
        super().show(checked)
        self._mistake.say(checked.mistakes.get(self._key, ""))
        if fresh:
            self._picker.search()

    def _update(self) -> None:
        self._picker.display = self._fields.display
        super()._update()

    def _chosen(self) -> str:
        texts, own = self._draft.generated, self._checked.own
        weights = [texts.get(name := f"{table.key}.weight") or own.get(name, "") for table in self._tables]
        terms = [f"{weight} {table.kind}" for weight, table in zip(weights, self._tables, strict=True)]
        return " + ".join(terms)

    def _cells(self, key: str) -> Sequence[Cell]:
        about = next((kind.about for kind in self._checked.kinds[self._key] if kind.name == key), "")
        return [Cell(key), Cell(about, "text-muted")]

    def _find(self, text: str) -> Sequence[str]:
        return matching(text, {kind.name: kind.about for kind in self._checked.kinds.get(self._key, ())})

    async def on_picker_picked(self, event: Picker.Picked) -> None:
        """Add a term, and focus its first field."""
        event.stop()
        self._picker.leave()
        await self._edit(add=event.key)
        self._focus_term(len(self._tables) - 1)

    def on_picker_moved(self, event: Picker.Moved) -> None:
        """Stop the message: nothing depends on the cursor."""
        event.stop()

    def on_picker_typed(self, event: Picker.Typed) -> None:
        """Stop the message: the picker searches by itself."""
        event.stop()

    def on_picker_entered(self, event: Picker.Entered) -> None:
        """Stop the message: only registered kinds can be added."""
        event.stop()

    async def on_term_title_removed(self, event: TermTitle.Removed) -> None:
        """Remove a term, and focus the one behind it."""
        event.stop()
        number = event.number
        await self._edit(remove=number)
        if self._tables:
            self._focus_term(min(number, len(self._tables) - 1), title=True)
        else:
            self.screen.set_focus(self._heading)

    async def _edit(self, *, add: str = "", remove: int | None = None) -> None:
        """Change the list at once, without waiting for the next check."""
        texts = {**self._draft.generated, **self.texts()}
        after = edited_list(self._key, self._tables, texts, self._checked.own, add=add, remove=remove)
        self._draft = self._draft.edited(**after)
        self._tables = listed(self._key, after[self._key], self._checked.kinds)
        own = {field.name: field.default for table in self._tables for field in table.fields}
        self._checked = replace(self._checked, own={**self._checked.own, **own})
        self.post_message(self.Edited(after))
        self._update()
        await self._fields.mount_fields()
        for row in self.rows:  # terms behind a removed one have moved
            row.fill(self._draft)

    def _focus_term(self, number: int, *, title: bool = False) -> None:
        titles = [one for one in self.query(TermTitle) if one.display]
        rows = [row for row in self.rows if row.field.name.startswith(f"{self._key}[{number}].")]
        self.screen.set_focus(titles[number] if title or not rows else rows[0].query_one(LineInput))
