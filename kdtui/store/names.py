"""Which texts may become part of a path, and how foreign text is shown."""

from __future__ import annotations

import re

from kdtui.errors import UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")


def printable(text: str) -> str:
    """``text`` on one line without control characters: safe to show, whoever wrote it."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def is_safe(text: str) -> bool:
    """Whether ``text`` may be joined to the store's root: no separator, no way up, nothing a terminal would obey."""
    return bool(text) and text.isprintable() and not text.startswith(".") and not {"/", "\\"} & set(text)


def check_name(name: str) -> str:
    """``name`` if a run may be called that.

    Raises:
        UsageError: It holds something that a folder or a terminal should not carry.
    """
    if NAME.fullmatch(name) is None or ".." in name:
        raise UsageError(
            "This is no name for a run",
            found=printable(name),
            allowed="letters, digits and . _ + -, starting with a letter or digit, at most 80, without '..'",
            hint="choose another with --name",
        )
    return name
