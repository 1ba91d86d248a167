"""Copying out of a terminal that may be far away: OSC 52, and inside tmux its own buffer."""

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
    """Put ``text`` on the clipboard and into a file; a sentence of where it went. May be called by any thread.

    Inside tmux, which drops OSC 52 unless it is told otherwise, tmux itself is asked to keep the text and to pass it
    on to its terminal. Elsewhere the terminal is asked; whether it listens cannot be known, so the text lies in
    ``file`` as well.

    Args:
        to_terminal: Asks the terminal by OSC 52.
        text: Its control characters are taken out.
        file: Replaced.
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
        except (OSError, subprocess.SubprocessError):  # an old tmux knows no -w: the terminal is asked as elsewhere
            pass
        else:
            return "copied to tmux and, where its terminal allows, the clipboard"
    to_terminal(text)
    return "copied (if the terminal supports OSC 52)"
