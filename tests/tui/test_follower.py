from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.message import Message

from kdtui.events import Measured, Started, encode
from kdtui.store.event_log import Tail
from kdtui.store.history import History
from kdtui.store.run import Run
from kdtui.tui.run_states import RunStates
from kdtui.tui.watch import BIG, MOST_FOLLOWED, Follower, HistoryBroken, HistoryDropped, HistoryReady, RunAdvanced
from tests.tui.scenes import STEPS, Scene
from tests.waiting import eventually


class FollowerView:
    """What a cockpit would know from a follower's messages."""

    def __init__(self, root: Path) -> None:
        self.board = RunStates()
        self.follower = Follower(lambda run_id: Run(root / run_id), 1.0)
        self.messages: list[Message] = []

    def poll(self) -> list[Message]:
        """One look; the messages."""
        messages = list(self.follower.poll())
        for message in messages:
            match message:
                case HistoryReady():
                    self.board.histories[message.run_id] = message.history
                    (self.board.partial.add if message.partial else self.board.partial.discard)(message.run_id)
                case RunAdvanced():
                    self.board.histories[message.run_id].extend(message.events)
        self.messages += messages
        return messages

    def until_whole(self, run: Run) -> None:
        """Look until the beginning was read as well."""
        eventually(lambda: self.poll() is not None and run.id not in self.board.partial, "the beginning is read")


@pytest.fixture
def view(scene: Scene) -> Iterator[FollowerView]:
    view = FollowerView(scene.store.root)
    yield view
    view.follower.close()


def facts(history: History) -> object:
    """All that is drawn of a history."""
    curves = {name: (curve.steps, curve.images, curve.values) for name, curve in history.curves.items()}
    return curves, history.attempts, history.saved, history.word, history.step


def whole(run: Run) -> object:
    return facts(History(Tail(run.events_path).read()))


