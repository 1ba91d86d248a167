"""Files of the teacher's logits: what is read is what was written, or nothing."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kdtui.store.view_logits import (
    FOLDER,
    ViewLogits,
    budget_bytes,
    clear,
    describe,
    entries,
    file_bytes,
    used_bytes,
    verify,
)

SAMPLES, BYTES = 5, 48


def values(index: int) -> bytes:
    return bytes((index * 7 + place) % 256 for place in range(BYTES))


def made(path: Path) -> ViewLogits:
    file = ViewLogits.make(path, SAMPLES, BYTES)
    assert file is not None
    return file


def test_each_sample_is_read_as_it_was_written_and_the_others_are_absent(tmp_path: Path) -> None:
    path = tmp_path / "a" / "view.logits"
    assert ViewLogits.open(path, SAMPLES, BYTES) is None
    first, second = made(path), made(path)
    first.write(4, values(4))
    second.write(0, values(0))
    for file in (first, second):
        assert [file.read(index) for index in range(SAMPLES)] == [values(0), None, None, None, values(4)]
        file.close()
    assert path.stat().st_size == file_bytes(SAMPLES, BYTES)
    assert [file.name for file in path.parent.iterdir()] == ["view.logits"]


@pytest.mark.parametrize("place", [72, 104, 104 + BYTES - 1, -1], ids=["entry", "first", "last", "end"])
def test_a_flipped_byte_makes_its_sample_absent(tmp_path: Path, place: int) -> None:
    path = tmp_path / "view.logits"
    file = made(path)
    for index in range(SAMPLES):
        file.write(index, values(index))
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    read = [file.read(index) for index in range(SAMPLES)]
    assert read.count(None) == 1
    assert all(one in (None, values(index)) for index, one in enumerate(read))


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-1],
        lambda content: content[:20],
        lambda content: b"",
        lambda content: b"X" + content[1:],
    ],
    ids=["cut", "header cut", "empty", "other version"],
)
def test_a_file_of_another_size_or_version_is_not_used(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "view.logits"
    made(path).close()
    path.write_bytes(change(path.read_bytes()))
    content = path.read_bytes()
    assert ViewLogits.open(path, SAMPLES, BYTES) is None
    assert ViewLogits.make(path, SAMPLES, BYTES) is None
    assert path.read_bytes() == content


def test_a_file_that_is_cut_while_it_is_open_has_no_samples_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "view.logits"
    file = made(path)
    for index in range(SAMPLES):
        file.write(index, values(index))
    os.truncate(path, file_bytes(SAMPLES, BYTES) - BYTES - 1)
    assert [file.read(index) is None for index in range(SAMPLES)] == [False, False, False, True, True]


def test_a_full_disk_is_noticed_when_the_file_is_made(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            ViewLogits.make(tmp_path / "view.logits", SAMPLES, BYTES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


_WRITER = """
import itertools, sys
from pathlib import Path
from kdtui.store.view_logits import ViewLogits
file = ViewLogits.make(Path(sys.argv[1]), 400, 200_000)
for index in itertools.cycle(range(400)):
    file.write(index, bytes([index % 251]) * 200_000)
"""


def test_what_a_killed_writer_leaves_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "view.logits"
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(path)]) for _ in range(2)]
    file = None
    deadline = time.monotonic() + 60
    while (file is None or not file.marked(60)) and time.monotonic() < deadline:
        file = file or ViewLogits.open(path, 400, 200_000)
        time.sleep(0.01)
    for writer in writers:
        writer.kill()
    for writer in writers:
        writer.wait()
    assert file is not None and file.marked(60)
    whole = 0
    for index in range(400):
        read = file.read(index)
        assert read is None or read == bytes([index % 251]) * 200_000
        whole += read is not None
    assert whole > 50


def test_the_files_of_a_store_are_listed_verified_and_removed(tmp_path: Path) -> None:
    for key, views in (("small", 1), ("large", 2)):
        folder = tmp_path / FOLDER / key
        describe(folder, {"teacher": key})
        for view in range(views):
            file = made(folder / f"view-{view:06d}.logits")
            file.write(1, values(1))
            file.write(2, values(2))
            file.close()
    path = tmp_path / FOLDER / "large" / "view-000001.logits"
    content = bytearray(path.read_bytes())
    content[file_bytes(SAMPLES, BYTES) - 3 * BYTES] ^= 1  # in the third sample
    path.write_bytes(content)
    (tmp_path / FOLDER / "small" / "view-000007.logits").write_bytes(b"?")

    large, small = entries(tmp_path)
    assert (large.about, large.views, large.bytes) == ({"teacher": "large"}, 2, 2 * file_bytes(SAMPLES, BYTES))
    checked = verify(large)
    assert (checked.whole, checked.absent, checked.damaged, checked.unreadable) == (3, 6, 1, ())
    assert [path.name for path in verify(small).unreadable] == ["view-000007.logits"]

    used = used_bytes(tmp_path)
    assert used == 3 * file_bytes(SAMPLES, BYTES) + 1
    assert clear(tmp_path) == used
    assert entries(tmp_path) == [] and clear(tmp_path) == 0


def test_the_budget_is_the_setting_or_a_share_of_the_disk(tmp_path: Path) -> None:
    assert budget_bytes(tmp_path / "not" / "there", 0.5) == 2**29
    assert 0 < budget_bytes(tmp_path / "not" / "there", None) <= 20 * 2**30
