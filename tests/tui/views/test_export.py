"""The menu of an export as text: the twin means what is chosen, mistakes stand at their fields."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
from hypothesis import given, settings
from hypothesis import strategies as st

from kdtui.cli.app import app
from kdtui.errors import ExportError
from kdtui.export_options import OPTIONS, PRECISIONS, ExportOptions, Option, checked
from kdtui.launch.engine_process import EngineStep
from kdtui.launch.export import ExternalCheckpoint
from kdtui.tui.values import TextLines
from kdtui.tui.views import export
from kdtui.tui.views.export import ExportDraft, ExportFile, ExportSource, Job, ParsedDraft, choices_of, default, read

WORDS = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters=",~"), min_size=1, max_size=8)
EXPORT = typer.main.get_command(app).commands["export"]  # type: ignore[attr-defined]
PARAMETERS = {"input": "input_type", "output": "contents"}  # where Python has the name already


def values(line: Option) -> st.SearchStrategy[str]:
    """Texts that a field of this option takes."""
    if line.name == "checkpoint":
        return st.sampled_from(["best", "last", "untrained"]) | st.integers(1, 9999).map(str)
    if line.name == "precision":
        return st.lists(st.sampled_from(PRECISIONS), min_size=1, unique=True).map(",".join)
    if choices_of(line):
        return st.sampled_from(choices_of(line))
    assert line.least is not None and line.most is not None
    if isinstance(line.default, int):
        return st.integers(int(line.least), int(line.most)).map(str)
    return st.floats(line.least, line.most).map(repr)


DRAFTS = st.builds(
    ExportDraft,
    st.lists(WORDS.map("run-{}".format), min_size=1, max_size=3, unique=True).map(tuple),
    st.fixed_dictionaries(
        {},
        optional={line.name: values(line) for line in OPTIONS if line.name not in ("height", "width")}
        | {"file": WORDS, "folder": WORDS, "profile": WORDS, "encoder": WORDS, "architecture": WORDS}
        | {"task": st.sampled_from(export.TASKS), "classes": st.lists(WORDS, min_size=1, unique=True).map(",".join)},
    ),
)


def parsed(command: str) -> dict[str, Any]:
    """The parameters of ``kdtui export`` for a command line."""
    program, verb, *words = shlex.split(command)
    assert (program, verb) == ("kdtui", "export")
    return dict(EXPORT.make_context("export", words).params)


@settings(max_examples=60, deadline=None)
@given(DRAFTS)
def test_the_command_line_parses_to_what_is_chosen(draft: ExportDraft) -> None:
    found = read(draft)
    assert found.options is not None and not found.mistakes
    params = parsed(found.command)
    assert tuple(params["sources"]) == found.sources
    assert tuple(params["precision"] or ["fp32"]) == found.precisions
    said = {line.name: params[PARAMETERS.get(line.name, line.name)] for line in OPTIONS if line.name != "precision"}
    assert checked(ExportOptions(**said | {"precision": found.precisions[0]})) == found.options
    names = tuple((params["classes"] or "").split(",")) if params["classes"] else ()
    external = ExternalCheckpoint(params["task"], params["architecture"], params["encoder"], names, params["profile"])
    assert external == found.external
    assert (external == ExternalCheckpoint()) or draft.external
    assert (Path(params["folder"]) if params["folder"] else None) == found.folder


def test_unedited_fields_have_the_defaults() -> None:
    found = read(ExportDraft(("a",)))
    assert found.options == ExportOptions()
    assert found.command == "kdtui export a"
    assert read(ExportDraft(("a",), {line.name: default(line.name) for line in OPTIONS})) == found


@pytest.mark.parametrize(
    ("texts", "place", "said"),
    [
        ({"opset": "99"}, "opset", "13 to 22"),
        ({"opset": ""}, "opset", "nothing"),
        ({"limit": "nan"}, "limit", "0 to 100"),
        ({"checkpoint": "newest"}, "checkpoint", "best"),
        ({"precision": ""}, "precision", "at least one"),
        ({"height": "64"}, "height", "both"),
        ({"file": "x.pth", "task": "detection"}, "task", "semantic"),
    ],
)
def test_a_mistake_is_displayed_at_its_field_and_there_is_no_command(
    texts: dict[str, str], place: str, said: str
) -> None:
    found = read(ExportDraft(("a",), texts))
    assert list(found.mistakes) == [place]
    assert said in found.mistakes[place]
    assert (found.command, found.options) == ("", None)
    assert export.label(place) in "".join(text for text, _ in export.outlook(found, ()))


def test_nothing_to_export_is_a_mistake() -> None:
    assert "file" in read(ExportDraft()).mistakes
    assert not read(ExportDraft((), {"file": "x.pth"})).mistakes


def test_every_mistake_at_once() -> None:
    assert set(read(ExportDraft(("a",), {"opset": "x", "batch": "0", "limit": "y"})).mistakes) == {
        "opset",
        "batch",
        "limit",
    }


@given(st.lists(st.sampled_from(PRECISIONS), min_size=1, unique=True))
def test_options_without_effect_on_the_chosen_precisions_are_idle(chosen: list[str]) -> None:
    idle = read(ExportDraft(("a",), {"precision": ",".join(chosen)})).idle
    for line in OPTIONS:
        if line.only:
            assert (line.name in idle) == (not set(line.only) & set(chosen))
            assert ("only" in "".join(text for text, _ in export.about(line.name, idle=True))) is True


def test_the_batch_size_has_no_effect_if_it_is_dynamic() -> None:
    for word in ("all", "batch", "size", "none"):
        assert ("batch" in read(ExportDraft(("a",), {"dynamic": word})).idle) == (word in ("all", "batch"))


def test_every_field_explains_itself() -> None:
    for line in OPTIONS:
        text = "".join(text for text, _ in export.about(line.name))
        assert line.says in text and line.allowed in text
    for name in (*export.EXTERNAL_FIELDS, "file", "folder"):
        assert export.about(name)[1][0]


def told(lines: TextLines) -> str:
    return "\n".join("".join(text for text, _ in line) for line in lines)


def test_existing_files_are_listed_with_their_fate() -> None:
    files = (ExportFile("a.onnx", "fp32", "replaced", 2**20, 0.5, 1.0), ExportFile("a.int8.onnx", "int8", "new"))
    seen = [ExportSource("run", ("best", "1"), files), ExportSource("other", trouble="no such checkpoint")]
    lines = told(export.existing_files(seen)).splitlines()
    assert lines[0] == "run  has best, 1"
    assert "1.0 MiB" in lines[1] and "0.5000" in lines[1] and lines[1].startswith("replaced")
    assert lines[2].split() == ["new", "a.int8.onnx", "int8"]
    assert "no such checkpoint" in lines[4]
    outlook = "".join(text for text, _ in export.outlook(ParsedDraft(("run",), ("fp32",), ExportOptions()), seen))
    assert outlook.startswith("2 files, 1 replacing existing files")


@pytest.mark.parametrize("made", [None, 1e300, -1e300])
def test_an_invalid_time_is_a_dash(made: float | None) -> None:
    assert set(export.day(made)) == {"-"}


def test_results_of_jobs() -> None:
    job = Job("a", "a", ExportOptions(precision="int8"))
    assert told(export.outcome(job)) == "… a int8: queued"
    running = Job("a", "a", ExportOptions(), state=export.RUNS, step=EngineStep("verifying", 3, 7))
    spans = export.progress([job, running])
    assert "".join(text for text, _ in spans) == "2 of 2  a fp32: verifying 3/7"
    error = ExportError("it does not answer", found="2 points", hint="a higher limit")
    failed = Job("a", "a", ExportOptions(), state=export.FAILED, target=Path("x"), error=error)
    text = told(export.outcome(failed))
    assert "it does not answer" in text and "found: 2 points" in text and "next: a higher limit" in text
    assert export.summary([failed]) == "1 failed; existing files are kept"
