"""Data read from the files of a run: profile, sizes, costs and measurements. Read in a thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kdtui.errors import KdtuiError, StoreError
from kdtui.launch.teachers import owner
from kdtui.store.checkpoint_files import checkpoint_sizes, disk_usage
from kdtui.store.files import read_file
from kdtui.store.lineage import lineage
from kdtui.store.run import Run
from kdtui.store.store import RunStore
from kdtui.tui.views.compression import Measurements, NetworkSize, read_measured

_MOST_CLASSES = 4096


@dataclass(frozen=True)
class Snapshot:
    """What summary and history contain about the two networks, needed to read the files.

    Attributes:
        parameters: Number of parameters of the student, counted by the engine.
        checkpoint: Checkpoint of the teacher; None for a run without a teacher.
        teacher_parameters: Number of parameters of the teacher, counted by the engine.
        teacher: Architecture and encoder of the teacher, detected by the engine.
    """

    parameters: int | None = None
    checkpoint: str | None = None
    teacher_parameters: int | None = None
    teacher: tuple[str, str] | None = None


@dataclass(frozen=True)
class RunFiles:
    """The data.

    Attributes:
        profile: ``profile.toml`` as tables; ``text`` is its source.
        trouble: Why it cannot be used; empty if it can.
        student: Without the number of parameters until the run has started.
        teacher: None for a run without a teacher.
        comparable: Whether both checkpoints were written by kdtui.
        measured: Result of ``kdtui measure``.
        lineage: The teachers of its teachers, where it has several generations or teachers, or one is missing.
        checkpoints: Size of each checkpoint in bytes, by name; ``disk_bytes`` is their total size on disk.
    """

    profile: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    trouble: str = ""
    student: NetworkSize = field(default_factory=NetworkSize)
    teacher: NetworkSize | None = None
    comparable: bool = False
    measured: Measurements = field(default_factory=Measurements)
    checkpoints: Mapping[str, int] = field(default_factory=dict)
    disk_bytes: int = 0
    lineage: tuple[str, ...] = ()


def read_files(run: Run, snapshot: Snapshot) -> RunFiles:
    """Read the files; missing and damaged ones are reported in ``trouble`` or left out, not raised."""
    profile, text, trouble = _profile(run)
    measured = read_measured(run)
    student = NetworkSize(
        parameters=snapshot.parameters,
        macs=_macs(_table(profile, "student"), snapshot.parameters, profile, run),
        checkpoint=_bytes(run.best) or _bytes(run.last),
    )
    files = RunFiles(
        profile,
        text,
        trouble,
        student,
        measured=measured,
        checkpoints=checkpoint_sizes(run),
        disk_bytes=disk_usage(run),
        lineage=_lineage(run),
    )
    if snapshot.checkpoint is None:
        return files
    path = Path(snapshot.checkpoint)
    taught_by = owner(path)
    network = _network(taught_by, snapshot.teacher)
    teacher = NetworkSize(
        parameters=snapshot.teacher_parameters,
        macs=_macs(network, snapshot.teacher_parameters, profile) if snapshot.teacher_parameters is not None else None,
        checkpoint=_bytes(path / "model.safetensors") or _bytes(path),
    )
    return replace(files, teacher=teacher, comparable=taught_by is not None)


def _profile(run: Run) -> tuple[Mapping[str, Any], str, str]:
    try:
        table = run.profile_table()
        return table, read_file(run.profile_path).decode(errors="replace"), ""
    except StoreError as error:
        return {}, "", error.brief
    except OSError as error:  # removed after the first read
        return {}, "", f"profile.toml cannot be read: {error.strerror}"


def _lineage(run: Run) -> tuple[str, ...]:
    ancestors = lineage(run, RunStore(run.path.parent))
    known = len(ancestors.teachers) == 1 and not any(one.teachers or one.state for one in ancestors.teachers)
    return () if known else tuple(ancestors.lines())  # one teacher is displayed anyway


def _table(tables: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = tables.get(key)
    return value if isinstance(value, Mapping) else {}


def _bytes(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:  # removed, or no permission: the size is unknown
        return None


def _network(teacher: Run | None, found: tuple[str, str] | None) -> Mapping[str, Any]:
    """Network of the teacher: from the profile of its run, else as detected, with the default widths of smp."""
    if teacher is not None:
        try:
            return _table(teacher.profile_table(), "student")
        except StoreError:  # damaged folder: use the detected network
            pass
    return {} if found is None else {"architecture": found[0], "encoder": found[1]}


def _macs(
    network: Mapping[str, Any], parameters: int | None, profile: Mapping[str, Any], run: Run | None = None
) -> int | None:
    """MACs from the catalog for a network with ``parameters``; None if the catalog has no network of that size.

    Args:
        network: Its table in a profile.
        parameters: As counted by the engine; None if the run has not begun.
        profile: The run's, as tables.
        run: Its profile gives the output channels if they do not follow from the parameters.
    """
    from kdtui import catalog
    from kdtui.launch.plan import out_channels

    encoder, architecture = network.get("encoder"), network.get("architecture", "Unet")
    widths, depth = network.get("decoder_channels"), network.get("encoder_depth", 5)
    data = _table(profile, "data")
    height, width = data.get("height"), data.get("width")
    numbers = (depth, height, width, *(widths if isinstance(widths, list) else ()))
    if not isinstance(encoder, str) or not all(type(number) is int and number > 0 for number in numbers):
        return None

    def cost(outputs: int) -> catalog.NetworkCost | None:
        return catalog.cost(
            encoder,
            architecture=str(architecture),
            decoder_channels=widths,
            out_channels=outputs,
            encoder_depth=depth,
            height=height,  # type: ignore[arg-type]  # a whole number, see above
            width=width,  # type: ignore[arg-type]
        )

    try:
        one, two = cost(1), cost(2)
        if one is None or two is None:
            return None
        if parameters is None:
            outputs = None if run is None else out_channels(run.profile())
            return None if outputs is None else _macs_of(cost(outputs))
        # The number of parameters determines the channels of the head; with a remainder it is a different network.
        further, rest = divmod(parameters - one.parameters, two.parameters - one.parameters)
        return None if rest or not 0 <= further < _MOST_CLASSES else _macs_of(cost(1 + further))
    except (KdtuiError, TypeError):  # unknown encoder, or invalid widths
        return None


def _macs_of(cost: Any) -> int | None:
    return None if cost is None else int(cost.macs)
