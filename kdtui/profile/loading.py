"""Load profiles from files: resolve ``extends``, apply ``--set``, and report all errors at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import tomli_w
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from kdtui import plugins
from kdtui.errors import ProfileError
from kdtui.profile.base import with_paths
from kdtui.profile.find import (
    DEEPEST,
    SHIPPED,
    complete_run_table,
    expanded,
    locate,
    nearest,
    parse_tables,
    read_bounded,
)
from kdtui.profile.launch_tables import DEFAULT as DEFAULT_LAUNCH
from kdtui.profile.launch_tables import target_name
from kdtui.profile.matched import without_treated_data
from kdtui.profile.settings import read_value
from kdtui.profile.table_fields import TAGS, allowed_values, choices, item_type, models_in
from kdtui.profile.tables import Profile
from kdtui.text import clean, counted

KeyPath = tuple[str, ...]

# These describe the file itself, so they are not inherited.
_NOT_INHERITED = ("name", "description", "tags")
_SHOWN = 120  # characters
_LONGEST_BITS = 256
_WORD = re.compile(r"[a-z_]+(?:\.[a-z_]+)*")
_ITEM = re.compile(r"\[\d*\]")
# The default kinds; a table of another kind replaces the inherited one.
DEFAULT_KINDS = {"data": "synthetic", "student": "smp", "launch": target_name(DEFAULT_LAUNCH)}
_TAGS = {"launch": "target"}  # tables whose discriminator is not `kind`
# Tables that are one value: of an inherited one, no key remains.
_WHOLE = frozenset({"label_map", "class_map"})
# Alternative notations: a file with the key on the left replaces inherited keys on the right.
_OTHER_WAY: dict[KeyPath, tuple[str, ...]] = {
    ("distillation", "terms"): ("logits", "bg_fg", "target_nontarget"),
    ("student", "weights"): ("encoder_weights",),
    ("student", "encoder_weights"): ("weights", "weights_part"),
}


@dataclass
class Resolved:
    """A merged table with the origin of each key.

    Attributes:
        table: Plain TOML values.
        origins: The file or ``--set`` text of each key path.
        mistakes: Errors found before the validation of values.
        files: The file and its parents, nearest first.
        kinds_replace: Whether a table of another kind replaces the inherited one.
    """

    table: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    kinds_replace: bool = True

    def origin(self, key: Sequence[str]) -> str:
        """Origin of ``key``, or of the innermost enclosing table with an origin."""
        path = tuple(key)
        while path and path not in self.origins:
            path = path[:-1]
        return self.origins.get(path, str(self.files[0]) if self.files else "")

    def origin_among(self, keys: Iterable[KeyPath]) -> str | None:
        """The origin of the key that was set last: by ``--set``, else in the nearest file; None if none has one."""
        files = [str(file) for file in self.files]
        origins = [self.origins[key] for key in keys if key in self.origins]
        places = {origin: files.index(origin) if origin in files else -1 for origin in origins}
        return min(places, key=lambda origin: places[origin], default=None)

    def merge(self, child: dict[str, Any], origins: dict[KeyPath, str]) -> None:
        """Merge ``child``: tables key by key; other values, and tables of another kind, are replaced."""
        self._merge(self.table, child, origins, ())

    def _merge(self, base: dict[str, Any], child: dict[str, Any], origins: dict[KeyPath, str], path: KeyPath) -> None:
        for key, value in child.items():
            here = (*path, key)
            below = base.get(key)
            if isinstance(below, dict) and isinstance(value, dict) and not self._replaces(key, below, value):
                self._merge(below, value, origins, here)
            else:
                self.origins = {k: o for k, o in self.origins.items() if k[: len(here)] != here}
                base[key] = _copy(value)
                for other in _OTHER_WAY.get(here, ()) if self.kinds_replace else ():
                    if other not in child:
                        base.pop(other, None)
                self.origins |= {k: o for k, o in origins.items() if k[: len(here)] == here}
            if here in origins:  # of a table: of its nearest keys, as its mistakes are between keys
                self.origins[here] = origins[here]

    def _replaces(self, key: str, below: dict[str, Any], above: dict[str, Any]) -> bool:
        tag = _TAGS.get(key, "kind")
        if key in _WHOLE:
            return self.kinds_replace
        return self.kinds_replace and tag in above and above[tag] != below.get(tag, DEFAULT_KINDS.get(key))


def _copy(value: Any) -> Any:
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, dict) else value


def _mark(table: dict[str, Any], origin: str, path: KeyPath = ()) -> dict[KeyPath, str]:
    """Map every key path of a table, including nested ones, to ``origin``."""
    marks: dict[KeyPath, str] = {}
    for key, value in table.items():
        marks[(*path, key)] = origin
        if isinstance(value, dict):
            marks |= _mark(value, origin, (*path, key))
    return marks


def shown(value: Any) -> str:
    """Format an untrusted value as one short line."""
    if isinstance(value, int) and value.bit_length() > _LONGEST_BITS:
        return f"an integer of {value.bit_length()} bits"  # Python formats at most 4300 digits
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # such an integer in a list, or deeply nested lists
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}… ({len(text)} characters)"


def shorter(text: str) -> str:
    """Format a key or an origin as one short line."""
    text = clean(text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}… ({len(text)} characters)"


def unusable(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], str]]:
    """Keys with text that cannot be written to a file or used in a path, and the reason."""
    if isinstance(value, dict):
        keys = [(path, f"{why} in a key") for key in value if (why := _why_not(key))]
        return keys + [line for key, below in value.items() for line in unusable(below, (*path, key))]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [line for at, item in enumerate(value) for line in unusable(item, (*path, at))]
    if path and path[-1] in ("kind", "target") and not isinstance(value, str):  # pydantic does not limit its size
        return [(path, f"{shown(value)}; allowed: text in quotes")]
    items = value if isinstance(value, list) else [value]
    return [(path, why) for why in dict.fromkeys(_why_not(item) for item in items) if why]


def _why_not(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    if "\0" in value:
        return "a NUL character"
    return "bytes that are not UTF-8" if any("\ud800" <= letter <= "\udfff" for letter in value) else ""


def read_text(file: Path) -> str:
    """Read the text of a profile.

    Raises:
        ProfileError: It cannot be read, is too large, or is not UTF-8.
    """
    try:
        return read_bounded(file)
    except UnicodeDecodeError as error:
        raise ProfileError(f"{file} is not UTF-8 text", where=file, hint="save it as UTF-8") from error
    except ValueError as error:
        raise ProfileError(f"{file} is not a valid profile: {error}", where=file) from error
    except OSError as error:
        raise ProfileError(f"{file} cannot be read: {error.strerror}", where=file) from error


def read_toml(file: Path) -> dict[str, Any]:
    """Read the tables of a TOML file.

    Raises:
        ProfileError: It cannot be read or is not TOML; the error contains file and line.
    """
    text = read_text(file)
    try:
        return parse_tables(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(
            f"{file} is not valid TOML: {error}", where=file, hint="write text in quotes and table headings as [name]"
        ) from error
    except ValueError as error:
        raise ProfileError(f"{file} is not a valid profile: {error}", where=file) from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long
        return False


def _parent(file: Path, parent: str, chain: list[Path]) -> Path:
    """Find the file that ``extends`` refers to: in the same folder, then a shipped one; never the file itself."""
    stem = parent.removesuffix(".toml")
    candidates = [file.parent / f"{stem}.toml", SHIPPED / f"{stem}.toml"]
    found = [candidate for candidate in candidates if _is_file(candidate)]
    # A local profile may extend the shipped one of the same name.
    others = [candidate for candidate in found if candidate.resolve() != file.resolve()]
    if not found:
        beside = [path.stem for path in file.parent.glob("*.toml") if path != file]
        offered = nearest(stem, {*beside, *(path.stem for path in SHIPPED.glob("*.toml"))})
        raise ProfileError(
            f"{file} extends '{parent}', which is neither in its folder nor shipped"
            + ("" if not offered else f"; did you mean {' or '.join(offered)}?"),
            where=f"{file}: extends",
            hint="kdtui profiles lists all profiles",
        )
    chosen = (others or found)[0]
    if chosen.resolve() in [path.resolve() for path in chain]:
        ring = " -> ".join(path.stem for path in [*chain, chosen])
        raise ProfileError(f"circular extends: {ring}", where=f"{file}: extends")
    return chosen


def resolve(file: Path, sets: Sequence[str] = ()) -> Resolved:
    """Merge ``file`` with the profiles that it extends and with ``sets``.

    Raises:
        ProfileError: A file cannot be read, a parent is missing, or the parents form a circle.
    """
    chain, layers = [file], [read_toml(file)]
    if file.name == "profile.toml" and _is_file(file.parent / "run.json"):  # training it again repeats the run
        complete_run_table(layers[0])
    resolved = Resolved()
    while "extends" in layers[-1]:
        parent = layers[-1].pop("extends")
        if not isinstance(parent, str):
            found = shown(parent)
            resolved.mistakes.append(f"extends ({chain[-1]}): found {found}; allowed: one profile's name in quotes")
            break
        chain.append(_parent(chain[-1], parent, chain))
        layers.append(read_toml(chain[-1]))
    resolved.files = chain
    for path, layer in reversed(list(zip(chain, layers, strict=True))):
        for key in _NOT_INHERITED:
            resolved.table.pop(key, None)
            resolved.origins.pop((key,), None)
        resolved.merge(layer, _mark(layer, str(path)))
    if "name" not in resolved.table:
        resolved.table["name"] = file.stem
        resolved.origins[("name",)] = f"the file name {file.name}"
    _apply(sets, resolved)
    for key, kind in DEFAULT_KINDS.items():
        if isinstance(resolved.table.get(key), dict):
            resolved.table[key].setdefault(_TAGS.get(key, "kind"), kind)
    return resolved


def _apply(sets: Sequence[str], resolved: Resolved) -> None:
    """Merge ``sets``; those that disable the distillation also leave out tables of data that only it uses."""
    table, origins, mistakes = read_sets(sets)
    resolved.merge(table, origins)
    resolved.mistakes += mistakes
    switch = table.get("distillation")
    if isinstance(switch, dict) and switch.get("enabled") is False:
        resolved.table = without_treated_data(resolved.table, but=table)


def read_sets(sets: Sequence[str]) -> tuple[dict[str, Any], dict[KeyPath, str], list[str]]:
    """Parse ``a.b=c`` texts to one table, its origins and errors.

    They are merged with each other before they are merged with the file, so that ``data.kind`` may be given before or
    after the keys of the new kind.
    """
    together, mistakes = Resolved(kinds_replace=False), []
    for text in sets:
        key, equals, value = text.partition("=")
        path = tuple(part.strip() for part in key.split("."))
        if not equals or not all(path) or len(path) > DEEPEST:
            mistakes.append(f"--set {shown(clean(text))}: allowed: KEY=VALUE, as in training.epochs=5")
            continue
        if (listed := _ITEM.search(key)) is not None:
            allowed = f"the whole list, {shorter(key[: listed.start()])}=[…]"
            mistakes.append(f"{shorter(key)} (--set {shorter(text)}): found one item of a list; allowed: {allowed}")
            continue
        layer: dict[str, Any] = {path[-1]: read_value(value)}
        for part in reversed(path[:-1]):
            layer = {part: layer}
        together.merge(layer, _mark(layer, f"--set {shorter(text)}"))
    return together.table, together.origins, mistakes


_OUTPUT = "the name of an output: letters, digits and . _ : / -"
# By a key of the path; the first of these decides.
_PATTERNS = {
    "optimizer": "the name of an optimizer: small letters and digits",
    "on": _OUTPUT,
    "teacher_on": _OUTPUT,
    "terms": "up to 40 letters, digits, _ and -, starting with a letter",
    "tags": "up to 40 letters, digits and . _ : + = -, starting with a letter or digit",
    "name": "up to 80 letters, digits and . _ + -, starting with a letter or digit",
}


def mistakes(error: ValidationError, resolved: Resolved) -> list[str]:
    """One line per invalid key, in the order of the file: key, origin, found, allowed, and similar names.

    An item of a list is a key of its own; then nothing is said of the whole list but its length.
    """
    lines: dict[str, str] = {}
    lengths: set[str] = set()
    unknown: list[str] = []  # tables of a kind that is not known: what their other keys should be is not known either
    for detail in error.errors(include_url=False):
        if _counts_valid_items(detail):
            continue
        path, model, field = _follow(detail["loc"])
        if detail["type"].startswith("union_tag"):
            tag = detail["ctx"]["discriminator"].strip("'")  # a function if the key has a default
            path = [*path, tag if tag in TAGS else "kind"]
        key = _spell(path)
        if path and path[-1] in ("kind", "target"):
            unknown.append(f"{_spell(path[:-1])}.")
        said = _say(detail, path, model, field)
        origin = _origin(resolved, tuple(map(str, path)), said if detail["type"] == "value_error" else "")
        text = detail["input"]
        if origin.startswith("--set") and isinstance(text, str) and text.startswith(("[", "{")):
            said += "; a shell removes quotes: put the whole KEY=VALUE in single quotes"
        # Every branch of a union reports the same key; keep the first.
        lines.setdefault(key, f"{key} ({shorter(origin)}): {said}")
        if detail["type"] in ("too_short", "too_long"):
            lengths.add(key)
    of_items = {key.rpartition("[")[0] for key in lines if key.endswith("]")} - lengths
    lines = {key: line for key, line in lines.items() if key not in of_items}
    kinds = tuple(f"{within}{tag}" for within in unknown for tag in ("kind", "target"))
    return [line for key, line in lines.items() if key in kinds or not key.startswith(tuple(unknown))]


def _counts_valid_items(detail: ErrorDetails) -> bool:
    """Whether a list is called too short only because some of its items are invalid."""
    found = detail["input"]
    return detail["type"] == "too_short" and isinstance(found, list) and len(found) >= detail["ctx"]["min_length"]


def _origin(resolved: Resolved, path: KeyPath, contradiction: str) -> str:
    """Where a mistake was made.

    Args:
        resolved: The merged table.
        path: The key with the mistake.
        contradiction: Message about several keys of a table, or of the profile, which it names; otherwise empty.
    """
    words = [tuple(word.split(".")) for word in _WORD.findall(contradiction)]
    origin = resolved.origin_among(key for word in words for key in ((*path, *word), word) if len(key) > 1)
    return origin or resolved.origin(path)


def _say(detail: ErrorDetails, path: list[str | int], model: type[BaseModel], field: FieldInfo | None) -> str:
    kind, found = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return _unknown(str(path[-1]), model, found)
    if kind == "missing":
        return f"missing; allowed: {allowed_values(field)}"
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tags = [] if field is None else [tag for table in models_in(field.annotation) if (tag := _tag(table))]
        value = found.get(path[-1]) if isinstance(found, dict) else found
        if value is None:
            return f"missing; allowed: {', '.join(tags)}"
        return f"found {shown(value)}; allowed: {', '.join(tags)}" + (_broken(value) or _did_you_mean(value, tags))
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        spelled = "{KEY = VALUE, …}" if isinstance(path[-1], int) else f"[{_spell(path)}]"
        return f"found {shown(found)}; allowed: a table, {spelled}"
    if kind == "string_pattern_mismatch":
        words = next((words for key, words in _PATTERNS.items() if key in path), detail["msg"])
        return f"found {shown(found)}; allowed: {words}"
    spelled = _did_you_mean(found, choices(field.annotation)) if field is not None else ""
    if path and path[-1] in ("kind", "target"):
        spelled = _broken(found) or spelled
    return f"found {shown(found)}; allowed: {allowed_values(field) or detail['msg']}{spelled}"


def _unknown(key: str, model: type[BaseModel], found: Any) -> str:
    """The error of an unknown key, which may be misspelt or belong to another table."""
    here = list(model.model_fields)
    close = nearest(key, here)
    if close:
        return f"unknown key, found {shown(found)}; did you mean {close[0]}?"
    homes = {name: f"{table}.{name}" for table, below in _tables(Profile) for name in below.model_fields}
    elsewhere = nearest(key, homes)
    if elsewhere and model is Profile:
        return f"unknown key, found {shown(found)}; did you mean {homes[elsewhere[0]]}?"
    return f"unknown key, found {shown(found)}; allowed: {', '.join(here)}"


def _broken(name: Any) -> str:
    """Why an installed extension of this name cannot be used; empty if there is none."""
    return "".join(
        f"; the extension {entry.name} of {entry.package} cannot be used: {entry.reason}"
        for entry in plugins.broken()
        if entry.name == name
    )


def _did_you_mean(found: Any, words: list[str]) -> str:
    close = nearest(found, words) if isinstance(found, str) else []
    return f"; did you mean {close[0]}?" if close else ""


def _spell(path: Sequence[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _tables(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, entry in model.model_fields.items():
        for below in models_in(entry.annotation):
            yield name, below


def _tag(model: type[BaseModel]) -> str | None:
    """The value of a table's discriminator, ``kind`` or ``target``."""
    field = model.model_fields.get("kind") or model.model_fields.get("target")
    return None if field is None else str(get_args(field.annotation)[0])


