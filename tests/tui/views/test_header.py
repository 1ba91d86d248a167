from __future__ import annotations

from pathlib import Path

import pytest

from kdtui.store.store import RunListing
from kdtui.tui.run_states import RunStates
from kdtui.tui.views.rows import header_parts, time_of_day
from tests.tui.scenes import Scene


def said(scene: Scene, board: RunStates, machine: tuple[str, ...] = ("CPU 42%",)) -> tuple[str, str]:
    left, right = header_parts(scene.store.root, board, machine, lambda: "14:02")
    return "".join(part.text for part in left), "".join(part.text for part in right)


def test_states_are_counted_in_an_order_of_their_own(crowd: Scene) -> None:
    board = RunStates()
    board.take(RunListing(crowd.store).update())
    assert said(crowd, board) == (" kdtui people  3▶ 2… 1? 6✓ 1■ 2✗ 1· ", "CPU 42%  14:02 ")


def test_the_clock_is_displayed_only_while_a_run_is_live(scene: Scene) -> None:
    board = RunStates()
    scene.finished("b0", horizon=1)
    board.take(RunListing(scene.store).update())
    assert said(scene, board) == (" kdtui people  1✓ ", "CPU 42%")
    assert said(scene, board, ()) == (" kdtui people  1✓ ", "")
    scene.queued("b1")
    board.take(RunListing(scene.store).update())
    assert said(scene, board)[1].endswith("14:02 ")


def test_unread_and_unreadable_files_are_reported(scene: Scene) -> None:
    for index in range(3):
        scene.never_launched(f"run-{index}")
    board = RunStates()
    listing = RunListing(scene.store, first=1, piece=1)
    board.take(listing.update())
    assert "1 of 3 read" in said(scene, board)[0]
    board.trouble = "The runs cannot be listed"
    assert "the store cannot be read" in said(scene, board)[0]


@pytest.mark.parametrize(
    ("root", "project"),
    [("/a/people/runs", "people"), ("/a/people", "people"), ("/runs", "runs")],
)
def test_the_store_is_named_after_its_parent_folder(root: str, project: str) -> None:
    left, _ = header_parts(Path(root), RunStates(), ())
    assert left[1].text.strip() == project
    assert len(time_of_day()) == 5
