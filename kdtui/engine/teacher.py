"""The frozen teacher of a run: the network of a file, adapted to the run's images and classes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from kdtui.engine.adapted import Adapted
from kdtui.engine.class_map import class_groups, described_groups
from kdtui.engine.class_names import class_order, listed
from kdtui.engine.data import PixelFormat, SegmentationDataset
from kdtui.engine.dry_run import check_teaching, padded_size
from kdtui.engine.ensemble import Ensemble
from kdtui.engine.handover import made_once, state_of_files
from kdtui.engine.identify import RGB
from kdtui.engine.models import AnySize, all_finite, set_input_channels, unwrapped
from kdtui.engine.teacher_input import Conversion, convertible, default_format
from kdtui.engine.teacher_report import TeacherReport, open_teacher
from kdtui.errors import CheckpointError, TeacherError
from kdtui.profile import Profile
from kdtui.profile.base import TaskName
from kdtui.profile.find import expanded
from kdtui.profile.network_tables import HIERARCHICAL_CHANNELS
from kdtui.profile.tables import SingleTeacher


@dataclass(frozen=True)
class Hints:
    """Hints of the command that loads the network.

    Attributes:
        classes: For another number of classes.
        task: For four output channels in a hierarchical run.
        names: For class names that differ from those of the run.
    """

    classes: str = (
        "use a teacher with the same classes, or map its classes to those of the data: "
        "--set 'teacher.class_map={THEIRS=\"NAME\", …}'"
    )
    task: str = "if its four channels are background | person and target | other: --set teacher.task=hierarchical"
    names: str = (
        "if only the names differ, give its classes in the order of its output: --set 'teacher.classes=[\"NAME\", …]'"
    )


_TEACHING = Hints()


def load_teacher(
    path: str | Path,
    *,
    teacher: SingleTeacher,
    task: TaskName,
    classes: int,
    names: Sequence[str] = (),
    pixels: PixelFormat | None = None,
    hints: Hints = _TEACHING,
) -> tuple[nn.Module, TeacherReport]:
    """Load the network of a checkpoint, in eval mode and frozen, if it matches the run or can be adapted to it.

    If the network has the same classes in another order, its output is permuted to the order of ``names``; see
    :func:`reordered`. Other differences that the settings of the teacher bridge, see :class:`Adapted`, are described by
    :func:`notes_of`.

    Args:
        path: A file, a ``save_pretrained`` folder or a run folder.
        teacher: The profile's settings for it.
        task: The run's task.
        classes: Number of classes of the run.
        names: Their names in the run's order; by default the file's names are not compared.
        pixels: The run's images; by default they are RGB images as the network takes them.
        hints: Hints of the calling command.

    Raises:
        CheckpointError: Not readable, or not a network of a known family.
        TeacherError: Its weights do not match, or its task, classes or input differ from the run's.
    """
    found, report = open_teacher(path, teacher)
    classes_of_run = _Classes(task, classes, names)
    groups, channels, notes = _matched_classes(report, teacher, classes_of_run, hints)
    convert, note = _conversion(report, teacher, pixels)
    _check_finite(found.network, report)
    notes = [*notes, *note, *found.notes]
    network = found.network
    if found.stride is not None:
        network = AnySize(network, stride=found.stride)
    scale = teacher.scale or 1.0
    if scale != 1:
        notes.append(f"the teacher sees images at {scale:g} times their size")
    if getattr(unwrapped(network), "extra_inputs", ()) and (scale != 1 or groups is not None or channels is not None):
        raise TeacherError(
            "this teacher reads boxes, so neither the size of the images nor its classes can be changed",
            where=report.path,
            found=f"scale {scale:g}" if scale != 1 else listed(report.class_names),
            allowed=f"scale 1; {listed(names)}",
            hint="leave out teacher.scale and teacher.class_map",
        )
    if convert is not None or scale != 1 or groups is not None or channels is not None or notes:
        network = Adapted(
            network,
            task=report.task,
            convert=convert,
            scale=scale,
            groups=groups,
            channels=channels,
            notes=notes,
        )
    set_input_channels(network, report.in_channels if pixels is None else pixels.channels)
    return network.eval().requires_grad_(False), report


def notes_of(network: nn.Module) -> tuple[str, ...]:
    """How a network of :func:`load_teacher` was adapted to the run, one text for each change."""
    return network.notes if isinstance(network, Adapted) else ()


@dataclass(frozen=True)
class _Classes:
    """Task and classes of a run; the names may be unknown."""

    task: TaskName
    count: int
    names: Sequence[str]


def _matched_classes(
    report: TeacherReport, teacher: SingleTeacher, run: _Classes, hints: Hints
) -> tuple[list[list[int]] | None, list[int] | None, list[str]]:
    """Groups of the network's classes, a permutation of its raw output, and notes; see :class:`Adapted`."""
    if teacher.class_map is not None and run.names:
        if run.task == "hierarchical":
            raise TeacherError(
                "classes can be mapped for semantic tasks only",
                where="teacher.class_map",
                found="a hierarchical task",
                hint="leave out teacher.class_map",
            )
        groups = class_groups(teacher.class_map, report.class_names, report.classes, run.names, where=report.path)
        return groups, None, [described_groups(groups, report.class_names, run.names)]
    if report.task != run.task or report.classes != run.count:
        raise _other_classes(report, run, hints)
    if not (run.names and report.class_names):
        return None, None, []
    order = class_order(report.class_names, run.names)
    if order is None:
        raise _other_names(report, run.names, hints.names)
    if order == list(range(run.count)):
        return None, None, []
    if report.task == "semantic":
        return [[place] for place in order], None, []
    if order[0] != 0:
        # The first two channels decide between background and person, so the background cannot be permuted.
        raise TeacherError(
            "the background class of this network differs from that of the data",
            where=report.path,
            found=listed(report.class_names),
            allowed=f"{listed(run.names)}; the last two in any order",
            hint="use a checkpoint with the same classes: kdtui teachers",
        )
    return None, [0, 1, *(1 + channel for channel in order[1:])], []


