"""``demo``: train teacher, matched baseline and distilled student on synthetic people and compare them."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from kdtui.cli.console import Json, RunsDir, open_store, out, say
from kdtui.cli.training import attend, finish


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the training; the same for all three.")] = 0,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Train a teacher, a baseline and a distilled student on synthetic people; a few minutes, no download."""
    from kdtui.cli.compare import CompareFormat, comparison_of, write_comparison
    from kdtui.compare.render import delta_text
    from kdtui.launch.start import start
    from kdtui.launch.teachers import find_teacher, prepare

    # Two runs at a time with one thread each: on two cores this is faster than one run at a time with two threads, and
    # degrades less when another process uses a core. The baseline needs no teacher, so both start at once.
    os.environ.setdefault("KDTUI_SLOTS", "cpu:2")
    store = open_store(runs_dir)
    seeded = [f"seed={seed}"]
    say("1/2 training the teacher and the baseline (the student alone)")
    recipes = prepare("demo-teacher", seeded, None), prepare("demo-fewlabels-baseline", seeded, None)
    teacher, baseline = (start(store, profile, origin="kdtui demo") for profile in recipes)
    finish(attend(store, [teacher, baseline]))
    say("2/2 distilling the same student from the teacher")
    taught = prepare("demo-fewlabels-distilled", seeded, find_teacher(teacher.id, store))
    distilled = start(store, taught, origin="kdtui demo")
    finish(attend(store, [distilled]))
    comparison = comparison_of(store, [teacher, baseline, distilled])
    write_comparison(comparison, CompareFormat.json if as_json else CompareFormat.table)
    if as_json:
        return
    row = next(row for row in comparison.rows if row.id == distilled.id)
    out()
    for group in comparison.groups:
        out(f"{delta_text(group)}; mIoU of the distilled student minus the baseline's, seed {seed}", prose=True)
    if row.retention is not None:
        out(f"{row.retention:.1%} of the teacher's mIoU with {row.compression or 1:.1f}x fewer parameters")
    out("settings: " + "; ".join(profile.description for profile in (*recipes, taught)))
