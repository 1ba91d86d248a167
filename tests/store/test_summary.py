from __future__ import annotations

import fcntl
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kdtui.events import Event, Exited, Failed, Finished, Measured, Queued, Stopped, Warned
from kdtui.launch.alive import probe
from kdtui.profile import Distillation, Profile
from kdtui.store.event_log import Tail
from kdtui.store.history import History
from kdtui.store.run import LaunchRecord, Run
from kdtui.store.scan import TAIL, scan
from kdtui.store.state import Liveness, RunSummary, State
from kdtui.store.store import RunStore
from tests.store.conftest import Processes, queued, record, started, trained, training, validated, write


def look(run: Run, answer: Liveness = Liveness.DEAD) -> RunSummary:
    return RunStore(run.path.parent, alive=Processes(answer)).summary(run)


def test_a_new_run_shows_its_profile(store: RunStore) -> None:
    run = store.create(Profile(name="n", seed=3, distillation=Distillation(enabled=True, alpha=0.3)), tags=["a", "b"])
    row = store.summary(run)
    assert row.state is State.NEVER_LAUNCHED
    assert (row.name, row.seed, row.alpha, row.temperature, row.distilled) == ("n", 3, 0.3, 4.0, True)
    assert (row.tags, row.epochs, row.detail) == (("a", "b"), 20, "")
    assert row.encoder == "timm-efficientnet-b0"
    assert row.created is not None


def test_what_is_not_distilled_has_no_alpha(run: Run) -> None:
    row = look(run)
    assert (row.alpha, row.temperature, row.distilled, row.method) == (None, None, False, None)


@pytest.mark.parametrize(
    ("terms", "method"),
    [
        ("", "kl"),
        (
            'terms = [{kind = "cwd", weight = 3.0, on = "logits"}, {kind = "feature", teacher_on = "encoder"}]',
            "cwd+feature",
        ),
        ('terms = [{kind = "kl", weight_by = "confidence"}]', "kl confidence"),
        ('terms = [{kind = "kl", standardise = true}, {kind = "pkd", standardise = false}]', "kl standardise+pkd"),
        ('terms = [3, {kind = "a\\u001b[31m"}]', "a[31m"),
        ("terms = 3", "kl"),
    ],
)
def test_the_method_is_that_of_the_terms(run: Run, terms: str, method: str) -> None:
    run.profile_path.write_text(f"[distillation]\nenabled = true\n{terms}\n")
    assert look(run).method == method


@pytest.mark.parametrize("steps", [0, 1, 25, 3000])
def test_the_tail_tells_what_the_whole_file_tells(run: Run, steps: int) -> None:
    write(run, training(steps, best_at=20))
    assert (run.events_path.stat().st_size > TAIL) == (steps == 3000)
    whole = History(Tail(run.events_path).read())
    row = look(run)
    curve = whole.curves.get("val/miou")
    assert row.step == (whole.step or None)
    assert row.epoch == (whole.epoch or None)
    assert row.miou == (curve.last if curve else None)
    assert row.best_miou == (max(curve.values) if curve else None)
    assert row.best_iou == ({"target": 0.45} if curve else {})
    assert row.loss == (whole.curves["train/loss"].last if steps else None)
    assert (row.parameters, row.teacher_miou, row.teacher_parameters) == (100, 0.8, 300)
    assert row.started == 101.0
    assert row.last_event == whole.last_event


def test_a_run_ended_when_its_training_did_however_long_its_processes_took(run: Run) -> None:
    events = [queued(), started(), replace(Finished(5, 1), time=200.0)]
    for last in ((), (replace(Exited(1, 0), time=205.0),)):
        run.events_path.unlink(missing_ok=True)
        write(run, [*events, *last])
        assert look(run).last_event == History(Tail(run.events_path).read()).last_event == 200.0
    write(run, [replace(Queued(2, "cpu"), time=300.0)])
    assert look(run).last_event == History(Tail(run.events_path).read()).last_event == 300.0


def test_the_end_is_found_at_every_size_of_the_file(run: Run) -> None:
    """Around the edge of the tail a line may be cut anywhere."""
    lines = b"".join(line for line in _lines(training(400)))
    for extra in range(0, 300, 7):
        run.events_path.write_bytes(b'{"pad":"' + b"x" * extra + b'"}\n' + lines)
        row = look(run)
        assert (row.step, row.parameters) == (400, 100)


