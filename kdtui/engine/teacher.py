"""The checkpoint that teaches: what is in a file, and the frozen network made from it.

Everything is read from the tensors, so a file is understood without the words beside it; those only decide between
encoders that no tensor tells apart. Loading is strict: a teacher with missing weights would teach noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
from torch import Tensor, nn

from kdtui.engine import models
from kdtui.engine.architecture import ARCHITECTURES, DEPTHS, Decoder, architecture_of, depths, read_decoder
from kdtui.engine.checkpoint import FORMAT, differences, sha256_of
from kdtui.engine.containers import Contents, as_tensors, open_checkpoint
from kdtui.engine.encoder_table import RGB, Match, find_encoders
from kdtui.errors import CheckpointError, ModelError, TeacherError
from kdtui.profile.tables import TaskName, Teacher

_HIERARCHICAL_CHANNELS = 4
_HIERARCHICAL_CLASSES = 3


@dataclass(frozen=True)
class TeacherReport:
    """What a checkpoint holds.

    Attributes:
        classes: Classes of the task: 3 for hierarchical, else one per channel.
        parameters: Numbers stored in the network.
        parameters_used: Those that an output depends on.
        container: What was around the state dict.
        prefix: What stood before its keys.
        sha256: Of the file.
        candidates: Every place of the file that holds a network; the first is the one used.
        ignored_keys: Keys that are no part of the network.
    """

    path: str
    architecture: str
    encoder: str
    encoder_depth: int
    decoder_channels: list[int] | int | None
    classes: int
    out_channels: int
    in_channels: int
    task: TaskName
    parameters: int
    parameters_used: int
    container: str
    prefix: str
    candidates: list[str]
    class_names: list[str]
    ignored_keys: list[str]
    metadata: dict[str, Any]
    bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """Plain values with stable keys."""
        return asdict(self)


def inspect(
    path: str | Path, *, task: str | None = None, architecture: str | None = None, encoder: str | None = None
) -> TeacherReport:
    """Tell what a checkpoint holds; nothing in it is executed.

    Args:
        path: A file, a ``save_pretrained`` folder or a run folder.
        task: How to read four channels of a file that is not ours.
        architecture: Where the keys leave it open.
        encoder: Where the shapes leave it open.

    Raises:
        CheckpointError: Not readable, or no network of smp.
        TeacherError: A network that cannot be named without help.
    """
    _, report = _open(path, task=task, architecture=architecture, encoder=encoder)
    return report


def load_teacher(
    path: str | Path, *, teacher: Teacher, task: TaskName, classes: int
) -> tuple[nn.Module, TeacherReport]:
    """The network of a checkpoint, in eval and frozen, if it fits the run.

    Args:
        path: A file, a ``save_pretrained`` folder or a run folder.
        teacher: What the profile says of it.
        task: The run's task.
        classes: Number of classes of the run.

    Raises:
        CheckpointError: Not readable, or no network of smp.
        TeacherError: Weights that do not fit, another task or other classes than the run's.
    """
    network, report = _open(path, task=teacher.task, architecture=teacher.architecture, encoder=teacher.encoder)
    if report.task != task or report.classes != classes:
        raise _other_classes(report, task, classes)
    if report.in_channels != RGB:
        raise TeacherError(
            "this teacher does not look at RGB images",
            where=report.path,
            found=f"{report.in_channels} input channels",
            allowed=f"{RGB} input channels",
        )
    return network.eval().requires_grad_(False), report


def _open(
    path: str | Path, *, task: str | None, architecture: str | None, encoder: str | None
) -> tuple[nn.Module, TeacherReport]:
    contents = open_checkpoint(path)
    decoder = _decoder(contents, architecture)
    network, name, depth, in_channels = _network(contents, decoder, encoder)
    models.freeze_unused(network)
    counts = models.count_parameters(network)
    network.load_state_dict(as_tensors(contents.state))
    decided, classes = _task(contents, decoder.out_channels, task)
    names = contents.metadata.get("classes")
    report = TeacherReport(
        path=str(contents.file),
        architecture=decoder.architecture,
        encoder=name,
        encoder_depth=depth,
        decoder_channels=decoder.channels,
        classes=classes,
        out_channels=decoder.out_channels,
        in_channels=in_channels,
        task=decided,
        parameters=counts.stored,
        parameters_used=counts.used,
        container=contents.container,
        prefix=contents.prefix,
        candidates=list(contents.candidates),
        class_names=[str(item) for item in names] if isinstance(names, list) else [],
        ignored_keys=list(contents.ignored),
        metadata=contents.metadata,
        bytes=contents.file.stat().st_size,
        sha256=sha256_of(contents.file),
    )
    return network, report


def _decoder(contents: Contents, given: str | None) -> Decoder:
    architecture = given or architecture_of(contents.state)
    if architecture not in ARCHITECTURES:
        keys = [key for key in contents.state if key.startswith("decoder.")]
        raise TeacherError(
            "the architecture of this network is not known",
            where=contents.file,
            found=given or f"decoder keys {', '.join(keys[:3])} …",
            allowed=", ".join(ARCHITECTURES),
            hint="say it: --architecture NAME",
        )
    try:
        return read_decoder(architecture, contents.state)
    except (KeyError, ValueError) as error:
        raise TeacherError(
            f"this is no whole {architecture}",
            where=contents.file,
            found=f"no {error.args[0]}",
            allowed="every key of the network that was saved",
        ) from error


def _network(contents: Contents, decoder: Decoder, given: str | None) -> tuple[nn.Module, str, int, int]:
    """The one network whose keys and shapes are exactly the file's; with its encoder, depth and input channels."""
    prefix = "encoder."
    shapes = {
        key.removeprefix(prefix): tuple(value.shape) for key, value in contents.state.items() if key.startswith(prefix)
    }
    matches = find_encoders(shapes)
    name = given or _only_name(contents, matches)
    known = [match for match in matches if match.name == name]
    in_channels = known[0].in_channels if known else RGB
    nearest: list[str] = []
    for depth in _depths(contents.state, decoder, known):
        network = _build(contents, decoder, name, depth, in_channels)
        problems = differences(network, contents.state)
        if not problems:
            return network, name, depth, in_channels
        if not nearest or len("".join(problems)) < len("".join(nearest)):
            nearest = problems
    raise TeacherError(
        f"the weights do not fit {decoder.architecture} with {name}",
        where=contents.file,
        found="; ".join(nearest) or "a decoder that fits no depth of this encoder",
        allowed="every key, in its shape, and none beside",
        hint="say what it is: --encoder NAME, --architecture NAME (teacher.encoder, teacher.architecture)",
    )


