"""Imports of libraries without garbage collections, which take a fifth of the time of importing torch and the others.

The modules that they create are never garbage, and every collection looks at all of them.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


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
