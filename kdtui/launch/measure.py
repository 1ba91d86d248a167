"""Measure runs: hold the device exclusively, run the engine, write the result to each run's folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kdtui.errors import UsageError
from kdtui.launch.engine_process import EngineStep, converse
from kdtui.launch.slots import alone
from kdtui.launch.teachers import source
from kdtui.measure_options import MeasureOptions
from kdtui.store.identity import identity_of
from kdtui.store.run import Run
from kdtui.store.store import RunStore


def runs_to_measure(texts: Sequence[str], store: RunStore) -> list[Run]:
    """The runs that ids, names, prefixes or folders of runs name, in order and without duplicates.

    Raises:
        RunNotFound: No run matches.
        AmbiguousRun: Several runs match.
        UsageError: A file, also one in the folder of a run.
    """
    runs: dict[Run, None] = {}
    for text in texts:
        chosen = source(text, store)
        if chosen.run is None or chosen.path is not None:
            onnx = text.lower().endswith(".onnx")
            of_file = "predict FILE PICTURES -o FOLDER` reports its speed" if onnx else "inspect FILE` describes it"
            raise UsageError(
                "only runs can be measured, not single files",
                found=text,
                allowed="runs; their students are measured with their exported files",
                hint=f"`kdtui {of_file}" if chosen.run is None else f"`kdtui measure {chosen.run.id}` measures its run",
            )
        runs[chosen.run] = None
    return list(runs)


def measure(
    root: Path,
    runs: Sequence[Run],
    how: MeasureOptions,
    *,
    on_step: Callable[[EngineStep], None] = lambda step: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Measure students and their teachers in one series and write each run's ``measurements.json``.

    Args:
        root: The run store.
        runs: The runs; each needs a best checkpoint.
        how: Threads, repeats, device.
        on_step: Called with each progress step, and while waiting for the device.
        cancelled: Polled ten times a second.

    Returns:
        Measurements by run id.

    Raises:
        UsageError: A run without a best checkpoint, or no such device.
        Interrupted: It was cancelled.
        KdtuiError: The engine reported an error.
    """
    for run in runs:
        if not run.best.is_file():
            raise UsageError(
                "this run has no best checkpoint to measure",
                where=run.checkpoints,
                found=run.id,
                hint=f"kdtui show {run.id} shows its state",
            )

    def waiting(reason: str) -> None:
        on_step(EngineStep(f"waiting for the {how.device}" + (f": {reason}" if reason else "")))

    with alone(root, how.device, waiting=waiting, cancelled=cancelled) as slots:

        def started(pid: int) -> None:
            # The engine has inherited the slots. A suspended parent must not keep holding them.
            slots.used_by([identity_of(pid)])
            slots.release()

        environment = {
            "OMP_NUM_THREADS": str(how.threads),
            "CUDA_VISIBLE_DEVICES": slots.names[0] if how.device == "gpu" else "",
        }
        answer = converse(
            "measure",
            *(str(run.path) for run in runs),
            "--settings",
            json.dumps(asdict(how)),
            on_step=on_step,
            cancelled=cancelled,
            environment=environment,
            descriptors=slots.descriptors,
            started=started,
        )
    found: dict[str, Any] = answer["runs"]
    return found
