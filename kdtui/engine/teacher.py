"""Teacher checkpoints: inspection of a file, and the frozen network in it.

The network is identified by its tensors; metadata only decide between encoders with identical tensors. Loading is
strict, because a teacher with missing weights would predict noise.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from kdtui.engine import models
from kdtui.engine.checkpoint import FORMAT, load_student
from kdtui.engine.class_names import class_order, listed
from kdtui.engine.containers import Contents, as_tensors, open_checkpoint
from kdtui.engine.dry_run import check_teaching
from kdtui.engine.identify import RGB, NetworkIdentity, identify
from kdtui.engine.metrics import Scores
from kdtui.engine.models import AnySize
from kdtui.engine.network import build_student, network_kind
from kdtui.engine.torch_file import shortened
from kdtui.errors import CheckpointError, TeacherError
from kdtui.profile import NetworkTable, Profile
from kdtui.profile.base import TaskName
from kdtui.profile.network_tables import HIERARCHICAL_CHANNELS, network_kinds
from kdtui.profile.tables import Teacher
from kdtui.store.files import aside, reading, sha256_of
from kdtui.store.run import write_atomically
from kdtui.store.values import fits, parse_json

_HIERARCHICAL_CLASSES = 3
_BINARY_CLASSES = 2


@dataclass(frozen=True)
class Hints:
    """Hints of the command that loads the network.

    Attributes:
        task: For four output channels in a hierarchical run.
        names: For class names that differ from those of the run.
    """

    task: str = "if its four channels are background | person and target | other: --set teacher.task=hierarchical"
    names: str = (
        "if only the names differ, give its classes in the order of its output: --set 'teacher.classes=[\"NAME\", …]'"
    )


_TEACHING = Hints()


@dataclass(frozen=True)
class TeacherReport:
    """Contents of a checkpoint.

    Attributes:
        classes: Number of classes of the task: 3 for hierarchical, 2 for one channel, otherwise one per channel.
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
    path: str | Path, *, task: str | None = None, architecture: str | None = None, encoder: str | None = None
) -> TeacherReport:
    """Describe the contents of a checkpoint; no code in it is executed.

    Args:
        path: A file, a ``save_pretrained`` folder or a run folder.
        task: Task of four output channels, for a file that kdtui did not write.
        architecture: Architecture, if the keys leave it open.
        encoder: Encoder, if the shapes leave it open.

    Raises:
        CheckpointError: Not readable, or not a network of segmentation-models-pytorch.
        TeacherError: The network cannot be identified without the arguments.
    """
    _, report = _open(path, task=task, architecture=architecture, encoder=encoder)
    return report


def load_teacher(
    path: str | Path,
    *,
    teacher: Teacher,
    task: TaskName,
    classes: int,
    names: Sequence[str] = (),
    hints: Hints = _TEACHING,
) -> tuple[nn.Module, TeacherReport]:
    """Load the network of a checkpoint, in eval mode and frozen, if it matches the run.

    If the network has the same classes in another order, its output channels are permuted to the order of ``names``;
    see :func:`reordered`.

    Args:
        path: A file, a ``save_pretrained`` folder or a run folder.
        teacher: The profile's settings for it.
        task: The run's task.
        classes: Number of classes of the run.
        names: Their names in the run's order; by default the file's names are not compared.
        hints: Hints of the calling command.

    Raises:
        CheckpointError: Not readable, or not a network of segmentation-models-pytorch.
        TeacherError: Its weights do not match, or task or classes differ from the run's.
    """
    network, report = _open(
        path, task=teacher.task, architecture=teacher.architecture, encoder=teacher.encoder, names=teacher.classes
    )
    if report.task != task or report.classes != classes:
        raise _other_classes(report, task, classes, hints.task)
    if names and report.class_names:
        order = class_order(report.class_names, names)
        if order is None:
            raise _other_names(report, names, hints.names)
        if order != list(range(len(names))):
            _reorder(network, report, names, order)
    if report.in_channels != RGB:
        raise TeacherError(
            "this teacher does not take RGB images",
            where=report.path,
            found=f"{report.in_channels} input channels",
            allowed=f"{RGB} input channels",
        )
    broken = [key for key, value in network.state_dict().items() if not torch.isfinite(value).all()]
    if broken:
        raise TeacherError(
            "some weights of this teacher are not finite: its training diverged",
            where=report.path,
            found=f"{len(broken)} tensors: {', '.join(broken[:3])}",
            allowed="finite weights",
            hint="use an earlier checkpoint",
        )
    table = _other_kind(report.metadata, report.path)
    if table is not None:
        network = AnySize(network, stride=network_kind(table).stride)
    elif network.requires_divisible_input_shape:
        network = AnySize(network, stride=int(network.encoder.output_stride))  # type: ignore[union-attr, arg-type]
    return network.eval().requires_grad_(False), report


