"""Evaluations of several runs on one split: those that are kept in the runs, and missing ones in one engine process."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdtui.launch.engine_process import EngineStep, converse, reported
from kdtui.launch.moved import check_places, moved, profile_file
from kdtui.launch.teachers import best_of
from kdtui.store.files import read_file, sha256_of
from kdtui.store.run import Run
from kdtui.store.values import MOST_BYTES, parse_json


def kept_evaluation(run: Run, split: str) -> Mapping[str, Any] | None:
    """The evaluation of a run's present best checkpoint that is kept in the run; None if there is none."""
    try:
        answer = parse_json(read_file(run.evaluation(split), most=MOST_BYTES))
        same = isinstance(answer, dict) and answer.get("sha256") == sha256_of(run.best)
    except (OSError, ValueError, RecursionError):  # missing or damaged: it is computed again
        return None
    return answer if same else None


def evaluations(
    runs: Sequence[Run], split: str, *, on_step: Callable[[EngineStep], None] = lambda step: None
) -> list[Mapping[str, Any]]:
    """The scores of the best checkpoints of runs on a split of their own data, in order; new ones are kept.

    Args:
        runs: Runs with a best checkpoint.
        split: ``train``, ``val`` or ``test``.
        on_step: Called with each progress step of the engine.

    Raises:
        UsageError: A run has no best checkpoint.
        KdtuiError: A run could not be evaluated; finished evaluations are kept.
    """
    for run in runs:
        best_of(run)
    answers = {run: kept_evaluation(run, split) for run in runs}
    missing = [run for run in runs if answers[run] is None]
    if missing:
        answers |= dict(zip(missing, _evaluated(missing, split, on_step), strict=True))
    return [answer for run in runs if (answer := answers[run]) is not None]


def _evaluated(runs: Sequence[Run], split: str, on_step: Callable[[EngineStep], None]) -> Sequence[Mapping[str, Any]]:
    with contextlib.ExitStack() as stack:
        jobs = []
        for run in runs:
            now = moved(run)
            check_places(run, now.profile, "evaluate", [split])
            file = stack.enter_context(profile_file(run, now))
            out = str(run.evaluation(split))
            jobs.append({"profile": str(file), "checkpoint": str(run.best), "split": split, "out": out})
        request = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kdtui-"))) / "request.json"
        request.write_text(json.dumps(jobs))
        answers: Sequence[Mapping[str, Any]] = converse("evaluations", str(request), on_step=on_step)["evaluations"]
    for answer in answers:
        if isinstance(answer.get("error"), Mapping):
            raise reported(answer["error"])
    return answers
