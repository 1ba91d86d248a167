"""The summary of a run, read from its files, and a cache of its time-independent part."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from kdtui.errors import KdtuiError, StoreError
from kdtui.events import STANDARD_SCALARS, Failed, Stopped
from kdtui.store.files import brief, read_file, reading, try_lock
from kdtui.store.run import LaunchRecord, Manifest, Notes, Run, record_from_json, write_atomically
from kdtui.store.scan import Scan, scan
from kdtui.store.state import WORDS, Alive, Facts, Liveness, QueuePlace, RunSummary, State, derive
from kdtui.store.values import MOST_BYTES, fits, is_number, is_time, is_whole, parse_json
from kdtui.text import joined_lines, one_line

VERSION = 1


@dataclass(frozen=True)
class Digest:
    """The part of a summary that does not depend on the time or on liveness.

    Attributes:
        shown: Fields of :class:`kdtui.store.state.RunSummary`.
        record: Launch record of the current attempt, including the ranks of its events; None if nothing was launched or
            the attempt has ended.
        detail: Information of the final event.
        steps_left: Optimizer steps until the last epoch is complete.
    """

    shown: Mapping[str, Any]
    launched: bool = False
    started: bool = False
    word: str | None = None
    record: LaunchRecord | None = None
    detail: str = ""
    problems: tuple[str, ...] = ()
    steps_left: int | None = None
    seconds_per_step: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The digest as JSON values."""
        body = dict(vars(self))  # faster than asdict, which copies every value
        return body if self.record is None else {**body, "record": self.record.to_json()}


def digest_from_json(body: object) -> Digest:
    """Parse the result of :meth:`Digest.to_json`.

    Raises:
        ValueError: It is of another version, or was edited.
    """
    shown = body.get("shown") if isinstance(body, dict) else None
    if (
        not isinstance(body, dict)
        or not isinstance(shown, dict)
        or shown.keys() != _SHOWN
        or not fits(RunSummary, shown)
    ):
        raise ValueError("shown")
    if body.keys() != _FIELDS or body["word"] not in (None, *WORDS):
        raise ValueError("a field")
    if not fits(Digest, {name: value for name, value in body.items() if name != "record"}):
        raise ValueError("a field")
    if not all(shown[name] is None or is_time(shown[name]) for name in ("created", "started", "last_event")):
        raise ValueError("a time")
    record = body["record"]
    parsed = {"record": None if record is None else record_from_json(record), "problems": tuple(body["problems"])}
    return Digest(**{**body, **parsed})


_FIELDS = {f.name for f in fields(Digest)}
_SHOWN = {f.name for f in fields(RunSummary)} - {
    *("id", "path", "state", "detail", "eta_seconds", "waiting_since", "place")  # these follow from the moment
}


@dataclass
class _Files:
    """The readable files of a run, and a line for each that is not."""

    profile: dict[str, Any] = field(default_factory=dict)
    manifest: Manifest | None = None
    notes: Notes = field(default_factory=Notes)
    record: LaunchRecord | None = None
    scan: Scan = field(default_factory=Scan)
    problems: list[str] = field(default_factory=list)


def digest(run: Run) -> Digest:
    """Read the run folder; missing or damaged files are listed in ``problems``, never raised."""
    files = _read(run)
    found, record = files.scan, files.record
    speaks = record is None or found.attempt is None or found.attempt >= record.attempt
    # If the record is newer than all events, the new attempt has written none yet, and the old result is not its own.
    word, exited = (found.word, found.exited) if speaks else (None, None)
    started = speaks and found.has_started
    own = found.started if started and found.started is not None else None
    ranks = own.ranks if own is not None and isinstance(own.ranks, list | tuple) else ()
    launched = record is not None or found.last_event is not None
    over = not launched or word is not None or exited is not None
    shown = {**_from_profile(files.profile), **_from_events(files)}
    epochs = shown["epochs"]
    steps_left = None
    if found.started is not None and isinstance(epochs, int) and shown["step"] is not None:
        steps_left = max(0, epochs * found.started.steps_per_epoch - shown["step"])
    name = files.manifest.name if files.manifest else _name_of(run.id)
    shown |= {
        "name": one_line(str(name)),
        "created": files.manifest.created_ns / 1e9 if files.manifest else None,
        "group": one_line(files.manifest.group) if files.manifest and files.manifest.group else None,
        "sweep": _text((files.manifest and files.manifest.sweep) or {}, "id"),
        "tags": [one_line(tag) for tag in files.notes.tags],
        "notes": one_line(files.notes.text),
        "attempt": record.attempt if record else found.attempt,
        "host": record.host if record else None,
        "device": record.device if record else None,
    }
    if files.manifest is not None and files.manifest.teacher and shown["teacher_checkpoint"] is None:
        shown["teacher_checkpoint"] = _text(files.manifest.teacher, "checkpoint")
    return Digest(
        shown=shown,
        launched=launched,
        started=started,
        word=word.kind if word is not None else "exited" if exited is not None else None,
        record=None if over else _with_ranks(record, [rank for rank in ranks if isinstance(rank, Mapping)]),
        detail=_ending_detail(word, exited),
        problems=tuple(files.problems),
        steps_left=steps_left,
        seconds_per_step=found.seconds_per_step,
    )


