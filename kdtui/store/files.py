"""Files of the store: valid names, bounded reads, atomic replacement, and readers of growing files."""

from __future__ import annotations

import codecs
import contextlib
import errno
import fcntl
import functools
import grp
import hashlib
import io
import itertools
import os
import pwd
import re
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from kdtui.errors import StoreError, UsageError
from kdtui.events import Event, decode, encode
from kdtui.store.identity import boot_id, hostname, start_ticks
from kdtui.text import clean, one_line

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT
# Neither matters for regular files. O_NONBLOCK: opening a pipe does not wait for its other end, so that it can be
# detected. O_NOCTTY: opening a terminal does not make it the controlling one.
_SAFELY = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotAFile(OSError):
    """The path is not a regular file; ``strerror`` says what it is."""


def open_file(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a regular file; never blocks on a pipe, socket or device.

    Args:
        path: The file, or a link to it.
        flags: Flags of :func:`os.open`.

    Returns:
        The file descriptor.

    Raises:
        NotAFile: It is a pipe, a socket, a folder or a device.
        OSError: It does not exist or cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | _SAFELY, 0o666)
    except OSError as error:
        # A socket, a device without a driver, a pipe without a reader, or a folder opened for writing.
        if error.errno in (errno.ENXIO, errno.EISDIR) and not stat.S_ISREG(mode := path.stat().st_mode):
            raise _not_a_file(mode, path) from error
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise _not_a_file(mode, path)
    return descriptor


def try_lock(file: int, *, shared: bool = False) -> bool:
    """Lock an open file until it is closed; False if another process holds the lock.

    Raises:
        OSError: The file system does not support locks.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _not_a_file(mode: int, path: Path) -> NotAFile:
    return NotAFile(errno.EINVAL, f"it is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file", str(path))


class TooLarge(OSError):
    """The file has more bytes than its reader accepts; ``strerror`` contains both sizes."""


def read_file(path: Path, *, most: int | None = None) -> bytes:
    """Read a regular file.

    Args:
        path: The file, or a link to it.
        most: Maximum number of bytes; the size is checked before reading.

    Raises:
        TooLarge: It has more than ``most`` bytes.
        OSError: As :func:`open_file`, or it cannot be read.
    """
    descriptor = open_file(path)
    try:
        size = os.fstat(descriptor).st_size
        if most is not None and size > most:
            raise TooLarge(errno.EFBIG, f"it has {byte_count(size)}; the limit is {byte_count(most)}", str(path))
        pieces, left = [], most
        while piece := os.read(descriptor, 1 << 16):
            pieces.append(piece)
            if left is not None and (left := left - len(piece)) < 0:  # it grew while it was read
                raise TooLarge(errno.EFBIG, f"it has more than {byte_count(most)}", str(path))
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def byte_count(size: int | None) -> str:
    """Format a number of bytes with a suitable unit."""
    amount = float(size or 0)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if amount >= 10 or unit == "bytes" else f"{amount:.1f} {unit}"


def reading(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        OSError: As :func:`open_file`.
    """
    return os.fdopen(open_file(path), "rb")


def appending(path: Path) -> BinaryIO:
    """Open a regular file for appending; create it if it does not exist.

    Raises:
        OSError: As :func:`open_file`.
    """
    return os.fdopen(open_file(path, _APPEND), "ab")


def sha256_of(path: Path) -> str:
    """Hash of the bytes of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def brief(error: StoreError) -> str:
    """A short text of the error for the list of runs: with the reason only if the file could not be opened."""
    return error.brief if isinstance(error.__cause__, OSError) else error.what


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")


def is_safe(text: str) -> bool:
    """Whether ``text`` may be joined to the store's root: no separator, leading dot or control character."""
    return bool(text) and text.isprintable() and not text.startswith(".") and not {"/", "\\"} & set(text)


