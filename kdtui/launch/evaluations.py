"""Evaluations of runs on a split: those kept in the runs, and missing ones in one engine process per device slot."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

from kdtui.errors import Interrupted
from kdtui.launch.engine_process import EngineStep, converse, reported
from kdtui.launch.moved import Moved, check_places, for_evaluation, moved, profile_file
from kdtui.launch.slots import DevicePlace, Slots, held, place
from kdtui.launch.teachers import best_of
from kdtui.processes import cores
from kdtui.store.files import read_file, sha256_of
from kdtui.store.identity import identity_of
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


def evaluate_run(
    run: Run,
    split: str,
    checkpoint: Path | None = None,
    sets: Sequence[str] = (),
    *,
    cancelled: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Evaluate a run's checkpoint on its data; the result of the best one is also written to ``evaluations/``.

    Args:
        run: The run.
        split: ``train``, ``val`` or ``test``.
        checkpoint: Checkpoint or exported file of the run; default the best checkpoint.
        sets: ``--set`` texts: new locations of the data, kept in the run after the evaluation succeeded; or keys for
            this evaluation, whose result is not kept.
        cancelled: Polled ten times a second.
    """
    path = checkpoint or run.best
    now = for_evaluation(run, sets)
    own = path.absolute() == run.best.absolute() and not now.once
    keep = ["--out", str(run.evaluation(split))] if own else []
    check_places(run, now.profile, "evaluate", [split])
    with profile_file(run, now) as file:
        answer = converse("evaluate", str(file), str(path), split, *keep, cancelled=cancelled)
    now.record(run)
    return answer


def evaluations(
    runs: Sequence[Run],
    split: str,
    *,
    on_step: Callable[[EngineStep], None] = lambda step: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Mapping[str, Any]]:
    """The scores of the best checkpoints of runs on a split of their own data, in order; new ones are kept.

    Args:
        runs: Runs with a best checkpoint.
        split: ``train``, ``val`` or ``test``.
        on_step: Called with each progress step of the engine.
        cancelled: Polled ten times a second.

    Raises:
        UsageError: A run has no best checkpoint.
        Interrupted: It was cancelled; finished evaluations are kept.
        KdtuiError: A run could not be evaluated; finished evaluations are kept.
    """
    for run in runs:
        best_of(run)
    answers = {run: kept_evaluation(run, split) for run in runs}
    missing = [run for run in runs if answers[run] is None]
    if missing:
        answers |= _Evaluator(missing, split, on_step, cancelled).answers()
    if any(answer is None for answer in answers.values()):
        raise Interrupted("cancelled; finished evaluations are kept")
    for answer in answers.values():
        if answer is not None and isinstance(answer.get("error"), Mapping):
            raise reported(answer["error"])
    return [answer for run in runs if (answer := answers[run]) is not None]


class _Evaluator:
    """Evaluates runs in processes that hold one device slot each; a slot that is free later takes what is left.

    Args:
        runs: Runs with a best checkpoint.
        split: ``train``, ``val`` or ``test``.
        on_step: Called with each progress step, by one thread at a time.
        cancelled: Polled ten times a second.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        split: str,
        on_step: Callable[[EngineStep], None],
        cancelled: Callable[[], bool],
    ) -> None:
        self._root = runs[0].path.parent
        self._split = split
        self._on_step = on_step
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._is_cancelled = cancelled
        self._total = len(runs)
        self._running: dict[int, int] = {}
        self._answers: dict[Run, Mapping[str, Any]] = {}
        self._queues: dict[DevicePlace, list[tuple[Run, Moved]]] = {}
        self._turns: defaultdict[DevicePlace, threading.Lock] = defaultdict(threading.Lock)
        for run in runs:
            now = moved(run)
            check_places(run, now.profile, "evaluate", [split])
            self._queues.setdefault(place(now.profile.training.accelerator, 1), []).append((run, now))

    def _cancelled(self) -> bool:
        return self._ended.is_set() or self._is_cancelled()

    def answers(self) -> Mapping[Run, Mapping[str, Any]]:
        """Evaluate all runs.

        Raises:
            KdtuiError: A process could not be started; finished evaluations are kept.
        """
        counts = {device: max(1, min(len(device.names), len(queue))) for device, queue in self._queues.items()}
        tasks = [
            partial(self._work, device, count, share=-(-len(self._queues[device]) // count))
            for device, count in counts.items()
            for _ in range(count)
        ]
        with ThreadPoolExecutor(max_workers=len(tasks)) as threads:
            work = [threads.submit(task) for task in tasks]
            try:
                for worker in as_completed(work):
                    worker.result()
            finally:  # Ctrl-C, or an error: the other processes are not needed any more
                self._ended.set()
        return self._answers

    def _work(self, device: DevicePlace, workers: int, *, share: int) -> None:
        """Take a slot and an even share of the runs, until none is left."""
        queue = self._queues[device]
        while queue and not self._cancelled():
            with contextlib.suppress(Interrupted), contextlib.ExitStack() as stack:
                with self._turns[device]:  # one of our processes waits in the queue at a time
                    slots = stack.enter_context(self._slot(device, queue))
                with self._lock:
                    jobs, queue[:share] = queue[:share], []
                if jobs:
                    self._evaluate(jobs, device, slots, threads=max(1, cores() // workers))

    def _slot(self, device: DevicePlace, queue: Sequence[object]) -> contextlib.AbstractContextManager[Slots | None]:
        if not device.names:  # the engine reports that the device is missing
            return contextlib.nullcontext()
        return held(
            self._root,
            device.device,
            device.names,
            1,
            "kdtui compare",
            waiting=lambda reason: self._show(f"waiting for the {device.device}" + (f": {reason}" if reason else "")),
            cancelled=lambda: self._cancelled() or not queue,
        )

    def _evaluate(
        self, jobs: Sequence[tuple[Run, Moved]], device: DevicePlace, slots: Slots | None, *, threads: int
    ) -> None:
        gpu = slots.names[0] if slots is not None and device.device == "gpu" else ""
        environment = {"CUDA_VISIBLE_DEVICES": gpu, "OMP_NUM_THREADS": str(threads)}
        environment["CUDA_DEVICE_ORDER"] = os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")

        def started(pid: int) -> None:
            if slots is not None:  # inherited: a suspended parent must not keep holding it
                slots.used_by([identity_of(pid)])
                slots.release()

        with _request(jobs, self._split) as request:
            answer = converse(
                "evaluations",
                str(request),
                on_step=self._step,
                cancelled=self._cancelled,
                environment=environment,
                descriptors=() if slots is None else slots.descriptors,
                started=started,
            )
        with self._lock:
            self._running.pop(threading.get_ident(), None)
            self._answers |= {run: one for (run, _), one in zip(jobs, answer["evaluations"], strict=True)}

    def _step(self, step: EngineStep) -> None:
        if step.total:
            self._running[threading.get_ident()] = step.done
        self._show(step.words)

    def _show(self, words: str) -> None:
        with self._lock:
            done = len(self._answers) + sum(self._running.values())
            self._on_step(EngineStep(words, done, self._total))


@contextlib.contextmanager
def _request(jobs: Sequence[tuple[Run, Moved]], split: str) -> Iterator[Path]:
    """The file that tells the engine what to evaluate."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kdtui-")))
        tables = []
        for run, now in jobs:
            file = stack.enter_context(profile_file(run, now))
            out = str(run.evaluation(split))
            tables.append({"profile": str(file), "checkpoint": str(run.best), "split": split, "out": out})
        request = folder / "request.json"
        request.write_text(json.dumps(tables))
        yield request
