"""Successive halving: invariants of a simulated search, whatever was killed or failed on the way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kdtui.sweep.search.candidates import Candidate
from kdtui.sweep.search.halving import Decision, Trial, decide, kept, pick, rungs
from kdtui.sweep.search.hours import epochs_of_trials
from kdtui.sweep.search.screening import Screened


@given(st.integers(1, 40), st.integers(1, 200), st.integers(1, 250))
def test_rungs_are_evaluated_epochs_of_the_whole_horizon_and_leave_one_trial(
    trials: int, epochs: int, every: int
) -> None:
    marks = rungs(trials, epochs, every)
    assert list(marks) == sorted(set(marks)) and all(1 <= mark <= epochs for mark in marks)
    assert all(mark % every == 0 or mark == epochs for mark in marks)
    assert (marks == ()) == (trials == 1)
    left = [trials, *(kept(trials, len(marks), place) for place in range(len(marks)))]
    assert left == sorted(left, reverse=True) and left[-1] == 1


def simulated(quality: list[int], epochs: int, every: int, failing: set[int]) -> tuple[Decision, dict[str, int]]:
    """Decide and train until all is decided; the score of a trial is its quality in every evaluated epoch."""
    done = dict.fromkeys(map(str, range(len(quality))), 0)
    for _ in range(100):
        trials = []
        for number, (key, epoch) in enumerate(done.items()):
            evaluated = [one for one in range(1, epoch + 1) if one % every == 0 or one == epochs]
            scores = {one: float(quality[number]) for one in evaluated}
            failed = number in failing and epoch > 0
            trials.append(Trial(key, "failed" if failed else "idle" if epoch else "new", {} if failed else scores))
        decision = decide(trials, epochs, every)
        assert decide(trials, epochs, every) == decision  # a function of what is in the files
        if decision.decided:
            return decision, done
        assert decision.start
        for key in decision.start:
            done[key] = decision.epoch
    raise AssertionError("it never ends")


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.integers(1, 60), st.integers(1, 9), st.data())
def test_the_best_trial_wins_and_none_is_trained_longer_than_its_rung(
    quality: list[int], epochs: int, every: int, data: st.DataObject
) -> None:
    failing = data.draw(st.sets(st.integers(0, len(quality) - 1)))
    decision, done = simulated(quality, epochs, every, failing)
    usable = {str(number): score for number, score in enumerate(quality) if number not in failing}
    if len(quality) == 1:
        assert decision.winner == "0"  # nothing to compare: it is trained whole
    elif usable:
        assert decision.winner is not None and usable[decision.winner] == max(usable.values())
        assert set(decision.pruned) == usable.keys() - {decision.winner}
    else:
        assert decision.winner is None
    if not failing:
        assert sum(done.values()) == epochs_of_trials(len(quality), epochs, every)


def test_a_trial_at_its_rung_waits_for_the_others() -> None:
    trials = [Trial("a", "live", {1: 0.5, 2: 0.6}), Trial("b", "new"), Trial("c", "live", {})]
    decision = decide(trials, 8)
    assert (decision.epoch, decision.start, decision.pause, decision.decided) == (2, ("b",), ("a",), False)


def test_scores_are_compared_at_equal_epochs() -> None:
    ahead = Trial("ahead", "idle", {1: 0.4, 2: 0.5, 3: 0.9})
    better = Trial("better", "idle", {1: 0.4, 2: 0.6})
    assert decide([ahead, better], 4).winner == "better"


def test_an_early_end_counts_with_its_last_score() -> None:
    ended = Trial("ended", "finished", {1: 0.7})
    assert decide([ended, Trial("b", "idle", {2: 0.6})], 4).winner == "ended"


def screened(encoder: str, width: float, latency: float, **facts: object) -> Screened:
    return Screened(Candidate(encoder, "Unet", width, None), latency=latency, **facts)  # type: ignore[arg-type]


def test_of_each_encoder_the_slowest_that_fits_is_trained_first() -> None:
    found = [
        screened("a", 1, 0.009),
        screened("a", 0.5, 0.007),
        screened("b", 1, 0.02, over=("20 ms > 10 ms",)),
        screened("b", 0.5, 0.008),
        screened("c", 1, 0.001, error="it cannot be exported"),
    ]
    chosen = [(one.candidate.encoder, one.candidate.width) for one in pick(found, 10)]
    assert chosen == [("a", 1), ("b", 0.5), ("a", 0.5)]
    assert [one.candidate.encoder for one in pick(found, 2)] == ["a", "b"]
