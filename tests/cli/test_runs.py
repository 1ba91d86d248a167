"""Looking at runs and managing them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdtui.events import Exited, Failed, Finished, Measured, Started
from kdtui.profile import Profile, load
from kdtui.store.run import EventLog, Run
from kdtui.store.store import RunStore
from tests.cli.conftest import Kdtui, Trained, printed, several
from tests.waiting import finished

ESCAPES = "\x1b[31mred\x1b]0;title\x07[bold]markup[/bold]\r"


def make(store: RunStore, name: str, *sets: str) -> Run:
    return store.create(load("baseline", [f'name="{name}"', *sets]))


def test_an_empty_store_hints_at_the_first_command(kdtui: Kdtui) -> None:
    done = kdtui("runs")
    assert (done.code, done.out) == (0, "")
    assert "kdtui train" in done.err
    assert kdtui("runs", "--json").json == []


def test_runs_json_has_the_promised_keys(kdtui: Kdtui, trained: Trained) -> None:
    trained("alone")
    trained("taught", teacher="alone")
    alone, taught = kdtui("runs", "--json").json
    for row in (alone, taught):
        promised = {"id", "name", "state", "epoch", "epochs", "best", "retention", "student", "teacher"}
        assert promised | {"temperature", "alpha"} <= set(row)
        assert row["state"] == "FINISHED"
        assert row["student"] | {"encoder": "timm-efficientnet-b0", "parameters": 1_000_000} == row["student"]
    assert alone["teacher"] is alone["temperature"] is alone["alpha"] is alone["retention"] is None
    assert taught["teacher"]["miou"] == 0.8
    assert taught["teacher"]["checkpoint"].endswith("best_model.pth")
    assert taught["best"]["miou"] == pytest.approx(0.52)
    assert taught["retention"] == pytest.approx(0.65)
    assert (taught["temperature"], taught["alpha"]) == (4.0, 0.7)


def test_filter_narrows_the_list(kdtui: Kdtui, store: RunStore) -> None:
    make(store, "one", "student.encoder=resnet18")
    make(store, "two")
    assert [row["name"] for row in kdtui("runs", "--filter", "student:resnet", "--json").json] == ["one"]
    assert kdtui("runs", "--filter", "state:finished").out == ""
    assert "one" in kdtui("runs").out
    done = kdtui("runs", "--filter", "studnt:resnet")
    assert done.code == 2
    assert "did you mean student" in done.err


def test_miou_is_the_best_value_and_the_last_is_labelled(kdtui: Kdtui, store: RunStore) -> None:
    run = make(store, "fallen")
    with EventLog(run.events_path) as log:
        for epoch, miou in enumerate((0.6, 0.2), start=1):
            scores = {"miou": miou, "best_miou": 0.6, "retention": miou / 0.8}
            log.append(Measured("val", epoch, epoch, epoch, scores, epochs=2))
        log.append(Finished(2, 2))
    (listed,) = kdtui("runs", "--filter", "miou>.5", "--json").json
    assert (listed["miou"], listed["best"]["miou"]) == (0.2, 0.6)
    assert kdtui("runs", "--filter", "miou<.5", "--json").json == []
    header, row = (line.split() for line in kdtui("runs").out.replace("of teacher", "share").splitlines())
    cells = dict(zip(reversed(header), reversed(row), strict=False))
    assert (cells["mIoU"], cells["last"], cells["seed"]) == ("0.6000", "0.2000", "0")
    shown = kdtui("show", "fallen").out
    assert "best mIoU  0.6000" in shown
    assert "last mIoU  0.2000" in shown
    assert "seed       0" in shown


def test_a_list_has_a_column_of_the_score_of_another_kind_of_network(kdtui: Kdtui, store: RunStore) -> None:
    for name, own in (("boxes", {"target_iou": 0.35, "best_target_iou": 0.35}), ("plain", {})):
        with EventLog(make(store, name).events_path) as log:
            log.append(Measured("val", 1, 1, 1, {"miou": 0.5, "best_miou": 0.5, **own}, epochs=2))
    header, *rows = kdtui("runs").out.replace("target IoU", "target-iou").replace("of teacher", "share").splitlines()
    places = [len(header.split()) - header.split().index("target-iou")] * 2
    assert [row.split()[-place] for row, place in zip(rows, places, strict=True)] == ["0.3500", "-"]
    assert "target IoU" not in kdtui("runs", "--filter", "name:plain").out


def test_show_tells_the_summary_and_the_resolved_profile(kdtui: Kdtui, store: RunStore) -> None:
    run = make(store, "one", "training.epochs=7")
    body = kdtui("show", "one", "--json").json
    assert body["id"] == run.id
    assert body["profile"]["training"]["epochs"] == 7
    assert body["state"] == "NEVER LAUNCHED"
    assert "NEVER LAUNCHED" in kdtui("show", "one").out


def test_show_lists_the_distillation_terms_with_their_weights(kdtui: Kdtui, store: RunStore) -> None:
    terms = 'distillation.terms=[{kind="kl"},{kind="cwd",on="decoder"}]'
    make(store, "listed", "distillation.enabled=true", terms)
    make(store, "plain", "distillation.enabled=true")
    assert "1.0 kl on logits + 3.0 cwd on decoder" in kdtui("show", "listed").out
    assert "terms" not in kdtui("show", "plain").out


@pytest.mark.parametrize("command", ["show", "watch", "logs", "stop", "resume", "remove"])
def test_no_such_run_offers_the_nearest(kdtui: Kdtui, store: RunStore, command: str) -> None:
    make(store, "baseline-one")
    done = kdtui(command, "baseline-onn")
    assert done.code == 2
    assert "baseline-one" in done.err
    assert len(store.runs()) == 1


def test_two_runs_of_one_name_are_both_listed(kdtui: Kdtui, store: RunStore) -> None:
    both = [make(store, "same"), make(store, "same")]
    done = kdtui("show", "same")
    assert done.code == 2
    for run in both:
        assert run.id in done.err
        assert kdtui("show", run.id).code == 0


@pytest.mark.parametrize("name", ["../../x", "..", "/etc", "a/b", ESCAPES, ""])
def test_a_name_that_is_no_name_is_refused_without_being_obeyed(kdtui: Kdtui, store: RunStore, name: str) -> None:
    make(store, "one")
    for command in ("show", "remove"):
        done = kdtui(command, name)
        assert done.code == 2
        assert "\x1b" not in done.err
        assert "\x07" not in done.err
    assert len(store.runs()) == 1


def test_foreign_text_is_shown_without_its_escapes_and_markup_unparsed(kdtui: Kdtui, store: RunStore) -> None:
    run = make(store, "one")
    assert kdtui("note", "one", ESCAPES).code == 0
    run.worker_log.write_text(ESCAPES)
    for command in (["show", "one"], ["runs"], ["logs", "one"], ["watch", "one", "--once"]):
        done = kdtui(*command)
        assert "\x1b" not in done.out + done.err
        assert "\x07" not in done.out + done.err
    assert "[bold]markup[/bold]" in kdtui("show", "one").out
    assert "[bold]markup[/bold]" in kdtui("logs", "one").out


def test_a_pipe_in_the_place_of_a_file_stops_no_command(store: RunStore) -> None:
    """As a person starts them: one that waits would never end."""
    one, other = make(store, "one"), make(store, "other")
    for path in (one.manifest_path, one.launch_path, one.events_path, one.measurements_path, one.worker_log):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    told = "cannot be read: it is a pipe, not a file"
    shown = [["runs"], ["show", one.id], ["watch", one.id, "--once"]]
    refused = [["watch", one.id], ["logs", one.id]]
    commands = several(*shown, *refused, ["remove", one.id, "--yes"])
    with subprocess.Popen(commands, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        out, err = finished(process)
    assert [code for _, code in printed(out)] == [0, 0, 0, 3, 3, 0]
    for text, _ in printed(out)[:3]:
        for name in ("run.json", "launch.json", "events.jsonl"):
            assert f"{name} {told}" in text
    for (text, _), path in zip(printed(err)[3:5], (one.events_path, one.worker_log), strict=True):
        assert str(path) in text and "it is a pipe, not a file" in text
    assert store.runs() == [other]


def test_watch_once_returns_at_once_and_watch_ends_with_the_run(kdtui: Kdtui, store: RunStore) -> None:
    run = make(store, "one")
    assert "NEVER LAUNCHED" in kdtui("watch", "one", "--once").out
    assert kdtui("watch", "one", "--once", "--json").json["id"] == run.id
    kdtui("train", "baseline", "--name", "slow", "--epochs", "4", "--detach")
    done = kdtui("watch", "slow")
    assert done.code == 0
    assert "FINISHED" in done.out
    assert "epoch 4/4" in done.err


def test_logs_print_what_the_processes_wrote_and_follow_ends_with_the_run(kdtui: Kdtui, store: RunStore) -> None:
    make(store, "never")
    done = kdtui("logs", "never")
    assert (done.code, done.out) == (0, "")
    kdtui("train", "baseline", "--name", "slow", "--epochs", "4", "--detach")
    assert "worker of slow" in kdtui("logs", "slow", "-f").out


def test_logs_print_the_training_log_and_with_raw_what_the_processes_printed(kdtui: Kdtui, store: RunStore) -> None:
    run = make(store, "one")
    run.worker_log.write_text("AMP chatter\n")
    done = kdtui("logs", "one")
    assert done.out == "AMP chatter\n"
    assert "no training log yet" in done.err and f"kdtui logs --raw {run.id}" in done.err
    run.training_log.write_bytes(b"epoch 1\r\n\x1b[32mepoch 2\x1b[0m\rbar\n")
    done = kdtui("logs", "one")
    assert (done.out, done.err) == ("epoch 1\nepoch 2\nbar\n", "")
    assert kdtui("logs", "one", "--raw").out == "AMP chatter\n"


def test_logs_of_a_run_without_a_result_end_with_its_output(kdtui: Kdtui, store: RunStore) -> None:
    run = make(store, "one")
    run.training_log.write_text("epoch 1\n")
    run.worker_log.write_text("x" * 99 + "\n" + "noise\n" * 10_000 + "Killed: out of memory\n")
    with EventLog(run.events_path) as log:
        log.append(Exited(1, -9, "SIGKILL", 0))
    done = kdtui("logs", "one")
    assert done.out.startswith("epoch 1\nnoise\n") and done.out.endswith("Killed: out of memory\n")
    assert len(done.out) < 10_000
    with EventLog(run.events_path) as log:
        log.append(Failed("DataError", "no masks"))
    assert kdtui("logs", "one").out == "epoch 1\n"


def test_a_long_log_is_printed_in_pieces_and_only_as_far_as_it_is_read(store: RunStore) -> None:
    run = make(store, "one")
    with run.training_log.open("wb") as file:
        for _ in range(16):
            file.write((b"x" * 99 + b"\n") * 10_000)
    code = (
        "import resource, sys; from kdtui.cli.app import app; app(sys.argv[1:], standalone_mode=False);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    short = subprocess.run([sys.executable, "-c", code, "logs", "one", "--raw"], capture_output=True, check=True)
    whole = subprocess.run([sys.executable, "-c", code, "logs", "one"], capture_output=True, check=True)
    assert len(whole.stdout) == 16_000_000
    assert int(whole.stderr.split()[-1]) < int(short.stderr.split()[-1]) + 8 * 1024  # KiB
    argv = [sys.executable, "-c", "from kdtui.cli.app import main; main()", "logs", "one"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"x" * 99 + b"\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_stop_looks_every_name_up_first(kdtui: Kdtui, store: RunStore) -> None:
    run = store.find(kdtui("train", "baseline", "--name", "slower", "--epochs", "99", "--detach").out.strip())
    assert kdtui("stop", "slower", "typo").code == 2
    assert not run.stop_requested()
    assert kdtui("remove", "slower", "--yes").code == 2
    assert kdtui("stop", "slower", "--kill").code == 0
    assert "STOPPED" in kdtui("show", "slower").out
    done = kdtui("stop", "slower")
    assert done.code == 2
    assert "is not running" in done.err


def test_remove_reports_each_run_and_continues_after_one_that_cannot_be_removed(kdtui: Kdtui, store: RunStore) -> None:
    first, second, third = (store.create(Profile(name=name)) for name in ("one", "two", "three"))
    second.path.rename(store.root / "elsewhere")
    second.path.symlink_to(store.root / "elsewhere")
    done = kdtui("remove", first.id, second.id, third.id, "--yes")
    assert done.code == 3
    assert f"removed {first.id}" in done.err and f"removed {third.id}" in done.err
    assert "it is a symbolic link" in done.err and str(second.path) in done.err
    assert not first.path.exists() and not third.path.exists() and second.path.exists()


def test_remove_asks_for_confirmation_unless_yes_is_given(kdtui: Kdtui, store: RunStore) -> None:
    make(store, "one")
    make(store, "two")
    assert kdtui("remove", "one").code == 2  # there is no terminal to ask on
    assert len(store.runs()) == 2
    assert kdtui("remove", "one", "two", "one", "--yes").code == 0
    assert store.runs() == []


def test_a_note_replaces_the_former_and_keeps_the_tags(kdtui: Kdtui, store: RunStore) -> None:
    run = store.create(load("baseline"), tags=["kept"])
    kdtui("note", run.id, "first")
    kdtui("note", run.id, "second: ünïcode")
    assert run.notes().text == "second: ünïcode"
    assert "kept" in run.notes().tags


def test_damaged_folders_are_listed_with_what_is_wrong(kdtui: Kdtui, store: RunStore) -> None:
    run = make(store, "one")
    make(store, "two")
    run.profile_path.unlink()
    with run.events_path.open("a") as file:
        file.write('{"v":1,"kind":"measu')
    rows = kdtui("runs", "--json").json
    assert len(rows) == 2
    assert "profile.toml" in next(row for row in rows if row["id"] == run.id)["detail"]
    for command in (["show", run.id], ["watch", run.id, "--once"]):
        assert kdtui(*command).code == 0
    assert kdtui("show", run.id, "--json").code == 3
    assert kdtui("compare", run.id, "two").code == 3
    assert kdtui("resume", run.id).code == 3
    assert kdtui("remove", run.id, "--yes").code == 0


def test_a_reader_that_leaves_early_is_no_error(store: RunStore, here: Path) -> None:
    for number in range(3):
        make(store, f"run{number}")
    command = [sys.executable, "-c", "from kdtui.cli.app import main; main()", "runs", "--json"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_store_elsewhere(kdtui: Kdtui, here: Path) -> None:
    other = RunStore(here / "elsewhere")
    make(other, "one")
    assert kdtui("runs", "--runs-dir", "elsewhere", "--json").json[0]["name"] == "one"
    assert kdtui("runs", "--json").json == []
    (here / "file").write_text("no folder")
    assert kdtui("train", "baseline", "--runs-dir", str(here / "file")).code == 3


def test_compare_writes_its_files_and_every_format(kdtui: Kdtui, trained: Trained, here: Path) -> None:
    names = ["demo-teacher", "demo-baseline", "demo-distilled"]
    for name in names:
        trained(name, profile=name, teacher=names[0] if name == "demo-distilled" else None)
    body = kdtui("compare", *names, "--json").json
    assert body["baseline"].endswith("demo-baseline")
    assert body["rows"][0]["delta_baseline"] == pytest.approx(0.02)
    assert len(body["differing"]["distillation.enabled"]) == len(names)
    runs = json.loads((here / "runs" / "experiment_runs.json").read_text())
    assert [run["id"] for run in runs] == [row["id"] for row in body["rows"]]
    assert "delta_baseline" in (here / "runs" / "experiment_comparison.csv").read_text().splitlines()[0]
    assert "+0.0200" in kdtui("compare", *names).out
    assert kdtui("compare", *names, "--format", "csv").out == (here / "runs/experiment_comparison.csv").read_text()
    evidence, table, *_ = kdtui("compare", *names, "--format", "markdown").out.split("\n\n")
    assert evidence.startswith("- demo-distilled: Δ +0.0200, no interval: no counts per image; `kdtui evaluate ")
    assert table.startswith("| run |")
    done = kdtui("compare", *names, "--format", "json", "--to", "out.json")
    assert done.code == 0
    assert json.loads((here / "out.json").read_text()) == body
    assert kdtui("compare", *names, "--to", "missing/out.md").code == 2
    chosen = kdtui("compare", "demo-baseline", "demo-distilled", "--baseline", "demo-teacher", "--json").json
    assert chosen["baseline"].endswith("demo-teacher")
    assert len(chosen["rows"]) == 3
    assert kdtui("compare", "demo-baseline", "nothing").code == 2


@pytest.mark.parametrize(
    "words", [["compare"], ["stop"], ["remove", "--yes"], ["measure"], ["export"]], ids=lambda words: words[0]
)
def test_the_store_is_listed_once_for_many_runs(
    kdtui: Kdtui, store: RunStore, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [store.create(Profile(name=f"r{number}")) for number in range(5)]
    os.utime(store.root, (0, 0))
    listings: list[Path] = []
    listed = RunStore.runs

    def counted(self: RunStore) -> list[Run]:
        listings.append(self.root)
        return listed(self)

    monkeypatch.setattr(RunStore, "runs", counted)
    kdtui(*words, *(run.id for run in runs))
    assert listings == [store.root]


def test_watch_reads_the_end_of_long_events_and_knows_how_the_run_started(
    kdtui: Kdtui, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(store, "one")
    monkeypatch.setattr("kdtui.cli.follow._LAST", 2000)
    with EventLog(run.events_path) as log:
        log.append(Started(1, (), "cpu", "fp32", 1, 1, 99, 10, 0, {}))
        for step in range(1, 101):
            log.append(Measured("val", step * 10, step, step * 40, {"miou": 0.5}))
        log.append(Finished(1000, 99))
    done = kdtui("watch", "one")
    assert done.code == 0
    lines = [line for line in done.err.splitlines() if "epoch" in line]
    assert 0 < len(lines) < 40
    assert "epoch 100/99" in lines[-1]
