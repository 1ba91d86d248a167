from __future__ import annotations

from typing import Any

import pytest

from kdtui.engine.precision import choose_channels_last, choose_precision, cpu_has_bf16, fabric_precision
from kdtui.errors import PrecisionError
from tests.engine.runs import tiny_profile


def precision(**changes: Any) -> str:
    return choose_precision(tiny_profile(**changes), "cpu")


def test_fp16_on_a_cpu_is_refused_with_the_precisions_to_use() -> None:
    with pytest.raises(PrecisionError) as caught:
        precision(training__precision="fp16")
    assert "use bf16" in str(caught.value)


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_the_requested_precision_runs(asked: str) -> None:
    assert precision(training__precision=asked) == asked


def test_auto_takes_what_is_faster_for_the_network() -> None:
    assert precision(student__encoder="timm-efficientnet-b0") == "fp32"
    large: dict[str, Any] = {"data__height": 192, "data__width": 256}
    fast = "bf16" if cpu_has_bf16() else "fp32"
    assert precision(student__encoder="timm-efficientnet-b0", **large) == fast
    assert precision(student__encoder="resnet18") == fast


def test_layout_follows_the_profile() -> None:
    assert choose_channels_last(tiny_profile())
    assert not choose_channels_last(tiny_profile(training__channels_last=False))


def test_master_weights_stay_fp32() -> None:
    assert [fabric_precision(p) for p in ("fp32", "bf16", "fp16")] == ["32-true", "bf16-mixed", "16-mixed"]
