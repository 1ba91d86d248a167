"""The engine as a child process: its command line and environment, one question, or a dialogue with progress."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdtui import errors, processes
from kdtui.errors import EngineError, Interrupted, KdtuiError, LaunchError
from kdtui.store.files import printable
from kdtui.store.values import parse_json

ENGINE = "KDTUI_ENGINE"
"""Environment variable with another command for the engine: one in another environment, for example."""

_RANK_VARIABLES = frozenset(
    [
        *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "NODE_RANK"),
        *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE"),
        *("MASTER_ADDR", "MASTER_PORT"),
    ]
)


def engine_command(verb: str, *arguments: str) -> list[str]:
    """The argv of the door.

    Raises:
        LaunchError: ``KDTUI_ENGINE`` cannot be read as a command line.
    """
    own = os.environ.get(ENGINE)
    if not own:
        return processes.python("-m", "kdtui.engine", verb, *arguments)
    try:
        words = shlex.split(own)
    except ValueError as error:
        raise LaunchError(f"{ENGINE} is no command line", found=own, hint=f"unset {ENGINE}") from error
    return [*words, verb, *arguments]


def check_program() -> None:
    """Refuse an engine whose program is not on this machine.

    Raises:
        LaunchError: It is missing.
    """
    program = engine_command("train")[0]
    if processes.program(program) is None:
        raise LaunchError("The engine's program is not there", found=program, hint=f"look at {ENGINE}")


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_port() -> int:
    """A TCP port of this machine that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    assert isinstance(port, int)
    return port


def engine_environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of an engine process.

    Rank variables of a job that this process is part of, as ``torchrun`` sets them, are not passed on: the engine
    would wait for the other processes of that job.

    Args:
        changes: Variables to set, as they are.
    """
    variables = processes.environment()
    for name in [name for name in variables if name in _RANK_VARIABLES or name.startswith("TORCHELASTIC_")]:
        del variables[name]
    return variables | dict(changes or {})


def rank_environment(
    rank: int, world_size: int, *, port: int, threads: int = 0, gpus: Sequence[str] = ()
) -> dict[str, str]:
    """What a rank finds in its environment beside what this process has.

    Args:
        rank: Global rank; all ranks are on this machine.
        world_size: Number of ranks.
        port: Where the ranks meet.
        threads: Torch threads; 0 shares the cores out evenly, so that a run repeats on the same machine.
        gpus: Devices of this run; none hides every GPU.
    """
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "PYTHONUNBUFFERED": "1",  # what a killed rank printed last stands in its log
        "OMP_NUM_THREADS": str(threads or max(1, cores() // world_size)),
        "CUDA_VISIBLE_DEVICES": ",".join(gpus),
        # nvidia-smi, which counted the devices, numbers them so.
        "CUDA_DEVICE_ORDER": os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
    }


def ask(verb: str, *arguments: str, timeout: float | None = None) -> dict[str, Any]:
    """Run the door and return its one JSON object.

    Raises:
        KdtuiError: What the engine reported, as the class it named.
        EngineError: It answered with something else, or not in time.
        LaunchError: It could not be started.
    """
    argv = engine_command(verb, *arguments)
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
            env=engine_environment(),
        )
    except OSError as error:
        raise cannot_start(argv, error) from error
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"The engine did not answer within {timeout:.0f} s", where=shlex.join(argv)) from error
    return read_answer(verb, argv, done.returncode, done.stdout, done.stderr)


def read_answer(verb: str, argv: Sequence[str], code: int, stdout: bytes, stderr: bytes) -> dict[str, Any]:
    """The one JSON object of a process of the door that has ended.

    Raises:
        KdtuiError: What the engine reported, as the class it named.
        EngineError: It answered with something else.
    """
    try:
        answer = json.loads(stdout)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise EngineError(
            f"The engine gave no answer to '{verb}' and ended with code {code}",
            where=shlex.join(argv),
            found=_last_lines(stderr) or "nothing on stderr",
            hint="`kdtui doctor` checks the engine's environment",
        )
    report = answer.get("error")
    if isinstance(report, Mapping):
        raise reported(report)
    return answer


def reported(report: Mapping[str, Any]) -> KdtuiError:
    """The error that the engine described, as the class of its name; one of a check that failed, too."""
    kind = getattr(errors, str(report.get("error")), EngineError)
    if not (isinstance(kind, type) and issubclass(kind, KdtuiError)):
        kind = EngineError
    hint = report.get("hint")
    error: KdtuiError = kind(str(report.get("message", "the engine gave no reason")), hint=hint and str(hint))
    return error


def cannot_start(argv: Sequence[str], error: OSError) -> LaunchError:
    """What is raised where the door's process could not be started."""
    return LaunchError(
        "The engine could not be started",
        where=shlex.join(argv),
        found=error.strerror,
        hint=f"look at {ENGINE}, or run `kdtui doctor`",
    )


