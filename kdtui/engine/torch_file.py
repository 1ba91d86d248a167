"""Read files of ``torch.save``: with bounds, without executing code, and with one message for each failure."""

from __future__ import annotations

import difflib
import io
import itertools
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from kdtui.engine import plain_data
from kdtui.errors import CheckpointError
from kdtui.store.files import reading
from kdtui.text import clean, mebibytes

_SAVE = "in the program that made the file: torch.save(model.state_dict(), FILE)"
_COPY = "copy it again, or use another checkpoint: kdtui teachers"
# torch.save does not compress, so the unpacked size equals the file size. A recompressed archive may be larger
# unpacked, but weights compress by less than this factor.
_MOST_EXPANSION = 4
_FREE_EXPANSION = 16 << 20
_MOST_PICKLE = 256 << 20
_MOST_ENTRIES = 200_000
_PIECE = 1 << 22
# Start of the files of torch.save before they were zip archives: a pickled number.
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY_PICKLES = 5  # magic number, protocol, system, the objects, the keys of their storages
_SHOWN = 200
# Attributes of a pickled torch.nn.Module.
_OF_A_MODULE = {"_parameters", "_buffers", "_modules"}
# Similarity above which an unknown name is an allowed name with a damaged byte.
_BROKEN_NAME = 0.85
_TORCH_NAMES = (
    *(f"torch.{kind}Storage" for kind in ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Byte", "Bool")),
    *(f"torch._utils._rebuild_{kind}" for kind in ("tensor_v2", "tensor_v3", "tensor", "parameter", "qtensor")),
    "torch._utils._rebuild_sparse_tensor",
    "torch._utils._rebuild_meta_tensor_no_storage",
    "collections.OrderedDict",
    "collections.Counter",
    "torch.Size",
    "torch.device",
    "_codecs.encode",
    "builtins.set",
)


def read(path: Path) -> Any:
    """Load the object in a file of ``torch.save``: tensors, on the CPU, and plain data.

    Raises:
        CheckpointError: The file is damaged, unpacks to an implausible size, or would execute code.
    """
    with reading(path) as file:
        archive = file.read(4)[:2] == b"PK"
        if archive:
            _check_archive(path, file)
    allowed = plain_data.safe_globals()
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about protocols and tensor types: unsupported ones raise an error
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader raises any exception on damaged files
        raise _explained(path, archive, error) from error


def damaged(path: Path, found: object) -> CheckpointError:
    """The error for a damaged file."""
    return CheckpointError(
        "this checkpoint is damaged: bytes are missing or changed",
        where=path,
        found=f"{path.stat().st_size:,} bytes; {shortened(found)}",
        allowed="an intact file written by torch.save, or .safetensors",
        hint=_COPY,
    )


def shortened(text: object, most: int = _SHOWN) -> str:
    """Text of an untrusted file for a message: printable, on one line, truncated."""
    line = " ".join(clean(str(text)[: 4 * most]).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def first_line(error: Exception) -> str:
    """The first line of a library's error message."""
    lines = str(error).strip().splitlines()
    return shortened(lines[0] if lines else type(error).__name__)


def _check_archive(path: Path, file: BinaryIO) -> None:
    """Check that a zip archive is intact and within the bounds, without unpacking it."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error, OverflowError) as error:
        raise damaged(path, first_line(error)) from error
    most = _MOST_EXPANSION * size + _FREE_EXPANSION
    total = sum(entry.file_size for entry in entries)
    if total > most:
        raise CheckpointError(
            "the unpacked size of this checkpoint is implausible",
            where=path,
            found=f"{mebibytes(total)} from a file of {mebibytes(size)}",
            allowed=f"at most {mebibytes(most)}: {_MOST_EXPANSION} times the file plus {mebibytes(_FREE_EXPANSION)}",
            hint=_SAVE,
        )
    pickled = sum(entry.file_size for entry in entries if entry.filename.endswith("data.pkl"))
    if pickled > _MOST_PICKLE or len(entries) > _MOST_ENTRIES:
        raise CheckpointError(
            "this checkpoint has too much data besides its tensors",
            where=path,
            found=f"{mebibytes(pickled)} of pickle, {len(entries):,} entries",
            allowed=f"at most {mebibytes(_MOST_PICKLE)} and {_MOST_ENTRIES:,} entries",
            hint=_SAVE,
        )
    # torch can be told not to write checksums; its reader does not verify them.
    if not any(entry.CRC for entry in entries):
        return
    for entry in entries:
        if entry.compress_type == zipfile.ZIP_STORED and (problem := _broken_entry(file, entry, size)):
            raise damaged(path, f"{shortened(entry.filename)}: {problem}")


def _broken_entry(file: BinaryIO, entry: zipfile.ZipInfo, size: int) -> str | None:
    """Describe the damage of a stored entry; None if its checksum matches."""
    if not 0 <= entry.header_offset < size:
        return "its offset is outside the file"
    file.seek(entry.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        return "its header is overwritten"
    names, extra = struct.unpack("<HH", header[26:30])
    file.seek(entry.header_offset + 30 + names + extra)
    left, checksum = entry.file_size, 0
    if file.tell() + left > size:
        return "it extends beyond the end of the file"
    while left:
        piece = file.read(min(left, _PIECE))
        if not piece:
            return "it is truncated"
        checksum = zlib.crc32(piece, checksum)
        left -= len(piece)
    return None if checksum == entry.CRC else "its checksum does not match"


def _explained(path: Path, archive: bool, error: Exception) -> CheckpointError:
    """The error for a file that torch could not read: because of code, which is refused, or damage."""
    try:
        names, texts = _named(path, archive)
    except Exception as second:  # the pickle parser raises any exception on damaged files
        return damaged(path, f"{type(second).__name__}: {first_line(second)}")
    strange = [name for name in names if name not in _allowed_names()]
    by_torch = archive or _is_legacy(path)
    # A name that is similar to one of torch's names is that name with a damaged byte.
    if by_torch and (not isinstance(error, pickle.UnpicklingError) or any(map(_looks_broken, strange))):
        return damaged(path, f"{type(error).__name__}: {first_line(error)}")
    if texts >= _OF_A_MODULE:
        return CheckpointError(
            "this file is a pickled model, whose code would have to be executed; it was refused",
            where=path,
            found=f"GLOBAL {shortened(strange[0])}" if strange else "a torch.nn.Module",
            allowed="only the weights: its state_dict",
            hint=_SAVE,
        )
    if not by_torch:
        return CheckpointError(
            "this file was written by pickle, not by torch.save",
            where=path,
            found="a pickle without the signature of torch.save",
            allowed="a file written by torch.save, or .safetensors",
            hint=_SAVE,
        )
    if strange and all(name.startswith("torch.") for name in strange):
        return CheckpointError(
            "this checkpoint has unsupported types of tensors",
            where=path,
            found=shortened(", ".join(f"GLOBAL {name}" for name in strange)),
            allowed="dense tensors in one process",
            hint=_SAVE,
        )
    if strange:
        return CheckpointError(
            "this checkpoint would execute code when loaded; it was refused",
            where=path,
            found=shortened(", ".join(f"GLOBAL {name}" for name in strange)),
            allowed="tensors, numbers, texts, dates, paths, lists and dicts",
            hint=_SAVE,
        )
    return damaged(path, f"{type(error).__name__}: {first_line(error)}")


def _is_legacy(path: Path) -> bool:
    with reading(path) as file:
        return file.read(len(_LEGACY_MAGIC)) == _LEGACY_MAGIC


def _named(path: Path, archive: bool) -> tuple[list[str], set[str]]:
    """Globals and texts in the pickles of a file; parsed, not executed."""
    names: dict[str, None] = {}
    texts: set[str] = set()
    with reading(path) as file:
        if archive:
            with zipfile.ZipFile(file) as entries:
                inner = next(entry for entry in entries.infolist() if entry.filename.endswith("data.pkl"))
                source: BinaryIO = io.BytesIO(entries.read(inner))
        else:
            source = file
        for _ in range(_LEGACY_PICKLES if not archive and _is_legacy(path) else 1):
            stack: list[str] = []
            for operation, argument, _place in pickletools.genops(source):
                if operation.name == "GLOBAL":
                    names[_modern(str(argument).replace(" ", ".", 1))] = None
                elif operation.name == "STACK_GLOBAL":
                    names[_modern(".".join(stack[-2:]))] = None
                elif isinstance(argument, str):
                    stack = [*stack[-1:], argument]
                    texts.add(argument[:_SHOWN])
            if not archive and not source.peek(1):  # type: ignore[attr-defined]
                break
    return list(names), texts


def _modern(name: str) -> str:
    return re.sub(r"^__builtin__\.", "builtins.", name)


def _allowed_names() -> frozenset[str]:
    return plain_data.NAMES | frozenset(torch._weights_only_unpickler._get_allowed_globals())


def _looks_broken(name: str) -> bool:
    """Whether a global is not a valid name, or differs from one of torch's names in a byte or two."""
    if not re.fullmatch(r"[A-Za-z_][\w.]*\.[A-Za-z_]\w*", name):
        return True
    known = itertools.chain(_TORCH_NAMES, plain_data.NAMES)
    return bool(difflib.get_close_matches(name, list(known), n=1, cutoff=_BROKEN_NAME))


def entry_names(path: Path) -> Iterator[str]:
    """Names of the entries of a zip archive; none if it cannot be read."""
    try:
        with reading(path) as file, zipfile.ZipFile(file) as archive:
            yield from archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error, OverflowError):
        return