def _follow(loc: tuple[str | int, ...]) -> tuple[list[str | int], type[BaseModel], FieldInfo | None]:
    """Convert pydantic's location to the key as written, its table and its field.

    pydantic inserts the tag of a discriminated union and the branch of a plain one, which are not part of the key.
    """
    path: list[str | int] = []
    model: type[BaseModel] = Profile
    field: FieldInfo | None = None
    below: list[type[BaseModel]] = [Profile]
    for part in loc:
        tagged = [candidate for candidate in below if _tag(candidate) == part]
        if len(below) > 1 and tagged:
            below = tagged
            continue
        if below and isinstance(part, int):
            path.append(part)  # in a list of tables
        elif below:
            model = below[0]
            path.append(part)
            field = model.model_fields.get(str(part))
            below = [] if field is None else list(models_in(field.annotation))
        elif isinstance(part, int) and field is not None and (item := item_type(field.annotation)) is not None:
            path.append(part)
            field = FieldInfo.from_annotation(item)
    return path, model, field


def load(name_or_path: str | Path, sets: Sequence[str] = ()) -> Profile:
    """Load a profile by name or path and apply ``sets`` (``a.b=c``).

    A name is looked up in ``.``, in ``./profiles``, then among the shipped profiles.

    Raises:
        ProfileError: There is no such profile, or it has errors, which are all listed.
    """
    resolved = resolve(locate(name_or_path), sets)
    return _validate(resolved, what=f"profile '{name_or_path}'")


