from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from kdtui import catalog
from kdtui.engine.build_catalog import DATA, build, lines_of, names, normalisations, row_of
from kdtui.engine.models import count_parameters, create, freeze_unused
from kdtui.engine.profile_model import count_macs, stored_parameters
from kdtui.profile import Model

WIDE, NARROW = (256, 128, 64, 32, 16), (48, 40, 24, 16, 8)


def stored_lines() -> dict[str, str]:
    lines = DATA.read_text().splitlines()
    return {line.split('"')[3]: line.rstrip(",") for line in lines if line.startswith('{"name"')}


def test_macs_of_a_convolution_are_its_definition() -> None:
    convolution = nn.Conv2d(3, 8, kernel_size=3, padding=1)
    assert count_macs(convolution, height=16, width=8) == 3 * 8 * 9 * 16 * 8
    assert stored_parameters(convolution) == 3 * 8 * 9 + 8


class Recording(nn.Conv2d):
    """A convolution that refuses some devices."""

    def __init__(self, *refused: str) -> None:
        super().__init__(3, 8, kernel_size=3, padding=1)
        self.seen: list[str] = []
        self.refused = refused

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images.device.type)
        if images.device.type in self.refused:
            raise NotImplementedError
        return super().forward(images)


@pytest.mark.parametrize(("refused", "seen"), [((), ["meta"]), (("meta",), ["meta", "cpu"])])
def test_nothing_is_computed_where_the_meta_device_has_every_operator(
    refused: tuple[str, ...], seen: list[str]
) -> None:
    network = Recording(*refused)
    assert count_macs(network, height=16, width=8) == 3 * 8 * 9 * 16 * 8
    assert network.seen == seen
    assert network.weight.device.type == "cpu"


def test_counting_leaves_the_mode_alone() -> None:
    network = nn.Conv2d(3, 1, 1).train()
    count_macs(network, height=4, width=4)
    assert network.training


@pytest.mark.parametrize(
    ("encoder", "depth", "widths", "size"),
    [
        pytest.param("resnet18", 5, None, (64, 96), marks=pytest.mark.slow),
        ("resnet18", 3, None, (64, 64)),
        pytest.param("timm-efficientnet-b0", 5, NARROW, (96, 64), marks=pytest.mark.slow),
        ("timm-efficientnet-b0", 4, (64, 32, 16, 8), (80, 64)),
        pytest.param("mobilenet_v2", 5, WIDE, (256, 256), marks=pytest.mark.slow),
        pytest.param("vgg11", 5, None, (64, 64), marks=pytest.mark.slow),
        pytest.param("tu-mobilenetv3_small_100", 5, NARROW, (96, 64), marks=pytest.mark.slow),
        ("tu-mobilenetv3_small_050", 5, NARROW, (96, 64)),
        ("tu-mobilenetv3_small_050", 3, None, (64, 64)),
        ("mit_b0", 5, None, (96, 160)),
    ],
)
def test_the_catalog_is_a_real_unet(
    encoder: str, depth: int, widths: tuple[int, ...] | None, size: tuple[int, int]
) -> None:
    model = Model(encoder=encoder, encoder_depth=depth, decoder_channels=widths)
    network = create(model, channels=5)
    freeze_unused(network)
    parameters = count_parameters(network)
    told = catalog.cost(
        encoder, decoder_channels=widths, out_channels=5, encoder_depth=depth, height=size[0], width=size[1]
    )
    macs = count_macs(network.to("meta"), height=size[0], width=size[1])
    assert told == catalog.NetworkCost(parameters.stored, parameters.used, macs)


def test_every_encoder_is_in_the_file() -> None:
    assert list(stored_lines()) == list(names())
    assert json.loads(DATA.read_bytes())["normalisations"] == json.loads(json.dumps(normalisations()))


@pytest.mark.parametrize("encoder", ["resnet18", pytest.param("tu-mobilenetv4_conv_small", marks=pytest.mark.slow)])
def test_the_file_is_what_the_generator_writes(encoder: str) -> None:
    threads = torch.get_num_threads()
    line = lines_of([row_of(encoder)]).decode().splitlines()[-2]
    torch.set_num_threads(threads)
    assert line == stored_lines()[encoder]


def test_the_generator_writes_the_depths_of_timms_encoders_too() -> None:
    threads = torch.get_num_threads()
    row = row_of("tu-lcnet_050", depths=[3])
    torch.set_num_threads(threads)
    stored = json.loads(stored_lines()["tu-lcnet_050"])
    assert row == stored | {"depths": {"3": stored["depths"]["3"]}}


@pytest.mark.slow
def test_the_whole_file_is_what_the_generator_writes() -> None:
    assert build() == DATA.read_bytes()
