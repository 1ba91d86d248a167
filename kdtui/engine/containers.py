"""Checkpoint containers: find the tensors of a network in a file, and the metadata around them."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kdtui.engine import checkpoint, plain_data
from kdtui.engine.class_names import named_classes
from kdtui.engine.file_kinds import ONNX_SNIPPET
from kdtui.engine.shards import INDEX, WEIGHTS, read_json, refuse_unread_folder, shards_of, weights_in
from kdtui.engine.torch_file import first_line, shortened
from kdtui.errors import CheckpointError
from kdtui.profile.find import expanded
from kdtui.store.files import reading

# If a checkpoint contains several networks, the first of these is used; averaged weights are preferred to the weights
# that they were averaged from.
_AVERAGED = ("state_dict_ema", "model_ema")
_ORDER = ("student", "model_state_dict", "state_dict", "model", "net", "bare")
_AVERAGED_NAME = re.compile(r"(.*_)?(ema|swa|averaged|avg)(_.*|\d*)")
# How deep dicts of tensors are searched.
_MOST_LEVELS = 4
_MOST_CONTAINERS = 20_000
_FOLDER_WEIGHTS = "model.safetensors"
_FOLDER_CONFIG = "config.json"
_MOST_HEADER = 100_000_000  # bytes that safetensors itself allows
_LISTED = 6  # maximum number of dicts of tensors in a message
# Limits of the metadata that `inspect` shows.
_METADATA_ENTRIES = 64
_METADATA_CHARACTERS = 4000
_METADATA_VALUES = 2000
_METADATA_LEVELS = 8
_METADATA_NUMBER = 1 << 63
_NAME = 200  # maximum number of characters of a key


@dataclass(frozen=True)
class Layout:
    """The keys of a family of networks.

    Attributes:
        family: Name of the family in reports.
        parts: First parts of the keys, all of which a complete network has, without the dot.
        optional: First parts of further keys of the network.
    """

    family: str
    parts: tuple[str, ...]
    optional: tuple[str, ...] = ()

    @property
    def inside(self) -> tuple[str, ...]:
        """Starts of the network's keys."""
        return tuple(f"{part}." for part in (*self.parts, *self.optional))

    def prefixes(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """All prefixes of complete networks: averaged ones first, then a student.

        Everything before the first of the parts is the prefix; a later ``encoder.model.`` is from timm encoders.
        """
        front = re.compile(rf"((?:[^.]*\.)*?)({'|'.join(self.parts)})\.")
        found: dict[str, set[str]] = {}
        for match in filter(None, map(front.match, tensors)):
            found.setdefault(match[1], set()).add(match[2])
        whole = [prefix for prefix, parts in found.items() if parts == set(self.parts)]

        def rank(prefix: str) -> int:
            words = prefix.split(".")
            return 0 if any(map(_AVERAGED_NAME.fullmatch, words)) else 1 if "student" in words else 2

        return sorted(whole, key=rank)


SMP = Layout("segmentation-models-pytorch", ("encoder", "decoder"), ("segmentation_head",))


@dataclass(frozen=True)
class Contents:
    """The contents of a checkpoint file.

    Attributes:
        family: Name of the family of the network, see :class:`Layout`.
        state: The network's state dict, with plain keys.
        container: Its location: ``bare``, ``state_dict``, ``student``, ``save_pretrained`` …
        candidates: All places in the file with a network, in the order of preference.
        places: All places in the file with tensors, and their number.
        prefix: The removed prefix of the keys.
        ignored: Keys that are not part of the network (loss functions, normalisation buffers).
        metadata: Plain values besides the tensors.
        names: All lists of class names in the file, the most likely one first.
        file: The file that was read; the index of a sharded checkpoint.
        parts: All files that were read.
    """

    family: str
    state: dict[str, Tensor]
    container: str
    candidates: tuple[str, ...]
    places: dict[str, int]
    prefix: str
    ignored: tuple[str, ...]
    metadata: dict[str, Any]
    names: tuple[tuple[str, ...], ...]
    file: Path
    parts: tuple[Path, ...]


def open_checkpoint(path: str | Path, layouts: Sequence[Layout] = (SMP,)) -> Contents:
    """Find the network in a file, a ``save_pretrained`` folder or a run folder.

    Args:
        path: The file or folder.
        layouts: The families of networks to look for; if a dict has networks of several, the first is preferred.

    Raises:
        CheckpointError: Not readable, or not a network of these families.
    """
    file, container, metadata = _resolve(expanded(path))
    content, parts = _read(file)
    places = _places(content)
    own = _is_of_another_kind(content) and "student" in places
    networks = [
        (place, prefix, layout)
        for place in _in_order(places)
        for layout in layouts
        for prefix in layout.prefixes(places[place])
    ]
    if own:
        networks = [("student", "", Layout("kdtui", ()))]
    if not networks:
        raise _no_network(file, content, places, layouts)
    place, prefix, layout = networks[0]
    tensors = places[place]
    inside = ("",) if own else tuple(prefix + part for part in layout.inside)
    state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(inside)}
    checkpoint.check_dense(state, where=file)
    return Contents(
        family=layout.family,
        state=with_counters(state),
        container=container or place,
        candidates=_named([(place, prefix) for place, prefix, _ in networks]),
        places=_counted(places, {place for place, *_ in networks}),
        prefix=prefix,
        ignored=tuple(shortened(key, _NAME) for key in tensors if not key.startswith(inside)),
        metadata=metadata | _plain(content, skip=set(places), scalars="bare" not in places),
        names=tuple(named_classes(metadata | dict(content))),
        file=file,
        parts=parts,
    )


