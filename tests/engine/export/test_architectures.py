"""Architectures and encoder families through the dynamo exporter, and what int8 costs a network that was trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from kdtui.engine.export import export
from kdtui.engine.export.source import of_run
from kdtui.errors import ExportError
from kdtui.export_options import ExportOptions
from tests.engine.export.asking import ask, floats, logits, pictures
from tests.engine.runs import fit, make_run

FAMILIES = ("resnet18", "timm-efficientnet-b0", "mobilenet_v2")
CASES = [
    *(
        (architecture, encoder)
        for architecture in ("Unet", "UnetPlusPlus", "FPN", "DeepLabV3Plus")
        for encoder in FAMILIES
    ),
    *(("Segformer", encoder) for encoder in ("mit_b0", "resnet18", "timm-efficientnet-b0")),
    ("Unet", "tu-mobilenetv3_small_100"),
    ("MAnet", "resnet18"),
    ("Linknet", "resnet18"),
]


def made(root: Path, architecture: str, encoder: str, **changes: Any) -> Any:
    """A run of one step: its weights are no longer those that it was born with, nor its running statistics."""
    settings: dict[str, Any] = {
        "student__architecture": architecture,
        "student__encoder": encoder,
        "student__encoder_depth": 5,
        "student__decoder_channels": None,
        "data__height": 64,
        "data__width": 64,
        "data__val_samples": 4,
        "training__epochs": 1,
    }
    run = make_run(root, **(settings | changes))
    fit(run)
    return of_run(run, run.best)


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "encoder"), CASES)
def test_every_size_is_answered_as_torch_does(architecture: str, encoder: str, tmp_path: Path) -> None:
    source = made(tmp_path / "runs", architecture, encoder)
    report = export(source, tmp_path / "a.onnx", ExportOptions())
    assert report["exporter"] == "dynamo", report["exporter_note"]
    for images in (pictures(1, 64, 64), pictures(3, 96, 160)):
        wanted = logits(source, images).numpy()
        (answer,) = ask(tmp_path / "a.onnx", floats(images))
        assert np.abs(answer - wanted).max() <= 1e-3 * np.abs(wanted).max()


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "depth"), [("PSPNet", 3), ("PAN", 5), ("UPerNet", 5)])
def test_pools_of_a_fixed_number_want_a_fixed_size(architecture: str, depth: int, tmp_path: Path) -> None:
    size = {"data__height": 128, "data__width": 128}
    source = made(tmp_path / "runs", architecture, "resnet18", student__encoder_depth=depth, **size)
    report = export(source, tmp_path / "a.onnx", ExportOptions(dynamic="batch"))
    assert report["verified"]["outputs"]["logits"]["agreement"] >= 0.999


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["resnet18", "timm-efficientnet-b0"])
def test_int8_keeps_the_miou_of_a_network_trained_for_a_minute(encoder: str, tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "runs",
        student={"encoder": encoder, "decoder_channels": [64, 32, 32, 16, 16]},
        data__height=64,
        data__width=64,
        data__train_samples=600,
        data__val_samples=100,
        training={"epochs": 3, "batch_size": 16, "learning_rate": 2e-3, "threads": 1, "precision": "fp32"},
    )
    fit(run)
    source = of_run(run, run.best)
    report = export(source, tmp_path / "a.onnx", replace(ExportOptions(), precision="int8"))
    verified = report["verified"]["validation"]
    assert verified["torch_miou"] > 0.4
    assert verified["drop_points"] <= 1.0


@pytest.mark.slow
def test_an_operator_that_neither_exporter_knows_names_both(tmp_path: Path) -> None:
    class Bessel(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.Tensor(torch.special.bessel_j0(images[:, [0, 1, 2, 0]]))

    source = replace(made(tmp_path / "runs", "Unet", "resnet18"), network=Bessel())
    with pytest.raises(ExportError, match="cannot be written as ONNX") as caught:
        export(source, tmp_path / "a.onnx", ExportOptions())
    found = caught.value.found or ""
    assert "dynamo exporter" in found
    assert "TorchScript exporter" in found
