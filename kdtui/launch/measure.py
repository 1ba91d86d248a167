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
from kdtui.measure_options import MeasureOptions
from kdtui.store.identity import identity_of
from kdtui.store.run import Run


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