@dataclass(frozen=True)
class Places:
    """All dicts of tensors in a checkpoint.

    Attributes:
        file: The file that was read.
        tensors: The dicts by their place, in the order of preference.
        names: All lists of class names, the most likely one first.
        pixels: The record of the images' normalisation; None if there is none.
    """

    file: Path
    tensors: dict[str, dict[str, Tensor]]
    names: tuple[tuple[str, ...], ...]
    pixels: object = None


def open_places(path: str | Path) -> Places:
    """Read the tensors of any network in a file, a ``save_pretrained`` folder or a run folder.

    Raises:
        CheckpointError: Not readable, or without tensors.
    """
    file, _, metadata = _resolve(expanded(path))
    content, _ = _read(file)
    places = _places(content)
    if not places:
        raise CheckpointError(
            "this checkpoint has no tensors",
            where=file,
            found=f"entries {checkpoint.shown_keys([str(key) for key in content])}" if content else "an empty dict",
            allowed="a dict of tensors, or one that contains it",
        )
    return Places(
        file,
        {place: places[place] for place in _in_order(places)},
        tuple(named_classes(metadata | dict(content))),
        content.get("pixels"),
    )


def _is_of_another_kind(content: Mapping[str, Any]) -> bool:
    """Whether a file is a checkpoint of a run whose student is no network of smp: it names its kind."""
    model = content.get("model")
    return content.get("format") == checkpoint.FORMAT and isinstance(model, Mapping) and "kind" in model


def _read(file: Path) -> tuple[Mapping[str, Any], tuple[Path, ...]]:
    """The contents of a file, or of the files of an index; a list is converted to a dict with numbers as keys."""
    if file.name.endswith(INDEX):
        shards = shards_of(file)
        merged: dict[str, Any] = {}
        for shard in shards:
            merged |= _read_tensors(shard)
        return merged, (file, *shards)
    return _read_tensors(file), (file,)


def _read_tensors(file: Path) -> Mapping[str, Any]:
    if _is_safetensors(file):
        return _safetensors(file)
    content = checkpoint.load_any(file)
    if isinstance(content, list | tuple):
        content = {str(number): item for number, item in enumerate(content)}
    if not isinstance(content, Mapping):
        raise CheckpointError(
            "this file has no state dict",
            where=file,
            found=type(content).__name__,
            allowed="a dict of tensors, or one that contains it",
            hint="save it again with torch.save(model.state_dict(), FILE)",
        )
    return content


