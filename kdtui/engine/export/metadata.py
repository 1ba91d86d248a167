"""What a file tells of itself, and what it must not tell: paths of the machine that made it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx

import kdtui


def strip(model: onnx.ModelProto) -> None:
    """Take out what exporters and quantizers write beside the graph.

    The dynamo exporter gives every node the stack trace of the Python line it came from, which is of no use to anybody
    who has the file and shows where its maker keeps things.
    """
    del model.metadata_props[:]
    model.doc_string = ""
    model.producer_name, model.producer_version = "kdtui", kdtui.__version__
    for function in model.functions:
        function.doc_string = ""
        del function.metadata_props[:]
        _strip_nodes(function.node)
        _strip_told(function.value_info)
    used = {""} | {node.domain for function in model.functions for node in function.node}
    for graph in _graphs(model.graph):
        graph.doc_string = ""
        del graph.metadata_props[:]
        _strip_nodes(graph.node)
        used |= {node.domain for node in graph.node}
        for told in (graph.value_info, graph.input, graph.output, graph.initializer):
            _strip_told(told)
    # onnxruntime's optimizer announces every operator set it knows, and other runtimes refuse those that they don't.
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    # Runtimes refuse a format newer than themselves, and exporters write their newest: the oldest that has these
    # operators is enough.
    model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those inside its nodes."""
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


def _strip_told(values: Any) -> None:
    for value in values:
        value.doc_string = ""
        del value.metadata_props[:]


def tell(model: onnx.ModelProto, facts: Mapping[str, Any]) -> None:
    """Write ``facts`` into ``metadata_props``: texts as they are, everything else as JSON; None is left out."""
    for key, value in facts.items():
        if value is not None:
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value)


def told(path: Path) -> dict[str, str]:
    """The ``metadata_props`` of a file."""
    return {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
