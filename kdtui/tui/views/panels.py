"""Content of the panels of one run: lines of text from its summary, its history and its files.

Independent of Textual. A line is a sequence of ``(text, tone)``; the tone is ``muted``, ``strong``, ``good``, ``warn``,
``bad`` or empty, and the panel that displays it maps it to a colour.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from kdtui.events import Failed, Started
from kdtui.palette import COLOUR
from kdtui.store.history import Curve, History
from kdtui.store.state import RunSummary, State
from kdtui.store.values import is_number
from kdtui.text import counted, mebibytes, moment, number, percent, score_title, span
from kdtui.tui.values import TextLine

EXPECTED = 0.95
"""Share of its teacher that a student is expected to reach."""
_WARNINGS = 3
"""Most warnings above the pages of a run: more would leave no room for its curves at 80x24."""
_LABEL = 15
_WIDE_LABEL = 18
LOSS_NAMES = {
    "loss": "total",
    "loss.base": "base",
    "loss.distill": "distillation",
    "loss.unlabelled": "unlabelled",
}
_TERMS = {
    "loss.distill.": "distillation terms",
    "loss.unlabelled.": "terms without labels",
    "loss.base.": "base terms",
}
_OTHER_NAMES = {"gradient_norm": "gradient norm", "confident": "confident pixels"}


def failure(row: RunSummary | None, history: History | None, unreadable: str) -> list[TextLine]:
    """The error of a failed run with the next command, and the warnings of the run; empty without either.

    Args:
        row: The run, or None if its folder was removed.
        history: Its events, if they were read.
        unreadable: Why the events cannot be read; empty if they can.
    """
    lines: list[TextLine] = []
    if row is None:
        return [(("This run is no longer in the store: its folder was removed.", "bad"),)]
    if row.state in (State.FAILED, State.LOST):
        word = history.word if history is not None else None
        message = word.message if isinstance(word, Failed) and word.message else row.detail
        name = f"{row.error}: " if row.error else ""
        first, *others = (message or "it exited without reporting a result").split("\n")
        lines.append((("✗ " if row.state is State.FAILED else "? ", "bad"), (f"{name}{first}", "bad")))
        lines += [((line, ""),) for line in others]
        hint = row.hint.replace("RUN", row.id) if row.hint else None
        if row.state is State.LOST:
            hint = f"`kdtui resume {row.id}`, once none of its processes is running"
        if hint:
            lines.append((("next: ", "strong"), (hint, "")))
    elif row.detail and row.state not in (State.RUNNING, State.QUEUED, State.STOPPED):
        lines.append(((row.detail, "warn"),))
    if unreadable:
        lines.append(((f"its events cannot be read: {unreadable}", "bad"),))
    for warning in row.warnings[:_WARNINGS]:
        lines.append((("! ", "warn"), (str(warning["message"]), "warn")))
        if warning["hint"]:
            lines.append((("  next: ", "strong"), (warning["hint"], "")))
    if len(row.warnings) > _WARNINGS:
        lines.append(((f"  {len(row.warnings) - _WARNINGS} more warnings: kdtui show {row.id}", "muted"),))
    return lines


def progress(row: RunSummary, history: History | None) -> tuple[float | None, str]:
    """The finished share, in [0, 1], and as text: the epoch and the remaining time."""
    started = history.started if history is not None else None
    step = history.step if history is not None and history.step else row.step
    epochs = row.epochs
    share = None
    if started is not None and epochs and started.steps_per_epoch and step is not None:
        share = _within(step, epochs * started.steps_per_epoch)
    elif row.epoch is not None and epochs:
        share = _within(row.epoch, epochs)
    left = f" eta {span(row.eta_seconds)}" if row.eta_seconds is not None else ""
    return share, f"{_epochs(row, '/')}{left}" if left else f"epoch {_epochs(row, '/')}"


def _within(done: int, whole: int) -> float:
    """The finished share, in [0, 1] even for inconsistent numbers in a file."""
    return min(1.0, max(0.0, done / whole))


def _epochs(row: RunSummary, of: str) -> str:
    return f"{row.epoch if row.epoch is not None else 0}{of}{row.epochs if row.epochs is not None else '?'}"


def losses(history: History | None) -> list[TextLine]:
    """Every loss and its parts: the newest value, and the one an epoch earlier."""
    if history is None or history.last_train is None:
        return []
    names = [name for name in history.last_train.scalars if name.startswith("loss") or name in _OTHER_NAMES]
    lines: list[TextLine] = [((f"{'':{_WIDE_LABEL}}{'now':>8}{'epoch ago':>11}", "muted"),)]
    for name in names:
        curve = history.curves.get(f"train/{name}")
        if curve is None:
            continue
        label = (LOSS_NAMES | _OTHER_NAMES).get(name, name)
        for term in _TERMS:
            if name.startswith(term):
                label = f"  {name.removeprefix(term)}"
        before = _an_epoch_ago(curve, history)
        tone = "strong" if name == "loss" else ""
        lines.append(
            (
                (f"{label:{_WIDE_LABEL}.{_WIDE_LABEL}}", "muted"),
                (f"{_loss(curve.last):>8}", tone),
                (f"{before:>11}", "muted"),
            )
        )
    return lines


def _loss(value: float | None) -> str:
    """A loss in at most eight columns: a diverging loss has too many digits for four decimals."""
    if value is None:
        return "nan"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.3g}"


def _an_epoch_ago(curve: Curve, history: History) -> str:
    started = history.started
    if started is None or not started.steps_per_epoch or not len(curve):
        return "-"
    at = bisect_right(curve.steps, curve.steps[-1] - started.steps_per_epoch) - 1
    return "-" if at < 0 or not math.isfinite(curve.values[at]) else _loss(curve.values[at])


def rates(row: RunSummary, history: History | None) -> list[TextLine]:
    """Current learning rate, temperature T and distillation weight α."""
    lines: list[TextLine] = []
    scalars = history.last_train.scalars if history is not None and history.last_train is not None else {}
    if (rate := scalars.get("lr")) is not None:
        lines.append(_pair("learning rate", f"{rate:.3g}"))
    if row.distilled:
        temperature, alpha = scalars.get("temperature", row.temperature), scalars.get("alpha", row.alpha)
        lines.append(_pair("temperature T", number(temperature, 2)))
        lines.append(_pair("distillation α", number(alpha, 2)))
    return lines


def speed(row: RunSummary, history: History | None) -> list[TextLine]:
    """Throughput, epoch and step, elapsed and remaining time."""
    lines: list[TextLine] = []
    started = history.started if history is not None else None
    curve = history.curves.get("train/images_per_second") if history is not None else None
    if curve is not None and len(curve):
        recent = [value for value in curve.values[-20:] if math.isfinite(value)]
        mean = f"mean {sum(recent) / len(recent):.1f}" if len(recent) > 1 else ""
        lines.append((*_pair("images/s", f"{number(curve.last, 1):<9}"), (mean, "muted")))
    if row.data_wait is not None:
        lines.append((*_pair("data wait", f"{percent(row.data_wait):<9}"), ("of the time of a step", "muted")))
    if row.epoch is not None:
        lines.append(_pair("epoch", _epochs(row, " of ")))
    if history is not None and started is not None and row.epochs:
        lines.append(_pair("step", f"{history.step} of {row.epochs * started.steps_per_epoch}"))
    if started is not None and history is not None and history.last_event is not None:
        lines.append(_pair("this attempt", span(max(0.0, history.last_event - started.time))))
    if row.eta_seconds is not None:
        lines.append(_pair("time left", span(row.eta_seconds)))
    if started is not None:
        lines.append(_pair("runs on", f"{_where(started)}, {counted(started.threads, 'thread')}"))
        if started.workers:
            lines.append(_pair("loaded by", counted(started.workers, "loading process")))
    return lines


def scores(row: RunSummary, history: History | None) -> list[TextLine]:
    """Validation scores: the best and the last, compared with the teacher's."""
    if row.miou is None and row.teacher_miou is None:
        return []
    best_score, teacher = row.best(row.score), row.of_teacher(row.score)
    val = history.last_val.scalars if history is not None and history.last_val is not None else {}
    best = val.get("best_epoch")
    at = f"epoch {best:.0f}" if best else ""
    lines: list[TextLine] = [
        (*_pair("best mIoU", f"{number(row.best_miou):<9}", "strong"), (at, "muted")),
        _pair("last mIoU", number(row.miou)),
    ]
    if row.score != "miou":
        lines = [
            (*_pair(f"best {score_title(row.score)} ", f"{number(best_score):<9}", "strong"), (at, "muted")),
            _pair("mIoU then", number(row.best_miou)),
            _pair("last mIoU", number(row.miou)),
        ]
    if teacher is not None:
        tone = "" if best_score is None else "good" if best_score >= EXPECTED * teacher else "warn"
        last = f"last {percent(row.retention)}" if row.score == "miou" else ""
        lines += [
            (*_pair("teacher", f"{teacher:<9.4f}"), (f"{EXPECTED:.0%} is {EXPECTED * teacher:.4f}", "muted")),
            (
                *_pair("retention", f"{percent(row.best_retention):<9}", tone),
                (last, "muted"),
            ),
        ]
    if row.agreement is not None:
        lines.append(_pair("agreement", percent(row.agreement)))
    lines += [
        _pair(label, number(value))
        for name, label in (("dice", "Dice"), ("pixel_accuracy", "pixel accuracy"))
        if (value := val.get(name)) is not None
    ]
    further = {name: value for name, value in row.metrics.items() if name != f"best_{row.score}"}
    return [*lines, *(_pair(score_title(name) + " ", number(value)) for name, value in further.items())]


