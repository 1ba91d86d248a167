from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """Leave what was imported to itself: torch's half a million objects, looked through again for every few thousand
    widgets, were a sixth of the suite's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
