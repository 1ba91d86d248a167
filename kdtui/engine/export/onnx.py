"""Write ONNX files: fp32 with torch's exporters, and fp16 and int8 from the fp32 file."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from torch.onnx.utils import register_custom_op_symbolic, unregister_custom_op_symbolic

from kdtui.engine.export.deployed import Deployed, axes, dynamic, output_axes
from kdtui.engine.network import Translation
from kdtui.errors import ExportError
from kdtui.export_options import ExportOptions

INPUT = "images"
# The oldest operator set of the dynamo exporter, which silently uses it for older ones.
_DYNAMO_OPSET = 18


@dataclass(frozen=True)
class Exporter:
    """The exporter that wrote the file, and why it was not dynamo; None if it was."""

    name: str
    instead: str | None = None


Feed = Mapping[str, NDArray[Any]]
"""The inputs of a graph by name."""


def write_onnx(deployed: Deployed, inputs: tuple[Tensor, ...], path: Path, options: ExportOptions) -> Exporter:
    """Trace ``deployed`` with ``inputs``, images first, and write it to ``path``.

    Raises:
        ExportError: Both exporters failed, or the file has another opset than requested.
    """
    oldest = max((entry.opset for entry in deployed.translations), default=0)
    if options.opset < oldest:
        raise ExportError(
            "an operator of this network needs a newer operator set",
            where="--opset",
            found=options.opset,
            allowed=f"{oldest} to 22",
            hint=f"`kdtui export RUN --opset {_DYNAMO_OPSET}`",
        )
    if options.opset < _DYNAMO_OPSET:
        exporter = Exporter("torchscript", f"the dynamo exporter writes opset {_DYNAMO_OPSET} and newer")
        try:
            _torchscript(deployed, inputs, path, options)
        except OSError:
            raise
        except Exception as error:  # this exporter has no exception class of its own
            raise _unsupported(f"TorchScript exporter: {_reason(error)}", options) from error
    else:
        exporter = _either(deployed, inputs, path, options)
    written = opset_of(onnx.load(path, load_external_data=False))
    if written != options.opset:
        raise ExportError(
            "the exporter wrote another opset than requested",
            found=written,
            allowed=options.opset,
            hint=f"`kdtui export RUN --opset {written}`",
        )
    return exporter


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the ONNX operator set of a file."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _either(deployed: Deployed, inputs: tuple[Tensor, ...], path: Path, options: ExportOptions) -> Exporter:
    try:
        _dynamo(deployed, inputs, path, options)
    except OSError:
        raise  # for example a full disk, with which the other exporter would fail too
    except Exception as error:
        # The older exporter traces networks whose dynamic shapes dynamo cannot derive. It is deprecated, so it is the
        # second choice, and the report contains the reason.
        reason = _reason(error)
        try:
            _torchscript(deployed, inputs, path, options)
        except OSError:
            raise
        except Exception as second:
            raise _unsupported(
                f"dynamo exporter: {reason}; TorchScript exporter: {_reason(second)}", options
            ) from error
        return Exporter("torchscript", f"dynamo: {reason}")
    return Exporter("dynamo")


def _dynamo(deployed: Deployed, inputs: tuple[Tensor, ...], path: Path, options: ExportOptions) -> None:
    # A name makes an axis dynamic and is written to the file.
    named, further = axes(options), tuple(dynamic(entry.axes, options) for entry in deployed.inputs)
    shapes: Any = (named, further) if further else (named,)
    with _quiet():
        program = torch.onnx.export(
            deployed,
            inputs,
            dynamo=True,
            opset_version=options.opset,
            input_names=[INPUT, *(entry.name for entry in deployed.inputs)],
            output_names=list(deployed.output_names),
            dynamic_shapes=shapes if any((named, *further)) else None,
            custom_translation_table={_overload(entry): entry.dynamo for entry in deployed.translations},
            verbose=False,
        )
    assert program is not None
    program.save(str(path))


def _overload(translation: Translation) -> Callable[..., Any]:
    """The operator of a translation."""
    namespace, name = translation.operator.split("::")
    overload: Callable[..., Any] = getattr(getattr(torch.ops, namespace), name).default
    return overload


@contextlib.contextmanager
def _registered(translations: Iterable[Translation]) -> Iterator[None]:
    """Register operators of a network's own with the older exporter."""
    with contextlib.ExitStack() as registered:
        for entry in translations:
            register_custom_op_symbolic(entry.operator, entry.torchscript, entry.opset)
            registered.callback(unregister_custom_op_symbolic, entry.operator, entry.opset)
        yield