def class_bars(row: RunSummary, history: History | None) -> list[tuple[str, float | None, float | None]]:
    """Class, newest IoU of the student and IoU of the teacher, in class order."""
    scalars = history.last_val.scalars if history is not None and history.last_val is not None else {}
    own = {name.removeprefix("iou."): value for name, value in scalars.items() if name.startswith("iou.")}
    if not own:
        own = dict(row.best_iou)
    started = history.started if history is not None else None
    table = started.teacher.get("iou") if started is not None and started.teacher is not None else None
    theirs = table if isinstance(table, dict) else {}
    return [(name, _share(value), _share(theirs.get(name))) for name, value in own.items()]


def checkpoints(sizes: Mapping[str, int], disk_bytes: int) -> list[TextLine]:
    """Size of each checkpoint, and the total on disk, which counts a file with several hard links once."""
    lines: list[TextLine] = [((f"{mebibytes(size):>11} ", ""), (name, "muted")) for name, size in sizes.items()]
    return [*lines, ((f"{mebibytes(disk_bytes):>11} ", "strong"), ("on disk", "muted"))] if lines else []


def bar_colours(classes: int, history: History | None) -> list[str]:
    """``#rrggbb`` of each class from the events; empty texts if they are missing, invalid or of another number."""
    started = history.started if history is not None else None
    written = started.student.get("class_colours") if started is not None else None
    colours = [each for each in written if isinstance(each, str)] if isinstance(written, list) else []
    if len(colours) != classes or not all(map(COLOUR.fullmatch, colours)):
        return [""] * classes
    return colours