def with_counters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the counters of batch norms, which torch before 0.4.1 did not have and inference does not use."""
    counter = "num_batches_tracked"
    if any(key.endswith(counter) for key in state):
        return state
    mark = "running_var"
    added = {key.removesuffix(mark) + counter: torch.tensor(0) for key in state if key.endswith("." + mark)}
    return state | added


def as_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the state to f32: files may be in fp16 or bf16, but the run's precision decides."""
    return {key: value.to(torch.float32) if value.is_floating_point() else value for key, value in state.items()}


def _resolve(path: Path) -> tuple[Path, str | None, dict[str, Any]]:
    """The file to read; for a folder also its kind and config."""
    if path.name == _FOLDER_WEIGHTS and (path.parent / _FOLDER_CONFIG).is_file():
        path = path.parent
    if path.exists() and not path.is_file() and not path.is_dir():
        raise CheckpointError("not a file", where=path, found="a pipe or a device", allowed="a file or a folder")
    if not path.is_dir():
        return path, None, {}
    weights = weights_in(path)
    if weights is not None:
        whole = weights.name == _FOLDER_WEIGHTS
        return weights, "save_pretrained" if whole else None, _config(path / _FOLDER_CONFIG)
    refuse_unread_folder(path)
    raise CheckpointError(
        "no checkpoint in this folder",
        where=path,
        found=", ".join(shortened(name, _NAME) for name in sorted(child.name for child in path.iterdir())[:_LISTED])
        or "an empty folder",
        allowed=f"{', '.join(WEIGHTS)}, or a run with checkpoints/best_model.pth",
        hint=f"kdtui teachers {path}",
    )


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    config = read_json(path, "cannot read the config of this model")
    return {"config": config}


def _is_safetensors(path: Path) -> bool:
    """Whether a file is safetensors, by its suffix or its first bytes: eight bytes of length, then JSON."""
    try:
        with reading(path) as file:
            head = file.read(9)
    except OSError:
        return False  # checkpoint.load_any reports the error
    return head[8:] == b"{" or (path.suffix == ".safetensors" and head[:2] != b"PK" and head[:1] != b"\x80")


def _check_header(path: Path) -> None:
    """Check the length of the header before reading it, as a damaged file may contain any number."""
    with reading(path) as file:
        length = int.from_bytes(file.read(8), "little")
    most = min(_MOST_HEADER, max(0, path.stat().st_size - 8))
    if length > most:
        raise CheckpointError(
            "truncated or corrupt safetensors file",
            where=path,
            found=f"a header of {length:,} bytes in a file of {path.stat().st_size:,}",
            allowed=f"at most {most:,} bytes",
            hint="copy it again, or use another checkpoint: kdtui teachers",
        )


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        _check_header(path)
        with safe_open(path, framework="pt") as file:
            tensors: dict[str, Any] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return {**tensors, "safetensors": file.metadata() or {}}
    except FileNotFoundError as error:
        raise CheckpointError("no such checkpoint", where=path, hint="kdtui teachers") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            "truncated or corrupt safetensors file",
            where=path,
            found=first_line(error),
            allowed="a file written by safetensors",
            hint="copy it again, or use another checkpoint: kdtui teachers",
        ) from error


def _places(content: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """All dicts of tensors in the file by their place, ``bare`` for the top level, in the order of the file."""
    found: dict[str, dict[str, Tensor]] = {}
    waiting: list[tuple[str, Any, int]] = [("", content, 0)]
    seen: set[int] = set()
    for place, value, level in waiting:
        if isinstance(value, argparse.Namespace):
            value = vars(value)
        if not isinstance(value, Mapping | list | tuple) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            tensors = {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, Tensor)}
            if tensors:
                found[place or "bare"] = tensors
            items = list(value.items())
        else:
            items = [(str(number), item) for number, item in enumerate(value)]
        if level < _MOST_LEVELS:
            below = [
                (f"{place}.{key}" if place else str(key), item, level + 1)
                for key, item in items
                if isinstance(item, Mapping | list | tuple | argparse.Namespace)
            ]
            waiting += below[: max(0, _MOST_CONTAINERS - len(waiting))]
    return found


