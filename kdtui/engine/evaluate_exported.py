"""Evaluation of ONNX files of ``kdtui export`` with onnxruntime, on the data of a profile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from torch import Tensor

from kdtui.engine.class_names import class_order, listed
from kdtui.engine.data import SegmentationDataset
from kdtui.engine.evaluate import Evaluation, Predict
from kdtui.engine.export.make import read_facts
from kdtui.engine.models import Outputs
from kdtui.engine.predict import BOXES, Segmenter, of_onnx
from kdtui.engine.teacher_input import Conversion, convertible
from kdtui.errors import CheckpointError, UsageError
from kdtui.store.files import sha256_of

_OTHER_DATA = "evaluate it on the data of its run, or on others like them: `kdtui evaluate FILE --profile NAME`"


def is_export(path: Path) -> bool:
    """Whether a file is an ONNX file that kdtui wrote; other ONNX files are read as teachers are."""
    if path.suffix.lower() != ".onnx" or not path.is_file():
        return False
    try:
        return "input_size" in read_facts(path)
    except (DecodeError, OSError, ValueError):  # reported where the file is read
        return False


def exported(path: Path, dataset: SegmentationDataset) -> tuple[Predict, dict[str, Any], list[str]]:
    """The network of an export for the images of a split, its facts for the report, and notes.

    Args:
        path: The file.
        dataset: The split.

    Raises:
        CheckpointError: It has other classes, or takes other images than the data have.
        UsageError: It has a fixed size that is not that of the evaluation.
    """
    segmenter = of_onnx(path)
    order = class_order(segmenter.classes, dataset.classes)
    if order is None:
        raise CheckpointError(
            "the classes of this file differ from those of the data",
            where=path,
            found=listed(segmenter.classes),
            allowed=listed(dataset.classes),
            hint=_OTHER_DATA,
        )
    if segmenter.instances is not None and BOXES not in dataset.evaluation_batch(0).extras:
        raise CheckpointError(
            "this file segments the instances in boxes, which these data do not have", where=path, hint=_OTHER_DATA
        )
    _check_size(path, segmenter, Evaluation(dataset))
    if not convertible(dataset.pixels.channels, segmenter.pixels.channels):
        raise CheckpointError(
            "this file takes images with another number of channels than the data have",
            where=path,
            found=f"{segmenter.pixels.channels} input channels",
            allowed=f"{dataset.pixels.channels} input channels",
            hint=_OTHER_DATA,
        )
    conversion = Conversion(dataset.pixels, segmenter.pixels)

    def predict(images: Tensor, extras: Mapping[str, Tensor]) -> Outputs:
        with torch.inference_mode():
            converted = images if conversion.is_identity else conversion(images)
            if segmenter.instances is None:
                return Outputs(segmenter.logits(converted).float()[:, order])
            return Outputs(segmenter.instances(converted, extras[BOXES].float()).float()[:, order])

    notes = []
    if order != list(range(len(order))):
        notes.append(
            "the file has the same classes in another order; its output channels were reordered by name: "
            f"{listed(segmenter.classes)} -> {listed(dataset.classes)}"
        )
    return predict, _facts(path), notes


def _check_size(path: Path, segmenter: Segmenter, evaluation: Evaluation) -> None:
    if segmenter.any_size:
        return
    size = evaluation.window if evaluation.mode == "slide" else evaluation.grid
    if evaluation.mode == "whole" or size != segmenter.size:
        raise UsageError(
            "this file has a fixed input size, which is not that of the evaluation",
            where=path,
            found=f"{segmenter.size.width}x{segmenter.size.height}",
            allowed="images of their own size" if evaluation.mode == "whole" else f"{size.width}x{size.height}",
            hint="`kdtui export RUN --dynamic all` writes a file for any size",
        )


def _facts(path: Path) -> dict[str, Any]:
    facts = read_facts(path)
    parameters = facts.get("parameters", "")
    return {
        "sha256": sha256_of(path),
        "encoder": facts.get("encoder"),
        "architecture": facts.get("architecture"),
        "parameters": int(parameters) if parameters.isdecimal() else None,
        "precision": facts.get("precision"),
    }
