"""A comparison as text: JSON, CSV, Markdown, and the cells of a table."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from kdtui.compare.comparison import Comparison, Row
from kdtui.compare.groups import Group
from kdtui.compare.named import called, lettered
from kdtui.compare.statistics import Interval
from kdtui.compare.wallclock import EqualTime
from kdtui.text import clean, giga, jsonable, millions, milliseconds, number, percent, ratio, score_title, signed, span

FORMATS = ("table", "json", "csv", "markdown")


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The JSON object of ``compare --json``."""
    return {
        "baseline": comparison.baseline,
        "score": comparison.score,
        "rows": [dataclasses.asdict(row) for row in comparison.rows],
        "differing": {key: list(values) for key, values in comparison.differing.items()},
        "seeds": [_of_score(dataclasses.asdict(group), comparison.score) for group in comparison.aggregates],
        "groups": [_of_score(_group_json(group), comparison.score) for group in comparison.groups],
        "equal_time_baselines": [_of_score(_group_json(group), comparison.score) for group in comparison.timed],
        "notes": list(comparison.notes),
    }


def _group_json(group: Group) -> dict[str, Any]:
    classes = {name: _interval_json(interval) for name, interval in group.classes.items()}
    return dataclasses.asdict(group) | {"interval": _interval_json(group.interval), "classes": classes}


def _of_score(fields: dict[str, Any], score: str) -> dict[str, Any]:
    """Keys of a group such as ``miou`` and ``baseline_miou``, with the name of the score instead."""
    if score == "miou":
        return fields
    return {
        key.replace("miou", score): [_of_score(one, score) for one in value] if key == "pairs" else value
        for key, value in fields.items()
    }


def _interval_json(interval: Interval | None) -> dict[str, Any] | None:
    return None if interval is None else {**dataclasses.asdict(interval), "verdict": interval.verdict}


def cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table."""
    names = called(comparison.rows)
    bases = {row.baseline for row in comparison.rows}
    classes = list(dict.fromkeys(name for row in comparison.rows for name in row.iou))
    other_score = comparison.score != "miou"
    header = ["run", "encoder", "params", "T", "α", "epoch"]
    header += [score_title(comparison.score), "mIoU"] if other_score else ["mIoU"]
    header += [f"IoU {name}" for name in classes] if len(classes) <= 4 else []
    measured = any(row.latency is not None for row in comparison.rows)
    header += ["retention", "smaller", *(["MACs", "latency", "faster"] if measured else []), "Δ baseline"]
    body = []
    for row in comparison.rows:
        delta = "baseline" if row.id in bases else signed(row.delta_baseline)
        line = [
            names[row.id] + ("" if row.state == "FINISHED" else f" ({row.state})"),
            row.encoder or "-",
            millions(row.parameters),
            number(row.temperature, 1),
            number(row.alpha, 2),
            "-" if row.epoch is None else str(row.epoch),
            ("★ " if row.rank == 1 else "") + number(row.score),
            *([number(row.miou)] if other_score else []),
        ]
        line += [number(row.iou.get(name)) for name in classes] if len(classes) <= 4 else []
        line += [retention_text(row.retention), ratio(row.compression)]
        line += [giga(row.macs), milliseconds(row.latency), ratio(row.speedup)] if measured else []
        body.append([*line, delta])
    return header, body


def retention_text(retention: float | None) -> str:
    """A share of the teacher's mIoU, with a mark where the run is better than its teacher; a note explains it."""
    return f"{'! ' if (retention or 0.0) > 1 else ''}{percent(retention)}"


