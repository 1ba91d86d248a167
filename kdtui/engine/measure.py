"""Measure size and latency of teachers and students, and their ratios, on this machine.

Latency is measured only here: the caller holds all slots of the device, so that no training runs at the same time.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kdtui import catalog, export_options
from kdtui.engine.export.deployed import InputSize, examples
from kdtui.engine.export.onnx import INPUT
from kdtui.engine.export.source import ExportNetwork, of_checkpoint, of_run
from kdtui.engine.export.verify import session
from kdtui.engine.file_kinds import is_onnx
from kdtui.engine.models import count_parameters, freeze_unused, input_channels
from kdtui.engine.profile_model import count_macs
from kdtui.errors import EngineError, KdtuiError
from kdtui.measure_options import MeasureOptions
from kdtui.store.export_files import export_path, report_of
from kdtui.store.files import read_file
from kdtui.store.run import Run, write_atomically
from kdtui.store.state import RunSummary
from kdtui.store.store import RunStore
from kdtui.store.values import MOST_BYTES, is_number, is_whole, parse_json

Call = Callable[[], object]


@dataclass(frozen=True)
class Quartiles:
    """Seconds per call over ``n`` calls."""

    median: float
    q1: float
    q3: float
    n: int

    def to_json(self) -> dict[str, float]:
        """Plain values with stable keys."""
        return asdict(self)


def quartiles(values: list[float]) -> Quartiles:
    """Median and quartiles of one or more values."""
    if len(values) == 1:
        return Quartiles(values[0], values[0], values[0], 1)
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return Quartiles(median, q1, q3, len(values))


def interleaved(
    calls: Mapping[str, Call],
    *,
    repeats: int,
    warmup: int,
    clock: Callable[[Call], float],
    seen: Callable[[int], None] = lambda rounds: None,
) -> dict[str, Quartiles]:
    """Time every call ``repeats`` times in interleaved rounds.

    Changes of the machine's speed then affect all calls about equally, so that ratios are more reliable than values.
    Each round starts with the next call, so that no call always follows the caches of the same other one.

    Args:
        calls: The calls by name.
        repeats: Timed rounds.
        warmup: Untimed rounds before them.
        clock: Runs a call and returns its duration in seconds.
        seen: Called after each timed round with its number.
    """
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warmup, repeats):
        first = number % max(1, len(names))
        for name in names[first:] + names[:first]:
            taken = clock(calls[name])
            if number >= 0:
                times[name].append(taken)
        if number >= 0:
            seen(number + 1)
    return {name: quartiles(values) for name, values in times.items()}


def on_cpu(call: Call) -> float:
    """Wall-clock time of a call in seconds."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def on_gpu(call: Call) -> float:
    """Seconds between two events of the current CUDA stream, which excludes time of the host."""
    begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begun.record()
    call()
    ended.record()
    ended.synchronize()
    return float(begun.elapsed_time(ended)) / 1e3


