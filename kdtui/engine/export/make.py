"""Make an export: in a temporary folder, with metadata, verified, and only then renamed to its target."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

import kdtui
from kdtui.engine.data import Batch
from kdtui.engine.dry_run import takes
from kdtui.engine.export.deployed import Deployed, InputSize, examples, fed, resized
from kdtui.engine.export.onnx import INPUT, Exporter, Feed, to_fp16, to_int8, write_onnx
from kdtui.engine.export.source import ExportNetwork
from kdtui.engine.export.verify import TorchAnswers, Verification, session, verify
from kdtui.errors import ExportError, KdtuiError
from kdtui.export_options import ExportOptions
from kdtui.store.export_files import report_of, work_folder


def strip_trace(model: onnx.ModelProto) -> None:
    """Remove metadata that exporters and quantizers write.

    The dynamo exporter writes a Python stack trace to every node, which is useless in the file and reveals paths of
    this machine.
    """
    del model.metadata_props[:]
    model.doc_string = ""
    model.producer_name, model.producer_version = "kdtui", kdtui.__version__
    for function in model.functions:
        function.doc_string = ""
        del function.metadata_props[:]
        _strip_nodes(function.node)
        _strip_values(function.value_info)
    used = {""} | {node.domain for function in model.functions for node in function.node}
    for graph in _graphs(model.graph):
        graph.doc_string = ""
        del graph.metadata_props[:]
        _strip_nodes(graph.node)
        used |= {node.domain for node in graph.node}
        for report_file in (graph.value_info, graph.input, graph.output, graph.initializer):
            _strip_values(report_file)
    # onnxruntime's optimizer lists all operator sets that it supports, and other runtimes reject unknown ones.
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    # Exporters write their newest format version, which older runtimes reject: use the oldest one with these operators.
    model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and the subgraphs of its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)


def _strip_nodes(nodes: Any) -> None:
    for node in nodes:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            attribute.doc_string = ""


def _strip_values(values: Any) -> None:
    for value in values:
        value.doc_string = ""
        del value.metadata_props[:]


def write_facts(model: onnx.ModelProto, facts: Mapping[str, Any]) -> None:
    """Write ``facts`` to ``metadata_props``: strings as they are, other values as JSON; None is left out."""
    for key, value in facts.items():
        if value is not None:
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value)


def read_facts(path: Path) -> dict[str, str]:
    """The ``metadata_props`` of a file."""
    return {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}


OnProgress = Callable[[str, int, int], None]
"""``(current step, finished units, total units)``; the total is 0 if unknown."""


@dataclass
class Shared:
    """Intermediate results that exports of one source share, by the key of the graph.

    Attributes:
        folder: Temporary folder for graphs.
        answers: Outputs of torch.
    """

    folder: Path
    answers: dict[str, TorchAnswers] = field(default_factory=dict)


def export(
    source: ExportNetwork,
    target: Path,
    options: ExportOptions,
    *,
    progress: OnProgress = lambda words, done, all: None,
    shared: Shared | None = None,
) -> dict[str, Any]:
    """Write ``target`` and its report; on failure existing files are unchanged.

    Args:
        source: The network and its data.
        target: The ONNX file.
        options: Options of the export.
        progress: Called with each step; may raise an exception to cancel.
        shared: Intermediate results of exports of the same source in other precisions.

    Returns:
        The report, as written next to the file.

    Raises:
        ExportError: The network cannot be exported, or the outputs of the file differ from the network's.
    """
    begun = time.monotonic()
    size = InputSize(options.height, options.width) if options.height else source.size
    _check_size(size, source)
    if options.dynamic_size:
        _check_any_size(size, source)
    _check_batch(source, options)
    note = source.note()
    deployed = source.deployed(options)
    with _as_export_error(target), work_folder(target) as work:
        progress("exporting", 0, 0)
        plain = work / "fp32.onnx"
        key = _graph_key(source, options, size)
        exporter = _traced(deployed, plain, options, size, None if shared is None else shared.folder / key)
        made = _converted(source, plain, options, size, progress)
        _finish(made, source, options, size, slim=options.slim)
        progress("verifying", 0, 0)
        answers = None if shared is None else shared.answers.setdefault(key, TorchAnswers())
        verdict = _verified(deployed, made, source, options, size, progress, answers)
        # The file contains its own score, which is known only now.
        _add(made, {"miou": verdict.miou})
        report = _report(made, target, source, options, size, exporter, verdict)
        report["note"] = note
        report["score"] = "miou" if source.kind is None else source.kind.score
        report["seconds"] = round(time.monotonic() - begun, 1)
        report_file = work / "report.json"
        report_file.write_bytes(json.dumps(report, indent=2).encode() + b"\n")
        _keep({made: target, report_file: report_of(target)})
    return report


def _graph_key(source: ExportNetwork, options: ExportOptions, size: InputSize) -> str:
    """Hash of everything that the fp32 graph depends on: weights, size, and precision-independent options."""
    own = {"precision": None, "calibration": None, "keep_float": None, "limit": None, "slim": None}
    facts = [source.facts["checkpoint_sha256"], source.task, str(size), options.to_json() | own]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def _traced(deployed: Deployed, plain: Path, options: ExportOptions, size: InputSize, shared: Path | None) -> Exporter:
    """Write the fp32 graph to ``plain``, or copy the one that an export in another precision wrote to ``shared``."""
    if shared is None:
        return write_onnx(deployed, examples(deployed.inputs, options, size, deployed.pixels), plain, options)
    graph, note = shared.with_suffix(".onnx"), shared.with_suffix(".json")
    if note.is_file():
        shutil.copyfile(graph, plain)
        return Exporter(**json.loads(note.read_bytes()))
    exporter = write_onnx(deployed, examples(deployed.inputs, options, size, deployed.pixels), plain, options)
    shutil.copyfile(plain, graph)
    note.write_text(json.dumps(dataclasses.asdict(exporter)))
    return exporter


def _keep(names: Mapping[Path, Path]) -> None:
    """Rename files to their targets: after syncing all of them to disk, and with signals blocked."""
    for made in names:
        with made.open("rb") as file:
            os.fsync(file.fileno())
    asks = {signal.SIGTERM, signal.SIGINT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, asks)
    try:
        for made, name in names.items():
            made.replace(name)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _check_size(size: InputSize, source: ExportNetwork) -> None:
    if size.height % source.stride or size.width % source.stride:
        raise ExportError(
            "the network does not accept a static input of this size",
            where="--height, --width",
            found=str(size),
            allowed=f"multiples of {source.stride}",
            hint="for any size, with padding and cropping: `kdtui export RUN --dynamic all`",
        )


def _check_batch(source: ExportNetwork, options: ExportOptions) -> None:
    """Reject a static batch for networks with inputs whose entries cannot be assigned to images."""
    own = [entry.name for entry in source.inputs if entry.axes.get(0) != "batch"]
    if own and not options.dynamic_batch:
        raise ExportError(
            "this network can only be exported for any batch size",
            where="--dynamic",
            found=f"{options.dynamic}; the length of {own[0]} is not that of images",
            allowed="all, batch",
            hint="`kdtui export RUN --dynamic batch`",
        )


def _check_any_size(size: InputSize, source: ExportNetwork) -> None:
    """Reject networks whose export would be wrong or fail for sizes other than that of the example."""
    pools = [module.output_size for module in source.network.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    cells = {size if isinstance(size, tuple) else (size, size) for size in pools}
    fixed = [f"{height}x{width}" for height, width in sorted(cells - {(1, 1)}, key=str)]
    other = InputSize(size.height + source.stride, size.width + source.stride)
    found = f"adaptive pooling to {', '.join(fixed)}, which ONNX does not support for any size" if fixed else None
    if found is None and not takes(source.network, other.height, other.width):
        found = f"a network for {size} that does not accept {other}"
    if found is not None:
        raise ExportError(
            "this network can only be exported for a fixed size",
            where="--dynamic",
            found=found,
            allowed="batch, none",
            hint="`kdtui export RUN --dynamic batch`; for another size `kdtui export RUN --height H --width W`",
        )


@contextlib.contextmanager
def _as_export_error(target: Path) -> Iterator[None]:
    """Convert any exception to an error of the export."""
    try:
        yield
    except KdtuiError:
        raise
    except OSError as error:
        raise _unwritten(target, error) from error
    except Exception as error:
        # Exporters, converters and quantizers raise any exception. The message has its text, and the traceback goes to
        # stderr.
        traceback.print_exc()
        raise ExportError(
            "the export failed; an existing file is unchanged",
            where=target.name,
            found=f"{type(error).__name__}: {' '.join(str(error).split())[:400]}",
            hint="try another precision or opset, without slim: `kdtui export RUN --precision fp32 --opset N`",
        ) from error


def _unwritten(target: Path, error: OSError) -> ExportError:
    free = shutil.disk_usage(target.parent).free if target.parent.exists() else 0
    return ExportError(
        "the export could not be written; an existing file is unchanged",
        where=target,
        found=f"{error.strerror or error}; {free / 2**20:,.0f} MiB free",
        hint="free some space, or `kdtui export RUN --to FOLDER`",
    )


def _converted(
    source: ExportNetwork, plain: Path, options: ExportOptions, size: InputSize, progress: OnProgress
) -> Path:
    if options.precision == "fp32":
        return plain
    target = plain.with_name(f"{options.precision}.onnx")
    if options.precision == "fp16":
        progress("converting to fp16", 0, 0)
        to_fp16(plain, target)
        return target
    progress("calibrating", 0, options.calibration)
    to_int8(
        plain,
        target,
        _fed_for_calibration(source, options, size),
        options,
        progress=lambda seen: progress("calibrating", seen, options.calibration),
    )
    return target


def _fed_for_calibration(source: ExportNetwork, options: ExportOptions, size: InputSize) -> Iterator[Feed]:
    for batch in source.calibration(options.calibration, batch=1 if options.dynamic_batch else options.batch):
        images = resized(batch.images, size)
        yield {
            INPUT: fed(images, options, source.pixels).numpy(),
            **{entry.name: batch.extras[entry.name].numpy() for entry in source.inputs},
        }


def _finish(path: Path, source: ExportNetwork, options: ExportOptions, size: InputSize, *, slim: bool) -> None:
    """Simplify the graph if requested, remove the exporter's metadata, and write kdtui's."""
    model = onnx.load(path)
    if slim:
        import onnxslim  # here: importing it takes a second

        slimmed = onnxslim.slim(model)
        assert isinstance(slimmed, onnx.ModelProto)
        model = slimmed
    strip_trace(model)
    inside = options.input != "normalised"
    facts = source.facts | {
        "kdtui": kdtui.__version__,
        "task": source.task,
        "classes": list(source.classes),
        "input": options.input,
        "input_layout": "NHWC" if options.input == "uint8" else "NCHW",
        "input_size": [size.height, size.width],
        "dynamic": options.dynamic,
        "stride": source.stride,
        "normalisation": {"mean": list(source.pixels.mean), "std": list(source.pixels.std), "inside": inside},
        "channels": source.pixels.channels,
        "bgr": source.pixels.bgr,
        "value_range": source.value_range,
        "evaluation": source.evaluation_keys,
        "output": options.output,
        "precision": options.precision,
    }
    write_facts(model, facts)
    onnx.save(model, path)


def _verified(
    deployed: Deployed,
    path: Path,
    source: ExportNetwork,
    options: ExportOptions,
    size: InputSize,
    progress: OnProgress,
    answers: TorchAnswers | None,
) -> Verification:
    batches = source.validation()
    total = batches.images if batches is not None else 0
    samples = source.samples()

    def resized_samples(count: int) -> Batch:
        batch = samples(count)
        return batch._replace(images=resized(batch.images, size))

    return verify(
        deployed,
        path,
        options,
        classes=source.classes,
        batches=batches,
        evaluation=None if batches is None else batches.evaluation,
        samples=resized_samples,
        metrics=lambda: () if source.kind is None else source.kind.metrics(source.classes),
        seen=lambda images: progress("verifying", images, total),
        answers=answers,
    )


def _add(path: Path, facts: dict[str, Any]) -> None:
    model = onnx.load(path)
    write_facts(model, facts)
    onnx.save(model, path)


def _report(
    path: Path,
    target: Path,
    source: ExportNetwork,
    options: ExportOptions,
    size: InputSize,
    exporter: Exporter,
    verdict: Verification,
) -> dict[str, Any]:
    asked = session(path)
    return {
        "version": 1,
        "file": target.name,
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "precision": options.precision,
        "opset": options.opset,
        "exporter": exporter.name,
        "exporter_note": exporter.instead,
        "inputs": {entry.name: {"type": entry.type, "shape": list(entry.shape)} for entry in asked.get_inputs()},
        "outputs": {entry.name: {"type": entry.type, "shape": list(entry.shape)} for entry in asked.get_outputs()},
        "size": [size.height, size.width],
        "nodes": len(onnx.load(path, load_external_data=False).graph.node),
        "options": options.to_json(),
        "metadata": read_facts(path),
        "verified": verdict.to_json(),
        "versions": {
            "kdtui": kdtui.__version__,
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "numpy": np.__version__,
        },
        "made": time.time(),
    }
