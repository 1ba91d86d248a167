"""What a teacher's file contains: the network, built and loaded, and its description.

The network is identified by its tensors; metadata only decide between encoders with identical tensors. Loading is
strict, because a teacher with missing weights would predict noise. The graph of an ONNX file is run as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kdtui.engine.checkpoint import FORMAT, load_student
from kdtui.engine.class_names import listed
from kdtui.engine.containers import Contents, open_checkpoint
from kdtui.engine.data.pixel_format import recorded_format
from kdtui.engine.families import FAMILIES, IdentifiedNetwork
from kdtui.engine.families.family import check_setting
from kdtui.engine.file_kinds import is_onnx
from kdtui.engine.identify import RGB
from kdtui.engine.models import count_parameters
from kdtui.engine.network import build_student, network_kind
from kdtui.engine.torch_file import shortened
from kdtui.errors import CheckpointError, TeacherError
from kdtui.profile import NetworkTable, Profile, Teacher
from kdtui.profile.base import TaskName
from kdtui.profile.find import expanded
from kdtui.profile.network_tables import HIERARCHICAL_CHANNELS, network_kinds
from kdtui.profile.tables import SingleTeacher
from kdtui.store.files import sha256_of

HIERARCHICAL_CLASSES = 3
_BINARY_CLASSES = 2


@dataclass(frozen=True)
class TeacherReport:
    """Contents of a checkpoint.

    Attributes:
        family: Library or format of the network.
        classes: Number of classes of the task: 3 for hierarchical, 2 for one channel, otherwise one per channel.
        mean: Mean that its normalisation subtracts; None if neither file nor family determines it.
        std: Standard deviation by which it divides.
        bgr: Whether it takes blue, green, red.
        parameters: Number of stored parameters.
        parameters_used: Number of parameters that the output depends on.
        container: Key of the state dict within the file.
        prefix: Prefix of the network's keys.
        sha256: Hash of the file.
        candidates: All places of the file with a network; the first one is used.
        places: All places of the file with tensors, and their number.
        class_names: Class names in the order of the output; empty if the file has none.
        ignored_keys: Keys that are not part of the network.
    """

    path: str
    family: str
    architecture: str
    encoder: str
    encoder_depth: int
    decoder_channels: list[int] | int | None
    classes: int
    out_channels: int
    in_channels: int
    mean: list[float] | None
    std: list[float] | None
    bgr: bool | None
    task: TaskName
    parameters: int
    parameters_used: int
    container: str
    prefix: str
    candidates: list[str]
    places: dict[str, int]
    class_names: list[str]
    ignored_keys: list[str]
    metadata: dict[str, Any]
    bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """Plain values with stable keys."""
        return asdict(self)


def inspect(
    path: str | Path,
    *,
    task: TaskName | None = None,
    architecture: str | None = None,
    encoder: str | None = None,
    output: str | None = None,
) -> TeacherReport:
    """Describe the contents of a checkpoint; no code in it is executed.

    Args:
        path: A file, a ``save_pretrained`` folder or a run folder.
        task: Task of four output channels, for a file that kdtui did not write.
        architecture: Architecture, if the keys leave it open.
        encoder: Encoder, if the shapes leave it open.
        output: Name of the output, if an ONNX file has several.

    Raises:
        CheckpointError: Not readable, or not a network of a known family.
        TeacherError: The network cannot be identified without the arguments.
    """
    return open_teacher(path, Teacher(task=task, architecture=architecture, encoder=encoder, output=output))[1]


def open_teacher(path: str | Path, settings: SingleTeacher) -> tuple[IdentifiedNetwork, TeacherReport]:
    """Load the network of a checkpoint and describe it.

    Args:
        path: A file, a ``save_pretrained`` folder or a run folder.
        settings: What the file leaves open.

    Raises:
        CheckpointError: Not readable, or not a network of a known family.
        TeacherError: The network cannot be identified without further settings.
    """
    contents, found = _open_onnx(expanded(path), settings) or _open_tensors(path, settings)
    task, classes = _task(contents, found, settings.task)
    return found, _report(contents, found, task, classes, settings.classes)


def _open_onnx(path: Path, settings: SingleTeacher) -> tuple[Contents, IdentifiedNetwork] | None:
    """The network of an ONNX file; None for other files."""
    try:
        if not path.is_file() or not is_onnx(path):
            return None
    except OSError:  # reported by the reader of other files
        return None
    from kdtui.engine.onnx_teacher import open_onnx  # imports onnx and onnxruntime, which no other teacher needs

    contents, found = open_onnx(path, output=settings.output)
    for key in ("architecture", "encoder"):
        check_setting(key, getattr(settings, key), str(found.facts[key]), where=path)
    return contents, found


def _open_tensors(path: str | Path, settings: SingleTeacher) -> tuple[Contents, IdentifiedNetwork]:
    """The network of a file or folder of tensors."""
    contents = open_checkpoint(path, [family.layout for family in FAMILIES])
    table = other_kind(contents.metadata, contents.file)
    if table is not None:
        return contents, _ofother_kind(contents, table)
    family = next(family for family in FAMILIES if family.layout.family == contents.family)
    return contents, family.identify(contents, architecture=settings.architecture, encoder=settings.encoder)


def _report(
    contents: Contents, found: IdentifiedNetwork, task: TaskName, classes: int, names: Sequence[str] | None
) -> TeacherReport:
    pixels = found.pixels or recorded_format(contents.metadata.get("pixels"))
    if names is not None and len(names) != classes:
        raise TeacherError(
            "teacher.classes does not match this network",
            where=contents.file,
            found=f"{len(names)} names: {listed(names)}",
            allowed=f"{classes} names",
            hint="kdtui inspect CHECKPOINT shows its classes",
        )
    return TeacherReport(
        path=str(contents.file),
        family=contents.family,
        **found.facts,
        mean=None if pixels is None else list(pixels.mean),
        std=None if pixels is None else list(pixels.std),
        bgr=None if pixels is None else pixels.bgr,
        classes=classes,
        task=task,
        parameters=found.parameters.stored,
        parameters_used=found.parameters.used,
        container=contents.container,
        prefix=contents.prefix,
        candidates=list(contents.candidates),
        places=contents.places,
        class_names=list(names or next((known for known in contents.names if len(known) == classes), ())),
        ignored_keys=list(contents.ignored),
        metadata=contents.metadata,
        bytes=sum(part.stat().st_size for part in contents.parts),
        sha256=_sha256(contents.parts),
    )


def other_kind(metadata: Mapping[str, Any], path: object) -> NetworkTable | None:
    """The table of the network in a checkpoint of a run whose student is no network of smp.

    Args:
        metadata: What the checkpoint holds beside its tensors.
        path: The file.

    Raises:
        CheckpointError: Its kind is not installed.
    """
    model = metadata.get("model") if metadata.get("format") == FORMAT else None
    if not isinstance(model, dict) or "kind" not in model:
        return None
    try:
        return Profile.model_validate({"name": "checkpoint", "student": model}).student
    except ValidationError as error:
        raise CheckpointError(
            "the kind of network in this checkpoint is not installed, or not in this version",
            where=path,
            found=f"student.kind = {shortened(model['kind'])}",
            allowed=", ".join(table.model_fields["kind"].default for table in network_kinds()),
            hint="install the package that provides it; `kdtui doctor` lists the installed extensions",
        ) from error


def _ofother_kind(contents: Contents, table: NetworkTable) -> IdentifiedNetwork:
    """The network of a checkpoint of kdtui as its own kind builds it."""
    task: TaskName = "hierarchical" if contents.metadata.get("task") == "hierarchical" else "semantic"
    classes = len(contents.names[0]) if contents.names else 0
    network = build_student(table, task=task, classes=classes, download=False)
    load_student(network, contents.state, where=contents.file)
    kind = network_kind(table)
    facts = kind.facts() | {"out_channels": table.out_channels(task, classes), "in_channels": RGB}
    return IdentifiedNetwork(network, facts, count_parameters(network), kind.stride)


def _sha256(parts: Sequence[Path]) -> str:
    """SHA-256 of a file, or of the hashes of several files."""
    hashes = [sha256_of(part) for part in parts]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def _task(contents: Contents, found: IdentifiedNetwork, given: TaskName | None) -> tuple[TaskName, int]:
    """The task of the network and its number of classes."""
    channels = int(found.facts["out_channels"])
    recorded = contents.metadata.get("task") if contents.metadata.get("format") == FORMAT else None
    task = given or found.task or recorded or "semantic"
    if task == "semantic":
        return "semantic", _BINARY_CLASSES if channels == 1 else channels
    if task != "hierarchical" or channels != HIERARCHICAL_CHANNELS:
        raise TeacherError(
            "this network does not match the task",
            where=contents.file,
            found=f"{task}, {channels} output channels",
            allowed=f"semantic, or hierarchical with {HIERARCHICAL_CHANNELS} output channels",
        )
    return "hierarchical", HIERARCHICAL_CLASSES
