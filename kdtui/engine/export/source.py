"""The network to export, from a run or an external checkpoint, with data for verification and calibration."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdtui.engine import checkpoint as checkpoints
from kdtui.engine import onnx_teacher
from kdtui.engine.class_names import class_order, listed
from kdtui.engine.data import (
    IGNORE_INDEX,
    Batch,
    Batches,
    PixelFormat,
    SegmentationDataset,
    build_dataset,
    eval_loader,
    pixel_format,
)
from kdtui.engine.evaluate import Evaluation
from kdtui.engine.export.deployed import RGB_PIXELS, Deployed, InputSize
from kdtui.engine.models import AnySize
from kdtui.engine.network import GraphInput, NetworkKind, build_student, check_inputs, network_kind
from kdtui.engine.teacher import load_teacher
from kdtui.engine.teacher_report import inspect, other_kind
from kdtui.errors import CheckpointError, DataError, ExportError
from kdtui.export_options import ExportOptions, check_classes
from kdtui.profile import Profile, SyntheticData, Teacher
from kdtui.profile.base import TaskName
from kdtui.store.files import sha256_of
from kdtui.store.run import Run
from kdtui.text import counted

_FOREIGN_STRIDE = 32
_FOREIGN_SIZE = InputSize(256, 256)
SAMPLES = 4
"""Number of different images in batches of :meth:`ExportNetwork.samples`."""


class Relabelled:
    """Batches whose labels are mapped to the classes of the network, which may be in another order.

    Args:
        batches: Batches of the data.
        evaluation: How they are given to the network.
        order: The network's class for each class of the data.
    """

    def __init__(self, batches: Batches, evaluation: Evaluation, order: list[int]) -> None:
        self.evaluation = evaluation
        self.images = sum(map(len, batches.plan))
        self._batches = batches
        self._same = order == list(range(len(order)))
        self._labels = torch.full((IGNORE_INDEX + 1,), IGNORE_INDEX)
        self._labels[: len(order)] = torch.tensor(order)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches:
            yield batch if self._same else self._relabelled(batch)

    def _relabelled(self, batch: Batch) -> Batch:
        truths = batch.truths
        if truths is not None:
            truths = tuple(self._labels[truth.long()].to(torch.uint8) for truth in truths)
        return batch._replace(masks=self._labels[batch.masks], truths=truths)


@dataclass(frozen=True)
class ExportNetwork:
    """A network to export.

    Attributes:
        network: In eval mode, on the CPU, in fp32.
        stride: Height and width of its input must be divisible by this.
        size: Size of the training images, padded to the stride.
        profile: Profile with its data; None for an external checkpoint without data.
        facts: Entries for ``metadata_props``.
        out_channels: Channels of its raw output.
        kind: Its kind, which declares the inputs and outputs of the graph; None for external networks of smp.
        pixels: Normalisation and channel order of its images.
        checkpoint: The file, if it belongs to a run; None for an external checkpoint.
    """

    network: nn.Module
    task: TaskName
    classes: tuple[str, ...]
    stride: int
    size: InputSize
    profile: Profile | None
    facts: dict[str, Any]
    out_channels: int
    kind: NetworkKind | None = None
    checkpoint: Path | None = None
    pixels: PixelFormat = RGB_PIXELS

    @property
    def evaluation_keys(self) -> dict[str, Any] | None:
        """Keys of ``[data]`` by which evaluations show pictures to the network; None without data."""
        if self.profile is None:
            return None
        keys = {"height", "width", "keep_aspect", "evaluation", "window", "overlap", "sample", "roi_padding"}
        data = self.profile.data
        written = data.model_dump(mode="json", include=keys, exclude_none=True)
        return written if data.evaluation_mode == "resize" else written | {"evaluation": data.evaluation_mode}

    @property
    def value_range(self) -> list[float] | None:
        """The values in image files that become black and white; None for 8-bit values."""
        values = getattr(self.profile.data, "value_range", None) if self.profile is not None else None
        return None if values is None else list(values)

    @property
    def inputs(self) -> tuple[GraphInput, ...]:
        """Inputs of the graph beside images."""
        return () if self.kind is None else self.kind.graph_inputs()

    def deployed(self, options: ExportOptions) -> Deployed:
        """The module to export."""
        outputs = () if self.kind is None else self.kind.graph_outputs(self.task, options)
        return Deployed(
            self.network,
            task=self.task,
            stride=self.stride,
            options=options,
            inputs=self.inputs,
            outputs=outputs,
            translations=() if self.kind is None else self.kind.translations(),
            pixels=self.pixels,
        ).eval()

    def validation(self) -> Relabelled | None:
        """The validation split in order; None without data."""
        if self.profile is None:
            return None
        dataset = self._split("val")
        batches = eval_loader(dataset, max(8, self.profile.training.batch_size), workers=0)
        return Relabelled(batches, Evaluation(dataset), self._order(dataset.classes))

    def note(self) -> str | None:
        """A note if the data have the classes in another order than the network; otherwise None.

        Raises:
            CheckpointError: The data have other classes.
        """
        if self.profile is None:
            return None
        theirs = self._split("val").classes
        if self._order(theirs) == list(range(len(theirs))):
            return None
        return (
            "the data have the classes of the network in another order; labels were matched by name: "
            f"{listed(theirs)} -> {listed(self.classes)}"
        )

    def _order(self, theirs: tuple[str, ...]) -> list[int]:
        """The network's class for each class of the data."""
        order = class_order(self.classes, theirs)
        if order is None:
            raise CheckpointError(
                "the classes of the data differ from those of this network",
                where=self.checkpoint or (self.profile and self.profile.name),
                found=listed(theirs),
                allowed=f"{listed(self.classes)}, in any order",
                hint="give its class names in channel order: `kdtui export FILE --classes NAME,NAME,…`"
                if self.checkpoint is None
                else "restore the classes that the run was trained with",
            )
        return order

    def calibration(self, count: int, *, batch: int = 1) -> Iterator[Batch]:
        """Training samples, spread evenly over the split, without augmentation; each fills a batch alone.

        Args:
            count: Number of samples, at most all.
            batch: How often a sample is repeated in its batch.

        Raises:
            ExportError: There is no training split.
        """
        try:
            if self.profile is None:
                raise DataError(
                    "this checkpoint has no data", hint="add a profile with data: `kdtui export FILE --profile NAME`"
                )
            dataset = self._split("train")
        except DataError as error:
            raise ExportError(
                "int8 needs training images for calibration",
                where=error.where,
                found=error.what,
                allowed="a run whose training split still exists, or a checkpoint with --profile NAME",
                hint=error.hint or "fp32 and fp16 need none: `kdtui export RUN --precision fp32`",
            ) from error
        wanted = min(count, len(dataset))
        for place in range(wanted):
            yield dataset.collate([dataset[place * len(dataset) // wanted, 0]] * batch)

    def samples(self) -> Callable[[int], Batch]:
        """Makes batches of a few images of the network's size, from the validation split or synthetic ones."""
        if self.profile is not None:
            dataset = self._split("val")
        else:
            data = SyntheticData(height=self.size.height, width=self.size.width)
            dataset = build_dataset(data, "val", stride=self.stride)
        few = [dataset[place, 0] for place in range(min(SAMPLES, len(dataset)))]

        def batch(count: int) -> Batch:
            made = dataset.collate([few[place % len(few)] for place in range(count)])
            if self.profile is not None:
                return made
            # Synthetic images have three channels.
            planes = [channel % made.images.shape[1] for channel in range(self.pixels.channels)]
            made = made._replace(images=made.images[:, planes])
            return made._replace(extras={entry.name: entry.example(count) for entry in self.inputs})

        return batch

    def _split(self, name: str) -> SegmentationDataset:
        assert self.profile is not None
        data = self.profile.data.model_copy(update={"augmentation": "none"})
        with _mendable(_OTHER_PROFILE if self.checkpoint is None else f"kdtui export {self.facts['run']} "):
            return build_dataset(data, name, stride=self.stride, seed=self.profile.seed)


def of_run(run: Run, path: Path, profile: Profile | None = None) -> ExportNetwork:
    """Load the student of a run strictly; adapters are not part of it.

    Args:
        run: The run.
        path: One of its checkpoints.
        profile: The run's profile with new locations of its data.

    Raises:
        CheckpointError: Not readable, not of this run's student, or with weights that are not finite.
    """
    profile = profile or run.profile()
    content = checkpoints.load(path)
    if content.get("format") != checkpoints.FORMAT:
        raise CheckpointError("not a checkpoint of kdtui", where=path, hint=f"kdtui inspect {path}")
    student_state, names = content.get("student"), content.get("classes")
    if not isinstance(student_state, dict) or not isinstance(names, list | tuple) or not names:
        raise CheckpointError(
            "this checkpoint has no student or no class names", where=path, hint=f"kdtui inspect {path}"
        )
    classes = tuple(str(name) for name in names)
    network = build_student(
        profile.student,
        task=profile.data.task,
        classes=len(classes),
        channels=profile.data.image_channels,
        download=False,
    )
    checkpoints.load_student(network, student_state, where=path)
    _check_finite(network, path)
    manifest = run.manifest()
    distilled = profile.distillation.enabled
    kind = network_kind(profile.student)
    _check_inputs(kind, network)
    wanted = kind.stride
    return ExportNetwork(
        network=network.eval().requires_grad_(False),
        task=profile.data.task,
        classes=classes,
        stride=wanted,
        size=_padded(profile, wanted),
        profile=profile,
        facts={
            "run": run.id,
            **kind.facts(),
            "temperature": profile.distillation.temperature if distilled else None,
            "alpha": profile.distillation.alpha if distilled else None,
            "teacher_sha256": (manifest.teacher or {}).get("sha256"),
            "checkpoint_sha256": sha256_of(path),
        },
        out_channels=profile.student.out_channels(profile.data.task, len(classes)),
        kind=kind,
        checkpoint=path,
        pixels=pixel_format(profile.data),
    )


def of_checkpoint(
    path: Path, *, teacher: Teacher, classes: tuple[str, ...] = (), profile: Profile | None = None
) -> ExportNetwork:
    """Load the network of any checkpoint that ``inspect`` supports.

    Args:
        path: A file or a ``save_pretrained`` folder.
        teacher: Task, architecture and encoder, if the file leaves them open.
        classes: Class names; default those of the file, of the data, or ``class 0`` and so on.
        profile: Profile with data of these classes.

    Raises:
        CheckpointError: Not readable, not a network of segmentation-models-pytorch, or with other classes than given.
    """
    report = inspect(path, task=teacher.task, architecture=teacher.architecture, encoder=teacher.encoder)
    if report.family == onnx_teacher.FAMILY:
        raise CheckpointError(
            "an ONNX file has no PyTorch weights to export or measure",
            where=path,
            allowed="a checkpoint",
            hint="use the checkpoint that it was made from; `kdtui predict` and `kdtui evaluate` take ONNX files",
        )
    pixels = RGB_PIXELS if profile is None else pixel_format(profile.data)
    network, report = load_teacher(path, teacher=teacher, task=report.task, classes=report.classes, pixels=pixels)
    wanted = network.stride if isinstance(network, AnySize) else _FOREIGN_STRIDE
    plain = network.network if isinstance(network, AnySize) else network
    table = other_kind(report.metadata, report.path)
    kind = None if table is None else network_kind(table)
    if kind is not None:
        _check_inputs(kind, plain)
    names = classes or tuple(report.class_names)
    if profile is not None:
        with _mendable(_OTHER_PROFILE):
            dataset = build_dataset(profile.data, "val", stride=wanted, seed=profile.seed)
        names = names or dataset.classes
        check_inputs(plain, dataset)
        if profile.data.task != report.task or len(dataset.classes) != report.classes:
            raise _other_classes(path, f"{dataset.classes} of the profile", report.classes)
    if names and len(names) != report.classes:
        raise _other_classes(path, ", ".join(names), report.classes)
    check_classes(names, where="--classes" if classes else path)
    return ExportNetwork(
        network=plain.eval(),
        task=report.task,
        classes=names or tuple(f"class {number}" for number in range(report.classes)),
        stride=wanted,
        size=_FOREIGN_SIZE if profile is None else _padded(profile, wanted),
        profile=profile,
        facts={
            "architecture": report.architecture,
            "encoder": report.encoder,
            "encoder_depth": report.encoder_depth,
            "decoder_channels": report.decoder_channels and json.dumps(report.decoder_channels),
            "checkpoint_sha256": report.sha256,
        },
        out_channels=report.out_channels,
        kind=kind,
        pixels=pixels,
    )


_OTHER_PROFILE = "choose the data with --profile NAME; kdtui profiles lists the profiles"


@contextlib.contextmanager
def _mendable(hint: str) -> Iterator[None]:
    """Adapt the hints of data errors to the export.

    Args:
        hint: The complete hint, or, if it ends in a space, the command to which the option of the error belongs.
    """
    try:
        yield
    except DataError as error:
        if error.hint is not None and error.hint.startswith("--set "):
            error.hint = hint + error.hint if hint.endswith(" ") else hint
        raise


def _check_inputs(kind: NetworkKind, network: nn.Module) -> None:
    """Refuse a network that reads an input which its kind does not declare for export."""
    declared = [entry.name for entry in kind.graph_inputs()]
    missing = [name for name in getattr(network, "extra_inputs", ()) if name not in declared]
    if missing:
        raise ExportError(
            "this kind of network does not declare an input that it reads, so it cannot be exported",
            where=f"{kind.table.implementation}, graph_inputs",
            found=missing[0],
            allowed=", ".join(["images", *declared]),
        )


def _padded(profile: Profile, wanted: int) -> InputSize:
    height, width = (-(-side // wanted) * wanted for side in (profile.data.height, profile.data.width))
    return InputSize(height, width)


def _check_finite(network: nn.Module, path: Path) -> None:
    broken = [key for key, value in network.state_dict().items() if not torch.isfinite(value).all()]
    if broken:
        raise CheckpointError(
            "some weights are not finite: the training diverged",
            where=path,
            found=f"{len(broken)} tensors: {', '.join(broken[:3])}",
            allowed="finite weights",
            hint="use an earlier checkpoint: `kdtui export RUN --checkpoint EPOCH`",
        )


def _other_classes(path: Path, named: str, found: int) -> CheckpointError:
    return CheckpointError(
        "the number of classes does not match this network",
        where=path,
        found=f"{named}",
        allowed=f"{counted(found, 'name')}",
        hint="give the names in channel order: `kdtui export FILE --classes NAME,NAME,…`",
    )