def reordered(report: TeacherReport, names: Sequence[str]) -> str | None:
    """A note if :func:`load_teacher` permuted the output channels; otherwise None.

    Args:
        report: Report of the file.
        names: The run's classes in order.
    """
    order = class_order(report.class_names, names) if names and report.class_names else None
    if order is None or order == list(range(len(names))):
        return None
    return (
        "the checkpoint has the same classes in another order; its output channels were reordered by name: "
        f"{listed(report.class_names)} -> {listed(names)}"
    )


def _reorder(network: nn.Module, report: TeacherReport, names: Sequence[str], order: list[int]) -> None:
    """Permute the output channels of ``network`` so that class ``i`` is the file's class ``order[i]``."""
    channels = order
    if report.task == "hierarchical":
        if order[0] != 0:
            # The first two channels decide between background and person, so the background cannot be permuted.
            raise TeacherError(
                "the background class of this network differs from that of the data",
                where=report.path,
                found=listed(report.class_names),
                allowed=f"{listed(names)}; the last two in any order",
                hint="use a checkpoint with the same classes: kdtui teachers",
            )
        channels = [0, 1, *(1 + channel for channel in order[1:])]
    head = getattr(network, "segmentation_head", None)
    if head is None:
        raise TeacherError(
            "this network has the classes of the data in another order",
            where=report.path,
            found=listed(report.class_names),
            allowed=f"{listed(names)}: only networks of smp are reordered",
        )
    last = [module for module in head.modules() if isinstance(module, nn.Conv2d)][-1]
    for tensor in (last.weight, last.bias):
        if tensor is not None:
            # One channel is the logit of the second of two classes.
            tensor.data = -tensor.data if report.out_channels == 1 else tensor.data[channels].clone()


def _open(
    path: str | Path,
    *,
    task: str | None,
    architecture: str | None,
    encoder: str | None,
    names: Sequence[str] | None = None,
) -> tuple[nn.Module, TeacherReport]:
    contents = open_checkpoint(path)
    table = _other_kind(contents.metadata, contents.file)
    if table is not None:
        return _open_other_kind(contents, table, names)
    identity = identify(contents, architecture=architecture, encoder=encoder)
    decided, classes = _task(contents, identity.decoder.out_channels, task)
    counts = _count(identity)
    network = identity.network
    network.load_state_dict(as_tensors(identity.state))
    facts = {
        "architecture": identity.decoder.architecture,
        "encoder": identity.encoder,
        "encoder_depth": identity.depth,
        "decoder_channels": identity.decoder.channels,
        "out_channels": identity.decoder.out_channels,
        "in_channels": identity.in_channels,
    }
    return network, _report(contents, facts, counts, decided, classes, names)


def _report(
    contents: Contents,
    facts: Mapping[str, Any],
    counts: models.Parameters,
    task: TaskName,
    classes: int,
    names: Sequence[str] | None,
) -> TeacherReport:
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
        **facts,
        classes=classes,
        task=task,
        parameters=counts.stored,
        parameters_used=counts.used,
        container=contents.container,
        prefix=contents.prefix,
        candidates=list(contents.candidates),
        places=contents.places,
        class_names=list(names or next((found for found in contents.names if len(found) == classes), ())),
        ignored_keys=list(contents.ignored),
        metadata=contents.metadata,
        bytes=sum(part.stat().st_size for part in contents.parts),
        sha256=_sha256(contents.parts),
    )


def _other_kind(metadata: Mapping[str, Any], path: object) -> NetworkTable | None:
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