@pytest.mark.parametrize(
    ("pixel", "read"),
    [
        ({"a": 0.75, "b": 0.25}, {"a": 0.75, "b": 0.25}),
        ({"a\x1b[2J": 1}, {"a[2J": 1.0}),
        *[(bad, {}) for bad in (None, [1], {}, {"a": 0}, {"a": -1}, {"a": 2}, {"a": "x"}, {"a": 0.5, "b": None})],
    ],
)
def test_a_teachers_pixel_is_read_or_there_is_none(run: Run, pixel: object, read: dict[str, float]) -> None:
    write(run, [started(teacher={"parameters": 300, "miou": 0.8, "pixel": pixel})])
    assert look(run).teacher_pixel == read


def _lines(events: list[Event]) -> list[bytes]:
    from kdtui.events import encode

    return [encode(event) for event in events]


def test_a_half_line_at_the_end_is_not_read(run: Run) -> None:
    write(run, training(20))
    with run.events_path.open("ab") as file:
        file.write(_lines([Finished(20, 2)])[0][:-1])
    assert look(run, Liveness.ALIVE).state is State.RUNNING
    run.events_path.write_bytes(b'{"v":1')
    assert look(run).state is State.NEVER_LAUNCHED


@pytest.mark.parametrize(
    ("events", "alive", "state"),
    [
        ([], Liveness.ALIVE, State.QUEUED),
        ([], Liveness.DEAD, State.LOST),
        ([queued()], Liveness.ALIVE, State.QUEUED),
        ([queued()], Liveness.DEAD, State.LOST),
        ([queued(), started()], Liveness.ALIVE, State.RUNNING),
        ([queued(), started(), trained(1)], Liveness.DEAD, State.LOST),
        ([queued(), started(), Finished(5, 1)], Liveness.ALIVE, State.FINISHED),
        ([queued(), started(), Finished(5, 1), Exited(1, 0)], Liveness.DEAD, State.FINISHED),
        ([queued(), started(), Stopped(5, 1), Exited(1, -9, "SIGKILL")], Liveness.DEAD, State.STOPPED),
        ([queued(), Stopped(0, 0, reason="killed")], Liveness.DEAD, State.STOPPED),
        ([queued(), started(), Failed("E", "m"), Exited(1, 4)], Liveness.DEAD, State.FAILED),
        ([queued(), started(), Exited(1, -9, "SIGKILL")], Liveness.DEAD, State.FAILED),
        ([queued(), Exited(1, 0)], Liveness.DEAD, State.FAILED),
    ],
)
def test_states_of_the_first_attempt(run: Run, events: list[Event], alive: Liveness, state: State) -> None:
    run.write_launch_record(record())
    write(run, events)
    assert look(run, alive).state is state


@pytest.mark.parametrize("word", [Finished(5, 1), Stopped(5, 1), Failed("E", "m")])
@pytest.mark.parametrize("steps", [3, 3000])
def test_the_final_event_of_an_earlier_attempt_does_not_count(run: Run, word: Event, steps: int) -> None:
    write(run, [*training(steps), word, Exited(1, 4)])
    run.write_launch_record(record(2))
    assert look(run, Liveness.ALIVE).state is State.QUEUED
    assert look(run).state is State.LOST
    write(run, [queued(2)])
    assert look(run, Liveness.ALIVE).state is State.QUEUED
    assert look(run, Liveness.ALIVE).error is None or not isinstance(word, Failed)
    write(run, [started(2, resumed=2)])
    assert look(run, Liveness.ALIVE).state is State.RUNNING
    assert look(run).state is State.LOST
    write(run, [Finished(9, 1), Exited(2, 0)])
    assert look(run).state is State.FINISHED


def test_a_resumed_attempt_hides_the_void_points(run: Run) -> None:
    write(run, [*training(25), Stopped(25, 3), Exited(1, 0), queued(2), started(2, resumed=20)])
    run.write_launch_record(record(2, total_epochs=40))
    row = look(run, Liveness.ALIVE)
    assert row.step == 20
    assert row.epochs == 40
    assert row.attempt == 2


