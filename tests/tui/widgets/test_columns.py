from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from kdtui.tui.values import Cell, Column
from kdtui.tui.widgets.columns import fit, lay_out, plain

COLUMNS = (
    Column("name", "name", 8, 30, grow=True),
    Column("student", "student", 6, 12, drop=2),
    Column("loss", "loss", 5, 8, right=True),
    Column("note", "note", 4, drop=5),
)
LETTERS = st.sampled_from("ab日本e\u0301\ufe0f❤한 \t\n\x1b[]🇩")
TEXTS = st.text(LETTERS, max_size=20)


@given(TEXTS, st.integers(0, 24), st.booleans())
def test_a_text_fills_its_width_exactly(text: str, width: int, right: bool) -> None:
    fitted = fit(plain(Cell(text)).text, width, right)
    assert cell_len(fitted) == width
    assert all(letter.isprintable() for letter in fitted)


@given(TEXTS, st.integers(1, 24))
def test_only_texts_that_do_not_fit_are_cut_with_an_ellipsis(text: str, width: int) -> None:
    clean = plain(Cell(text)).text
    if cell_len(clean) <= width:
        assert fit(clean, width).startswith(clean)
    else:
        kept, sign, rest = fit(clean, width).partition("…")
        assert sign and not rest.strip() and clean.startswith(kept)


@given(TEXTS, TEXTS, st.integers(0, 24), st.booleans())
def test_the_end_to_keep_is_displayed_if_it_fits(text: str, keep: str, width: int, right: bool) -> None:
    begin, end = plain(Cell(text)).text, " " + plain(Cell(keep)).text
    fitted = fit(begin + end, width, right, end)
    assert cell_len(fitted) == width
    if cell_len(begin + end) > width >= cell_len(end) + 2:
        kept, sign, rest = fitted.removesuffix(end).partition("…")
        assert fitted.endswith(end) and sign and not rest.strip() and begin.startswith(kept)
    else:
        assert fitted == fit(begin + end, width, right)


@given(st.integers(0, 150), st.lists(st.integers(0, 40), min_size=4, max_size=4))
def test_columns_never_overlap_or_exceed_the_width(room: int, preferred: list[int]) -> None:
    slots = lay_out(COLUMNS, preferred, room, start=2)
    end = 0
    for slot in slots:
        assert slot.x >= end and slot.width > 0 and slot.x + slot.width <= room
        end = slot.x + slot.width + 1
        column = COLUMNS[slot.column]
        assert column.maximum is None or slot.width <= column.maximum
    assert [slot.column for slot in slots] == sorted(slot.column for slot in slots)


def shown(room: int, preferred: tuple[int, ...] = (0, 0, 0, 0)) -> dict[str, int]:
    return {COLUMNS[slot.column].key: slot.width for slot in lay_out(COLUMNS, preferred, room)}


def test_the_column_with_the_highest_drop_is_dropped_first_whatever_its_content() -> None:
    least = 8 + 6 + 5 + 4 + 3
    assert set(shown(least)) == {"name", "student", "loss", "note"}
    assert set(shown(least - 1, (30, 30, 30, 30))) == {"name", "student", "loss"}
    assert set(shown(8 + 6 + 5 + 2 - 1)) == {"name", "loss"}
    assert set(shown(10)) == {"name", "loss"}  # what never vanishes is cut instead


def test_columns_fit_their_content_up_to_the_maximum_and_the_growing_one_takes_the_rest() -> None:
    widths = shown(60, (0, 40, 7, 0))
    assert widths["student"] == 12 and widths["loss"] == 7 and widths["note"] == 4
    assert widths["name"] == 30
    assert shown(50, (0, 40, 7, 0))["name"] == 50 - 12 - 7 - 4 - 3
