"""Where profile files are: the names a person may type, without reading more than a file's head. No pydantic here."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kdtui
from kdtui.errors import ProfileError

SHIPPED = Path(kdtui.__file__).parent / "profiles"


@dataclass(frozen=True)
class ProfileFile:
    """A profile on disk, as a list shows it.

    Attributes:
        name: What a person types: the file's stem.
        path: The file.
        shipped: Whether it came with the package.
        description: The file's own ``description``; empty when it has none or cannot be read.
        extends: The parent it names.
    """

    name: str
    path: Path
    shipped: bool
    description: str = ""
    extends: str | None = None


def folders(directory: Path | None = None) -> tuple[Path, ...]:
    """Folders that names are looked up in, nearest first: ``./profiles``, then the shipped ones."""
    own = (directory or Path.cwd()) / "profiles"
    return (own, SHIPPED) if own.resolve() != SHIPPED.resolve() else (SHIPPED,)


def names(directory: Path | None = None) -> list[str]:
    """Every profile name that can be typed here, sorted."""
    return sorted({file.stem for folder in folders(directory) for file in folder.glob("*.toml")})


def listing(directory: Path | None = None) -> list[ProfileFile]:
    """Every profile that can be named here; a nearer file hides a shipped one of the same name."""
    found: dict[str, ProfileFile] = {}
    for folder in folders(directory):
        for file in sorted(folder.glob("*.toml")):
            if file.stem not in found:
                found[file.stem] = _read_head(file)
    return [found[name] for name in sorted(found)]


def _read_head(file: Path) -> ProfileFile:
    """A row of the list. A file with mistakes still has a row: ``profiles NAME`` tells what is wrong with it."""
    shipped = file.parent == SHIPPED
    try:
        if not file.is_file():  # a pipe would be waited for without end
            return ProfileFile(file.stem, file, shipped, description="(no file)")
        table: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError):
        return ProfileFile(file.stem, file, shipped, description="(cannot be read)")
    description, extends = table.get("description", ""), table.get("extends")
    return ProfileFile(file.stem, file, shipped, str(description), None if extends is None else str(extends))


def nearest(word: str, candidates: Iterable[str]) -> list[str]:
    """Up to three candidates that look like ``word``, best first; those that begin with it or contain it count too."""
    candidates = list(candidates)
    close = difflib.get_close_matches(word, candidates, n=3, cutoff=0.6)
    holding = [candidate for candidate in candidates if word and word.lower() in candidate.lower()]
    return list(dict.fromkeys([*close, *holding]))[:3]


def expanded(path: str | Path) -> Path:
    """A path as a person writes it, `~` followed; without such a home it stays as written, and is no file."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # ~nobody
        return Path(path)


def locate(name: str | Path) -> Path:
    """The file behind a name or path.

    Raises:
        ProfileError: There is none; the nearest names are offered.
    """
    path = expanded(name)
    looks_like_path = isinstance(name, Path) or path.suffix == ".toml" or len(path.parts) > 1
    if looks_like_path and path.is_file():
        return path
    if not looks_like_path:
        for folder in folders():
            candidate = folder / f"{name}.toml"
            if candidate.is_file():
                return candidate
    offered = nearest(path.stem, names())
    raise ProfileError(
        f"there is no profile '{name}'" + ("" if not offered else f"; did you mean {' or '.join(offered)}?"),
        where=str(path) if looks_like_path else ", ".join(str(folder) for folder in folders()),
        hint="kdtui profiles lists them all",
    )