def own_kind(name_or_path: str | Path, key: str) -> str:
    """The kind of a table of a profile, such as ``student``; nothing else is validated.

    Raises:
        ProfileError: There is no such profile, or it cannot be read.
    """
    table = resolve(locate(name_or_path)).table.get(key)
    return str(table.get("kind")) if isinstance(table, dict) else ""


def amend(profile: Profile, sets: Sequence[str], *, what: str = "the profile") -> Profile:
    """Apply ``sets`` to a profile and validate the result.

    Raises:
        ProfileError: It has errors, which are all listed.
    """
    resolved = Resolved(table=profile.model_dump(exclude_none=True))
    resolved.origins = dict.fromkeys([(key,) for key in resolved.table], what)
    _apply(sets, resolved)
    return _validate(resolved, what=what)


def sources(name_or_path: str | Path) -> list[Path]:
    """The file of a profile and the files that it extends, nearest first."""
    return resolve(locate(name_or_path)).files


def _validate(resolved: Resolved, *, what: str) -> Profile:
    found = list(resolved.mistakes)
    profile: Profile | None = None
    impossible = unusable(resolved.table)
    found += [
        f"{shorter(_spell(path)) or what} ({shorter(resolved.origin([str(part) for part in path]))}): found {why}"
        for path, why in impossible
    ]
    if not impossible:
        try:
            profile = Profile.model_validate(resolved.table)
        except ValidationError as error:
            found += mistakes(error, resolved)
    if profile is None or found:
        count = counted(len(found), "error")
        parents = [file.stem for file in resolved.files[1:] if file.parent == SHIPPED]
        complete = parents[0] if parents else "people-distilled"
        raise ProfileError(
            f"{what} has {count}",
            mistakes=tuple(found),
            hint=f"`kdtui profiles {complete} --resolved` shows a complete profile",
        )
    return profile