_LOST = LaunchRecord(0, "", 0, 0, "", None, (), "", 0, None, 0.0)
"""Replaces a damaged or missing record: no host, and a pid that no process has."""


def _with_ranks(record: LaunchRecord | None, ranks: Sequence[Mapping[str, Any]]) -> LaunchRecord:
    record = record or _LOST
    return replace(record, argv=(), ranks=(*record.ranks, *ranks))  # the cache needs no command line


def _read(run: Run) -> _Files:
    files = _Files()
    try:
        files.profile = run.profile_table()
    except StoreError as error:
        files.problems.append(brief(error))
    try:
        files.manifest = run.manifest()
    except StoreError as error:
        files.problems.append(brief(error))
    try:
        files.notes = run.notes()
    except StoreError as error:
        files.problems.append(brief(error))
    try:
        files.record = run.launch_record()
    except StoreError as error:
        files.problems.append(brief(error))
    try:
        files.scan = scan(run.events_path)
        if files.scan.last_event is None and _has_lines(run.events_path):
            files.problems.append("events.jsonl has no readable event")
    except StoreError as error:
        files.problems.append(brief(error))
    return files


def _has_lines(path: Path) -> bool:
    """Whether a file without events has a complete first line, which should be an event."""
    try:
        with reading(path) as file:
            return b"\n" in file.read(4096) or file.tell() == 4096
    except OSError:  # not there yet
        return False


