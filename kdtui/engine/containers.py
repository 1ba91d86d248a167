"""The wrappers that people's checkpoints come in: which tensors are the network's, and what stands around them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kdtui.engine import checkpoint
from kdtui.errors import CheckpointError

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
# What a network of segmentation-models-pytorch consists of.
_PARTS = ("encoder.", "decoder.", "segmentation_head.")
# smp's auxiliary head does not touch the masks.
_UNUSED_PARTS = ("classification_head.",)
_FOLDER_WEIGHTS = "model.safetensors"
_FOLDER_CONFIG = "config.json"


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
        file: The file that was read.
    """

    state: dict[str, Tensor]
    container: str
    candidates: tuple[str, ...]
    prefix: str
    ignored: tuple[str, ...]
    metadata: dict[str, Any]
    file: Path


def open_checkpoint(path: str | Path) -> Contents:
    """Find and unwrap the network in a file, a ``save_pretrained`` folder or a run folder.

    Raises:
        CheckpointError: Nothing readable, or nothing that is a network of segmentation-models-pytorch.
    """
    path = Path(path).expanduser()
    file, container, metadata = _resolve(path)
    content: Mapping[str, Any] = _safetensors(file) if file.suffix == ".safetensors" else checkpoint.load(file)
    places = _places(content)
    if not places:
        raise CheckpointError(
            "this file holds no network",
            where=file,
            found=", ".join(str(key) for key in list(content)[:8]) or "an empty dict",
            allowed=f"a state dict, bare or under one of {', '.join(_ORDER)}",
        )
    # Not the first that is there, but the first that is a network: some write a config under `model`.
    for place in places:
        tensors = content if place == "bare" else content[place]
        prefix, state, ignored = _strip(tensors)
        if state:
            break
    else:
        keys = [str(key) for key in tensors]
        raise CheckpointError(
            "this is no network of segmentation-models-pytorch",
            where=file,
            found=f"{len(keys)} keys: {', '.join(keys[:4])} …",
            allowed=f"keys that begin with {', '.join(_PARTS)}, after any of {' '.join(sorted(_PREFIXES))}",
            hint="only networks made with segmentation-models-pytorch can be read",
        )
    return Contents(
        state=state,
        container=container or place,
        candidates=tuple(places),
        prefix=prefix,
        ignored=tuple(ignored),
        metadata=metadata | _plain(content, skip=set(places)),
        file=file,
    )


def _resolve(path: Path) -> tuple[Path, str | None, dict[str, Any]]:
    """The file to read; for a folder also its kind and config."""
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


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
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
    """Where in the file state dicts are, in the order of choice."""
    places = [key for key in _ORDER if _is_state(content.get(key))]
    if _is_state(content):
        places.append("bare")
    return places


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(item, Tensor) for item in value.values())


def _strip(tensors: Mapping[str, Any]) -> tuple[str, dict[str, Tensor], list[str]]:
    """The prefix, the network's tensors without it, and the keys that are no part of the network."""
    prefix = ""
    keys = [key for key, value in tensors.items() if isinstance(key, str) and isinstance(value, Tensor)]
    while not any(key.startswith(prefix + "encoder.") for key in keys):
        further = next((more for more in _PREFIXES if any(key.startswith(prefix + more) for key in keys)), None)
        if further is None:
            return prefix, {}, keys
        prefix += further
    state = {key.removeprefix(prefix): tensors[key] for key in keys if key.startswith(prefix)}
    ignored = [key for key in keys if not key.startswith(prefix)]
    ignored += [prefix + key for key in state if key.startswith(_UNUSED_PARTS) or not key.startswith(_PARTS)]
    return prefix, {key: value for key, value in state.items() if key.startswith(_PARTS)}, ignored


def _plain(content: Mapping[str, Any], *, skip: set[str]) -> dict[str, Any]:
    """Numbers, texts and small tables from beside the tensors, as JSON can write them."""
    plain: dict[str, Any] = {}
    for key, value in content.items():
        if key in skip or key == "resume":
            continue
        value = vars(value) if isinstance(value, argparse.Namespace) else value
        try:
            text = json.dumps(value)
        except (TypeError, ValueError):
            continue
        if len(text) <= 4000:
            plain[str(key)] = value
    return plain


def as_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state as f32, contiguous and no longer a view into a file: halves and bf16 are how people ship weights."""
    return {key: value.to(torch.float32) if value.is_floating_point() else value for key, value in state.items()}
