"""A store that cannot be written is reported by everything that would write there, before it does."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kdtui.errors import StoreError
from kdtui.launch.plan import store_check
from kdtui.profile import Profile
from kdtui.store.files import remedy
from kdtui.store.run import Run
from kdtui.store.store import RunStore
from kdtui.store.writable import check_run_writable, check_writable, not_writable

NOBODY = 65534


@contextmanager
def an_ordinary_user() -> Iterator[None]:
    """Modes mean nothing to root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may enter and only its owner may write, as with umask 022."""
    folder = Path(tempfile.mkdtemp(prefix="kdtui-test-"))
    folder.chmod(0o755 if os.geteuid() == 0 else 0o555)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_store_is_checked_by_writing_and_left_as_it_was(tmp_path: Path) -> None:
    root = tmp_path / "not" / "there" / "yet"
    check_writable(root)
    assert list(tmp_path.iterdir()) == []
    root.mkdir(parents=True)
    check_writable(root)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("below", ["", "runs", "a/b/runs"])
def test_a_store_of_another_user_is_refused_with_owner_mode_and_remedy(shared: Path, below: str) -> None:
    root = shared / below
    with an_ordinary_user():
        checked = store_check(root)
        with pytest.raises(StoreError) as caught:
            RunStore(root).create(Profile(name="a"))
    assert not checked.ok and checked.message == caught.value.message
    for words in (str(shared), "it belongs to", "mode dr-xr-xr-x" if os.geteuid() else "mode drwxr-xr-x", "you are"):
        assert words in checked.message
    assert checked.hint is not None
    theirs = ("chmod g+rwxs", "umask 002") if os.geteuid() == 0 else ()  # an owner needs no one to share it
    for words in ("--runs-dir", *theirs):
        assert words in checked.hint


def test_a_file_in_place_of_the_store_is_named(tmp_path: Path) -> None:
    file = tmp_path / "runs"
    file.write_text("")
    for root in (file, file / "below"):
        with pytest.raises(StoreError, match="the run store is not a folder") as caught:
            check_writable(root)
        assert caught.value.where == str(file)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EROFS, "remount the disk read-write"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EACCES, "write permission"),
    ],
)
def test_each_reason_for_which_a_file_is_not_written_has_its_remedy(number: int, words: str) -> None:
    assert words in remedy(OSError(number, os.strerror(number)))


def test_a_run_folder_is_checked_by_writing_and_left_as_it_was(shared: Path) -> None:
    if os.geteuid() == 0:  # the owner, to whom the mode means nothing
        check_run_writable(shared)
    with an_ordinary_user(), pytest.raises(StoreError, match="the run folder is not writable") as caught:
        check_run_writable(shared)
    assert "write permission" in str(caught.value.hint)
    assert list(shared.iterdir()) == []


def test_a_run_on_a_read_only_disk_is_not_removed_and_the_disk_is_the_reason(
    store: RunStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = list(os.statvfs(run.path))
    status[8] |= os.ST_RDONLY
    monkeypatch.setattr(os, "access", lambda *arguments, **options: False)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(status))
    with pytest.raises(StoreError, match="nothing was deleted") as caught:
        store.remove(run)
    assert caught.value.found == "Read-only file system" and "remount the disk" in str(caught.value.hint)
    assert run.profile_path.exists()


def test_a_stop_that_cannot_be_requested_names_the_alternative(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(StoreError, match="stop file") as caught:
        run.request_stop()
    assert "remount the disk" in str(caught.value.hint) and f"kdtui stop --kill {run.id}" in str(caught.value.hint)


def test_a_full_disk_and_a_read_only_one_are_named(tmp_path: Path) -> None:
    full = not_writable(tmp_path, OSError(errno.ENOSPC, "No space left on device"))
    assert "full" in full.what and "free some space" in str(full.hint)
    read_only = not_writable(tmp_path, OSError(errno.EROFS, "Read-only file system"))
    assert read_only.found == "Read-only file system" and "--runs-dir" in str(read_only.hint)
