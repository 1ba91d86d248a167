"""``compare``, and the files that it writes to the run store."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdtui.cli.console import (
    ChosenRuns,
    Filter,
    Json,
    RunsDir,
    Wide,
    columns,
    complete_run,
    emit,
    one_form,
    open_store,
    out,
    say,
    table,
)
from kdtui.cli.layout import blocks
from kdtui.errors import Interrupted, StoreError, UsageError
from kdtui.text import clean, jsonable

if TYPE_CHECKING:
    from kdtui.compare import Comparison
    from kdtui.store.run import Run
    from kdtui.store.store import RunStore


class CompareFormat(StrEnum):
    """Output format of a comparison."""

    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"


class CostOption(StrEnum):
    """Cost against which mIoU is compared."""

    latency = "latency"
    parameters = "parameters"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("compare")(compare_runs)


def compare_runs(
    runs: ChosenRuns = None,
    expression: Filter = "",
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="RUN",
            help="Run that Δ refers to; default: the run that differs only in teacher and distillation.",
            autocompletion=complete_run,
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        CompareFormat | None, typer.Option("--format", help="Output format; default table.", show_default=False)
    ] = None,
    pareto: Annotated[
        CostOption | None,
        typer.Option(
            "--pareto",
            help="Show mIoU, or the networks' own score, against this cost for runs, their exports and teachers; "
            "dominated ones are dimmed.",
            show_default=False,
        ),
    ] = None,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Also print which classes gained and lost, with intervals.")
    ] = False,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            help="Split; test, val or train: compare the best checkpoints on it, evaluating those that were not yet.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--to", "-o", metavar="PATH", help="Output path; a file.", show_default=False),
    ] = None,
    wide: Wide = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Compare runs; also writes experiment_runs.json and experiment_comparison.csv to the run store."""
    form = one_form(form, CompareFormat.json if as_json else None, CompareFormat.table)
    from kdtui.compare.entries import reused_baselines
    from kdtui.launch.teachers import expand

    store = open_store(runs_dir)
    found = store.find_all(expand(runs or [], store, expression))
    names = {*(runs or [])} - {run.id for run in found}
    if names and names & {row.group for row in store.summaries()}:  # it may use baselines that existed before
        found += reused_baselines(store, found)
    base = None if baseline is None else store.find(baseline)
    if base is not None and base not in found:
        found.append(base)
    if split is not None:
        if pareto is not None:
            raise UsageError("--split and --pareto exclude each other", hint="omit one of them")
        comparison = _on_split(store, found, split, None if base is None else base.id)
        write_comparison(comparison, form, output, wide=wide, per_class=per_class)
        return
    if pareto is not None:
        _pareto(store, found, pareto, form, output, wide=wide)
        return
    comparison = comparison_of(store, found, None if base is None else base.id)
    write_comparison(comparison, form, output, wide=wide, per_class=per_class)


def _on_split(store: RunStore, runs: Sequence[Run], split: str, baseline: str | None) -> Comparison:
    """Compare runs by the scores of their best checkpoints on a split; the files in the store are not written."""
    from kdtui.cli.export import progress_line
    from kdtui.compare import compare, entries_of
    from kdtui.compare.entries import SPLITS, on_split, split_note
    from kdtui.compare.evidence import with_evidence
    from kdtui.launch.engine_process import EngineStep
    from kdtui.launch.evaluations import evaluations

    if split not in SPLITS:
        raise UsageError("no such split", where="--split", found=split, allowed=", ".join(SPLITS))
    show = progress_line()
    try:
        answers = evaluations(runs, split, on_step=show)
    except KeyboardInterrupt as error:
        raise Interrupted("cancelled; finished evaluations are kept") from error
    show(EngineStep("finished"))
    entries = [on_split(entry, answer) for entry, answer in zip(entries_of(store, runs), answers, strict=True)]
    comparison = with_evidence(compare(entries, baseline), entries)
    return dataclasses.replace(comparison, notes=(split_note(split), *comparison.notes))


def _pareto(
    store: RunStore, runs: Sequence[Run], cost: CostOption, form: CompareFormat, output: Path | None, *, wide: bool
) -> None:
    from kdtui.compare import entries_of, pareto
    from kdtui.compare.pareto import cells as pareto_cells
    from kdtui.compare.pareto import to_json

    if output is not None or form not in (CompareFormat.table, CompareFormat.json):
        raise UsageError(
            "--pareto prints a table or JSON to stdout only", allowed="--format table or --format json, without --to"
        )
    found = pareto(entries_of(store, runs), cost.value)
    if form is CompareFormat.json:
        emit(to_json(found))
        return
    header, body = pareto_cells(found)
    dominated = frozenset(place for place, point in enumerate(found.points) if point.dominated_by is not None)
    table(
        header,
        body,
        right=frozenset(header[3:-1]),
        dim=dominated,
        wrap=("run", "dominated by"),
        drop=("params", "runtime"),
        wide=wide,
    )
    for sentence in found.notes:
        say(sentence)


