from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from kdtui.store.export_files import clear_temporary, work_folder
from kdtui.store.identity import hostname, start_ticks


def dead() -> str:
    """Pid and start of a process that ran here and is gone."""
    with subprocess.Popen(["sleep", "60"]) as process:
        who = f"{process.pid}-{start_ticks(process.pid)}"
        process.kill()
    return who


def test_only_what_an_export_left_is_taken_away(tmp_path: Path) -> None:
    alive = f".export-{hostname()}-{os.getpid()}-{start_ticks(os.getpid())}"
    left = f".export-{hostname()}-{dead()}"
    for name in (".export-tmp", ".export-a-b-c", alive, left):
        (tmp_path / name).mkdir()
    clear_temporary(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".export-tmp", ".export-a-b-c", alive}


@pytest.mark.parametrize("host", ["node-7-of-another-rack-", ""])
def test_what_another_host_works_in_stays_until_nothing_was_written_for_a_day(tmp_path: Path, host: str) -> None:
    theirs = tmp_path / f".export-{host}{dead()}"
    theirs.mkdir()
    (theirs / "fp32.onnx").write_bytes(b"half")
    long_ago = time.time() - 2 * 86400
    os.utime(theirs, (long_ago, long_ago))
    clear_temporary(tmp_path)
    assert (theirs / "fp32.onnx").exists()  # written just now
    os.utime(theirs / "fp32.onnx", (long_ago, long_ago))
    clear_temporary(tmp_path)
    assert not theirs.exists()


def test_an_export_works_in_a_folder_that_only_its_own_host_judges(tmp_path: Path) -> None:
    with work_folder(tmp_path / "a.onnx") as work:
        clear_temporary(tmp_path)
        assert work.is_dir()
        assert hostname() in work.name
    assert list(tmp_path.iterdir()) == []
