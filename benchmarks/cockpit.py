"""The cockpit as a process in a terminal: first paint, bytes while nothing lives, bytes and CPU with eight live runs.

First paint is told beside that of an empty Textual app started in the same run: the ratio is firmer than the seconds.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import select
import signal
import statistics
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from benchmarks import stores

_ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[\]P][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.")
_EMPTY = """
from textual.app import App
from textual.widgets import Static
class Empty(App):
    def compose(self):
        yield Static("painted")
Empty().run()
"""
LIVE_SECONDS = 10.0


class Terminal:
    """A process in a pseudo terminal whose bytes are counted."""

    def __init__(self, argv: Sequence[str], environment: dict[str, str], columns: int = 120, rows: int = 36) -> None:
        self.begun = time.monotonic()
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], list(argv), {**os.environ, "TERM": "xterm-256color", **environment})
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.bytes = 0
        self.seen = b""

    def read(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Take in what it writes for some seconds, or until something is seen."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not until():
            if select.select([self.descriptor], [], [], left)[0]:
                try:
                    piece = os.read(self.descriptor, 65536)
                except OSError:  # the process is gone
                    return
                self.bytes += len(piece)
                self.seen += piece

    def shows(self, text: str) -> bool:
        """Whether a text was painted so far; escape codes in it do not count."""
        return text.encode() in _ESCAPE.sub(b"", self.seen)

    def close(self) -> None:
        """End it."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.descriptor)


def cockpit(root: Path, columns: int = 120, rows: int = 36) -> Terminal:
    """The cockpit as `kdtui` alone opens it."""
    argv = [sys.executable, "-c", "from kdtui.cli.door import main; main([])"]
    return Terminal(argv, {"KDTUI_RUNS": str(root)}, columns, rows)


def first_paint(terminal: Terminal, text: str) -> float:
    """Seconds from the start of the process until a text is painted."""
    terminal.read(30.0, lambda: terminal.shows(text))
    found = time.monotonic() - terminal.begun
    if not terminal.shows(text):
        raise SystemExit(f"never painted: {text}")
    terminal.close()
    return found


def paints(repeats: int, counts: Sequence[int]) -> None:
    """First paint over the number of runs, beside an empty app."""
    with tempfile.TemporaryDirectory() as folder:
        roots = {count: Path(folder) / str(count) for count in counts}
        for count, root in roots.items():
            stores.many(root, count)
        for warm in (False, True):
            seconds: dict[str, list[float]] = {"empty": []}
            for _ in range(repeats):
                bare = Terminal([sys.executable, "-c", _EMPTY], {})
                seconds["empty"].append(first_paint(bare, "painted"))
                for count, root in roots.items():
                    cache = root / ".cache" / "summaries.json"
                    if not warm:
                        cache.unlink(missing_ok=True)
                    elif not cache.exists():
                        filled = cockpit(root)
                        filled.read(60.0, cache.exists)
                        filled.close()
                    newest = f"n{count - 1:05}"
                    seconds.setdefault(str(count), []).append(first_paint(cockpit(root), newest))
            empty = statistics.median(seconds["empty"])
            for name, found in seconds.items():
                middle = statistics.median(found)
                cache_word = "" if name == "empty" else f" runs, summary cache {'warm' if warm else 'cold'}"
                print(f"first paint, {name}{cache_word}: {middle:.2f} s ({middle / empty:.2f}x an empty Textual app)")


def traffic() -> None:
    """Bytes a second while nothing lives, and with eight live runs at 2 Hz and one chart."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        stores.many(root, 30)
        terminal = cockpit(root)
        terminal.read(4.0)
        before = terminal.bytes
        terminal.read(LIVE_SECONDS)
        print(f"idle, nothing lives: {(terminal.bytes - before) / LIVE_SECONDS:.0f} bytes/s")
        terminal.close()
        for columns, rows in ((80, 24), (120, 36)):
            runs = stores.live(root, 8)
            terminal = cockpit(root, columns, rows)
            terminal.read(4.0)
            process = psutil.Process(terminal.pid)
            step = 200
            for run in runs:
                stores.train_a_step(run, step)
            before, used = terminal.bytes, sum(process.cpu_times()[:2])
            began = time.monotonic()
            while time.monotonic() - began < LIVE_SECONDS:
                step += 1
                for run in runs:
                    stores.train_a_step(run, step)
                terminal.read(0.5)
            took = time.monotonic() - began
            share = (sum(process.cpu_times()[:2]) - used) / took
            rate = (terminal.bytes - before) / took
            print(f"8 live runs at 2 Hz, {columns}x{rows}: {rate / 1024:.2f} KB/s, {share:.1%} of a core")
            terminal.close()
            for run in runs:
                for file in sorted(run.path.rglob("*"), reverse=True):
                    file.unlink() if file.is_file() else file.rmdir()
                run.path.rmdir()


def long_run() -> None:
    """A run of 200 000 events: when its last part is drawn, and when all of it is."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        stores.many(root, 1, events=200_000)
        terminal = cockpit(root)
        last = "the beginning is being read"
        terminal.read(60.0, lambda: terminal.shows(last))
        part = time.monotonic() - terminal.begun
        whole = part
        # Nothing is written while nothing changes, so the last bytes are those of the whole curve.
        while time.monotonic() - terminal.begun < whole + 12.0:
            before = terminal.bytes
            terminal.read(0.1)
            if terminal.bytes != before:
                whole = time.monotonic() - terminal.begun
        print(f"200 000 events: the last part {part:.2f} s after process start, all of it after {whole:.1f} s")
        terminal.close()


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--runs", type=int, nargs="*", default=[1000, 10000])
    options = parser.parse_args()
    paints(options.repeats, options.runs)
    traffic()
    long_run()


if __name__ == "__main__":
    main()
