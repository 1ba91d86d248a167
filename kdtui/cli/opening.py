"""Open the cockpit in this terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kdtui.errors import KdtuiError, UsageError
from kdtui.text import clean

FRAMES_OVER_SSH = "15"
"""Frames per second over SSH, to limit the traffic; Textual reads it when it is imported."""


def open_cockpit(runs_dir: Path | None) -> int:
    """Run the cockpit until the user quits; return the exit code."""
    try:
        return _open(runs_dir)
    except KdtuiError as error:
        print(f"error: {clean(error)}", file=sys.stderr)
        return error.exit_code


def _open(runs_dir: Path | None) -> int:
    if os.environ.get("TERM", "") in ("", "dumb"):
        raise UsageError(
            "this terminal cannot show the cockpit",
            where="TERM",
            found=os.environ.get("TERM") or "nothing",
            allowed="a terminal with cursor movement, such as xterm-256color or tmux-256color",
            hint="`kdtui runs`, `kdtui watch latest` and every other command work without it",
        )
    from kdtui.launch.targets import open_store
    from kdtui.tui.terminal import over_ssh

    if over_ssh():
        os.environ.setdefault("TEXTUAL_FPS", FRAMES_OVER_SSH)
    store = open_store(runs_dir)
    try:
        folder = store.root.is_dir() or not store.root.exists()
    except OSError as error:
        raise UsageError("the run store is not accessible", where=store.root, found=error.strerror) from error
    if not folder:
        raise UsageError("the run store is not a folder", where=store.root, hint="choose another with --runs-dir")
    from kdtui.tui.app import KdtuiApp
    from kdtui.tui.preferences import preferences_path

    app = KdtuiApp(store, preferences=preferences_path())
    app.run()
    return app.return_code or 0