def _last_lines(output: bytes, count: int = 12) -> str:
    lines = output.decode(errors="replace").strip().splitlines()[-count:]
    return "\n    ".join(printable(line) for line in lines)


PATIENCE = 10.0
"""Seconds that a verb has to tidy up once it is given up: a call into a library returns before it is interrupted."""
_LOOK = 0.1
_PIPE = 1 << 20
_KEPT = 1 << 16  # bytes of what it wrote on stderr: enough for a traceback


@dataclass(frozen=True)
class Step:
    """Where a verb is.

    Attributes:
        words: What is done now.
        done: Of ``total``.
        total: 0 where it cannot be counted.
        target: The file that is made, for a verb that makes several.
        report: What became of ``target``, once it is finished.
    """

    words: str
    done: int = 0
    total: int = 0
    target: str = ""
    report: Mapping[str, Any] | None = None


def converse(
    verb: str,
    *arguments: str,
    heard: Callable[[Step], None] = lambda step: None,
    cancelled: Callable[[], bool] = lambda: False,
    environment: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
    started: Callable[[int], None] = lambda pid: None,
) -> dict[str, Any]:
    """Run the door, tell what it says on the way, and return its one JSON object.

    Args:
        verb: What to do.
        arguments: Of the verb.
        heard: Called with each step, in this thread.
        cancelled: Asked ten times a second; once it is true the verb is told to give up.
        environment: Laid over this process's own.
        descriptors: Handed to the process, as locks that must live as long as it does.
        started: Called with the process's id once it has the descriptors.

    Raises:
        Interrupted: It was given up.
        KdtuiError: What the engine reported, as the class it named.
        LaunchError: It could not be started.
    """
    argv = engine_command(verb, *arguments)
    with tempfile.TemporaryFile() as answer:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=subprocess.PIPE,
                env=engine_environment(environment),
                pass_fds=tuple(descriptors),
                # Ctrl-C reaches the face alone, which then asks.
                process_group=0,
            )
        except OSError as error:
            raise cannot_start(argv, error) from error
        with process:
            _widen(process)
            try:
                started(process.pid)
                told = _listen(process, heard, cancelled)
            finally:
                # A face that was interrupted, or raised while it drew: nobody waits any more.
                if process.poll() is None:
                    _give_up(process)
        if process.returncode < 0 and cancelled():
            raise Interrupted("cancelled")
        answer.seek(0)
        return read_answer(verb, argv, process.returncode, answer.read(), told)


def _widen(process: subprocess.Popen[bytes]) -> None:
    """Give its progress room: an engine whose face is suspended would wait in the middle until somebody reads."""
    assert process.stderr is not None
    with contextlib.suppress(OSError, AttributeError):  # above the user's share of pipes; not Linux
        fcntl.fcntl(process.stderr.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)


def _listen(process: subprocess.Popen[bytes], heard: Callable[[Step], None], cancelled: Callable[[], bool]) -> bytes:
    """Read stderr until it ends; what was no progress is returned, its end at least."""
    assert process.stderr is not None
    stream = process.stderr.fileno()
    line, other = b"", b""
    while True:
        if cancelled():
            _give_up(process)
            return other + line
        if not select.select([stream], [], [], _LOOK)[0]:
            # Someone it started may hold the pipe open for ever.
            if process.poll() is not None:
                return other + line
            continue
        piece = os.read(stream, 1 << 16)
        if not piece:
            process.wait()
            return other + line
        *lines, line = (line + piece).split(b"\n")
        for whole in lines:
            step = read_step(whole)
            if step is not None:
                heard(step)
            else:
                other = (other + whole + b"\n")[-_KEPT:]


def read_step(line: bytes) -> Step | None:
    """The step that a line of stderr tells, or None for any other line."""
    if not line.startswith(b'{"progress"'):
        return None
    try:
        told = parse_json(line)["progress"]
        report = told.get("report")
        return Step(
            str(told["words"]),
            int(told["done"]),
            int(told["total"]),
            str(told.get("target", "")),
            report if isinstance(report, dict) else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _give_up(process: subprocess.Popen[bytes]) -> None:
    """Ask the verb to stop, and end it and what it started when it does not."""
    process.terminate()
    deadline = time.monotonic() + PATIENCE
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(max(0.0, deadline - time.monotonic()))
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
