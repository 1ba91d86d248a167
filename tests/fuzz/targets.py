"""The parsers of what others wrote: each takes any bytes, and answers with a value or with one of our errors."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import kdtui
from kdtui import export_options
from kdtui.cli.console import report
from kdtui.cli.runs import run_json, run_lines, run_row
from kdtui.compare import compare, entries_of, render
from kdtui.compare.measured import usable_measurements
from kdtui.errors import KdtuiError
from kdtui.events import encode
from kdtui.launch.device_queue import Claim, Queue, cpu_names, older, places
from kdtui.launch.engine_process import engine_command, read_answer, read_step
from kdtui.launch.export import ExternalCheckpoint
from kdtui.launch.shared_folder import SharedFolder, machine_folder
from kdtui.launch.slots import capacity
from kdtui.profile import Distillation, Profile, dump, load
from kdtui.store import filter as filters
from kdtui.store.event_log import Tail
from kdtui.store.export_files import export_path, report_of
from kdtui.store.files import check_name
from kdtui.store.history import History
from kdtui.store.run import LaunchRecord, Run
from kdtui.store.scan import scan
from kdtui.store.state import Liveness
from kdtui.store.store import RunStore
from kdtui.tui import preferences
from kdtui.tui.engine_client import EngineClient
from kdtui.tui.screens.export.sources import list_sources
from kdtui.tui.views.export import ParsedDraft
from tests.store.conftest import record, training, write

LONGEST = 10_000
"""Characters that a message has at most, whatever the input."""
SECONDS = 20.0
"""Seconds of this process that any input takes at most."""


@dataclass(frozen=True)
class Target:
    """A parser.

    Attributes:
        examples: Valid inputs, which are edited.
        parse: Called with the input and an empty folder; what it raises beside our errors is a fault.
    """

    examples: tuple[bytes, ...]
    parse: Parse


TARGETS: dict[str, Target] = {}
Parse = Callable[[bytes, Path], object]


def entering(targets: dict[str, Target]) -> Callable[..., Callable[[Parse], Parse]]:
    """A decorator that enters a parser, under a name and with its examples, into ``targets``."""

    def target(name: str, *examples: bytes) -> Callable[[Parse], Parse]:
        def enter(parse: Parse) -> Parse:
            targets[name] = Target(examples, parse)
            return parse

        return enter

    return target


target = entering(TARGETS)


def check(target: Target, data: bytes, folder: Path) -> None:
    """Parse an input.

    Raises:
        AssertionError: It takes too long, or its message is too long or holds what a terminal obeys.
        Exception: What is none of our errors.
    """
    begun = time.process_time()
    with contextlib.chdir(folder):
        try:
            target.parse(data, folder)
        except KdtuiError as error:
            with mock.patch("sys.stderr", io.StringIO()) as stream:
                report(error)
            printed = stream.getvalue()
            assert len(printed) <= LONGEST, f"{len(printed)} characters: {printed[:300]}"
            assert all(letter.isprintable() or letter in "\n\t" for letter in printed), repr(printed[:600])
    assert time.process_time() - begun < SECONDS


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


@target("profile", dump(Profile(name="a")), b'extends = "distill-b0-from-b3"\nname = "mine"\n[training]\nepochs = 3\n')
def _profile(data: bytes, folder: Path) -> None:
    (folder / "mine.toml").write_bytes(data)
    load(folder / "mine.toml")


@target(
    "setting",
    b"training.epochs=3",
    b"distillation.temperature=2.5",
    b'data.root="x"',
    b"student.decoder_channels=[8,8]",
)
def _setting(data: bytes, folder: Path) -> None:
    load("baseline", [_text(data)])


def _dead(record: LaunchRecord) -> Liveness:
    return Liveness.DEAD


def _run(folder: Path) -> tuple[RunStore, Run]:
    store = RunStore(folder / "runs", alive=_dead)
    run = store.create(Profile(name="a", distillation=Distillation(enabled=True)))
    write(run, training(20))
    run.write_launch_record(record())
    return store, run


def _look(folder: Path, store: RunStore, run: Run) -> None:
    """All that the faces make of a run."""
    for again in (store, RunStore(store.root, alive=_dead)):  # the second with the first one's cache
        rows = again.summaries()
        assert len(rows) == 1
        json.dumps(run_json(rows[0]))
        run_row(rows[0])
        run_lines(rows[0])
        again.summary(run)
    entries = entries_of(store, [run])
    for form in ("csv", "json", "markdown"):
        render(compare(entries), form)


@target("events", b"".join(encode(event) for event in training(12)))
def _events(data: bytes, folder: Path) -> None:
    store, run = _run(folder)
    run.events_path.write_bytes(data)
    scan(run.events_path)
    for last in (None, 200):
        History(Tail(run.events_path, last=last).read() if last else Tail(run.events_path).read())
    _look(folder, store, run)


def _file(name: str, of: Callable[[Run], Path]) -> None:
    def example() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            _, run = _run(Path(folder))
            return of(run).read_bytes()

    @target(name, example())
    def parse(data: bytes, folder: Path) -> None:
        store, run = _run(folder)
        of(run).write_bytes(data)
        _look(folder, store, run)
        for read in (run.manifest, run.launch_record, run.notes, run.profile, run.profile_table):
            with contextlib.suppress(KdtuiError):
                read()
        store.find("latest")


def _valid(name: str, text: bytes, of: Callable[[Run], Path]) -> None:
    """A file that a new run does not have."""

    @target(name, text)
    def parse(data: bytes, folder: Path) -> None:
        store, run = _run(folder)
        of(run).write_bytes(data)
        _look(folder, store, run)
        for read in (run.overrides, run.profile, run.profile_table):
            with contextlib.suppress(KdtuiError):
                read()


_file("run.json", lambda run: run.manifest_path)
_file("launch.json", lambda run: run.launch_path)
_file("notes.toml", lambda run: run.notes_path)
_file("profile-of-run", lambda run: run.profile_path)


_valid("overrides.toml", b'[data]\nroot = "/a"\n[teacher]\ncheckpoint = "b.pth"\n', lambda run: run.overrides_path)


@target(
    "measurements",
    json.dumps(
        {
            "run": "a",
            "setup": {"device": "cpu", "threads": 1, "repeats": 3, "height": 8, "width": 8, "device_name": "a chip"}
            | {"torch": "0", "onnxruntime": "0", "batch": [1], "warmup": 1},
            "teacher": None,
            "student": {"parameters": 5, "parameter_bytes": 20, "macs": 3, "onnx": {}, "miou": 0.5}
            | {"latency": {"torch": {"1": {"median": 0.1, "q1": 0.1, "q3": 0.2, "images_per_second": 9.0}}}},
            "ratio": None,
        }
    ).encode(),
)
def _measurements(data: bytes, folder: Path) -> None:
    store, run = _run(folder)
    run.measurements_path.write_bytes(data)
    usable_measurements(run)
    _look(folder, store, run)


def _cached(folder: Path) -> tuple[RunStore, Run, Path, bytes]:
    """A store with its cache, and the cached entry of the run."""
    store, run = _run(folder)
    for path in (*run.path.rglob("*"), run.path):
        os.utime(path, (1e9, 1e9))  # so old that no process may still be writing it
    store.summaries()
    store.keep()
    cache = store.root / ".cache" / "summaries.json"
    digest = json.loads(cache.read_bytes())["runs"][run.id]["digest"]
    return store, run, cache, json.dumps(digest, separators=(",", ":")).encode()


def _digest_example() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return _cached(Path(folder))[3]


@target("summary-cache", _digest_example())
def _cache(data: bytes, folder: Path) -> None:
    store, run, cache, digest = _cached(folder)
    whole = cache.read_bytes()
    assert digest in whole
    cache.write_bytes(whole.replace(digest, data))
    _look(folder, RunStore(store.root, alive=_dead), run)


@target("filter", b"miou>0.3 state:running", b"-encoder:b0 seed:3 tag:x", b'name:"a b" alpha<=0.5')
def _filter(data: bytes, folder: Path) -> None:
    store, _ = _run(folder)
    wanted = filters.parse(_text(data))
    for row in store.summaries():
        wanted(row)


@contextlib.contextmanager
def _variables(data: bytes, *names: str) -> Iterator[None]:
    value = _text(data.replace(b"\0", b""))
    with mock.patch.dict(os.environ, dict.fromkeys(names, value)):
        yield


@target("slots", b"cpu:2,gpu:1", b"cpu:1", b"gpu:0")
def _slots(data: bytes, folder: Path) -> None:
    with _variables(data, "KDTUI_SLOTS"):
        capacity()


@target("engine-command", b"python -m kdtui.engine", b"'a b' c", b"env X=1 python")
def _engine(data: bytes, folder: Path) -> None:
    with _variables(data, "KDTUI_ENGINE"):
        engine_command("check")


@target("columns", b"80", b"200", b"0")
def _columns(data: bytes, folder: Path) -> None:
    from kdtui.cli.console import columns

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with _variables(data, "COLUMNS", "LINES"):
        columns(Terminal())


@target("name", b"a-name", b"20260821-143002-distill", b"latest", b"a/b.pth", b"~no-such-user/x")
def _name(data: bytes, folder: Path) -> None:
    store, _ = _run(folder)
    for read in (check_name, store.find, lambda text: load(text)):
        with contextlib.suppress(KdtuiError):
            read(_text(data))
    store.find(_text(data))


_ANSWER = {"checks": [{"name": "data", "ok": True, "message": "fine", "hint": None}], "warnings": []}
_FAILED = {"error": {"error": "TeacherError", "message": "no such file", "hint": "`kdtui teachers` lists some"}}


@target("answer", json.dumps(_ANSWER).encode(), json.dumps(_FAILED).encode())
def _answer(data: bytes, folder: Path) -> None:
    read_answer("check", ["engine"], 4, data, data)


@target("progress", b'{"progress": {"words": "exporting", "done": 1, "total": 7}}')
def _progress(data: bytes, folder: Path) -> None:
    read_step(data)


def _options() -> Mapping[str, object]:
    return export_options.ExportOptions().to_json()


@target("export-options", json.dumps(_options()).encode())
def _export_options(data: bytes, folder: Path) -> None:
    try:
        table = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(table, dict):
        export_options.checked(export_options.from_json(table))


_CLAIM = Claim("a-run", "/store", "a-run", ("cpu-0",), ({"pid": 1, "start_ticks": 5, "boot_id": "b"},), 0)


@contextlib.contextmanager
def _queue(folder: Path) -> Iterator[SharedFolder]:
    with mock.patch.dict(os.environ, {"KDTUI_SLOT_DIR": str(folder / "slots")}):
        shared = machine_folder()
        try:
            yield shared
        finally:
            shared.close()


def _look_at_queue(shared: SharedFolder) -> None:
    """All that is read from the locked files of the folder, and all that is shown of them."""
    queue = Queue.read(shared)
    for waiter in queue.waiters:
        place = queue.place(waiter)
        assert place.reason.isprintable() and len(place.reason) < LONGEST
        list(older(shared.names(), waiter.name, "cpu"))
    for place in places(Path("/store")).values():
        assert place.reason.isprintable()
    cpu_names(shared)


@target("slot-ticket", _CLAIM.encode())
def _ticket(data: bytes, folder: Path) -> None:
    with _queue(folder) as shared, contextlib.ExitStack() as locked:
        for name, text in (
            (f"{1.7e9:020.6f}-cpu-11-0123abcd", data),
            (f"{1.7e9 + 1:020.6f}-cpu-12-0123abcd", _CLAIM.encode()),
            ("cpu-0", data),
        ):
            locked.callback(os.close, shared.publish(name, text))
        _look_at_queue(shared)


@target("slot-name", b"0001700000000.000001-cpu-11-0123abcd", b"cpu-0", b"gpu-GPU-ab12", b".new-cpu-1")
def _slot_name(data: bytes, folder: Path) -> None:
    name = _text(data.replace(b"\0", b"").replace(b"/", b""))[:200]
    with _queue(folder) as shared, contextlib.ExitStack() as locked:
        if name in ("", ".", ".."):
            return
        locked.callback(os.close, shared.publish(name, _CLAIM.encode()))
        _look_at_queue(shared)


_REPORT = {
    "precision": "fp32",
    "bytes": 4,
    "made": 1.7e9,
    "options": export_options.ExportOptions().to_json(),
    "verified": {"outputs": {}, "validation": {"images": 7, "miou": 0.6, "torch_miou": 0.6, "drop_points": 0.0}},
}


@target("export-report", json.dumps(_REPORT).encode())
def _export_report(data: bytes, folder: Path) -> None:
    store, run = _run(folder)
    for checkpoint in (run.best, run.last):
        checkpoint.write_bytes(b"weights")
    export = export_path(run.best, "fp32")
    export.write_bytes(b"onnx")
    report_of(export).write_bytes(data)
    assert run.exports() == [export]
    wanted = ParsedDraft((run.id,), ("fp32", "int8"), export_options.ExportOptions(), ExternalCheckpoint(), None)
    assert not list_sources(wanted, store)[0].trouble


@target("preferences", b'theme = "light"\nsort = "miou"\ndescending = true\n')
def _preferences(data: bytes, folder: Path) -> None:
    (folder / "cockpit.toml").write_bytes(data)
    preferences.load(folder / "cockpit.toml")


_INSPECTED = {
    "version": kdtui.__version__,
    "files": [{"key": ["/a.pth", 3, 5, []], "found": {"path": "/a.pth", "architecture": "Unet", "bytes": 3}}],
}


@target("inspected-cache", json.dumps(_INSPECTED).encode())
def _inspected(data: bytes, folder: Path) -> None:
    store, _ = _run(folder)
    (folder / "a.pth").write_bytes(b"weights")
    (store.root / ".cache").mkdir(exist_ok=True)
    (store.root / ".cache" / "inspected.json").write_bytes(data)
    EngineClient(store, lambda *words: {}).cached(folder / "a.pth")