def _table(tables: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = tables.get(key)
    return value if isinstance(value, Mapping) else {}


def _text(table: Mapping[str, Any], key: str) -> str | None:
    value = table.get(key)
    return one_line(value) if isinstance(value, str) else None


def _number(table: Mapping[str, Any], key: str) -> Any:
    value = table.get(key)
    return value if is_number(value) else None


def _probabilities(pixel: Any) -> dict[str, float]:
    """Class to probability; empty if any value is not a probability."""
    if not isinstance(pixel, Mapping) or not all(isinstance(p, int | float) and 0 <= p <= 1 for p in pixel.values()):
        return {}
    return {one_line(str(name)): float(p) for name, p in pixel.items()} if any(pixel.values()) else {}


def _channels(student: Mapping[str, Any]) -> Any:
    value = student.get("decoder_channels")
    whole = isinstance(value, list) and all(is_whole(width) for width in value)
    return value if whole else _number(student, "decoder_channels")


def _from_profile(tables: Mapping[str, Any]) -> dict[str, Any]:
    """The profile's part of the summary; the file may have been edited, so values of wrong types are left out."""
    student, distillation = _table(tables, "student"), _table(tables, "distillation")
    distilled = distillation.get("enabled") is True
    return {
        "encoder": _text(student, "encoder") or _text(student, "kind"),
        "architecture": _text(student, "architecture"),
        "decoder_channels": _channels(student),
        "distilled": distilled,
        "method": _method(distillation.get("terms")) if distilled else None,
        "temperature": _number(distillation, "temperature") if distilled else None,
        "alpha": _number(distillation, "alpha") if distilled else None,
        "teacher_checkpoint": _teachers(_table(tables, "teacher")) if distilled else None,
        "seed": _number(tables, "seed"),
        "epochs": _number(_table(tables, "training"), "epochs"),
    }


def _method(terms: Any) -> str:
    """Kinds of distillation terms with the switches and words that they set.

    For example ``kl``, ``kl standardise`` and ``cwd+feature``. Without a list of terms, the distillation is the KL.
    """
    tables = [table for table in terms if isinstance(table, Mapping)] if isinstance(terms, list) else []
    return "+".join(filter(None, map(_term, tables))) or "kl"


def _term(table: Mapping[str, Any]) -> str:
    variants = {
        key: key if value is True else one_line(value)
        for key, value in table.items()
        if value is True or (isinstance(value, str) and key not in _NO_VARIANT)
    }
    return " ".join([_text(table, "kind") or "", *variants.values()]).strip()[:_LONGEST_METHOD]


_NO_VARIANT = frozenset({"kind", "on", "teacher_on"})
_LONGEST_METHOD = 40  # characters of one term


def _teachers(teacher: Mapping[str, Any]) -> str | None:
    """The checkpoint of the teacher; of several teachers all, joined by `` + ``."""
    further = teacher.get("ensemble")
    tables = [teacher, *(further if isinstance(further, list) else ())]
    paths = [_text(table, "checkpoint") for table in tables if isinstance(table, Mapping)]
    return " + ".join(path for path in paths if path is not None) or None


def _from_events(files: _Files) -> dict[str, Any]:
    found, record = files.scan, files.record
    train = found.train.scalars if found.train else {}
    val = found.val.scalars if found.val else {}
    student: Mapping[str, Any] = found.started.student if found.started else {}
    teacher: Mapping[str, Any] = (found.started.teacher or {}) if found.started else {}
    newest = max((m for m in (found.train, found.val) if m is not None), key=lambda m: m.step, default=None)
    shown: dict[str, Any] = {
        "epoch": newest.epoch if newest else None,
        "step": newest.step if newest else None,
        "loss": train.get("loss"),
        "miou": val.get("miou"),
        "best_miou": val.get("best_miou"),
        "best_iou": class_iou(found.best),
        "metrics": further_metrics(val),
        "best_metrics": best_metrics(found.best),
        "retention": val.get("retention"),
        "agreement": val.get("agreement"),
        "images_per_second": train.get("images_per_second"),
        "data_wait": train.get("data_wait"),
        "workers": found.started.workers if found.started else None,
        "parameters": _number(student, "parameters"),
        "parameters_used": _number(student, "parameters_used"),
        "teacher_parameters": _number(teacher, "parameters"),
        "teacher_miou": _number(teacher, "miou"),
        "teacher_metrics": _numbers(_table(teacher, "metrics")),
        "teacher_pixel": _probabilities(teacher.get("pixel")),
        "started": found.started.time if found.started else None,
        "last_event": found.last_event,
        "error": one_line(str(found.word.error)) if isinstance(found.word, Failed) else None,
        "hint": _hint(found),
        "warnings": [
            {key: None if text is None else one_line(text) for key, text in event.to_json().items()}
            for event in found.warnings
        ],
    }
    reported = [found.val.epochs if found.val else None, found.started.epochs if found.started else None]
    horizon = next((n for n in [record.total_epochs if record else None, *reported] if n is not None), None)
    if horizon is not None:
        shown["epochs"] = horizon
    return shown


def class_iou(scalars: Mapping[str, Any]) -> dict[str, float]:
    """The IoU of each class from the scalars of a validation."""
    return {name.removeprefix("iou."): value for name, value in _numbers(scalars).items() if name.startswith("iou.")}


def best_metrics(scalars: Mapping[str, Any]) -> dict[str, float]:
    """Those of :func:`further_metrics` that describe this validation, not the best one so far."""
    values = further_metrics(_numbers(scalars))
    return {name: value for name, value in values.items() if name.removeprefix("best_") not in {*values} - {name}}


def _numbers(table: Mapping[str, Any]) -> dict[str, float]:
    return {one_line(str(name)): value for name, value in table.items() if is_number(value)}


def further_metrics(scalars: Mapping[str, float | None]) -> dict[str, float]:
    """The scalars of a validation that only some kinds of networks have."""
    return {
        one_line(name): value
        for name, value in scalars.items()
        if value is not None and name not in STANDARD_SCALARS and not name.startswith("iou.")
    }


def _hint(found: Scan) -> str | None:
    if isinstance(found.word, Failed):
        return one_line(str(found.word.hint)) if found.word.hint else None
    if found.word is None and found.exited is not None:
        return "`kdtui logs RUN` shows its output"
    return None


def _ending_detail(word: Any, exited: Any) -> str:
    if isinstance(word, Failed):
        died = f"{_death(exited)}: " if exited is not None and exited.signal else ""
        return died + joined_lines(word.message)
    if isinstance(word, Stopped):
        return one_line(str(word.reason)) if word.reason != Stopped.reason else ""
    if word is not None or exited is None:
        return ""
    if exited.code == 0:
        return "the processes exited without reporting a result"
    return _death(exited)


def _death(exited: Any) -> str:
    who = "" if exited.rank is None else f"rank {exited.rank} "
    if exited.signal:
        return f"{who}killed by {one_line(str(exited.signal))}"
    return f"{who}ended with exit code {exited.code}"


def _name_of(run_id: str) -> str:
    """The name in an id, for a folder without its manifest."""
    return run_id[16:] or run_id if len(run_id) > 16 and run_id[8:9] == "-" and run_id[15:16] == "-" else run_id


SILENT = 120.0
"""Seconds without an event after which a running run is shown as silent."""


def summarize(run: Run, digest: Digest, alive: Alive, now: float) -> RunSummary:
    """The summary of ``run`` at the time ``now``."""
    record, liveness, why = digest.record, Liveness.UNKNOWN, ""
    if record is not None:
        try:
            liveness = alive(record)
        except KdtuiError as error:
            why = error.brief
    if liveness is Liveness.DEAD and _of_another_user(run.launch_path):
        liveness = _ask_the_lock(run)
    last_event = digest.shown["last_event"]
    silent = None if last_event is None else max(0.0, now - last_event)
    since_sign = silent
    if liveness is Liveness.UNKNOWN and record is not None:
        beat = _modified(run.beat_path)
        signs = [age for age in (silent, None if beat is None else max(0.0, now - beat)) if age is not None]
        since_sign = min(signs, default=None)
    state = derive(
        Facts(launched=digest.launched, started=digest.started, word=digest.word, alive=liveness, silent=since_sign)
    )
    details = [*digest.problems, why, _detail(state, digest, liveness, silent, since_sign)]
    shown = dict(digest.shown)
    channels = shown.get("decoder_channels")
    shown["decoder_channels"] = tuple(channels) if isinstance(channels, list) else channels
    shown["tags"], shown["warnings"] = tuple(shown["tags"]), tuple(shown["warnings"])
    eta = None
    if state is State.RUNNING and digest.steps_left is not None and digest.seconds_per_step is not None:
        eta = digest.steps_left * digest.seconds_per_step
    return RunSummary(
        id=one_line(run.id),
        path=run.path,
        state=state,
        detail="; ".join(detail for detail in details if detail),
        eta_seconds=eta,
        waiting_since=_waiting_since(state, record, liveness),
        **shown,
    )


def _waiting_since(state: State, record: LaunchRecord | None, liveness: Liveness) -> float | None:
    """Launch time of a run that waits in the device queue of its machine; None for any other run."""
    if state is not State.QUEUED or record is None or record.target is not None or record.waits_for is not None:
        return None
    return None if record.ranks or liveness is Liveness.SUSPENDED else record.created


def placed(row: RunSummary, places: Mapping[str, QueuePlace]) -> RunSummary:
    """A waiting row with its position in this machine's queue; unchanged if that is unknown."""
    place = places.get(row.path.name)
    if place is None:
        return row
    if place.number == 0:
        return replace(row, detail=place.reason, waiting_since=None)
    words = [f"{row.detail}, position {place.number}", place.reason]
    return replace(row, detail="; ".join(filter(None, words)), place=place.number)


def number_the_queue(rows: Iterable[RunSummary]) -> dict[str, RunSummary]:
    """The queued rows by id with their positions; there is one queue per host and kind of device.

    For other hosts and supervisors of older versions, the queue is derived from the rows.

    Args:
        rows: All rows of a store, as :func:`summarize` made them.
    """
    waiting = sorted((row.waiting_since, row.id, row) for row in rows if row.waiting_since is not None)
    places: dict[tuple[str | None, str | None], int] = {}
    numbered = {}
    for _, run_id, row in waiting:
        line = (row.host, row.device)
        places[line] = places.get(line, 0) + 1
        if row.place is not None:
            numbered[run_id] = row
            continue
        detail = f"{row.detail}, position {places[line]}"
        numbered[run_id] = replace(row, detail=detail, place=places[line])
    return numbered


def _detail(state: State, digest: Digest, liveness: Liveness, silent: float | None, since_sign: float | None) -> str:
    record = digest.record
    if record is None:
        return digest.detail
    host = one_line(record.host) or "unknown"
    suspended = liveness is Liveness.SUSPENDED
    if state is State.QUEUED and record.target is not None:
        return _queued_elsewhere(record, suspended)
    if state is State.QUEUED and record.waits_for is not None:
        return f"waits for run {one_line(_name_of(record.waits_for))}"
    if state is State.QUEUED and suspended:
        return "suspended" if record.ranks else "suspended, skipped"
    if state is State.QUEUED:
        return "starting" if record.ranks else f"waiting for a {one_line(record.device) or 'device'} slot"
    if state is State.RUNNING and suspended:
        return "suspended"
    if state is State.RUNNING:
        return f"no events for {_span(silent)}" if silent is not None and silent >= SILENT else ""
    if state is State.LOST and liveness is Liveness.UNKNOWN:
        since = "" if since_sign is None else f" for {_span(since_sign)}"
        return f"no heartbeat from host {host}{since}; it may still be running there"
    if state is State.LOST:
        return "the processes exited without reporting a result"
    return digest.detail


def _queued_elsewhere(record: LaunchRecord, suspended: bool) -> str:
    job = f", job {one_line(record.job_id)}" if record.job_id else ""
    return f"{'suspended' if suspended else 'submitted'} on {one_line(record.target or '')}{job}"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172800 else f"{seconds / 86400:.0f} d"


def _of_another_user(path: Path) -> bool:
    """Whether another user launched the run; its processes may be hidden by ``hidepid``."""
    try:
        return path.stat().st_uid != os.geteuid()
    except OSError:
        return False


def _ask_the_lock(run: Run) -> Liveness:
    """Whether a process holds the run's lock, as supervisor and ranks do; unknown if it cannot be opened."""
    try:
        with reading(run.beat_path) as file:
            return Liveness.DEAD if try_lock(file.fileno(), shared=True) else Liveness.ALIVE
    except FileNotFoundError:
        return Liveness.DEAD
    except OSError:
        return Liveness.UNKNOWN


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:  # no beat: only the events count
        return None


QUIET = 30.0
"""Seconds without a change after which a digest is cached on disk."""
_FILES = ("events.jsonl", "launch.json", "notes.toml", "run.json", "profile.toml", "overrides.toml")

CacheKey = list[int]


class SummaryCache:
    """Cache of digests in memory, and on disk for runs that no longer change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._digests: dict[str, tuple[CacheKey, Digest]] = {}
        self._stored: dict[str, dict[str, Any]] | None = None
        self._changed = False

    def digest(self, run: Run) -> Digest:
        """The run's digest; its files are read only if one of them changed."""
        key = _key(run)
        known = self._digests.get(run.id)
        if known is not None and known[0] == key:
            return known[1]
        found = self._from_disk(run.id, key)
        if found is None:
            found = digest(run)
            self._changed = self._changed or _quiet(key)
        self._digests[run.id] = (key, found)
        return found

    def forget_all_but(self, ids: set[str]) -> None:
        """Remove all other runs from the cache."""
        for run_id in self._digests.keys() - ids:
            del self._digests[run_id]
        gone = (self._stored or {}).keys() - ids
        self._stored = {run_id: entry for run_id, entry in (self._stored or {}).items() if run_id in ids}
        self._changed = self._changed or bool(gone)

    def save(self) -> None:
        """Write the digests of unchanging runs, if there are new ones."""
        if not self._changed:
            return
        self._changed = False
        entries = {
            run_id: {"key": key, "digest": found.to_json()}
            for run_id, (key, found) in self._digests.items()
            if _quiet(key)
        }
        self._stored = {**(self._stored or {}), **entries}
        body = {"version": VERSION, "runs": self._stored}
        try:
            self.path.parent.mkdir(exist_ok=True)
            write_atomically(self.path, json.dumps(body, separators=(",", ":")).encode())
        except (OSError, StoreError):
            # A read-only store or a full disk: the list is correct without a cache, only slower.
            return

    def _from_disk(self, run_id: str, key: CacheKey) -> Digest | None:
        if self._stored is None:
            self._stored = _load(self.path)
        entry = self._stored.get(run_id)
        if not isinstance(entry, dict) or entry.get("key") != key:
            return None
        try:
            return digest_from_json(entry.get("digest"))
        except ValueError:  # of another version, or edited: read the run's files
            return None


def _load(path: Path) -> dict[str, dict[str, Any]]:
    try:
        body = parse_json(read_file(path, most=MOST_BYTES))
    except (OSError, ValueError):  # missing or damaged: the cache is optional
        return {}
    runs = body.get("runs") if isinstance(body, dict) and body.get("version") == VERSION else None
    return runs if isinstance(runs, dict) else {}


def _key(run: Run) -> CacheKey:
    key = []
    for name in _FILES:
        try:
            status = os.stat(f"{run.path}/{name}")  # noqa: PTH116 (faster than pathlib; called thousands of times)
        except OSError:
            key += [-1, 0]
        else:
            key += [status.st_size, status.st_mtime_ns]
    return key


def _quiet(key: CacheKey) -> bool:
    return max(key[1::2]) / 1e9 < time.time() - QUIET