def check_name(name: str) -> str:
    """Return ``name`` if it is a valid run name.

    Raises:
        UsageError: It contains characters that are not allowed.
    """
    if NAME.fullmatch(name) is None or ".." in name:
        raise UsageError(
            "not a valid run name",
            found=one_line(name),
            allowed="up to 80 letters, digits and . _ + -, starting with a letter or digit, without '..'",
            hint="choose another with --name",
        )
    return name


NEW, GONE, OWNER = ".new-", ".gone-", ".owner-"
"""Prefixes of a run folder that is being created, of one that is being deleted, and of the owner mark in the former."""
_MARK = re.compile(r"(?P<host>.*)-(?P<pid>\d{1,19})-(?P<ticks>\d{1,19})-(?P<boot>[0-9a-f]{8})(?:-\d+)?", re.DOTALL)
# Temporary files of versions without marks: only names that kdtui itself uses, as the folder may hold other files.
_UNMARKED = re.compile(
    r"\.(?:(?:launch|measurements|summaries|train|val|test|[0-9a-f]{24}\.of\d+)\.json|notes\.toml"
    r"|(?:last|best_model|untrained_model|checkpoint_epoch_\d+)\.pth)\.\d+\.tmp|\.[0-9a-f]{24}\.\d+of\d+\.npy\.\d+"
)
_RUN = re.compile(rf"(?:{re.escape(NEW)}|{re.escape(GONE)})\d{{8}}-\d{{6}}-.+", re.DOTALL)
_DAY = 86400.0
_counter = itertools.count()


def mark() -> str:
    """The mark of this process in the names of its temporary files."""
    return f"{hostname()}-{os.getpid()}-{start_ticks(os.getpid())}-{_boot()}"


def aside(path: Path) -> Path:
    """An unused temporary path next to ``path``; temporary files of killed processes are removed first."""
    remove_leftovers(path.parent)
    return path.with_name(f".{path.name}.{mark()}-{next(_counter)}.tmp")


@dataclass(frozen=True)
class Leftover:
    """A temporary file or folder that has not replaced its target.

    Attributes:
        bytes: Size, including the contents of a folder.
        ownerless: Whether its process has exited; otherwise it is running, or on another host.
    """

    path: Path
    bytes: int
    ownerless: bool


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of killed processes directly in ``folder``."""
    _remove_all(_asides(folder))


def remove_leftovers_of_store(root: Path) -> None:
    """Remove incomplete runs, partly deleted runs and temporary files of killed processes from a run store."""
    _remove_all(_runs_aside(root))
    for folder in _folders(root):
        remove_leftovers(folder)


def leftovers(root: Path) -> list[Leftover]:
    """All temporary files and folders in a run store, in use or left by killed processes."""
    paths = [*_runs_aside(root), *(path for folder in _folders(root) for path in _asides(folder))]
    return [Leftover(path, _size(path), _ownerless(path)) for path in paths]


def _remove_all(paths: Iterable[Path]) -> None:
    for path in paths:
        if _ownerless(path):
            _remove(path)


def _folders(root: Path) -> Iterator[Path]:
    """The folders of a run store in which temporary files are written."""
    yield root
    yield root / ".cache"
    for name in ("teachers", "doubts", "labels", "data", "untrained"):
        yield root / ".cache" / name
    yield root / ".sweeps"
    yield from _entries(root / ".sweeps")
    for path in _entries(root):
        if not path.name.startswith("."):
            yield path
            yield path / "checkpoints"
            yield path / "evaluations"


def _asides(folder: Path) -> Iterator[Path]:
    for path in _entries(folder):
        name = path.name
        if (
            name.startswith(OWNER)
            or (name.endswith(".tmp") and _MARK.fullmatch(name[:-4]))
            or _UNMARKED.fullmatch(name)
        ):
            yield path


def _runs_aside(root: Path) -> list[Path]:
    """Run folders that are being created or deleted."""
    return [path for path in _entries(root) if _RUN.fullmatch(path.name)]


def _entries(folder: Path) -> Iterable[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries)
    except OSError:  # no folder, or no permission: nothing can be removed there
        return []


def _ownerless(path: Path) -> bool:
    """Whether no running process owns a temporary file or folder."""
    name = path.name
    if name.startswith(NEW):
        owner = next((entry.name for entry in _entries(path) if entry.name.startswith(OWNER)), None)
        name = "" if owner is None else owner
    match = _MARK.fullmatch(name.removesuffix(".tmp"))
    if match is None or not match["host"].endswith((f".{hostname()}", f"-{hostname()}")):
        return _untouched(path, time.time() - _DAY)  # from an older version, or from another host
    if match["boot"] == _boot():
        return str(start_ticks(int(match["pid"]))) != match["ticks"]
    # From an earlier boot, or from a container whose processes are not visible here.
    return _untouched(path, max(time.time() - _DAY, _booted()))


def _untouched(path: Path, since: float) -> bool:
    """Whether nothing in it was written since a time."""
    try:
        inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
        return all(entry.lstat().st_mtime < since for entry in (path, *inside))
    except OSError:  # it is being removed, or there is no permission
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        import shutil  # here: importing it is slow, and few processes remove folders

        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # another process was faster, or the folder is not writable
            path.unlink()


def _size(path: Path) -> int:
    total = 0
    for entry in (path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())):
        with contextlib.suppress(OSError):
            total += 0 if entry.is_dir() else entry.lstat().st_size
    return total


@functools.cache
def _boot() -> str:
    """Tag of the boot and the pid namespace of this process; pids are unique only within both."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (no path, but a name)
    except OSError:  # no /proc
        namespace = ""
    return hashlib.sha256(f"{boot_id()} {namespace}".encode()).hexdigest()[:8]


