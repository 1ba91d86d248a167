from __future__ import annotations

import codecs
import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kdtui.errors import AmbiguousRun, RunNotFound, StoreError, UsageError
from kdtui.profile import Profile, Training
from kdtui.profile.term_tables import DISTILLATION_TERMS, SUPERVISED_TERMS
from kdtui.store.run import Notes, Run
from kdtui.store.state import Liveness
from kdtui.store.store import RunStore
from tests.store.conftest import record, write
from tests.store.conftest import started as started_event

PROFILE = Profile(name="abc", training=Training(epochs=7))


def test_a_made_run_is_whole(store: RunStore) -> None:
    run = store.create(PROFILE, tags=["x", "x"], teacher={"checkpoint": "t", "sha256": "0", "run": None}, origin="test")
    assert run.id.endswith("-abc")
    assert run.profile() == PROFILE
    assert run.profile_table()["training"]["epochs"] == 7
    manifest = run.manifest()
    assert (manifest.id, manifest.name, manifest.origin) == (run.id, "abc", "test")
    assert manifest.teacher == {"checkpoint": "t", "sha256": "0", "run": None}
    assert manifest.versions["python"]
    assert run.notes() == Notes(("x",))
    assert run.launch_record() is None
    assert all(folder.is_dir() for folder in (run.checkpoints, run.logs, run.visualizations, run.evaluations))


def test_a_table_that_would_take_all_memory_is_damage(store: RunStore) -> None:
    run = store.create(Profile(name="one"))
    run.notes_path.write_text("a" + ".a" * 100_000 + " = 1")
    assert "notes.toml is damaged" in store.summary(run).detail
    with pytest.raises(StoreError, match="more than 32 parts"):
        run.notes()


