from __future__ import annotations

import fcntl
import gc
import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kdtui.engine.data.cache import SourceCache
from kdtui.engine.data.source import Source
from kdtui.errors import DataError

OPEN_FILES = Path("/proc/self/fd")


def source(number: int, dtype: type = np.uint8) -> Source:
    """A source whose size and values follow from its number."""
    rng = np.random.default_rng(number)
    height, width = rng.integers(1, 40, 2)
    image: NDArray[Any] = rng.integers(0, 256, (height, width, 1 + number % 5)).astype(dtype)
    return Source(image, rng.integers(0, 5, (height, width)).astype(np.uint8))


def same(kept: Source | None, expected: Source) -> bool:
    return (
        kept is not None
        and kept.image.dtype == expected.image.dtype
        and np.array_equal(kept.image, expected.image)
        and np.array_equal(kept.labels, expected.labels)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_sources_of_any_size_and_type_are_kept(dtype: type) -> None:
    cache = SourceCache(20, 2**20)
    for number in reversed(range(20)):
        assert cache.get(number) is None
        cache.put(number, source(number, dtype))
        cache.put(number, source(number + 1, dtype))  # a second time does nothing
    assert all(same(cache.get(number), source(number, dtype)) for number in range(20)) and cache.kept == 20
    kept = cache.get(3)
    assert kept is not None and not kept.image.flags.writeable and not kept.labels.flags.writeable


def test_the_budget_is_not_exceeded() -> None:
    cache = SourceCache(20, 4000)
    for number in range(20):
        cache.put(number, source(number))
    assert 0 < cache.kept < 20 and cache.used <= 4000
    assert all(cache.get(number) is None or same(cache.get(number), source(number)) for number in range(20))
    nothing = SourceCache(20, 0)
    nothing.put(0, source(0))
    assert nothing.get(0) is None


def test_a_cache_that_the_machine_cannot_hold_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.cache_gib[\s\S]*--set data\.cache_gib=0"):
        SourceCache(4, 2**62)


def test_a_copy_for_another_process_starts_empty() -> None:
    cache = SourceCache(4, 2**16)
    cache.put(1, source(1))
    copy = pickle.loads(pickle.dumps(cache))
    assert copy.get(1) is None
    copy.put(1, source(1))
    assert same(copy.get(1), source(1))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks loading processes")
def test_a_cache_that_is_no_longer_used_leaves_no_file_open() -> None:
    gc.collect()
    before = [*OPEN_FILES.iterdir()]
    for _ in range(5):
        SourceCache(4, 2**16)
    gc.collect()
    assert len([*OPEN_FILES.iterdir()]) == len(before)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks loading processes")
def test_forked_processes_fill_one_cache() -> None:
    cache, children = SourceCache(60, 2**20), []
    for first in range(3):
        child = os.fork()
        if not child:
            for number in (*range(first, 60, 3), *range(60)):  # own ones first, then those of all
                cache.put(number, source(number))
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert all(same(cache.get(number), source(number)) for number in range(60))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks loading processes")
def test_a_process_that_is_killed_while_it_reserves_space_blocks_no_other() -> None:
    cache = SourceCache(4, 2**16)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        assert cache._lock is not None
        fcntl.lockf(cache._lock, fcntl.LOCK_EX)
        os.write(writer, b"!")
        signal.pause()
    os.read(reader, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    cache.put(0, source(0))
    assert same(cache.get(0), source(0))
    os.close(reader)
    os.close(writer)
