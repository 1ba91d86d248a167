"""Launching on this machine: a detached supervisor per attempt."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdtui import processes
from kdtui.errors import LaunchError, StoreError, UsageError
from kdtui.events import Stopped
from kdtui.launch.alive import lives
from kdtui.launch.engine_process import check_program
from kdtui.launch.shared_folder import machine_folder
from kdtui.launch.slots import SLOTS, place
from kdtui.store.files import appending, open_file, printable, reading, remedy
from kdtui.store.identity import hostname
from kdtui.store.run import EventLog, LaunchRecord, Run, owner
from kdtui.store.scan import scan
from kdtui.store.state import State
from kdtui.store.store import RunStore

HANDSHAKE = 30.0
"""Seconds within which a supervisor records itself; it needs about a tenth of one."""
DYING = 15.0
"""Seconds within which killed processes are gone; one in the middle of disk I/O takes its time."""

_A_RECORD = 64 * 1024
"""Bytes below which a supervisor cannot record itself, nor write why."""


class LocalLauncher:
    """Starts ``python -m kdtui.launch.supervise`` in a session of its own."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    def launch(self, run: Run, *, total_epochs: int | None = None) -> LaunchRecord:
        """See :class:`kdtui.launch.launcher.Launcher`.

        Raises:
            LaunchError: The run lives, asks for devices that are not here, or its supervisor did not come up.
        """
        device, devices, names = _devices(run)
        check_program()
        machine_folder().close()  # where it cannot be used, nothing is started that would fail there
        try:
            lock = _lock(run)
        except LaunchError as error:
            held = isinstance(error.__cause__, BlockingIOError)
            if held and self._store.summary(run).state not in (State.QUEUED, State.RUNNING):
                error.hint = "something that it left behind is still ending: try again in some seconds"
            raise
        try:
            if self._store.summary(run).state in (State.QUEUED, State.RUNNING):
                raise _lives_already(run)
            former = _former(run)
            order = {
                "attempt": _attempt(run, former) + 1,
                "total_epochs": total_epochs if total_epochs is not None or former is None else former.total_epochs,
                "device": device,
                "devices": devices,
                "slots": names,
                "created": time.time(),
            }
            run.clear_stop()
            self._start(run, order, lock)
        finally:
            os.close(lock)
        record = run.launch_record()
        if record is None:
            raise LaunchError("The launch record vanished", where=run.launch_path)
        return record

    def _start(self, run: Run, order: Mapping[str, Any], lock: int) -> None:
        """Start the supervisor and wait for its word that it recorded itself."""
        run.logs.mkdir(exist_ok=True)
        reader, writer = os.pipe()
        try:
            with appending(run.worker_log) as log:
                begin = log.tell()
                descriptors = {"lock": lock, "ready": writer}
                argv = processes.python(
                    "-m", "kdtui.launch.supervise", str(run.path), json.dumps({**order, **descriptors})
                )
                process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(lock, writer),
                    env=processes.environment(),
                    start_new_session=True,
                )
            os.close(writer)
            writer = -1
            ready, _, _ = select.select([reader], [], [], HANDSHAKE)
            answer = os.read(reader, 16) if ready else b""
            if not answer and not ready:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()  # it forks itself away at once; the child is nobody's zombie
        except OSError as error:
            raise LaunchError(
                "The supervisor could not be started", where=error.filename, found=error.strerror
            ) from error
        finally:
            os.close(reader)
            if writer >= 0:
                os.close(writer)
        if answer != b"ready":
            if shutil.disk_usage(run.path).free < _A_RECORD:
                raise LaunchError(
                    "The disk is full, so nothing can be started there",
                    where=run.path,
                    hint=f"free some space, then `kdtui resume {run.id}`",
                )
            raise LaunchError(
                "The supervisor did not come up" if ready else f"The supervisor was silent for {HANDSHAKE:.0f} s",
                where=run.worker_log,
                found=_tail(run.worker_log, begin) or "it printed nothing",
                hint="`kdtui doctor` checks the environment"
                if ready
                else "`kdtui runs` shows whether it comes up late",
            )

    def stop(self, run: Run, *, kill: bool = False) -> None:
        """See :class:`kdtui.launch.launcher.Launcher`.

        Raises:
            UsageError: The run is not running.
            LaunchError: It lives on another host, or would not die.
        """
        row = self._store.summary(run)
        if row.state not in (State.QUEUED, State.RUNNING):
            raise UsageError("Nothing to stop: the run is not running", where=run.id, found=row.state.word)
        if not kill:
            run.request_stop()
            return
        if row.host is not None and row.host != hostname():
            raise LaunchError(
                "A run can be killed only on its own host",
                where=run.id,
                found=row.host,
                hint=f"run `kdtui stop --kill {run.id}` there, or ask it to stop without --kill",
            )
        theirs = False
        with contextlib.suppress(FileNotFoundError):  # its record is lost
            theirs = os.geteuid() not in (0, run.launch_path.stat().st_uid)
        if theirs:
            raise LaunchError(
                "A run of another user cannot be killed",
                where=run.id,
                found=f"its processes belong to {owner(run.launch_path)}",
                hint=f"`kdtui stop {run.id}` asks it to save and end",
            )
        _kill(run)


