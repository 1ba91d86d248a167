from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kdtui.tui.machine import MachineSource, gpu_word
from kdtui.tui.watch import MachineRead


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which programs are looked for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def smi(folder: Path, code: str) -> None:
    """Put an ``nvidia-smi`` there."""
    file = folder / "nvidia-smi"
    file.write_text(f"#!{sys.executable}\nimport sys\n{code}\n")
    file.chmod(0o755)


def words(machine: MachineSource) -> tuple[str, ...]:
    told = list(machine.poll())
    assert len(told) == 1 and isinstance(told[0], MachineRead)
    return told[0].words


def test_processor_and_memory(programs: Path) -> None:
    assert [word.split()[0] for word in words(MachineSource(0.5, lambda: True))] == ["CPU", "mem"]


def test_every_gpu_is_described(programs: Path) -> None:
    smi(programs, "print('87, 11264, 81559\\n[N/A], 0, 81559\\nno numbers')")
    machine = MachineSource(0.5, lambda: True)
    assert words(machine)[2:] == ("GPU 87% 11/80G", "GPU ? 0/80G")
    smi(programs, "print('1, 11264, 81559')")
    assert words(machine)[2:] == ("GPU 1% 11/80G",)


def test_a_broken_driver_is_reported_and_not_called_again_at_once(programs: Path, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    smi(programs, f"open({str(asked)!r}, 'a').write('x'); sys.exit(9)")
    machine = MachineSource(0.5, lambda: True)
    assert words(machine)[2:] == ("GPU ?",)
    for _ in range(3):
        list(machine.poll())
    assert asked.read_text() == "x"


def test_the_load_is_not_updated_without_live_runs(programs: Path) -> None:
    moving = False
    machine = MachineSource(0.5, lambda: moving)
    assert words(machine)
    assert [list(machine.poll()) for _ in range(3)] == [[], [], []]
    moving = True
    smi(programs, "print('1, 2, 3')")
    assert machine.period >= 2.0  # the driver is not asked more often


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("87, 11264, 81559", "GPU 87% 11/80G"),
        (" 0 , 512 , 24576 ", "GPU 0% 0/24G"),
        ("[N/A], 11264, 81559", "GPU ? 11/80G"),
        ("87, [N/A], 81559", ""),
        ("", ""),
        ("a, b, c, d", ""),
    ],
)
def test_a_line_of_the_driver_is_described(line: str, word: str) -> None:
    assert gpu_word(line) == word