def test_ids_of_one_moment_end_in_a_counter(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdtui.store.store.time.strftime", lambda *_: "20260102-030405")
    runs = [store.create(PROFILE) for _ in range(12)]
    assert [run.id for run in runs] == ["20260102-030405-abc", *(f"20260102-030405-abc-{n}" for n in range(2, 13))]
    assert store.find("latest") == runs[-1]
    assert [row.id for row in store.summaries()] == [run.id for run in runs]


def test_many_creators_at_once_make_as_many_runs(store: RunStore) -> None:
    code = (
        "import sys; from kdtui.profile import Profile; from kdtui.store.store import RunStore;"
        "[print(RunStore(sys.argv[1]).create(Profile(name='abc')).id) for _ in range(10)]"
    )
    makers = [
        subprocess.Popen([sys.executable, "-c", code, str(store.root)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ids = [line for maker in makers for line in maker.communicate()[0].split()]
    assert len(ids) == len(set(ids)) == 30
    assert {run.id for run in store.runs()} == set(ids)
    assert {store.find(name).manifest().id for name in ids} == set(ids)


def test_a_folder_in_the_way_is_left_alone(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdtui.store.store.time.strftime", lambda *_: "20260102-030405")
    (store.root / "20260102-030405-abc").mkdir(parents=True)  # empty: a plain rename would replace it
    (store.root / ".new-20260102-030405-abc-2").mkdir()  # another creator's, at work or dead
    assert store.create(PROFILE).id == "20260102-030405-abc-3"
    assert list((store.root / "20260102-030405-abc").iterdir()) == []


def test_half_made_runs_are_not_seen(store: RunStore) -> None:
    store.create(PROFILE)
    (store.root / ".new-20260102-030405-half").mkdir()
    (store.root / "experiment_runs.json").write_text("[]")
    (store.root / "a user's folder").mkdir()
    assert len(store.runs()) == len(store.summaries()) == 1


@pytest.mark.parametrize("name", ["../../x", "a/b", "..", ".hidden", "-x", "", "a..b", "x\x1b[31m", "x\n", "ü"])
def test_a_name_that_no_folder_should_have_makes_nothing(store: RunStore, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        store.create(PROFILE.model_copy(update={"name": name}))
    assert "\x1b" not in str(caught.value)
    assert not store.root.exists()


def test_a_store_that_cannot_be_written_is_reported_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="the run store is not a folder"):
        RunStore(tmp_path / "file" / "runs").create(PROFILE)
    assert RunStore(tmp_path / "none").runs() == []
    with pytest.raises(StoreError, match="cannot be listed"):
        RunStore(tmp_path / "file").summaries()


def test_the_default_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDTUI_RUNS", raising=False)
    assert RunStore().root == tmp_path / "runs"
    monkeypatch.setenv("KDTUI_RUNS", str(tmp_path / "else"))
    assert RunStore().root == tmp_path / "else"
    assert RunStore(tmp_path / "given").root == tmp_path / "given"


class TestFind:
    @pytest.fixture
    def stocked(self, store: RunStore, monkeypatch: pytest.MonkeyPatch) -> RunStore:
        for stamp, name in (
            ("20260101-000000", "a"),
            ("20260101-000001", "b"),
            ("20260202-000000", "a"),
            *[("20260303-000000", "a-2")],
        ):
            monkeypatch.setattr("kdtui.store.store.time.strftime", lambda *_, stamp=stamp: stamp)
            store.create(Profile(name=name))
        return store

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("latest", "20260303-000000-a-2"),
            ("20260101-000000-a", "20260101-000000-a"),
            ("b", "20260101-000001-b"),
            ("a-2", "20260303-000000-a-2"),
            ("202602", "20260202-000000-a"),
            ("20260303-000000-a", "20260303-000000-a-2"),
        ],
    )
    def test_what_answers(self, stocked: RunStore, text: str, found: str) -> None:
        assert stocked.find(text).id == found

    @pytest.mark.parametrize(("text", "ids"), [("a", ["20260101-000000-a", "20260202-000000-a"]), ("202601", [])])
    def test_several_are_listed(self, stocked: RunStore, text: str, ids: list[str]) -> None:
        with pytest.raises(AmbiguousRun) as caught:
            stocked.find(text)
        assert caught.value.exit_code == 2
        assert all(run_id in str(caught.value) for run_id in ids)
        assert "20260303" not in str(caught.value)

    def test_the_nearest_is_offered(self, stocked: RunStore) -> None:
        with pytest.raises(RunNotFound, match="20260101-000000-a"):
            stocked.find("20260101-00000-a")

    @pytest.mark.parametrize("text", ["", "../x", "a/b", "/etc", "..", ".", ".cache", "x\x1b[31m", "a\0", "a\n"])
    def test_what_could_be_a_way_out_is_never_a_path(self, stocked: RunStore, text: str) -> None:
        with pytest.raises(RunNotFound) as caught:
            stocked.find(text)
        assert "\x1b" not in str(caught.value)

    def test_an_empty_store_hints_at_the_first_command(self, store: RunStore) -> None:
        for text in ("latest", "x"):
            with pytest.raises(RunNotFound, match="kdtui train"):
                store.find(text)

    def test_a_run_without_its_manifest_is_found_by_the_name_in_its_id(self, stocked: RunStore) -> None:
        run = stocked.find("b")
        run.manifest_path.unlink()
        assert stocked.find("b") == run


def test_folders_with_names_of_their_own_are_found(store: RunStore) -> None:
    for name in ("mine", "yours"):
        run = store.create(PROFILE)
        run.path.rename(store.root / name)
    assert store.find("latest").id == "yours"
    assert store.find("mine").id == "mine"
    with pytest.raises(AmbiguousRun):
        store.find("abc")


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of a user who may not do everything: root deletes whatever its mode."""
    with tempfile.TemporaryDirectory() as folder:
        root = os.geteuid() == 0
        if root:
            codecs.lookup("ascii")  # loaded while this user may read the interpreter's files
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        try:
            yield Path(folder) / "runs"
        finally:
            if root:
                os.seteuid(0)


class TestRemove:
    def test_a_removed_run_no_longer_exists(self, store: RunStore) -> None:
        run = store.create(PROFILE)
        store.remove(run)
        assert store.runs() == []
        assert [entry.name for entry in store.root.iterdir() if entry.name != ".cache"] == []

    def test_a_damaged_one_goes_too(self, store: RunStore) -> None:
        run = store.create(PROFILE)
        for path in (run.profile_path, run.manifest_path):
            path.write_bytes(b"\xff")
        store.remove(run)
        assert store.runs() == []

    def test_a_live_one_stays(self, store: RunStore) -> None:
        run = store.create(PROFILE)
        run.write_launch_record(record())
        write(run, [started_event()])
        living = RunStore(store.root, alive=lambda *_: Liveness.ALIVE)
        with pytest.raises(UsageError, match="kdtui stop"):
            living.remove(run)
        assert run.profile_path.exists()

    def test_one_whose_lock_is_held_stays_whatever_its_files_say(self, store: RunStore) -> None:
        run = store.create(PROFILE)
        with run.beat_path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(UsageError, match="kdtui stop"):
                store.remove(run)
        store.remove(run)

    def test_a_lost_one_without_its_launch_record_goes(self, store: RunStore) -> None:
        run = store.create(PROFILE)
        write(run, [started_event()])
        store.remove(run)
        assert not run.path.exists()

    @pytest.mark.parametrize("mode", [0o555, 0o000])
    def test_a_folder_that_cannot_be_emptied_is_refused_before_anything_goes(
        self, unprivileged: Path, mode: int
    ) -> None:
        store = RunStore(unprivileged)
        run = store.create(PROFILE)
        (run.checkpoints / "last.pth").touch()
        run.checkpoints.chmod(mode)
        with pytest.raises(StoreError, match="nothing was deleted") as caught:
            store.remove(run)
        run.checkpoints.chmod(0o755)
        assert caught.value.where == str(run.checkpoints)
        assert f"mode {mode:o}" in str(caught.value.found)
        assert [found.id for found in store.runs()] == [run.id]
        assert (run.checkpoints / "last.pth").exists()
        store.remove(run)
        assert not run.path.exists()

    def test_what_could_not_be_deleted_is_still_listed_with_the_next_step(
        self, store: RunStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = store.create(PROFILE)
        rmtree = shutil.rmtree

        def immutable(path: Path) -> None:  # as of a file with chattr +i, which no look beforehand sees
            if path.name == "evaluations":
                raise OSError(errno.EPERM, "Operation not permitted", str(path / "val.json"))
            rmtree(path)

        monkeypatch.setattr(shutil, "rmtree", immutable)
        with pytest.raises(StoreError, match="only partly removed") as caught:
            store.remove(run)
        assert caught.value.where == str(run.evaluations / "val.json")
        [row] = store.summaries()
        assert (row.id, row.state.word) == (run.id, "FAILED")
        assert row.detail == "partly removed: some of its files could not be deleted"
        assert f"kdtui remove {run.id}" in (row.hint or "")
        monkeypatch.undo()
        store.remove(run)
        assert store.runs() == []

    def test_a_link_to_a_folder_elsewhere_is_kept(self, store: RunStore, tmp_path: Path) -> None:
        run = store.create(PROFILE)
        run.path.rename(tmp_path / "elsewhere")
        run.path.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StoreError, match="a symbolic link"):
            store.remove(run)
        assert (tmp_path / "elsewhere" / "checkpoints").is_dir()

    def test_a_link_in_it_is_removed_and_what_it_points_to_is_kept(self, store: RunStore, tmp_path: Path) -> None:
        run = store.create(PROFILE)
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "kept").touch()
        (run.path / "linked").symlink_to(tmp_path / "elsewhere")
        store.remove(run)
        assert store.runs() == []
        assert (tmp_path / "elsewhere" / "kept").exists()

    def test_one_that_is_not_there_is_reported(self, store: RunStore) -> None:
        store.root.mkdir()
        with pytest.raises(StoreError):
            store.remove(Run(store.root / "20260101-000000-x"))


def test_damaged_files_are_errors_that_name_them(store: RunStore) -> None:
    run = store.create(PROFILE)
    for path, read in (
        (run.manifest_path, run.manifest),
        (run.profile_path, run.profile),
        (run.notes_path, run.notes),
        (run.launch_path, run.launch_record),
    ):
        path.write_bytes(b"[1")
        with pytest.raises(StoreError, match=path.name):
            read()
    run.profile_path.write_text('name = "x"\nnothing = 3\n')
    with pytest.raises(StoreError, match="nothing"):
        run.profile()


@pytest.mark.parametrize(
    ("text", "key", "kinds"),
    [
        ('[data]\nkind = "absent"\nfolds = 3', "data.kind", "synthetic, coco, folder"),
        ('[student]\nkind = "absent"\nblocks = 3', "student.kind", "smp, roi"),
        ('[launch]\ntarget = "absent"\nhost = "a"', "launch.target", "local"),
        (
            '[[distillation.terms]]\nkind = "kl"\n[[distillation.terms]]\nkind = "absent"\nfolds = 3',
            "distillation.terms[1].kind",
            ", ".join(term.model_fields["kind"].default for term in DISTILLATION_TERMS),
        ),
        (
            '[[loss.terms]]\nkind = "absent"\nfolds = 3',
            "loss.terms[0].kind",
            ", ".join(term.model_fields["kind"].default for term in SUPERVISED_TERMS),
        ),
    ],
)
def test_a_kind_of_a_package_that_was_uninstalled_is_one_message(
    store: RunStore, text: str, key: str, kinds: str
) -> None:
    run = store.create(PROFILE)
    run.profile_path.write_text(f'name = "x"\n{text}\n')
    with pytest.raises(StoreError) as caught:
        run.profile()
    assert caught.value.found is not None
    assert caught.value.found.startswith(f"{key} ({run.profile_path.parent}")
    assert caught.value.found.endswith(f"found 'absent'; allowed: {kinds}")
    assert caught.value.hint == "install the package that provides it; `kdtui doctor` lists the installed extensions"


def test_records_and_notes_come_back(store: RunStore) -> None:
    run = store.create(PROFILE)
    mine = record(3, ranks=({"pid": 1, "start_ticks": 2, "boot_id": "b"},))
    run.write_launch_record(mine)
    assert run.launch_record() == mine
    run.write_notes(Notes(("a",), 'line "1"\nline 2'))
    assert run.notes() == Notes(("a",), 'line "1"\nline 2')
    run.request_stop()
    assert run.stop_requested()
    run.clear_stop()
    run.clear_stop()
    assert not run.stop_requested()


def test_a_link_that_leads_to_itself_hides_no_other_run(store: RunStore) -> None:
    run = store.create(Profile(name="one"))
    (store.root / "20260101-000000-loop").symlink_to("20260101-000000-loop")
    assert store.runs() == [run]
    assert store.find("latest") == run


def test_a_stop_file_that_may_not_be_made_names_the_user_to_ask(unprivileged: Path) -> None:
    run = RunStore(unprivileged).create(PROFILE)
    run.path.chmod(0o555)
    with pytest.raises(StoreError, match="stop file") as caught:
        run.request_stop()
    run.path.chmod(0o755)
    assert caught.value.found == f"Permission denied; the folder belongs to {run.path.owner()}"
    assert "let that user" in (caught.value.hint or "")


def test_many_names_are_looked_up_with_one_listing(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [store.create(Profile(name=f"r{number}")) for number in range(6)]
    listings: list[Path] = []
    scandir = os.scandir

    def counted(path: Path) -> Any:
        listings.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    names = ["latest", *(run.id for run in runs), *(f"r{number}" for number in range(6)), runs[2].id[:-1] + "2"]
    assert store.find_all(names) == [runs[5], *runs[:5]]
    assert listings == [store.root]
    os.utime(store.root, (0, 0))  # a folder that did not change for a while is not listed for each name
    for run in runs:
        assert store.find(run.id) == run
    assert len(listings) == 2
    runs[0].path.rename(store.root / "other")
    assert store.find("other").id == "other"


@pytest.mark.parametrize("name", ["notes.toml", "launch.json", "run.json", "profile.toml", "overrides.toml"])
@pytest.mark.parametrize("damage", [b"[[[", b"\xff\xfe", None])
def test_no_hint_about_a_damaged_file_destroys_the_run(store: RunStore, name: str, damage: bytes | None) -> None:
    run = store.create(PROFILE)
    file = run.path / name
    file.unlink(missing_ok=True)
    if damage is None:
        file.mkdir()
    else:
        file.write_bytes(damage)
    readers: dict[str, Callable[[], object]] = {
        "notes.toml": run.notes,
        "launch.json": run.launch_record,
        "run.json": run.manifest,
        "profile.toml": run.profile_table,
        "overrides.toml": run.profile_table,
    }
    with pytest.raises(StoreError, match=name) as caught:
        readers[name]()
    assert "that file" in (caught.value.hint or "")
    assert "remove" not in (caught.value.hint or "")


def test_a_suggested_run_is_one_that_can_be_named(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of one name that are made in the same second have different ends of their ids, which are no names."""
    monkeypatch.setattr("time.strftime", lambda *_: "20260102-030405")
    first, second = (store.create(Profile(name="alone")) for _ in range(2))
    assert second.id == f"{first.id}-2"
    with pytest.raises(RunNotFound) as missing:
        store.find("alone-2")
    suggested = str(missing.value.allowed).removeprefix("perhaps ").split(", ")
    assert second.id in suggested and "alone-2" not in suggested
