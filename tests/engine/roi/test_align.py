"""RoIAlign: equal to torchvision, to onnxruntime and to its definition, in both exporters."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdtui.engine.export.deployed import Deployed, InputSize, examples
from kdtui.engine.export.onnx import write_onnx
from kdtui.engine.export.verify import session
from kdtui.engine.models import Outputs
from kdtui.engine.network import GraphInput, GraphOutput
from kdtui.engine.roi.align import TRANSLATION, roi_align
from kdtui.errors import ExportError
from kdtui.export_options import ExportOptions

SIZE = (5, 4)
HEIGHT, WIDTH = 14, 18


def boxes(count: int = 24) -> Tensor:
    """Boxes inside, across and outside an image of HEIGHT x WIDTH, some of one point."""
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(count, 2, 2, generator=generator) * torch.tensor([2.0 * WIDTH, 2.0 * HEIGHT])
    first, last = (corners - torch.tensor([WIDTH / 2, HEIGHT / 2])).sort(dim=1).values.unbind(dim=1)
    fixed = torch.tensor([[0, 0, WIDTH, HEIGHT], [3, 3, 3, 3], [-9, -9, -5, -5], [WIDTH + 2, 1, WIDTH + 9, 5.0]])
    rows = torch.cat([torch.cat([first, last], dim=1), fixed])
    images = torch.arange(len(rows)) % 2
    return torch.cat([images[:, None].float(), rows], dim=1)


def features(scale: float, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, channels, round(HEIGHT * scale), round(WIDTH * scale), generator=generator)


def sample(channel: Tensor, y: float, x: float) -> float:
    """A bilinear sample; zero more than one pixel outside the map, as defined by Detectron2 and ONNX."""
    height, width = channel.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = min(int(y), max(height - 2, 0)), min(int(x), max(width - 2, 0))
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, along = y - top, x - left
    upper = (1 - along) * channel[top, left] + along * channel[top, right]
    lower = (1 - along) * channel[bottom, left] + along * channel[bottom, right]
    return float((1 - down) * upper + down * lower)


def defined(maps: Tensor, rois: Tensor, scale: float) -> Tensor:
    """The definition, one sample at a time."""
    result = torch.zeros(len(rois), maps.shape[1], *SIZE, dtype=maps.dtype)
    for number, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (corner * scale - 0.5 for corner in corners)
        high, wide = (y2 - y1) / SIZE[0], (x2 - x1) / SIZE[1]
        for channel, row, column in np.ndindex(result.shape[1:]):
            samples = [
                sample(maps[int(image), channel], y1 + (row + dy) * high, x1 + (column + dx) * wide)
                for dy in (0.25, 0.75)
                for dx in (0.25, 0.75)
            ]
            result[number, channel, row, column] = math.fsum(samples) / len(samples)
    return result


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_it_equals_the_definition(scale: float) -> None:
    maps, rois = features(scale, channels=1).double(), boxes(8).double()
    torch.testing.assert_close(roi_align(maps, rois, SIZE, scale), defined(maps, rois, scale))


def test_it_equals_torchvision() -> None:
    """For samples that are at most one pixel outside the map; torchvision's code in Python clamps the others too."""
    maps, rois = features(1.0), boxes(200)
    rois = rois[((rois[:, 1:3] >= 0).all(dim=1)) & (rois[:, 3] <= WIDTH) & (rois[:, 4] <= HEIGHT)]
    assert len(rois) > 8
    code = importlib.import_module("torchvision.ops.roi_align")._roi_align.__wrapped__  # not compiled
    theirs = code(maps, rois, 1.0, *SIZE, 2, True)
    torch.testing.assert_close(roi_align(maps, rois, SIZE), theirs)


def test_gradients_are_those_of_the_definition() -> None:
    maps = features(1.0, channels=1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda values: roi_align(values, boxes(3).double(), (2, 3)), maps, fast_mode=True)