def of_run(table: dict[str, Any], file: Path) -> Profile:
    """Validate the profile of a run.

    Args:
        table: What its files contain.
        file: Its ``profile.toml``, for the message.

    Raises:
        ProfileError: It has errors, such as a kind that only a package adds which is not installed here.
    """
    try:
        return _validate(Resolved(table=table, files=[file]), what="the profile of this run")
    except ProfileError as error:
        keys = [mistake.partition(" ")[0] for mistake in error.mistakes]
        if any(key.endswith((".kind", ".target")) for key in keys):
            error.hint = "install the package that provides it; `kdtui doctor` lists the installed extensions"
        raise


def dump(profile: Profile) -> bytes:
    """Write the profile as complete TOML without ``extends``; loading it gives an equal profile.

    Raises:
        ProfileError: A path in it is not UTF-8.
    """
    text = tomli_w.dumps(profile.model_dump(exclude_none=True))
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ProfileError(
            "a path of the profile is not UTF-8 text", where=profile.name, hint="rename the file or folder"
        ) from error


def absolute(profile: Profile) -> Profile:
    """Make all paths of the profile absolute: expand ``~``, resolve others in the current directory.

    The profile in a run folder must not depend on the directory from which the run is resumed.
    """
    return with_paths(profile, lambda path: str(expanded(path).absolute()))
