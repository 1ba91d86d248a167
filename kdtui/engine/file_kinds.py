"""Files that are mistaken for checkpoints: recognise their format and suggest the next step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kdtui.engine.torch_file import entry_names, shortened
from kdtui.errors import CheckpointError
from kdtui.store.files import reading

_HEAD = 512
_SAVE = "in the program that made it: torch.save(model.state_dict(), FILE)"
ONNX_SNIPPET = (
    "in the program that made it: torch.onnx.export(model.eval(), (torch.rand(2, 3, 256, 256),), 'teacher.onnx', "
    "dynamic_shapes=({0: 'n', 2: 'h', 3: 'w'},))"
)
"""How to get an ONNX file, which can teach."""
_WEIGHTS = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".pkl", ".th", ".tar")
_TABLE_MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"  # at the end of a table of LevelDB, which TensorFlow writes


@dataclass(frozen=True)
class Kind:
    """A file format that is not a PyTorch checkpoint.

    Attributes:
        name: Name of the format.
        hint: How to get the weights.
    """

    name: str
    hint: str


_GIT_LFS = Kind("a Git LFS pointer, not the file itself", "run `git lfs pull` in its repository")
_WEB_PAGE = Kind("a web page", "download the file again; a link that requires a login returns the login page")
_TENSORFLOW = Kind("a TensorFlow checkpoint", "kdtui reads PyTorch weights: use a PyTorch version of this model")
_KERAS = Kind("an HDF5 file, as written by Keras", "kdtui reads PyTorch weights: use a PyTorch version of this model")
_ONNX = Kind("an ONNX model", "an ONNX file has no PyTorch weights to train: use the checkpoint that it was made from")
# Both formats contain code, which torch executes when it loads them: they are recognised by the names of their entries.
_EXPORTED = Kind("a program of torch.export (.pt2), which may execute code when loaded", ONNX_SNIPPET)
_SCRIPTED = Kind("a TorchScript archive, which may execute code when loaded", ONNX_SNIPPET)
_NPZ = Kind(
    "an archive of numpy arrays (.npz)",
    "in Python: torch.save({key: torch.from_numpy(value) for key, value in numpy.load(FILE).items()}, NEW)",
)
_HEADS: tuple[tuple[bytes, Kind], ...] = (
    (b"\x1f\x8b", Kind("compressed with gzip", "unpack it first: gunzip FILE")),
    (b"BZh", Kind("compressed with bzip2", "unpack it first: bunzip2 FILE")),
    (b"\xfd7zXZ\x00", Kind("compressed with xz", "unpack it first: unxz FILE")),
    (b"\x28\xb5\x2f\xfd", Kind("compressed with zstd", "unpack it first: unzstd FILE")),
    (b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", "unpack it first: 7z x FILE")),
    (b"Rar!\x1a\x07", Kind("a RAR archive", "unpack it first: unrar x FILE")),
    (b"\x89HDF\r\n\x1a\n", _KERAS),
    (b"\x93NUMPY", Kind("a numpy array (.npy)", "save a dict of tensors: torch.save(model.state_dict(), FILE)")),
    (b"GGUF", Kind("a GGUF model", "kdtui reads PyTorch weights: use a PyTorch version of this model")),
    (b"version https://git-lfs", _GIT_LFS),
)


def refuse_other_kinds(path: Path) -> None:
    """Reject files of formats other than torch and safetensors.

    Raises:
        CheckpointError: The file has another format; the error contains its name and a hint.
        OSError: It cannot be read.
    """
    kind = _kind(path)
    if kind is not None:
        raise CheckpointError(
            "this file is not a PyTorch checkpoint",
            where=path,
            found=kind.name,
            allowed="a file written by torch.save, .safetensors, a save_pretrained folder; as a teacher, ONNX too",
            hint=kind.hint,
        )


def _kind(path: Path) -> Kind | None:
    with reading(path) as file:
        head = file.read(_HEAD)
        file.seek(max(0, path.stat().st_size - len(_TABLE_MAGIC)))
        end = file.read()
    for magic, kind in _HEADS:
        if head.startswith(magic):
            return kind
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return _WEB_PAGE
    if head[257:262] == b"ustar":
        return Kind("a tar archive", "unpack it first: tar -xf FILE")
    if head[4:8] == b"TFL3":
        return Kind("a TensorFlow Lite model", _TENSORFLOW.hint)
    if end == _TABLE_MAGIC or ".ckpt.data-" in path.name or path.name.endswith((".ckpt.index", ".ckpt.meta")):
        return _TENSORFLOW
    if _is_onnx(path, head):
        return _ONNX
    return _of_archive(path) if head[:2] == b"PK" else None


def is_onnx(path: Path) -> bool:
    """Whether a file is an ONNX model, by its suffix or its first bytes.

    Raises:
        OSError: It cannot be read.
    """
    with reading(path) as file:
        return _is_onnx(path, file.read(_HEAD))


def _is_onnx(path: Path, head: bytes) -> bool:
    # Protocol buffers have no magic number: field 1 is the version of the format, followed by the text of field 2 or 7.
    begun = head[:1] == b"\x08" and head[1:2] < b"\x20" and head[2:3] in (b"\x12", b"\x3a")
    return begun or (path.suffix.lower() == ".onnx" and head[:2] != b"PK")


def _of_archive(path: Path) -> Kind | None:
    """The format of a zip archive; None for a file of torch.save and for a file that is not a zip archive."""
    names = list(entry_names(path))
    if not names:
        return None
    inner = {name.partition("/")[2] for name in names} | set(names)
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return _SCRIPTED
    if {"archive_format", "archive_version"} & {name.rpartition("/")[2] for name in names} or any(
        name.rpartition("/")[2].startswith("serialized_exported_program") for name in names
    ):
        return _EXPORTED
    if "data.pkl" in inner:
        return None
    if all(name.endswith(".npy") for name in names):
        return _NPZ
    if "model.weights.h5" in names:
        return Kind("a model of Keras", _KERAS.hint)
    packed = [name for name in names if name.lower().endswith(_WEIGHTS)]
    if packed:
        return Kind(f"a zip archive that contains {shortened(packed[0], 80)}", "unpack it first: unzip FILE")
    return Kind(f"a zip archive of {len(names):,} other files such as {shortened(names[0], 80)}", _SAVE)
