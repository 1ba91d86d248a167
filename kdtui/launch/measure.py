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


def chosen_to_measure(texts: Sequence[str], store: RunStore) -> tuple[list[Run], list[Path]]:
    """The runs that ids, names, prefixes or folders of runs name, and the ONNX files, in order without duplicates.

    Raises:
        RunNotFound: No run matches.
        AmbiguousRun: Several runs match.
        UsageError: A file that is no ONNX file, or both runs and files.
    """
    runs: dict[Run, None] = {}
    files: dict[Path, None] = {}
    for text in texts:
        chosen = source(text, store)
        if chosen.path is not None and chosen.path.is_file() and chosen.path.suffix.lower() == ".onnx":
            files[chosen.path.absolute()] = None
        elif chosen.run is None or chosen.path is not None:
            raise UsageError(
                "only runs and ONNX files can be measured",
                found=text,
                allowed="runs, or files of `kdtui export`",
                hint="`kdtui inspect FILE` describes it"
                if chosen.run is None
                else f"`kdtui measure {chosen.run.id}` measures its run",
            )
        else:
            runs[chosen.run] = None
    if runs and files:
        raise UsageError(
            "runs and files are measured by separate commands",
            found=f"{len(runs)} runs and {len(files)} files",
            hint="exported files of a run are measured with it: `kdtui measure RUN`",
        )
    return list(runs), list(files)


def measure_files(
    root: Path,
    files: Sequence[Path],
    how: MeasureOptions,
    size: tuple[int, int] | None = None,
    *,
    on_step: Callable[[EngineStep], None] = lambda step: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Measure ONNX files in one series on the CPU; nothing is written.

    Args:
        root: The run store.
        files: The files.
        how: Threads, repeats.
        size: Height and width of the images, for files that take any size.
        on_step: Called with each progress step, and while waiting for the device.
        cancelled: Polled ten times a second.

    Returns:
        Measurements by path, as those of a student without a teacher.

    Raises:
        UsageError: The device is not the CPU, or the size is needed or cannot be used.
        Interrupted: It was cancelled.
        KdtuiError: The engine reported an error.
    """
    if how.device != "cpu":
        raise UsageError(
            "files are measured with onnxruntime on the CPU", where="--device", found=how.device, allowed="cpu"
        )
    shape = [] if size is None else ["--size", *map(str, size)]
    return _measured("measure-files", [*map(str, files), *shape], root, how, on_step, cancelled)


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

    return _measured("measure", [str(run.path) for run in runs], root, how, on_step, cancelled)


def measure_untrained(
    root: Path,
    request: Path,
    how: MeasureOptions,
    *,
    on_step: Callable[[EngineStep], None] = lambda step: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Build, export and measure untrained networks, one after the other; nothing is written.

    Args:
        root: The run store.
        request: JSON file, see ``python -m kdtui.engine screen --help``.
        how: Threads, repeats, device.
        on_step: Called with each progress step; ``target`` and ``report`` are name and result of a network.
        cancelled: Polled ten times a second.

    Returns:
        Results by the names of the request.

    Raises:
        UsageError: No such device.
        Interrupted: It was cancelled.
        KdtuiError: The engine reported an error.
    """
    return _measured("screen", [str(request)], root, how, on_step, cancelled)


def _measured(
    verb: str,
    words: Sequence[str],
    root: Path,
    how: MeasureOptions,
    on_step: Callable[[EngineStep], None],
    cancelled: Callable[[], bool],
) -> dict[str, Any]:
    """Call a verb of the engine with exclusive use of the device."""

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
            verb,
            *words,
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
