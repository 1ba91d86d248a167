"""The run store: create, list, find and remove runs."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtui import processes
from kdtui.errors import AmbiguousRun, RunNotFound, StoreError, UsageError
from kdtui.store.aside import GONE, NEW, OWNER, mark, remove_leftovers_of_store
from kdtui.store.files import check_name, is_safe, reading, try_lock
from kdtui.store.removing import check_removable, delete
from kdtui.store.run import Notes, Run
from kdtui.store.state import LIVE, Alive, Places, RunSummary, State, cannot_tell, no_places
from kdtui.store.summary import SummaryCache, number_the_queue, placed, summarize
from kdtui.store.writable import not_writable
from kdtui.text import one_line

if TYPE_CHECKING:
    from kdtui.profile import Profile


_ID = re.compile(r"\d{8}-\d{6}-.+")
_SETTLED = 2_000_000_000
"""Nanoseconds after a change within which further changes may leave the modification time of a folder unchanged."""
_PACKAGES = (
    "kdtui", "torch", "torchvision", "segmentation-models-pytorch", "timm", "lightning-fabric", "numpy",
    "opencv-python-headless",
)  # fmt: skip


class RunStore:
    """All runs in one folder.

    Args:
        root: The folder; default ``$KDTUI_RUNS``, else ``./runs``.
        alive: Returns the liveness of processes; the store itself only reads files.
        places: Returns positions in the device queue of this machine, which several stores share.
    """

    def __init__(self, root: Path | str | None = None, alive: Alive = cannot_tell, places: Places = no_places) -> None:
        self.root = Path(root or os.environ.get("KDTUI_RUNS") or "runs").absolute()
        self._alive = alive
        self._places = places
        self._listing: tuple[int, list[Run]] | None = None
        self._cache = SummaryCache(self.root / ".cache" / "summaries.json")

    def for_thread(self) -> RunStore:
        """A store for the same folder with a separate cache, for use in another thread."""
        return RunStore(self.root, self._alive, self._places)

    def create(
        self,
        profile: Profile,
        *,
        tags: Iterable[str] = (),
        resume_from: str | None = None,
        teacher: Mapping[str, Any] | None = None,
        weights: Mapping[str, Any] | None = None,
        origin: str | None = None,
        group: str | None = None,
        sweep: Mapping[str, Any] | None = None,
    ) -> Run:
        """Create a run folder; it becomes visible only when it is complete.

        Raises:
            UsageError: The profile's name is not a valid run name.
            StoreError: The folder is not writable.
        """
        from kdtui.profile import absolute, dump

        check_name(profile.name)
        created = time.time_ns()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            remove_leftovers_of_store(self.root)
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
                **({} if weights is None else {"weights": dict(weights)}),
                **({} if group is None else {"group": group}),
                **({} if sweep is None else {"sweep": dict(sweep)}),
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
        """Reserve an unused id by creating its ``.new-`` folder, which succeeds in one process only.

        The final folder is checked afterwards, so that no other process can create it before the rename.
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
        """All run folders, oldest first, including damaged ones."""
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
                hint="choose another run store with --runs-dir or KDTUI_RUNS",
            ) from error
        return [Run(self.root / name) for name in sorted(names) if _ID.match(name) or self._looks_like_run(name)]

    def _looks_like_run(self, name: str) -> bool:
        run = Run(self.root / name)
        try:
            return any(path.exists() for path in (run.manifest_path, run.profile_path, run.events_path))
        except OSError:  # no permission, and the name is not a run id
            return False

    def find(self, text: str) -> Run:
        """Find a run by ``latest``, an id, a name, or the prefix of an id.

        Raises:
            RunNotFound: No run matches; the error suggests similar names.
            AmbiguousRun: Several runs match; the error lists them.
        """
        return self.find_all([text])[0]

    def find_all(self, texts: Iterable[str]) -> list[Run]:
        """Find runs as :meth:`find` does, in order and without duplicates; the folder is listed once."""
        listed: dict[str, Run] | None = None
        found: dict[Run, None] = {}
        for text in texts:
            if not is_safe(text):
                raise RunNotFound(
                    "not a valid run name",
                    found=one_line(text),
                    allowed="an id, a name, the prefix of an id, or 'latest'",
                    hint="`kdtui runs` lists the runs",
                )
            if listed is None:
                listed = {run.id: run for run in self._listed()}
            found[listed.get(text) or self._match(text, list(listed.values()))] = None
        return list(found)

    def _listed(self) -> list[Run]:
        """All runs; listed again only if the folder changed, or changed so recently that its time may not show it."""
        try:
            stamp = self.root.stat().st_mtime_ns
        except OSError:  # missing: listing it reports whether that is an error
            return self.runs()
        if self._listing is None or self._listing[0] != stamp or time.time_ns() - stamp < _SETTLED:
            self._listing = stamp, self.runs()
        return self._listing[1]

    def _match(self, text: str, runs: list[Run]) -> Run:
        """Find a run by name, by the prefix of its id, or the latest one."""
        if text == "latest" and runs:
            stamped = [run for run in runs if _ID.match(run.id)] or runs
            second = max(run.id[:15] for run in stamped)
            return max((run for run in stamped if run.id[:15] == second), key=_created)
        by_name = [run for run in runs if _may_be_called(run.id, text) and self._name(run) == text]
        matches = by_name or [run for run in runs if run.id.startswith(text)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            listed = "\n".join(f"    {one_line(run.id)}" for run in matches)
            raise AmbiguousRun(
                f"{len(matches)} runs match '{text}':\n{listed}",
                where=self.root,
                hint="give the full id",
            )
        raise self._not_found(text, runs)

    def _not_found(self, text: str, runs: list[Run]) -> RunNotFound:
        tails = {one_line(run.id[16:] or run.id): run for run in runs}
        words = sorted({one_line(run.id) for run in runs} | tails.keys())
        # The second run of a second has the end `-2` in its id, which is no name.
        near = [
            one_line(tails[word].id) if word in tails and self._name(tails[word]) != word else word
            for word in difflib.get_close_matches(text, words, n=3)
        ]
        return RunNotFound(
            f"No run matches '{text}'",
            where=self.root,
            allowed=f"perhaps {', '.join(near)}" if near else None,
            hint="`kdtui runs` lists the runs" if runs else "there are no runs yet: `kdtui train PROFILE` starts one",
        )

    def _name(self, run: Run) -> str:
        try:
            return run.manifest().name
        except StoreError:  # a damaged folder is found by the name in its id
            return run.id[16:]

    def summary(self, run: Run) -> RunSummary:
        """The summary of a run; for a damaged folder it describes the damage."""
        return self.summaries([run])[0]

    def summaries(self, runs: Iterable[Run] | None = None) -> list[RunSummary]:
        """The summaries of ``runs``, in order, or of all runs, oldest first; damaged folders raise no error."""
        chosen = self.runs() if runs is None else list(runs)
        rows = self.read_summaries(chosen)
        self.keep(chosen if runs is None else None)
        if runs is not None:
            return rows
        numbered = number_the_queue(rows)
        rows = [numbered.get(row.id, row) for row in rows]
        return sorted(rows, key=lambda row: (row.created or 0.0, row.id))

    def read_summaries(self, runs: Iterable[Run]) -> list[RunSummary]:
        """The summaries of ``runs``, in order, with their positions in the device queue; writes nothing."""
        now = time.time()
        rows = []
        for run in runs:
            row = summarize(run, self._cache.digest(run), self._alive, now)
            if row.state is State.LOST:
                # Its final event may have been written between reading the file and probing the processes.
                row = summarize(run, self._cache.digest(run), self._alive, now)
            rows.append(row)
        if any(row.waiting_since is not None for row in rows):
            places = self._places(self.root)
            rows = [row if row.waiting_since is None else placed(row, places) for row in rows]
        return rows

    def keep(self, whole: Iterable[Run] | None = None) -> None:
        """Write the summary cache if it has new entries.

        Args:
            whole: All runs of the store; entries of other runs are removed. None keeps all entries.
        """
        if whole is not None:
            self._cache.forget_all_but({run.id for run in whole})
        self._cache.save()

    def remove(self, run: Run) -> None:
        """Delete a run folder; it is hidden before the first file is deleted.

        Raises:
            UsageError: A process of it may be running.
            StoreError: It could not be deleted completely; the rest is still listed.
        """
        with contextlib.ExitStack() as stack:
            # If it was never launched or cannot be locked, only the state below decides. The file is not created: a new
            # heartbeat would mean that a supervisor is running.
            with contextlib.suppress(OSError):
                file = stack.enter_context(reading(run.beat_path))
                if not try_lock(file.fileno()):
                    raise _still_running(run)
            if self.summary(run).state in (State.QUEUED, State.RUNNING):
                raise _still_running(run)
            check_removable(run)
            delete(run, self.root / f"{GONE}{run.id}-{mark()}")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circular link, or no permission: the other runs are still listed
        return False


def _still_running(run: Run) -> UsageError:
    return UsageError("A queued or running run cannot be removed", found=run.id, hint=f"`kdtui stop {run.id}` first")


def _may_be_called(run_id: str, name: str) -> bool:
    """Whether a run with this id may have that name; a fast check that avoids reading every manifest."""
    rest = run_id[16:] if _ID.match(run_id) else None
    return rest is None or rest == name or (rest.startswith(f"{name}-") and rest[len(name) + 1 :].isdigit())


def _created(run: Run) -> tuple[int, str]:
    try:
        return run.manifest().created_ns, run.id
    except StoreError:
        return 0, run.id


def _git_commit() -> str | None:
    # The configuration of a repository may name programs: none of them is started, and nothing is fetched.
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
    except (OSError, subprocess.TimeoutExpired):  # git is not installed or hangs
        return None
    return asked.stdout.strip() or None if asked.returncode == 0 else None


@cache  # reads the metadata of each package, a quarter of the time that a run folder takes
def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version
    from platform import python_version

    versions = {"python": python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


FIRST = 60
"""Rows that are read first: more than a screen shows."""
PIECE = 200
"""Rows of each later update."""
KEEP = 30.0
"""Minimum number of seconds between two writes of the summary cache."""


@dataclass(frozen=True)
class ListingChange:
    """Result of one update of a listing.

    Attributes:
        changed: New and changed rows by id.
        gone: Ids of removed runs.
        whole: Whether every run has been read at least once.
        total: Number of runs.
    """

    changed: dict[str, RunSummary]
    gone: frozenset[str]
    whole: bool
    total: int


class RunListing:
    """Keeps the rows of a store up to date with a bounded amount of work per update.

    The newest runs are read first. Later updates read all queued and running runs, the requested ones, and the others
    in turn, so that changes of old runs by other processes are found as well. Not thread-safe.

    Args:
        store: A store for this thread only, see :meth:`RunStore.for_thread`.
        first: Rows of the first update.
        piece: Rows of every later one, in addition to the queued, running and requested ones.
    """

    def __init__(self, store: RunStore, *, first: int = FIRST, piece: int = PIECE) -> None:
        self._store = store
        self._first, self._piece = first, piece
        self._runs: dict[str, Run] = {}
        self._rows: dict[str, RunSummary] = {}
        self._shown: dict[str, RunSummary] = {}
        self._turn: list[str] = []  # ids that are read next, in reverse order
        self._unseen = 0
        self._stamp: int | None = None
        self._kept = time.monotonic()

    def update(self, wanted: Iterable[str] = ()) -> ListingChange:
        """Read the next rows.

        Args:
            wanted: Ids of rows to read in any case.

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
        for run, row in zip(chosen, self._store.read_summaries(chosen), strict=True):
            if run.id not in self._rows:
                self._unseen -= 1
            self._rows[run.id] = row
        if not self._turn:
            self._turn = self._oldest_first()
        whole = self._unseen == 0
        self._keep(at_once=whole and first_whole)
        return ListingChange(self._changed({run.id for run in chosen}), gone, whole, len(self._runs))

    def _list(self) -> frozenset[str]:
        """List the folder if it changed; return the ids of removed runs."""
        stamp = self._modified()
        # A recently changed folder may change again within one tick of the file system's clock.
        settled = stamp is not None and time.time_ns() - stamp > 2_000_000_000
        if settled and stamp == self._stamp:
            return frozenset()
        self._stamp = None
        found = {run.id: run for run in self._store.runs()}
        # The folder may have been moved away in between; when it is back, its time is the former one.
        self._stamp = stamp if stamp == self._modified() else None
        gone = frozenset(self._runs.keys() - found.keys())
        new = [run_id for run_id in found if run_id not in self._runs]
        self._runs = found
        for run_id in gone:
            self._rows.pop(run_id, None)
            self._shown.pop(run_id, None)
        self._turn = [run_id for run_id in self._turn if run_id in found] + sorted(new, key=_age)
        self._unseen = len(found) - len(self._rows)
        return gone

    def _modified(self) -> int | None:
        """When the folder last changed, in ns; None if that is unknown: listing it reports whether that is an error."""
        try:
            return os.stat(self._store.root).st_mtime_ns  # noqa: PTH116 (faster; called in every update)
        except OSError:
            return None

    def _oldest_first(self) -> list[str]:
        return sorted(self._runs, key=_age)

    def _changed(self, updated: set[str]) -> dict[str, RunSummary]:
        """The changed rows, with their positions in the queue."""
        waiting = [row for row in self._rows.values() if row.waiting_since is not None]
        # By folder name: ids of rows are made printable, folder names are not.
        keys = {row.path.name for row in waiting}
        numbered = {row.path.name: row for row in number_the_queue(waiting).values()}
        changed = {}
        for run_id in updated | keys:
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
    """Sort key, oldest first; folders without a time in their name are the oldest."""
    return run_id[:8].isdigit(), run_id
