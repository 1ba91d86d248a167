"""The plan: what would run, for how long, and whether it would work, with a fake engine."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from kdtui import events
from kdtui.errors import EngineError, UsageError
from kdtui.launch.launcher import Check
from kdtui.launch.plan import Caution, disk_check, logits_check, merged, out_channels, plan
from kdtui.profile import Profile, load
from kdtui.store.run import EventLog, LaunchRecord, Run
from kdtui.store.store import RunStore
from kdtui.store.view_logits import file_bytes
from tests.launch.processes import with_gpus


class FakeEngine:
    """Answers ``check`` and remembers the profiles it was shown."""

    def __init__(self, **failing: str) -> None:
        self.failing = failing
        self.calls: list[dict[str, Any]] = []
        self.flags: tuple[str, ...] = ()
        self.epochs_done = 0
        self.warnings: list[dict[str, Any]] = []
        self.gpus: int | None = None

    def __call__(self, verb: str, *arguments: str) -> dict[str, Any]:
        assert verb == "check"
        self.flags = arguments[1:]
        self.calls.append(tomllib.loads(Path(arguments[0]).read_text()))
        names = ("data", "student", "teacher")
        return {
            "checks": [
                {"name": name, "ok": name not in self.failing, "message": self.failing.get(name, "fine"), "hint": None}
                for name in names
            ]
            + [{"name": "resume", "ok": True, "message": "fine", "hint": None, "epochs_done": self.epochs_done}],
            "warnings": self.warnings,
            "gpus": self.gpus,
        }


def refuse(verb: str, *arguments: str) -> dict[str, Any]:
    raise EngineError("no torch here", hint="install it")


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


def finished(store: RunStore, profile: Profile, seconds: float, epochs: int) -> Run:
    run = store.create(profile)
    record = LaunchRecord(
        attempt=1, host="h", pid=1, start_ticks=1, boot_id="b", job_id=None, argv=(), device="cpu", devices=1,
        total_epochs=None, created=1000.0,
    )  # fmt: skip
    run.write_launch_record(record)
    with EventLog(run.events_path) as log:
        log.append(
            events.Started(
                attempt=1,
                ranks=(),
                device="cpu",
                precision="fp32",
                threads=1,
                world_size=1,
                epochs=epochs,
                steps_per_epoch=5,
                resumed_step=0,
                student={"parameters": 3_000_000, "parameters_used": 3_000_000},
                time=1000.0,
            )
        )
        log.append(
            events.Measured(
                "val", 5 * epochs, epochs, 100, {"miou": 0.5, "best_miou": 0.5}, epochs, time=1000.0 + seconds
            )
        )
        log.append(events.Finished(5 * epochs, epochs, time=1000.0 + seconds))
    return run


def test_every_profile_is_checked_as_it_would_run(store: RunStore) -> None:
    engine = FakeEngine()
    profiles = [load("baseline"), load("hierarchical-b0", ["training.epochs=3"])]
    planned = plan(profiles, store, ask=engine)
    assert planned.ok
    assert [run.name for run in planned.runs] == ["baseline", "hierarchical-b0"]
    assert [run.epochs for run in planned.runs] == [20, 3]
    assert [table["training"]["epochs"] for table in engine.calls] == [20, 3]
    assert planned.to_json()["ok"] is True


def test_one_failing_check_fails_the_plan_and_keeps_the_others(store: RunStore) -> None:
    planned = plan([load("baseline")], store, ask=FakeEngine(data="no such folder"))
    assert not planned.ok
    assert [check.name for check in planned.runs[0].checks if not check.ok] == ["data"]
    assert {check.name for check in planned.runs[0].checks} >= {"disk", "data", "student", "teacher"}


def test_checks_that_failed_for_one_reason_are_one(store: RunStore) -> None:
    checks = plan(
        [load("baseline")], store, ask=FakeEngine(data="no folder", student="no folder", teacher="other")
    ).runs[0]
    shown = merged(checks.checks)
    assert [(check.name, check.message) for check in shown if not check.ok] == [
        ("data, student", "no folder"),
        ("teacher", "other"),
    ]
    assert [check.name for check in shown if check.ok] == [check.name for check in checks.checks if check.ok]
    hinted = merged([Check("train", False, "x", "one"), Check("val", False, "x", "two"), Check("a", False, "x", "one")])
    assert hinted == [Check("train, val, a", False, "x", "one and two")]


def test_an_engine_that_cannot_answer_is_a_failed_check(store: RunStore) -> None:
    (check,) = [check for check in plan([load("baseline")], store, ask=refuse).runs[0].checks if not check.ok]
    assert (check.name, check.hint) == ("engine", "install it")


def test_without_checks_no_engine_is_started(store: RunStore) -> None:
    assert plan([load("baseline")], store, ask=refuse, checks=False).ok


def test_time_comes_from_a_finished_run_of_the_same_work(store: RunStore) -> None:
    run = finished(store, load("baseline", ["training.epochs=10", "seed=9", "training.learning_rate=0.5"]), 60.0, 10)
    planned = plan([load("baseline")], store, ask=FakeEngine(), checks=False).runs[0]
    assert planned.eta_from == run.id
    assert planned.eta_seconds == pytest.approx(6.0 * 20)
    for setting in ("data.height=64", "training.batch_size=8", "student.encoder=resnet18", "training.threads=1"):
        other = plan([load("baseline", [setting])], store, checks=False).runs[0]
        assert other.eta_seconds is None
        assert plan([load("baseline"), load("baseline", [setting])], store, checks=False).eta_seconds is None


def test_time_is_that_of_the_epochs_that_are_left(store: RunStore, tmp_path: Path) -> None:
    finished(store, load("baseline", ["training.epochs=10"]), 60.0, 10)
    engine = FakeEngine()
    engine.epochs_done = 15
    state = tmp_path / "last.pth"
    for total, left in ((None, 5), (40, 25), (10, 0)):
        planned = plan([load("baseline")], store, ask=engine, resume_from=state, total_epochs=total).runs[0]
        assert (planned.epochs, planned.epochs_done) == (left, 15)
        assert planned.eta_seconds == pytest.approx(6.0 * left)
    assert engine.flags == ("--resume-from", str(state), "--total-epochs", "10", "--store", str(store.root))


def test_compression_is_known_when_a_run_of_ours_teaches(store: RunStore) -> None:
    teacher = finished(store, load("hierarchical-b3"), 60.0, 10)
    sets = [f"teacher.checkpoint={teacher.best}", "distillation.enabled=true", "student.encoder=resnet18"]
    planned = plan([load("baseline", sets)], store, checks=False).runs[0]
    assert planned.teacher_parameters == 3_000_000
    assert planned.teacher == str(teacher.best)
    assert planned.parameters is not None
    assert planned.compression == pytest.approx(3_000_000 / planned.parameters)
    assert plan([load("baseline")], store, checks=False).runs[0].compression is None


def test_an_encoder_outside_the_catalog_has_no_cost(store: RunStore) -> None:
    planned = plan([load("baseline", ["student.encoder=tu-resnet10t"])], store, checks=False).runs[0]
    assert planned.parameters is planned.macs is None


def test_an_unknown_encoder_is_reported_before_anything_starts(store: RunStore) -> None:
    with pytest.raises(UsageError, match="no such encoder"):
        plan([load("baseline", ["student.encoder=nosuchencoder"])], store, checks=False)


def test_disk_is_looked_at_where_the_store_will_be(tmp_path: Path) -> None:
    root = tmp_path / "not" / "there" / "yet"
    assert disk_check(root, 1_000_000, 2).ok
    short = disk_check(root, 10**15, 2)
    assert not short.ok
    assert short.hint is not None
    assert not root.exists()


def test_the_moving_average_of_the_weights_needs_space_in_each_checkpoint(store: RunStore) -> None:
    def gib_needed(*sets: str) -> float:
        (run,) = plan([load("baseline", ["training.keep_checkpoints=98", *sets])], store, checks=False).runs
        (disk,) = [check for check in run.checks if check.name == "disk"]
        parameters.append(run.parameters or 0)
        return float(disk.message.split("about ")[1].split()[0])

    parameters: list[int] = []
    extra = gib_needed("training.ema=0.999") - gib_needed()
    assert extra == pytest.approx(parameters[0] * 4 * 100 / 2**30, abs=0.11)  # rounded to 0.1 twice


@pytest.mark.parametrize(
    ("slots", "accelerator", "devices", "told"),
    [
        ("gpu:0", "auto", 1, "the CPU"),
        ("gpu:0", "auto", 4, "the CPU"),  # ranks on the CPU share its slot
        ("gpu:2", "auto", 1, "1 of 2 GPUs"),
        ("gpu:2", "cpu", 1, "the CPU"),
        ("gpu:2", "auto", 4, "the run asks for 4 GPUs; this machine has 2"),
        ("gpu:0", "gpu", 1, "the run asks for 1 GPU; this machine has 0"),
        ("gpu:x", "auto", 1, "KDTUI_SLOTS is not valid"),
    ],
)
def test_devices_that_this_machine_does_not_have_are_reported_before_anything_starts(
    store: RunStore,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    slots: str,
    accelerator: str,
    devices: int,
    told: str,
) -> None:
    with_gpus(monkeypatch, tmp_path, 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("KDTUI_SLOTS", slots)
    profile = Profile.model_validate({"name": "p", "training": {"accelerator": accelerator, "devices": devices}})
    planned = plan([profile], store, ask=FakeEngine())
    (check,) = [check for check in planned.runs[0].checks if check.name == "device"]
    assert check.message.splitlines()[0] == told
    assert planned.ok is check.ok is told.endswith(("CPU", "GPUs"))
    assert bool(check.hint) is not check.ok


@pytest.mark.parametrize(("gpus", "ok"), [(0, False), (1, False), (2, True), (None, True)])
def test_gpus_that_torch_cannot_use_are_reported_before_the_start(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gpus: int | None, ok: bool
) -> None:
    with_gpus(monkeypatch, tmp_path, 2)
    monkeypatch.setenv("KDTUI_SLOTS", "")
    engine = FakeEngine()
    engine.gpus = gpus
    planned = plan([Profile.model_validate({"name": "p", "training": {"devices": 2}})], store, ask=engine)
    (check,) = [check for check in planned.runs[0].checks if check.name == "device"]
    assert planned.ok is check.ok is ok
    if not ok:
        assert f"torch can use {gpus}" in check.message


def test_a_plan_without_checks_does_not_count_devices(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDTUI_SLOTS", "gpu:x")  # counting would fail, and where there are GPUs it takes a process
    assert plan([Profile.model_validate({"name": "p"})], store, checks=False).ok


def test_warnings_do_not_fail_a_plan(store: RunStore) -> None:
    engine = FakeEngine()
    engine.warnings = [{"code": "a", "message": "the labels look wrong", "hint": None}]
    planned = plan([load("baseline")], store, ask=engine)
    assert planned.ok
    assert planned.runs[0].warnings == (Caution("a", "the labels look wrong"),)
    assert list(planned.to_json()["runs"][0]["warnings"]) == engine.warnings


def test_classes_of_a_folder_are_counted_without_waiting_for_what_is_no_file(tmp_path: Path) -> None:
    def channels(root: Path) -> int | None:
        data = {"kind": "folder", "root": str(root)}
        return out_channels(Profile.model_validate({"name": "x", "data": data}))

    path = tmp_path / "classes.txt"
    path.write_bytes("\ufeff0 sky\n1 road\n\nignore_index 11 void\n".encode())
    assert channels(tmp_path) == 2
    assert channels(tmp_path / "a\0b") is None
    os.truncate(path, 2**40)
    assert channels(tmp_path) is None
    path.unlink()
    os.mkfifo(path)
    assert channels(tmp_path) is None


def test_each_of_several_teachers_has_files_of_its_own_in_the_budget(store: RunStore) -> None:
    view = file_bytes(10, 2048) + file_bytes(10, 32)
    logits = {"epochs": 4, "views": 2, "samples": 10, "sample_bytes": 2048 + 32, "teachers": 2}
    assert logits_check(store.root, 2 * view / 2**30, logits).message.startswith("2 views")
    assert logits_check(store.root, (2 * view - 1) / 2**30, logits).message.startswith("1 view ")
