"""Checkpoint folders: weights in one file, or sharded with an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kdtui.engine.torch_file import shortened
from kdtui.errors import CheckpointError
from kdtui.store.files import reading
from kdtui.text import counted

INDEX = ".index.json"
# The files that Hugging Face libraries write, in the order of preference.
WEIGHTS = (
    "model.safetensors",
    f"model.safetensors{INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX}",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.bin",
)
_MOST_JSON = 64 << 20
_MOST_SHARDS = 1000


def weights_in(folder: Path) -> Path | None:
    """The weights file of a folder, its index, or the checkpoint of a run; None if there is none."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    for name in ("best_model.pth", "last.pth"):
        for below in (folder / "checkpoints", folder):
            if (below / name).is_file():
                return below / name
    return None


def shards_of(index: Path) -> tuple[Path, ...]:
    """The files of an index, which are in the same folder.

    Raises:
        CheckpointError: The index cannot be read, or contains a file that is missing or outside its folder.
    """
    content = read_json(index, "cannot read the index of this checkpoint")
    weights = content.get("weight_map") if isinstance(content, dict) else None
    names = list(dict.fromkeys(weights.values())) if isinstance(weights, dict) and _all_texts(weights) else []
    if not 0 < len(names) <= _MOST_SHARDS:
        raise CheckpointError(
            "invalid index of a checkpoint",
            where=index,
            found=f"{counted(len(names), 'file')} in weight_map",
            allowed=f"weight_map: a table from tensors to 1 to {_MOST_SHARDS} files",
        )
    for name in names:
        # The index is not trusted: only files in its folder are opened.
        if Path(name).name != name or name in ("", ".", ".."):
            raise CheckpointError(
                "the index of this checkpoint refers to a file outside its folder",
                where=index,
                found=shortened(name),
                allowed="names of files in the folder of the index",
            )
        if not _is_file(index.parent / name):
            raise CheckpointError(
                "a file of this checkpoint is missing",
                where=index,
                found=f"no {shortened(name)}",
                allowed=f"all {len(names)} files of the index",
                hint="copy the whole folder",
            )
    return tuple(index.parent / name for name in names)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long
        return False


def _all_texts(table: dict[Any, Any]) -> bool:
    return all(isinstance(value, str) for value in table.values())


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file of bounded size.

    Args:
        path: The file.
        what: The error message if it cannot be read.

    Raises:
        CheckpointError: It cannot be read.
    """
    try:
        with reading(path) as file:
            text = file.read(_MOST_JSON + 1)
        if len(text) > _MOST_JSON:
            raise CheckpointError(what, where=path, found="more than 64 MiB", allowed="at most 64 MiB of JSON")
        return json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(what, where=path, found=shortened(error)) from error


def refuse_unread_folder(folder: Path) -> None:
    """Reject folders of distributed checkpoints and of other libraries.

    Raises:
        CheckpointError: The folder has such a format; the hint converts it.
    """
    names = {child.name for child in folder.iterdir()}
    found, hint = "", ""
    if ".metadata" in names or any(name.endswith(".distcp") for name in names):
        found = "a distributed checkpoint of PyTorch (DCP)"
        hint = (
            "on the machine that trained it: python -m torch.distributed.checkpoint.format_utils dcp_to_torch "
            f"{folder} FILE"
        )
    elif "zero_to_fp32.py" in names or "latest" in names or any("_model_states.pt" in name for name in names):
        found = "a checkpoint of DeepSpeed"
        hint = f"on the machine that trained it: python -m deepspeed.utils.zero_to_fp32 {folder} FOLDER"
    elif "saved_model.pb" in names or any(name.endswith(".ckpt.index") for name in names):
        found, hint = "a model of TensorFlow", "kdtui reads PyTorch weights: use a PyTorch version of this model"
    elif {"tf_model.h5", "flax_model.msgpack"} & names:
        found, hint = "weights of TensorFlow or Flax", "use the folder with model.safetensors of this model"
    if found:
        raise CheckpointError(
            "unsupported format of a checkpoint folder",
            where=folder,
            found=found,
            allowed=", ".join(WEIGHTS[:4]),
            hint=hint,
        )
