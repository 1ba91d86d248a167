"""How long calls take: interleaved, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch

Call = Callable[[], object]


@dataclass(frozen=True)
class Quartiles:
    """Seconds per call over ``n`` calls."""

    median: float
    q1: float
    q3: float
    n: int

    def to_json(self) -> dict[str, float]:
        """Plain values with stable keys."""
        return asdict(self)


def quartiles(values: list[float]) -> Quartiles:
    """Median and quartiles of one or more values."""
    if len(values) == 1:
        return Quartiles(values[0], values[0], values[0], 1)
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return Quartiles(median, q1, q3, len(values))


def interleaved(
    calls: Mapping[str, Call],
    *,
    repeats: int,
    warmup: int,
    clock: Callable[[Call], float],
    seen: Callable[[int], None] = lambda rounds: None,
) -> dict[str, Quartiles]:
    """Time every call ``repeats`` times, one round after the other.

    A machine that slows down, or a neighbour that comes, then meets each call about as often, so that ratios hold where
    values do not. Every round begins one further, so that none always follows the same other one's caches.

    Args:
        calls: What is timed, by name.
        repeats: Rounds that count.
        warmup: Rounds before, which do not.
        clock: Runs a call and says how many seconds it took.
        seen: Told after each round that counts.
    """
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warmup, repeats):
        first = number % max(1, len(names))
        for name in names[first:] + names[:first]:
            taken = clock(calls[name])
            if number >= 0:
                times[name].append(taken)
        if number >= 0:
            seen(number + 1)
    return {name: quartiles(values) for name, values in times.items()}


def on_cpu(call: Call) -> float:
    """Seconds on the wall."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def on_gpu(call: Call) -> float:
    """Seconds between two events of the current CUDA stream: the host's own time does not count."""
    begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begun.record()
    call()
    ended.record()
    ended.synchronize()
    return float(begun.elapsed_time(ended)) / 1e3