def group_lines(comparison: Comparison, *, short: bool = False, letters: Mapping[str, str] | None = None) -> list[str]:
    """What each Δ is worth in words, for every group of seeds and every single run; seeds without Δ last.

    Args:
        comparison: The comparison.
        short: One line for each, which fits a terminal.
        letters: Letter of each run, by id, which its line begins with.
    """
    letters = letters or {}
    paired = {run for group in comparison.groups for pair in group.pairs for run in (pair.run, pair.baseline)}
    lines, score = [], score_title(comparison.score)
    for group in comparison.groups:
        first, *more = [f"{group.name}: {delta_text(group, short=True)}"] if short else _lines(group, score)
        lines += [lettered(first, group.runs, letters), *more]
    for one in comparison.aggregates:
        if not paired & {*one.ids}:
            line = f"{one.name}: {score} {_spread(one.miou, one.miou_sd)} (n = {one.n}, {_seeds(one.seeds)})"
            lines.append(lettered(line, one.ids, letters))
    return lines


def delta_text(group: Group, *, short: bool = False) -> str:
    """The Δ of a group with its interval, or why it has none."""
    if group.interval is not None:
        return group.interval.short if short else group.interval.text
    return f"Δ {signed(group.delta)}" + (f", no interval: {group.without_interval}" if group.without_interval else "")


def _lines(group: Group, score: str) -> list[str]:
    first = f"{group.name}: {delta_text(group)}"
    time = [] if group.equal_time is None else [f"  {time_text(group.equal_time)}"]
    left_out = [
        f"{words}: {_seeds(seeds)}"
        for words, seeds in (
            ("without a baseline", group.seeds_without_baseline),
            ("baselines only", group.seeds_of_baselines_only),
        )
        if seeds
    ]
    if len(group.pairs) == 1 and not left_out:
        return [first, *time]
    n = f"n = {len(group.pairs)}, {_seeds([pair.seed for pair in group.pairs])}"
    own, base = _spread(group.miou, group.miou_sd), _spread(group.baseline_miou, group.baseline_sd)
    each = ", ".join(f"{_seed(pair.seed)}: {signed(pair.delta)}" for pair in group.pairs)
    return [first, f"  {score} {own} ({n}), baseline {base}", "  Δ per seed: " + "; ".join([each, *left_out]), *time]


def time_text(found: EqualTime) -> str:
    """The Δ at equal wall-clock time in words."""
    if found.reason:
        return f"no Δ at equal time: {found.reason}"
    ends = (
        (found.delta, found.interval, found.seconds, "run"),
        (found.delta_within_baseline, found.interval_within_baseline, found.baseline_seconds, "baseline"),
    )
    text = "Δ at equal time: " + ", ".join(
        f"{signed(delta)}{f' {interval.limits}' if interval else ''} after {span(end)} ({who})"
        for delta, interval, end, who in ends
    )
    if not found.cached:
        return text
    if found.live_seconds is None:
        return f"{text}; teacher logits cached for {found.cached:.0%} of the images, time without cache not measured"
    live = f"{signed(found.delta_live)} after {span(found.live_seconds)}"
    return f"{text}; without cached teacher logits ({found.cached:.0%} of the images) {live}"


_SIGNS = {"better": "▲", "worse": "▼"}


def class_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of classes: the Δ of each class in each group with its interval.

    Classes with the largest Δ in the first group come first; ▲ and ▼ mark those that are not within noise.
    """
    groups = [group for group in comparison.groups if group.classes]
    names = dict.fromkeys(name for group in groups for name in group.classes)
    ordered = sorted(names, key=lambda name: next(-one.classes[name].delta for one in groups if name in one.classes))
    body = [[name, *(_class_cell(group.classes.get(name)) for group in groups)] for name in ordered]
    return ["class", *(group.name for group in groups)], body


def _class_cell(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    return f"{_SIGNS.get(interval.verdict, ' ')} {signed(interval.delta)} {interval.limits}"


def _spread(mean: float, deviation: float | None) -> str:
    return number(mean) if deviation is None else f"{mean:.4f} ± {deviation:.4f}"


def _seeds(seeds: Sequence[int | None]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(_seed, seeds))}"


def _seed(seed: int | None) -> str:
    return "-" if seed is None else str(seed)


def value_text(value: Any) -> str:
    """A setting as written in a profile; ``-`` if the profile does not have the key."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(jsonable(value), default=str)


