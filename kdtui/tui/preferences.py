"""The user's choices, such as the theme and the sort order, kept in an optional file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from kdtui.errors import StoreError
from kdtui.store.files import reading, write_atomically
from kdtui.tui.views.rows import SORTS

MOST = 1 << 16
"""Most bytes read of the file, which normally has about a hundred."""
_ALLOWED = {"theme": ("dark", "light"), "sort": ("", *SORTS), "descending": (False, True)}


@dataclass(frozen=True)
class Preferences:
    """The choices.

    Attributes:
        theme: ``dark`` or ``light``.
        sort: Key of the column by which the list is sorted; empty for newest first.
        descending: Whether the largest value comes first.
    """

    theme: str = "dark"
    sort: str = ""
    descending: bool = False


def preferences_path(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Path of the file by the XDG Base Directory Specification; None without a home directory."""
    folder = environment.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(folder):  # noqa: PTH117  # relative paths are invalid, and ignored
        try:
            folder = str(Path("~/.config").expanduser())
        except RuntimeError:
            return None
    return Path(folder) / "kdtui" / "cockpit.toml"


def load(path: Path) -> tuple[Preferences, str]:
    """The choices in a file, and a message about what cannot be used; a missing file has no choices."""
    try:
        with reading(path) as file:
            body = file.read(MOST + 1)
        if len(body) > MOST:
            return Preferences(), f"{path} is ignored: it is larger than {MOST >> 10} KiB"
        table = tomllib.loads(body.decode("utf-8"))
    except FileNotFoundError:
        return Preferences(), ""
    except OSError as error:
        return Preferences(), f"{path} is ignored: {error.strerror}"
    except (ValueError, RecursionError):  # UnicodeDecodeError and TOMLDecodeError are ValueErrors
        return Preferences(), f"{path} is ignored: it is not valid TOML"
    wrong = [name for name, allowed in _ALLOWED.items() if name in table and not _among(table[name], allowed)]
    chosen = {f.name: table[f.name] for f in fields(Preferences) if f.name in table and f.name not in wrong}
    return Preferences(**chosen), f"{path}: {', '.join(wrong)} ignored: unknown value" if wrong else ""


def _among(value: object, allowed: tuple[object, ...]) -> bool:
    return any(type(value) is type(each) and value == each for each in allowed)


def save(path: Path, preferences: Preferences) -> None:
    """Overwrite the file.

    Raises:
        StoreError: The file cannot be written.
    """
    import tomli_w  # imported only when needed

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError("The preferences cannot be saved", where=path, found=error.strerror) from error
    try:
        write_atomically(path, tomli_w.dumps(asdict(preferences)).encode())
    except StoreError as error:
        raise StoreError("The preferences cannot be saved", where=path, found=error.found) from error
