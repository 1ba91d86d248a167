"""A supervisor and its engine that are started before the run exists, and check its profile first.

The engine then imports its libraries once, see :mod:`kdtui.standby`. The supervisor is its parent from the start, so a
run that is launched in this way differs from others in nothing. Whatever goes wrong before the launch (the engine is
another program, a process is killed) leads to the ordinary way: a check in a process of its own, and a new supervisor.
Both processes exit if the command that started them exits without a launch.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from kdtui import processes
from kdtui.launch.engine_process import ask, engine_command, engine_environment, rank_environment, read_answer
from kdtui.standby import receive, send
from kdtui.store.run import Run

SUPERVISE = "kdtui.launch.supervise"
OPTION = "--standby"


class Standby:
    """The command's side.

    Args:
        threads: Torch threads of the training; 0 for all cores.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._control: socket.socket | None = None

    def __enter__(self) -> Standby:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End both processes, unless the run was launched."""
        if self._control is not None:
            self._control.close()
            self._control = None

    def ask(self, verb: str, *arguments: str) -> dict[str, Any]:
        """As :func:`kdtui.launch.engine_process.ask`: the engine stays after its first answer."""
        if self._control is None:
            answer = self._checked(verb, arguments)
            if answer is not None:
                return answer
            self.close()
        return ask(verb, *arguments)

    def _checked(self, verb: str, arguments: Sequence[str]) -> dict[str, Any] | None:
        """The answer; None if the engine does not take the option, or was ended."""
        argv = engine_command(verb, *arguments)
        self._control, theirs = socket.socketpair()
        reader, done = os.pipe()
        with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as errors, os.fdopen(reader, "rb") as code:
            try:
                with theirs:
                    self._start(argv, {"control": theirs.fileno(), "done": done}, answer.fileno(), errors.fileno())
            except OSError:
                return None
            finally:
                os.close(done)
            text = code.read()
            if not text:
                return None
            for file in (answer, errors):
                file.seek(0)
            return read_answer(verb, argv, int(text), answer.read(), errors.read())

    def _start(self, argv: Sequence[str], descriptors: Mapping[str, int], answer: int, errors: int) -> None:
        order = {"argv": argv, "threads": self._threads, **descriptors}
        subprocess.Popen(
            processes.python("-m", SUPERVISE, OPTION, json.dumps(order)),
            stdin=subprocess.DEVNULL,
            stdout=answer,
            stderr=errors,
            pass_fds=tuple(descriptors.values()),
            env=processes.environment(),
            start_new_session=True,
        ).wait()  # it forks

    def hand_over(self, run: Run, order: Mapping[str, Any], descriptors: Mapping[str, int]) -> bool:
        """Let the waiting supervisor serve a run; whether there is one.

        Args:
            run: The run, created from the profile that was checked.
            order: As for a supervisor that is started for it.
            descriptors: Those of the order by their keys, and ``log``.
        """
        if self._control is None:
            return False
        message = {"run": str(run.path), "order": dict(order), "descriptors": list(descriptors)}
        try:
            send(self._control, message, list(descriptors.values()))
        except OSError:  # it was killed
            return False
        finally:
            self.close()
        return True


class WaitingEngine:
    """The supervisor's side: the engine, which is its child.

    Args:
        order: ``argv``, ``threads`` and the descriptors of :class:`Standby`.
    """

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._control, theirs = socket.socketpair()
        done: int = order["done"]
        # What a rank gets when it starts; it hides the GPUs, as a run on GPUs does not start in this way.
        own = rank_environment(0, 1, port=0, threads=order["threads"])
        del own["MASTER_PORT"]
        with theirs:
            self.process = subprocess.Popen(
                [*order["argv"], OPTION, str(theirs.fileno()), str(done)],
                stdin=subprocess.DEVNULL,
                env=engine_environment(own),
                pass_fds=(theirs.fileno(), done),
                process_group=0,  # as for every rank
            )
        os.close(done)

    def train(self, run: Run, environment: Mapping[str, str], descriptors: Sequence[int]) -> bool:
        """Let the engine train as a rank; whether it is there.

        Args:
            run: The run.
            environment: That of the rank.
            descriptors: The locks that a rank holds; the log is the output of this process.
        """
        try:
            send(self._control, {"run": str(run.path), "environment": dict(environment)}, [1, *descriptors])
        except OSError:
            return False
        finally:
            self._control.close()
        return True

    def end(self) -> None:
        """Kill the engine and its children."""
        self._control.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def wait_for_order(control: int) -> tuple[Run, dict[str, Any], int] | None:
    """What the command sends at the launch: run, order, and the descriptor of the log; None if it exited without."""
    with socket.socket(fileno=control) as channel:
        received = receive(channel)
    if received is None:
        return None
    message, numbers = received
    descriptors = dict(zip(message["descriptors"], numbers, strict=True))
    log = descriptors.pop("log")
    return Run(message["run"]), {**message["order"], **descriptors}, log