def _conversion(
    report: TeacherReport, teacher: SingleTeacher, pixels: PixelFormat | None
) -> tuple[Conversion | None, list[str]]:
    """The conversion of the run's images to the network's input, with a note; None if they are equal."""
    channels = report.in_channels
    if not convertible(RGB if pixels is None else pixels.channels, channels) or (pixels is None and channels != RGB):
        raise TeacherError(
            "this network takes images with another number of channels than the data have",
            where=report.path,
            found=f"{channels} input channels",
            allowed=f"{RGB if pixels is None else pixels.channels} input channels"
            + ("" if pixels is None else "; grey images are converted to RGB, and RGB images to grey"),
        )
    if pixels is None:
        return None, []
    target = _input(report, teacher, pixels)
    conversion = Conversion(pixels, target)
    return (None, []) if conversion.is_identity else (conversion, [f"the teacher sees images as {target.described()}"])


def _input(report: TeacherReport, teacher: SingleTeacher, pixels: PixelFormat) -> PixelFormat:
    """The images that the network takes: as set, as in the file, or as those of the run."""
    known = default_format(pixels, report.in_channels)
    if report.mean is not None and report.std is not None:
        known = PixelFormat(tuple(report.mean), tuple(report.std), bool(report.bgr))
    if teacher.bgr and report.in_channels != RGB:
        raise TeacherError(
            "only networks with three input channels can take BGR images",
            where="teacher.bgr",
            found=f"{report.in_channels} input channels",
            hint="leave out teacher.bgr",
        )
    return PixelFormat(
        _per_channel(teacher.mean, "mean", known.mean, report),
        _per_channel(teacher.std, "std", known.std, report),
        known.bgr if teacher.bgr is None else teacher.bgr,
    )


def _per_channel(
    setting: tuple[float, ...] | None, key: str, known: tuple[float, ...], report: TeacherReport
) -> tuple[float, ...]:
    """A setting with one value per channel, or one for all of them."""
    if setting is None:
        return known
    if len(setting) not in (1, report.in_channels):
        raise TeacherError(
            f"teacher.{key} does not match the input of this network",
            where=f"teacher.{key}",
            found=f"{len(setting)} values",
            allowed=f"{report.in_channels} values, one per channel, or one for all channels",
            hint=f"--set 'teacher.{key}=[…]'",
        )
    return setting * report.in_channels if len(setting) == 1 else setting


def _check_finite(network: nn.Module, report: TeacherReport) -> None:
    broken = [key for key, value in network.state_dict().items() if not all_finite(value)]
    if broken:
        raise TeacherError(
            "some weights of this teacher are not finite: its training diverged",
            where=report.path,
            found=f"{len(broken)} tensors: {', '.join(broken[:3])}",
            allowed="finite weights",
            hint="use an earlier checkpoint",
        )


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


def _other_names(report: TeacherReport, names: Sequence[str], hint: str) -> CheckpointError:
    missing = [name for name in names if name not in report.class_names]
    return TeacherError(
        "the class names of this network differ from those of the data",
        where=report.path,
        found=listed(report.class_names),
        allowed=f"{listed(names)}, in any order" + (f"; not in the file: {listed(missing)}" if missing else ""),
        hint=hint,
    )