def _open_other_kind(
    contents: Contents, table: NetworkTable, names: Sequence[str] | None
) -> tuple[nn.Module, TeacherReport]:
    """The network of a checkpoint of kdtui as its own kind builds it."""
    task: TaskName = "hierarchical" if contents.metadata.get("task") == "hierarchical" else "semantic"
    classes = len(contents.names[0]) if contents.names else 0
    network = build_student(table, task=task, classes=classes, download=False)
    load_student(network, contents.state, where=contents.file)
    facts = network_kind(table).facts() | {"out_channels": table.out_channels(task, classes), "in_channels": RGB}
    return network, _report(contents, facts, models.count_parameters(network), task, classes, names)


def _sha256(parts: Sequence[Path]) -> str:
    """SHA-256 of a file, or of the hashes of several files."""
    hashes = [sha256_of(part) for part in parts]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def _count(identity: NetworkIdentity) -> models.Parameters:
    """Stored and used parameters; the unused ones are found by a backward pass with an RGB image."""
    rgb = identity.network if identity.in_channels == RGB else identity.rebuilt(in_channels=RGB)
    models.freeze_unused(rgb)
    counts = models.count_parameters(rgb)
    stored = sum(parameter.numel() for parameter in identity.network.parameters())
    return models.Parameters(stored=stored, used=stored - counts.stored + counts.used)


def _task(contents: Contents, channels: int, given: str | None) -> tuple[TaskName, int]:
    """The task of the network and its number of classes."""
    recorded = contents.metadata.get("task") if contents.metadata.get("format") == FORMAT else None
    task = given or recorded or "semantic"
    if task == "semantic":
        return "semantic", _BINARY_CLASSES if channels == 1 else channels
    if task != "hierarchical" or channels != HIERARCHICAL_CHANNELS:
        raise TeacherError(
            "this network does not match the task",
            where=contents.file,
            found=f"{task}, {channels} output channels",
            allowed=f"semantic, or hierarchical with {HIERARCHICAL_CHANNELS} output channels",
        )
    return "hierarchical", _HIERARCHICAL_CLASSES


def _other_names(report: TeacherReport, names: Sequence[str], hint: str) -> CheckpointError:
    missing = [name for name in names if name not in report.class_names]
    return TeacherError(
        "the class names of this network differ from those of the data",
        where=report.path,
        found=listed(report.class_names),
        allowed=f"{listed(names)}, in any order" + (f"; not in the file: {listed(missing)}" if missing else ""),
        hint=hint,
    )


def _other_classes(report: TeacherReport, task: TaskName, classes: int, task_hint: str) -> CheckpointError:
    hint = "use a teacher with the same classes: kdtui teachers"
    if task == "hierarchical" and report.out_channels == HIERARCHICAL_CHANNELS:
        hint = task_hint
    return TeacherError(
        "the classes of this teacher differ from those of the run",
        where=report.path,
        found=f"{report.task}, {report.classes} classes ({report.out_channels} output channels)",
        allowed=f"{task}, {classes} classes",
        hint=hint,
    )


_MOST_BYTES = 2**20


