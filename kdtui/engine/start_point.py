"""Where a run resumes: the newest whole state of its own, and the best weights that it must not lose."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kdtui.engine import checkpoint
from kdtui.errors import CheckpointError, StoreError, UsageError
from kdtui.events import Measured, Saved, Started, Warned
from kdtui.store.checkpoint_files import damage
from kdtui.store.files import Tail
from kdtui.store.run import Run

_RESUME_KEYS = frozenset(
    {
        *("step", "epochs_done", "best_miou", "best_epoch", "best_iou", "window", "history"),
        *("total_epochs", "steps_per_epoch", "optimizer", "scaler", "rng"),
    }
)


@dataclass(frozen=True)
class StartPoint:
    """The state that an attempt begins with.

    Attributes:
        path: The checkpoint; None for a run that begins with untrained weights.
        own: Whether this run wrote it; else it is the one that the run was made to start from.
        passed_over: Newer checkpoints of this run that cannot be used, and why.
    """

    path: Path | None
    own: bool = False
    passed_over: tuple[str, ...] = ()


@dataclass(frozen=True)
class Best:
    """The best score of a run so far, and the file that holds its weights.

    Attributes:
        miou: None when no weights of any score are left.
        source: Checkpoint to write ``best_model.pth`` from; None when it is whole already, or has no source.
        lost: Why the best score in the state is given up; empty when it is kept.
    """

    miou: float | None
    epoch: int = 0
    iou: Mapping[str, float | None] = field(default_factory=dict)
    source: Path | None = None
    lost: str = ""


def find_start(run: Run) -> StartPoint:
    """The checkpoint that the next attempt of a run resumes from.

    ``last.pth`` if it is whole, else the newest epoch checkpoint that is. Every file is read to its end.

    Raises:
        CheckpointError: The run was trained, and no state of it is whole.
    """
    passed_over: list[str] = []
    for path in _states(run):
        problem = _problem(run, path)
        if problem is None:
            return StartPoint(path, own=True, passed_over=tuple(passed_over))
        if path != run.best:  # weights alone, as it should be
            passed_over.append(f"{path.name} is {problem}")
    source = run.manifest().resume_from
    if _was_saved(run, inherits=source is not None):
        raise _none_whole(run, passed_over)
    return StartPoint(Path(source) if source else None)


def _states(run: Run) -> Iterator[Path]:
    """Files of a run that may hold a whole state, in the order of choice."""
    yield run.last
    yield from reversed(run.epoch_checkpoints())
    if run.best.is_file():  # older versions kept the whole state there
        yield run.best


def _problem(run: Run, path: Path) -> str | None:
    """Why a run cannot be resumed from a checkpoint; None when it can."""
    try:
        content = own_content(run, path)
    except CheckpointError as error:
        return error.what
    state = content.get("resume")
    if not isinstance(state, Mapping):
        return "weights alone, without the state of the training"
    if missing := _RESUME_KEYS - state.keys():
        return f"of another version, without {', '.join(sorted(missing))}"
    return None


def own_content(run: Run, path: Path) -> dict[str, Any]:
    """A checkpoint that this run wrote, read whole.

    Raises:
        CheckpointError: It is missing, damaged, or another run's; ``what`` completes "FILE is …".
    """
    if (problem := damage(path)) is not None:
        raise CheckpointError(problem, where=path)
    try:
        content = checkpoint.load(path)
    except CheckpointError as error:
        raise CheckpointError("damaged", where=path, found=error.what) from error
    if content.get("format") != checkpoint.FORMAT:
        raise CheckpointError("no checkpoint of kdtui", where=path)
    writer = content.get("run")
    if writer is not None and writer not in _names(run):
        raise CheckpointError(f"a checkpoint of another run, {writer}", where=path)
    return content


def _names(run: Run) -> set[str]:
    """The ids that a run has had: its folder may have been renamed or copied."""
    try:
        return {run.id, run.manifest().id}
    except StoreError:  # a damaged manifest: the folder's name is left
        return {run.id}


def check_owner(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse a checkpoint in a run's folder that another run wrote.

    Raises:
        CheckpointError: The run's id in it is not that of the folder.
    """
    run, writer = Run(path.absolute().parent.parent), content.get("run")
    inside = path.parent.name == run.checkpoints.name and run.manifest_path.is_file()
    if inside and writer is not None and writer not in _names(run):
        raise CheckpointError(
            "this checkpoint was written by another run than the one whose folder it is in",
            where=path,
            found=writer,
            allowed=run.id,
            hint=f"copy it out of that folder to start from it: {shlex.join(['cp', str(path), 'COPY.pth'])}",
        )


def _was_saved(run: Run, *, inherits: bool) -> bool:
    """Whether a checkpoint of this run was ever written, by its files and its events."""
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
        # Behind the first epoch of an attempt stands a checkpoint.
        elif isinstance(event, Measured) and saved_by and event.step > saved_by:
            return True
    return False


