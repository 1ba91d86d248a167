"""Checkpoint files: written atomically, read without executing code, and restored."""

from __future__ import annotations

import difflib
import errno
import os
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from kdtui.engine import torch_file
from kdtui.engine.file_kinds import refuse_other_kinds
from kdtui.engine.torch_file import first_line, shortened
from kdtui.errors import CheckpointError
from kdtui.events import Warned
from kdtui.profile import Profile
from kdtui.store.aside import aside
from kdtui.store.files import reading
from kdtui.store.run import Run

if TYPE_CHECKING:
    from lightning_fabric import Fabric

FORMAT = "kdtui.student/1"
ADAMW = "adamw"
"""The optimizer of checkpoints that do not name one."""
# Errors of file systems that do not support hard links, or not that many of one file.
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_NAMED = 4  # maximum number of keys in a message
_KEY = 120  # maximum number of characters of a key


def save(path: Path, payload: Mapping[str, Any]) -> None:
    """Write a checkpoint to a temporary file, sync it to disk, then rename it to ``path``.

    Raises:
        CheckpointError: It could not be written; an existing file is unchanged.
    """
    written = aside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written.open("wb") as file:
            torch.save(dict(payload), file)
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)
    except (OSError, RuntimeError) as error:  # torch's zip writer reports a full disk as a RuntimeError
        written.unlink(missing_ok=True)
        raise _unwritten(path, error) from error


def same_as(source: Path, target: Path) -> None:
    """Replace ``target`` by a hard link to ``source``; by a copy if the file system does not support links.

    Checkpoints are replaced and never modified, so a link is safe.

    Raises:
        CheckpointError: Both failed; an existing file is unchanged.
    """
    linked = aside(target)
    try:
        try:
            os.link(source, linked)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            shutil.copyfile(source, linked)
        # A rename does nothing if both names already refer to the same file, so the temporary name is removed.
        if target.exists() and target.samefile(source):
            linked.unlink()
            return
        linked.replace(target)
    except OSError as error:
        linked.unlink(missing_ok=True)
        raise _unwritten(target, error) from error