def test_the_supervisor_and_the_ranks_are_probed(run: Run) -> None:
    run.write_launch_record(record(ranks=({"pid": 1, "start_ticks": 1, "boot_id": "b"},)))
    write(run, [queued(), started()])
    processes = Processes()
    assert RunStore(run.path.parent, alive=processes).summary(run).state is State.LOST
    assert processes.asked[0] == ("here", [4711, 1, 4712])


def test_an_event_written_during_the_check_of_processes_is_read(run: Run) -> None:
    run.write_launch_record(record())
    write(run, [queued(), started()])

    def ends_meanwhile(record: LaunchRecord) -> Liveness:
        write(run, [Finished(1, 1), Exited(1, 0)])
        return Liveness.DEAD

    assert RunStore(run.path.parent, alive=ends_meanwhile).summary(run).state is State.FINISHED


def test_another_users_processes_that_cannot_be_seen_are_judged_by_the_runs_lock(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.write_launch_record(record())
    write(run, [queued(), started()])
    run.touch_beat()
    me = os.geteuid()
    with run.beat_path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert look(run).state is State.LOST  # one's own processes are never hidden
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
        assert look(run).state is State.RUNNING
    row = look(run)
    assert (row.state, row.detail) == (State.LOST, "the processes exited without reporting a result")
    run.beat_path.unlink()
    assert look(run).state is State.LOST


def test_another_host_is_judged_by_its_signs_of_life(run: Run) -> None:
    run.write_launch_record(record(host="far"))
    write(run, [queued(), started()])  # events of long ago
    row = look(run, Liveness.UNKNOWN)
    assert row.state is State.LOST
    assert "no heartbeat from host far for" in row.detail
    assert "may still be running" in row.detail
    run.touch_beat()
    row = look(run, Liveness.UNKNOWN)
    assert row.state is State.RUNNING
    assert row.detail.startswith("no events for")
    run.beat_path.unlink()
    write(run, [Measured("train", 1, 1, 1, {"loss": 1.0})])
    assert look(run, Liveness.UNKNOWN).state is State.RUNNING


def test_details_give_the_reason(run: Run) -> None:
    run.write_launch_record(record())
    message = "bad \x1b[31mmask\n  where: a.png\n  found: 3"
    write(run, [queued(), started(), Failed("DataError", message, "mend\x07 it")])
    row = look(run)
    assert (row.error, row.detail, row.hint) == ("DataError", "bad [31mmask · where: a.png · found: 3", "mend it")
    write(run, [Exited(1, -9, "SIGKILL", 1)])
    assert look(run).detail == "rank 1 killed by SIGKILL: bad [31mmask · where: a.png · found: 3"
    run.events_path.unlink()
    write(run, [queued(), Exited(1, 3, None, 0)])
    assert look(run).detail == "rank 0 ended with exit code 3"
    assert "logs" in (look(run).hint or "")


def test_the_line_is_numbered_in_order_of_launch(store: RunStore) -> None:
    runs = [store.create(Profile(name=f"r{n}")) for n in range(3)]
    for place, run in zip((2.0, 1.0, 3.0), runs, strict=True):
        run.write_launch_record(record(created=place))
    rows = RunStore(store.root, alive=Processes(Liveness.ALIVE)).summaries()
    assert [row.detail.rsplit(", ")[1] for row in rows] == ["position 2", "position 1", "position 3"]


def test_time_to_go(run: Run) -> None:
    run.write_launch_record(record())
    write(run, [queued(), started(), *(trained(step, time=100 + 2.0 * step) for step in range(1, 51))])
    assert look(run, Liveness.ALIVE).eta_seconds == pytest.approx(2.0 * (200 - 50))
    assert look(run).eta_seconds is None


FILES = ["profile.toml", "run.json", "events.jsonl", "launch.json", "notes.toml"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "binary", "list", "folder", "dangling"])
def test_a_damaged_folder_is_listed_with_its_damage(run: Run, name: str, damage: str) -> None:
    write(run, [*training(20), Finished(20, 2), Exited(1, 0)])
    run.write_launch_record(record())
    path = run.path / name
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "dangling":
        path.symlink_to("nowhere")
    elif damage != "missing":
        path.write_bytes(
            {"empty": b"", "half": whole[: len(whole) // 2], "binary": b"\xff\0\x1b", "list": b"[1]"}[damage]
        )
    rows = RunStore(run.path.parent, alive=Processes()).summaries()
    assert [row.id for row in rows] == [run.id]
    assert rows[0].name == "abc"
    optional = damage in ("missing", "empty", "dangling", "list", "half")
    if name == "events.jsonl":
        assert damage == "half" or rows[0].state is not State.FINISHED
    elif name in ("profile.toml", "run.json") or not optional:
        assert damage in ("empty", "half", "list") or name in rows[0].detail
    if name != "events.jsonl":
        assert rows[0].state is State.FINISHED


@pytest.mark.parametrize("value", ['"x"', "[]", "3", "null", '{"a": null}'])
@pytest.mark.parametrize("field", ["scalars", "student", "teacher", "ranks", "step", "attempt", "epochs"])
def test_an_event_with_the_wrong_types_breaks_no_list(run: Run, field: str, value: str) -> None:
    lines = _lines([queued(), started(), trained(3), validated(10, 0.3, 0.3, 0.3), Exited(1, 0)])
    bodies = [json.loads(line) for line in lines]
    for body in bodies:
        if field in body:
            body[field] = json.loads(value)
    run.events_path.write_text("".join(json.dumps(body, separators=(",", ":")) + "\n" for body in bodies))
    assert len(RunStore(run.path.parent, alive=Processes()).summaries()) == 1


@pytest.mark.parametrize("value", [3, "x\x1b[31m", [], {}, None, [1], {"checkpoint": 3}])
@pytest.mark.parametrize(
    ("name", "field"),
    [("run.json", field) for field in ("name", "created_ns", "teacher", "resume_from", "versions")]
    + [
        ("launch.json", field)
        for field in ("attempt", "host", "pid", "created", "ranks", "device", "total_epochs", "argv")
    ],
)
def test_a_file_with_the_wrong_types_breaks_no_list(run: Run, name: str, field: str, value: Any) -> None:
    write(run, [queued(), started(), trained(3)])
    run.write_launch_record(record())
    body = json.loads((run.path / name).read_bytes())
    (run.path / name).write_text(json.dumps({**body, field: value}))
    rows = RunStore(run.path.parent, alive=probe).summaries()
    assert len(rows) == 1
    assert rows[0].name.isprintable() and rows[0].detail.isprintable()


def test_a_profile_changed_by_hand_shows_only_what_is_of_its_type(run: Run) -> None:
    run.profile_path.write_text(
        'seed = "x"\nteacher = 3\n[student]\nencoder = "a\\u001b[31m"\ndecoder_channels = ["x"]\n'
        "[distillation]\nenabled = true\nalpha = true\n[training]\nepochs = []\n"
    )
    row = look(run)
    assert (row.seed, row.encoder, row.decoder_channels, row.alpha, row.epochs) == (None, "a[31m", None, None, None)


def test_scan_of_nothing(tmp_path: Path) -> None:
    assert scan(tmp_path / "none").last_event is None


@pytest.mark.parametrize("steps", [3, 3000])
def test_warnings_of_the_beginning_and_of_the_end_are_in_the_row(store: RunStore, run: Run, steps: int) -> None:
    first, last = (
        Warned("a", "labels\x1b[31m look wrong", None, time=101.5),
        Warned("b", "too good", "compare", time=9e3),
    )
    begin, *rest = training(steps)[1:]
    write(run, [begin, first, *rest, first, last])
    row = store.summary(run)
    assert [(warning["code"], warning["hint"]) for warning in row.warnings] == [("a", None), ("b", "compare")]
    assert "\x1b" not in str(row.warnings[0]["message"])
    assert RunStore(store.root).summary(run).warnings == row.warnings  # from the cache


def test_a_line_that_is_too_long_to_be_read_is_no_event(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    best = validated(10, 0.5, 0.5, 0.25)
    long = replace(best, scalars={**best.scalars, **{f"iou.{number}": 0.1 for number in range(20_000)}})
    write(run, [queued(), started(), long, *map(trained, range(11, 700)), validated(700, 0.4, 0.5, 0.2)])
    assert max(map(len, run.events_path.read_bytes().splitlines())) > 4 * TAIL
    assert scan(run.events_path).best["iou.target"] == 0.25
    monkeypatch.setattr("kdtui.store.scan.LONGEST", TAIL)
    assert scan(run.events_path).best == {}
