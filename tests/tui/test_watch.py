from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable, Iterator

import pytest
from textual.message import Message

from kdtui.errors import StoreError
from kdtui.store.state import State
from kdtui.store.store import ListingChange
from kdtui.tui.watch import RunsListed, RunsSource, SourceFailed, Watch, follower
from tests.tui.scenes import Scene, cockpit, settled, shows, text, until
from tests.waiting import eventually, in_time


class Tick(Message):
    """Something was looked at."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__()


class Ticking:
    """Counts its looks; may raise or hang in them."""

    def __init__(self, name: str, period: float = 0.01) -> None:
        self.name = name
        self.period = period
        self.changes = 0
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def poll(self) -> Iterable[Message]:
        self.changes += 1
        self.gate.wait()
        if self.error is not None:
            raise self.error
        yield Tick(self.name)


class Posted:
    """Takes messages from the watch's thread."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.closed = False

    def __call__(self, message: Message) -> None:
        assert not self.closed, "posted after the end"
        self.messages.append(message)

    def named(self, name: str) -> int:
        return sum(isinstance(message, Tick) and message.name == name for message in self.messages)

    def changes(self) -> list[ListingChange]:
        return [message.change for message in self.messages if isinstance(message, RunsListed)]

    def rows(self) -> dict[str, State]:
        return {run_id: row.state for change in self.changes() for run_id, row in change.changed.items()}

    def failures(self) -> list[SourceFailed]:
        return [message for message in self.messages if isinstance(message, SourceFailed)]


@pytest.fixture
def posted() -> Posted:
    return Posted()


@pytest.fixture
def watch(posted: Posted) -> Iterator[Watch]:
    watch = Watch(posted)
    watch.start()
    yield watch
    watch.stop()


def wait(condition: Callable[[], object]) -> None:
    eventually(condition, pause=0.005)


@pytest.mark.parametrize("error", [StoreError("no"), OSError("no"), ValueError("a mistake of ours")])
def test_a_failing_source_is_reported_and_does_not_stop_others(watch: Watch, posted: Posted, error: Exception) -> None:
    bad, good = Ticking("bad"), Ticking("good")
    bad.error = error
    watch.add(bad)
    watch.add(good)
    wait(lambda: posted.named("good") > 3 and len(posted.failures()) > 1)
    assert all(failure.source is bad and failure.error is error for failure in posted.failures())
    bad.error = None
    wait(lambda: posted.named("bad") > 1)


def test_a_hanging_source_is_polled_again_after_it_returns(watch: Watch, posted: Posted) -> None:
    slow, good = Ticking("slow"), Ticking("good")
    watch.add(good)
    wait(lambda: posted.named("good"))
    slow.gate.clear()
    watch.add(slow)
    wait(lambda: slow.changes)
    slow.gate.set()
    seen = posted.named("good")
    wait(lambda: posted.named("slow") > 1 and posted.named("good") > seen)


def test_stopping_does_not_wait_for_a_hanging_source_and_ignores_its_messages(posted: Posted) -> None:
    watch, slow = Watch(posted), Ticking("slow")
    slow.gate.clear()
    slow.error = OSError("the disk came back with an error")
    watch.add(slow)
    watch.start()
    wait(lambda: slow.changes)
    in_time(watch.stop)  # while the look still hangs
    posted.closed = True
    slow.gate.set()
    wait(lambda: not any(thread.name == "kdtui-watch" for thread in threading.enumerate()))
    assert posted.messages == []


def test_sources_are_polled_periodically_and_at_once_when_nudged(watch: Watch, posted: Posted) -> None:
    rare, often = Ticking("rare", period=3600.0), Ticking("often")
    watch.add(rare)
    watch.add(often)
    wait(lambda: posted.named("often") > 5)
    assert posted.named("rare") == 1
    watch.nudge()
    wait(lambda: posted.named("rare") == 2)


def test_a_removed_source_is_left_alone(watch: Watch, posted: Posted) -> None:
    gone, stays = Ticking("gone"), Ticking("stays")
    watch.add(gone)
    watch.add(stays)
    wait(lambda: posted.named("gone"))
    watch.remove(gone)
    watch.remove(gone)
    wait(lambda: posted.named("stays") > 2)
    changes, seen = gone.changes, posted.named("stays")
    wait(lambda: posted.named("stays") > seen + 5)
    assert gone.changes <= changes + 1  # one may have been under way
    watch.nudge()


def test_a_change_by_an_action_is_displayed_at_once_in_a_large_store(scene: Scene) -> None:
    runs = [scene.never_launched(f"run-{index}") for index in range(400)]
    source, posted = RunsSource(scene.store, 3600.0), Posted()
    watch = Watch(posted)
    watch.add(source)
    watch.start()
    wait(lambda: posted.changes() and posted.changes()[-1].whole)
    for run in (runs[3], runs[250], runs[399]):
        scene.launch(run)
        watch.nudge([run.id])
        seen = len(posted.changes())
        wait(lambda: posted.rows()[run.id] is State.QUEUED)  # noqa: B023 (called at once)
        assert len(posted.changes()) <= seen + 2
    watch.stop()


def test_summaries_of_followed_runs_are_read_at_every_update(scene: Scene, watch: Watch, posted: Posted) -> None:
    run = scene.finished("watched", horizon=1)
    for index in range(300):
        scene.never_launched(f"run-{index}")
    source = RunsSource(scene.store, 3600.0)
    watch.add(source)
    watch.add(follower(scene.store, 0.01))
    wait(lambda: source.period == 3600.0)
    watch.follow([run.id])
    assert watch.followed == (run.id,)
    scene.launch(run)
    watch.nudge()
    wait(lambda: posted.rows().get(run.id) is State.QUEUED)


async def test_the_app_keeps_running_with_a_failing_source(scene: Scene) -> None:
    run = scene.running("b0", epochs=2)
    bad = Ticking("bad", period=0.05)
    bad.error = OSError(5, "Input/output error \x1b[31m[b]red")
    app = cockpit(scene, machine=bad)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await shows(pilot, "Input/output error [31m[b]red")
        scene.advance(run, 1)
        await shows(pilot, "3/80")


async def test_a_hanging_source_does_not_delay_the_exit(scene: Scene) -> None:
    scene.running("b0", epochs=2)
    slow = Ticking("slow", period=0.05)
    app = cockpit(scene, machine=slow)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        slow.gate.clear()
        changes = slow.changes
        await until(pilot, lambda: slow.changes > changes)
        await pilot.press("down", "s")  # keys go on
        await shows(pilot, "sorted by run")
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running)  # while the look still hangs
    slow.gate.set()


@pytest.mark.parametrize("kind", ["file", "gone"])
async def test_a_missing_store_is_reported_until_it_exists_again(scene: Scene, kind: str) -> None:
    scene.finished("b0-alone", horizon=4)
    app = cockpit(scene)
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await shows(pilot, "✓ b0-alone")
        root = scene.store.root
        aside = root.rename(root.with_name("aside"))
        if kind == "file":
            root.write_text("not a folder")
            await shows(pilot, "the store cannot be read", "The runs cannot be listed")
        else:
            await shows(pilot, "no runs yet")
        await pilot.press("down", "x", "X", "R", "t", "delete", "space", "c", "s")  # nothing of this needs a run
        await pilot.pause()
        if kind == "file":
            root.unlink()
        elif root.exists():
            shutil.rmtree(root)
        aside.rename(root)
        await until(pilot, lambda: "cannot be read" not in text(app).splitlines()[0])
        await shows(pilot, "✓ b0-alone")
