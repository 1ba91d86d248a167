"""The options of an export: help, command line, checks, and the report as text.

Without torch: the command line, the form and the engine use the same table.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdtui.errors import UsageError
from kdtui.text import mebibytes, number, score_title

PRECISIONS = ("fp32", "fp16", "int8")
REPORT_SUFFIX = ".json"


@dataclass(frozen=True)
class ExportOptions:
    """Options of an ONNX export; :data:`OPTIONS` explains each field.

    Attributes:
        checkpoint: ``best``, ``last``, ``untrained`` or the number of an epoch.
        batch: Batch size; used if it is static.
        height: Rows of the input, if the size is static, and of the images for verification; 0 for that of the data.
        width: Columns, likewise.
        calibration: Number of training images from which the ranges of int8 are computed.
        limit: Maximum loss of mIoU of fp16 and int8, in percentage points.
    """

    checkpoint: str = "best"
    precision: str = "fp32"
    opset: int = 18
    dynamic: str = "all"
    batch: int = 1
    height: int = 0
    width: int = 0
    output: str = "logits"
    parts: bool = False
    input: str = "float"
    slim: bool = False
    calibration: int = 100
    keep_float: str = "none"
    limit: float = 1.0

    @property
    def dynamic_batch(self) -> bool:
        """Whether the batch size is dynamic."""
        return self.dynamic in ("all", "batch")

    @property
    def dynamic_size(self) -> bool:
        """Whether height and width are dynamic."""
        return self.dynamic in ("all", "size")

    def to_json(self) -> dict[str, Any]:
        """Plain values, one per field."""
        return dataclasses.asdict(self)

    def flags(self) -> list[str]:
        """Options of ``kdtui export`` for the values that differ from the defaults."""
        words: list[str] = []
        for option in OPTIONS:
            value = getattr(self, option.name)
            if value == option.default:
                continue
            words += [option.flag] if value is True else [option.flag, str(value)]
        return words

    def command(self, sources: Sequence[str], precisions: Sequence[str] = (), more: Sequence[str] = ()) -> str:
        """The command line that makes the same export of ``sources``.

        Args:
            sources: Runs or checkpoints.
            precisions: Several precisions, instead of that of the options.
            more: Further arguments.
        """
        options = self
        if precisions:
            options = dataclasses.replace(self, precision=option("precision").default)
            if list(precisions) != [options.precision]:
                more = [*(word for each in precisions for word in (option("precision").flag, each)), *more]
        return shlex.join(["kdtui", "export", *sources, *options.flags(), *more])


@dataclass(frozen=True)
class Option:
    """Declaration of an option.

    Attributes:
        name: The field of :class:`ExportOptions`.
        says: Its help in one line.
        choices: The allowed values; empty for free text or a number.
        least: Smallest number.
        most: Largest number.
        only: Precisions to which it applies; empty for all.
    """

    name: str
    says: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    only: tuple[str, ...] = ()

    @property
    def default(self) -> Any:
        """The default value."""
        return _DEFAULTS[self.name]

    @property
    def flag(self) -> str:
        """The option of the command line."""
        return "--" + self.name.replace("_", "-")

    def read(self, text: str) -> Any:
        """Parse a typed value.

        Raises:
            UsageError: It is not one of the choices, not a number, or out of range.
        """
        kind = type(self.default)
        words = text.strip()
        if kind is bool:
            if words.lower() not in ("true", "false", "yes", "no", "on", "off"):
                raise self._refused(text)
            return words.lower() in ("true", "yes", "on")
        try:
            value = kind(words)
        except ValueError as error:
            raise self._refused(text) from error
        self.check(value)
        return value

    def check(self, value: Any) -> None:
        """Check a value.

        Raises:
            UsageError: It is not allowed.
        """
        kind = type(self.default)
        fits = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            fits = True
        if fits and self.choices:
            fits = value in self.choices
        if fits and kind in (int, float):
            # NaN fails both comparisons, as intended.
            fits = (self.least is None or value >= self.least) and (self.most is None or value <= self.most)
        if fits and self.name == "checkpoint":
            fits = value in _CHECKPOINTS or (value.isdecimal() and len(value) <= _EPOCH_DIGITS and int(value) > 0)
        if not fits:
            raise self._refused(value)

    def _refused(self, found: object) -> UsageError:
        return UsageError(f"invalid value for {self.flag}", where=self.flag, found=found, allowed=self.allowed)

    @property
    def allowed(self) -> str:
        """Description of the allowed values."""
        kind = type(self.default)
        if self.name == "checkpoint":
            return f"{', '.join(_CHECKPOINTS)}, or the number of an epoch"
        if self.choices:
            return ", ".join(self.choices)
        if kind is bool:
            return "true, false"
        high = "" if self.most is None else f" to {self.most:g}"
        return f"{'an integer' if kind is int else 'a number'} from {self.least or 0:g}{high}"


_EPOCH_DIGITS = 9
_CHECKPOINTS = ("best", "last", "untrained")
_DEFAULTS: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(ExportOptions)}

OPTIONS: tuple[Option, ...] = (
    Option("checkpoint", "Checkpoint of the run: best, last, untrained, or the number of an epoch."),
    Option(
        "precision",
        "fp32 is exact; fp16 halves the file, for GPUs; int8 is a quarter and fastest on CPUs.",
        choices=PRECISIONS,
    ),
    Option(
        "dynamic",
        "Dynamic axes: batch and size (all), one of the two, or none.",
        choices=("all", "batch", "size", "none"),
    ),
    Option("batch", "Batch size; used if it is static.", least=1, most=1024),
    Option("height", "Rows of a static input; 0 for the size of the training data.", least=0, most=8192),
    Option("width", "Columns of a static input; 0 for the size of the training data.", least=0, most=8192),
    Option(
        "input",
        "float: RGB 0 to 1 [N,3,H,W]; uint8: RGB 0 to 255 [N,H,W,3]; normalised: as the network's input.",
        choices=("float", "uint8", "normalised"),
    ),
    Option(
        "output",
        "logits per class, softmax (probabilities per class), or argmax (the class of each pixel, uint8).",
        choices=("logits", "softmax", "argmax"),
    ),
    Option("parts", "Hierarchical only: add the outputs bg_fg and target_nontarget to that of the three classes."),
    Option("opset", "ONNX operator set; below 18 the older TorchScript exporter is used.", least=13, most=22),
    Option("slim", "Simplify the graph with onnxslim: fewer nodes, hardly less latency."),
    Option("calibration", "Training images for the calibration of int8.", least=1, most=10000, only=("int8",)),
    Option(
        "keep_float",
        "Layers that int8 leaves in fp32, to lose less mIoU: the first, the last, or both.",
        choices=("none", "first", "last", "both"),
        only=("int8",),
    ),
    Option("limit", "Maximum loss of mIoU in percentage points; more fails.", least=0, most=100, only=("fp16", "int8")),
)


def option(name: str) -> Option:
    """The declaration of an option."""
    return next(option for option in OPTIONS if option.name == name)


def checked(options: ExportOptions) -> ExportOptions:
    """Return the options after checking every value and their combination.

    Raises:
        UsageError: One is not allowed.
    """
    for line in OPTIONS:
        line.check(getattr(options, line.name))
    if bool(options.height) != bool(options.width):
        raise UsageError(
            "--height and --width must be given together",
            where="--height, --width",
            found=f"{options.height} x {options.width}",
            allowed="both, or neither for the size of the training data",
        )
    return options


def check_classes(names: Sequence[str], *, where: object = "--classes") -> None:
    """Check that class names are distinct and printable.

    Args:
        names: Names in the order of the classes.
        where: Location of the names, for the message.

    Raises:
        UsageError: A name is empty, occurs twice, or has control characters.
    """
    # repr: such a name may contain control characters
    empty = [f"name {place} of {len(names)}" for place, name in enumerate(names, 1) if not name.strip()]
    twice = [repr(name) for name in dict.fromkeys(names) if names.count(name) > 1]
    strange = [repr(name) for name in dict.fromkeys(names) if not name.isprintable()]
    for what, found in (
        ("a class has no name", empty),
        ("duplicate class name", twice),
        ("a class name has control characters", strange),
    ):
        if found:
            raise UsageError(
                what,
                where=where,
                found=", ".join(found),
                allowed="a distinct name without control characters for each class",
                hint="give the names in channel order with --classes NAME,NAME,…",
            )


def from_json(table: Mapping[str, Any]) -> ExportOptions:
    """Parse the result of :meth:`ExportOptions.to_json`; missing options have their defaults.

    Raises:
        UsageError: An unknown name, or a value that is not allowed.
    """
    unknown = sorted(set(table) - set(_DEFAULTS))
    if unknown:
        raise UsageError("no such export option", found=", ".join(unknown), allowed=", ".join(_DEFAULTS))
    return checked(ExportOptions(**table))


def suffix(precision: str) -> str:
    """The file name suffix of a precision."""
    return ".onnx" if precision == "fp32" else f".{precision}.onnx"


def lines_of(answer: Mapping[str, Any], target: Path) -> list[str]:
    """Format an export's report as text.

    Args:
        answer: The report that is written next to the file.
        target: The file.
    """
    verified = answer["verified"]
    lines = [str(target)]
    shapes = [
        f"{name} {entry['type'].removeprefix('tensor(').removesuffix(')')} [{', '.join(map(str, entry['shape']))}]"
        for side in ("inputs", "outputs")
        for name, entry in answer[side].items()
    ]
    lines.append(
        f"  {answer['precision']}, opset {answer['opset']}, {mebibytes(answer['bytes'])}, {answer['nodes']} nodes, "
        f"by the {answer['exporter']} exporter"
    )
    if answer["exporter_note"]:
        lines.append(f"  dynamo exporter not used: {answer['exporter_note']}")
    lines.append(f"  {' -> '.join([shapes[0], ', '.join(shapes[1:])])}")
    if answer.get("note"):
        lines.append(f"  {answer['note']}")
    for name, difference in verified["outputs"].items():
        apart = ""
        if difference["max"] is not None:
            apart = f"maximum difference {difference['max']:.2g}, mean {difference['mean']:.2g}, "
            apart += f"of values up to {difference['scale']:.3g}; "
        lines.append(f"  {name}: {apart}{difference['agreement']:.3%} of the pixels have the same class")
    scores = verified["validation"]
    if scores["miou"] is not None:
        lines.append(
            f"  mIoU {scores['miou']:.4f} on {scores['images']} validation images, torch {scores['torch_miou']:.4f}"
            f" ({0 - scores['drop_points']:+.2f} points)"
        )
        if (score := answer.get("score", "miou")) != "miou":
            values = [number(scores[side].get(score)) for side in ("metrics", "torch_metrics")]
            lines.append(f"  {score_title(score)} {values[0]}, torch {values[1]}")
    else:
        lines.append("  no validation data: compared on synthetic images, no mIoU (--profile NAME adds data)")
    return lines
