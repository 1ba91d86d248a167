"""The engine's door: how it is called, one process per rank, and how its answer is read."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from kdtui import errors, processes
from kdtui.errors import EngineError, KdtuiError, LaunchError
from kdtui.store.names import printable

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
