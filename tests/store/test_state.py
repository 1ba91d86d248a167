from __future__ import annotations

import itertools

import pytest

from kdtui.store.state import SILENT_ELSEWHERE, Facts, Liveness, State, derive

ALL = [
    Facts(launched, started, word, alive, silent)
    for launched, started, word, alive, silent in itertools.product(
        (False, True), (False, True), (None, "finished", "stopped", "failed", "exited"), Liveness, (None, 1.0, 1e6)
    )
]


def test_words_and_glyphs_tell_states_apart() -> None:
    assert len({state.glyph for state in State}) == len({state.word for state in State}) == len(State)


@pytest.mark.parametrize("facts", ALL)
def test_a_final_event_decides_whatever_else_is_seen(facts: Facts) -> None:
    state = derive(facts)
    if not facts.launched:
        assert state is State.NEVER_LAUNCHED
    elif facts.word is not None:
        assert state.final
        assert state.word.lower() == ("failed" if facts.word == "exited" else facts.word)
    else:
        assert not state.final


@pytest.mark.parametrize("facts", [facts for facts in ALL if facts.launched and facts.word is None])
def test_without_a_result_the_processes_decide(facts: Facts) -> None:
    state = derive(facts)
    if facts.alive is Liveness.DEAD:
        assert state is State.LOST
    elif facts.alive in (Liveness.ALIVE, Liveness.SUSPENDED):
        assert state is (State.RUNNING if facts.started else State.QUEUED)
    else:
        recent_sign = facts.silent is not None and facts.silent < SILENT_ELSEWHERE
        assert (state is State.LOST) == (not recent_sign)