def load(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint with ``weights_only=True``: tensors and plain containers, never code.

    Args:
        path: A file of ``torch.save``.

    Returns:
        The dict in it, with tensors on the CPU.

    Raises:
        CheckpointError: Missing, a folder, empty, text, damaged, or with objects that need code to be restored.
    """
    path = Path(path)
    content = load_any(path)
    if not isinstance(content, dict):
        raise CheckpointError(
            "this file has no state dict",
            where=path,
            found=type(content).__name__,
            allowed="a dict of tensors, or one that contains it",
            hint="save it again with torch.save(network.state_dict(), path)",
        )
    return content


def load_any(path: Path) -> Any:
    """Read a checkpoint as :func:`load` does, whatever object is in it.

    Raises:
        CheckpointError: As :func:`load`.
    """
    _check_file(path)
    return torch_file.read(path)


def check_dense(state: Mapping[str, Tensor], *, where: object) -> None:
    """Check that all tensors are plain dense weights whose values are in the file.

    Raises:
        CheckpointError: One is quantised, sparse, nested, complex, without values, or larger than its storage.
    """
    kinds: dict[str, list[str]] = {}
    for key, value in state.items():
        kind = _unusual(value)
        if kind is not None:
            kinds.setdefault(kind, []).append(key)
    if kinds:
        raise CheckpointError(
            "these weights are not plain tensors",
            where=where,
            found="; ".join(f"{len(keys)} {kind}: {shown_keys(keys)}" for kind, keys in kinds.items()),
            allowed="dense tensors with their values",
            hint="in the program that made the file: save the weights of the plain network, "
            "torch.save(model.state_dict(), FILE)",
        )


def _unusual(value: Tensor) -> str | None:
    if value.is_meta:
        return "without values (on the meta device)"
    if value.is_quantized:
        return "quantised"
    if value.is_nested:
        return "nested"
    if value.layout is not torch.strided:
        return "sparse"
    if value.is_complex():
        return "complex"
    # A stride of zero repeats a value: a small file could expand to a tensor of any size.
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return "with more values than are stored"
    return None


def shown_keys(keys: Sequence[str]) -> str:
    """Format keys for a message: the first few, each truncated."""
    return ", ".join(shortened(key, _KEY) for key in keys[:_NAMED]) + (" …" if len(keys) > _NAMED else "")


def load_student(network: nn.Module, state: Mapping[str, Tensor], *, where: object) -> None:
    """Load the weights of a student strictly.

    Raises:
        CheckpointError: Keys are missing, unexpected or of another shape; the error lists them.
    """
    check_dense(state, where=where)
    problems = differences(network, state)
    if problems:
        raise CheckpointError(
            "these weights belong to another network",
            where=where,
            found="; ".join(problems),
            allowed="the same architecture, encoder, depth and decoder width as the profile's student",
            hint="`kdtui inspect FILE` describes the file",
        )
    network.load_state_dict(dict(state))


def differences(network: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Mismatches of ``state`` and ``network``: one text for missing, unexpected and differently shaped keys each."""
    wanted = network.state_dict()
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    sorts = {
        "missing": [key for key in wanted if key not in state],
        "unexpected": [key for key in state if key not in wanted],
        "of another shape": shapes,
    }
    return [f"{len(keys)} {sort}: {shown_keys(keys)}" for sort, keys in sorts.items() if keys]


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise CheckpointError("this is a folder, not a checkpoint file", where=path, hint=f"ls {path}")
    try:
        with reading(path) as file:
            head = file.read(32)
    except FileNotFoundError as error:
        raise CheckpointError("no such checkpoint", where=path, hint=_nearest(path)) from error
    except OSError as error:
        raise CheckpointError("this checkpoint cannot be read", where=path, found=error.strerror) from error
    if not head:
        raise CheckpointError(
            "this checkpoint is empty", where=path, found="0 bytes", allowed="a file written by torch.save"
        )
    refuse_other_kinds(path)
    # A zip (torch >= 1.6) or a pickle of protocol 2 and up.
    if head[:2] != b"PK" and head[:1] != b"\x80":
        raise CheckpointError(
            "not a checkpoint file",
            where=path,
            found=f"it begins with {head[:16]!r}",
            allowed="a file written by torch.save, or .safetensors",
        )


def _nearest(path: Path) -> str:
    if path.parent.is_dir():
        names = [sibling.name for sibling in path.parent.iterdir()]
        close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
        if close:
            return f"did you mean {path.parent / close[0]}?"
    return "kdtui teachers"


def _unwritten(path: Path, error: Exception) -> CheckpointError:
    free = shutil.disk_usage(path.parent if path.parent.exists() else Path.cwd()).free
    reason = error.strerror if isinstance(error, OSError) else first_line(error)
    return CheckpointError(
        "a checkpoint could not be written; the existing one is unchanged",
        where=path,
        found=f"{reason}; {free / 2**20:,.0f} MiB free",
        hint="free some space, then: kdtui resume RUN",
    )


@dataclass
class Progress:
    """Progress of a run.

    Attributes:
        step: Completed optimizer steps.
        epochs_done: Epochs that are trained *and* evaluated.
        best_score: Best validation score so far; None before the first evaluation.
        best_epoch: Its epoch; 0 before the first evaluation.
        best_miou: mIoU of that epoch: the score itself, unless the kind of network has another one.
        best_iou: IoU per class of that epoch.
        window: Loss parts per step since the last ``measured`` event, [P] each.
        train_point: The last ``measured`` event of the training split.
        history: The ``measured`` events that a run started from this checkpoint inherits.
    """

    step: int = 0
    epochs_done: int = 0
    best_score: float | None = None
    best_epoch: int = 0
    best_miou: float | None = None
    best_iou: dict[str, float | None] = field(default_factory=dict)
    window: list[Tensor] = field(default_factory=list)
    train_point: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


def student_payload(
    run: Run, profile: Profile, student: nn.Module, classes: tuple[str, ...], pixels: Mapping[str, Any]
) -> dict[str, Any]:
    """A checkpoint without training state: the student and its description.

    Args:
        run: The run.
        profile: Its profile.
        student: The network.
        classes: Names of its classes.
        pixels: Normalisation and channel order of its images, a :class:`kdtui.engine.data.PixelFormat` as a dict.
    """
    return {
        "format": FORMAT,
        "student": student.state_dict(),
        "model": profile.student.model_dump(mode="json", exclude_none=True),
        "task": profile.data.task,
        "classes": list(classes),
        "data": {"height": profile.data.height, "width": profile.data.width},
        "pixels": dict(pixels),
        "run": run.id,
    }


def weights_alone(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint without its training state, which is two thirds of its size."""
    return {key: value for key, value in payload.items() if key != "resume"}


def rng_state() -> dict[str, Any]:
    """The state of all random generators that a training step may use, on this rank."""
    version, words, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": [version, list(words), gauss],
        "numpy": [
            numpy_state["bit_generator"],
            [int(word) for word in numpy_state["state"]["key"]],
            int(numpy_state["state"]["pos"]),
            int(numpy_state["has_gauss"]),
            float(numpy_state["gauss"]),
        ],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_rng(state: Mapping[str, Any]) -> None:
    """Restore the generators from the result of :func:`rng_state`."""
    torch.set_rng_state(state["torch"])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, key, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(key, dtype=np.uint32), position, has_gauss, cached))
    if torch.cuda.is_available() and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])


def _over_ranks(fabric: Fabric, window: list[Tensor]) -> list[Tensor]:
    """The window averaged over ranks; a resumed run has it on every rank, where averaging again changes nothing."""
    return list(fabric.all_reduce(torch.stack(window), reduce_op="mean")) if window else []


def capture(
    fabric: Fabric,
    progress: Progress,
    optimizer: torch.optim.Optimizer,
    terms: nn.Module,
    *,
    total_epochs: int,
    steps_per_epoch: int,
    kind: str = ADAMW,
) -> dict[str, Any]:
    """The ``resume`` part of a checkpoint. Every rank must call it: generators are gathered, the window averaged.

    Parameters of loss terms, such as projections, are in ``terms``, which is absent if there are none. The
    learning-rate schedule is a function of ``step`` and ``total_epochs``, and the sampler's position one of ``step``
    and ``steps_per_epoch``: these numbers are their complete state. ``kind`` names optimizer and parameter groups.
    """
    states: list[Any] = [rng_state()]
    if fabric.world_size > 1:
        states = [None] * fabric.world_size
        torch.distributed.all_gather_object(states, rng_state())
    state: dict[str, Any] = {
        "step": progress.step,
        "epochs_done": progress.epochs_done,
        "best_miou": progress.best_miou,
        "best_epoch": progress.best_epoch,
        "best_iou": dict(progress.best_iou),
        "window": [part.detach().cpu() for part in _over_ranks(fabric, progress.window)],
        "train_point": dict(progress.train_point),
        "history": list(progress.history),
        "total_epochs": total_epochs,
        "steps_per_epoch": steps_per_epoch,
        "optimizer": optimizer.state_dict(),
        "scaler": fabric.strategy.precision.state_dict(),
        "rng": states,
    }
    if progress.best_score != progress.best_miou:
        state["best_score"] = progress.best_score
    if trained := terms.state_dict():
        state["terms"] = trained
    if kind != ADAMW:  # as in all checkpoints without it
        state["optimizer_kind"] = kind
    return state


def restore(
    fabric: Fabric,
    resume: Mapping[str, Any],
    optimizer: torch.optim.Optimizer,
    terms: nn.Module,
    *,
    kind: str = ADAMW,
    where: Path | None = None,
) -> tuple[Progress, tuple[Warned, ...]]:
    """Restore optimizer, terms, scaler and generators; return the progress, and warnings about missing parts.

    If the number of ranks is larger than that of the checkpoint, the generators of additional ranks keep their seeds. A
    run that starts from a checkpoint of another run may have other terms or another optimizer: they start anew, with a
    warning.

    Args:
        fabric: Of this rank.
        resume: As :func:`capture` returned it.
        optimizer: Of the student and the terms.
        terms: Modules of the loss terms.
        kind: Name of the optimizer and its parameter groups, as in :func:`capture`.
        where: The checkpoint, for the message.

    Raises:
        CheckpointError: A part of ``resume`` is damaged.
    """
    try:
        return _restored(fabric, resume, optimizer, terms, kind)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            "the training state of this checkpoint is damaged",
            where=where,
            found=f"{type(error).__name__}: {first_line(error)}",
            hint="train from another checkpoint: kdtui train PROFILE --resume FILE",
        ) from error


def _restored(
    fabric: Fabric, resume: Mapping[str, Any], optimizer: torch.optim.Optimizer, terms: nn.Module, kind: str
) -> tuple[Progress, tuple[Warned, ...]]:
    warnings: list[Warned] = []
    trained, saved_kind = resume.get("terms", {}), resume.get("optimizer_kind", ADAMW)
    problems = differences(terms, trained)
    if not problems:
        terms.load_state_dict(trained)
    if saved_kind != kind:
        words = f"the optimizer of this run is {kind}, that of the checkpoint {saved_kind}"
        warnings.append(Warned("optimizer-restarted", words, "it starts without state; the student continues"))
    elif problems:
        optimizer.load_state_dict(_students_part(resume["optimizer"], optimizer, terms))
    else:
        optimizer.load_state_dict(resume["optimizer"])
    if problems:
        words = f"the loss terms of this run train other parameters than those of the checkpoint: {'; '.join(problems)}"
        warnings.append(Warned("terms-restarted", words, "they start from their initial values; the student continues"))
    if resume["scaler"]:
        fabric.strategy.precision.load_state_dict(resume["scaler"])
    if fabric.global_rank < len(resume["rng"]):
        restore_rng(resume["rng"][fabric.global_rank])
    progress = Progress(
        step=resume["step"],
        epochs_done=resume["epochs_done"],
        best_score=resume.get("best_score", resume["best_miou"]),
        best_epoch=resume["best_epoch"],
        best_miou=resume["best_miou"],
        best_iou=dict(resume["best_iou"]),
        window=[part.to(fabric.device) for part in resume["window"]],
        train_point=dict(resume.get("train_point", {})),
        history=list(resume["history"]),
    )
    return progress, tuple(warnings)


def _students_part(saved: Mapping[str, Any], optimizer: torch.optim.Optimizer, terms: nn.Module) -> dict[str, Any]:
    """An optimizer's state of which the student's parameters, in the first groups, are from a checkpoint."""
    of_terms = set(map(id, terms.parameters()))
    count = sum(not of_terms.intersection(map(id, group["params"])) for group in optimizer.param_groups)
    groups = saved["param_groups"][:count] + optimizer.state_dict()["param_groups"][count:]
    numbers = {number for group in groups[:count] for number in group["params"]}
    return {"state": {n: state for n, state in saved["state"].items() if n in numbers}, "param_groups": groups}
