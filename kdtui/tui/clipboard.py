"""Copying out of a terminal that may be far away: OSC 52, and inside tmux its own buffer."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from kdtui.wording import clean

if TYPE_CHECKING:
    from textual.app import App


def copy(app: App[Any], text: str) -> str:
    """Put ``text`` on the clipboard; a sentence of where it went.

    Inside tmux, which drops OSC 52 unless it is told otherwise, tmux itself is asked to keep the text and to pass it
    on to its terminal. Elsewhere the terminal is asked; whether it listens cannot be known.
    """
    text = clean(text)
    if os.environ.get("TMUX") and (tmux := shutil.which("tmux")):
        try:
            subprocess.run(
                [tmux, "load-buffer", "-w", "-"],
                input=text.encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=2.0,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):  # an old tmux knows no -w: the terminal is asked as elsewhere
            pass
        else:
            return "copied to the tmux buffer, and to the clipboard where the terminal allows"
    app.copy_to_clipboard(text)
    return "copied, if this terminal takes OSC 52"
