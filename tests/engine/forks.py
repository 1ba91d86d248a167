"""Code in processes that are forked from an interpreter with modules imported, which take most of the time of each."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# One line is one case: where to look for modules first, the code, and the files for what it writes.
FORKS = """
import json, os, runpy, sys
for line in sys.stdin:
    front, script, out, error = json.loads(line)
    child = os.fork()
    if not child:
        for path, number in ((out, 1), (error, 2)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.path.insert(0, front)
        code = 0
        try:
            runpy.run_path(script, run_name="__main__")
        except BaseException:
            sys.excepthook(*sys.exc_info())
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
Run = Callable[[str, Path], subprocess.CompletedProcess[str]]


@contextlib.contextmanager
def forking(imports: str) -> Iterator[Run]:
    """An interpreter that imports modules once, and runs code from a folder in a fork of it."""
    with subprocess.Popen(
        [sys.executable, "-c", f"{imports}\n{FORKS}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as interpreter:

        def forked(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
            script, out, error = (folder / name for name in ("case.py", "out", "error"))
            script.write_text(code, encoding="utf-8")
            assert interpreter.stdin and interpreter.stdout
            print(json.dumps([str(path) for path in (folder, script, out, error)]), file=interpreter.stdin, flush=True)
            returned = int(interpreter.stdout.readline())
            return subprocess.CompletedProcess([code], returned, out.read_text(), error.read_text())

        yield forked