def _kill(run: Run) -> None:
    """SIGKILL the supervisor, then every rank, and write the word that neither of them can."""
    record = run.launch_record()
    if record is not None:
        _sigkill(record.identity)
    deadline = time.monotonic() + DYING
    while True:
        # Again each time: the supervisor may have started a rank while it was being killed.
        record = run.launch_record()
        found = scan(run.events_path)
        ranks = (*(record.ranks if record else ()), *(found.started.ranks if found.started else ()))
        for rank in ranks:
            _sigkill(rank)
        try:
            lock = _lock(run)
        except LaunchError as error:
            processes_of_it = (*ranks, *([record.identity] if record else ()))
            if not isinstance(error.__cause__, BlockingIOError) and not any(map(lives, processes_of_it)):
                # The lock that would show whether others are left cannot be had, nor can the end be written down.
                raise LaunchError(
                    "The processes of the run were killed, but its folder cannot be written",
                    where=error.where,
                    found=error.found,
                    hint=f"`kdtui runs` shows it as lost until `kdtui resume {run.id}` continues it",
                ) from error
            if time.monotonic() > deadline:
                raise LaunchError(
                    f"Processes of the run still live {DYING:.0f} s after SIGKILL",
                    where=run.id,
                    hint=f"`fuser {run.beat_path}` names them; one that waits for a disk or a driver ends with it",
                ) from error
            time.sleep(0.02)
            continue
        break
    killed = (*ranks, *([record.identity] if record else ()))
    while any(map(lives, killed)) and time.monotonic() < deadline:
        time.sleep(0.01)  # a process lets go of its locks a moment before it is gone
    try:  # the lock is ours: nothing of this run lives, nobody else writes
        found = scan(run.events_path)
        if found.word is None and found.exited is None:
            newest = max((m for m in (found.train, found.val) if m), key=lambda m: m.step, default=None)
            with EventLog(run.events_path) as log:
                log.append(Stopped(newest.step if newest else 0, newest.epoch if newest else 0, reason="killed"))
    finally:
        os.close(lock)


def _sigkill(who: Mapping[str, Any]) -> None:
    """SIGKILL a process and what it started, if it is still that process."""
    if not lives(who):
        return
    try:
        # Supervisor and ranks each lead a group: loader workers go with their rank.
        os.killpg(who["pid"], signal.SIGKILL)
    except ProcessLookupError:  # no leader: an engine behind a wrapper
        with contextlib.suppress(ProcessLookupError):
            os.kill(who["pid"], signal.SIGKILL)
    except PermissionError as error:
        raise LaunchError("A process of the run belongs to someone else", found=f"pid {who['pid']}") from error


def _lock(run: Run) -> int:
    """The run's own lock, on ``beat``; supervisor and ranks inherit it, so it is free only when all of them are gone.

    Raises:
        LaunchError: Someone holds it.
    """
    try:
        descriptor = open_file(run.beat_path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise LaunchError(
            "The run folder cannot be written", where=run.beat_path, found=error.strerror, hint=remedy(error)
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise _lives_already(run) from error
    except OSError as error:
        os.close(descriptor)
        raise LaunchError("This file system has no locks", where=run.beat_path, found=error.strerror) from error
    return descriptor


def _lives_already(run: Run) -> LaunchError:
    return LaunchError(
        "The run is already running",
        where=run.id,
        hint=f"`kdtui watch {run.id}` follows it, `kdtui stop {run.id}` ends it",
    )


def _former(run: Run) -> LaunchRecord | None:
    try:
        return run.launch_record()
    except StoreError:  # damaged: this launch replaces it
        return None


def _attempt(run: Run, former: LaunchRecord | None) -> int:
    return max(former.attempt if former else 0, scan(run.events_path).attempt or 0)


def _devices(run: Run) -> tuple[str, int, tuple[str, ...]]:
    """Kind and number of devices that the run asks for, and the slots it may take.

    Raises:
        LaunchError: This machine will never have them.
    """
    training = run.profile_table().get("training", {})
    devices, accelerator = training.get("devices", 1), training.get("accelerator", "auto")
    if not isinstance(devices, int) or devices < 1 or accelerator not in ("auto", "cpu", "gpu"):
        raise LaunchError(
            "The run's profile cannot be used",
            where=f"{run.profile_path} (training.devices, training.accelerator)",
            found=f"{devices!r}, {accelerator!r}",
            allowed="devices >= 1 and accelerator auto, cpu or gpu",
        )
    found = place(accelerator, devices)
    if found.shortage:
        raise LaunchError(
            f"The run asks for {found.shortage}",
            where=f"{run.profile_path} (training.devices, training.accelerator)",
            allowed=f'at most {len(found.names)}, or accelerator = "cpu"',
            hint=f"make the run with --set training.accelerator=cpu, or look at CUDA_VISIBLE_DEVICES and {SLOTS}",
        )
    return found.device, devices, found.names


def _tail(path: Path, begin: int) -> str:
    with reading(path) as file:
        file.seek(max(begin, path.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").strip().splitlines()[-12:]
    return "\n    ".join(printable(line) for line in lines)