def _share(value: Any) -> float | None:
    return float(value) if is_number(value) else None


def remarks(row: RunSummary, history: History | None) -> list[TextLine]:
    """Tags and notes, and notices of the run such as a jump of the learning rate."""
    lines: list[TextLine] = []
    if row.tags:
        lines.append(((" ".join(f"#{tag}" for tag in row.tags), ""),))
    if row.notes:
        lines.append(((row.notes, ""),))
    for noted in history.notes[-8:] if history is not None else ():
        lines.append(((f"{moment(noted.time)} ", "muted"), (noted.message, "warn")))
    return lines


def attempts(row: RunSummary, history: History | None) -> list[TextLine]:
    """One line per attempt, and how the last one ended."""
    if history is None or not history.attempts:
        return []
    lines: list[TextLine] = []
    for started in history.attempts[-8:]:
        origin = f"from step {started.resumed_step}" if started.resumed_step else "from the beginning"
        lines.append(
            (
                (f"{started.attempt} ", "strong"),
                (f"{moment(started.time)} ", "muted"),
                (f"{origin} to epoch {started.epochs}, {_where(started)}", ""),
            )
        )
    ended = "" if row.last_event is None or row.state is State.RUNNING else f" {moment(row.last_event)}"
    detail = f": {row.detail}" if row.detail and row.state is not State.FAILED else ""
    lines.append(((f"{row.state.glyph} {row.state.word.lower()}", "strong"), (f"{ended}{detail}", "")))
    return lines


def _where(started: Started) -> str:
    several = f"{started.world_size} x " if started.world_size > 1 else ""
    return f"{several}{started.device} {started.precision}"


def newest(row: RunSummary, history: History | None) -> str:
    """Newest numbers that the curves do not show, on one line."""
    scalars = history.last_train.scalars if history is not None and history.last_train is not None else {}
    words = []
    if "loss" in scalars:
        words.append(f"loss {_loss(scalars['loss'])}")
    if row.best_retention is not None:
        words.append(f"{percent(row.best_retention)} of teacher")
    if (rate := scalars.get("lr")) is not None:
        words.append(f"lr {rate:.2g}")
    if row.images_per_second is not None:
        words.append(f"{row.images_per_second:.1f} images/s")
    if history is not None and history.started is not None and row.epochs:
        words.append(f"step {history.step}/{row.epochs * history.started.steps_per_epoch}")
    return " · ".join(words)


def _pair(label: str, text: str, tone: str = "") -> TextLine:
    return (f"{label:{_LABEL}}", "muted"), (text, tone)


def loss_views(names: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Views of the upper chart: title and names of the curves in it.

    Args:
        names: Names of the curves of the history, such as ``train/loss``.
    """
    train = [name for name in names if name.startswith("train/")]
    parts = [name for name in (f"train/{name}" for name in LOSS_NAMES) if name in train]
    distils = "train/loss.distill" in parts
    terms = []
    for stem, title in _TERMS.items():
        found = tuple(sorted(name for name in train if name.startswith(f"train/{stem}")))
        if len(found) > 1:
            terms.append((title, found))
    # Without distillation the base loss is the total.
    singles = [("", (name,)) for name in dict.fromkeys([*parts, *train]) if distils or name != "train/loss.base"]
    return [("losses", tuple(parts)), *terms, *singles] if distils else [*singles[:1], *terms, *singles[1:]]
