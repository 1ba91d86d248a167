from __future__ import annotations

import pytest

from kdtui import catalog
from kdtui.errors import UsageError


def cost(encoder: str, **changes: object) -> catalog.NetworkCost:
    found = catalog.cost(encoder, **({"height": 256, "width": 256} | changes))  # type: ignore[arg-type]
    assert found is not None
    return found


def test_the_reference_pair() -> None:
    student, teacher = cost("timm-efficientnet-b0"), cost("timm-efficientnet-b3")
    assert (student.parameters, student.parameters_used) == (6_251_904, 5_839_744)
    assert teacher.parameters == 13_159_468
    assert 2.0 < teacher.parameters / student.parameters < 2.2


def test_lists_native_and_mobile_encoders_smallest_first() -> None:
    every = catalog.encoders()
    assert [one.parameters for one in every] == sorted(one.parameters for one in every)
    mobile = [one for one in every if one.name.startswith("tu-")]
    assert len(mobile) >= 20
    assert len(every) - len(mobile) >= 70
    for one in every:
        assert 0 < one.parameters_used <= one.parameters
        assert one.macs > 0
        assert len(one.out_channels) == len(one.reductions) == 6
        assert one.family == catalog.family(one.name)


def test_a_family_joins_native_and_timm_spellings() -> None:
    assert {catalog.family(name) for name in ("mobilenet_v2", "tu-mobilenetv2_050")} == {"mobilenetv2"}
    assert {catalog.family(name) for name in ("timm-tf_efficientnet_lite0", "tu-efficientnet_lite0")} == {
        "efficientnet_lite"
    }
    assert catalog.family("tu-ghostnetv2_100") != catalog.family("tu-ghostnet_100")
    assert catalog.family("resnet18") == catalog.family("resnet152") == "resnet"


def test_a_pattern_is_a_part_or_a_glob() -> None:
    assert {one.name for one in catalog.encoders("efficientnet-b0")} >= {"efficientnet-b0", "timm-efficientnet-b0"}
    assert {one.name for one in catalog.encoders("resnet1[89]")} == {"resnet18"}
    assert catalog.encoders("no such thing") == []


def test_a_narrow_decoder_and_a_shallow_encoder_cost_less() -> None:
    full, narrow = cost("resnet18"), cost("resnet18", decoder_channels=[64, 48, 32, 16, 16])
    shallow = cost("resnet18", encoder_depth=3)
    assert narrow.parameters < full.parameters
    assert narrow.macs < full.macs
    assert shallow.parameters_used < full.parameters_used
    assert shallow.macs < full.macs


def test_images_are_padded_to_the_stride() -> None:
    assert cost("resnet18", height=33, width=64) == cost("resnet18", height=64, width=40)
    assert cost("resnet18", height=512, width=512).macs == 4 * cost("resnet18").macs


@pytest.mark.parametrize("wrong", ["timm-eficientnet-b0", "resnet19"])
def test_an_unknown_encoder_offers_the_nearest(wrong: str) -> None:
    with pytest.raises(UsageError) as raised:
        cost(wrong)
    assert raised.value.found == wrong
    assert raised.value.allowed is not None
    assert wrong[:3] in raised.value.allowed


def test_what_the_catalog_cannot_tell_is_none() -> None:
    assert catalog.cost("resnet18", architecture="FPN", height=64, width=64) is None
    assert catalog.cost("tu-some_new_design", height=64, width=64) is None


@pytest.mark.parametrize("changes", [{"decoder_channels": 32}, {"decoder_channels": [32, 16]}, {"encoder_depth": 2}])
def test_widths_and_depths_that_do_not_fit(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        cost("resnet18", **changes)
