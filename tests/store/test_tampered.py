"""Files of a store that other users may have changed: any JSON value at any place is read, or the file is damaged."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdtui.cli.console import emit
from kdtui.cli.runs import run_json, run_lines
from kdtui.compare import compare, entries_of, render
from kdtui.compare.render import FORMATS
from kdtui.store.store import RunStore
from tests.store.conftest import Processes
from tests.store.test_summary_cache import fill

ODD: list[Any] = [
    *(None, True, 0, -1, 10**400, -(2**63), 1e308, float("nan"), float("inf"), 0.5, "", "x", "1", "\ud800", "\x1b[31m"),
    *([], {}, [[]], {"": {}}, {"a": "b"}, ["x"], [None], [1], [{"pid": 10**30, "start_ticks": "x"}]),
]
VALUES = st.sampled_from(ODD) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
DEEP = b"[" * 100_000
MEASURED = {
    "run": "r",
    "student": {"architecture": "Unet", "encoder": "e", "sha256": "0", "parameters": 5, "macs": 5, "miou": 0.5,
                "onnx": {"fp32": {"bytes": 5, "miou": 0.5}},
                "latency": {"torch": {"1": {"median": 0.1, "q1": 0.1, "q3": 0.1, "images_per_second": 9.0}}}},
    "teacher": None,
    "ratio": None,
    "setup": {"height": 8, "width": 8, "device_name": "cpu", "threads": 1, "repeats": 3, "torch": "2",
              "onnxruntime": "1"},
}  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(item, (*path, key))


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = copy.deepcopy(value)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = new
    return changed


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A store with measured runs in several states; a test that changes a file restores it."""
    store = RunStore(tmp_path_factory.mktemp("tampered") / "runs", alive=Processes())
    for run in fill(store):
        run.measurements_path.write_text(json.dumps(MEASURED))
    return store


@pytest.fixture
def stocked(shared: RunStore) -> RunStore:
    """The same, with its cache written."""
    store = RunStore(shared.root, alive=Processes())
    store.summaries()
    return store


def file_of(store: RunStore, name: str) -> Path:
    return store.root / name if name.startswith(".") else store.runs()[0].path / name


@contextlib.contextmanager
def changed(path: Path, body: bytes) -> Iterator[None]:
    former = path.read_bytes()
    path.write_bytes(body)
    try:
        yield
    finally:
        path.write_bytes(former)


def everything_is_shown(store: RunStore, capsys: pytest.CaptureFixture[str]) -> None:
    """What `runs`, `show` and `compare` do; every JSON that is written is JSON."""
    rows = store.summaries()
    assert len(rows) == 4
    emit([run_json(row) for row in rows])
    json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    for row in rows:
        assert all(isinstance(text, str) for _, text in run_lines(row))
    readable = [run for run in store.runs() if run.profile_path.exists()]
    comparison = compare(entries_of(store, readable))
    for form in FORMATS:
        render(comparison, form).encode()
    json.loads(render(comparison, "json"), parse_constant=pytest.fail)


FILES = [".cache/summaries.json", "launch.json", "run.json", "measurements.json"]


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_at_any_place_costs_no_command(
    stocked: RunStore, name: str, data: st.DataObject, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of(stocked, name)
    body = json.loads(path.read_bytes())
    place = data.draw(st.sampled_from(list(places(body))))
    with changed(path, json.dumps(put(body, place, data.draw(VALUES))).encode()):
        everything_is_shown(RunStore(stocked.root, alive=Processes()), capsys)


def test_a_cached_launch_record_without_its_keys_costs_no_command(
    stocked: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file_of(stocked, FILES[0])
    body = json.loads(path.read_bytes())
    for place in [place for place in places(body) if place and place[-1] == "record"]:
        with changed(path, json.dumps(put(body, place, {})).encode()):
            everything_is_shown(RunStore(stocked.root, alive=Processes()), capsys)


@pytest.mark.parametrize("name", [*FILES, "notes.toml"])
@pytest.mark.parametrize("body", [b"", b"\xff", DEEP, b"9" * 5000, b"[1e999]", b"null", b"[NaN]"], ids=range(7))
def test_a_file_that_is_no_json_of_ours_costs_no_command(
    stocked: RunStore, name: str, body: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with changed(file_of(stocked, name), body):
        everything_is_shown(RunStore(stocked.root, alive=Processes()), capsys)


def test_what_does_not_fit_in_the_cache_is_read_anew_and_rewritten(store: RunStore) -> None:
    fill(store)
    truth = RunStore(store.root, alive=Processes()).summaries()
    cache = store.root / ".cache" / "summaries.json"
    body = json.loads(cache.read_bytes())
    odd: list[tuple[str, Any]] = [("tags", 5), ("last_event", 1e300), ("name", None), ("best_iou", {"a": "x"})]
    for entry, (key, value) in zip(body["runs"].values(), odd, strict=True):
        entry["digest"]["shown"][key] = value
    for text in (json.dumps(body).encode(), DEEP, b"\xff"):
        cache.write_bytes(text)
        assert RunStore(store.root, alive=Processes()).summaries() == truth
        rewritten = json.loads(cache.read_bytes())["runs"]
        assert {entry["digest"]["shown"]["name"] for entry in rewritten.values()} == {"r0", "r1", "r2", "r3"}
