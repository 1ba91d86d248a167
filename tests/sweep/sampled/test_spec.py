"""What a sampled sweep consists of: ranges, its id, its folder, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdtui.errors import StoreError, UsageError
from kdtui.store.store import RunStore
from kdtui.sweep.file import read_file
from kdtui.sweep.folder import create, find
from kdtui.sweep.ranges import Range, is_range
from kdtui.sweep.sampled.spec import Request, SampledSpec, check_trials, from_tables, read_request
from tests.sweep.sampled.sampling import ALPHA, RANGES, RATE, T, spec_of


@pytest.fixture
def spec(store: RunStore, teacher: Path) -> SampledSpec:
    return spec_of(store, teacher)


def test_ranges_have_the_type_of_their_key(store: RunStore, teacher: Path) -> None:
    words = (f"{T}=1..8", f"{RATE}=1e-4 .. 1e-2 : log", "training.epochs=10..40")
    assert spec_of(store, teacher, *words).axes == (
        Range(T, 1.0, 8.0),
        Range(RATE, 1e-4, 1e-2, log=True),
        Range("training.epochs", 10, 40),
    )


def test_drawn_numbers_have_few_digits_and_stay_in_their_range() -> None:
    assert Range(RATE, 1e-4, 1e-2, log=True).value(0.000312345678) == 0.0003123
    assert Range(T, 1.2344, 8.0).value(1.23441) == 1.2344  # 1.234 is outside
    assert Range("training.epochs", 10, 40).value(12.0) == 12
    assert Range(RATE, 1e-4, 1e-2, log=True).middle == 1e-3 and Range(T, 1.0, 8.0).middle == 4.5


@pytest.mark.parametrize("text", ["1..8", "1e-4..1e-2:log", "0.5..1e0", "-1..+2", "1..8:exp"])
def test_a_range_is_two_numbers(text: str) -> None:
    assert is_range(text)


@pytest.mark.parametrize("text", ["1..", "..8", "a..b", "1...8", "1..8..9", "run:a..b", "1-8"])
def test_other_texts_are_values(text: str) -> None:
    assert not is_range(text)


@pytest.mark.parametrize(
    "same",
    [
        tuple(reversed(RANGES)),
        (f"{T}=1.0..8e0", f"{RATE}=0.0001..0.01:log"),
        (*RANGES, 'description="another"'),
    ],
)
def test_the_same_request_has_the_same_id(
    store: RunStore, teacher: Path, spec: SampledSpec, same: tuple[str, ...]
) -> None:
    assert spec_of(store, teacher, *same).id == spec.id


def test_another_request_has_another_id(store: RunStore, teacher: Path, spec: SampledSpec) -> None:
    others = [
        spec_of(store, teacher, f"{T}=1..9", RANGES[1]),
        spec_of(store, teacher, f"{T}=1..8:log", RANGES[1]),
        spec_of(store, teacher, *RANGES, prune=True),
        spec_of(store, teacher, *RANGES, with_baseline=True),
        spec_of(store, teacher, *RANGES, seeds=(0, 1)),
        spec_of(store, teacher, *RANGES, "training.epochs=3"),
        spec_of(store, teacher, *RANGES, f"{ALPHA}=0.3,0.5"),
    ]
    assert len({spec.id, *(other.id for other in others)}) == 8


def test_a_folder_gives_the_sweep_back(store: RunStore, teacher: Path) -> None:
    spec = spec_of(store, teacher, *RANGES, methods="kl,cwd", seeds=(0, 1), prune=True, with_baseline=True)
    folder = create(store.root, spec.id, spec.to_tables())
    read = from_tables(folder)
    assert read == spec and read.id == spec.id and find(store.root, "latest") == folder and folder.verb == "sweep"
    cell = {"method": "cwd", T: 2.5, RATE: 1e-3}
    assert read.cell(cell).profile == spec.cell(cell).profile
    assert read.cell(cell).profile.name == "demo-distilled-cwd-T2.5-learning_rate-0.001"
    assert [one.values["method"] for one in spec.examples()] == ["kl", "cwd"]


def test_the_number_of_trials_is_not_part_of_it(store: RunStore, spec: SampledSpec) -> None:
    folder = create(store.root, spec.id, spec.to_tables())
    with pytest.raises(StoreError, match="number of trials"):
        read_request(folder)
    for request in (Request(5, ("a",)), Request(8)):
        request.write(folder)
        assert read_request(folder) == request and from_tables(folder) == spec
    for damage in ("", "{}", '{"trials": 0, "tags": []}', '{"trials": "8", "tags": []}', "[]"):
        (folder.path / "request.json").write_text(damage)
        with pytest.raises(StoreError, match="number of trials"):
            read_request(folder)


def test_a_small_space_limits_the_trials(store: RunStore, teacher: Path, spec: SampledSpec) -> None:
    small = spec_of(store, teacher, "training.epochs=3..5", methods="kl,cwd")
    assert (small.size, check_trials(20, small), check_trials(2, small)) == (6, 6, 2)
    assert (spec.size, check_trials(20, spec)) == (None, 20)
    for trials in (0, -1, 1001):
        with pytest.raises(UsageError, match="number of trials"):
            check_trials(trials, spec)


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (("training.epochs=3",), "several values or a range"),
        ((f"{T}=8..1",), "a range is empty"),
        ((f"{T}=1..1",), "a range is empty"),
        ((f"{T}=0..8:log",), "logarithmic range begins above 0"),
        ((f"{T}=1..8:exp",), "unknown scale"),
        ((f"{T}=1..8,9",), "a range or values, not both"),
        ((f"{T}=1..8", f"{T}=2..3"), "given twice"),
        ((f"{T}=1..8", f"{T}=4"), "given twice"),
        ((f"{T}=-1..8",), "1 error"),
        ((f"{ALPHA}=0.5..2",), "1 error"),
        (("training.epochs=1.5..3",), "1 error"),
        (("distillation.tempurature=1..2",), "1 error"),
        (("student.encoder=1..2",), "whose values are numbers"),
        (("distillation.enabled=0..1",), "whose values are numbers"),
        (("seed=0..4",), "takes one value, not a range"),
        (("training.devices=1..2",), "takes one value, not a range"),
        ((f"{T}=1,1.0", f"{ALPHA}=0.3..0.5"), "listed twice"),
    ],
)
def test_what_cannot_be_sampled_is_one_message(
    store: RunStore, teacher: Path, assignments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        spec_of(store, teacher, *assignments)
    assert not store.root.exists()


def test_a_file_asks_for_the_same_sweep(store: RunStore, teacher: Path, tmp_path: Path, spec: SampledSpec) -> None:
    file = tmp_path / "sampled.toml"
    table = '[sweep]\nprofile = "demo-distilled"\ntemperature = "1..8"\nsampler = "tpe"\ntrials = 5\nprune = true\n'
    file.write_text(f'{table}[sweep.set]\ntraining.learning_rate = "1e-4..1e-2:log"\nstudent.weights = "none"\n')
    request = read_file(str(file))
    assert (request.sampler, request.trials, request.prune) == ("tpe", 5, True)
    assert request.assignments == (*RANGES, 'student.weights="none"')
    assert spec_of(store, teacher, *request.assignments[:2], prune=True).id != spec.id


@pytest.mark.parametrize("entry", ['sampler = "random"', "trials = 0", "trials = true", 'prune = "yes"'])
def test_a_wrong_entry_of_a_file_is_one_message(tmp_path: Path, entry: str) -> None:
    file = tmp_path / "sampled.toml"
    file.write_text(f'[sweep]\nprofile = "demo-distilled"\n{entry}\n')
    with pytest.raises(UsageError, match=rf"{entry.split()[0]} of \[sweep\]"):
        read_file(str(file))