def _torchscript(deployed: Deployed, inputs: tuple[Tensor, ...], path: Path, options: ExportOptions) -> None:
    with _quiet(), _registered(deployed.translations):
        torch.onnx.export(
            deployed,
            inputs,
            str(path),
            dynamo=False,
            opset_version=options.opset,
            input_names=[INPUT, *(entry.name for entry in deployed.inputs)],
            output_names=list(deployed.output_names),
            dynamic_axes={
                INPUT: axes(options),
                **{entry.name: dynamic(entry.axes, options) for entry in deployed.inputs},
                **{output.name: output_axes(output, options) for output in deployed.outputs},
            },
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the output of the exporters, which contains paths of this machine; errors are raised anyway."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _reason(error: BaseException) -> str:
    """The innermost cause on one line; the outer exceptions only repeat it with long advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def _unsupported(reasons: str, options: ExportOptions) -> ExportError:
    hint = "try `kdtui export RUN --opset N`, or another encoder"
    if options.dynamic_size:
        hint = "export it for a fixed size: `kdtui export RUN --dynamic batch`"
    return ExportError(
        "this network cannot be written as ONNX",
        found=reasons,
        allowed="operators that ONNX supports, for sizes that the network accepts",
        hint=hint,
    )


Calibrated = Callable[[int], None]
"""Called with the number of processed images."""
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Two-sided: values outside are clipped, so that outliers do not reduce the resolution of all other values.
_PERCENTILE = 99.99


def to_fp16(source: Path, target: Path) -> None:
    """Convert weights and computation to fp16; input, output and the coordinates of boxes stay f32."""
    with warnings.catch_warnings():
        # It warns about every weight that is too small for fp16, which the verification covers.
        warnings.simplefilter("ignore")
        model = onnx.load(source)
        casts = {node.name for node in model.graph.node if _casts_to(node, onnx.TensorProto.FLOAT)}
        try:
            model = float16.convert_float_to_float16(model, keep_io_types=True)
        except (AttributeError, ValueError) as error:  # for casts that several nodes read, as the older exporter writes
            raise ExportError(
                "this graph cannot be converted to fp16",
                found=_reason(error),
                allowed="a graph of the newer exporter",
                hint="`kdtui export RUN --precision fp16 --opset 18`, or `kdtui export RUN --precision fp32`",
            ) from error
    # It declares the output of such a node as fp16, but leaves the node as it is.
    for node in model.graph.node:
        if node.name in casts and _casts_to(node, onnx.TensorProto.FLOAT):
            node.attribute[0].i = onnx.TensorProto.FLOAT16
    _read_uncast(model.graph)
    _keep_boxes(model.graph, onnx.load(source, load_external_data=False).graph)
    onnx.save(model, target)


def _read_uncast(graph: onnx.GraphProto) -> None:
    """Let nodes in fp16 that read an output of the graph read it before its cast to f32, as the converter does not."""
    outputs = {entry.name for entry in graph.output}
    sources = {node.output[0]: node.input[0] for node in graph.node if _casts_to(node, onnx.TensorProto.FLOAT)}
    for node in graph.node:
        if node.op_type not in float16.DEFAULT_OP_BLOCK_LIST:
            node.input[:] = [sources.get(name, name) if name in outputs else name for name in node.input]


_EXACT = "_f32"


def _keep_boxes(graph: onnx.GraphProto, source: onnx.GraphProto) -> None:
    """Compute the boxes of RoiAlign as the source does: fp16 rounds 641.3 pixels to 641.5.

    The converter casts every input of a graph, also those of nodes that it leaves in f32.

    Args:
        graph: The converted graph.
        source: The graph in f32.
    """
    boxes = {node.name: list(node.input[1:]) for node in source.node if node.op_type == "RoiAlign"}
    if not boxes:
        return
    needed, inputs = set(itertools.chain(*boxes.values())), {entry.name for entry in source.input}
    copies: list[onnx.NodeProto] = []
    for node in reversed(source.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            copies.insert(0, node)
    for copy in copies:
        copy.name += _EXACT
        copy.input[:] = [name if name in inputs or not name else name + _EXACT for name in copy.input]
        copy.output[:] = [name + _EXACT for name in copy.output]
    for weight in source.initializer:
        if weight.name in needed:
            weight.name += _EXACT
            graph.initializer.append(weight)
    for node in graph.node:
        if node.name in boxes:
            node.input[1:] = [name if name in inputs else name + _EXACT for name in boxes[node.name]]
    nodes = [*copies, *graph.node]
    used = {entry.name for entry in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(nodes):  # in topological order
        if used.intersection(node.output):
            used.update(node.input)
            kept.insert(0, node)
    del graph.node[:]
    graph.node.extend(kept)


def _casts_to(node: onnx.NodeProto, kind: int) -> bool:
    return bool(node.op_type == "Cast" and node.attribute[0].i == kind)


def to_int8(
    source: Path,
    target: Path,
    batches: Iterable[Feed],
    options: ExportOptions,
    *,
    progress: Calibrated = lambda seen: None,
) -> None:
    """Quantise statically in QDQ format per channel: activations u8, weights s8, ranges from a percentile.

    s8 activations are slower on CPUs, and ranges from minimum and maximum lose 0.4 more points of mIoU.

    Args:
        source: The fp32 file.
        target: The file to write.
        batches: Calibration inputs of the graph.
        options: ``keep_float`` selects layers that stay in fp32.
        progress: Called after each batch with the number of processed images.
    """
    prepared, ranges = source.with_name("prepared.onnx"), source.with_name("ranges.json")
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # onnxruntime warns about every file with a dynamic axis
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


def _calibrate(prepared: Path, ranges: Path, batches: Iterable[Feed], progress: Calibrated) -> None:
    """Write the ranges of all tensors, processing one batch at a time.

    The loop of onnxruntime keeps the activations of all images in memory: gigabytes for a hundred images of 256 x 256.
    """
    calibrator = create_calibrator(
        str(prepared),
        augmented_model_path=str(prepared.with_name("augmented.onnx")),
        calibrate_method=CalibrationMethod.Percentile,
        # Symmetric ranges would waste half of the u8 values on negative values, which ReLU does not produce.
        extra_options={"symmetric": False, "percentile": _PERCENTILE},
    )
    seen = 0
    for batch in batches:
        if all(array.size for array in batch.values()):  # a range of no values is not defined
            calibrator.collect_data(_SingleBatch(batch))
        seen += len(batch[INPUT])
        progress(seen)
    save_tensors_data(calibrator.compute_data(), ranges)


class _SingleBatch(CalibrationDataReader):  # type: ignore[misc]
    """Reader of a single batch."""

    def __init__(self, batch: Feed) -> None:
        self._left = iter([{name: np.ascontiguousarray(array) for name, array in batch.items()}])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._left, None)


def excluded(model: onnx.ModelProto, keep_float: str) -> list[str]:
    """Names of the nodes that stay in fp32: all before the first layer with weights and all after the last.

    Normalisation and the composition of classes from log probabilities do not tolerate quantisation.

    Args:
        model: A graph in topological order, as ONNX requires.
        keep_float: ``first``, ``last`` or ``both`` adds those layers.
    """
    layers = [place for place, node in enumerate(model.graph.node) if node.op_type in _WEIGHTED]
    if not layers:
        return [node.name for node in model.graph.node]
    first = layers[0] + (keep_float in ("first", "both"))
    last = layers[-1] - (keep_float in ("last", "both"))
    return [node.name for place, node in enumerate(model.graph.node) if not first <= place <= last]
