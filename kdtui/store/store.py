"""The folder of runs: made, listed piece by piece, found and removed."""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtui import processes
from kdtui.errors import AmbiguousRun, RunNotFound, StoreError, UsageError
from kdtui.store.files import (
    GONE,
    NEW,
    OWNER,
    check_name,
    is_safe,
    mark,
    not_writable,
    printable,
    reading,
    remove_left_in_store,
)
from kdtui.store.removing import check_removable, delete
from kdtui.store.run import Notes, Run
from kdtui.store.state import LIVE, Alive, Places, RunSummary, State, cannot_tell, no_places
from kdtui.store.summary import SummaryCache, number_the_queue, placed, summarize

if TYPE_CHECKING:
    from kdtui.profile import Profile


_ID = re.compile(r"\d{8}-\d{6}-.+")
_SETTLED = 2_000_000_000
"""Nanoseconds after a change within which a folder may change again and keep its time."""
_PACKAGES = ("kdtui", "torch", "torchvision", "segmentation-models-pytorch", "timm", "lightning-fabric", "numpy")


class RunStore:
    """All runs below one folder.

    Args:
        root: The folder; default ``$KDTUI_RUNS``, else ``runs`` here.
        alive: Liveness of processes; the store itself reads files only.
        places: Places in the device queue of this machine, which several stores share.
    """

    def __init__(self, root: Path | str | None = None, alive: Alive = cannot_tell, places: Places = no_places) -> None:
        self.root = Path(root or os.environ.get("KDTUI_RUNS") or "runs").absolute()
        self._alive = alive
        self._places = places
        self._listing: tuple[int, list[Run]] | None = None
        self._cache = SummaryCache(self.root / ".cache" / "summaries.json")

    def for_thread(self) -> RunStore:
        """The same folder with a cache of its own: a cache is for one thread."""
        return RunStore(self.root, self._alive, self._places)

    def create(
        self,
        profile: Profile,
        *,
        tags: Iterable[str] = (),
        resume_from: str | None = None,
        teacher: Mapping[str, Any] | None = None,
        origin: str | None = None,
    ) -> Run:
        """Make a run folder; it can be seen only once it is whole.

        Raises:
            UsageError: The profile's name cannot be a folder's.
            StoreError: The folder cannot be written.
        """
        from kdtui.profile import absolute, dump

        check_name(profile.name)
        created = time.time_ns()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            remove_left_in_store(self.root)
            aside, path = self._reserve(time.strftime("%Y%m%d-%H%M%S", time.localtime(created / 1e9)), profile.name)
        except OSError as error:
            raise not_writable(self.root, error) from error
        try:
            draft = Run(aside)
            manifest = {
                "id": path.name,
                "name": profile.name,
                "created_ns": created,
                "git_commit": _git_commit(),
                "versions": _versions(),
                "teacher": None if teacher is None else dict(teacher),
                "resume_from": resume_from,
                "origin": origin,
            }
            owner = draft.path / f"{OWNER}{mark()}"
            owner.touch()
            draft.profile_path.write_bytes(dump(absolute(profile)))
            draft.manifest_path.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
            draft.write_notes(Notes(tuple(dict.fromkeys((*profile.tags, *tags)))))
            for folder in (draft.checkpoints, draft.logs, draft.visualizations, draft.evaluations):
                folder.mkdir()
            aside.rename(path)
            (path / owner.name).unlink()
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise not_writable(self.root, error) from error
        except StoreError:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        return Run(path)

    def _reserve(self, stamp: str, name: str) -> tuple[Path, Path]:
        """A free id, held by making its ``.new-`` folder: of all creators one gets it.

        The look for the finished folder comes after that, so nothing can take its place before the rename.
        """
        count = 1
        while True:
            path = self.root / (f"{stamp}-{name}" if count == 1 else f"{stamp}-{name}-{count}")
            aside = self.root / f"{NEW}{path.name}"
            count += 1
            try:
                aside.mkdir()
            except FileExistsError:
                continue
            if not os.path.lexists(path):
                return aside, path
            aside.rmdir()

    def runs(self) -> list[Run]:
        """Every run folder, oldest first; damaged ones included."""
        try:
            with os.scandir(self.root) as entries:
                names = [e.name for e in entries if not e.name.startswith(".") and _is_folder(e)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(
                "The runs cannot be listed",
                where=self.root,
                found=error.strerror,
                hint="choose another place with --runs-dir or KDTUI_RUNS",
            ) from error
        return [Run(self.root / name) for name in sorted(names) if _ID.match(name) or self._looks_like_run(name)]

    def _looks_like_run(self, name: str) -> bool:
        run = Run(self.root / name)
        try:
            return any(path.exists() for path in (run.manifest_path, run.profile_path, run.events_path))
        except OSError:  # a folder without permission whose name is no run id
            return False

    def find(self, text: str) -> Run:
        """The run that ``text`` names: ``latest``, an id, a name, or the beginning of an id.

        Raises:
            RunNotFound: None answers; the nearest are offered.
            AmbiguousRun: Several do; they are listed.
        """
        return self.find_all([text])[0]

    def find_all(self, texts: Iterable[str]) -> list[Run]:
        """The runs that the texts name, in their order and each once, as :meth:`find`; the folder is listed once."""
        listed: dict[str, Run] | None = None
        found: dict[Run, None] = {}
        for text in texts:
            if not is_safe(text):
                raise RunNotFound(
                    "not a valid run name",
                    found=printable(text),
                    allowed="an id, a name, the beginning of an id, or 'latest'",
                    hint="`kdtui runs` lists them",
                )
            if listed is None:
                listed = {run.id: run for run in self._listed()}
            found[listed.get(text) or self._match(text, list(listed.values()))] = None
        return list(found)

    def _listed(self) -> list[Run]:
        """All runs; listed again only where the folder changed, or may have changed unseen a moment ago."""
        try:
            stamp = self.root.stat().st_mtime_ns
        except OSError:  # absent: the listing itself reports whether that is an error
            return self.runs()
        if self._listing is None or self._listing[0] != stamp or time.time_ns() - stamp < _SETTLED:
            self._listing = stamp, self.runs()
        return self._listing[1]

    def _match(self, text: str, runs: list[Run]) -> Run:
        """The run of a name, of the beginning of an id, or the latest one."""
        if text == "latest" and runs:
            stamped = [run for run in runs if _ID.match(run.id)] or runs
            second = max(run.id[:15] for run in stamped)
            return max((run for run in stamped if run.id[:15] == second), key=_created)
        by_name = [run for run in runs if _may_be_called(run.id, text) and self._name(run) == text]
        matches = by_name or [run for run in runs if run.id.startswith(text)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            listed = "\n".join(f"    {printable(run.id)}" for run in matches)
            raise AmbiguousRun(
                f"{len(matches)} runs answer to '{text}':\n{listed}",
                where=self.root,
                hint="give the whole id",
            )
        raise self._not_found(text, runs)

    def _not_found(self, text: str, runs: list[Run]) -> RunNotFound:
        names = {printable(word) for run in runs for word in (run.id, run.id[16:] or run.id)}
        near = difflib.get_close_matches(text, sorted(names), n=3)
        return RunNotFound(
            f"No run matches '{text}'",
            where=self.root,
            allowed=f"perhaps {', '.join(near)}" if near else None,
            hint="`kdtui runs` lists them" if runs else "there are no runs here yet: `kdtui train PROFILE` makes one",
        )

    def _name(self, run: Run) -> str:
        try:
            return run.manifest().name
        except StoreError:  # a damaged folder is still found, by the name in its id
            return run.id[16:]

    def summary(self, run: Run) -> RunSummary:
        """One run's row; for a damaged folder, with what is damaged."""
        return self.summaries([run])[0]

    def summaries(self, runs: Iterable[Run] | None = None) -> list[RunSummary]:
        """The rows of ``runs`` (default all), oldest first; never raises for a damaged folder."""
        chosen = self.runs() if runs is None else list(runs)
        rows = self.look_at(chosen)
        self.keep(chosen if runs is None else None)
        if runs is not None:
            return rows
        numbered = number_the_queue(rows)
        rows = [numbered.get(row.id, row) for row in rows]
        return sorted(rows, key=lambda row: (row.created or 0.0, row.id))

    def look_at(self, runs: Iterable[Run]) -> list[RunSummary]:
        """The rows of ``runs`` in their order, with their places in the queue of this machine; nothing is written."""
        now = time.time()
        rows = []
        for run in runs:
            row = summarize(run, self._cache.digest(run), self._alive, now)
            if row.state is State.LOST:
                # Its last event may have been written between reading the file and probing the processes.
                row = summarize(run, self._cache.digest(run), self._alive, now)
            rows.append(row)
        if any(row.waiting_since is not None for row in rows):
            places = self._places(self.root)
            rows = [row if row.waiting_since is None else placed(row, places) for row in rows]
        return rows

    def keep(self, whole: Iterable[Run] | None = None) -> None:
        """Write the summary cache if something new is worth it; ``whole`` are all runs that there are."""
        if whole is not None:
            self._cache.forget_all_but({run.id for run in whole})
        self._cache.save()

    def remove(self, run: Run) -> None:
        """Delete a run folder; it is out of sight before the first file goes.

        Raises:
            UsageError: A process of it may be running.
            StoreError: It could not be deleted; what is left of it is still listed.
        """
        with contextlib.ExitStack() as stack:
            # Never launched, or no lock to be had there: the look below decides alone. Opened without making it: a
            # fresh beat would mean that a supervisor is running.
            with contextlib.suppress(OSError):
                file = stack.enter_context(reading(run.beat_path))
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise _still_lives(run) from error
            if self.summary(run).state in (State.QUEUED, State.RUNNING):
                raise _still_lives(run)
            check_removable(run)
            delete(run, self.root / f"{GONE}{run.id}-{mark()}")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or no permission: no reason to hide all other runs
        return False


def _still_lives(run: Run) -> UsageError:
    return UsageError("A running run cannot be removed", found=run.id, hint=f"`kdtui stop {run.id}` first")


def _may_be_called(run_id: str, name: str) -> bool:
    """Whether a run of this id may have that name, before its manifest is read: 1000 manifests cost."""
    rest = run_id[16:] if _ID.match(run_id) else None
    return rest is None or rest == name or (rest.startswith(f"{name}-") and rest[len(name) + 1 :].isdigit())


def _created(run: Run) -> tuple[int, str]:
    try:
        return run.manifest().created_ns, run.id
    except StoreError:
        return 0, run.id


def _git_commit() -> str | None:
    # Settings of a repository name programs: none of them is started, and nothing is fetched.
    quiet = ["-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}", "-c", "core.alternateRefsCommand="]
    variables = {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        asked = subprocess.run(
            ["git", *quiet, "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
            stdin=subprocess.DEVNULL,
            env=processes.environment(variables),
        )
    except (OSError, subprocess.TimeoutExpired):  # no git on this machine: the manifest has None
        return None
    return asked.stdout.strip() or None if asked.returncode == 0 else None


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version
    from platform import python_version

    versions = {"python": python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


FIRST = 60
"""Rows of the first look: more than a screen shows."""
PIECE = 200
"""Further rows a look."""
KEEP = 30.0
"""Seconds between two writes of the summary cache."""


@dataclass(frozen=True)
class ListingChange:
    """What a look found.

    Attributes:
        changed: Rows that are new or different, by id.
        gone: Ids of runs that are there no more.
        whole: Whether every run has been read once.
        total: How many runs there are.
    """

    changed: dict[str, RunSummary]
    gone: frozenset[str]
    whole: bool
    total: int


class Listing:
    """Keeps the rows of a store true, a bounded amount of work a look.

    Newest runs come first. Later looks see every run that lives, those that are wanted, and the others in turns, so
    that what another process does to an old run is seen as well. Used by one thread.

    Args:
        store: Used by that thread alone: :meth:`RunStore.for_thread`.
        first: Rows of the first look.
        piece: Rows of every later one, in addition to the live and the requested ones.
    """

    def __init__(self, store: RunStore, *, first: int = FIRST, piece: int = PIECE) -> None:
        self._store = store
        self._first, self._piece = first, piece
        self._runs: dict[str, Run] = {}
        self._rows: dict[str, RunSummary] = {}
        self._shown: dict[str, RunSummary] = {}
        self._turn: list[str] = []  # ids that come next, last first
        self._unseen = 0
        self._stamp: int | None = None
        self._kept = time.monotonic()

    def look(self, wanted: Iterable[str] = ()) -> ListingChange:
        """Read the next piece.

        Args:
            wanted: Ids to read in any case.

        Raises:
            StoreError: The store's folder cannot be listed.
        """
        gone = self._list()
        piece = self._piece if self._rows else self._first
        ids = {run_id for run_id, row in self._rows.items() if row.state in LIVE} if self._rows else set()
        ids |= {run_id for run_id in wanted if run_id in self._runs}
        while self._turn and piece:
            ids.add(self._turn.pop())
            piece -= 1
        first_whole = self._unseen > 0
        chosen = [self._runs[run_id] for run_id in ids if run_id in self._runs]
        for run, row in zip(chosen, self._store.look_at(chosen), strict=True):
            if run.id not in self._rows:
                self._unseen -= 1
            self._rows[run.id] = row
        if not self._turn:
            self._turn = self._oldest_first()
        whole = self._unseen == 0
        self._keep(at_once=whole and first_whole)
        return ListingChange(self._changed({run.id for run in chosen}), gone, whole, len(self._runs))

    def _list(self) -> frozenset[str]:
        """List the folder if it changed; the ids that went."""
        try:
            stamp: int | None = os.stat(self._store.root).st_mtime_ns  # noqa: PTH116 (a cheap look, at every tick)
        except OSError:  # absent: the listing itself reports whether that is an error
            stamp = None
        # A folder that changed a moment ago may change again within one tick of the file system's clock.
        settled = stamp is not None and time.time_ns() - stamp > 2_000_000_000
        if settled and stamp == self._stamp:
            return frozenset()
        found = {run.id: run for run in self._store.runs()}
        self._stamp = stamp
        gone = frozenset(self._runs.keys() - found.keys())
        new = [run_id for run_id in found if run_id not in self._runs]
        self._runs = found
        for run_id in gone:
            self._rows.pop(run_id, None)
            self._shown.pop(run_id, None)
        self._turn = [run_id for run_id in self._turn if run_id in found] + sorted(new, key=_age)
        self._unseen = len(found) - len(self._rows)
        return gone

    def _oldest_first(self) -> list[str]:
        return sorted(self._runs, key=_age)

    def _changed(self, looked: set[str]) -> dict[str, RunSummary]:
        """Rows that changed, with their places in the queue."""
        waiting = [row for row in self._rows.values() if row.waiting_since is not None]
        # By folder name: the id of a row is printable, that of a folder need not be.
        keys = {row.path.name for row in waiting}
        numbered = {row.path.name: row for row in number_the_queue(waiting).values()}
        changed = {}
        for run_id in looked | keys:
            row = numbered.get(run_id, self._rows[run_id])
            if self._shown.get(run_id) != row:
                self._shown[run_id] = changed[run_id] = row
        return changed

    def _keep(self, *, at_once: bool) -> None:
        if self._unseen or not (at_once or time.monotonic() - self._kept > KEEP):
            return
        self._kept = time.monotonic()
        self._store.keep(self._runs.values())


def _age(run_id: str) -> tuple[bool, str]:
    """Sorts oldest first; a folder without a stamp in its name counts as oldest."""
    return run_id[:8].isdigit(), run_id
