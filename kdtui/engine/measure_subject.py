"""One network that is measured: what it holds, what it costs, and the exports that lie beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kdtui import catalog, export_options
from kdtui.engine.export.deployed import Size
from kdtui.engine.export.source import Source, of_checkpoint, of_run
from kdtui.engine.measure_memory import peak_memory
from kdtui.engine.models import count_parameters, freeze_unused, out_channels
from kdtui.engine.profile_model import count_macs
from kdtui.errors import KdtuiError
from kdtui.profile import Teacher
from kdtui.store.export_files import export_path, report_of
from kdtui.store.files import read_file
from kdtui.store.run import Run
from kdtui.store.values import MOST_BYTES, is_number, is_whole, parse_json


@dataclass(frozen=True)
class Subject:
    """One network with its files, ready to be asked.

    Attributes:
        exports: Precision to file and report of what lies beside the checkpoint.
    """

    checkpoint: Path
    source: Source
    size: Size
    facts: dict[str, Any]
    exports: Mapping[str, tuple[Path, Mapping[str, Any]]]


def student_of(run: Run, device: torch.device) -> Subject:
    """The student of a run, in its best checkpoint.

    Raises:
        CheckpointError: It cannot be read.
    """
    path = run.best
    source = of_run(run, path)
    return _subject(path.absolute(), source, source.size, device)


def teacher_of(run: Run, path: Path, size: Size, device: torch.device) -> Subject:
    """The teacher of a run, looking at images of the student's size.

    Raises:
        CheckpointError: It cannot be read.
    """
    told = run.profile().teacher
    overrides = Teacher(task=told.task, architecture=told.architecture, encoder=told.encoder)
    source = of_checkpoint(path, teacher=overrides)
    return _subject(path, source, _divisible(size, source.stride), device)


def _divisible(size: Size, stride: int) -> Size:
    """The student's size, padded for a deeper teacher as its training padded it."""
    return Size(-(-size.height // stride) * stride, -(-size.width // stride) * stride)


def _subject(path: Path, source: Source, size: Size, device: torch.device) -> Subject:
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
        # A checkpoint of a run holds its optimizer too; a foreign one may not: no ratio is made of these.
        "checkpoint_bytes": path.stat().st_size if path.is_file() else None,
        "macs": count_macs(network, height=size.height, width=size.width),
        "macs_catalog": _catalog_macs(source, size),
    }
    network.requires_grad_(False)
    network.to(device).eval()
    images = torch.zeros(1, 3, size.height, size.width, device=device)
    facts["peak_memory_bytes"] = peak_memory(network, images)
    found = _exports(path)
    facts["onnx"] = {
        precision: {
            "bytes": file.stat().st_size,
            "miou": report["verified"]["validation"]["miou"],
            "input": report["options"]["input"],
            "output": report["options"]["output"],
            "dynamic": report["options"]["dynamic"],
        }
        for precision, (file, report) in found.items()
    }
    return Subject(path, source, size, facts, found)


def _catalog_macs(source: Source, size: Size) -> int | None:
    """What the catalog says of the same network; None where it does not know it."""
    facts = source.facts
    width = facts["decoder_channels"]
    try:
        told = catalog.cost(
            facts["encoder"],
            architecture=facts["architecture"],
            decoder_channels=json.loads(width) if width else None,
            out_channels=out_channels(source.task, len(source.classes)),
            encoder_depth=facts["encoder_depth"],
            height=size.height,
            width=size.width,
        )
    except KdtuiError:  # an encoder that smp knows and the catalog does not
        return None
    return None if told is None else told.macs


def _exports(checkpoint: Path) -> dict[str, tuple[Path, Mapping[str, Any]]]:
    """The exports beside a checkpoint whose reports belong to these very files."""
    found: dict[str, tuple[Path, Mapping[str, Any]]] = {}
    for precision in export_options.PRECISIONS:
        path = export_path(checkpoint, precision)
        try:
            report = parse_json(read_file(report_of(path), most=MOST_BYTES))
            if report["bytes"] == path.stat().st_size and _usable(report):
                found[precision] = (path, report)
        except (OSError, ValueError, KeyError, TypeError, KdtuiError):
            continue  # none there, or of another version: it is not measured, and the table shows a dash
    return found


def _usable(report: Mapping[str, Any]) -> bool:
    """Whether what is read of a report is as :mod:`kdtui.engine.export` writes it.

    Raises:
        KeyError: Something is missing.
        TypeError: Something is of another type.
        KdtuiError: Its options are none.
    """
    options, miou = report["options"], report["verified"]["validation"]["miou"]
    if not isinstance(options, dict) or not {"input", "output", "dynamic"} <= options.keys():
        return False
    size = [1, 1] if export_options.from_json(options).dynamic_size else report["size"]
    two = isinstance(size, list) and len(size) == 2
    return two and all(is_whole(edge) and edge > 0 for edge in size) and (miou is None or is_number(miou))
