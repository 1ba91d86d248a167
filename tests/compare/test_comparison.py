"""Comparisons are pure: rows in, order, differences, Δ, seeds and text out."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtui.cli.compare import print_comparison
from kdtui.compare import ComparedRun, Comparison, called, cells, compare, matched, pareto, render, settings, to_json
from kdtui.compare.pareto import cells as pareto_cells
from kdtui.compare.render import group_lines
from kdtui.errors import UsageError
from kdtui.store.state import RunSummary, State
from kdtui.tui.views.compare import Compared

CREATED = iter(range(10**6))


def entry(
    run: str, miou: float | None = 0.5, *, distilled: bool = False, teacher: float | None = None, **keys: Any
) -> ComparedRun:
    """A run; ``keys`` are profile keys with ``__`` for the dot."""
    profile: dict[str, Any] = {
        "name": run,
        "tags": [run],
        "description": f"about {run}",
        "seed": 0,
        "data": {"kind": "synthetic", "views": 0},
        "student": {"encoder": "b0"},
        "teacher": {"checkpoint": "/t.pth"} if distilled else {},
        "distillation": {"enabled": distilled, "temperature": 4.0},
        "training": {"epochs": 3, "channels_last": "auto"},
    }
    for key, value in keys.items():
        table, _, rest = key.partition("__")
        if rest:
            profile[table] = {**profile[table], rest: value}
        else:
            profile[table] = value
    summary = RunSummary(
        id=run,
        name=run,
        path=Path("/runs") / run,
        state=State.FINISHED,
        best_miou=miou,
        best_iou={} if miou is None else {"target": miou},
        encoder=profile["student"]["encoder"],
        parameters=1_000_000,
        distilled=distilled,
        temperature=4.0 if distilled else None,
        alpha=0.7 if distilled else None,
        teacher_miou=teacher,
        teacher_checkpoint="/t.pth" if distilled else None,
        teacher_parameters=2_000_000 if teacher else None,
        seed=profile["seed"],
        created=float(next(CREATED)),
    )
    return ComparedRun(summary, profile)


def test_best_first_and_runs_without_a_score_last() -> None:
    comparison = compare([entry("a", 0.4), entry("b", None), entry("c", 0.6), entry("d", 0.0)])
    assert [row.id for row in comparison.rows] == ["c", "a", "d", "b"]
    assert [row.rank for row in comparison.rows] == [1, 2, 3, None]


def with_iou(run: str, iou: dict[str, float], **keys: Any) -> ComparedRun:
    made = entry(run, **keys)
    return ComparedRun(dataclasses.replace(made.summary, best_iou=iou), made.profile)


def test_runs_of_different_classes_are_not_ranked_in_silence() -> None:
    street, people = with_iou("a", {"sky": 0.5, "road": 0.5}), with_iou("b", {"person": 0.9}, data__kind="coco")
    for notes in (compare([street, people]).notes, pareto([street, people], "parameters").notes):
        note = next(note for note in notes if "different classes" in note)
        assert "a: road, sky" in note and "b: person" in note
    alike = compare([street, with_iou("c", {"road": 0.4, "sky": 0.4}, data__kind="coco")])
    assert not any("different classes" in note for note in alike.notes)


def test_a_class_that_only_one_run_predicts_is_no_other_class() -> None:
    runs = [with_iou("a", {"sky": 0.5, "road": 0.5}), with_iou("b", {"sky": 0.5, "road": 0.5, "pole": 0.0})]
    assert not any("different classes" in note for note in compare(runs).notes)
    changed = [*runs, with_iou("c", {"sky": 0.5, "lamp": 0.5})]
    assert any("different classes" in note for note in compare(changed).notes)


def test_the_matched_baseline_is_found_and_delta_has_its_sign() -> None:
    runs = [entry("other", 0.9, training__epochs=4), entry("alone", 0.5), entry("taught", 0.48, distilled=True)]
    comparison = compare(runs)
    assert comparison.baseline == "alone"
    delta = {row.id: row.delta_baseline for row in comparison.rows}
    assert delta["taught"] == pytest.approx(-0.02)
    assert delta["alone"] is None
    assert delta["other"] is None
    assert "-0.0200" in render(comparison, "markdown")


@pytest.mark.parametrize("key", ["seed", "data__views", "student__encoder", "training__epochs", "data__train_limit"])
def test_any_other_difference_is_no_match(key: str) -> None:
    taught = entry("taught", distilled=True)
    assert matched(taught, [taught, entry("alone")])
    assert not matched(taught, [taught, entry("alone", miou=0.5, distilled=False, teacher=None, **{key: 9})])


def test_images_without_labels_are_part_of_the_treatment() -> None:
    taught = entry("taught", distilled=True, data__unlabelled={"target": "hard", "share": 0.5})
    assert matched(taught, [entry("alone")])
    assert not matched(taught, [entry("alone", data__train_limit=9)])


def test_zero_and_false_are_different_settings() -> None:
    taught = entry("taught", distilled=True, training__channels_last=False)
    assert not matched(taught, [entry("alone", training__channels_last=0)])
    comparison = compare([entry("a", training__channels_last=False), entry("b", training__channels_last=0)])
    assert comparison.differing == {"training.channels_last": (False, 0)}
    text = render(comparison, "csv")
    assert "false" in text
    assert text.splitlines()[2].endswith(",0")


def test_no_matched_baseline_is_said_and_no_delta_shown() -> None:
    comparison = compare([entry("taught", distilled=True), entry("alone", seed=1)])
    assert comparison.baseline is None
    assert all(row.delta_baseline is None for row in comparison.rows)
    assert any("taught has no Δ: no matched baseline" in note for note in comparison.notes)


def test_a_distilled_run_is_never_the_default_baseline() -> None:
    comparison = compare([entry("t2", distilled=True, distillation__temperature=2.0), entry("t4", distilled=True)])
    assert comparison.baseline is None


def test_a_chosen_baseline_measures_every_other_run() -> None:
    comparison = compare([entry("a", 0.5), entry("b", 0.7, training__epochs=9)], baseline="a")
    assert comparison.baseline == "a"
    assert {row.id: row.baseline for row in comparison.rows} == {"a": None, "b": "a"}
    assert comparison.rows[0].delta_baseline == pytest.approx(0.2)
    with pytest.raises(UsageError):
        compare([entry("a")], baseline="z")


def test_of_several_matched_baselines_the_newest_is_used_and_said() -> None:
    comparison = compare([entry("old", 0.1), entry("new", 0.5), entry("taught", 0.6, distilled=True)])
    assert comparison.baseline == "new"
    assert any("2 matched baselines" in note for note in comparison.notes)


def test_a_delta_that_is_not_fair_yet_has_a_note() -> None:
    base, taught = entry("base", 0.5), entry("taught", 0.6, distilled=True)
    assert compare([base, taught]).notes == ()
    running = ComparedRun(dataclasses.replace(base.summary, state=State.RUNNING), base.profile)
    (note,) = compare([running, taught]).notes
    assert "base is RUNNING" in note
    longer = ComparedRun(dataclasses.replace(taught.summary, epochs=9), taught.profile)
    (note,) = compare([base, longer]).notes
    assert "9 epochs" in note


def test_differing_leaves_out_what_names_a_run() -> None:
    comparison = compare([entry("a", 0.2), entry("b", 0.9, seed=1, data__train_limit=7)])
    assert comparison.differing == {"seed": (1, 0), "data.train_limit": (7, None)}  # in row order: b first


def test_lines_of_groups_begin_with_the_letters_of_their_runs() -> None:
    seeds = [entry(f"run{seed}", seed=seed) for seed in range(7)]
    comparison = compare([*(ComparedRun(dataclasses.replace(one.summary, name="x"), one.profile) for one in seeds)])
    letters = {f"run{seed}": letter for seed, letter in enumerate("ABCDEFG")}
    (plain,), (line,) = group_lines(comparison), group_lines(comparison, letters=letters)
    assert sorted(line.split("… ")[0]) == sorted("ABCDE") and line.endswith(f"… {plain}")
    assert group_lines(comparison, letters={"run3": "D"}) == [f"D {plain}"]


def test_weights_that_terms_replace_are_no_difference() -> None:
    by_terms = entry("terms", 0.9, distilled=True, distillation__terms=[{"kind": "cwd"}])
    by_weights = entry("weights", 0.8, distilled=True, distillation__logits=1.0)
    assert compare([by_terms, by_weights]).differing.keys() == {"distillation.terms"}
    other = entry("other", 0.7, distilled=True, distillation__logits=0.5)
    assert compare([by_terms, by_weights, other]).differing["distillation.logits"] == (None, 1.0, 0.5)


def test_retention_and_compression_come_from_the_one_teacher_on_the_same_data() -> None:
    runs = [entry("alone", 0.4), entry("taught", 0.6, distilled=True, teacher=0.8), entry("else", 0.4, data__height=2)]
    runs.append(entry("fewer labels", 0.2, data__train_limit=9, data__label_coarseness=4))
    rows = {row.id: row for row in compare(runs).rows}
    assert rows["taught"].retention == pytest.approx(0.75)
    assert rows["alone"].retention == pytest.approx(0.5)
    assert rows["taught"].compression == rows["alone"].compression == pytest.approx(2.0)
    assert rows["else"].retention is None
    assert rows["fewer labels"].retention == pytest.approx(0.25)


def test_seeds_of_one_profile_are_aggregated() -> None:
    runs = [entry(f"alone{seed}", miou, seed=seed) for seed, miou in enumerate((0.5, 0.6, 0.7))]
    runs += [
        entry(f"taught{seed}", miou, distilled=True, seed=seed, teacher__checkpoint=f"/t{seed}.pth")
        for seed, miou in enumerate((0.52, 0.61, 0.72))
    ]
    comparison = compare(runs)
    assert comparison.baseline is None  # one per seed
    groups = {group.n: group for group in comparison.aggregates if group.delta is not None}
    alone = next(group for group in comparison.aggregates if group.delta is None)
    assert alone.seeds == (0, 1, 2)
    assert alone.miou == pytest.approx(0.6)
    assert alone.miou_sd == pytest.approx(0.1)
    assert groups[3].delta == pytest.approx((0.02 + 0.01 + 0.02) / 3)
    assert group_lines(comparison) == [
        "taught2: Δ +0.0167, 95 % [+0.0023, +0.0310] over 3 seeds: better than the baseline",
        "  mIoU 0.6167 ± 0.1002 (n = 3, seeds 0, 1, 2), baseline 0.6000 ± 0.1000",
        "  Δ per seed: 0: +0.0200, 1: +0.0100, 2: +0.0200",
    ]
    assert group_lines(compare(runs[:3])) == ["alone2: mIoU 0.6000 ± 0.1000 (n = 3, seeds 0, 1, 2)"]


def seeded(mious: dict[int, float], *, distilled: bool = False, name: str = "", **keys: Any) -> list[ComparedRun]:
    """Runs of one profile; their ids begin with its name."""
    name = name or ("taught" if distilled else "alone")
    runs = [entry(f"{name}{seed}", miou, distilled=distilled, seed=seed, **keys) for seed, miou in mious.items()]
    return [ComparedRun(dataclasses.replace(run.summary, name=name), run.profile) for run in runs]


def test_each_run_is_paired_with_the_baseline_of_its_seed() -> None:
    runs = [*seeded({0: 0.5, 1: 0.6, 4: 0.9}), *seeded({1: 0.62, 0: 0.51, 3: 0.1}, distilled=True)]
    (group,) = compare(runs).groups
    assert [(pair.seed, pair.run, pair.baseline) for pair in group.pairs] == [
        (0, "taught0", "alone0"),
        (1, "taught1", "alone1"),
    ]
    assert [pair.delta for pair in group.pairs] == pytest.approx([0.01, 0.02])
    assert (group.miou, group.baseline_miou, group.delta) == pytest.approx((0.565, 0.55, 0.015))
    assert group.interval is not None and (group.interval.n, group.interval.over) == (2, "seeds")
    assert group.interval.delta == pytest.approx(group.delta)
    assert (group.seeds_without_baseline, group.seeds_of_baselines_only) == ((3,), (4,))
    assert group_lines(compare(runs))[-1] == (
        "  Δ per seed: 0: +0.0100, 1: +0.0200; without a baseline: seed 3; baselines only: seed 4"
    )


def test_swapped_arms_flip_every_sign() -> None:
    one, other = {0: 0.5, 1: 0.6, 2: 0.55}, {0: 0.53, 1: 0.58, 2: 0.6}
    (there,), (back,) = (
        compare([*seeded(base), *seeded(run, distilled=True)]).groups for base, run in ((one, other), (other, one))
    )
    assert there.interval is not None and back.interval is not None
    for ours, theirs in ((there.interval, back.interval), (there.classes["target"], back.classes["target"])):
        assert (ours.low, ours.high) == pytest.approx((-theirs.high, -theirs.low))
    assert there.miou_sd == pytest.approx(back.baseline_sd)


def of_method(method: str, runs: list[ComparedRun]) -> list[ComparedRun]:
    """Runs called ``mine`` of one method."""
    return [
        ComparedRun(
            dataclasses.replace(run.summary, id=f"{method}{run.summary.seed}", name="mine", method=method), run.profile
        )
        for run in runs
    ]


def test_methods_under_one_name_are_groups_that_their_names_tell_apart() -> None:
    taught = [
        run
        for method, miou in (("kl", 0.6), ("cwd", 0.7))
        for run in of_method(
            method, seeded({0: miou, 1: miou + 0.01}, distilled=True, distillation__terms=[{"kind": method}])
        )
    ]
    comparison = compare([*seeded({0: 0.5, 1: 0.52}), *taught])
    assert [(group.name, group.runs) for group in comparison.groups] == [
        ("mine cwd", ("cwd0", "cwd1")),
        ("mine kl", ("kl0", "kl1")),
    ]
    assert {group.name for group in comparison.aggregates} == {"mine cwd", "mine kl", "alone"}
    assert [line[0] for line in cells(comparison)[1]][:3] == ["mine cwd s1", "mine cwd s0", "mine kl s1"]
    single = compare([taught[0], taught[2], *seeded({0: 0.5})])
    assert [group.name for group in single.groups] == ["mine cwd", "mine kl"]


def test_a_run_that_a_newer_one_repeats_is_reported_as_left_out() -> None:
    old, new = entry("old", 0.5, distilled=True), entry("new", 0.6, distilled=True)
    note = "in no group, since new has the same settings and seed and is newer: old"
    assert note in compare([new, old, entry("alone", 0.4)]).notes
    assert not any("in no group" in text for text in compare([old, entry("alone", 0.4)]).notes)


def test_one_baseline_for_all_seeds_gives_no_interval_over_seeds() -> None:
    (group,) = compare([*seeded({0: 0.5}), *seeded({0: 0.6, 1: 0.7}, distilled=True)], "alone0").groups
    assert group.interval is None and not group.classes
    assert group.without_interval == "the baseline has another seed"


def test_one_seed_twice_is_one_seed() -> None:
    assert compare([entry("a", 0.5), entry("b", 0.6)]).aggregates == ()


def test_json_has_the_promised_keys() -> None:
    comparison = compare([entry("alone", 0.4), entry("taught", 0.6, distilled=True, teacher=0.8)])
    body = json.loads(render(comparison, "json"))
    assert body == json.loads(json.dumps(to_json(comparison)))
    assert set(body) >= {"baseline", "rows", "differing"}
    promised = {"id", "name", "encoder", "parameters", "miou", "iou", "retention", "compression", "delta_baseline"}
    assert all(promised <= set(row) for row in body["rows"])
    assert body["differing"]["distillation.enabled"] == [True, False]


def test_csv_reads_back() -> None:
    comparison = compare([entry("alone", 0.4), entry("taught", 0.6, distilled=True, teacher=0.8), entry("none", None)])
    rows = list(csv.DictReader(io.StringIO(render(comparison, "csv"))))
    assert [row["id"] for row in rows] == ["taught", "alone", "none"]
    assert float(rows[0]["delta_baseline"]) == pytest.approx(0.2)
    assert rows[0]["distilled"] == "true"
    assert rows[2]["miou"] == rows[2]["iou.target"] == ""
    assert (rows[0]["group.name"], rows[1]["group.name"]) == ("taught", "")
    assert float(rows[0]["group.delta"]) == pytest.approx(0.2)
    assert float(rows[1]["iou.target"]) == 0.4


def test_markdown_and_table_have_a_line_per_run() -> None:
    comparison = compare([entry("a|b", 0.4), entry("taught", 0.6, distilled=True)])
    header, body = cells(comparison)
    assert len(body) == 2
    assert all(len(line) == len(header) for line in body)
    evidence, empty, *lines = render(comparison, "markdown").splitlines()
    assert (evidence, empty) == ("- taught: Δ +0.2000", "")
    assert lines[0].count("|") == lines[1].count("|")
    assert "a\\|b" in lines[3]


@pytest.mark.parametrize("seeds", [(0, 1), (0, 0)])
def test_runs_of_one_name_are_distinguished_in_the_table_and_in_the_differences(seeds: tuple[int, int]) -> None:
    ids = ("20260821-143002-same", "20260821-150002-same")
    runs = [
        ComparedRun(dataclasses.replace(e.summary, id=run_id, name="same", seed=seed), e.profile)
        for e, run_id, seed in zip((entry("a", epochs=1), entry("b", epochs=2)), ids, seeds, strict=True)
    ]
    wanted = {"same s0", "same s1"} if seeds == (0, 1) else {"same 14:30", "same 15:00"}
    comparison = compare(runs)
    assert {line[0] for line in cells(comparison)[1]} == wanted
    header = next(line for line in render(comparison, "markdown").splitlines() if "what differs" in line)
    assert all(name in header for name in wanted)
    sized = [ComparedRun(dataclasses.replace(e.summary, parameters=1), e.profile) for e in runs]
    assert {line[1] for line in pareto_cells(pareto(sized, "parameters"))[1]} == wanted


def columns_of_what_differs(comparison: Comparison, form: str) -> dict[str, str]:
    """Short name of each run to its value of ``data.views``, as a reader of that form finds it."""
    named = called(comparison.rows)
    if form == "json":
        body = json.loads(render(comparison, "json"))
        values = body["differing"]["data.views"]
        return {named[row["id"]]: str(value) for row, value in zip(body["rows"], values, strict=True)}
    if form == "csv":
        return {named[row["id"]]: row["data.views"] for row in csv.DictReader(io.StringIO(render(comparison, "csv")))}
    if form == "markdown":
        written = render(comparison, "markdown").splitlines()
        lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in written]
        header = next(line for line in lines if line[:1] == ["what differs"])
        values = next(line for line in lines if line[:1] == ["`data.views`"])
        return dict(zip(header[1:], values[1:], strict=True))
    if form == "cockpit":
        compared = Compared(comparison, {e.summary.id: e.summary for e in ENTRIES}, named, {})
        values = [cell.text for cell in compared.differing()["data.views"][1:]]
        return {named[row.id]: value for row, value in zip(compared.rows, values, strict=True)}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        print_comparison(comparison)
    rows = [re.split(r" {2,}", line) for line in printed.getvalue().splitlines()]
    numbered = {f"#{row[0]}": row[1].split(" (")[0] for row in rows if row[0].isdigit()}
    header = next(row for row in rows if row[0] == "what differs")[1:]
    values = next(row for row in rows if row[0] == "data.views")[1:]
    numbers = [title.partition(" ")[0] for title in header]
    assert header == [f"{number} {numbered[number].partition(' ')[2]}".strip() for number in numbers]
    return {numbered[number]: value for number, value in zip(numbers, values, strict=True)}


ENTRIES = [
    ComparedRun(dataclasses.replace(e.summary, id=f"20260821-14300{n}-{name}", name=name, seed=n), e.profile)
    for name in ("alone", "taught")
    for n, e in ((n, entry(name, seed=n, data__views=10 * len(name) + n)) for n in range(3))
]


@given(
    order=st.permutations(range(len(ENTRIES))),
    scores=st.lists(st.none() | st.floats(0, 1), min_size=len(ENTRIES), max_size=len(ENTRIES)),
)
@pytest.mark.parametrize("form", ["json", "csv", "markdown", "text", "cockpit"])
def test_what_differs_belongs_to_the_run_of_its_column(form: str, order: list[int], scores: list[float | None]) -> None:
    entries = [
        ComparedRun(dataclasses.replace(ENTRIES[place].summary, best_miou=score), ENTRIES[place].profile)
        for place, score in zip(order, scores, strict=True)
    ]
    expected = {f"{e.summary.name} s{e.summary.seed}": str(e.profile["data"]["views"]) for e in ENTRIES}
    assert columns_of_what_differs(compare(entries), form) == expected


def test_settings_flattens_tables() -> None:
    assert settings({"a": 1, "b": {"c": {"d": 2}, "e": [3]}}, without=["a"]) == {"b.c.d": 2, "b.e": [3]}


def test_a_baseline_of_equal_time_is_no_matched_one_and_has_its_own_delta() -> None:
    runs = [entry("alone", 0.5), entry("taught", 0.6, distilled=True)]
    runs.append(entry("alone-equal-time-9", 0.58, training__epochs=9))
    comparison = compare([*runs, entry("longer", 0.9, training__epochs=12)])
    assert next(row for row in comparison.rows if row.id == "taught").baseline == "alone"
    (note,) = [note for note in comparison.notes if "equal time" in note]
    assert note.startswith("taught: Δ +0.0200 against alone-equal-time-9, for equal time")


def test_baselines_of_equal_time_over_seeds_have_an_interval() -> None:
    runs = [*seeded({0: 0.5, 1: 0.51}), *seeded({0: 0.6, 1: 0.62, 2: 0.7}, distilled=True)]
    runs += seeded({0: 0.58, 1: 0.59}, name="alone-equal-time-9", training__epochs=9)
    comparison = compare([ComparedRun(dataclasses.replace(run.summary, epochs=9), run.profile) for run in runs])
    (group,) = comparison.timed
    assert [(pair.seed, pair.baseline) for pair in group.pairs] == [
        (0, "alone-equal-time-90"),
        (1, "alone-equal-time-91"),
    ]
    assert group.interval is not None and group.interval.delta == pytest.approx(0.025)
    assert group.seeds_without_baseline == (2,) and group.baseline_epochs == 9
    (note,) = [note for note in comparison.notes if "equal time" in note]
    against = "taught against alone-equal-time-90, alone-equal-time-91, for equal time (9 epochs)"
    assert note == f"{against}: {group.interval.text}"
    (listed,) = json.loads(render(comparison, "json"))["equal_time_baselines"]
    assert listed["interval"]["verdict"] == "within noise"


@pytest.mark.parametrize(("miou", "cell"), [(0.81, "! 101.2%"), (0.8, "100.0%"), (0.4, "50.0%"), (None, "-")])
def test_retention_above_one_has_a_mark(miou: float | None, cell: str) -> None:
    header, (line,) = cells(compare([entry("taught", miou, distilled=True, teacher=0.8)]))
    assert line[header.index("retention")] == cell


def test_a_run_that_is_better_than_its_teacher_has_a_note() -> None:
    notes = {
        teacher: compare([entry("alone", 0.5), entry("taught", 0.6, distilled=True, teacher=teacher)]).notes
        for teacher in (0.55, 0.8)
    }
    assert [any("better than its teacher" in note for note in found) for found in notes.values()] == [True, False]


def test_a_warning_that_several_runs_share_is_one_note() -> None:
    warning = {"code": "a", "message": "the labels look wrong", "hint": None}
    runs = [entry(name) for name in ("one", "two", "three")]
    warned = [
        dataclasses.replace(run, summary=dataclasses.replace(run.summary, warnings=(warning,))) for run in runs[:2]
    ]
    comparison = compare([*warned, runs[2]])
    assert "warning in one, two: the labels look wrong" in comparison.notes
    assert "the labels look wrong" in render(comparison, "markdown")


def of_instances(made: ComparedRun, target_iou: float | None, **metrics: float) -> ComparedRun:
    """A run whose best epoch is that of the largest target IoU."""
    metrics = {} if target_iou is None else {"target_iou": target_iou, **metrics}
    last = {} if target_iou is None else {"target_iou": 0.1, "best_target_iou": target_iou}
    summary = dataclasses.replace(made.summary, metrics=last, best_metrics=metrics, teacher_metrics={"target_iou": 0.8})
    return dataclasses.replace(made, summary=summary)


def instances() -> list[ComparedRun]:
    return [
        of_instances(entry("alone", 0.7), 0.5),
        of_instances(entry("taught", 0.6, distilled=True, teacher=0.9), 0.6, mask_ap=0.3),
    ]


def test_runs_are_compared_by_the_score_that_determines_their_best_epochs() -> None:
    comparison = compare(instances())
    assert comparison.score == "target_iou"
    assert [row.id for row in comparison.rows] == ["taught", "alone"]  # not by the mIoU
    taught = comparison.rows[0]
    assert (taught.score, taught.miou, taught.metrics["mask_ap"]) == (0.6, 0.6, 0.3)
    assert taught.delta_baseline == pytest.approx(0.1)
    assert taught.retention == pytest.approx(0.6 / 0.8)
    header, body = cells(comparison)
    assert body[0][header.index("target IoU")] == "★ 0.6000" and body[1][header.index("mIoU")] == "0.7000"
    written = json.loads(render(comparison, "json"))
    assert written["score"] == "target_iou"
    (group,) = written["groups"]
    assert group["target_iou"] == 0.6 and group["pairs"][0]["baseline_target_iou"] == 0.5 and "miou" not in group
    rows = list(csv.DictReader(io.StringIO(render(comparison, "csv"))))
    assert (rows[0]["score"], rows[0]["mask_ap"], rows[1]["mask_ap"]) == ("0.6", "0.3", "")
    assert rows[0]["group.baseline_target_iou"] == "0.5"
    assert "| target IoU | mIoU |" in render(comparison, "markdown")


def test_runs_with_different_scores_are_compared_by_their_miou() -> None:
    comparison = compare([*instances(), entry("crops", 0.65)])
    assert comparison.score == "miou"
    assert [row.id for row in comparison.rows] == ["alone", "crops", "taught"]
    assert "target IoU" not in cells(comparison)[0]


def test_the_cockpit_shows_the_score_and_every_further_one() -> None:
    comparison = compare(instances())
    summaries = {made.summary.id: made.summary for made in instances()}
    shown = Compared(comparison, summaries, called(comparison.rows), {})
    (score,) = [column for column in shown.columns if column.title == "target IoU"]
    (miou,) = [column for column in shown.columns if column.title == "mIoU"]
    assert score.drop == 0 < miou.drop
    assert [cell.text for cell in shown.numbers()["mask AP"]] == ["mask AP", "0.3000", "-"]
    assert [cell.text for cell in shown.numbers()["target IoU"]] == ["target IoU", "★0.6000", "▼0.5000"]