def _in_order(places: Iterable[str]) -> list[str]:
    """Places in the order of preference: averaged weights, common names, then all others in the order of the file."""

    def rank(place: str) -> tuple[int, int]:
        if place in _AVERAGED:
            return 0, _AVERAGED.index(place)
        if any(_AVERAGED_NAME.fullmatch(part) for part in place.split(".")):
            return 1, 0
        return (2, _ORDER.index(place)) if place in _ORDER else (3, place.count("."))

    return sorted(places, key=rank)


def _named(networks: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Places of networks, with the prefix if a dict has several."""
    several = {
        place for number, (place, _) in enumerate(networks) if place in [other for other, _ in networks[:number]]
    }
    return tuple(
        shortened(f"{place}: {prefix or 'no prefix'}" if place in several else place, _NAME)
        for place, prefix in networks
    )


def _counted(places: Mapping[str, Mapping[str, Tensor]], networks: set[str]) -> dict[str, int]:
    """Number of tensors at each place, without the numbered states of optimizers."""
    shown = [place for place in places if place in networks or not any(part.isdigit() for part in place.split("."))]
    return {shortened(place, _NAME): len(places[place]) for place in shown[:_METADATA_ENTRIES]}


def _no_network(
    file: Path, content: Mapping[str, Any], places: Mapping[str, Mapping[str, Tensor]], layouts: Sequence[Layout]
) -> CheckpointError:
    listed = [
        f"{shortened(place, _NAME)}: {len(tensors)} tensors ({checkpoint.shown_keys(list(tensors))})"
        for place, tensors in list(places.items())[:_LISTED]
    ]
    if len(places) > _LISTED:
        listed.append(f"… {len(places)} dicts of tensors in total")
    keys = [str(key) for key in content]
    entries = f"no tensors; {len(keys)} entries: {checkpoint.shown_keys(keys)}" if keys else "an empty dict"
    return CheckpointError(
        "no network of a known family in this file",
        where=file,
        found="; ".join(listed) or entries,
        allowed="keys after any prefix, in any dict of the file: "
        + "; ".join(f"{', '.join(f'{part}…' for part in layout.inside)} ({layout.family})" for layout in layouts),
        hint=f"any other network can teach as an ONNX file: {ONNX_SNIPPET}",
    )


def _plain(content: Mapping[str, Any], *, skip: set[str], scalars: bool) -> dict[str, Any]:
    """Numbers, texts and small tables besides the tensors, as JSON values."""
    plain: dict[str, Any] = {}
    for key, item in content.items():
        if key in skip or key == "resume" or len(plain) == _METADATA_ENTRIES:
            continue
        value = item
        if isinstance(value, Tensor):
            if not scalars or value.numel() != 1 or value.is_meta or value.is_quantized:
                continue
            value = value.item()
        budget = [_METADATA_VALUES]
        try:
            value = _as_json(value, budget, _METADATA_LEVELS)
            length = len(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError):
            continue
        if length <= _METADATA_CHARACTERS and value not in ({}, None):
            plain[shortened(key, _NAME)] = value
    return plain


def _as_json(value: Any, budget: list[int], levels: int) -> Any:
    """Convert a value to JSON containers within bounds, as lists may be recursive or repeated.

    Raises:
        ValueError: It is too deep, too long, or not plain data.
    """
    budget[0] -= 1
    value = plain_data.as_plain(value)
    if budget[0] < 0 or levels < 0 or isinstance(value, Tensor):
        raise ValueError("too much metadata")
    if isinstance(value, Mapping):
        return {shortened(key, _NAME): _as_json(item, budget, levels - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item, budget, levels - 1) for item in value]
    if isinstance(value, int) and abs(value) > _METADATA_NUMBER:
        raise ValueError("a number beyond 64 bits")
    return value
