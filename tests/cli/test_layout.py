"""Tables and messages at any width: numbers whole, words whole, columns left out in a stated order."""

from __future__ import annotations

import os
import pty
import subprocess
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtui.cli.layout import blocks, hanging, lay_out, paragraph, wrapped
from kdtui.cli.runs import RUN_DROP, RUN_HEADER, RUN_RIGHT
from kdtui.events import Failed
from kdtui.profile import load
from kdtui.store.run import EventLog
from kdtui.store.store import RunStore
from kdtui.text import width
from tests.cli.conftest import Kdtui, printed, several

words = st.text("ab/-_日", min_size=1, max_size=30)
numbers = st.floats(-1e6, 1e6).map(lambda value: f"{value:.4f}")
texts = st.lists(words | numbers, max_size=8).map(" ".join)
tables = st.integers(1, 6).flatmap(
    lambda n: st.tuples(
        st.lists(words, min_size=n, max_size=n, unique=True),
        st.lists(st.lists(texts, min_size=n, max_size=n), max_size=5),
    )
)


@given(table=tables, room=st.integers(40, 120))
def test_every_number_is_whole_and_the_room_is_kept(table: tuple[list[str], list[list[str]]], room: int) -> None:
    header, rows = table
    layout = lay_out(header, rows, room=room, drop=header[1:], wrap=header)
    assert list(layout.left_out) == header[1 : len(layout.left_out) + 1]
    kept = [place for place, heading in enumerate(header) if heading not in layout.left_out]
    shown = " ".join(text for _, text in layout.lines).split()
    for row in rows:
        for place in kept:
            assert {word for word in row[place].split() if "." in word} <= set(shown)
    assert max(width(text) for _, text in layout.lines) <= room
    assert lay_out(header, rows, room=None, drop=header).left_out == ()
    assert len(lay_out(header, rows, room=None).lines) == 1 + len(rows)


@given(text=texts, room=st.integers(8, 60))
def test_wrapping_keeps_every_letter_and_breaks_only_words_that_are_longer(text: str, room: int) -> None:
    lines = wrapped(text, room)
    assert all(width(line) <= room for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    if all(width(word) <= room for word in text.split(" ")):
        assert " ".join(lines).split() == text.split()


@given(text=st.lists(texts, max_size=3).map("\n  ".join), room=st.integers(20, 80))
def test_a_message_is_wrapped_between_words_only(text: str, room: int) -> None:
    assert paragraph(text, room).split() == text.split()
    longest = max(map(width, text.split()), default=0)
    assert max(map(width, paragraph(text, room).split("\n"))) <= max(room, longest + 6)


def test_lines_below_the_first_are_indented() -> None:
    assert hanging("no such file\n  where: X\na note", 4) == "no such file\n    where: X\n    a note"
    assert paragraph("ok  " + hanging("one two\nthree four", 4), 10).split("\n") == [
        *("ok  one", "  two"),
        *("    three", "      four"),
    ]


@given(table=tables, room=st.integers(40, 120))
def test_blocks_hold_every_column_once_beside_the_first(table: tuple[list[str], list[list[str]]], room: int) -> None:
    groups = blocks(*table, room)
    assert all(group[0] == 0 for group in groups)
    assert [place for group in groups for place in group[1:]] == list(range(1, len(table[0])))


def test_columns_go_in_the_stated_order_and_the_reason_below_its_row() -> None:
    row = ["✗", "20260821-143002-b0", "FAILED", "timm-efficientnet-b0", "4.0", "0.70", "1", "3/20", "0.412", "0.5432",
           "0.5321", "87.1%", "-", "the loss is no longer a number: " + "word " * 20]  # fmt: skip
    left_out = [
        lay_out(RUN_HEADER, [row], room=room, right=RUN_RIGHT, drop=RUN_DROP, below=True).left_out
        for room in range(400, 20, -1)
    ]
    for narrower, wider in zip(left_out[1:], left_out, strict=False):
        assert narrower[: len(wider)] == wider
    assert left_out[0] == ()
    assert left_out[-1] == RUN_DROP
    at_80 = lay_out(RUN_HEADER, [row], room=80, right=RUN_RIGHT, drop=RUN_DROP, below=True)
    assert set(at_80.left_out) <= {"last", "loss", "α", "T", "student", "eta"}
    assert "0.5432" in at_80.lines[1][1]
    assert at_80.lines[2][1].startswith("    the loss is no longer")


def on_terminal(*commands: list[str], **environment: str) -> list[tuple[str, int]]:
    """What each command writes on a terminal of 80 columns, both streams together, and its exit code."""
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    environ = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
    with subprocess.Popen(
        several(*commands), stdin=terminal, stdout=terminal, stderr=terminal, env=environ | environment
    ) as process:
        os.close(terminal)
        written = b""
        try:
            while piece := os.read(master, 1 << 16):
                written += piece
        except OSError:  # the last process that had the terminal is gone
            pass
        os.close(master)
    assert process.returncode == 0
    both = printed(written.decode().replace("\r\n", "\n"))  # each stream says when a command has ended
    return both[::2]


def test_every_table_fits_80_columns(store: RunStore, kdtui: Kdtui) -> None:
    for seed in (0, 1, 2):
        name = "hierarchical-student-of-the-large-teacher"
        run = store.create(load("baseline", [f"name={name}", f"seed={seed}", f"training.epochs={seed + 3}"]))
        with EventLog(run.events_path) as log:
            log.append(Failed("DataError", "the masks hold values that are no class of this profile: 7, 9, 11, 254"))
    ids = [run.id for run in store.runs()]
    commands = [["runs"], ["compare", *ids], ["profiles"], ["keys"], ["encoders", "resnet"], ["show", ids[0]],
                ["train", "baseline", "--dry-run"], ["runs", "--filter", "nofield:3"]]  # fmt: skip
    for command, (text, _) in zip(commands, on_terminal(*commands, NO_COLOR="1"), strict=True):
        assert text, command
        shown = [line for line in text.splitlines() if str(store.root) not in line]  # a path is not broken
        assert max(map(width, shown)) <= 80, command
    (listed, _), (whole, _) = on_terminal(["runs"], ["runs", "--wide"])
    assert "columns left out" in listed
    assert "--wide" in listed
    wide = [line for line in whole.splitlines() if ids[2] in line]
    assert len(wide) == 1
    assert "11, 254" in wide[0]
    piped = kdtui("runs").out.splitlines()
    assert len(piped) == 4
    assert all(heading in piped[0] for heading in RUN_HEADER)


@pytest.mark.parametrize("colour", [{}, {"NO_COLOR": "1"}])
def test_an_error_is_coloured_as_a_terminal_understands_it(store: RunStore, colour: dict[str, str]) -> None:
    ((text, code),) = on_terminal(["show", "nothing"], **colour)
    assert code == 2
    assert text.startswith("error: No run" if colour else "\x1b[31merror\x1b[0m: No run")