def _none_whole(run: Run, passed_over: list[str]) -> CheckpointError:
    facts = list(passed_over)
    try:
        best = own_content(run, run.best)
        facts.append(f"{run.best.name} is whole, but weights alone, of epoch {best.get('epoch')}")
        words = ["kdtui", "train", str(run.profile_path), "--resume", str(run.best)]
        hint = f"copy {run.last.name} back, or begin a new run with the best weights: {shlex.join(words)}"
    except CheckpointError as error:
        facts.append(f"{run.best.name} is {error.what}")
        hint = f"copy {run.last.name} back, or begin a new run: kdtui train {shlex.quote(str(run.profile_path))}"
    return CheckpointError(
        "this run was trained, but no whole checkpoint is left to resume it from",
        where=run.checkpoints,
        found="; ".join(facts),
        allowed=f"a whole {run.last.name} or checkpoint_epoch_N.pth of this run",
        hint=hint,
    )


def find_best(run: Run, start: StartPoint, content: Mapping[str, Any]) -> Best:
    """What ``best_model.pth`` has to hold when training goes on from ``start``.

    The file's own score counts: a run that goes on from an older state than its best never loses it to a lower one.

    Args:
        run: The run that goes on.
        start: From :func:`find_start`.
        content: What is in its checkpoint.
    """
    state = content["resume"]
    earned: float | None = state["best_miou"]
    claimed = Best(earned, state["best_epoch"], dict(state["best_iou"]))
    kept, problem = _kept_best(run)
    if kept is not None and kept.miou is not None and (earned is None or kept.miou >= earned):
        return claimed if (kept.miou, kept.epoch) == (earned, claimed.epoch) else kept
    if earned is None:
        return claimed
    if source := _weights_of_best(run, start, content):
        return replace(claimed, source=source)
    lost = f"{run.best.name} is {problem}: the weights of epoch {claimed.epoch}, mIoU {earned:.4f}, are lost"
    if kept is not None:
        return replace(kept, lost=lost)
    here = _score_here(state)
    if here is None:
        return Best(None, lost=lost)
    return Best(here, state["epochs_done"], _iou_of(run, state["epochs_done"], here), start.path, lost)


def _kept_best(run: Run) -> tuple[Best | None, str]:
    """The score in ``best_model.pth``, or None; and what is wrong with that file."""
    try:
        content = own_content(run, run.best)
    except CheckpointError as error:
        return None, error.what
    miou, epoch = content.get("best"), content.get("epoch")
    if not isinstance(miou, float) or not isinstance(epoch, int):
        return None, "without a score"
    return Best(miou, epoch, _iou_of(run, epoch, miou)), f"of epoch {epoch}"


def _weights_of_best(run: Run, start: StartPoint, content: Mapping[str, Any]) -> Path | None:
    """A whole checkpoint with the weights that earned the best score in a state."""
    state = content["resume"]
    # The score stands in every later state too; the weights that earned it are those of its epoch's end.
    earned = state["best_epoch"] * state["steps_per_epoch"], state["best_miou"]
    if (content.get("step"), content.get("best")) == earned:
        return start.path
    assert start.path is not None
    beside = run.epoch_checkpoint(state["best_epoch"]) if start.own else start.path.with_name(run.best.name)
    try:
        if damage(beside) is None:
            other = own_content(run, beside) if start.own else checkpoint.load(beside)
            if (other.get("step"), other.get("best")) == earned:
                return beside
    except CheckpointError:  # it holds no usable weights either
        return None
    return None


def _score_here(state: Mapping[str, Any]) -> float | None:
    """The validation mIoU of a state that was saved at the end of an epoch."""
    for point in reversed(state["history"]):
        if point.get("split") == "val" and point.get("step") == state["step"]:
            score = point["scalars"].get("miou")
            return float(score) if isinstance(score, int | float) else None
    return None


def _iou_of(run: Run, epoch: int, miou: float) -> dict[str, float | None]:
    """IoU of each class at an epoch with this score, as the events tell it."""
    newest: Measured | None = None
    for event in Tail(run.events_path).stream():
        if isinstance(event, Measured) and (event.split, event.epoch) == ("val", epoch):
            newest = event if event.scalars.get("miou") == miou else newest
    return {key[4:]: value for key, value in newest.scalars.items() if key.startswith("iou.")} if newest else {}


def start_warnings(start: StartPoint, best: Best | None, state: Mapping[str, Any] | None) -> tuple[Warned, ...]:
    """What of a run's checkpoints is not as it was left.

    Args:
        start: From :func:`find_start`.
        best: From :func:`find_best`.
        state: The ``resume`` part of the checkpoint that it resumes from.
    """
    warnings = []
    if start.passed_over and start.path is not None and state is not None:
        warnings.append(
            Warned(
                "checkpoint-passed-over",
                f"{'; '.join(start.passed_over)}: training resumes from {start.path.name}, after epoch "
                f"{state['epochs_done']} (step {state['step']})",
                "what was trained after it is repeated",
            )
        )
    if best is not None and best.lost:
        kept = "the next epoch is the best one" if best.miou is None else f"epoch {best.epoch}, mIoU {best.miou:.4f}"
        warnings.append(Warned("best-lost", best.lost, f"best so far: {kept}"))
    return tuple(warnings)


def check_horizon(run_id: str, total_epochs: int, epochs_done: int) -> None:
    """Refuse a horizon that leaves nothing to train.

    Raises:
        UsageError: That many epochs are done already.
    """
    if total_epochs <= epochs_done:
        raise UsageError(
            f"this run has trained {epochs_done} epochs already, so nothing is left to train",
            where="--total-epochs",
            found=total_epochs,
            allowed=f"{epochs_done + 1} or more",
            hint=f"kdtui resume {run_id} --total-epochs {epochs_done + 1}",
        )
