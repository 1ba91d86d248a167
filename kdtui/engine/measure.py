"""What compression gives on this machine: teacher, student and their ratio, measured in one go.

Latency is measured here and nowhere else: the caller has taken the device's slots, so that no training runs beside it.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import nn

from kdtui import export_options
from kdtui.engine.export.deployed import Size, example
from kdtui.engine.export.onnx import INPUT
from kdtui.engine.export.verify import session
from kdtui.engine.measure_subject import Subject, student_of, teacher_of
from kdtui.engine.measure_time import Call, Quartiles, interleaved, on_cpu, on_gpu
from kdtui.errors import EngineError
from kdtui.events import MeasureOptions
from kdtui.store.run import Run, write_atomically
from kdtui.store.state import RunSummary
from kdtui.store.store import RunStore

VERSION = 1
Progress = Callable[[str, int, int], None]
# A ratio is larger where the student is smaller or quicker.
_SMALLER = ("parameters", "parameters_used", "parameter_bytes", "macs", "state_bytes", "peak_memory_bytes")


def measure(
    runs: Sequence[Run], settings: MeasureOptions, *, progress: Progress = lambda words, done, total: None
) -> dict[str, Any]:
    """Measure the students of ``runs`` and their teachers, and write each run's ``measurements.json``.

    Everything is timed in one interleaved series, so that the runs can be compared with each other too.

    Args:
        runs: With a best checkpoint.
        settings: How.
        progress: Told what happens; may raise to give up.

    Returns:
        ``{"runs": {id: measurements}}``.

    Raises:
        CheckpointError: A checkpoint that cannot be read.
        EngineError: No GPU where one is wanted.
    """
    device = _device(settings)
    torch.set_num_threads(settings.threads)
    subjects: dict[Path, Subject] = {}
    pairs: list[tuple[Run, Path, Path | None]] = []
    for run in runs:
        progress(f"looking at {run.id}", 0, 0)
        student = student_of(run, device)
        subjects.setdefault(student.checkpoint, student)
        teacher = _teacher_path(run)
        if teacher is not None and teacher not in subjects:
            subjects[teacher] = teacher_of(run, teacher, student.size, device)
        pairs.append((run, student.checkpoint, teacher))
    latencies = _latencies(subjects, settings, device, progress)
    setup = _setup(settings, device)
    answers: dict[str, Any] = {}
    for run, student_path, teacher_path in pairs:
        sides = {
            name: None if path is None else subjects[path].facts | {"latency": latencies[path]}
            for name, path in (("teacher", teacher_path), ("student", student_path))
        }
        size = subjects[student_path].size
        answer = {
            "version": VERSION,
            "run": run.id,
            "setup": setup | {"height": size.height, "width": size.width},
            **_scored(run, sides),
        }
        answer["ratio"] = ratios(answer["teacher"], answer["student"])
        write_atomically(run.measurements_path, json.dumps(answer, indent=2).encode() + b"\n")
        answers[run.id] = answer
    return {"runs": answers}


def ratios(teacher: Mapping[str, Any] | None, student: Mapping[str, Any]) -> dict[str, Any] | None:
    """By how much the student is smaller and quicker; None without a teacher."""
    if teacher is None:
        return None
    found: dict[str, Any] = {
        key: teacher[key] / student[key] for key in _SMALLER if teacher.get(key) and student.get(key)
    }
    found["onnx_bytes"] = {
        precision: teacher["onnx"][precision]["bytes"] / entry["bytes"]
        for precision, entry in student["onnx"].items()
        if precision in teacher["onnx"]
    }
    found["latency"] = {
        runtime: {
            batch: theirs[batch]["median"] / times["median"]
            for batch, times in batches.items()
            if batch in (theirs := teacher["latency"].get(runtime, {}))
        }
        for runtime, batches in student["latency"].items()
    }
    return found


def _device(settings: MeasureOptions) -> torch.device:
    if settings.device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise EngineError(
            "latency on a GPU was asked for, but this torch sees none",
            found=f"torch {torch.__version__}",
            hint="--device cpu, or `kdtui doctor`",
        )
    return torch.device("cuda")


def _teacher_path(run: Run) -> Path | None:
    profile = run.profile()
    if not profile.distillation.enabled or profile.teacher.checkpoint is None:
        return None
    return Path(profile.teacher.checkpoint).absolute()


def _latencies(
    subjects: Mapping[Path, Subject], settings: MeasureOptions, device: torch.device, progress: Progress
) -> dict[Path, dict[str, dict[str, Any]]]:
    calls: dict[tuple[Path, str, int], Call] = {}
    for path, subject in subjects.items():
        for count in dict.fromkeys((1, settings.batch)):
            images = torch.randn(count, 3, subject.size.height, subject.size.width, device=device)
            calls[path, "torch", count] = _torch_call(subject.source.network, images)
        for precision, (file, report) in subject.exports.items():
            for count, call in _onnx_calls(file, report, subject.size, settings).items():
                calls[path, f"onnxruntime {precision}", count] = call
    clock = on_gpu if device.type == "cuda" else on_cpu
    names = {str(number): key for number, key in enumerate(calls)}
    timed = interleaved(
        {name: calls[key] for name, key in names.items()},
        repeats=settings.repeats,
        warmup=settings.warmup,
        clock=clock,
        seen=lambda rounds: progress("timing", rounds, settings.repeats),
    )
    latencies: dict[Path, dict[str, dict[str, Any]]] = {path: {} for path in subjects}
    for name, (path, runtime, count) in names.items():
        latencies[path].setdefault(runtime, {})[str(count)] = _timed(timed[name], count)
    return latencies


def _timed(times: Quartiles, count: int) -> dict[str, float]:
    return times.to_json() | {"images_per_second": count / times.median}


def _torch_call(network: nn.Module, images: torch.Tensor) -> Call:
    def call() -> None:
        with torch.inference_mode():
            network(images)

    return call


def _onnx_calls(file: Path, report: Mapping[str, Any], size: Size, settings: MeasureOptions) -> dict[int, Call]:
    """Batch size to a call of the exported file, for the batch sizes it takes."""
    options = export_options.from_json(report["options"])
    if not options.dynamic_size:
        size = Size(*report["size"])
    asked = session(file, threads=settings.threads)

    def call_with(count: int) -> Call:
        made = export_options.from_json(options.to_json() | {"batch": count, "dynamic": "none"})
        fed = {INPUT: example(made, size).numpy()}
        return lambda: asked.run(None, fed)

    counts = dict.fromkeys((1, settings.batch)) if options.dynamic_batch else {options.batch: None}
    return {count: call_with(count) for count in counts}


def _setup(settings: MeasureOptions, device: torch.device) -> dict[str, Any]:
    return {
        "made": time.time(),
        "device": settings.device,
        "device_name": torch.cuda.get_device_name() if device.type == "cuda" else _processor(),
        "threads": settings.threads,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": os.getloadavg()[0],
        "batch": settings.batch,
        "repeats": settings.repeats,
        "warmup": settings.warmup,
        "torch": torch.__version__,
        "torch_precision": "fp32",
        "onnxruntime": onnxruntime.__version__,
        "onnxruntime_provider": "CPUExecutionProvider",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _scored(run: Run, sides: Mapping[str, dict[str, Any] | None]) -> dict[str, Any]:
    """Both sides with the accuracy that training measured."""
    summary: RunSummary = RunStore(run.path.parent).summary(run)
    teacher, student = sides["teacher"], sides["student"]
    assert student is not None
    return {
        "teacher": None if teacher is None else teacher | {"miou": summary.teacher_miou},
        "student": student
        | {
            "miou": summary.best_miou,
            "retention": summary.best_miou / summary.teacher_miou
            if summary.best_miou is not None and summary.teacher_miou
            else None,
            "agreement": summary.agreement,
        },
    }