class _Living(TorchDispatchMode):
    """Tracks the peak number of bytes of simultaneously existing tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._living: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        answer = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(answer):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                self._living[StorageWeakRef(storage)] = storage.nbytes()
        self._living = {storage: size for storage, size in self._living.items() if not storage.expired()}
        self.peak = max(self.peak, sum(self._living.values()))
        return answer


def peak_memory(network: nn.Module, images: Tensor) -> int:
    """Peak number of bytes of weights, input and computed tensors.

    On a GPU this is the peak of torch's allocator. On a CPU tensors are counted, because the peak of the process
    includes earlier work and depends on the allocator; scratch memory within operators is not included.

    Args:
        network: In eval mode.
        images: f32 [N,3,H,W] on the network's device.
    """
    if images.is_cuda:
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        with torch.inference_mode():
            network(images)
        torch.cuda.synchronize()
        weights = sum(value.nbytes for value in network.state_dict().values())
        return int(torch.cuda.max_memory_allocated() - before + weights + images.nbytes)
    with torch.no_grad(), _Living() as living:
        network(images)
    weights = sum(value.nbytes for value in network.state_dict().values())
    return int(living.peak + weights + images.nbytes)


@dataclass(frozen=True)
class MeasureTarget:
    """A network to measure, with its exports.

    Attributes:
        exports: File and report of each export next to the checkpoint, by precision.
    """

    checkpoint: Path
    source: ExportNetwork
    size: InputSize
    facts: dict[str, Any]
    exports: Mapping[str, tuple[Path, Mapping[str, Any]]]


def student_of(run: Run, device: torch.device) -> MeasureTarget:
    """The student of a run, from its best checkpoint.

    Raises:
        CheckpointError: It cannot be read.
    """
    path = run.best
    source = of_run(run, path)
    return _subject(path.absolute(), source, source.size, device)


def teacher_of(run: Run, path: Path, size: InputSize, device: torch.device) -> MeasureTarget:
    """The teacher of a run, for images of the student's size.

    Raises:
        CheckpointError: It cannot be read.
    """
    configured = run.profile().teacher
    source = of_checkpoint(path, teacher=configured.of_another_file())
    return _subject(path, source, _divisible(size, source.stride), device)


def _divisible(size: InputSize, stride: int) -> InputSize:
    """The student's size, padded to the stride of a deeper teacher, as in training."""
    return InputSize(-(-size.height // stride) * stride, -(-size.width // stride) * stride)


def _subject(path: Path, source: ExportNetwork, size: InputSize, device: torch.device) -> MeasureTarget:
    network = source.network
    freeze_unused(network.requires_grad_(True))
    counts = count_parameters(network)
    facts: dict[str, Any] = {
        "checkpoint": str(path),
        "sha256": source.facts["checkpoint_sha256"],
        "architecture": source.facts["architecture"],
        "encoder": source.facts["encoder"],
        "parameters": counts.stored,
        "parameters_used": counts.used,
        "parameter_bytes": sum(parameter.nbytes for parameter in network.parameters()),
        "state_bytes": sum(value.nbytes for value in network.state_dict().values()),
        # Checkpoints of runs include the optimizer, external ones may not, so their ratio is meaningless.
        "checkpoint_bytes": path.stat().st_size if path.is_file() else None,
        "macs": count_macs(network, height=size.height, width=size.width),
        "macs_catalog": _catalog_macs(source, size),
    }
    network.requires_grad_(False)
    network.to(device).eval()
    images = torch.zeros(1, input_channels(network), size.height, size.width, device=device)
    facts["peak_memory_bytes"] = peak_memory(network, images)
    found = _exports(path)
    facts["onnx"] = {
        precision: {
            "bytes": file.stat().st_size,
            "miou": report["verified"]["validation"]["miou"],
            "metrics": _metrics(report),
            "input": report["options"]["input"],
            "output": report["options"]["output"],
            "dynamic": report["options"]["dynamic"],
        }
        for precision, (file, report) in found.items()
    }
    return MeasureTarget(path, source, size, facts, found)


def _catalog_macs(source: ExportNetwork, size: InputSize) -> int | None:
    """MACs of the same network in the catalog; None if it is not in it."""
    facts = source.facts
    width = facts["decoder_channels"]
    try:
        cost = catalog.cost(
            facts["encoder"],
            architecture=facts["architecture"],
            decoder_channels=json.loads(width) if width else None,
            out_channels=source.out_channels,
            encoder_depth=facts["encoder_depth"],
            height=size.height,
            width=size.width,
        )
    except KdtuiError:  # an encoder of smp that is not in the catalog
        return None
    return None if cost is None else cost.macs


def _exports(checkpoint: Path) -> dict[str, tuple[Path, Mapping[str, Any]]]:
    """The exports next to a checkpoint whose reports match the files."""
    found: dict[str, tuple[Path, Mapping[str, Any]]] = {}
    for precision in export_options.PRECISIONS:
        path = export_path(checkpoint, precision)
        try:
            report = parse_json(read_file(report_of(path), most=MOST_BYTES))
            if report["bytes"] == path.stat().st_size and _usable(report):
                found[precision] = (path, report)
        except (OSError, ValueError, KeyError, TypeError, KdtuiError):
            continue  # missing, or of another version: not measured, and the table shows a dash
    return found


def _metrics(report: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of the kind of network from the verification; empty in reports of earlier versions."""
    values = report["verified"]["validation"].get("metrics")
    return {name: value for name, value in values.items() if is_number(value)} if isinstance(values, dict) else {}


def _usable(report: Mapping[str, Any]) -> bool:
    """Whether the required parts of a report are valid.

    Raises:
        KeyError: A key is missing.
        TypeError: A value has the wrong type.
        KdtuiError: The options are not valid.
    """
    options, miou = report["options"], report["verified"]["validation"]["miou"]
    if not isinstance(options, dict) or not {"input", "output", "dynamic"} <= options.keys():
        return False
    size = [1, 1] if export_options.from_json(options).dynamic_size else report["size"]
    two = isinstance(size, list) and len(size) == 2
    return two and all(is_whole(edge) and edge > 0 for edge in size) and (miou is None or is_number(miou))


VERSION = 1
MeasureProgress = Callable[[str, int, int], None]
# Ratios above 1 mean that the student is smaller or faster.
_SMALLER = ("parameters", "parameters_used", "parameter_bytes", "macs", "state_bytes", "peak_memory_bytes")


def measure(
    runs: Sequence[Run], settings: MeasureOptions, *, progress: MeasureProgress = lambda words, done, total: None
) -> dict[str, Any]:
    """Measure the students of ``runs`` and their teachers, and write each run's ``measurements.json``.

    All calls are timed in one interleaved series, so that the runs can be compared with each other too.

    Args:
        runs: The runs; each needs a best checkpoint.
        settings: Options of the measurement.
        progress: Called with each step; may raise an exception to cancel.

    Returns:
        ``{"runs": {id: measurements}}``.

    Raises:
        CheckpointError: A checkpoint cannot be read.
        EngineError: There is no GPU to measure on.
    """
    device = device_of(settings)
    torch.set_num_threads(settings.threads)
    subjects: dict[Path, MeasureTarget] = {}
    pairs: list[tuple[Run, Path, Path | None]] = []
    for run in runs:
        progress(f"loading {run.id}", 0, 0)
        student = student_of(run, device)
        subjects.setdefault(student.checkpoint, student)
        teacher = _teacher_path(run)
        if teacher is not None and teacher not in subjects:
            subjects[teacher] = teacher_of(run, teacher, student.size, device)
        pairs.append((run, student.checkpoint, teacher))
    latencies = _latencies(subjects, settings, device, progress)
    setup = setup_of(settings, device)
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
    """How many times smaller and faster the student is; None without a teacher."""
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


def device_of(settings: MeasureOptions) -> torch.device:
    """The device of a measurement.

    Raises:
        EngineError: There is no GPU.
    """
    if settings.device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise EngineError(
            "torch does not find a GPU to measure on",
            found=f"torch {torch.__version__}",
            hint="use --device cpu, or check with `kdtui doctor`",
        )
    return torch.device("cuda")


def _teacher_path(run: Run) -> Path | None:
    profile = run.profile()
    if not profile.distillation.enabled or profile.teacher.checkpoint is None:
        return None
    path = Path(profile.teacher.checkpoint).absolute()
    return None if path.is_file() and is_onnx(path) else path  # an ONNX file has no network of torch to measure


def _latencies(
    subjects: Mapping[Path, MeasureTarget], settings: MeasureOptions, device: torch.device, progress: MeasureProgress
) -> dict[Path, dict[str, dict[str, Any]]]:
    calls: dict[tuple[Path, str, int], Call] = {}
    for path, subject in subjects.items():
        for runtime, call in _further_calls(subject, settings, device).items():
            calls[path, runtime, 1] = call
        for count in dict.fromkeys((1, settings.batch)):
            channels = input_channels(subject.source.network)
            images = torch.randn(count, channels, subject.size.height, subject.size.width, device=device)
            calls[path, "torch", count] = _torch_call(subject.source.network, images)
        for precision, (file, report) in subject.exports.items():
            for count, call in _onnx_calls(file, report, subject, settings).items():
                calls[path, f"onnxruntime {precision}", count] = call
    clock = on_gpu if device.type == "cuda" else on_cpu
    names = {str(number): key for number, key in enumerate(calls)}
    times = interleaved(
        {name: calls[key] for name, key in names.items()},
        repeats=settings.repeats,
        warmup=settings.warmup,
        clock=clock,
        seen=lambda rounds: progress("timing", rounds, settings.repeats),
    )
    latencies: dict[Path, dict[str, dict[str, Any]]] = {path: {} for path in subjects}
    for name, (path, runtime, count) in names.items():
        latencies[path].setdefault(runtime, {})[str(count)] = timed(times[name], count)
    return latencies


def _further_calls(subject: MeasureTarget, settings: MeasureOptions, device: torch.device) -> dict[str, Call]:
    """What the kind of a network measures beside whole images, by the name of the runtime; one image each."""
    kind, network, size = subject.source.kind, subject.source.network, subject.size
    if kind is None:
        return {}
    images = torch.randn(1, input_channels(network), size.height, size.width, device=device)
    calls = {f"torch, {name}": without_graph(call) for name, call in kind.parts(network, images).items()}
    names = [entry.name for entry in subject.source.inputs]
    for work, inputs in kind.workloads(size.height, size.width).items():
        extras = {name: values.to(device) for name, values in zip(names, inputs, strict=True)}
        calls[f"torch, {work}"] = without_graph(partial(network, images, **extras))
        feed = {name: values.numpy() for name, values in zip(names, inputs, strict=True)}
        for precision, (file, report) in subject.exports.items():
            image = _onnx_feed(report, subject, 1)[INPUT]
            asked = session(file, threads=settings.threads)
            calls[f"onnxruntime {precision}, {work}"] = partial(asked.run, None, {INPUT: image, **feed})
    return calls


def without_graph(call: Call) -> Call:
    """A call in inference mode."""

    def measured() -> None:
        with torch.inference_mode():
            call()

    return measured


def timed(times: Quartiles, count: int) -> dict[str, float]:
    """Plain values of the times of a batch of ``count`` images, with images per second."""
    return times.to_json() | {"images_per_second": count / times.median}


def _torch_call(network: nn.Module, images: torch.Tensor) -> Call:
    return without_graph(partial(network, images))


def _onnx_calls(
    file: Path, report: Mapping[str, Any], subject: MeasureTarget, settings: MeasureOptions
) -> dict[int, Call]:
    """Calls of the exported file by batch size, for the batch sizes that it accepts."""
    options = export_options.from_json(report["options"])
    asked = session(file, threads=settings.threads)
    counts = dict.fromkeys((1, settings.batch)) if options.dynamic_batch else {options.batch: None}
    return {count: partial(asked.run, None, _onnx_feed(report, subject, count)) for count in counts}


def _onnx_feed(report: Mapping[str, Any], subject: MeasureTarget, count: int) -> dict[str, Any]:
    """Inputs of an exported file for this many images."""
    options = export_options.from_json(report["options"])
    size = subject.size if options.dynamic_size else InputSize(*report["size"])
    made = export_options.from_json(options.to_json() | {"batch": count, "dynamic": "none"})
    names = [INPUT, *(entry.name for entry in subject.source.inputs)]
    feed = [values.numpy() for values in examples(subject.source.inputs, made, size, subject.source.pixels)]
    return dict(zip(names, feed, strict=True))


def setup_of(settings: MeasureOptions, device: torch.device) -> dict[str, Any]:
    """The conditions of a measurement, but for the size of the images."""
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
    """Add the accuracy measured in training to both networks."""
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