def _booted() -> float:
    """Unix time of this machine's boot; 0 if unknown."""
    try:
        return time.time() - float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0


def remedy(error: OSError) -> str:
    """Hint that lets the same command succeed in writing the file."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space, then repeat the command"
    if error.errno == errno.EFBIG:
        return "raise the file size limit of this user (ulimit -f), then repeat the command"
    if error.errno == errno.EROFS:
        return "remount the disk read-write, then repeat the command"
    return "grant write permission for the folder, then repeat the command"


def write_atomically(path: Path, data: bytes, *, fsync: bool = False) -> None:
    """Replace the contents of ``path`` by ``data``; readers, also after a crash, see either the old or the new file.

    Raises:
        StoreError: The file could not be written; an existing one is unchanged.
    """
    written = aside(path)
    try:
        with written.open("wb") as file:
            file.write(data)
            if fsync:
                file.flush()
                os.fsync(file.fileno())
        written.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # a read-only disk has no file to remove and raises here again
            written.unlink(missing_ok=True)
        raise StoreError(
            "a file could not be written; the existing one is unchanged",
            where=path,
            found=error.strerror,
            hint=remedy(error),
        ) from error


class EventLog:
    """Writer of ``events.jsonl``: one ``os.write`` per line, one writer at a time.

    If an earlier writer left an incomplete line, it is terminated first, so that the next event starts a new line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._torn = False
        try:
            # Opened for reading too: the last byte shows whether the last line is complete.
            self._fd = open_file(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            size = os.fstat(self._fd).st_size
            self._torn = size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"
        except OSError as error:
            raise self._failure(error) from error

    def append(self, event: Event) -> None:
        """Write one event.

        Raises:
            StoreError: The line could not be written, or not completely.
        """
        line = (b"\n" if self._torn else b"") + encode(event)
        try:
            done = os.write(self._fd, line)
            while done < len(line):  # on a nearly full disk a part is written, and the next call raises
                self._torn = True
                done += os.write(self._fd, line[done:])
        except OSError as error:
            raise self._failure(error) from error
        self._torn = False

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _failure(self, error: OSError) -> StoreError:
        return StoreError(
            "an event could not be written",
            where=self.path,
            found=error.strerror,
            hint="free some space; earlier events are intact",
        )


FIRST = 64 * 1024
"""Bytes that are read first, from the end of an existing file."""
MOST = 1024 * 1024
"""Maximum number of new bytes per read; a file that grew by more is read again from near its end."""

# Complete escape sequences: `clean` alone would leave their letters.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class TextTail:
    r"""Reader of the text that was appended since the last :meth:`read`.

    A file that does not exist yet is empty. If the file was replaced, became shorter or grew by more than :data:`MOST`,
    reading restarts near its end and ``generation`` increases: earlier text is void. Text of a deleted file remains
    valid until a new file exists.

    Attributes:
        generation: Increases whenever reading restarts.
        skipped: Bytes before the first line that was read in this generation.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        self.skipped = 0
        self._offset = 0
        self._inode: int | None = None
        self._seen = False
        self._decoder = _decoder()

    def read(self) -> str:
        r"""Read the new text; lines end in ``\n``, control characters are removed, invalid UTF-8 becomes ``�``.

        The text may end within a line; the next read returns the rest.

        Raises:
            StoreError: The file exists but cannot be read.
        """
        try:
            with reading(self.path) as file:
                data = self._gained(file.fileno())
        except FileNotFoundError:
            self._inode = None
            return ""
        except OSError as error:
            raise StoreError("The log cannot be read", where=self.path, found=error.strerror) from error
        # A progress bar rewrites its line with carriage returns; here each state becomes a line.
        return clean(_ESCAPES.sub("", self._decoder.decode(data))) if data else ""

    def _gained(self, descriptor: int) -> bytes:
        status = os.fstat(descriptor)
        size = status.st_size
        same = self._inode == status.st_ino and self._offset <= size <= self._offset + MOST
        if same:
            return self._pieces(descriptor, size)
        self.generation += self._seen
        self._seen, self._inode, self._decoder = True, status.st_ino, _decoder()
        # One more byte, which shows whether the first line is complete.
        self._offset = max(0, size - FIRST - 1)
        data = self._pieces(descriptor, size)
        if size > FIRST:
            data = _from_whole_line(data)
        self.skipped = self._offset - len(data)
        return data

    def _pieces(self, descriptor: int, size: int) -> bytes:
        """Read from the offset to ``size``, not further: a fast writer could otherwise prolong the read without end."""
        pieces = []
        while self._offset < size:
            piece = os.pread(descriptor, min(1 << 16, size - self._offset), self._offset)
            if not piece:
                break
            self._offset += len(piece)
            pieces.append(piece)
        return b"".join(pieces)


def _decoder() -> io.IncrementalNewlineDecoder:
    return io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)


def _from_whole_line(data: bytes) -> bytes:
    """``data`` without its incomplete first line; unchanged if it has only one line."""
    _, newline, rest = data.partition(b"\n")
    return rest if newline else data


PIECE = 1 << 20
LONGEST = 16 << 20
"""Maximum length of a line in bytes; a longer one is not an event."""


class Tail:
    """Reader of the events that were appended since the last :meth:`read`.

    An incomplete last line is read later. A file that does not exist yet is empty. If the file was replaced or became
    shorter, reading restarts at its start and ``generation`` increases: earlier events are void.

    Args:
        path: The file.
        last: Start this many bytes before the end, after the first incomplete line; None starts at the beginning.
    """

    def __init__(self, path: Path, *, last: int | None = None) -> None:
        self.path = path
        self.generation = 0
        self._last = last
        self._offset = 0
        self._inode: int | None = None
        self._rest = b""

    def read(self, limit: int | None = None) -> list[Event]:
        """Read the new events, oldest first; lines that are not events are skipped.

        Args:
            limit: Maximum number of bytes; the next read continues there.

        Raises:
            StoreError: The file exists but cannot be read.
        """
        try:
            with reading(self.path) as file:
                return self._gained(file.fileno(), limit)
        except FileNotFoundError:
            if self._inode is not None:
                self._restart(None)
            return []
        except OSError as error:
            raise StoreError("The events cannot be read", where=self.path, found=error.strerror) from error

    def stream(self) -> Iterator[Event]:
        """Read all new events as :meth:`read` does, in constant memory.

        Raises:
            StoreError: The file exists but cannot be read.
        """
        before = -1
        while self._offset != before:
            before = self._offset
            yield from self.read(PIECE)

    @property
    def position(self) -> int:
        """Number of bytes that were read."""
        return self._offset

    def _gained(self, descriptor: int, limit: int | None) -> list[Event]:
        status = os.fstat(descriptor)
        if self._inode != status.st_ino or status.st_size < self._offset:
            if self._inode is not None:
                self._restart(status.st_ino)
            elif self._last is not None and status.st_size > self._last:
                # The "?" invalidates an incomplete first line; one more byte keeps a complete line after a newline.
                self._offset, self._rest = status.st_size - self._last - 1, b"?"
            self._inode = status.st_ino
        # Not beyond the current size: a fast writer could otherwise prolong the read without end.
        end = status.st_size if limit is None else min(status.st_size, self._offset + limit)
        pieces = [self._rest]
        while self._offset < end:
            piece = os.pread(descriptor, min(1 << 20, end - self._offset), self._offset)
            if not piece:
                break
            self._offset += len(piece)
            pieces.append(piece)
        *lines, self._rest = b"".join(pieces).split(b"\n")
        if len(self._rest) > LONGEST:
            self._rest = b"?"  # invalidates the rest of this line
        return [event for line in lines if line and (event := decode(line)) is not None]

    def _restart(self, inode: int | None) -> None:
        self.generation += 1
        self._offset, self._rest, self._inode = 0, b"", inode


_BYTES = 64 * 1024
"""Size of the test file, larger than the files of a new run, so that a full disk or quota is detected."""
_ELSEWHERE = "choose another folder with --runs-dir or KDTUI_RUNS"


def check_writable(root: Path) -> None:
    """Check that runs can be created: create a folder with a file in the store and remove both.

    Missing parent folders are created and removed too.

    Raises:
        StoreError: It failed; the error contains owner, mode and a remedy.
    """
    made: list[Path] = []
    try:
        for folder in [*reversed(root.parents), root]:
            if not folder.exists():
                folder.mkdir()
                made.append(folder)
        with (
            # Named like an incomplete run, which is not listed.
            tempfile.TemporaryDirectory(prefix=".new-check-", dir=root) as aside,
            (Path(aside) / "file").open("wb") as file,
        ):
            file.write(b"\0" * _BYTES)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise not_writable(root, error) from error
    finally:
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # another process has created a run there
                folder.rmdir()


def check_run_writable(folder: Path) -> None:
    """Check that a run can be resumed in its folder: write an unnamed file there.

    Raises:
        StoreError: It failed.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * _BYTES)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(
            "the run folder is not writable", where=folder, found=error.strerror, hint=remedy(error)
        ) from error


