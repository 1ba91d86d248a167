"""Imports of libraries without garbage collections and without what the engine does not use of them.

Collections take a fifth of the time of importing torch and the others: the modules that they create are never garbage,
and every collection looks at all of them. ``scipy.signal`` takes another sixth.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """Collect no garbage in this context."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def without_scipy_signal() -> Iterator[None]:
    """Import torchmetrics in this context without ``scipy.signal``; later imports of that find the real one.

    torchmetrics only looks whether it has ``hamming``, for a package of audio metrics.
    """
    if "scipy.signal" in sys.modules:
        yield
        return
    stand_in: Any = ModuleType("scipy.signal")
    stand_in.hamming = None
    sys.modules["scipy.signal"] = stand_in
    try:
        yield
    finally:
        del sys.modules["scipy.signal"]
