"""The summary cache: digests keyed by what their files look like. It may be deleted at any time."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from kdtui.errors import StoreError
from kdtui.store.digest import VERSION, Digest, digest, digest_from_json
from kdtui.store.reading import read_file
from kdtui.store.run import Run, write_atomically
from kdtui.store.values import MOST_BYTES, parse_json

QUIET = 30.0
"""Seconds without a change after which a digest is worth a place on disk."""
_FILES = ("events.jsonl", "launch.json", "notes.toml", "run.json", "profile.toml", "overrides.toml")

Key = list[int]


class SummaryCache:
    """Remembers digests, in memory and, of runs that no longer change, on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, tuple[Key, Digest]] = {}
        self._stored: dict[str, dict[str, Any]] | None = None
        self._changed = False

    def digest(self, run: Run) -> Digest:
        """The run's digest; its files are read only if one of them changed."""
        key = _key(run)
        known = self._known.get(run.id)
        if known is not None and known[0] == key:
            return known[1]
        found = self._from_disk(run.id, key)
        if found is None:
            found = digest(run)
            self._changed = self._changed or _quiet(key)
        self._known[run.id] = (key, found)
        return found

    def forget_all_but(self, ids: set[str]) -> None:
        """Drop runs that are gone."""
        for run_id in self._known.keys() - ids:
            del self._known[run_id]
        gone = (self._stored or {}).keys() - ids
        self._stored = {run_id: entry for run_id, entry in (self._stored or {}).items() if run_id in ids}
        self._changed = self._changed or bool(gone)

    def save(self) -> None:
        """Write the quiet ones if there are new ones."""
        if not self._changed:
            return
        self._changed = False
        entries = {
            run_id: {"key": key, "digest": found.to_json()}
            for run_id, (key, found) in self._known.items()
            if _quiet(key)
        }
        self._stored = {**(self._stored or {}), **entries}
        body = {"version": VERSION, "runs": self._stored}
        try:
            self.path.parent.mkdir(exist_ok=True)
            write_atomically(self.path, json.dumps(body, separators=(",", ":")).encode())
        except (OSError, StoreError):
            # A store that can only be read, or a full disk: the list is true without a cache, only slower.
            return

    def _from_disk(self, run_id: str, key: Key) -> Digest | None:
        if self._stored is None:
            self._stored = _load(self.path)
        entry = self._stored.get(run_id)
        if not isinstance(entry, dict) or entry.get("key") != key:
            return None
        try:
            return digest_from_json(entry.get("digest"))
        except ValueError:  # of another version, or changed: read the run's own files
            return None


def _load(path: Path) -> dict[str, dict[str, Any]]:
    try:
        body = parse_json(read_file(path, most=MOST_BYTES))
    except (OSError, ValueError):  # absent or damaged: a cache is never needed
        return {}
    runs = body.get("runs") if isinstance(body, dict) and body.get("version") == VERSION else None
    return runs if isinstance(runs, dict) else {}


def _key(run: Run) -> Key:
    key = []
    for name in _FILES:
        try:
            status = os.stat(f"{run.path}/{name}")  # noqa: PTH116 (five looks for each of a thousand runs)
        except OSError:
            key += [-1, 0]
        else:
            key += [status.st_size, status.st_mtime_ns]
    return key


def _quiet(key: Key) -> bool:
    return max(key[1::2]) / 1e9 < time.time() - QUIET
