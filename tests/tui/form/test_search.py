"""The form of a search without widgets: what it reads, its messages, and its command line."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from kdtui.cli.app import app
from kdtui.cli.search import request_of
from kdtui.store.run import Run
from kdtui.store.store import RunStore
from kdtui.sweep.search.options import OPTIONS
from kdtui.sweep.search.request import ReadRequest, read
from kdtui.tui.form.search import FIELDS, SETS, CheckedSearch, SearchDraft, about, check
from tests.sweep.search.searching import teacher

SEARCH: Any = typer.main.get_command(app).commands["search"]  # type: ignore[attr-defined]
TEXTS = {
    "latency": "15 ms",
    "parameters": "5M",
    "size": "8MiB",
    "retention": "95%",
    "on": "cpu",
    "runtime": "torch",
    "precision": "int8",
    "trials": "3",
    "hours": "2.5",
    "seeds": "4-6",
    "profile": "demo-distilled",
    "encoders": "resnet18, tu-lcnet_050",
    "architectures": "Unet,Linknet",
    "widths": "1,0.3",
    SETS: "training.epochs=3 description='\"two words\"'",
}
"""A text of each field that is not its default."""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDTUI_SLOTS", "cpu:1,gpu:0")
    return RunStore(tmp_path / "people runs")


@pytest.fixture
def run(store: RunStore) -> Run:
    return teacher(store)


def drafted(run: Run, **texts: str) -> SearchDraft:
    return SearchDraft().edited(**{"teacher": run.id, "latency": "10ms", **texts})


def typed_at_a_shell(command: str, store: RunStore) -> ReadRequest:
    """What the command line makes of a command."""
    program, verb, *words = shlex.split(command)
    assert (program, verb, words[-1]) == ("kdtui", "search", "--detach")
    options = SEARCH.make_context("search", words).params
    assert Path(str(options["runs_dir"])) == store.root
    return read(request_of({name: options[name] for name in OPTIONS}, options["sets"]), store)


def test_every_field_has_a_text_here() -> None:
    assert set(TEXTS) | {"teacher"} == set(FIELDS)
    assert all(about(name).startswith(f"{FIELDS[name]}: ") and "--" not in about(name) for name in FIELDS)


@pytest.mark.parametrize("name", TEXTS)
def test_the_displayed_command_asks_for_the_same_search(name: str, run: Run, store: RunStore) -> None:
    shown = check(drafted(run, **{name: TEXTS[name]}), store)
    assert shown.spec is not None, shown.mistakes
    same = typed_at_a_shell(shown.command, store).spec
    assert same is not None and (same, same.id) == (shown.spec, shown.spec.id)
    plain = check(drafted(run), store).spec
    assert (shown.spec != plain) is (name != "on")  # `cpu` is `cpu:1`


def test_all_fields_together(run: Run, store: RunStore) -> None:
    alike = {"trials": "", "runtime": "onnxruntime", "teacher": str(run.best)}  # what excludes another field
    shown = check(drafted(run, **{**TEXTS, **alike}), store)
    assert shown.spec is not None, shown.mistakes
    assert typed_at_a_shell(shown.command, store).spec == shown.spec


@pytest.mark.parametrize(
    "name", ["on", "precision", "trials", "seeds", "architectures", "widths"], ids=lambda name: str(name)
)
def test_the_displayed_default_is_what_an_empty_field_means(name: str, run: Run, store: RunStore) -> None:
    assert check(drafted(run, **{name: OPTIONS[name].default}), store).spec == check(drafted(run), store).spec


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("teacher", "nobody", "neither a file nor a run"),
        ("latency", "10", "not a latency; allowed: a positive number with us, ms or s, such as 10ms"),
        ("parameters", "5ms", "not a number of parameters"),
        ("size", "8", "not a size of a file"),
        ("retention", "101%", "not a share of the teacher's score"),
        ("on", "gpu", "this machine has no such device"),
        ("trials", "0", "not a number of trials; allowed: a whole number from 1"),
        ("hours", "0", "not a number of hours"),
        ("seeds", "0,0", "a seed is listed twice"),
        ("profile", "nothing", "nothing"),
        ("encoders", "resnet18,resnet17", "found resnet17; allowed: nearest: resnet18"),
        ("architectures", "unet", "nearest: Unet"),
        ("widths", "3", "not a share of the decoder width"),
        (SETS, "training.epochs=", "training.epochs"),
        (SETS, "epochs 3", "KEY=VALUE"),
        (SETS, "training.epochs=3 training.epochs=4", "2 values"),
    ],
)
def test_a_mistake_is_at_its_field(name: str, text: str, message: str, run: Run, store: RunStore) -> None:
    found = check(drafted(run, **{name: text}), store)
    assert list(found.mistakes) == [name] and message in found.mistakes[name], found.mistakes
    assert found.spec is None and not found.candidates
    assert "--" not in found.mistakes[name]


def test_trials_and_hours_exclude_each_other(run: Run, store: RunStore) -> None:
    assert check(drafted(run, trials="3", hours="2"), store).mistakes == {
        "hours": "trials and hours exclude each other; omit one of them"
    }


def test_the_precision_of_a_runtime(run: Run, store: RunStore) -> None:
    assert list(check(drafted(run, runtime="torch", precision="int8"), store).mistakes) == ["precision"]


def test_a_file_has_no_data_until_a_profile_names_them(run: Run, store: RunStore, tmp_path: Path) -> None:
    file = tmp_path / "foreign.pth"
    file.write_bytes(b"weights")
    found = check(drafted(run, teacher=str(file)), store)
    assert "its data are unknown" in found.mistakes["teacher"] and "profile" in found.mistakes["teacher"]
    assert found.teacher == file
    assert check(drafted(run, teacher=str(file), profile="demo-distilled"), store).spec is not None


def test_an_empty_form_misses_what_is_required(store: RunStore) -> None:
    found = check(SearchDraft(), store)
    assert found.missing == ("teacher", "latency") and found.mistakes == {} and found.spec is None
    assert found.command.startswith("kdtui search --teacher 'CKPT|RUN' --latency TIME")


def test_the_candidates_are_those_of_the_search(run: Run, store: RunStore) -> None:
    found: CheckedSearch = check(drafted(run, encoders="resnet18", architectures="Unet", parameters="12M"), store)
    assert [one.word for one in found.candidates] == ["over budget", "over budget", "to measure", "to measure"]
