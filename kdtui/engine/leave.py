"""How a rank among several ends: at once, without the interpreter's own farewell."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End this process with ``code``, its output written, and nothing else done.

    A process group must never be destroyed, neither by hand nor by the interpreter's exit: its destructor joins gloo's
    threads while it holds the interpreter's lock, and a thread that has yet to let go of a tensor waits for that lock.
    With torch 2.13 one group in twenty of two busy ranks never ended so, and now and then one aborted. Everything that
    a rank wrote is on the disk before; the kernel closes its sockets.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