def _other_classes(report: TeacherReport, run: _Classes, hints: Hints) -> CheckpointError:
    hint = hints.classes
    if run.task == "hierarchical" and report.out_channels == HIERARCHICAL_CHANNELS:
        hint = hints.task
    return TeacherError(
        "the classes of this teacher differ from those of the run",
        where=report.path,
        found=f"{report.task}, {report.classes} classes ({report.out_channels} output channels)",
        allowed=f"{run.task}, {run.count} classes",
        hint=hint,
    )


def no_teacher() -> TeacherError:
    """Error for distillation without a teacher."""
    return TeacherError(
        "distillation is enabled, but there is no teacher",
        where="teacher.checkpoint",
        allowed="a checkpoint, or distillation.enabled = false",
        hint="`kdtui train PROFILE --teacher FILE|RUN`; `kdtui teachers` lists checkpoints",
    )


@dataclass(frozen=True)
class LoadedTeacher:
    """The network of a profile's teacher, or of all its teachers.

    Attributes:
        network: In eval mode and frozen.
        report: Contents of the checkpoint.
        pixels: The images that it takes.
        note: How it was adapted to the run; None if it was not.
        settings: Its table in the profile.
        members: The teachers of an ensemble; then ``report`` has their sums and ``pixels`` are those of the first.
    """

    network: nn.Module
    report: TeacherReport
    pixels: PixelFormat
    note: str | None
    settings: SingleTeacher
    members: tuple[LoadedTeacher, ...] = ()


def teacher_of(profile: Profile, dataset: SegmentationDataset) -> LoadedTeacher | None:
    """Load the profile's teachers; None without distillation. A training has those that its check loaded.

    Args:
        profile: Its ``teacher`` and ``distillation`` are used.
        dataset: A split of the run's data, for its classes and its images.

    Raises:
        CheckpointError: Not readable, or not a network of a known family.
        TeacherError: There is no teacher, or one does not match the run.
    """
    if not profile.distillation.enabled:
        return None

    def made_from() -> object:
        files = [state_of_files(expanded(one.checkpoint or "")) for one in profile.teacher.members]
        own = (profile.data.task, dataset.classes, dataset.pixels, padded_size(profile))
        return profile.teacher.model_dump(), own, files

    return made_once("teacher", made_from, lambda: _all_loaded(profile, dataset))


def _all_loaded(profile: Profile, dataset: SegmentationDataset) -> LoadedTeacher:
    members = tuple(_loaded(one, profile, dataset) for one in profile.teacher.members)
    return members[0] if len(members) == 1 else _together(members)


def _loaded(settings: SingleTeacher, profile: Profile, dataset: SegmentationDataset) -> LoadedTeacher:
    if settings.checkpoint is None:
        raise no_teacher()
    names, pixels = dataset.classes, dataset.pixels
    network, report = load_teacher(
        settings.checkpoint,
        teacher=settings,
        task=profile.data.task,
        classes=len(names),
        names=names,
        pixels=pixels,
    )
    check_teaching(network, profile, settings.checkpoint)
    mapped = settings.class_map is not None
    notes = [None if mapped else reordered(report, names), *notes_of(network)]
    taken = _input(report, settings, pixels)
    return LoadedTeacher(network, report, taken, "\n".join(filter(None, notes)) or None, settings)


def _together(members: tuple[LoadedTeacher, ...]) -> LoadedTeacher:
    """Several teachers as one."""
    first, reports = members[0], [one.report for one in members]
    report = replace(
        first.report,
        parameters=sum(one.parameters for one in reports),
        parameters_used=sum(one.parameters_used for one in reports),
        architecture=" + ".join(one.architecture for one in reports),
        encoder=" + ".join(one.encoder for one in reports),
        sha256=hashlib.sha256(" ".join(one.sha256 for one in reports).encode()).hexdigest(),
    )
    notes = [
        f"teacher {number}: {line}"
        for number, one in enumerate(members, 1)
        if one.note is not None
        for line in one.note.splitlines()
    ]
    network = Ensemble([one.network for one in members], [one.settings.weight or 1.0 for one in members]).eval()
    return LoadedTeacher(network, report, first.pixels, "\n".join(notes) or None, first.settings, members)


def identity(teacher: LoadedTeacher, *, weighted: bool = True) -> str:
    """What changes the predictions of a teacher's file, for keys of caches.

    Args:
        teacher: The teacher.
        weighted: Whether its weight among several teachers matters.
    """
    report = teacher.report
    keys = {"class_map", "mean", "std", "bgr", "scale", "output"} | ({"weight"} if weighted else set())
    changed = teacher.settings.model_dump(include=keys, exclude_none=True)
    # A file may match several networks: ``tu-X`` and ``tu-tf_X`` have the same tensors.
    text = f"{report.architecture} {report.encoder}"
    text += "" if teacher.note is None else f", classes {report.class_names}"
    return text + (f", {changed}" if changed else "")
