"""What the study chooses, prunes and remembers, without any process."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.trial import TrialState

from kdtui.store.state import State
from kdtui.store.store import RunStore
from kdtui.sweep.members import cell_key
from kdtui.sweep.sampled.results import NEEDED
from kdtui.sweep.sampled.spec import SampledSpec
from kdtui.sweep.sampled.study import COMPARED, Study, repair
from kdtui.sweep.sampled.trials import Trial
from tests.sweep.sampled.sampling import ALPHA, RATE, T, spec_of, trial


@pytest.fixture
def spec(store: RunStore, teacher: Path) -> SampledSpec:
    return spec_of(store, teacher, f"{T}=1..8", f"{RATE}=1e-4..1e-2:log", "training.epochs=8")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal.log"


def asked(study: Study, trials: list[Trial], count: int) -> list[Trial]:
    """Ask for trials, one after the other, which finish; the score is higher near T 3."""
    for _ in range(count):
        cell = study.ask({one.key for one in trials})
        assert cell is not None
        score = 0.8 - abs(cell[T] - 3) / 10
        trials.append(trial(len(trials) + 1, cell, State.FINISHED, [score / 2, score]))
        study.update(trials)
    return trials


def states(study: Study) -> list[TrialState]:
    return [entry.state for entry in study._study.get_trials(deepcopy=False)]


def test_values_are_in_their_ranges_and_differ_after_a_restart(journal: Path, spec: SampledSpec) -> None:
    trials: list[Trial] = []
    for _ in range(4):  # each time a new process
        asked(Study(journal, spec), trials, 2)
    assert len({one.key for one in trials}) == 8
    for one in trials:
        assert 1 <= one.cell[T] <= 8 and 1e-4 <= one.cell[RATE] <= 1e-2
        assert all(value == float(f"{value:.4g}") for value in one.cell.values())
    assert states(Study(journal, spec)) == [TrialState.COMPLETE] * 8  # no draw was repeated


def test_later_trials_are_near_the_good_ones(journal: Path, spec: SampledSpec) -> None:
    trials = asked(Study(journal, spec), [], 30)
    distance = [abs(one.cell[T] - 3) for one in trials]
    assert sum(distance[-10:]) / 10 < sum(distance[:5]) / 5


def test_integers_lists_and_small_grids_are_drawn_until_none_is_left(
    journal: Path, store: RunStore, teacher: Path
) -> None:
    spec = spec_of(
        store,
        teacher,
        "training.epochs=3..4",
        "student.decoder_channels=[32,16,8,8,8],[64,32,16,8,8]",
    )
    assert spec.size == 4
    study, trials = Study(journal, spec), list[Trial]()
    while (cell := study.ask({one.key for one in trials})) is not None:
        assert spec.cell(cell).profile.training.epochs == cell["training.epochs"]
        trials.append(trial(len(trials) + 1, cell, State.FINISHED, [0.5]))
        study.update(trials)
    assert len({one.key for one in trials}) == len(trials) == 4


def test_values_whose_run_never_came_into_being_are_used_next(journal: Path, spec: SampledSpec) -> None:
    first = Study(journal, spec).ask(set())
    assert first is not None
    study = Study(journal, spec)  # the process was killed before it made the run
    assert study.ask(set()) == first
    second = study.ask({cell_key(first)})
    assert second is not None and second != first
    study.drop(second)
    study.update([trial(1, first, State.FINISHED, [0.5])])
    assert states(study) == [TrialState.COMPLETE, TrialState.FAIL]


def test_a_trial_of_which_only_some_values_were_chosen_is_discarded(journal: Path, spec: SampledSpec) -> None:
    study = Study(journal, spec)
    study._study.ask().suggest_float(T, 1, 8)
    study.update([])
    assert states(study) == [TrialState.FAIL]


@pytest.mark.parametrize("damage", ["removed", "half a line", "a broken line", "nonsense", "lock"])
def test_a_damaged_journal_is_completed_from_the_runs(journal: Path, spec: SampledSpec, damage: str) -> None:
    trials = asked(Study(journal, spec), [], 3)
    pruned = trial(4, {T: 2.0, RATE: 1e-3}, State.STOPPED, [0.1, 0.2], pruned=True)
    running = trial(5, {T: 2.5, RATE: 1e-3}, State.RUNNING, [0.4])
    trials += [pruned, running]
    data = journal.read_bytes()
    if damage == "removed":
        journal.unlink()
    elif damage == "half a line":
        journal.write_bytes(data + data.splitlines()[-1][:9])
    elif damage == "a broken line":
        lines = data.splitlines(keepends=True)
        journal.write_bytes(b"".join([*lines[:-2], b"\0" * 20 + b"\n", lines[-1]]))
    elif damage == "nonsense":
        journal.write_bytes(data + b'{"op_code": 4}\n')
    else:
        Path(f"{journal}.lock").symlink_to(journal)  # of a process that was killed while it wrote
    study = Study(journal, spec)
    study.update(trials)
    study.update(trials)
    known = {cell_key(study._cell(entry.params)): entry for entry in study._study.get_trials(deepcopy=False)}
    finished = {one.key: one.score for one in trials[:3]}
    assert {key: entry.value for key, entry in known.items() if entry.state is TrialState.COMPLETE} == finished
    assert known[pruned.key].state is TrialState.PRUNED and known[pruned.key].intermediate_values == {1: 0.1, 2: 0.2}
    assert known[running.key].state is TrialState.RUNNING and len(known) == len(states(study)) == 5
    assert study.ask({one.key for one in trials}) is not None


def test_every_cut_of_a_journal_can_be_used(journal: Path, spec: SampledSpec) -> None:
    trials = asked(Study(journal, spec), [], 2)
    data = journal.read_bytes()
    for size in range(0, len(data), 131):
        journal.write_bytes(data[:size])
        study = Study(journal, spec)
        study.update(trials)
        assert states(study).count(TrialState.COMPLETE) == 2, size
        assert TrialState.RUNNING not in states(study)


def test_a_journal_is_cut_after_its_last_whole_line(journal: Path) -> None:
    repair(journal)
    assert not journal.exists()
    journal.write_bytes(b'{"a":1}\n{"b":2}\n[3]\n{"c"')
    lock = Path(f"{journal}.lock")
    lock.symlink_to(journal)  # of a process that was killed while it wrote: others would wait 30 s for it
    repair(journal)
    assert not lock.is_symlink()
    assert journal.read_bytes() == b'{"a":1}\n{"b":2}\n'


def pruned_at(study: Study, others: list[Trial], scores: list[float]) -> int | None:
    """The first epoch after which a trial with these scores is pruned; None if it is trained whole."""
    for epoch in range(1, len(scores) + 1):
        running = trial(len(others) + 1, {T: 7.5, RATE: 1e-3}, State.RUNNING, scores[:epoch])
        study.update([*others, running])
        if study.losers([*others, running]):
            return epoch
    return None


def finished(scores: list[list[float]]) -> list[Trial]:
    return [trial(place + 1, {T: 1.0 + place, RATE: 1e-3}, State.FINISHED, own) for place, own in enumerate(scores)]


GOOD = [[0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.7, 0.8]] * COMPARED


@pytest.mark.parametrize(
    ("others", "scores", "epoch"),
    [
        (GOOD, [0.1, 0.2, 0.3], 2),  # below the median of 0.3 at epoch 2
        (GOOD, [0.0, 0.3, 0.4, 0.5], None),  # the first quarter is not judged, and equal to the median is kept
        (GOOD, [0.1, 0.35, 0.2, 0.2, 0.2], 3),  # its best until then counts, 0.35 at 3 is below 0.4
        (GOOD, [0.1, 0.45, 0.2, 0.5], None),
        (GOOD[1:], [0.1, 0.1, 0.1], None),  # too few finished trials
        ([*GOOD[1:], [0.0] * 8], [0.1, 0.2], 2),  # the median, not the mean
        ([*GOOD[2:], [0.0] * 8, [0.0] * 8], [0.1, 0.2, 0.3], None),
    ],
)
def test_a_trial_below_the_median_at_the_same_epoch_is_pruned(
    journal: Path, spec: SampledSpec, others: list[list[float]], scores: list[float], epoch: int | None
) -> None:
    study = Study(journal, spec)
    assert pruned_at(study, finished(others), scores) == epoch
    running = trial(len(others) + 1, {T: 7.5, RATE: 1e-3}, State.RUNNING, scores[:epoch])
    assert bool(Study(journal, spec).losers([running])) == (epoch is not None)  # as does a later process


def test_failed_trials_are_told_and_one_trained_again_counts(journal: Path, spec: SampledSpec) -> None:
    study, cell = Study(journal, spec), {T: 2.0, RATE: 1e-3}
    study.update([trial(1, cell, State.FAILED)])
    study.update([trial(1, cell, State.FAILED)])
    assert states(study) == [TrialState.FAIL]
    study.update([trial(1, cell, State.RUNNING, [0.2])])
    study.update([trial(1, cell, State.FINISHED, [0.2, 0.4])])
    assert states(study) == [TrialState.FAIL, TrialState.COMPLETE]
    study.update([trial(2, {T: 3.0, RATE: 1e-3}, State.FINISHED, [float("nan")])])
    study.update([trial(2, {T: 3.0, RATE: 1e-3}, State.FINISHED, [float("nan")])])
    assert states(study)[2:] == [TrialState.FAIL]


def test_the_importance_is_that_of_the_key_that_matters(journal: Path, spec: SampledSpec) -> None:
    study = Study(journal, spec)
    trials = asked(study, [], NEEDED - 1)
    assert study.importance() == {}
    asked(study, trials, 12)
    shares = study.importance()
    assert list(shares) == [T, RATE] and sum(shares.values()) == pytest.approx(1)


def test_the_mean_over_seeds_is_compared_where_all_have_a_score() -> None:
    from tests.sweep.sampled.sampling import member

    both = Trial(1, {ALPHA: 0.5}, {0: member(State.FINISHED, {1: 0.2, 2: 0.4}), 1: member(State.RUNNING, {1: 0.4})})
    assert both.scores == pytest.approx({1: 0.3}) and both.outcome == "open" and both.state is State.RUNNING
    one = Trial(1, {ALPHA: 0.5}, {0: member(State.FINISHED, {1: 0.2}), 1: None})
    assert one.scores == {} and one.outcome == "open" and one.state is State.QUEUED
    lost = Trial(1, {ALPHA: 0.5}, {0: member(State.FINISHED, {1: 0.2}), 1: member(State.FAILED, {})})
    assert lost.outcome == "failed" and lost.state is State.FAILED
