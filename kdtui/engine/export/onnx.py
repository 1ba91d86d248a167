"""Writing ONNX: fp32 by torch's exporters, and fp16 and int8 from the fp32 file."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxconverter_common import float16
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import create_calibrator, save_tensors_data
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from kdtui.engine.export.deployed import Deployed, axes
from kdtui.errors import ExportError
from kdtui.export_options import ExportOptions

INPUT = "images"
# The oldest operator set that the dynamo exporter writes; it would turn an older wish into this one silently.
_DYNAMO_OPSET = 18


@dataclass(frozen=True)
class Exporter:
    """Which exporter wrote the file, and why it was not dynamo; None where it was."""

    name: str
    instead: str | None = None


def write_onnx(deployed: Deployed, images: Tensor, path: Path, options: ExportOptions) -> Exporter:
    """Trace ``deployed`` with ``images`` and write it to ``path``.

    Raises:
        ExportError: Neither exporter can, or the file has another opset than was asked for.
    """
    if options.opset < _DYNAMO_OPSET:
        exporter = Exporter("torchscript", f"the dynamo exporter writes opset {_DYNAMO_OPSET} and newer")
        try:
            _torchscript(deployed, images, path, options)
        except OSError:
            raise
        except Exception as error:  # torch has no class of its own for what this exporter cannot do
            raise _unsupported(f"TorchScript exporter: {_reason(error)}", options) from error
    else:
        exporter = _either(deployed, images, path, options)
    written = opset_of(onnx.load(path, load_external_data=False))
    if written != options.opset:
        raise ExportError(
            "the exporter wrote another opset than was asked for",
            found=written,
            allowed=options.opset,
            hint=f"`kdtui export RUN --opset {written}`",
        )
    return exporter


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that a file uses."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _either(deployed: Deployed, images: Tensor, path: Path, options: ExportOptions) -> Exporter:
    try:
        _dynamo(deployed, images, path, options)
    except OSError:
        raise  # a full disk is no reason to try the other one
    except Exception as error:
        # Every failure of it is its own OnnxExporterError around whatever went wrong; the older exporter traces where
        # this one has to prove shapes. It is deprecated, so it is the second choice, and the report says so.
        reason = _reason(error)
        try:
            _torchscript(deployed, images, path, options)
        except OSError:
            raise
        except Exception as second:
            raise _unsupported(
                f"dynamo exporter: {reason}; TorchScript exporter: {_reason(second)}", options
            ) from error
        return Exporter("torchscript", f"dynamo: {reason}")
    return Exporter("dynamo")


def _dynamo(deployed: Deployed, images: Tensor, path: Path, options: ExportOptions) -> None:
    shapes = axes(options)  # a name makes an axis dynamic, and stands in the file
    with _quiet():
        program = torch.onnx.export(
            deployed,
            (images,),
            dynamo=True,
            opset_version=options.opset,
            input_names=[INPUT],
            output_names=list(deployed.output_names),
            dynamic_shapes=(shapes,) if shapes else None,
            verbose=False,
        )
    assert program is not None
    program.save(str(path))


def _torchscript(deployed: Deployed, images: Tensor, path: Path, options: ExportOptions) -> None:
    named = axes(options)
    out = {0: "batch"} if 0 in named else {}
    if options.dynamic_size:
        first = 1 if options.output == "argmax" else 2
        out |= {first: "height", first + 1: "width"}
    with _quiet():
        torch.onnx.export(
            deployed,
            (images,),
            str(path),
            dynamo=False,
            opset_version=options.opset,
            input_names=[INPUT],
            output_names=list(deployed.output_names),
            dynamic_axes={INPUT: named, **dict.fromkeys(deployed.output_names, out)},
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' own talk: it names files of this machine, and what matters of it is raised."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _reason(error: BaseException) -> str:
    """The innermost cause in a line: what stands around it repeats it with pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def _unsupported(reasons: str, options: ExportOptions) -> ExportError:
    hint = "`kdtui export RUN --opset N`, or another encoder"
    if options.dynamic_size:
        hint = "a network of one size: `kdtui export RUN --dynamic batch`"
    return ExportError(
        "this network cannot be written as ONNX",
        found=reasons,
        allowed="operators that ONNX has, for sizes that the network takes",
        hint=hint,
    )


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
