"""What a student may cost, where that is measured, and how both are written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from kdtui.errors import UsageError
from kdtui.launch.slots import capacity
from kdtui.measure_options import MeasureOptions
from kdtui.processes import cores
from kdtui.text import mebibytes, millions, milliseconds

RUNTIMES = ("onnxruntime", "torch")
PRECISIONS = ("fp32", "int8")
REPEATS = 50
"""Timed calls of each network."""
_BYTES_PER_PARAMETER = {"fp32": 4, "int8": 1}
_KEPT = 0.8
"""Least share of the parameters that is left in a file."""
_TIMES = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
_COUNTS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}
_SIZES = {"B": 1.0, "kB": 1e3, "KiB": 2.0**10, "MB": 1e6, "MiB": 2.0**20, "GB": 1e9, "GiB": 2.0**30}
_QUANTITY = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>[A-Za-zµ%]*)")


@dataclass(frozen=True)
class Costs:
    """What a network costs; what is not known is None.

    Attributes:
        latency: Seconds for one image.
        bytes: Size of the exported file.
    """

    latency: float | None = None
    parameters: float | None = None
    bytes: float | None = None


@dataclass(frozen=True)
class Budget:
    """The most that a student may cost.

    Attributes:
        latency: Seconds for one image.
        parameters: None for any number.
        bytes: Size of the exported file; None for any size.
    """

    latency: float
    parameters: int | None = None
    bytes: int | None = None

    def exceeded(self, costs: Costs) -> list[str]:
        """What of a network is over the budget, each as value and limit; what is not known is not compared."""
        return [_comparison(*one) for one in self._over(costs)]

    def excess(self, costs: Costs) -> float:
        """The largest factor by which a network is over the budget; 1 if it is not."""
        return max((value / limit for _, value, limit in self._over(costs)), default=1.0)

    def holding(self, costs: Costs) -> str:
        """Options of a budget that a network is within, for each limit that it exceeds."""
        return " ".join(f"--{name} {_rounded_up(name, value)}" for name, value, _ in self._over(costs))

    def _over(self, costs: Costs) -> list[tuple[str, float, float]]:
        """Option, value and limit of what is over the budget."""
        pairs = (
            ("parameters", costs.parameters, self.parameters),
            ("size", costs.bytes, self.bytes),
            ("latency", costs.latency, self.latency),
        )
        return [(name, value, limit) for name, value, limit in pairs if value is not None and limit and value > limit]

    def __str__(self) -> str:
        parts = [milliseconds(self.latency)]
        parts += [] if self.parameters is None else [f"{millions(self.parameters)} parameters"]
        return ", ".join([*parts, *([] if self.bytes is None else [mebibytes(self.bytes)])])


def _comparison(name: str, value: float, limit: float) -> str:
    write = {"parameters": millions, "size": mebibytes, "latency": milliseconds}[name]
    if write(value) == write(limit):
        return f"{(value / limit - 1) * 100:.2g}% over {write(limit)}"
    return f"{write(value)}{' parameters' if name == 'parameters' else ''} > {write(limit)}"


def _rounded_up(name: str, value: float) -> str:
    """A value as an option has it, not below the value and at most 1 % above."""
    count = ("M", 1e6) if value >= 1e5 else ("", 1.0)
    unit, factor = {"parameters": count, "size": ("MiB", 2.0**20), "latency": ("ms", 1e-3)}[name]
    amount = value / factor
    step = 10.0 ** (math.floor(math.log10(amount)) - 2)
    return f"{math.ceil(amount / step) * step:.10g}{unit}"


@dataclass(frozen=True)
class Target:
    """Where students are measured.

    Attributes:
        device: ``cpu`` or ``gpu``.
        threads: Threads of a CPU.
        runtime: One of :data:`RUNTIMES`.
        precision: One of :data:`PRECISIONS`, that of the export.
    """

    device: str = "cpu"
    threads: int = 1
    runtime: str = "onnxruntime"
    precision: str = "fp32"

    @property
    def options(self) -> MeasureOptions:
        """The options of its measurements."""
        return MeasureOptions(batch=1, repeats=REPEATS, threads=self.threads, device=self.device)

    @property
    def series(self) -> str:
        """The name of the runtime in ``measurements.json``."""
        return "torch" if self.runtime == "torch" else f"onnxruntime {self.precision}"

    def least_bytes(self, parameters: int) -> int:
        """A size below that of the exported file, from which normalisations and unused parameters are removed."""
        return int(_KEPT * parameters * _BYTES_PER_PARAMETER[self.precision])

    def __str__(self) -> str:
        return f"{self.device}{f':{self.threads}' if self.device == 'cpu' else ''}, {self.series}"


def read_latency(text: str) -> float:
    """Seconds of a text such as ``10ms``.

    Raises:
        UsageError: It has no unit, or is not positive.
    """
    return _read(text, _TIMES, "--latency", "a latency", "a positive number with us, ms or s, such as 10ms")


def read_parameters(text: str) -> int:
    """A number of parameters, such as ``5M``.

    Raises:
        UsageError: It is not a positive number.
    """
    return int(_read(text, _COUNTS, "--parameters", "a number of parameters", "a number with K, M or none, such as 5M"))


def read_size(text: str) -> int:
    """Bytes of a text such as ``8MiB``.

    Raises:
        UsageError: It has no unit, or is not positive.
    """
    return int(_read(text, _SIZES, "--size", "a size of a file", "a number with KiB, MiB or MB, such as 8MiB"))


def read_retention(text: str) -> float:
    """A share of the teacher's score, such as ``95%`` or ``0.95``.

    Raises:
        UsageError: It is not above 0 and at most 100 %.
    """
    allowed = "above 0 and at most 100%, such as 95% or 0.95"
    share = _read(text, {"%": 0.01, "": 1.0}, "--retention", "a share of the teacher's score", allowed)
    if share > 1:
        raise UsageError("not a share of the teacher's score", where="--retention", found=text, allowed=allowed)
    return share


def read_trials(text: str) -> int:
    """A number of networks to train.

    Raises:
        UsageError: It is not a positive whole number.
    """
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 7 else 0
    if number < 1:
        raise UsageError("not a number of trials", where="--trials", found=text, allowed="a whole number from 1")
    return number


def read_hours(text: str) -> float:
    """A number of hours.

    Raises:
        UsageError: It is not a positive number.
    """
    return _read(text, {"": 1.0, "h": 1.0}, "--hours", "a number of hours", "a positive number, such as 8 or 0.5")


def read_target(on: str, runtime: str | None, precision: str) -> Target:
    """Where to measure: a device of this machine, and a runtime that has it.

    Args:
        on: ``cpu``, ``cpu:THREADS`` or ``gpu``.
        runtime: Default: onnxruntime on a CPU, torch on a GPU.
        precision: That of the export.

    Raises:
        UsageError: The precision is not known, this machine has no such device, or the runtime does not run there or in
            this precision.
    """
    if precision not in PRECISIONS:
        raise UsageError(
            "not a precision of a search", where="--precision", found=precision, allowed=" or ".join(PRECISIONS)
        )
    device, colon, threads = on.partition(":")
    number = int(threads) if threads.isascii() and threads.isdecimal() and len(threads) < 5 else 0
    if device not in ("cpu", "gpu") or (device == "gpu" and colon) or (colon and not 1 <= number <= cores()):
        allowed = f"cpu:THREADS with 1 to {cores()} threads, or gpu"
        raise UsageError("this machine has no such device", where="--on", found=on, allowed=allowed)
    if device == "gpu" and not capacity().gpu:
        raise UsageError(
            "this machine has no such device", where="--on", found=on, allowed="cpu:1", hint="`kdtui doctor` shows GPUs"
        )
    chosen = runtime or ("torch" if device == "gpu" else "onnxruntime")
    if device == "gpu" and chosen == "onnxruntime":
        raise UsageError(
            "exported files are measured on the CPU", where="--runtime", found="onnxruntime on gpu", allowed="torch"
        )
    if chosen == "torch" and precision != "fp32":
        raise UsageError(
            "torch is measured in fp32", where="--precision", found=precision, allowed="fp32, or --runtime onnxruntime"
        )
    return Target(device, max(1, number), chosen, precision)


def _read(text: str, units: Mapping[str, float], where: str, what: str, allowed: str) -> float:
    match = _QUANTITY.fullmatch(text.strip())
    value = float(match["number"]) * units[match["unit"]] if match and match["unit"] in units else 0.0
    if not 0 < value < 1e18 or not math.isfinite(value):
        raise UsageError(f"not {what}", where=where, found=text, allowed=allowed)
    return value
