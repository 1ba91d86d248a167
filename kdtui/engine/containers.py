"""The wrappers that people's checkpoints come in: which tensors are the network's, and what stands around them."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kdtui.engine import checkpoint
from kdtui.engine.class_names import named_classes
from kdtui.errors import CheckpointError
from kdtui.profile.find import expanded

# Where a checkpoint holds several networks, the first of these is the one that was meant to be used.
_ORDER = ("state_dict_ema", "model_ema", "student", "model_state_dict", "state_dict", "model", "net")
# Stripped from the front only: an inner `encoder.model.` belongs to the timm encoders.
_PREFIXES = (
    "pretrained_unet.model.",
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "unet.",
    "student.",
    "ema_model.",
)
_FRONT = re.compile(rf"((?:{'|'.join(re.escape(prefix) for prefix in _PREFIXES)})*)(?:encoder|decoder)\.")
# What a network of segmentation-models-pytorch consists of.
_PARTS = ("encoder.", "decoder.", "segmentation_head.")
_FOLDER_WEIGHTS = "model.safetensors"
_FOLDER_CONFIG = "config.json"
_NAMED = 4  # keys a message spells out
# What `inspect` repeats of the words beside the tensors.
_METADATA_ENTRIES = 64
_METADATA_CHARACTERS = 4000


@dataclass(frozen=True)
class Contents:
    """A checkpoint file, unwrapped.

    Attributes:
        state: The network's own state dict, with plain smp keys.
        container: Where it was: ``bare``, ``state_dict``, ``student``, ``save_pretrained`` …
        candidates: Every place in the file that holds a network, in the order of choice.
        prefix: What stood before every key.
        ignored: Keys that are no part of the network (loss functions, normalisation buffers).
        metadata: Plain values from beside the tensors.
        names: Every list of class names in the file, the likeliest first.
        file: The file that was read.
    """

    state: dict[str, Tensor]
    container: str
    candidates: tuple[str, ...]
    prefix: str
    ignored: tuple[str, ...]
    metadata: dict[str, Any]
    names: tuple[tuple[str, ...], ...]
    file: Path


def open_checkpoint(path: str | Path) -> Contents:
    """Find and unwrap the network in a file, a ``save_pretrained`` folder or a run folder.

    Raises:
        CheckpointError: Nothing readable, or nothing that is a network of segmentation-models-pytorch.
    """
    path = expanded(path)
    file, container, metadata = _resolve(path)
    content: Mapping[str, Any] = _safetensors(file) if _is_safetensors(file) else checkpoint.load(file)
    places = _places(content)
    networks = [(place, prefix) for place in places for prefix in _fronts(_tensors(content, place))]
    if not networks:
        raise _no_network(file, content, places)
    place, prefix = networks[0]
    tensors = _tensors(content, place)
    parts = tuple(prefix + part for part in _PARTS)
    return Contents(
        state={key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(parts)},
        container=container or place,
        candidates=tuple(dict.fromkeys(place for place, _ in networks)),
        prefix=prefix,
        ignored=tuple(key for key in tensors if not key.startswith(parts)),
        metadata=metadata | _plain(content, skip=set(places), scalars="bare" not in places),
        names=tuple(named_classes(metadata | dict(content))),
        file=file,
    )


def as_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state in f32: people ship halves and bf16, but the run's own precision decides."""
    return {key: value.to(torch.float32) if value.is_floating_point() else value for key, value in state.items()}