def comparison_of(store: RunStore, runs: Sequence[Run], baseline: str | None = None) -> Comparison:
    """Compare runs and write the two files to the store."""
    from kdtui.cli.runs import run_json
    from kdtui.compare import compare, entries_of, render
    from kdtui.compare.evidence import with_evidence
    from kdtui.store.run import write_atomically

    entries = entries_of(store, runs)
    comparison = with_evidence(compare(entries, baseline), entries)
    order = {row.id: place for place, row in enumerate(comparison.rows)}
    ranked = sorted((entry.summary for entry in entries), key=lambda summary: order[summary.id])
    rows = [run_json(summary) for summary in ranked]
    listed = json.dumps(jsonable(rows), indent=2, allow_nan=False) + "\n"
    try:
        write_atomically(store.root / "experiment_runs.json", listed.encode())
        write_atomically(store.root / "experiment_comparison.csv", render(comparison, "csv").encode())
    except StoreError as error:  # runs of a full disk or of another user can still be compared
        say(f"could not write the comparison to the run store: {error.found} ({error.where})")
    return comparison


def write_comparison(
    comparison: Comparison,
    form: CompareFormat,
    output: Path | None = None,
    *,
    wide: bool = False,
    per_class: bool = False,
) -> None:
    """Write the comparison to stdout or to a file."""
    from kdtui.compare import render
    from kdtui.store.run import write_atomically

    if output is not None:
        text = render(comparison, CompareFormat.markdown if form is CompareFormat.table else form)
        if not output.parent.is_dir():
            raise UsageError("the folder of --to does not exist", where=output.parent, hint="create it first")
        if output.is_dir():
            raise UsageError("--to is a folder", where=output, allowed="a file", hint="give the path of a file in it")
        write_atomically(output, text.encode())
        say(f"written to {output}")
    elif form is CompareFormat.table:
        print_comparison(comparison, wide=wide, per_class=per_class)
    else:
        print(clean(render(comparison, form)), end="")


_DROP = ("MACs", "epoch", "encoder", "params", "α", "T", "smaller", "latency", "faster", "retention")
"""Columns that are left out in a narrow terminal, in this order, after the IoU of single classes."""


def print_comparison(comparison: Comparison, *, wide: bool = False, per_class: bool = False) -> None:
    """Print the comparison as text: what each Δ is worth, the table, differing settings, classes and notes."""
    from kdtui.compare import cells
    from kdtui.compare.render import class_cells, group_lines

    lines = group_lines(comparison)
    for line in lines:
        out(line, prose=True)
    if lines:
        out()
    header, body = cells(comparison)
    rows = [[str(place), *line] for place, line in enumerate(body, start=1)]
    iou = [title for title in reversed(header) if title.startswith("IoU ")]
    table(
        ["#", *header],
        rows,
        right=frozenset(["#", *header[2:]]),
        drop=(*iou, *_DROP),
        wide=wide,
    )
    if comparison.differing:
        _print_differing(comparison, wide=wide)
    if per_class:
        titles, changes = class_cells(comparison)
        out()
        table(titles, changes, wrap=titles, wide=wide) if changes else say("no Δ of a class has an interval")
    for sentence in comparison.notes:
        say(sentence)


def _print_differing(comparison: Comparison, *, wide: bool) -> None:
    """Print differing settings with one numbered column per run, in several tables if the terminal is narrow."""
    from kdtui.compare.named import called, mark
    from kdtui.compare.render import value_text

    names = called(comparison.rows)
    own = [mark(names[row.id], row.name) for row in comparison.rows]
    header = ["what differs", *(f"#{place}{text}" for place, text in enumerate(own, start=1))]
    rows = [
        [clean(key), *(clean(value_text(value)) for value in values)] for key, values in comparison.differing.items()
    ]
    room = None if wide else columns(sys.stdout)
    for group in [list(range(len(header)))] if room is None else blocks(header, rows, room):
        out()
        titles = [header[place] for place in group]
        table(titles, [[row[place] for place in group] for row in rows], wrap=titles, wide=wide)


def evaluate_newest(store: RunStore, names: Sequence[str], *, as_json: bool) -> list[Run]:
    """``train --skip-training``: evaluate the newest run of each profile and compare them; return these runs."""
    from kdtui.launch.evaluations import evaluate_run
    from kdtui.store.run import Run

    newest = {row.name: row.path for row in store.summaries()}  # oldest first
    runs: list[Run] = []
    for name in names:
        if name not in newest:
            raise UsageError(f"no run of profile '{name}' to evaluate", where=store.root, hint="omit --skip-training")
        runs.append(Run(newest[name]))
    for run in runs:
        answer = evaluate_run(run, "val")
        say(f"{run.id}: mIoU {answer['miou']:.4f} on val")
    comparison = comparison_of(store, runs)
    if as_json:
        from kdtui.compare import to_json

        emit(to_json(comparison))
    else:
        print_comparison(comparison)
    return runs
