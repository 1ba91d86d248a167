from __future__ import annotations

import string
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kdtui.store.history import History
from kdtui.store.state import RunSummary, State
from kdtui.store.store import ListingChange
from kdtui.tui.run_states import RunStates


def row(run_id: str, state: State = State.FINISHED, created: float | None = None) -> RunSummary:
    return RunSummary(id=run_id, name=run_id, path=Path(run_id), state=state, created=created)


def look(*rows: RunSummary, gone: tuple[str, ...] = (), whole: bool = True) -> ListingChange:
    return ListingChange({row.id: row for row in rows}, frozenset(gone), whole, len(rows))


def test_rows_are_newest_first_in_any_order_of_updates() -> None:
    board = RunStates()
    assert board.take(look(row("b", created=2.0), row("d"), whole=False)) == {"b", "d"}
    assert not board.whole
    board.take(look(row("a", created=1.0), row("c", created=3.0)))
    assert board.order == ["c", "b", "a", "d"]
    assert board.whole
    board.take(look(row("d", created=4.0)))  # its run.json was mended
    assert board.order == list(board.rows) == ["d", "c", "b", "a"]


def test_short_names_distinguish_runs_as_they_are_added_and_removed() -> None:
    def seed(run_id: str, number: int, name: str = "kd") -> RunSummary:
        return RunSummary(id=run_id, name=name, path=Path(run_id), state=State.FINISHED, seed=number)

    board = RunStates()
    board.take(look(seed("a", 0), whole=False))
    assert board.names == {"a": "kd"}
    assert board.take(look(seed("b", 1), seed("c", 2), seed("d", 0, "alone"))) == {"a", "b", "c", "d"}
    assert board.names == {"a": "kd s0", "b": "kd s1", "c": "kd s2", "d": "alone"}
    assert board.take(look(gone=("a", "b"))) == {"a", "b", "c"}
    assert board.names == {"c": "kd", "d": "alone"}
    board.take(look(seed("c", 2, "alone")))
    assert board.names == {"c": "alone s2", "d": "alone s0"}


def test_the_key_of_a_run_is_the_name_of_its_folder() -> None:
    board = RunStates()
    printable = [RunSummary(id="two spaces", name="x", path=Path(key), state=State.FINISHED) for key in "ab"]
    board.take(ListingChange({"two  spaces": printable[0], "two spaces": printable[1]}, frozenset(), True, 2))
    assert {key: row.id for key, row in board.rows.items()} == {key: key for key in ("two  spaces", "two spaces")}
    assert len(set(board.names.values())) == 2


def test_removed_runs_leave_no_data_behind() -> None:
    board = RunStates()
    board.take(look(row("a", created=1.0), row("b", created=2.0)))
    board.mark(["a", "b"])
    board.histories["a"] = History()
    board.partial.add("a")
    board.broken["a"] = "why"
    assert board.take(look(gone=("a",))) == {"a"}
    assert board.order == board.marked == ["b"]
    assert board.letters == {"b": "B"}
    assert (board.histories, board.partial, board.broken) == ({}, set(), {})
    assert board.find("a") is None and board.find("b") is board.rows["b"]
    assert board.take(look(gone=("never",))) == {"never"}


@given(st.lists(st.lists(st.integers(0, 40), max_size=35), max_size=6))
def test_a_marked_run_keeps_its_letter_and_no_two_share_one(steps: list[list[int]]) -> None:
    board = RunStates()
    for step in steps:
        before = dict(board.letters)
        board.mark([f"run-{number}" for number in step])
        assert list(board.letters) == board.marked == list(dict.fromkeys(f"run-{number}" for number in step))
        for run_id in board.marked:
            if before.get(run_id, "·") != "·":
                assert board.letters[run_id] == before[run_id]
        given_out = [letter for letter in board.letters.values() if letter != "·"]
        assert len(given_out) == len(set(given_out))
        assert len(given_out) == min(len(board.marked), len(string.ascii_uppercase))


def test_states_are_counted_and_live_runs_are_detected() -> None:
    board = RunStates()
    assert not board.live()
    board.take(look(row("a"), row("b", State.FAILED), row("c")))
    assert board.counts() == {State.FINISHED: 2, State.FAILED: 1}
    assert not board.live()
    board.take(look(row("a", State.QUEUED)))
    assert board.live()
