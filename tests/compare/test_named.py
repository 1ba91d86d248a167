"""Short names of compared runs: they are distinct, and each states what distinguishes its run."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtui.compare.named import called, mark


class Run(NamedTuple):
    id: str
    name: str
    seed: int | None = None
    method: str | None = None


def of(*runs: tuple[str, int | None]) -> list[Run]:
    """Runs called b0, of these stamps and seeds; a stamp may end in the counter of the id."""
    return [Run(f"{stamp[:15]}-b0{stamp[15:]}", "b0", seed) for stamp, seed in runs]


def methods(*runs: tuple[str | None, int]) -> list[Run]:
    """Runs called b0 of these methods and seeds, made at 14:00, 14:01, ..."""
    return [Run(f"20260821-14{minute:02}00-b0", "b0", seed, method) for minute, (method, seed) in enumerate(runs)]


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        (methods(("kl", 0), ("cwd", 0)), ["b0 kl", "b0 cwd"]),
        (methods(("kl", 0), ("kl", 1)), ["b0 s0", "b0 s1"]),
        (methods(("kl", 0), ("cwd", 1)), ["b0 s0", "b0 s1"]),
        (
            methods(("kl", 0), ("kl", 1), ("cwd+feature", 0), ("cwd+feature", 1)),
            ["b0 kl s0", "b0 kl s1", "b0 cwd+feature s0", "b0 cwd+feature s1"],
        ),
        (methods((None, 0), (None, 1), ("kl", 0), ("kl", 1)), ["b0 s0", "b0 s1", "b0 kl s0", "b0 kl s1"]),
        (methods(("kl", 0), ("kl", 0), ("cwd", 0)), ["b0 14:00", "b0 14:01", "b0 cwd"]),
        (methods(("kl", 0), ("kl", 0)), ["b0 14:00", "b0 14:01"]),
    ],
)
def test_runs_of_several_methods_have_them_in_their_names(runs: list[Run], names: list[str]) -> None:
    assert list(called(runs).values()) == names


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        (of(("20260821-143002", 0)), ["b0"]),
        (of(("20260821-143002", 0), ("20260821-143002-2", 1)), ["b0 s0", "b0 s1"]),
        (of(("20260821-143002", 0), ("20260821-143002-2", 0), ("20260821-143002-10", 0)), ["b0 #1", "b0 #2", "b0 #10"]),
        (of(("20260821-143002", 0), ("20260821-150002", 0)), ["b0 14:30", "b0 15:00"]),
        (of(("20260821-143002", None), ("20260821-143009", None)), ["b0 14:30:02", "b0 14:30:09"]),
        (of(("20260821-143002", 0), ("20260822-150002", 0)), ["b0 08-21", "b0 08-22"]),
        (
            of(("20260821-143002", 0), ("20260821-150002", 0), ("20260822-150002", 0)),
            ["b0 08-21 14:30", "b0 08-21 15:00", "b0 08-22 15:00"],
        ),
        (
            of(("20260821-143002", 0), ("20260821-150002", 1), ("20260821-160002", 1)),
            ["b0 s0", "b0 15:00", "b0 16:00"],
        ),
        (
            of(("20260821-143002", 0), ("20260821-143002-2", 0), ("20260822-143002", 0)),
            ["b0 08-21 14:30:02 #1", "b0 08-21 14:30:02 #2", "b0 08-22 14:30:02 #1"],
        ),
        (of(("20250821-143002", 0), ("20260821-143002", 0)), ["20250821-143002-b0", "20260821-143002-b0"]),
        ([Run("copied", "b0"), Run("20260821-143002-b0", "b0")], ["copied", "20260821-143002-b0"]),
        ([Run("x", "y"), Run("y", "b0"), Run("z", "b0")], ["x", "y", "z"]),
        ([Run("x", "b0 s1"), *of(("1", 1), ("2", 2))], ["x", "1-b0", "b0 s2"]),
    ],
)
def test_distinguishing_settings_follow_the_name(runs: list[Run], names: list[str]) -> None:
    assert called(runs) == dict(zip((run.id for run in runs), names, strict=True))


runs_of_anything = st.lists(
    st.builds(
        Run,
        st.from_regex(r"2026082[12]-1430[01][012]-b0(-[23])?", fullmatch=True) | st.text(max_size=3),
        st.sampled_from(["b0", "b0-2", "b0 s1", ""]),
        st.none() | st.integers(0, 3),
    ),
    max_size=9,
    unique_by=lambda run: run.id,
)


@given(runs_of_anything)
def test_no_two_are_called_alike_and_every_one_is_called(runs: list[Run]) -> None:
    names = called(runs)
    assert list(names) == [run.id for run in runs]
    assert len(set(names.values())) == len(runs)
    for run in runs:
        assert names[run.id] in (run.id, run.name + mark(names[run.id], run.name))
