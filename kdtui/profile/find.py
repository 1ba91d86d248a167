"""Find profile files by name, without pydantic, for shell completion."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import kdtui
from kdtui.errors import ProfileError

SHIPPED = Path(kdtui.__file__).parent / "profiles"


OF_RUN = "run:"
"""Prefix of a checkpoint that is named by its run, instead of a path."""
LARGEST = 1 << 20
"""Maximum size of a profile in bytes."""
DEEPEST = 32
"""Maximum number of dotted parts of a key; the longest key of a profile has three."""
_DEEP_KEY = re.compile(rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{DEEPEST}}}""")
# A TOML file in the working folder is listed only if it has one of these keys; pyproject.toml has none.
_MARKS = frozenset({"extends", "seed", "data", "student", "teacher", "distillation", "training"})


@dataclass(frozen=True)
class ProfileFile:
    """A profile in the list.

    Attributes:
        name: The file's stem, by which it is selected.
        path: The file.
        shipped: Whether it is part of the package.
        description: The file's ``description``; empty if it has none or cannot be read.
        extends: The profile that it extends.
        hides: Files of the same name in folders that are searched later.
    """

    name: str
    path: Path
    shipped: bool
    description: str = ""
    extends: str | None = None
    hides: tuple[Path, ...] = ()


def folders(directory: Path | None = None) -> tuple[Path, ...]:
    """Folders in which names are looked up, in order: ``.``, ``./profiles``, then the shipped profiles."""
    here = directory or Path.cwd()
    own = [folder for folder in (here, here / "profiles") if folder.resolve() != SHIPPED.resolve()]
    return (*own, SHIPPED)


def names(directory: Path | None = None) -> list[str]:
    """All profile names, sorted."""
    return [file.name for file in listing(directory)]


def listing(directory: Path | None = None) -> list[ProfileFile]:
    """All profiles; a file hides those of the same name in folders that are searched later.

    TOML files directly in the working folder are listed only if they have a key of a profile.
    """
    here = directory or Path.cwd()
    found: dict[str, list[ProfileFile]] = {}
    for folder in folders(directory):
        for file in sorted(folder.glob("*.toml")):
            row = _read_head(file, anything=folder != here)
            if row is not None:
                found.setdefault(file.stem, []).append(row)
    return [replace(rows[0], hides=tuple(row.path for row in rows[1:])) for _, rows in sorted(found.items())]


def _read_head(file: Path, *, anything: bool) -> ProfileFile | None:
    """Read the list entry of a file; a file with errors has one too, as ``profiles NAME`` reports its errors.

    Args:
        file: A TOML file.
        anything: Whether it is listed even if it has no key of a profile.
    """
    shipped = file.parent == SHIPPED
    try:
        if not file.is_file():  # reading a pipe could block
            return ProfileFile(file.stem, file, shipped, description="(not a file)")
        table = parse_tables(read_bounded(file))
    except (OSError, ValueError):
        return ProfileFile(file.stem, file, shipped, description="(cannot be read)")
    if not anything and not _MARKS & table.keys():
        return None
    description, extends = table.get("description", ""), table.get("extends")
    return ProfileFile(
        file.stem,
        file,
        shipped,
        description if isinstance(description, str) else "",
        extends if isinstance(extends, str) else None,
    )


def read_bounded(file: Path) -> str:
    """Read a text file of bounded size.

    Raises:
        OSError: It cannot be read.
        ValueError: It is too large, or not UTF-8 (``UnicodeDecodeError``).
    """
    with file.open("rb") as stream:
        data = stream.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST // 1024} KiB")
    return data.decode()


def parse_tables(text: str) -> dict[str, Any]:
    """Parse TOML to plain tables.

    Raises:
        ValueError: It is not TOML (``tomllib.TOMLDecodeError``), is nested too deeply, or has a number with too many
            digits.
    """
    if _DEEP_KEY.search(text):  # the memory use of tomllib is quadratic in the number of parts
        raise ValueError(f"a key has more than {DEEPEST} parts")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("tables or lists are nested too deeply") from error


def complete_run_table(table: dict[str, Any]) -> None:
    """Set in the profile of a run what versions without that key did: pixels of ``data.pipeline`` 1."""
    if isinstance(data := table.get("data"), dict):
        data.setdefault("pipeline", 1)


def nearest(word: str, candidates: Iterable[str]) -> list[str]:
    """Up to three candidates that are similar to ``word`` or contain it, best first."""
    candidates = list(candidates)
    import difflib  # here: importing it is slow, and only errors need it

    close = difflib.get_close_matches(word, candidates, n=3, cutoff=0.6)
    holding = [candidate for candidate in candidates if word and word.lower() in candidate.lower()]
    return list(dict.fromkeys([*close, *holding]))[:3]


def expanded(path: str | Path) -> Path:
    """Expand a leading ``~`` of a path; without such a home directory the path is unchanged."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # the user does not exist
        return Path(path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long, or a folder is not accessible
        return False


def locate(name: str | Path) -> Path:
    """Find the file of a profile's name or path.

    Raises:
        ProfileError: There is none; the error suggests similar names.
    """
    path = expanded(name)
    looks_like_path = isinstance(name, Path) or path.suffix == ".toml" or len(path.parts) > 1
    if looks_like_path and _is_file(path):
        return path
    if not looks_like_path:
        for folder in folders():
            candidate = folder / f"{name}.toml"
            if _is_file(candidate):
                return candidate
    offered = nearest(path.stem, names())
    raise ProfileError(
        f"no profile '{name}'" + ("" if not offered else f"; did you mean {' or '.join(offered)}?"),
        where=str(path) if looks_like_path else ", ".join(str(folder) for folder in folders()),
        hint="kdtui profiles lists all profiles",
    )
