"""The engine as a child process: command line, environment, calls with and without progress."""

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
from kdtui.store.values import parse_json
from kdtui.text import one_line

ENGINE = "KDTUI_ENGINE"
"""Environment variable: command line that starts the engine, for example in another Python environment."""

_RANK_VARIABLES = frozenset(
    [
        *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "NODE_RANK"),
        *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE"),
        *("MASTER_ADDR", "MASTER_PORT"),
    ]
)


def engine_command(verb: str, *arguments: str) -> list[str]:
    """The argv of an engine command.

    Raises:
        LaunchError: ``KDTUI_ENGINE`` is not a valid command line.
    """
    own = os.environ.get(ENGINE)
    if not own:
        return processes.python("-m", "kdtui.engine", verb, *arguments)
    try:
        words = shlex.split(own)
    except ValueError as error:
        raise LaunchError(f"{ENGINE} is not a valid command line", found=own, hint=f"unset {ENGINE}") from error
    return [*words, verb, *arguments]


def check_program() -> None:
    """Check that the engine's program exists on this machine.

    Raises:
        LaunchError: It does not.
    """
    program = engine_command("train")[0]
    if processes.program(program) is None:
        raise LaunchError("The engine's program was not found", found=program, hint=f"check or unset {ENGINE}")


def free_port() -> int:
    """A TCP port of this machine that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    assert isinstance(port, int)
    return port


def engine_environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of an engine process.

    Rank variables of a surrounding job, as set by ``torchrun``, are not passed on: the engine would wait for the
    other processes of that job.

    Args:
        changes: Variables to set in addition.
    """
    variables = processes.environment()
    for name in [name for name in variables if name in _RANK_VARIABLES or name.startswith("TORCHELASTIC_")]:
        del variables[name]
    return variables | dict(changes or {})


