"""Copying from a terminal that may be remote: by OSC 52, and inside tmux by its buffer."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from kdtui import processes
from kdtui.errors import StoreError
from kdtui.store.files import write_atomically
from kdtui.text import clean


def copy(to_terminal: Callable[[str], object], text: str, file: Path) -> str:
    """Copy ``text`` to the clipboard and to a file, and return a sentence about it. Thread-safe.

    Inside tmux, which drops OSC 52 by default, tmux stores the text and passes it to its terminal. Elsewhere OSC 52 is
    sent to the terminal; whether it supports that is unknown, so the text is written to ``file`` as well.

    Args:
        to_terminal: Sends a text to the terminal by OSC 52.
        text: The text; control characters are removed.
        file: Is overwritten.
    """
    text = clean(text)
    return f"{_to_clipboard(to_terminal, text)}; {_to_file(text, file)}"


def _to_file(text: str, file: Path) -> str:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, text.encode())
    except (OSError, StoreError) as error:
        why = error.found if isinstance(error, StoreError) else error.strerror
        return f"not in {file}: {why}"
    return f"also in {file}"


def _to_clipboard(to_terminal: Callable[[str], object], text: str) -> str:
    if os.environ.get("TMUX") and (tmux := processes.program("tmux")):
        try:
            subprocess.run(
                [tmux, "load-buffer", "-w", "-"],
                input=text.encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=2.0,
                check=True,
                env=processes.environment(),
            )
        except (OSError, subprocess.SubprocessError):  # an old tmux has no -w: use OSC 52
            pass
        else:
            return "copied to tmux and, if its terminal supports it, to the clipboard"
    to_terminal(text)
    return "copied (if the terminal supports OSC 52)"