def long(scene: Scene) -> Run:
    """A run whose events are more than is read at once; few of them, with a name that takes room."""
    run = scene.running("long", epochs=1, horizon=10**5)
    name = 400 * "n"
    with run.events_path.open("ab") as file:
        for step in range(11, 11 + (BIG + BIG // 2) // 500):
            scalars = {"loss": 1 / step, name: float(step % 7)}
            file.write(encode(Measured("train", step, step // STEPS + 1, step * 16, scalars, time=1000.0 + step)))
    assert run.events_path.stat().st_size > BIG
    return run


def test_a_long_file_shows_its_end_first_then_all_of_it(scene: Scene, view: FollowerView) -> None:
    run = long(scene)
    view.follower.want([run.id])
    (first,) = view.poll()
    assert isinstance(first, HistoryReady) and first.partial
    last = first.history.curves["train/loss"].steps
    everything = History(Tail(run.events_path).read())
    assert last[-1] == everything.step
    assert 0 < len(last) < len(everything.curves["train/loss"])
    assert first.history.started == everything.started  # the horizon is known before the rest is read
    scene.write(run, Measured("train", everything.step + 1, 1, 16, {"loss": 0.1}))
    view.until_whole(run)
    view.poll()
    assert facts(view.board.histories[run.id]) == whole(run)


def test_events_added_during_the_first_read_are_there_once(scene: Scene, view: FollowerView) -> None:
    run = long(scene)
    view.follower.want([run.id])
    view.poll()
    step = view.board.histories[run.id].step
    while run.id in view.board.partial:
        step += 1
        scene.write(run, Measured("train", step, 1, 16 * step, {"loss": 0.1}))
        view.poll()
        assert view.board.histories[run.id].step == step
        time.sleep(0.01)  # an engine leaves the reader some time too
    view.poll()
    assert facts(view.board.histories[run.id]) == whole(run)


def test_a_file_replaced_while_it_is_read_leaves_no_old_events(scene: Scene, view: FollowerView) -> None:
    run = long(scene)
    view.follower.want([run.id])
    view.poll()
    other = scene.finished("other", horizon=2)
    other.events_path.replace(run.events_path)
    eventually(lambda: view.poll() is not None and facts(view.board.histories[run.id]) == whole(run), "the new file")
    for _ in range(20):  # nothing that was under way brings the former back
        time.sleep(0.01)
        view.poll()
    assert facts(view.board.histories[run.id]) == whole(run)
    assert run.id not in view.board.partial


def test_a_short_file_is_read_completely_and_then_incrementally(scene: Scene, view: FollowerView) -> None:
    run = scene.running("short", epochs=3)
    view.follower.want([run.id])
    (first,) = view.poll()
    assert isinstance(first, HistoryReady) and not first.partial
    assert view.poll() == []
    scene.advance(run, 1)
    (second,) = view.poll()
    assert isinstance(second, RunAdvanced)
    assert {event.kind for event in second.events} == {"measured", "saved"}
    assert facts(view.board.histories[run.id]) == whole(run)


def test_half_a_line_is_completed_by_the_next_read(scene: Scene, view: FollowerView) -> None:
    run = scene.running("half", epochs=1)
    view.follower.want([run.id])
    view.poll()
    line = encode(Measured("train", 11, 2, 176, {"loss": 0.5}))
    with run.events_path.open("ab") as file:
        file.write(line[:30])
        file.flush()
        assert view.poll() == []
        file.write(line[30:])
    (messages,) = view.poll()
    assert isinstance(messages, RunAdvanced)
    assert view.board.histories[run.id].step == 11


@pytest.mark.parametrize("shorter", [False, True])
def test_a_replaced_or_shortened_file_is_read_from_its_start(scene: Scene, view: FollowerView, shorter: bool) -> None:
    run = scene.running("replaced", epochs=6)
    view.follower.want([run.id])
    view.poll()
    if shorter:
        lines = run.events_path.read_bytes().splitlines(keepends=True)
        run.events_path.write_bytes(b"".join(lines[:9]))
    else:
        scene.running("other", epochs=8).events_path.replace(run.events_path)
    (messages,) = view.poll()
    assert isinstance(messages, HistoryReady)
    assert facts(view.board.histories[run.id]) == whole(run)


def test_a_resumed_attempt_drops_the_points_after_its_start(scene: Scene, view: FollowerView) -> None:
    run = scene.stopped("resumed", horizon=8)
    view.follower.want([run.id])
    view.poll()
    assert view.board.histories[run.id].curves["train/loss"].steps[-1] == 40
    scene.launch(run)
    scene.start(run, resumed=20)
    view.poll()
    assert view.board.histories[run.id].curves["train/loss"].steps[-1] == 20
    scene.advance(run, 1)
    view.poll()
    curve = view.board.histories[run.id].curves["train/loss"]
    assert curve.steps == [*range(5, 31, 5)]
    assert view.board.histories[run.id].word is None


def test_an_unreadable_file_is_reported_once_and_read_again_later(scene: Scene, view: FollowerView) -> None:
    run = scene.running("broken", epochs=2)
    view.follower.want([run.id])
    view.poll()
    aside = run.events_path.rename(run.path / "aside")
    run.events_path.mkdir()
    messages = [message for _ in range(3) for message in view.poll()]
    assert [type(message) for message in messages] == [HistoryBroken]
    assert "it is a folder" in messages[0].reason  # type: ignore[attr-defined]
    run.events_path.rmdir()
    aside.rename(run.events_path)
    messages = [message for _ in range(3) for message in view.poll()]
    assert [type(message) for message in messages] == [HistoryReady]
    assert facts(view.board.histories[run.id]) == whole(run)


def test_events_broken_from_the_start_are_reported(scene: Scene, view: FollowerView) -> None:
    run = scene.never_launched("broken")
    run.events_path.mkdir()
    view.follower.want([run.id])
    assert [type(message) for message in view.poll()] == [HistoryBroken]
    run.events_path.rmdir()
    assert [type(message) for message in view.poll()] == [HistoryReady]


def test_a_run_without_events_or_without_a_folder_is_empty(scene: Scene, view: FollowerView) -> None:
    run = scene.never_launched("fresh")
    view.follower.want([run.id, "20260101-000000-never-was"])
    messages = view.poll()
    assert [type(message) for message in messages] == [HistoryReady, HistoryReady]
    assert all(isinstance(message, HistoryReady) and not message.history.curves for message in messages)
    scene.launch(run)
    scene.start(run)
    view.poll()
    assert isinstance(view.board.histories[run.id].started, Started)


def test_some_runs_stay_followed_and_returning_reads_only_new_events(scene: Scene, view: FollowerView) -> None:
    runs = [scene.running(f"run-{index}", epochs=1) for index in range(MOST_FOLLOWED + 3)]
    for run in runs:
        view.follower.want([run.id])
        view.poll()
    for run in runs[-MOST_FOLLOWED:]:
        view.follower.want([run.id])
        assert view.poll() == []
    view.follower.want([runs[0].id])  # too long ago: anew
    dropped, ready = view.poll()
    assert isinstance(dropped, HistoryDropped) and dropped.run_id == runs[-MOST_FOLLOWED].id
    assert isinstance(ready, HistoryReady)


def test_a_file_that_grew_a_lot_shows_its_end_first_again(scene: Scene, view: FollowerView) -> None:
    run = scene.running("paused", epochs=1)
    view.follower.want([run.id])
    view.poll()
    line = encode(Measured("train", 11, 2, 176, {"loss": 0.5, 8000 * "n": 1.0}))
    with run.events_path.open("ab") as file:
        file.write(line * (2 * BIG // len(line) + 10))
    (again,) = view.poll()
    assert isinstance(again, HistoryReady) and again.partial
    view.until_whole(run)
    view.poll()
    assert facts(view.board.histories[run.id]) == whole(run)


def test_more_runs_than_are_kept_can_be_followed_at_once(scene: Scene, view: FollowerView) -> None:
    runs = [scene.running(f"run-{index}", epochs=1) for index in range(MOST_FOLLOWED + 3)]
    view.follower.want([run.id for run in runs])
    assert len(view.poll()) == len(runs)
    assert view.poll() == []
    for run in runs:
        scene.advance(run, 1)
    assert [type(message) for message in view.poll()] == [RunAdvanced] * len(runs)


def test_changing_the_followed_runs_during_an_update_is_safe(scene: Scene, view: FollowerView) -> None:
    first, second = scene.running("first", epochs=1), scene.running("second", epochs=1)
    view.follower.want([first.id])
    messages = iter(view.follower.poll())
    next(messages)
    view.follower.want([second.id, first.id])  # as the UI's thread does
    assert list(messages) == []
    assert [message.run_id for message in view.follower.poll()] == [second.id]  # type: ignore[attr-defined]
