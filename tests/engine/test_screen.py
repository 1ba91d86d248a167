"""Untrained networks: parameters, sizes and latency of candidates, and those that cannot be built."""

from __future__ import annotations

from typing import Any

import pytest

from kdtui import catalog
from kdtui.engine.models import ARCHITECTURES
from kdtui.engine.screen import screen
from kdtui.measure_options import MeasureOptions
from kdtui.profile import Model, load
from kdtui.sweep.search.budget import Target
from kdtui.sweep.search.candidates import ALL_ARCHITECTURES, WIDTHS, candidates
from kdtui.sweep.search.screening import Screened

ONCE = MeasureOptions(repeats=1, warmup=0)
SMALL = Model(encoder="tu-mobilenetv3_small_050", encoder_depth=3, decoder_channels=(8, 8, 8))
UNKNOWN = Model(encoder="tu-nosuch")


def screened(**options: Any) -> dict[str, Any]:
    chosen: dict[str, Any] = {"runtime": "onnxruntime", "precision": "fp32", **options}
    answer = screen(load("demo-teacher"), {"small": SMALL, "unknown": UNKNOWN}, ONCE, **chosen)
    runs: dict[str, Any] = answer["runs"]
    return runs


def test_the_search_knows_the_architectures_of_the_engine() -> None:
    assert set(ALL_ARCHITECTURES) == set(ARCHITECTURES)


@pytest.mark.parametrize("sizes_only", [False, True])
def test_size_and_latency_of_an_untrained_network(sizes_only: bool) -> None:
    reports: dict[str, Any] = {}
    found = screened(
        sizes_only=sizes_only,
        progress=lambda words, done, total, target="", report=None: reports.update({target: report} if report else {}),
    )
    cost = catalog.cost(**SMALL.catalog_arguments(), out_channels=4, height=64, width=64)
    assert cost is not None and found["small"]["parameters"] == cost.parameters
    assert "no such encoder" in found["unknown"]["error"]
    assert reports == found
    if sizes_only:
        assert found["small"]["parameters_used"] == cost.parameters_used
    else:
        assert found["small"]["bytes"] > Target().least_bytes(cost.parameters_used)
        assert found["small"]["latency"]["median"] > 0
        assert (found["small"]["setup"]["height"], found["small"]["setup"]["threads"]) == (64, 1)


def test_an_int8_file_is_smaller_and_torch_needs_no_file() -> None:
    small = screened(precision="int8")["small"]
    in_torch = screened(runtime="torch")["small"]
    assert small["bytes"] < 4 * small["parameters"] <= in_torch["bytes"]
    assert in_torch["latency"]["n"] == 1


def test_the_narrowest_decoders_can_be_built() -> None:
    networks = {
        one.key: one.network(Model(encoder="resnet18"))
        for one in candidates(["resnet18"], [name for name in ALL_ARCHITECTURES if name != "DPT"], WIDTHS[-1:])
    }
    found = screen(load("demo-teacher"), networks, ONCE, runtime="onnxruntime", precision="fp32", sizes_only=True)[
        "runs"
    ]
    assert {key: row for key, row in found.items() if "parameters" not in row} == {}
    assert Screened(candidates(["resnet18"], ["FPN"], (1.0,))[0]).word == "to measure"
