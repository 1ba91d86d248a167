from __future__ import annotations

from collections.abc import Sequence

from kdtui.compare.measured import NOISY, rows
from kdtui.tui.values import TextLine
from kdtui.tui.views.compression import (
    NOT_MEASURED,
    QUARTILES,
    Measurements,
    NetworkSize,
    compression,
    read_measured,
    remarks,
)
from tests.tui.scenes import Scene

STUDENT, TEACHER = NetworkSize(1_000_000, 10**9, 2 * 2**20), NetworkSize(3_000_000, 4 * 10**9, 6 * 2**20)


def text(lines: Sequence[TextLine]) -> str:
    return "\n".join("".join(part for part, _ in line) for line in lines)


def words(lines: Sequence[TextLine]) -> dict[str, list[str]]:
    """Label to the other words of its line."""
    return {line[0][0].strip(): "".join(part for part, _ in line[1:]).split() for line in lines}


def measured(scene: Scene, *, taught: bool = True, spread: float = 0.08) -> Measurements:
    run = scene.finished("b0", teacher=scene.finished("b3") if taught else None)
    scene.measured(run, 0.05, teacher=0.08, spread=spread)
    return read_measured(run)


def test_the_teacher_is_listed_before_the_student() -> None:
    found = words(compression(STUDENT, TEACHER))
    assert [line[-1] for line in found.values() if line] == ["3.00x", "3.00x", "4.00x", "3.00x"]
    assert max(map(len, text(compression(STUDENT, TEACHER)).splitlines())) <= 37


def test_unknown_values_have_no_row_and_incomparable_files_no_ratio() -> None:
    found = words(compression(NetworkSize(100, None, 10), NetworkSize(300, None, 30), comparable=False))
    assert "MACs" not in found and found["checkpoint"][-1] == "-"
    assert compression(NetworkSize(), NetworkSize()) == []
    assert "teacher" not in text(compression(NetworkSize(100), None))


def test_without_measurements_the_measuring_key_is_named() -> None:
    assert NOT_MEASURED in text(compression(STUDENT, TEACHER, measured=Measurements()))
    assert NOT_MEASURED not in text(compression(STUDENT, TEACHER))
    assert NOT_MEASURED not in text(compression(STUDENT, TEACHER, measured=Measurements(trouble="damaged")))


def test_measurements_of_both_networks_are_displayed(scene: Scene) -> None:
    lines = text(compression(STUDENT, TEACHER, measured=measured(scene)))
    for label in ("memory", "ONNX fp32", "ONNX int8", "latency of 1 image, ms", "latency of 8 images, ms", " torch"):
        assert label in lines
    assert "80.0      50.0  1.60x" in lines and "480       300  1.60x" in lines
    assert "0.7540" in lines and NOT_MEASURED not in lines
    assert max(map(len, lines.splitlines())) <= 37  # at 80 columns beside other panels


def test_measured_macs_replace_those_of_the_catalog(scene: Scene) -> None:
    found = measured(scene)
    counted = next(line.student for line in found.quantities if line.label == "MACs")
    student = NetworkSize(1_000_000, counted * 2)
    assert words(compression(student, TEACHER, measured=found))["MACs"][2] == f"{counted / 1e9:.2f}"


def test_quartiles_are_displayed_with_the_median_if_they_fit(scene: Scene) -> None:
    found = measured(scene)
    wide = text(compression(STUDENT, TEACHER, measured=found, room=QUARTILES))
    assert "50.0 (48.0-52.0)" in wide and "(quartiles)" in wide and max(map(len, wide.splitlines())) <= QUARTILES
    assert "(48.0-52.0)" not in text(compression(STUDENT, TEACHER, measured=found, room=QUARTILES - 1))


def test_a_run_without_a_teacher_has_one_column_with_quartiles(scene: Scene) -> None:
    lines = text(compression(STUDENT, None, measured=measured(scene, taught=False)))
    assert "teacher" not in lines and "50.0 (48.0-52.0)" in lines
    assert max(map(len, lines.splitlines())) <= 37


def test_conditions_and_noise_of_measurements_are_displayed(scene: Scene) -> None:
    quiet, noisy = text(remarks(measured(scene))), text(remarks(measured(scene, spread=0.5)))
    assert (
        all(word in quiet for word in ("96 x 64", "a processor", "1 thread", "30 interleaved")) and NOISY not in quiet
    )
    assert NOISY in noisy
    assert remarks(None) == [] and remarks(Measurements()) == []
    assert text(remarks(Measurements(trouble="damaged"))) == "damaged"


def test_the_table_of_the_command_has_the_same_quantities(scene: Scene) -> None:
    run = scene.finished("b0", teacher=scene.finished("b3"))
    table = rows(scene.measured(run))
    assert [line.label for line in read_measured(run).quantities] == [row[0] for row in table]
    assert "50.00 ms (48.00 to 52.00)" in next(row for row in table if row[0] == "torch, batch 1")