def not_writable(root: Path, error: OSError) -> StoreError:
    """The error for a store at ``root`` that is not writable."""
    folder = next((path for path in (root, *root.parents) if path.exists()), root)
    if not folder.is_dir():
        return StoreError("the run store is not a folder", where=folder, found=_kind(folder), hint=_ELSEWHERE)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            "the disk of the run store is full",
            where=folder,
            found=error.strerror,
            hint=f"free some space, or {_ELSEWHERE}",
        )
    if error.errno not in (errno.EACCES, errno.EPERM):
        return StoreError("the run store is not writable", where=folder, found=error.strerror, hint=_ELSEWHERE)
    status = folder.stat()
    owner, group, you = _user(status.st_uid), _group(status.st_gid), _user(os.geteuid())
    share = f"; or let {owner} share it: chmod g+rwxs {folder}, with umask 002 for all its users"
    return StoreError(
        "the run store is not writable",
        where=folder,
        found=f"{error.strerror}: it belongs to {owner}, group {group}, mode {stat.filemode(status.st_mode)}"
        f" ({stat.S_IMODE(status.st_mode):o}); you are {you}",
        hint=f"{_ELSEWHERE}{'' if status.st_uid == os.geteuid() else share}",
    )


def _kind(path: Path) -> str:
    return "a file" if path.is_file() else "not a folder"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # a user of a container, or a removed one
        return f"user {number}"


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