def test_no_boxes_and_a_map_of_one_pixel() -> None:
    maps = features(1.0).requires_grad_()
    empty = roi_align(maps, torch.zeros(0, 5), SIZE)
    assert empty.shape == (0, 3, *SIZE)
    empty.sum().backward()
    assert maps.grad is not None
    assert not maps.grad.any()
    one = roi_align(torch.ones(1, 1, 1, 1), torch.tensor([[0.0, 0, 0, 1, 1]]), SIZE)
    assert bool((one == 1).all())


def test_half_precision_and_autocast_do_not_change_coordinates() -> None:
    maps, rois = features(1.0), boxes()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(roi_align(maps, rois, SIZE), roi_align(maps, rois, SIZE), rtol=0, atol=0)
        inside = roi_align(maps, rois, SIZE)
    torch.testing.assert_close(inside, roi_align(maps, rois, SIZE))
    coarse = roi_align(maps.bfloat16(), rois.bfloat16().float(), SIZE)
    assert coarse.dtype == torch.float32


def test_a_compiled_operator_is_used_where_it_exists_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    class Compiled:
        @staticmethod
        def roi_align(maps: Tensor, rois: Tensor, scale: float, height: int, *_: object) -> Tensor:
            return maps.new_full((len(rois), maps.shape[1], height, 4), scale)

    maps, rois = features(1.0), boxes()
    kernels = {"torchvision::roi_align CUDA"}
    monkeypatch.setattr(torch.ops, "torchvision", Compiled)
    monkeypatch.setattr(torch._C, "_dispatch_has_kernel_for_dispatch_key", lambda name, key: f"{name} {key}" in kernels)
    assert not bool((roi_align(maps, rois, SIZE, 0.5) == 0.5).all())
    kernels.add("torchvision::roi_align CPU")
    assert bool((roi_align(maps, rois, SIZE, 0.5) == 0.5).all())
    assert roi_align(maps.to("meta"), rois.to("meta"), SIZE).shape == (len(rois), 3, *SIZE)


class Cells(nn.Module):
    extra_inputs = ("rois",)

    def forward(self, images: Tensor, rois: Tensor) -> dict[str, Tensor]:
        return {"cells": roi_align(images, rois, SIZE, 0.5)}

    def compose(self, raw: dict[str, Tensor], task: str, features: object = None) -> Outputs:
        return Outputs(raw["cells"])


def deployed(options: ExportOptions) -> Deployed:
    return Deployed(
        Cells(),
        task="semantic",
        stride=1,
        options=options,
        inputs=(GraphInput("rois", lambda images: boxes(4)[:4], {0: "rois"}),),
        outputs=(GraphOutput("cells", "logits", {0: "rois"}, logits=False),),
        translations=(TRANSLATION,),
    )


@pytest.fixture(params=[17, 18], ids=["torchscript", "dynamo"])
def graph(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    options = ExportOptions(opset=request.param, dynamic="batch", input="normalised")
    module, path = deployed(options), tmp_path / "cells.onnx"
    exporter = write_onnx(module, examples(module.inputs, options, InputSize(HEIGHT, WIDTH)), path, options)
    assert exporter.name == request.node.callspec.id
    return path


def test_the_operator_of_onnx_has_the_same_numbers(graph: Path) -> None:
    maps, run = features(1.0), session(graph)
    for rois in (boxes(), boxes()[:1], boxes()[:0]):
        (theirs,) = run.run(None, {"images": maps.numpy(), "rois": rois.numpy()})
        np.testing.assert_allclose(theirs, roi_align(maps, rois, SIZE, 0.5), atol=1e-5)


def test_an_operator_set_without_it_is_refused(tmp_path: Path) -> None:
    options = ExportOptions(opset=15, dynamic="batch", input="normalised")
    module = deployed(options)
    with pytest.raises(ExportError, match="needs a newer operator set") as refused:
        write_onnx(module, examples(module.inputs, options, InputSize(HEIGHT, WIDTH)), tmp_path / "a.onnx", options)
    assert refused.value.found == "15"
