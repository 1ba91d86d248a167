"""Nodes around the network in an exported graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdtui.engine.export.deployed import fed
from kdtui.engine.export.source import ExportNetwork
from kdtui.export_options import ExportOptions
from tests.engine.export.asking import deployed, floats, logits, normalised, pictures


def answer(source: ExportNetwork, options: ExportOptions, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return torch.Tensor(deployed(source, options)(images)[0])


def test_normalisation_inside_is_normalisation_outside(source: ExportNetwork) -> None:
    images = pictures(2, 40, 36)
    outside = answer(source, ExportOptions(input="normalised"), normalised(images))
    inside = answer(source, ExportOptions(input="float"), torch.from_numpy(floats(images)))
    bytes_in = answer(source, ExportOptions(input="uint8"), torch.from_numpy(images))
    torch.testing.assert_close(inside, outside, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(bytes_in, outside, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["normalised", "float", "uint8"])
def test_samples_of_a_data_set_are_fed_as_the_pixels_they_were(kind: str) -> None:
    images = pictures()
    wanted = {"normalised": normalised(images), "float": torch.from_numpy(floats(images))}
    found = fed(normalised(images), ExportOptions(input=kind))
    torch.testing.assert_close(found, wanted.get(kind, torch.from_numpy(images)))


def test_padding_is_what_training_pads(source: ExportNetwork) -> None:
    images = pictures(1, 24, 16)
    smaller = images[:, :21, :13]
    by_hand = torch.nn.functional.pad(normalised(smaller), (0, 3, 0, 3))
    with torch.inference_mode():
        network = deployed(source, ExportOptions(dynamic="none", input="normalised"))(by_hand)[0][..., :21, :13]
    padded = answer(source, ExportOptions(input="normalised"), normalised(smaller))
    torch.testing.assert_close(padded, network)


def test_contents(source: ExportNetwork) -> None:
    images = pictures()
    given = torch.from_numpy(floats(images))
    raw = logits(source, images)
    torch.testing.assert_close(answer(source, ExportOptions(), given), raw, rtol=1e-4, atol=1e-5)
    probabilities = answer(source, ExportOptions(output="softmax"), given)
    torch.testing.assert_close(probabilities, raw.softmax(dim=1), rtol=1e-4, atol=1e-5)
    classes = deployed(source, ExportOptions(output="argmax"))(given)[0]
    assert classes.dtype == torch.uint8
    assert np.mean((classes == raw.argmax(dim=1)).numpy()) > 0.999