def rank_environment(
    rank: int, world_size: int, *, port: int, threads: int = 0, gpus: Sequence[str] = ()
) -> dict[str, str]:
    """The environment variables of a rank, in addition to those of this process.

    Args:
        rank: Global rank; all ranks are on this machine.
        world_size: Number of ranks.
        port: TCP port of the process group's rendezvous.
        threads: Torch threads; 0 divides the cores evenly, so that a run is repeatable on the same machine.
        gpus: GPUs of this run; an empty sequence hides every GPU.
    """
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "PYTHONUNBUFFERED": "1",  # the log contains the last lines of a killed rank
        "OMP_NUM_THREADS": str(threads or max(1, processes.cores() // world_size)),
        "CUDA_VISIBLE_DEVICES": ",".join(gpus),
        # The order in which nvidia-smi numbers the GPUs, with which they were counted.
        "CUDA_DEVICE_ORDER": os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
    }


def ask(verb: str, *arguments: str, timeout: float | None = None) -> dict[str, Any]:
    """Run an engine command and return the JSON object that it prints.

    Args:
        verb: The engine command.
        arguments: Its arguments.
        timeout: Seconds; None waits without limit.

    Raises:
        KdtuiError: The engine reported an error; raised as the class that it named.
        EngineError: Its output is not a JSON object, or it timed out.
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
        raise EngineError(f"The engine did not respond within {timeout:.0f} s", where=shlex.join(argv)) from error
    return read_answer(verb, argv, done.returncode, done.stdout, done.stderr)


def read_answer(verb: str, argv: Sequence[str], code: int, stdout: bytes, stderr: bytes) -> dict[str, Any]:
    """The one JSON object of a process of the door that has ended.

    Raises:
        KdtuiError: The engine reported an error; raised as the class that it named.
        EngineError: The output is not a JSON object.
    """
    try:
        answer = json.loads(stdout)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise EngineError(
            f"The engine command '{verb}' printed no result and ended with code {code}",
            where=shlex.join(argv),
            found=last_lines(stderr) or "nothing on stderr",
            hint="`kdtui doctor` checks the engine's environment",
        )
    report = answer.get("error")
    if isinstance(report, Mapping):
        raise reported(report)
    return answer


def reported(report: Mapping[str, Any]) -> KdtuiError:
    """Convert an error report of the engine, or a failed check, to an exception of the class that it names."""
    kind = getattr(errors, str(report.get("error")), EngineError)
    if not (isinstance(kind, type) and issubclass(kind, KdtuiError)):
        kind = EngineError
    hint = report.get("hint")
    error: KdtuiError = kind(str(report.get("message", "the engine gave no reason")), hint=hint and str(hint))
    return error


def cannot_start(argv: Sequence[str], error: OSError) -> LaunchError:
    """The error for an engine process that could not be started."""
    return LaunchError(
        "The engine could not be started",
        where=shlex.join(argv),
        found=error.strerror,
        hint=f"check {ENGINE}, or run `kdtui doctor`",
    )


def last_lines(output: bytes, count: int = 12) -> str:
    """The end of what a process wrote, indented for a message."""
    lines = output.decode(errors="replace").strip().splitlines()[-count:]
    return "\n    ".join(one_line(line) for line in lines)


PATIENCE = 10.0
"""Seconds between SIGTERM and SIGKILL of a cancelled command: a running library call has to return first."""
_POLL = 0.1
_PIPE = 1 << 20
_KEPT = 1 << 16  # bytes of stderr that are kept: enough for a traceback


@dataclass(frozen=True)
class EngineStep:
    """Progress of an engine command.

    Attributes:
        words: Description of the current step.
        done: Finished units out of ``total``.
        total: Number of units; 0 if unknown.
        target: The file that is being made, for a command that makes several.
        report: Result of ``target``, once it is finished.
    """

    words: str
    done: int = 0
    total: int = 0
    target: str = ""
    report: Mapping[str, Any] | None = None


def converse(
    verb: str,
    *arguments: str,
    on_step: Callable[[EngineStep], None] = lambda step: None,
    cancelled: Callable[[], bool] = lambda: False,
    environment: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
    started: Callable[[int], None] = lambda pid: None,
) -> dict[str, Any]:
    """Run an engine command, report its progress and return the JSON object that it prints.

    Args:
        verb: The engine command.
        arguments: Its arguments.
        on_step: Called with each progress step, in this thread.
        cancelled: Polled ten times a second; once it returns True, the process is terminated.
        environment: Environment variables to set in addition to those of this process.
        descriptors: File descriptors that the process inherits, such as locks to hold until it exits.
        started: Called with the process id once the process has inherited the descriptors.

    Raises:
        Interrupted: It was cancelled.
        KdtuiError: The engine reported an error; raised as the class that it named.
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
                # Ctrl-C must reach the calling process only, which then terminates the engine.
                process_group=0,
            )
        except OSError as error:
            raise cannot_start(argv, error) from error
        with process:
            _widen(process)
            try:
                started(process.pid)
                stderr = _listen(process, on_step, cancelled)
            finally:
                # The caller was interrupted or its callback raised: the result is no longer needed.
                if process.poll() is None:
                    _give_up(process)
        if process.returncode < 0 and cancelled():
            raise Interrupted("cancelled")
        answer.seek(0)
        return read_answer(verb, argv, process.returncode, answer.read(), stderr)


def _widen(process: subprocess.Popen[bytes]) -> None:
    """Enlarge the pipe of stderr, so that progress output does not block the engine while its caller is suspended."""
    assert process.stderr is not None
    with contextlib.suppress(OSError, AttributeError):  # the user's pipe limit is exceeded; not Linux
        fcntl.fcntl(process.stderr.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)


def _listen(
    process: subprocess.Popen[bytes], on_step: Callable[[EngineStep], None], cancelled: Callable[[], bool]
) -> bytes:
    """Read stderr until it ends; return the last 64 KiB that were not progress."""
    assert process.stderr is not None
    stream = process.stderr.fileno()
    line, other = b"", b""
    while True:
        if cancelled():
            _give_up(process)
            return other + line
        if not select.select([stream], [], [], _POLL)[0]:
            # A child of the engine may hold the pipe open without end.
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
                on_step(step)
            else:
                other = (other + whole + b"\n")[-_KEPT:]


def read_step(line: bytes) -> EngineStep | None:
    """Parse a progress line of stderr; None for any other line."""
    if not line.startswith(b'{"progress"'):
        return None
    try:
        progress = parse_json(line)["progress"]
        report = progress.get("report")
        return EngineStep(
            str(progress["words"]),
            int(progress["done"]),
            int(progress["total"]),
            str(progress.get("target", "")),
            report if isinstance(report, dict) else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _give_up(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM, and after :data:`PATIENCE` SIGKILL to the process and its children."""
    process.terminate()
    deadline = time.monotonic() + PATIENCE
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(max(0.0, deadline - time.monotonic()))
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
