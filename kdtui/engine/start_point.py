"""The checkpoint from which a run resumes: its newest intact state, and its best weights."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from kdtui.engine import checkpoint
from kdtui.engine.class_names import class_order, listed
from kdtui.errors import CheckpointError, StoreError, UsageError
from kdtui.events import Measured, Saved, Started, Warned
from kdtui.store.checkpoint_files import damage
from kdtui.store.event_log import Tail
from kdtui.store.run import Run
from kdtui.text import counted, number

_RESUME_KEYS = frozenset(
    {
        *("step", "epochs_done", "best_miou", "best_epoch", "best_iou", "window", "history"),
        *("total_epochs", "steps_per_epoch", "optimizer", "scaler", "rng"),
    }
)


@dataclass(frozen=True)
class StartPoint:
    """The checkpoint from which an attempt starts.

    Attributes:
        path: The checkpoint; None to start with untrained weights.
        own: Whether this run wrote it; otherwise it is the one that the run was created to start from.
        passed_over: Newer checkpoints of this run that cannot be used, with the reason.
    """

    path: Path | None
    own: bool = False
    passed_over: tuple[str, ...] = ()


@dataclass(frozen=True)
class Best:
    """The best score of a run so far, and the file with its weights.

    Attributes:
        score: Best score; None if no weights with a score are left.
        miou: mIoU of its epoch, which is the score of most kinds of networks.
        source: Checkpoint to restore ``best_model.pth`` from; None if it is intact, or cannot be restored.
        lost: Why the weights of the best score are lost; empty if they are not.
    """

    score: float | None
    epoch: int = 0
    miou: float | None = None
    iou: Mapping[str, float | None] = field(default_factory=dict)
    source: Path | None = None
    lost: str = ""


def find_start(run: Run) -> StartPoint:
    """The checkpoint from which the next attempt of a run resumes.

    ``last.pth`` if it is intact, otherwise the newest intact epoch checkpoint. Every file is read completely.

    Raises:
        CheckpointError: The run was trained, but none of its checkpoints is intact.
    """
    passed_over: list[str] = []
    for path in _states(run):
        problem = _problem(run, path)
        if problem is None:
            return StartPoint(path, own=True, passed_over=tuple(passed_over))
        if path != run.best:  # it normally has only weights
            passed_over.append(f"{path.name} is {problem}")
    source = run.manifest().resume_from
    if _was_saved(run, inherits=source is not None):
        raise _none_whole(run, passed_over)
    return StartPoint(Path(source) if source else None)


def _states(run: Run) -> Iterator[Path]:
    """Files of a run that may have a training state, in the order of preference."""
    yield run.last
    yield from reversed(run.epoch_checkpoints())
    if run.best.is_file():  # older versions saved the training state there
        yield run.best


def _problem(run: Run, path: Path) -> str | None:
    """Why a run cannot be resumed from a checkpoint; None if it can."""
    try:
        content = own_content(run, path)
    except CheckpointError as error:
        return error.what
    state = content.get("resume")
    if not isinstance(state, Mapping):
        return "only weights, without the training state"
    if missing := _RESUME_KEYS - state.keys():
        return f"from another version, without {', '.join(sorted(missing))}"
    return None


def own_content(run: Run, path: Path) -> dict[str, Any]:
    """Load a checkpoint that this run wrote.

    Raises:
        CheckpointError: It is missing, damaged, or from another run; ``what`` completes "FILE is …".
    """
    if (problem := damage(path)) is not None:
        raise CheckpointError(problem, where=path)
    try:
        content = checkpoint.load(path)
    except CheckpointError as error:
        raise CheckpointError("damaged", where=path, found=error.what) from error
    if content.get("format") != checkpoint.FORMAT:
        raise CheckpointError("not a checkpoint of kdtui", where=path)
    writer = content.get("run")
    if writer is not None and writer not in _names(run):
        raise CheckpointError(f"a checkpoint of another run, {writer}", where=path)
    return content


def _names(run: Run) -> set[str]:
    """The current and original id of a run, whose folder may have been renamed or copied."""
    try:
        return {run.id, run.manifest().id}
    except StoreError:  # a damaged manifest
        return {run.id}


def check_owner(path: Path, content: Mapping[str, Any]) -> None:
    """Check that a checkpoint in a run's folder was written by that run.

    Raises:
        CheckpointError: Its run id is not that of the folder.
    """
    run, writer = Run(path.absolute().parent.parent), content.get("run")
    inside = path.parent.name == run.checkpoints.name and run.manifest_path.is_file()
    if inside and writer is not None and writer not in _names(run):
        raise CheckpointError(
            "this checkpoint was written by another run than that of its folder",
            where=path,
            found=writer,
            allowed=run.id,
            hint=f"to start from it, copy it to another folder: {shlex.join(['cp', str(path), 'COPY.pth'])}",
        )


def _was_saved(run: Run, *, inherits: bool) -> bool:
    """Whether this run ever wrote a checkpoint, according to its files and events."""
    # A run that inherits a best score has a best_model.pth before its first epoch.
    names = [run.last, *run.epoch_checkpoints(), *([] if inherits else [run.best])]
    if any(path.exists() for path in names):
        return True
    saved_by = 0
    for event in Tail(run.events_path).stream():
        if isinstance(event, Saved):
            return True
        if isinstance(event, Started):
            saved_by = event.resumed_step + event.steps_per_epoch
        # After the first epoch of an attempt there is a checkpoint.
        elif isinstance(event, Measured) and saved_by and event.step > saved_by:
            return True
    return False


def _none_whole(run: Run, passed_over: list[str]) -> CheckpointError:
    facts = list(passed_over)
    try:
        best = own_content(run, run.best)
        facts.append(f"{run.best.name} is intact, but has only weights, of epoch {best.get('epoch')}")
        words = ["kdtui", "train", str(run.profile_path), "--resume", str(run.best)]
        hint = f"restore {run.last.name}, or start a new run from the best weights: {shlex.join(words)}"
    except CheckpointError as error:
        facts.append(f"{run.best.name} is {error.what}")
        hint = f"restore {run.last.name}, or start a new run: kdtui train {shlex.quote(str(run.profile_path))}"
    return CheckpointError(
        "this run was trained, but has no intact checkpoint to resume from",
        where=run.checkpoints,
        found="; ".join(facts),
        allowed=f"an intact {run.last.name} or checkpoint_epoch_N.pth of this run",
        hint=hint,
    )


def find_best(run: Run, start: StartPoint, content: Mapping[str, Any]) -> Best:
    """The best score when training resumes from ``start``, and the source of ``best_model.pth``.

    The score in the file counts: a run that resumes from an older state never replaces a better score by a lower one.

    Args:
        run: The resumed run.
        start: Result of :func:`find_start`.
        content: Contents of its checkpoint.
    """
    state = content["resume"]
    monitor = content.get("monitor", "miou")
    earned: float | None = state.get("best_score", state["best_miou"])
    claimed = Best(earned, state["best_epoch"], state["best_miou"], dict(state["best_iou"]))
    kept, problem = _best_of_run(run)
    if kept is not None and kept.score is not None and (earned is None or kept.score >= earned):
        return claimed if (kept.score, kept.epoch) == (earned, claimed.epoch) else kept
    if earned is None:
        return claimed
    if source := _weights_of_best(run, start, content):
        return replace(claimed, source=source)
    name = "mIoU" if monitor == "miou" else monitor
    lost = f"{run.best.name} is {problem}: the weights of epoch {claimed.epoch}, {name} {earned:.4f}, are lost"
    if kept is not None:
        return replace(kept, lost=lost)
    here = _score_here(state, monitor)
    if here is None:
        return Best(None, lost=lost)
    return replace(_best_at(run, state["epochs_done"], here, monitor), source=start.path, lost=lost)


def _best_of_run(run: Run) -> tuple[Best | None, str]:
    """The score in ``best_model.pth``, or None and the problem of that file."""
    try:
        content = own_content(run, run.best)
    except CheckpointError as error:
        return None, error.what
    score, epoch = content.get("best"), content.get("epoch")
    if not isinstance(score, float) or not isinstance(epoch, int):
        return None, "without a score"
    return _best_at(run, epoch, score, content.get("monitor", "miou")), f"of epoch {epoch}"


def _weights_of_best(run: Run, start: StartPoint, content: Mapping[str, Any]) -> Path | None:
    """An intact checkpoint with the weights of the best score in a state; None if there is none."""
    state = content["resume"]
    # Later states have the score too; its weights are those at the end of its epoch.
    earned = state["best_epoch"] * state["steps_per_epoch"], state.get("best_score", state["best_miou"])
    if (content.get("step"), content.get("best")) == earned:
        return start.path
    assert start.path is not None
    beside = run.epoch_checkpoint(state["best_epoch"]) if start.own else start.path.with_name(run.best.name)
    try:
        if damage(beside) is None:
            other = own_content(run, beside) if start.own else checkpoint.load(beside)
            if (other.get("step"), other.get("best")) == earned:
                return beside
    except CheckpointError:  # it has no usable weights either
        return None
    return None


def _score_here(state: Mapping[str, Any], monitor: str) -> float | None:
    """The validation score of a state that was saved at the end of an epoch; otherwise None."""
    for point in reversed(state["history"]):
        if point.get("split") == "val" and point.get("step") == state["step"]:
            score = point["scalars"].get(monitor)
            return float(score) if isinstance(score, int | float) else None
    return None


def _best_at(run: Run, epoch: int, score: float, monitor: str) -> Best:
    """A score with mIoU and IoU of each class at its epoch, from the events."""
    newest: Measured | None = None
    for event in Tail(run.events_path).stream():
        if isinstance(event, Measured) and (event.split, event.epoch) == ("val", epoch):
            newest = event if event.scalars.get(monitor) == score else newest
    scalars = newest.scalars if newest else {}
    iou = {key[4:]: value for key, value in scalars.items() if key.startswith("iou.")}
    return Best(score, epoch, score if monitor == "miou" else scalars.get("miou"), iou)


def start_warnings(start: StartPoint, best: Best | None, state: Mapping[str, Any] | None) -> tuple[Warned, ...]:
    """Warnings about missing or damaged checkpoints of a run.

    Args:
        start: Result of :func:`find_start`.
        best: Result of :func:`find_best`.
        state: The ``resume`` part of the checkpoint from which it resumes.
    """
    warnings = []
    if start.passed_over and start.path is not None and state is not None:
        warnings.append(
            Warned(
                "checkpoint-passed-over",
                f"{'; '.join(start.passed_over)}: training resumes from {start.path.name}, after epoch "
                f"{state['epochs_done']} (step {state['step']})",
                "later training steps are repeated",
            )
        )
    if best is not None and best.lost:
        kept = "that of the next epoch" if best.score is None else f"epoch {best.epoch}, mIoU {number(best.miou)}"
        warnings.append(Warned("best-lost", best.lost, f"best so far: {kept}"))
    return tuple(warnings)


def check_horizon(run_id: str, total_epochs: int, epochs_done: int) -> None:
    """Check that there are epochs left to train.

    Raises:
        UsageError: That many epochs are already complete.
    """
    if total_epochs <= epochs_done:
        raise UsageError(
            f"this run has already completed {counted(epochs_done, 'epoch')}, so nothing is left to train",
            where="--total-epochs",
            found=total_epochs,
            allowed=f"{epochs_done + 1} or more",
            hint=f"kdtui resume {run_id} --total-epochs {epochs_done + 1}",
        )


def load_start(student: nn.Module, start: dict[str, Any], path: Path | None, classes: Sequence[str]) -> None:
    """Load the weights of a checkpoint to start from into the student, strictly.

    Raises:
        CheckpointError: It is not a checkpoint of kdtui, or of another network or other classes.
    """
    if start.get("format") != checkpoint.FORMAT:
        raise CheckpointError(
            "not a checkpoint of kdtui, so training cannot resume from it",
            where=path,
            hint="to use it as a teacher: `kdtui train PROFILE --teacher FILE`",
        )
    names = start.get("classes", list(classes))
    # Not reordered like a teacher's: the optimizer's state and the scores refer to this order too.
    order = class_order([str(name) for name in names], classes)
    if order != list(range(len(classes))):
        raise CheckpointError(
            "the classes of this checkpoint differ from those of the data"
            if order is None
            else "the classes of this checkpoint are in another order than those of the data",
            where=path,
            found=listed(names),
            allowed=listed(classes),
            hint="train on data with the classes of the checkpoint, in its order (for a folder: classes.txt)",
        )
    checkpoint.load_student(student, start["student"], where=path)
