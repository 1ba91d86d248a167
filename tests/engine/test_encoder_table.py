from __future__ import annotations

import warnings

import pytest
import segmentation_models_pytorch as smp

from kdtui.engine.build_encoder_table import TIMM, encoder, rows_of
from kdtui.engine.identify import Match, find_encoders, shape_hash

NATIVE = [name for name in smp.encoders.get_encoder_names() if not name.startswith("mit_")]
ON_CPU = [name for name in smp.encoders.get_encoder_names() if name.startswith("mit_")]


def found(name: str, *, depth: int = 5, in_channels: int = 3) -> list[Match]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # smp and timm warn of deprecated names
        state = encoder(name, depth=depth, in_channels=in_channels).state_dict()
    return find_encoders({key: tuple(value.shape) for key, value in state.items()})


@pytest.mark.slow
def test_every_native_encoder_is_recognised_without_a_mistake() -> None:
    assert len(NATIVE) >= 69
    taken_for = {name: [match.name for match in found(name)] for name in NATIVE}
    assert taken_for == {name: [name] for name in NATIVE}


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_CPU)
def test_encoders_that_need_storage_are_recognised(name: str) -> None:
    assert [match.name for match in found(name)] == [name]


@pytest.mark.parametrize(
    "name", ["resnet18", "mobileone_s0", "vgg11", "timm-efficientnet-b0", "tu-mobilenetv3_small_100"]
)
def test_the_number_of_input_channels_is_read_beside_the_encoder(name: str) -> None:
    for in_channels in (1, 4):
        matches = found(name, in_channels=in_channels)
        assert name in {match.name for match in matches}
        assert {match.in_channels for match in matches} == {in_channels}


def test_shallow_encoders_are_recognised_whether_smp_keeps_or_drops_the_deeper_stages() -> None:
    (kept,) = found("resnet18", depth=3)
    assert (kept.name, kept.depth, len(kept.channels)) == ("resnet18", None, 6)
    (dropped,) = found("tu-resnet18", depth=3)
    assert (dropped.name, dropped.depth, len(dropped.channels)) == ("tu-resnet18", 3, 4)


def test_twins_come_back_together() -> None:
    names = {match.name for match in found("tu-tf_mobilenetv3_small_100")}
    assert names == {"tu-mobilenetv3_small_100", "tu-tf_mobilenetv3_small_100"}


def test_namesakes_are_not_taken_for_each_other() -> None:
    assert {match.name for match in found("timm-efficientnet-b0")} == {"timm-efficientnet-b0"}
    assert "timm-efficientnet-b0" not in {match.name for match in found("tu-efficientnet_b0")}


def test_one_other_shape_or_key_is_another_encoder() -> None:
    state = {key: tuple(value.shape) for key, value in encoder("resnet18").state_dict().items()}
    assert find_encoders(state)
    assert not find_encoders({**state, "layer1.0.bn1.weight": (65,)})
    assert not find_encoders({**state, "further.weight": (1,)})
    assert not find_encoders({key: shape for key, shape in state.items() if key != "layer1.0.bn1.weight"})
    assert not find_encoders({})


def test_the_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert shape_hash({"a": (1, 2), "b": (3,)}) == shape_hash({"b": [3], "a": [1, 2]})


def test_the_shipped_table_is_what_the_generator_writes() -> None:
    for name in ("resnet18", "tu-resnet18", "tu-mobilenetv4_conv_small"):
        for row in rows_of(name):
            match = next(match for match in found(name, depth=row["depth"] or 5) if match.name == name)
            assert match == Match(name, row["depth"], tuple(row["channels"]), 3)
    assert len(TIMM) >= 20
