"""``python -m tests.fuzz [TARGET ...]``: each parser for FUZZ_SECONDS (60); what fails is kept in the corpus."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.engine_targets import ENGINE_TARGETS
from tests.fuzz.mutation import inputs
from tests.fuzz.targets import TARGETS, Target, check

CORPUS = Path(__file__).with_name("corpus")
MEMORY = 8 << 30
"""Bytes of address space: an input that asks for more raises MemoryError, which is a fault."""


def fuzz(name: str, target: Target, seconds: float) -> int:
    """Try inputs until the time is over or one fails; how many were tried."""
    end, tried, failing = time.monotonic() + seconds, 0, b""

    def once(number: int) -> None:
        @seed(number)
        @settings(
            max_examples=100,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.shrink),
        )
        @given(st.one_of(inputs(target.examples), st.binary(max_size=100)))
        def some(data: bytes) -> None:
            nonlocal tried, failing
            tried += 1
            failing = data
            with tempfile.TemporaryDirectory() as folder:
                check(target, data, Path(folder))

        some()

    while time.monotonic() < end:
        try:
            once(random.randrange(2**32))
        except Exception:
            traceback.print_exc()
            file = CORPUS / name / hashlib.sha256(failing).hexdigest()[:12]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(failing)
            print(f"{name}: fails; the input is {file}", flush=True)
            raise
    return tried


def main(names: list[str]) -> int:
    """Fuzz these targets, or all; 1 where some failed."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    seconds = float(os.environ.get("FUZZ_SECONDS", "60"))
    failed = []
    targets = TARGETS | ENGINE_TARGETS
    for name in names or sorted(targets):
        try:
            print(f"{name}: {fuzz(name, targets[name], seconds)} inputs", flush=True)
        except Exception:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "none failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
