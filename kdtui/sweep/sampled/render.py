"""A sampled sweep as text, JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
from typing import Any

from kdtui.compare.statistics import Interval
from kdtui.profile.settings import plain
from kdtui.store.state import State
from kdtui.sweep.ranges import Range
from kdtui.sweep.sampled.results import NEEDED, SampledRuns
from kdtui.sweep.sampled.trials import Trial
from kdtui.sweep.spec import label_of
from kdtui.text import counted, number, score_title, signed, span

BEST = "★"


def keys_text(runs: SampledRuns) -> str:
    """Every key with its range or values."""
    return ", ".join(f"{label_of(axis.key)} {axis.text}" for axis in runs.spec.axes)


def title(runs: SampledRuns) -> str:
    """What is sampled, and what the scores are."""
    seeds = len(runs.spec.seeds)
    mean = f", mean over {counted(seeds, 'seed')}" if seeds > 1 else ""
    pruned = ", pruned" if runs.spec.prune else ""
    return f"{runs.spec.sampler}{pruned} over {keys_text(runs)}; val {score_title(runs.score_name)}{mean}"


def progress(runs: SampledRuns) -> str:
    """How many trials there are in each state, and the time until all have ended."""
    counts = ", ".join(f"{count} {word}" for word, count in runs.counts().items())
    eta = runs.eta_seconds
    time = f"; about {span(eta)} left, {runs.at_once} at once" if eta else ""
    return f"{counted(runs.total, 'trial')}: {counts}{time}"


def header(runs: SampledRuns) -> list[str]:
    """The titles of the columns of :func:`row`."""
    labels = [label_of(axis.key) for axis in runs.spec.axes]
    return ["", "trial", *labels, score_title(runs.score_name), "epoch", "state", "run"]


def row(runs: SampledRuns, trial: Trial) -> list[str]:
    """The cells of a trial."""
    return [
        BEST if trial == runs.best else "",
        str(trial.number),
        *(plain(value) for value in trial.cell.values()),
        number(trial.score),
        str(trial.epoch or "-"),
        trial.word,
        " ".join(run.id for run in trial.runs),
    ]


def best_lines(runs: SampledRuns) -> list[str]:
    """The best trial, and its difference to the matched baseline."""
    best = runs.best
    if best is None:
        return ["no trial has finished yet"]
    ended = sum(trial.score is not None for trial in runs.trials)
    text = f"best: {best.text()}: {score_title(runs.score_name)} {number(best.score)}"
    lines = [f"{text} (highest of {ended}, on the images that chose it)"]
    delta = runs.delta
    if isinstance(delta, Interval):
        lines.append(delta.text)
    elif delta is not None:
        lines.append(f"Δ {signed(delta)} to the matched baseline")
    elif runs.spec.with_baseline:
        lines.append("Δ follows when the baseline of the best trial has finished")
    return lines


def importance_line(runs: SampledRuns) -> str:
    """How much each key matters; from when on that is known otherwise."""
    found = runs.importance
    if not found.shares:
        finished = sum(trial.outcome == "finished" for trial in runs.trials)
        return f"importance of the keys: after {NEEDED} finished trials ({finished} until now)"
    shares = ", ".join(f"{label_of(key)} {share:.2f}" for key, share in found.shares.items())
    return f"importance of the keys, over {counted(found.finished, 'finished trial')}: {shares}"


def state_lines(runs: SampledRuns) -> list[str]:
    """What the controller does if it is not as it should be, and how to continue."""
    controller = runs.controller
    if controller.live or (controller.state is State.FINISHED and runs.ended >= runs.total):
        return []
    what = controller.error or controller.reason or "the sweep is not running"
    return [what, f"kdtui sweep resume {runs.id} continues it"]


def to_json(runs: SampledRuns) -> dict[str, Any]:
    """The sweep with stable keys."""
    best, delta = runs.best, runs.delta
    return {
        "id": runs.id,
        "sampler": runs.spec.sampler,
        "prune": runs.spec.prune,
        "keys": {axis.key: _axis_json(axis) for axis in runs.spec.axes},
        "seeds": list(runs.spec.seeds),
        "with_baseline": runs.spec.with_baseline,
        "state": runs.controller.state.word.lower(),
        "states": runs.counts(),
        "wanted": runs.wanted,
        "eta_seconds": runs.eta_seconds,
        "score": runs.score_name,
        "trials": [_trial_json(trial) for trial in runs.trials],
        "best": None if best is None else _trial_json(best),
        "delta": delta.delta if isinstance(delta, Interval) else delta,
        "delta_interval": {**vars(delta), "verdict": delta.verdict} if isinstance(delta, Interval) else None,
        "importance": dict(runs.importance.shares),
        "importance_trials": runs.importance.finished,
    }


def _axis_json(axis: Any) -> Any:
    if isinstance(axis, Range):
        return {"low": axis.low, "high": axis.high, "log": axis.log}
    return list(axis.values)


def _trial_json(trial: Trial) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "values": dict(trial.cell),
        "score": trial.score,
        "state": trial.word,
        "epoch": trial.epoch,
        "runs": [run.id for run in trial.runs],
    }


def to_csv(runs: SampledRuns) -> str:
    """One line for each trial."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", *(axis.key for axis in runs.spec.axes), "score", "state", "best", "runs"])
    for trial in runs.trials:
        values = [plain(value) for value in trial.cell.values()]
        score = "" if trial.score is None else repr(trial.score)
        ids = " ".join(run.id for run in trial.runs)
        writer.writerow([trial.number, *values, score, trial.word, str(trial == runs.best).lower(), ids])
    return text.getvalue().rstrip("\n")


def to_markdown(runs: SampledRuns) -> str:
    """The trials as a table, and the best one below it."""
    names = header(runs)[1:-1]
    lines = [f"**{runs.id}**: {title(runs)}", "", f"| {' | '.join(names)} |", f"|{'---:|' * len(names)}"]
    for trial in runs.trials:
        mark, *cells, _ = row(runs, trial)
        lines.append(f"| {' | '.join(f'**{cell}**' if mark else cell for cell in cells)} |")
    return "\n".join([*lines, "", *(f"{line}  " for line in [*best_lines(runs), importance_line(runs)])]).rstrip()
