"""Untrained networks in place of checkpoints that do not exist yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdtui.engine.check import check
from kdtui.engine.untrained import stand_ins, with_names
from tests.engine.runs import tiny_profile


def report(**awaited: Any) -> tuple[list[str], dict[str, Any]]:
    """Files in place of the weights of an awaited run, and the report of the check that uses them."""
    own = tiny_profile(student__weights="run:first")
    with stand_ins(own, {"run:first": tiny_profile(name="first", **awaited)}) as (profile, names):
        assert names == {profile.student.model_dump()["weights"]: "run:first"}
        assert Path(next(iter(names))).is_file()
        return list(names), with_names(check(profile), names)


def test_the_weights_of_an_awaited_run_are_checked_by_those_of_an_untrained_network() -> None:
    _, answer = report()
    assert all(one["ok"] for one in answer["checks"])


def test_a_mismatch_names_the_awaited_run_and_no_temporary_file() -> None:
    files, answer = report(student__encoder="resnet18")
    failed = next(one for one in answer["checks"] if not one["ok"])
    assert "run:first" in str(failed)
    assert not any(file in str(answer) for file in files)
    assert not any(Path(file).exists() for file in files)
