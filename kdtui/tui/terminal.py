"""Detects a remote terminal; imported before Textual, which reads its frame rate from the environment on import."""

from __future__ import annotations

import os


def over_ssh() -> bool:
    """Whether the cockpit is running over SSH."""
    return any(os.environ.get(name) for name in ("SSH_CONNECTION", "SSH_TTY", "SSH_CLIENT"))


def period() -> float:
    """Seconds between two updates: 0.5 locally, 1 over SSH."""
    return 1.0 if over_ssh() else 0.5
