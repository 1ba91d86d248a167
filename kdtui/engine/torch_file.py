"""Reading files of ``torch.save``: bounded first, nothing in them executed, every failure one message."""

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
_COPY = "copy it again, or take another checkpoint: kdtui teachers"
# torch.save stores and does not compress, so what a whole file unpacks to is its own size. An archive that was packed
# again may hold more: weights compress by less than this.
_MOST_EXPANSION = 4
_FREE_EXPANSION = 16 << 20
_MOST_PICKLE = 256 << 20
_MOST_ENTRIES = 200_000
_PIECE = 1 << 22
# How files of torch.save began before they were zip archives: a pickle of a number.
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY_PICKLES = 5  # magic number, protocol, system, the objects, the keys of their storages
_SHOWN = 200
# Attributes of a pickled torch.nn.Module.
_OF_A_MODULE = {"_parameters", "_buffers", "_modules"}
# Likeness of a name to one that is allowed, from which on it is that name with a broken byte.
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
    """The object in a file of ``torch.save``: tensors and plain data, tensors on the CPU.

    Raises:
        CheckpointError: The file is damaged, unpacks to more than it could hold, or needs code to be restored.
    """
    with reading(path) as file:
        archive = file.read(4)[:2] == b"PK"
        if archive:
            _check_archive(path, file)
    allowed = plain_data.safe_globals()
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on protocols and kinds of tensors: what is refused is refused in words
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader raises whatever the bytes lead it to
        raise _explained(path, archive, error) from error


def damaged(path: Path, found: object) -> CheckpointError:
    """What every file is told that is not whole."""
    return CheckpointError(
        "this checkpoint is damaged: bytes are missing or changed",
        where=path,
        found=f"{path.stat().st_size:,} bytes; {shortened(found)}",
        allowed="a whole file written by torch.save, or .safetensors",
        hint=_COPY,
    )


def shortened(text: object, most: int = _SHOWN) -> str:
    """A text out of a foreign file for a message: printable, in one line, cut to a length."""
    line = " ".join(clean(str(text)[: 4 * most]).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def first_line(error: Exception) -> str:
    """The first line of somebody else's error."""
    lines = str(error).strip().splitlines()
    return shortened(lines[0] if lines else type(error).__name__)


def _check_archive(path: Path, file: BinaryIO) -> None:
    """Whether a zip is whole, and unpacks to no more than it may: nothing is unpacked here."""
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
            "this checkpoint unpacks to far more than its size",
            where=path,
            found=f"{mebibytes(total)} from a file of {mebibytes(size)}",
            allowed=f"at most {mebibytes(most)}: {_MOST_EXPANSION} times the file and {mebibytes(_FREE_EXPANSION)}",
            hint=_SAVE,
        )
    pickled = sum(entry.file_size for entry in entries if entry.filename.endswith("data.pkl"))
    if pickled > _MOST_PICKLE or len(entries) > _MOST_ENTRIES:
        raise CheckpointError(
            "this checkpoint has too much beside its tensors",
            where=path,
            found=f"{mebibytes(pickled)} of pickle, {len(entries):,} entries",
            allowed=f"at most {mebibytes(_MOST_PICKLE)} and {_MOST_ENTRIES:,} entries",
            hint=_SAVE,
        )
    # torch writes no checksums where it was asked not to; its reader looks at none of them.
    if not any(entry.CRC for entry in entries):
        return
    for entry in entries:
        if entry.compress_type == zipfile.ZIP_STORED and (problem := _broken_entry(file, entry, size)):
            raise damaged(path, f"{shortened(entry.filename)}: {problem}")


def _broken_entry(file: BinaryIO, entry: zipfile.ZipInfo, size: int) -> str | None:
    """What is wrong with the bytes of a stored entry; None when they match their checksum."""
    if not 0 <= entry.header_offset < size:
        return "its place is outside the file"
    file.seek(entry.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        return "its header is overwritten"
    names, extra = struct.unpack("<HH", header[26:30])
    file.seek(entry.header_offset + 30 + names + extra)
    left, checksum = entry.file_size, 0
    if file.tell() + left > size:
        return "it ends behind the end of the file"
    while left:
        piece = file.read(min(left, _PIECE))
        if not piece:
            return "it ends too early"
        checksum = zlib.crc32(piece, checksum)
        left -= len(piece)
    return None if checksum == entry.CRC else "its checksum is another one"


def _explained(path: Path, archive: bool, error: Exception) -> CheckpointError:
    """Why torch could not read it: code, which is refused, or damage."""
    try:
        names, texts = _named(path, archive)
    except Exception as second:  # bytes that are no pickle lead its parser to whatever error
        return damaged(path, f"{type(second).__name__}: {first_line(second)}")
    strange = [name for name in names if name not in _allowed_names()]
    by_torch = archive or _is_legacy(path)
    # A name that is nearly one of torch's own is that name with a broken byte.
    if by_torch and (not isinstance(error, pickle.UnpicklingError) or any(map(_looks_broken, strange))):
        return damaged(path, f"{type(error).__name__}: {first_line(error)}")
    if texts >= _OF_A_MODULE:
        return CheckpointError(
            "this file is a whole pickled model, which takes its program to be restored; it was refused",
            where=path,
            found=f"GLOBAL {shortened(strange[0])}" if strange else "a torch.nn.Module",
            allowed="the weights alone: its state_dict",
            hint=_SAVE,
        )
    if not by_torch:
        return CheckpointError(
            "this file was written by pickle, not by torch.save",
            where=path,
            found="a pickle without the mark of torch.save",
            allowed="a file written by torch.save, or .safetensors",
            hint=_SAVE,
        )
    if strange and all(name.startswith("torch.") for name in strange):
        return CheckpointError(
            "this checkpoint has tensors of a kind that is not read",
            where=path,
            found=shortened(", ".join(f"GLOBAL {name}" for name in strange)),
            allowed="dense tensors in one process",
            hint=_SAVE,
        )
    if strange:
        return CheckpointError(
            "this checkpoint would run code when loaded, and was refused",
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
    """Globals that the pickles of a file name, and their texts; parsed, not executed."""
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
    """Whether a global is no name at all, or one of torch's own but for a byte or two."""
    if not re.fullmatch(r"[A-Za-z_][\w.]*\.[A-Za-z_]\w*", name):
        return True
    known = itertools.chain(_TORCH_NAMES, plain_data.NAMES)
    return bool(difflib.get_close_matches(name, list(known), n=1, cutoff=_BROKEN_NAME))


def entry_names(path: Path) -> Iterator[str]:
    """Names of the entries of a zip; none where it cannot be read."""
    try:
        with reading(path) as file, zipfile.ZipFile(file) as archive:
            yield from archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error, OverflowError):
        return
