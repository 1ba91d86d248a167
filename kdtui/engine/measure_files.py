"""Measure size and latency of single ONNX files with onnxruntime on the CPU."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdtui.engine.measure import VERSION, Call, MeasureProgress, interleaved, on_cpu, setup_of, timed
from kdtui.engine.models import one_line
from kdtui.engine.onnx_teacher import float_count, load_session, read_model
from kdtui.engine.torch_file import shortened
from kdtui.errors import CheckpointError, UsageError
from kdtui.measure_options import MeasureOptions
from kdtui.store.export_files import report_of
from kdtui.store.files import read_file, sha256_of
from kdtui.store.values import MOST_BYTES, is_number, is_whole, parse_json

_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
_WHOLE = {"tensor(uint8)": np.uint8, "tensor(int32)": np.int32, "tensor(int64)": np.int64}
_CHANNELS = (1, 3, 4)


def measure_files(
    paths: Sequence[Path],
    settings: MeasureOptions,
    size: tuple[int, int] | None,
    *,
    progress: MeasureProgress = lambda words, done, total: None,
) -> dict[str, Any]:
    """Measure ONNX files in one interleaved series.

    What follows from a network of torch alone is None: MACs, peak memory, and parameters that the graph does not use.

    Args:
        paths: The files.
        settings: Options of the measurement.
        size: Height and width, for files that take images of any size; default: that in the report of the export.
        progress: Called with each step; may raise an exception to cancel.

    Returns:
        ``{"runs": {path: measurements}}``, with the file as ``student`` and no teacher.

    Raises:
        CheckpointError: A file cannot be read or run.
        UsageError: The size of the images is not known, or differs from that of the graph.
    """
    files = [_File(path, settings, size) for path in paths]
    calls = {(place, count): call for place, file in enumerate(files) for count, call in file.calls().items()}
    times = interleaved(
        {f"{place} {count}": call for (place, count), call in calls.items()},
        repeats=settings.repeats,
        warmup=settings.warmup,
        clock=on_cpu,
        seen=lambda rounds: progress("timing", rounds, settings.repeats),
    )
    setup = setup_of(settings, torch.device("cpu"))
    answers = {}
    for place, file in enumerate(files):
        latency = {str(count): timed(times[f"{at} {count}"], count) for at, count in calls if at == place}
        answers[str(file.path)] = {
            "version": VERSION,
            "run": str(file.path),
            "setup": setup | {"height": file.size[0], "width": file.size[1]},
            "teacher": None,
            "student": file.facts | {"latency": {f"onnxruntime {file.precision}": latency}},
            "ratio": None,
        }
    return {"runs": answers}


class _File:
    """One file, ready to run.

    Raises:
        CheckpointError: It cannot be read or run.
        UsageError: The size of the images is not known, or differs from that of the graph.
    """

    def __init__(self, path: Path, settings: MeasureOptions, size: tuple[int, int] | None) -> None:
        self.path = path
        model, parts = read_model(path)
        self._session = load_session(path, threads=settings.threads)
        self._settings = settings
        report = _report(path)
        self._images, *self._others = self._session.get_inputs()
        self.size = self._size_of(size, report)
        self.precision = str(report.get("precision") or "file")
        miou = ((report.get("verified") or {}).get("validation") or {}).get("miou")
        count = float_count(model)
        self.facts: dict[str, Any] = {
            "checkpoint": str(path),
            "sha256": sha256_of(path),
            "architecture": "",
            "encoder": "",
            "parameters": count,
            **dict.fromkeys(("parameters_used", "parameter_bytes", "macs", "state_bytes", "peak_memory_bytes")),
            "checkpoint_bytes": None,
            "onnx": {
                self.precision: {
                    "bytes": sum(part.stat().st_size for part in parts),
                    "miou": miou if is_number(miou) else None,
                }
            },
            "miou": miou if is_number(miou) else None,
        }

    def _size_of(self, size: tuple[int, int] | None, report: Mapping[str, Any]) -> tuple[int, int]:
        shape = self._images.shape
        if len(shape) != 4 or self._images.type not in _FLOATS | _WHOLE:
            raise CheckpointError(
                "this ONNX file does not take images",
                where=self.path,
                found=f"{shortened(self._images.name, 80)}: {self._images.type} {shape}",
                allowed="a first input [N,C,H,W] or [N,H,W,C]",
            )
        self._last = shape[1] not in _CHANNELS and shape[3] in _CHANNELS
        sides = (shape[1], shape[2]) if self._last else (shape[2], shape[3])
        if all(is_whole(side) for side in sides):
            if size is not None and size != tuple(sides):
                raise UsageError(
                    "this file takes images of one size", where=self.path, found=_text(size), allowed=_text(sides)
                )
            return int(sides[0]), int(sides[1])
        reported = report.get("size")
        if size is None and isinstance(reported, list) and len(reported) == 2 and all(map(is_whole, reported)):
            return int(reported[0]), int(reported[1])
        if size is None:
            raise UsageError(
                "this file takes images of any size, and its report has none",
                where=self.path,
                allowed="the size to measure",
                hint="--image-size HEIGHTxWIDTH",
            )
        return size

    def calls(self) -> dict[int, Call]:
        """A call for each batch size that the graph accepts."""
        batch = self._images.shape[0]
        counts = (batch,) if is_whole(batch) else (1, self._settings.batch)
        found: dict[int, Call] = {}
        for count in dict.fromkeys(counts):
            feed = self._feed(count)
            found[count] = functools.partial(self._session.run, None, feed)
            try:
                found[count]()
            except Exception as error:  # onnxruntime's exceptions derive from Exception alone
                raise CheckpointError(
                    "onnxruntime cannot run this file with images of this size",
                    where=self.path,
                    found=f"{_text(self.size)}, batch {count}: {one_line(error)}",
                    hint="--image-size HEIGHTxWIDTH chooses another size, such as multiples of 32",
                ) from error
        return found

    def _feed(self, count: int) -> dict[str, NDArray[Any]]:
        channels = self._images.shape[3 if self._last else 1]
        planes = channels if is_whole(channels) else 3
        shape = (count, *self.size, planes) if self._last else (count, planes, *self.size)
        feed = {self._images.name: _values(self._images.type, shape)}
        for one in self._others:
            sides = [count if place == 0 and not is_whole(side) else side for place, side in enumerate(one.shape)]
            if one.type not in _FLOATS | _WHOLE or not all(map(is_whole, sides)):
                raise CheckpointError(
                    "the shape of an input is open, so this file cannot be measured alone",
                    where=self.path,
                    found=f"{shortened(one.name, 80)}: {one.type} {one.shape}",
                    hint="`kdtui measure RUN` measures a run with its exported files",
                )
            feed[one.name] = _values(one.type, tuple(sides))
        return feed


def _values(kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
    generator = np.random.default_rng(0)
    if kind in _FLOATS:
        return generator.standard_normal(shape, dtype=np.float32).astype(_FLOATS[kind])
    return generator.integers(0, 256 if kind == "tensor(uint8)" else 2, shape).astype(_WHOLE[kind])


def _text(size: Sequence[object]) -> str:
    return f"{size[0]}x{size[1]}"


def _report(path: Path) -> Mapping[str, Any]:
    """The report of the export; empty for a file of another program, or if it describes another file."""
    try:
        report = parse_json(read_file(report_of(path), most=MOST_BYTES))
        return report if isinstance(report, dict) and report.get("bytes") == path.stat().st_size else {}
    except (OSError, ValueError):
        return {}