class TeacherCache:
    """Cached evaluation of one teacher on one split, for one rank.

    Args:
        folder: ``runs/.cache/teachers``.
        teacher_sha256: Hash of the teacher's file.
        fingerprint: Hash of the data, see :meth:`kdtui.profile.data_tables.DataTable.fingerprint`.
        precision: Precision of the run, as predictions differ slightly between precisions.
        rank: This rank, which caches the predictions of its share.
        world_size: Number of ranks.
    """

    def __init__(
        self, folder: Path, *, teacher_sha256: str, fingerprint: str, precision: str, rank: int, world_size: int
    ) -> None:
        key = hashlib.sha256(f"1|{teacher_sha256}|{fingerprint}|{precision}".encode()).hexdigest()[:24]
        self._scores = folder / f"{key}.of{world_size}.json"
        self._predictions = folder / f"{key}.{rank}of{world_size}.npy"

    def read(self, shape: tuple[int, int, int]) -> tuple[Scores, np.ndarray] | None:
        """Read the cache; None if it is missing, incomplete, unreadable or not written by :meth:`write`.

        Args:
            shape: [N,H,W] of this rank's predictions.
        """
        try:
            with reading(self._scores) as file:
                body = parse_json(file.read(_MOST_BYTES))
            predictions = np.load(self._predictions, mmap_mode="r", allow_pickle=False)
        except (OSError, EOFError, ValueError):
            return None
        names = {f.name for f in fields(Scores)}
        usable = isinstance(body, dict) and body.keys() == names and fits(Scores, body)
        if not usable or predictions.dtype != np.uint8 or predictions.shape != shape:
            return None
        return Scores(**body), predictions

    def write(
        self, shape: tuple[int, int, int], ask: Callable[[np.ndarray], Scores], *, last: bool
    ) -> tuple[Scores, np.ndarray]:
        """Evaluate the teacher and cache the result, if the run store has space and is writable.

        Args:
            shape: [N,H,W] of this rank's predictions.
            ask: Evaluates the teacher: fills the array and returns the scores over all ranks.
            last: Whether this rank writes the scores, which make the entry valid.
        """
        written = aside(self._predictions)
        try:
            predictions = self._file(written, shape)
        except OSError as error:
            return self._without_file(shape, ask, error)
        try:
            scores = ask(predictions)
            if isinstance(predictions, np.memmap):
                predictions.flush()
            written.replace(self._predictions)
        finally:
            written.unlink(missing_ok=True)
        if last:
            write_atomically(self._scores, json.dumps(asdict(scores)).encode())
        return scores, predictions

    def _file(self, path: Path, shape: tuple[int, int, int]) -> np.ndarray:
        """A memory-mapped file with allocated blocks, so that a full disk raises here instead of SIGBUS later."""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if 0 in shape:  # a rank without samples: an empty file cannot be mapped
                with path.open("wb") as file:
                    np.save(file, np.zeros(shape, np.uint8))
                return np.zeros(shape, np.uint8)
            predictions = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
            with path.open("rb+") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return predictions

    def _without_file(
        self, shape: tuple[int, int, int], ask: Callable[[np.ndarray], Scores], error: OSError
    ) -> tuple[Scores, np.ndarray]:
        message = f"the teacher's predictions are not cached: {self._predictions.parent}: {error.strerror}"
        print(message, file=sys.stderr)
        predictions = np.zeros(shape, np.uint8)
        return ask(predictions), predictions


def unsure_pixel(logits: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """Class probabilities of the pixel at the 75th percentile of the entropy.

    The effect of a temperature is visible where the teacher is not certain. Six significant digits are kept, also of
    tiny values, which a high temperature enlarges.

    Args:
        logits: f32 [C,H,W] of one image.
        classes: The C class names.
    """
    probabilities = logits.float().flatten(1).softmax(dim=0)
    entropies = torch.special.entr(probabilities).sum(dim=0)
    at = int(entropies.argsort()[int(0.75 * (len(entropies) - 1))])
    return {name: float(f"{value:.6g}") for name, value in zip(classes, probabilities[:, at].tolist(), strict=True)}


def no_teacher() -> TeacherError:
    """Error for distillation without a teacher."""
    return TeacherError(
        "distillation is enabled, but there is no teacher",
        where="teacher.checkpoint",
        allowed="a checkpoint, or distillation.enabled = false",
        hint="`kdtui train PROFILE --teacher-checkpoint FILE|RUN`; `kdtui teachers` lists checkpoints",
    )


@dataclass(frozen=True)
class LoadedTeacher:
    """The network of a profile's teacher.

    Attributes:
        network: In eval mode and frozen.
        report: Contents of the checkpoint.
        note: A note if its classes were reordered; otherwise None.
    """

    network: nn.Module
    report: TeacherReport
    note: str | None


def teacher_of(profile: Profile, names: Sequence[str]) -> LoadedTeacher | None:
    """Load the profile's teacher; None without distillation.

    Args:
        profile: Its ``teacher`` and ``distillation`` are used.
        names: The run's classes in order.

    Raises:
        CheckpointError: Not readable, or not a network of segmentation-models-pytorch.
        TeacherError: There is no teacher, or it does not match the run.
    """
    if not profile.distillation.enabled:
        return None
    path = profile.teacher.checkpoint
    if path is None:
        raise no_teacher()
    network, report = load_teacher(
        path, teacher=profile.teacher, task=profile.data.task, classes=len(names), names=names
    )
    check_teaching(network, profile)
    return LoadedTeacher(network, report, reordered(report, names))
