"""A comparison as text: JSON, CSV, Markdown, and the cells of a table."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import Any

from kdtui.compare.comparison import Comparison, Row
from kdtui.compare.named import called
from kdtui.text import clean, giga, jsonable, millions, milliseconds, number, percent, ratio, signed

FORMATS = ("table", "json", "csv", "markdown")


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The JSON object of ``compare --json``."""
    return {
        "baseline": comparison.baseline,
        "rows": [dataclasses.asdict(row) for row in comparison.rows],
        "differing": {key: list(values) for key, values in comparison.differing.items()},
        "seeds": [dataclasses.asdict(group) for group in comparison.aggregates],
        "notes": list(comparison.notes),
    }


def cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table."""
    names = called(comparison.rows)
    bases = {row.baseline for row in comparison.rows}
    classes = list(dict.fromkeys(name for row in comparison.rows for name in row.iou))
    header = ["run", "encoder", "params", "T", "α", "epoch", "mIoU"]
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
            ("★ " if row.rank == 1 else "") + number(row.miou),
        ]
        line += [number(row.iou.get(name)) for name in classes] if len(classes) <= 4 else []
        line += [percent(row.retention), ratio(row.compression)]
        line += [giga(row.macs), milliseconds(row.latency), ratio(row.speedup)] if measured else []
        body.append([*line, delta])
    return header, body


def seed_lines(comparison: Comparison) -> list[str]:
    """One line per group of seeds."""
    lines = []
    for group in comparison.aggregates:
        seeds = ", ".join(str(seed) for seed in group.seeds)
        line = f"{group.name}: mIoU {group.miou:.4f} ± {group.miou_sd:.4f} (n = {group.n}, seeds {seeds})"
        if group.delta is not None and group.delta_sd is not None:
            line += f", Δ {group.delta:+.4f} ± {group.delta_sd:.4f}"
        lines.append(line)
    return lines


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
    extra = [*seed_lines(comparison), *comparison.notes]
    return "\n".join([*lines, *(["", *(f"- {text}" for text in extra)] if extra else [])]) + "\n"


def _csv(comparison: Comparison) -> str:
    classes = list(dict.fromkeys(name for row in comparison.rows for name in row.iou))
    plain = [field.name for field in dataclasses.fields(Row) if field.name != "iou"]
    differing = {key: values for key, values in comparison.differing.items() if key not in plain}  # seed is plain
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*plain, *(f"iou.{name}" for name in classes), *differing])
    for index, row in enumerate(comparison.rows):
        own = [_field(getattr(row, name)) for name in plain]
        iou = [_field(row.iou.get(name)) for name in classes]
        settings = ["" if values[index] is None else value_text(values[index]) for values in differing.values()]
        writer.writerow([*own, *iou, *settings])
    return text.getvalue()


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
