"""fp16 and int8 from an fp32 file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxconverter_common import float16
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import create_calibrator, save_tensors_data
from onnxruntime.quantization.shape_inference import quant_pre_process

from kdtui.engine.export.onnx import INPUT
from kdtui.export_options import ExportOptions

Calibrated = Callable[[int], None]
"""Told how many images are seen."""
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Two-sided: what lies outside is cut, so that one bright pixel does not cost every other its resolution.
_PERCENTILE = 99.99


def to_fp16(source: Path, target: Path) -> None:
    """Weights and sums in fp16; what goes in and comes out stays f32."""
    with warnings.catch_warnings():
        # It tells each of the many weights that are too small for fp16, which is what the verification is for.
        warnings.simplefilter("ignore")
        onnx.save(float16.convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


def to_int8(
    source: Path,
    target: Path,
    batches: Iterable[NDArray[Any]],
    options: ExportOptions,
    *,
    progress: Calibrated = lambda seen: None,
) -> None:
    """Static QDQ per channel: activations u8, weights s8, ranges from a percentile of what ``batches`` cause.

    s8 activations are slower on CPUs, and minimum and maximum instead of a percentile cost 0.4 points more.

    Args:
        source: The fp32 file.
        target: Written.
        batches: Inputs as the graph takes them, of one shape.
        options: Layers to leave alone.
        progress: Told after each batch.
    """
    prepared, ranges = source.with_name("prepared.onnx"), source.with_name("ranges.json")
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # onnxruntime's advice on every file that has a dynamic axis
    try:
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        _calibrate(prepared, ranges, batches, progress)
        quantize_static(
            str(prepared),
            str(target),
            None,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            nodes_to_exclude=excluded(onnx.load(prepared, load_external_data=False), options.keep_float),
            calibration_cache_path=str(ranges),
        )
    finally:
        logging.disable(level)


def _calibrate(prepared: Path, ranges: Path, batches: Iterable[NDArray[Any]], progress: Calibrated) -> None:
    """Write the ranges of every tensor, looking at one batch at a time.

    onnxruntime's own loop keeps all activations of all images at once: gigabytes for a hundred images of 256 x 256.
    """
    calibrator = create_calibrator(
        str(prepared),
        augmented_model_path=str(prepared.with_name("augmented.onnx")),
        calibrate_method=CalibrationMethod.Percentile,
        # Ranges around zero would waste half of a u8 on what a ReLU never gives.
        extra_options={"symmetric": False, "percentile": _PERCENTILE},
    )
    seen = 0
    for batch in batches:
        calibrator.collect_data(_One(batch))
        seen += len(batch)
        progress(seen)
    save_tensors_data(calibrator.compute_data(), ranges)


class _One(CalibrationDataReader):  # type: ignore[misc]
    """One batch, once."""

    def __init__(self, batch: NDArray[Any]) -> None:
        self._left: Iterator[dict[str, NDArray[Any]]] = iter([{INPUT: np.ascontiguousarray(batch)}])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._left, None)


def excluded(model: onnx.ModelProto, keep_float: str) -> list[str]:
    """Names of the nodes that stay in fp32: all before the first layer with weights and all after the last.

    Normalisation, and composing the classes from log probabilities, are exact or useless.

    Args:
        model: A graph in topological order, as ONNX demands.
        keep_float: ``first``, ``last`` or ``both`` leaves those layers out too.
    """
    layers = [place for place, node in enumerate(model.graph.node) if node.op_type in _WEIGHTED]
    if not layers:
        return [node.name for node in model.graph.node]
    first = layers[0] + (keep_float in ("first", "both"))
    last = layers[-1] - (keep_float in ("last", "both"))
    return [node.name for place, node in enumerate(model.graph.node) if not first <= place <= last]
