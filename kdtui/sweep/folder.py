"""Folders of sweeps, ``STORE/.sweeps/ID``: made aside and renamed, so that a visible folder is complete."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from kdtui.errors import StoreError, UsageError
from kdtui.profile.find import parse_tables
from kdtui.store.aside import SWEEPS as SWEEPS
from kdtui.store.aside import aside
from kdtui.store.files import is_safe, open_file, read_file, try_lock, write_atomically
from kdtui.store.values import MOST_BYTES
from kdtui.store.writable import not_writable
from kdtui.text import one_line

FORMAT = 1
"""Version of ``spec.toml``; a reader refuses later ones."""
GRID, SAMPLED, SEARCH = "sweep", "sampled", "search"
"""Kinds of folders: a grid, a sweep whose values are sampled, and a search."""
_KINDS = {GRID: (GRID, SAMPLED), SEARCH: (SEARCH,)}
"""The kinds that each group of commands handles."""
STUDENT, BASELINE = "student", "baseline"
"""What a run is in its cell."""
_POLL = 0.05


class LaterVersion(StoreError):
    """A sweep of a later version of kdtui."""


@dataclass(frozen=True)
class SweepFolder:
    """The folder of one sweep."""

    path: Path

    @property
    def id(self) -> str:
        """The id of the sweep."""
        return self.path.name

    @property
    def spec_path(self) -> Path:
        """What the sweep consists of; never changed."""
        return self.path / "spec.toml"

    @property
    def lock_path(self) -> Path:
        """Locked by the process that makes or stops runs of the sweep."""
        return self.path / "lock"

    @property
    def name(self) -> str:
        """The name in its id."""
        return self.id.rpartition("-")[0]

    @property
    def kind(self) -> str:
        """What it is: :data:`GRID`, :data:`SAMPLED` or :data:`SEARCH`; see :meth:`read`."""
        return str(self.read().get("kind"))

    @property
    def verb(self) -> str:
        """The group of commands that handles it, ``sweep`` or ``search``; a damaged one counts by its name."""
        kind = _kind(self)
        return next((verb for verb, kinds in _KINDS.items() if kind in kinds), self._noun)

    @property
    def _noun(self) -> str:
        """What a message calls it, by its name alone."""
        return SEARCH if self.name.endswith(f"-{SEARCH}") else GRID

    def read(self) -> dict[str, Any]:
        """The tables of ``spec.toml``.

        Raises:
            LaterVersion: It is of a later version.
            StoreError: It is missing or damaged.
        """
        try:
            table = parse_tables(read_file(self.spec_path, most=MOST_BYTES).decode())
        except (OSError, ValueError, RecursionError) as error:
            raise self.damaged(error.strerror if isinstance(error, OSError) else error) from error
        checksum = table.pop("checksum", None)
        version = table.get("format")
        if not isinstance(version, int) or version < 1:
            raise self.damaged("no format version")
        if version > FORMAT:
            raise LaterVersion(
                f"this {self._noun} was made by a later version of kdtui",
                where=self.spec_path,
                found=f"format {version}",
                allowed=f"up to {FORMAT}",
                hint=f"use that version of kdtui; `kdtui runs --filter sweep={self.id}` lists its runs",
            )
        if checksum != _checksum(table):
            raise self.damaged("it was cut or changed after it was written")
        return table

    def damaged(self, reason: object) -> StoreError:
        """The error for a ``spec.toml`` that cannot be used."""
        return StoreError(
            f"the {self._noun}'s spec.toml is damaged",
            where=self.spec_path,
            found=one_line(str(reason)),
            hint=f"the command that made it writes it again; `kdtui runs --filter sweep={self.id}` lists its runs",
        )

    @contextlib.contextmanager
    def locked(self, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the lock of the sweep; one process at a time makes, retries or stops its runs.

        Args:
            waiting: Called once if another process holds the lock.

        Raises:
            StoreError: The folder is not writable, or its file system does not support locks.
        """
        try:
            descriptor = open_file(self.lock_path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise not_writable(self.path, error) from error
        try:
            if not self._try(descriptor):
                waiting()
                while not self._try(descriptor):
                    time.sleep(_POLL)
            yield
        finally:
            os.close(descriptor)

    def _try(self, descriptor: int) -> bool:
        try:
            return try_lock(descriptor)
        except OSError as error:
            raise StoreError(
                "this file system does not support locks", where=self.lock_path, found=error.strerror
            ) from error


def manifest_entry(sweep_id: str, cell: Mapping[str, Any], seed: int, role: str) -> dict[str, Any]:
    """The entry ``sweep`` in the manifest of a run, by which its sweep or search recognises it.

    Args:
        sweep_id: Id of the sweep or search.
        cell: Values of the cell by key.
        seed: Seed of the run.
        role: :data:`STUDENT` or :data:`BASELINE`.
    """
    return {"id": sweep_id, "cell": cell, "seed": seed, "role": role}


def create(root: Path, sweep_id: str, table: Mapping[str, Any]) -> SweepFolder:
    """Make the folder of a sweep, or complete one whose ``spec.toml`` is missing or damaged.

    Args:
        root: The run store.
        sweep_id: Id of the sweep, which follows from its specification.
        table: Tables of ``spec.toml``; the version and a checksum are added.

    Raises:
        StoreError: The folder is not writable, or one of a later version exists.
    """
    folder = SweepFolder(root / SWEEPS / sweep_id)
    content = {"format": FORMAT, **table}
    data = tomli_w.dumps({"checksum": _checksum(content), **content}).encode()
    try:
        if folder.path.is_dir():
            if not _is_whole(folder):
                write_atomically(folder.spec_path, data)
            return folder
        folder.path.parent.mkdir(parents=True, exist_ok=True)
        draft = SweepFolder(aside(folder.path))
        draft.path.mkdir()
        try:
            draft.spec_path.write_bytes(data)
            draft.path.rename(folder.path)
        except OSError:
            shutil.rmtree(draft.path, ignore_errors=True)
            if not folder.spec_path.is_file():  # else another process has made it
                raise
    except OSError as error:
        raise not_writable(root, error) from error
    return folder


def _checksum(table: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(table, sort_keys=True, default=str).encode()).hexdigest()


def _is_whole(folder: SweepFolder) -> bool:
    """Whether ``spec.toml`` can be read; one of a later version is an error, since it must not be replaced."""
    try:
        folder.read()
    except LaterVersion:
        raise
    except StoreError:
        return False
    return True


def listing(root: Path) -> list[SweepFolder]:
    """The folders of all sweeps of a store, oldest first; those that cannot be used are included."""
    try:
        with os.scandir(root / SWEEPS) as entries:
            found = [Path(entry.path) for entry in entries if is_safe(entry.name) and entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError("the sweeps cannot be listed", where=root / SWEEPS, found=error.strerror) from error
    return [SweepFolder(path) for path in sorted(found, key=_age)]


def _age(path: Path) -> tuple[float, str]:
    try:
        return (path / "spec.toml").stat().st_mtime, path.name
    except OSError:
        return 0.0, path.name


def find(root: Path, text: str, kind: str = GRID, *, first: str = "kdtui sweep PROFILE") -> SweepFolder:
    """The folder of a sweep by its id, a unique prefix of it, or its name; ``latest`` is the newest.

    Args:
        root: The run store.
        text: The id, prefix or name.
        kind: ``sweep`` or ``search``, the group of commands; folders of the other one are not found.
        first: The command that makes one.

    Raises:
        UsageError: No sweep matches, and the error suggests similar ids; or several match.
    """
    folders = [folder for folder in listing(root) if _kind(folder) in (*_KINDS[kind], None)]
    if text == "latest" and folders:
        return folders[-1]
    exact = [folder for folder in folders if folder.id == text]
    matching = exact or [folder for folder in folders if folder.name == text]
    matching = matching or [folder for folder in folders if text and folder.id.startswith(text)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        ids = ", ".join(folder.id for folder in matching)
        plural = {"search": "searches"}.get(kind, f"{kind}s")
        raise UsageError(f"{len(matching)} {plural} match '{one_line(text)}'", found=ids, hint="give the full id")
    close = difflib.get_close_matches(text, [word for folder in folders for word in (folder.id, folder.name)], n=3)
    raise UsageError(
        f"no {kind} matches '{one_line(text)}'",
        where=root,
        allowed=f"perhaps {', '.join(dict.fromkeys(close))}" if close else None,
        hint=f"`kdtui {kind} list` lists them" if folders else f"there are none yet: `{first}` makes one",
    )


def _kind(folder: SweepFolder) -> str | None:
    try:
        return folder.kind
    except StoreError:  # damaged: reading it reports that
        return None