def _depths(state: Mapping[str, Tensor], decoder: Decoder, known: list[Match]) -> Iterator[int]:
    """Depths to try, likeliest first, each once."""
    wanted: dict[int | None, tuple[int, ...] | None] = {None: None}
    if known:
        wanted = {match.depth: match.channels for match in known}
    tried: set[int] = set()
    for own, channels in wanted.items():
        for depth in depths(decoder, state, channels):
            if depth not in tried and own in (None, depth):
                tried.add(depth)
                yield depth
    if not tried:
        yield from DEPTHS[:1]


def _only_name(contents: Contents, matches: list[Match]) -> str:
    """The encoder's name: what the shapes say; what the file says where they leave several."""
    names = sorted({match.name for match in matches})
    if len(names) == 1:
        return names[0]
    told = _told(contents.metadata)
    if told is not None and (told in names or not names):
        return told
    raise TeacherError(
        "several encoders have exactly these shapes" if names else "the encoder of this network is not in the table",
        where=contents.file,
        found=", ".join(names) or f"{sum(key.startswith('encoder.') for key in contents.state)} encoder tensors",
        allowed="the name that it was built with",
        hint=f"say which: --encoder {names[0] if names else 'NAME'} (in a profile: teacher.encoder)",
    )


def _told(metadata: Mapping[str, Any]) -> str | None:
    """What the file itself calls its encoder."""
    for table, key in (("model", "encoder"), ("config", "encoder_name"), ("hyper_parameters", "encoder_name")):
        inner = metadata.get(table)
        if isinstance(inner, Mapping) and isinstance(inner.get(key), str):
            return str(inner[key])
    return None


def _build(contents: Contents, decoder: Decoder, encoder: str, depth: int, in_channels: int) -> nn.Module:
    try:
        network: nn.Module = smp.create_model(
            decoder.architecture,
            encoder_name=encoder,
            encoder_weights=None,
            encoder_depth=depth,
            in_channels=in_channels,
            classes=decoder.out_channels,
            **decoder.arguments,
        )
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
        raise ModelError(
            f"{decoder.architecture} cannot be built with {encoder} at depth {depth}",
            where=contents.file,
            found=" ".join(str(error).split())[:300],
            hint="say what it is: --encoder NAME, --architecture NAME",
        ) from error
    return network


def _task(contents: Contents, channels: int, given: str | None) -> tuple[TaskName, int]:
    """How the output is read, and how many classes that makes."""
    told = contents.metadata.get("task") if contents.metadata.get("format") == FORMAT else None
    task = given or told or "semantic"
    if task == "semantic":
        return "semantic", channels
    if task != "hierarchical" or channels != _HIERARCHICAL_CHANNELS:
        raise TeacherError(
            "this network cannot be read as that task",
            where=contents.file,
            found=f"{task}, {channels} output channels",
            allowed=f"semantic, or hierarchical with {_HIERARCHICAL_CHANNELS} output channels",
        )
    return "hierarchical", _HIERARCHICAL_CLASSES


def _other_classes(report: TeacherReport, task: TaskName, classes: int) -> CheckpointError:
    hint = "take a teacher of the same classes: kdtui teachers"
    if task == "hierarchical" and report.out_channels == _HIERARCHICAL_CHANNELS:
        hint = "if its four channels are background | person and target | other: --set teacher.task=hierarchical"
    return TeacherError(
        "this teacher knows other classes than the run",
        where=report.path,
        found=f"{report.task}, {report.classes} classes ({report.out_channels} output channels)",
        allowed=f"{task}, {classes} classes",
        hint=hint,
    )
