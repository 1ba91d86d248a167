"""Launcher for this machine: one detached supervisor per attempt."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtui import processes
from kdtui.errors import LaunchError, StoreError, UsageError
from kdtui.events import Stopped
from kdtui.launch.alive import is_running, probe
from kdtui.launch.engine_process import check_program, last_lines
from kdtui.launch.launcher import Check
from kdtui.launch.shared_folder import machine_folder
from kdtui.launch.slots import SLOTS, place
from kdtui.launch.standby import SUPERVISE, Standby
from kdtui.store.files import appending, open_file, reading, remedy, try_lock
from kdtui.store.identity import hostname
from kdtui.store.run import EventLog, LaunchRecord, Run, owner
from kdtui.store.scan import scan
from kdtui.store.state import Liveness, State
from kdtui.store.store import RunStore

if TYPE_CHECKING:
    from kdtui.profile import Profile

HANDSHAKE = 30.0
"""Seconds within which a supervisor must write its launch record; it takes about 0.1 s."""
DYING = 15.0
"""Seconds within which killed processes must exit; a process in the middle of disk I/O exits late."""

_A_RECORD = 64 * 1024
"""Bytes of free disk space below which a supervisor can write neither its launch record nor an error."""


class LocalLauncher:
    """Starts ``python -m kdtui.launch.supervise`` in a new session."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    def prepare(self, profile: Profile) -> Standby | None:
        """See :class:`kdtui.launch.launcher.PreparingLauncher`; None for several ranks, and for GPUs."""
        training = profile.training
        try:
            chosen = place(training.accelerator, training.devices)
        except UsageError:  # reported by the check
            return None
        # A GPU is known by its number only when the run has its slot, and torch may have looked for others by then.
        return Standby(training.threads) if (chosen.device, training.devices) == ("cpu", 1) else None

    def launch(self, run: Run, *, total_epochs: int | None = None, standby: Standby | None = None) -> LaunchRecord:
        """See :class:`kdtui.launch.launcher.PreparingLauncher`.

        Raises:
            LaunchError: The run is running, this machine lacks its devices, or its supervisor did not start.
        """
        device, devices, names = _devices(run)
        check_program()
        machine_folder().close()  # raises here, before anything is started, if the folder cannot be used
        lock = take_lock(run)
        if lock is None:
            error = _already_running(run)
            if self._store.summary(run).state not in (State.QUEUED, State.RUNNING):
                error.hint = "a process that it started is still exiting: try again in a few seconds"
            raise error
        try:
            if self._store.summary(run).state in (State.QUEUED, State.RUNNING):
                raise _already_running(run)
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
            start_detached(SUPERVISE, run, order, lock, resume=f"kdtui resume {run.id}", standby=standby)
        finally:
            os.close(lock)
        record = run.launch_record()
        if record is None:
            raise LaunchError("The launch record vanished", where=run.launch_path)
        return record

    def stop(self, run: Run, *, kill: bool = False) -> None:
        """See :class:`kdtui.launch.launcher.Launcher`.

        Raises:
            UsageError: The run is not running.
            LaunchError: It is running on another host, or its processes did not exit.
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
                hint=f"run `kdtui stop --kill {run.id}` there, or request a stop without --kill",
            )
        theirs = False
        with contextlib.suppress(FileNotFoundError):  # its record is lost
            theirs = os.geteuid() not in (0, run.launch_path.stat().st_uid)
        if theirs:
            raise LaunchError(
                "A run of another user cannot be killed",
                where=run.id,
                found=f"its processes belong to {owner(run.launch_path)}",
                hint=f"`kdtui stop {run.id}` requests that it saves and stops",
            )
        kill_processes(run)

    def liveness(self, record: LaunchRecord) -> Liveness:
        """See :class:`kdtui.launch.launcher.Launcher`."""
        return probe(record)

    def check(self, profile: Profile, *, torch_gpus: int | None = None) -> tuple[Check, ...]:
        """See :class:`kdtui.launch.launcher.Launcher`."""
        return (_device_check(profile, torch_gpus),)


def start_detached(
    module: str,
    run: Run,
    order: Mapping[str, Any],
    lock: int,
    *,
    resume: str,
    standby: Standby | None = None,
) -> None:
    """Start ``python -m MODULE RUN ORDER`` in a new session; return once it has written its launch record.

    Args:
        module: It calls :func:`kdtui.launch.detached.main`.
        run: The run, or another folder with the same files.
        order: JSON values; the descriptors of the lock and of the answer are added.
        lock: From :func:`take_lock`; the process inherits it.
        resume: The command that starts it again, for a hint.
        standby: A process that waits for this order, if there is one.

    Raises:
        LaunchError: It did not start.
    """
    run.logs.mkdir(exist_ok=True)
    reader, writer = os.pipe()
    process = None
    try:
        with appending(run.worker_log) as log:
            begin = log.tell()
            descriptors = {"lock": lock, "ready": writer}
            if standby is None or not standby.hand_over(run, order, {**descriptors, "log": log.fileno()}):
                process = subprocess.Popen(
                    processes.python("-m", module, str(run.path), json.dumps({**order, **descriptors})),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=tuple(descriptors.values()),
                    env=processes.environment(),
                    start_new_session=True,
                )
        os.close(writer)
        writer = -1
        ready, _, _ = select.select([reader], [], [], HANDSHAKE)
        answer = os.read(reader, 16) if ready else b""
        if process is not None:
            if not answer and not ready:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()  # returns at once: the process forks, and its child is adopted by init: no zombie is left
    except OSError as error:
        raise LaunchError("The supervisor could not be started", where=error.filename, found=error.strerror) from error
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    if answer != b"ready":
        if shutil.disk_usage(run.path).free < _A_RECORD:
            raise LaunchError(
                "The disk is full, so it cannot be started",
                where=run.path,
                hint=f"free some space, then `{resume}`",
            )
        raise LaunchError(
            "The supervisor did not start" if ready else f"The supervisor did not respond within {HANDSHAKE:.0f} s",
            where=run.worker_log,
            found=_tail(run.worker_log, begin) or "it printed nothing",
            hint="`kdtui doctor` checks the environment" if ready else "`kdtui runs` shows whether it starts late",
        )


def _device_check(profile: Profile, torch_gpus: int | None) -> Check:
    """Whether this machine has the devices that a run needs."""
    try:
        found = place(profile.training.accelerator, profile.training.devices)
    except UsageError as error:
        return Check("device", False, error.message, error.hint)
    hint = f"--set training.accelerator=cpu, fewer training.devices, or look at CUDA_VISIBLE_DEVICES and {SLOTS}"
    if found.shortage:
        return Check("device", False, f"the run asks for {found.shortage}", hint)
    if found.device == "gpu" and torch_gpus is not None and torch_gpus < found.needed:
        text = f"the run would use {found.needed} GPUs; torch can use {torch_gpus}"
        return Check("device", False, text, f"{hint}; `kdtui doctor` shows what torch can use")
    text = f"{found.needed} of {len(found.names)} GPUs" if found.device == "gpu" else "the CPU"
    return Check("device", True, text)


def kill_processes(run: Run) -> None:
    """SIGKILL the supervisor, then every rank, and append the final event, which they can no longer write.

    Args:
        run: The run, or another folder with the same files.

    Raises:
        LaunchError: A process belongs to another user or did not exit, or the folder is not writable.
    """
    record = run.launch_record()
    if record is not None:
        _sigkill(record.identity)
    deadline = time.monotonic() + DYING
    while True:
        # Read again in every iteration: the supervisor may have started a rank while it was being killed.
        record = run.launch_record()
        found = scan(run.events_path)
        ranks = (*(record.ranks if record else ()), *(found.started.ranks if found.started else ()))
        for rank in ranks:
            _sigkill(rank)
        try:
            lock = take_lock(run)
        except LaunchError as error:
            lock = None
            if not any(map(is_running, (*ranks, *([record.identity] if record else ())))):
                # The lock, which would show whether other processes are left, cannot be opened, nor can the event.
                raise LaunchError(
                    "The processes of the run were killed, but its folder is not writable",
                    where=error.where,
                    found=error.found,
                    hint=f"`kdtui runs` shows it as lost until `kdtui resume {run.id}` continues it",
                ) from error
        if lock is not None:
            break
        if time.monotonic() > deadline:
            raise LaunchError(
                f"Processes of the run are still running {DYING:.0f} s after SIGKILL",
                where=run.id,
                hint=f"`fuser {run.beat_path}` lists them; one that waits for a disk or driver exits after that",
            )
        time.sleep(0.02)
    killed = (*ranks, *([record.identity] if record else ()))
    while any(map(is_running, killed)) and time.monotonic() < deadline:
        time.sleep(0.01)  # a process releases its locks shortly before it is gone
    try:  # this process holds the lock: no process of the run is left, so there is no other writer
        found = scan(run.events_path)
        if found.word is None and found.exited is None:
            newest = max((m for m in (found.train, found.val) if m), key=lambda m: m.step, default=None)
            with EventLog(run.events_path) as log:
                log.append(Stopped(newest.step if newest else 0, newest.epoch if newest else 0, reason="killed"))
    finally:
        os.close(lock)


def _sigkill(who: Mapping[str, Any]) -> None:
    """SIGKILL a process and its children, unless its pid was reused."""
    if not is_running(who):
        return
    try:
        # Supervisor and ranks each lead a process group: loader workers are killed with their rank.
        os.killpg(who["pid"], signal.SIGKILL)
    except ProcessLookupError:  # not a group leader: an engine started by a wrapper
        with contextlib.suppress(ProcessLookupError):
            os.kill(who["pid"], signal.SIGKILL)
    except PermissionError as error:
        raise LaunchError("A process of the run belongs to another user", found=f"pid {who['pid']}") from error


def take_lock(run: Run) -> int | None:
    """Take the run's lock, on ``beat``; supervisor and ranks inherit it, so it is free only when all have exited.

    Returns:
        Its descriptor; None if another process holds it.

    Raises:
        LaunchError: The folder is not writable, or its file system does not support locks.
    """
    try:
        descriptor = open_file(run.beat_path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise LaunchError(
            "The run folder is not writable", where=run.beat_path, found=error.strerror, hint=remedy(error)
        ) from error
    try:
        locked = try_lock(descriptor)
    except OSError as error:
        os.close(descriptor)
        raise LaunchError(
            "This file system does not support locks", where=run.beat_path, found=error.strerror
        ) from error
    if not locked:
        os.close(descriptor)
        return None
    return descriptor


def _already_running(run: Run) -> LaunchError:
    return LaunchError(
        "The run is already running",
        where=run.id,
        hint=f"`kdtui watch {run.id}` follows it, `kdtui stop {run.id}` stops it",
    )


def _former(run: Run) -> LaunchRecord | None:
    try:
        return run.launch_record()
    except StoreError:  # damaged: this launch replaces it
        return None


def _attempt(run: Run, former: LaunchRecord | None) -> int:
    return max(former.attempt if former else 0, scan(run.events_path).attempt or 0)


def _devices(run: Run) -> tuple[str, int, tuple[str, ...]]:
    """Kind and number of devices that the run requests, and the slots that it may take.

    Raises:
        LaunchError: This machine does not have them.
    """
    training = run.profile_table().get("training", {})
    devices, accelerator = training.get("devices", 1), training.get("accelerator", "auto")
    if not isinstance(devices, int) or devices < 1 or accelerator not in ("auto", "cpu", "gpu"):
        raise LaunchError(
            "Invalid devices or accelerator in the run's profile",
            where=f"{run.profile_path} (training.devices, training.accelerator)",
            found=f"{devices!r}, {accelerator!r}",
            allowed="devices >= 1 and accelerator auto, cpu or gpu",
        )
    found = place(accelerator, devices)
    if found.shortage:
        raise LaunchError(
            f"The run needs {found.shortage}",
            where=f"{run.profile_path} (training.devices, training.accelerator)",
            allowed=f'at most {len(found.names)}, or accelerator = "cpu"',
            hint=f"create the run with --set training.accelerator=cpu, or check CUDA_VISIBLE_DEVICES and {SLOTS}",
        )
    return found.device, devices, found.names


def _tail(path: Path, begin: int) -> str:
    with reading(path) as file:
        file.seek(max(begin, path.stat().st_size - 4096))
        return last_lines(file.read())
