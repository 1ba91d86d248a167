"""Units of a budget, and where students are measured."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtui.errors import UsageError
from kdtui.processes import cores
from kdtui.sweep.search.budget import (
    Budget,
    Costs,
    Target,
    read_latency,
    read_parameters,
    read_retention,
    read_size,
    read_target,
)

Read = Callable[[str], float]


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (read_latency, "10ms", 0.01),
        (read_latency, "500us", 0.0005),
        (read_latency, "1.5 s", 1.5),
        (read_parameters, "5M", 5_000_000),
        (read_parameters, "250K", 250_000),
        (read_parameters, "1234", 1234),
        (read_size, "8MiB", 8 * 2**20),
        (read_size, "8MB", 8_000_000),
        (read_retention, "95%", 0.95),
        (read_retention, "0.95", 0.95),
    ],
)
def test_quantities_have_units(read: Read, text: str, value: float) -> None:
    assert read(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        *((read_latency, text) for text in ("10", "0ms", "-1ms", "nan", "10 apples", "", "1e400s")),
        *((read_parameters, text) for text in ("5ms", "0", "many")),
        *((read_size, text) for text in ("8", "8M", "0MiB")),
        *((read_retention, text) for text in ("0%", "101%", "95ms", "95")),
    ],
)
def test_a_wrong_quantity_is_one_message(read: Read, text: str) -> None:
    with pytest.raises(UsageError) as error:
        read(text)
    assert error.value.where is not None and error.value.where.startswith("--")
    assert error.value.found == text and "such as" in str(error.value.allowed)


def test_a_target_is_a_device_of_this_machine() -> None:
    assert read_target("cpu", None, "int8") == Target("cpu", 1, "onnxruntime", "int8")
    assert read_target("cpu:1", "torch", "fp32").series == "torch"


@pytest.mark.parametrize(
    ("on", "runtime", "precision", "where"),
    [
        ("gpu", None, "fp32", "--on"),
        ("tpu", None, "fp32", "--on"),
        (f"cpu:{cores() + 1}", None, "fp32", "--on"),
        ("cpu:0", None, "fp32", "--on"),
        ("gpu:0", None, "fp32", "--on"),
        ("cpu:1", "torch", "int8", "--precision"),
        ("cpu:1", None, "fp16", "--precision"),
    ],
)
def test_a_device_that_is_not_there(on: str, runtime: str | None, precision: str, where: str) -> None:
    with pytest.raises(UsageError) as error:
        read_target(on, runtime, precision)
    assert error.value.where == where


def test_what_exceeds_a_budget_is_named_with_the_limit() -> None:
    budget = Budget(0.01, 1_000_000, 2**20)
    assert budget.exceeded(Costs(0.01, 1_000_000, 2**20)) == []
    assert budget.exceeded(Costs(0.02, 2_000_000, 2**21)) == [
        "2.00 M parameters > 1.00 M",
        "2.0 MiB > 1.0 MiB",
        "20.00 ms > 10.00 ms",
    ]
    assert Budget(0.01).exceeded(Costs(None, 10**9, 10**9)) == []
    assert budget.exceeded(Costs(None, None, 2**20 + 1000)) == ["0.095% over 1.0 MiB"]  # both are written 1.0 MiB


@given(st.floats(1e-6, 1e3), st.integers(2, 10**10), st.integers(1000, 2**40))
def test_the_named_budget_holds_a_network_and_is_hardly_larger(latency: float, parameters: int, size: int) -> None:
    costs = Costs(latency, parameters, size)
    words = Budget(1e-9, 1, 1).holding(costs).split()
    read = {"--latency": read_latency, "--parameters": read_parameters, "--size": read_size}
    found = {flag: read[flag](text) for flag, text in zip(words[::2], words[1::2], strict=True)}
    for flag, value in (("--latency", latency), ("--parameters", parameters), ("--size", size)):
        assert value * (1 - 1e-9) - 1 * (flag != "--latency") <= found[flag] <= value * 1.011 + 1
    assert Budget(latency, parameters, size).holding(costs) == "" and Budget(latency).excess(costs) == 1.0
