"""A file that answers otherwise than the network is refused, with the numbers."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper

from kdtui.engine.data import IGNORE_INDEX, Batch
from kdtui.engine.export.source import ExportNetwork
from kdtui.engine.export.verify import Verification, verify
from kdtui.errors import ExportError
from kdtui.export_options import ExportOptions
from tests.engine.export.asking import deployed
from tests.engine.export.conftest import Made


def verdict_of(made: Path, source: ExportNetwork, options: ExportOptions, *, data: bool = True) -> Verification:
    return verify(
        deployed(source, options),
        made,
        options,
        classes=source.classes,
        batches=source.validation() if data else None,
        samples=source.samples(),
    )


def perturbed(path: Path, target: Path, by: float) -> Path:
    """The same file with one number of its last weights changed."""
    model = onnx.load(path)
    last = [node for node in model.graph.node if node.op_type == "Conv"][-1].input[1]
    weights = next(entry for entry in model.graph.initializer if entry.name == last)
    values = numpy_helper.to_array(weights).copy()
    values.flat[values.size // 2] += by
    weights.CopyFrom(numpy_helper.from_array(values, last))
    onnx.save(model, target)
    return target


def test_one_changed_weight_is_found(exported: Made, source: ExportNetwork, tmp_path: Path) -> None:
    wrong = perturbed(exported.path, tmp_path / "wrong.onnx", 0.5)
    with pytest.raises(ExportError, match="differ too much from the network's") as caught:
        verdict_of(wrong, source, exported.options)
    assert "of the maximum" in (caught.value.found or "")
    assert caught.value.allowed


def test_a_change_too_small_to_matter_is_none(exported: Made, source: ExportNetwork, tmp_path: Path) -> None:
    near = perturbed(exported.path, tmp_path / "near.onnx", 1e-6)
    assert verdict_of(near, source, exported.options).drop == pytest.approx(0, abs=0.1)


def test_without_data_the_numbers_decide(exported: Made, source: ExportNetwork, tmp_path: Path) -> None:
    verdict = verdict_of(exported.path, source, exported.options, data=False)
    assert (verdict.miou, verdict.drop, verdict.images) == (None, None, 0)
    wrong = perturbed(exported.path, tmp_path / "wrong.onnx", 0.5)
    with pytest.raises(ExportError, match="differ too much"):
        verdict_of(wrong, source, exported.options, data=False)


def test_a_file_that_answers_nonsense_is_refused(exported: Made, source: ExportNetwork, tmp_path: Path) -> None:
    broken = perturbed(exported.path, tmp_path / "nan.onnx", float("nan"))
    for precision in ("fp32", "int8"):
        with pytest.raises(ExportError, match="differ too much") as caught:
            verdict_of(broken, source, replace(exported.options, precision=precision, limit=100.0))
        assert "values that are not finite" in (caught.value.found or "")


def test_a_lower_miou_is_refused_at_the_limit(exported: Made, source: ExportNetwork, tmp_path: Path) -> None:
    worse = perturbed(exported.path, tmp_path / "worse.onnx", 12.0)

    def verdict(limit: float) -> Verification:
        options = replace(exported.options, precision="int8", limit=limit)
        images = source.samples()(4).images
        network = deployed(source, replace(options, input="normalised"))
        with torch.no_grad():
            # What the network itself says is the truth here, so that whatever differs from it loses.
            truth = network(images)[0].argmax(dim=1)
        return verify(
            deployed(source, options),
            worse,
            options,
            classes=source.classes,
            batches=[Batch(images, truth)],
            samples=source.samples(),
        )

    lost = verdict(100.0).drop
    assert lost is not None
    assert lost > 0.1
    with pytest.raises(ExportError, match="int8 file") as caught:
        verdict(lost / 2)
    assert "points lost" in (caught.value.found or "")
    assert caught.value.allowed == f"at most {lost / 2:g} points of mIoU lost"


def test_what_is_no_onnx_is_refused(source: ExportNetwork, tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("no graph")
    with pytest.raises(ExportError, match="not valid ONNX"):
        verdict_of(path, source, ExportOptions())


def test_a_static_batch_scores_every_image_once(exported: Made, source: ExportNetwork) -> None:
    # The dynamic file asked in groups of 4, of which the last of 10 images has two: the score must be the same.
    whole = verdict_of(exported.path, source, exported.options)
    grouped = verdict_of(exported.path, source, replace(exported.options, dynamic="size", batch=4))
    assert grouped.miou == whole.miou
    assert grouped.torch_miou == whole.torch_miou


def test_ignored_pixels_count_in_no_score(exported: Made, source: ExportNetwork) -> None:
    batches = source.validation()
    assert batches is not None
    ignored = [Batch(batch.images, torch.full_like(batch.masks, IGNORE_INDEX)) for batch in batches]
    verdict = verify(
        deployed(source, exported.options),
        exported.path,
        exported.options,
        classes=source.classes,
        batches=ignored,
        samples=source.samples(),
    )
    assert verdict.miou == verdict.torch_miou == 0.0


def test_the_network_is_left_as_it_was(exported: Made, source: ExportNetwork) -> None:
    before = copy.deepcopy(source.network.state_dict())
    verdict_of(exported.path, source, exported.options, data=False)
    after = source.network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