def _resolve(path: Path) -> tuple[Path, str | None, dict[str, Any]]:
    """The file to read; for a folder also its kind and config."""
    if path.name == _FOLDER_WEIGHTS and (path.parent / _FOLDER_CONFIG).is_file():
        path = path.parent
    if path.exists() and not path.is_file() and not path.is_dir():
        raise CheckpointError("this is no file", where=path, found="a pipe or a device", allowed="a file or a folder")
    if not path.is_dir():
        return path, None, {}
    if (path / _FOLDER_WEIGHTS).is_file():
        return path / _FOLDER_WEIGHTS, "save_pretrained", _config(path / _FOLDER_CONFIG)
    for name in ("best_model.pth", "last.pth"):
        for folder in (path / "checkpoints", path):
            if (folder / name).is_file():
                return folder / name, None, {}
    raise CheckpointError(
        "there is no checkpoint in this folder",
        where=path,
        found=", ".join(sorted(child.name for child in path.iterdir())[:6]) or "an empty folder",
        allowed=f"{_FOLDER_CONFIG} + {_FOLDER_WEIGHTS} of save_pretrained, or a run with checkpoints/best_model.pth",
        hint=f"kdtui teachers {path}",
    )


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError("the config of this model cannot be read", where=path, found=error) from error
    return {"config": config}


def _is_safetensors(path: Path) -> bool:
    """By its ending or, under another name, by its head: eight bytes of length, then JSON."""
    if path.suffix == ".safetensors":
        return True
    try:
        with path.open("rb") as file:
            return file.read(9)[8:] == b"{"
    except OSError:
        return False  # checkpoint.load says what is wrong


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors: dict[str, Any] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return {**tensors, "safetensors": file.metadata() or {}}
    except FileNotFoundError as error:
        raise CheckpointError("there is no such checkpoint", where=path, hint="kdtui teachers") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            "this is no whole safetensors file",
            where=path,
            found=error,
            allowed="a file written by safetensors",
            hint="copy it again, or take another checkpoint: kdtui teachers",
        ) from error


def _places(content: Mapping[str, Any]) -> list[str]:
    """Where in the file tensors are, in the order of choice."""
    return [place for place in (*_ORDER, "bare") if _tensors(content, place)]


def _tensors(content: Mapping[str, Any], place: str) -> dict[str, Tensor]:
    tensors = content if place == "bare" else content.get(place)
    if not isinstance(tensors, Mapping):
        return {}
    return {key: value for key, value in tensors.items() if isinstance(key, str) and isinstance(value, Tensor)}


def _fronts(tensors: Mapping[str, Tensor]) -> list[str]:
    """Every prefix below which a whole network stands, an averaged one first."""
    found: dict[str, set[str]] = {}
    for key in tensors:
        match = _FRONT.match(key)
        if match is not None:
            found.setdefault(match[1], set()).add(key[match.end(1) :].partition(".")[0])
    whole = [prefix for prefix, parts in found.items() if parts == {"encoder", "decoder"}]
    return sorted(whole, key=lambda prefix: "ema_model." not in prefix)


def _no_network(file: Path, content: Mapping[str, Any], places: list[str]) -> CheckpointError:
    keys = [str(key) for key in (_tensors(content, places[0]) if places else content)]
    shown = ", ".join(keys[:_NAMED]) + (" …" if len(keys) > _NAMED else "")
    return CheckpointError(
        "there is no network of segmentation-models-pytorch in this file",
        where=file,
        found=f"{len(keys)} {'tensors' if places else 'entries'}: {shown}" if keys else "an empty dict",
        allowed=f"keys {', '.join(part + '…' for part in _PARTS)} after any of {' '.join(sorted(_PREFIXES))}, "
        f"bare or under one of {', '.join(_ORDER)}",
        hint="of a network made with that library: torch.save(network.state_dict(), FILE)",
    )


def _plain(content: Mapping[str, Any], *, skip: set[str], scalars: bool) -> dict[str, Any]:
    """Numbers, texts and small tables from beside the tensors, as JSON can write them."""
    plain: dict[str, Any] = {}
    for key, item in content.items():
        if key in skip or key == "resume" or len(plain) == _METADATA_ENTRIES:
            continue
        value = vars(item) if isinstance(item, argparse.Namespace) else item
        if isinstance(value, Tensor) and scalars and value.numel() == 1:
            value = value.item()
        try:
            length = len(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError):
            continue
        if length <= _METADATA_CHARACTERS and value not in ({}, None):
            plain[str(key)] = value
    return plain
