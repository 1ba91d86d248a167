"""Real processes that have the engine imported when they begin: forked from a server, which is started once.

A rank or a loading process of its own costs tenths of a second so, and not the seconds that the engine's imports take.
What is read while something is imported (``HF_HOME``, the rank that Fabric assumes) needs a fresh interpreter instead.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any, NoReturn

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["kdtui.engine.fit", "kdtui.engine.check"])


class _File:
    """A file descriptor on its way to another process."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Callable[[Any], _File], tuple[Any]]:
        return _received, (DupFd(self.number),)


def _received(duplicate: Any) -> _File:
    return _File(duplicate.detach())


class Process:
    """``python argv`` with the engine already imported, and with what a test needs of ``subprocess.Popen``.

    Args:
        argv: ``-c CODE``, ``-m MODULE`` or the path of a script, and arguments.
        env: The whole environment; None for the present one.
        stdin: A file descriptor; None for an empty one.
        stdout: A file descriptor; None to keep what is written for :meth:`communicate`.
        stderr: Likewise.
    """

    def __init__(
        self,
        *argv: str,
        env: Mapping[str, str] | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> None:
        self.args = argv
        self._written: tuple[str, str] | None = None
        with contextlib.ExitStack() as stack:
            self._out, self._error = (stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2))
            empty = stack.enter_context(Path(os.devnull).open())
            files = [
                _File(empty.fileno() if stdin is None else stdin),
                _File(self._out.fileno() if stdout is None else stdout),
                _File(self._error.fileno() if stderr is None else stderr),
            ]
            environment = dict(os.environ if env is None else env)
            self._process = CONTEXT.Process(target=_run, args=(argv, environment, files))
            self._process.start()
            self._files = stack.pop_all()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait until it has ended; what it wrote."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        if self._written is None:
            self._out.seek(0)
            self._error.seek(0)
            self._written = self._out.read(), self._error.read()
            self._files.close()
        return self._written

    def kill(self) -> None:
        """End it, if it has not ended."""
        self._process.kill()
        self.communicate()


def _run(argv: tuple[str, ...], environment: dict[str, str], files: list[_File]) -> NoReturn:
    """Become what ``python argv`` is once its imports are done; it also ends as an interpreter does."""
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(files):
        os.dup2(file.number, number)
        os.close(file.number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode, closefd=False) for number, mode in enumerate("rww"))
    code = 0
    try:
        if argv[0] == "-c":
            sys.argv = ["-c", *argv[2:]]
            exec(compile(argv[1], "<string>", "exec"), {"__name__": "__main__"})
        elif argv[0] == "-m":
            sys.argv = list(argv[1:])
            runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(argv)
            runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