def _markdown(comparison: Comparison) -> str:
    def line(values: list[str]) -> str:
        return "| " + " | ".join(" ".join(value.split("\n")).replace("|", "\\|") for value in values) + " |"

    header, body = cells(comparison)
    lines = [line(header), line(["---"] * len(header)), *(line(row) for row in body)]
    if comparison.differing:
        named = called(comparison.rows)
        names = [named[row.id] for row in comparison.rows]
        lines += ["", line(["what differs", *names]), line(["---"] * (len(names) + 1))]
        lines += [
            line([f"`{key}`", *(value_text(value) for value in values)]) for key, values in comparison.differing.items()
        ]
    evidence = [f"  - {text.strip()}" if text[0] == " " else f"- {text}" for text in group_lines(comparison)]
    titles, classes = class_cells(comparison)
    if classes:
        lines += ["", line(["Δ of " + titles[0], *titles[1:]]), line(["---"] * len(titles)), *map(line, classes)]
    notes = [f"- {text}" for text in comparison.notes]
    return "\n".join([*evidence, *([""] if evidence else []), *lines, *(["", *notes] if notes else [])]) + "\n"


def _csv(comparison: Comparison) -> str:
    classes = list(dict.fromkeys(name for row in comparison.rows for name in row.iou))
    metrics = list(dict.fromkeys(name for row in comparison.rows for name in row.metrics))
    plain = [field.name for field in dataclasses.fields(Row) if field.name not in ("iou", "metrics")]
    differing = {key: values for key, values in comparison.differing.items() if key not in plain}  # seed is plain
    of_groups = [_group_fields(comparison, row.id) for row in comparison.rows]
    group_columns = list(dict.fromkeys(name for fields in of_groups for name in fields))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*plain, *(f"iou.{name}" for name in classes), *metrics, *group_columns, *differing])
    for index, row in enumerate(comparison.rows):
        own = [_field(getattr(row, name)) for name in plain]
        iou = [_field(row.iou.get(name)) for name in classes]
        iou += [_field(row.metrics.get(name)) for name in metrics]
        group = [_field(of_groups[index].get(name)) for name in group_columns]
        settings = ["" if values[index] is None else value_text(values[index]) for values in differing.values()]
        writer.writerow([*own, *iou, *group, *settings])
    return text.getvalue()


def _group_fields(comparison: Comparison, run: str) -> dict[str, Any]:
    """The columns with the Δ of a run's group, the same for all its seeds; empty for a run without a baseline."""
    group = next((group for group in comparison.groups if run in {pair.run for pair in group.pairs}), None)
    if group is None:
        return {}
    names = ("name", "miou", "miou_sd", "baseline_miou", "baseline_sd", "delta")
    own = _of_score({name: getattr(group, name) for name in names}, comparison.score)
    fields = {f"group.{name}": value for name, value in own.items()}
    if group.equal_time is not None:
        timed = vars(group.equal_time).copy()
        for suffix, interval in (
            ("", timed.pop("interval")),
            ("_within_baseline", timed.pop("interval_within_baseline")),
        ):
            timed |= {} if interval is None else {f"low{suffix}": interval.low, f"high{suffix}": interval.high}
        fields |= {f"group.equal_time.{name}": value for name, value in timed.items()}
    for suffix, interval in (("", group.interval), *((f".{name}", found) for name, found in group.classes.items())):
        fields |= {f"group.{name}{suffix}": value for name, value in (_interval_json(interval) or {}).items()}
    return fields


def _field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def render(comparison: Comparison, form: str) -> str:
    """Render the comparison as ``json``, ``csv`` or ``markdown`` with a final newline."""
    if form == "json":
        return json.dumps(jsonable(to_json(comparison)), indent=2, default=str, allow_nan=False) + "\n"
    return clean(_csv(comparison) if form == "csv" else _markdown(comparison))
