"""One rank of a run, as the engine starts it, with its attempt and the step at which a stop is requested."""

from __future__ import annotations

import argparse
import dataclasses
import os
import threading
import time
from pathlib import Path

from kdtui.engine.fit import leave, train
from kdtui.events import Measured
from kdtui.store.run import Run
from tests.engine.runs import StoppedAt, events_of, record


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--attempt", type=int, default=1)
    parser.add_argument("--stop-after-step", type=int, help="a stop is requested by another process")
    parser.add_argument("--stopped-at-step", type=int, help="it has been asked once this step was measured")
    options = parser.parse_args()
    run = Run(options.run)
    if options.stopped_at_step is not None:
        run = StoppedAt(options.run, lambda seen: any(getattr(e, "step", 0) >= options.stopped_at_step for e in seen))
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])

    def ask() -> None:
        while not any(isinstance(e, Measured) and e.step >= options.stop_after_step for e in events_of(run)):
            time.sleep(0.01)
        run.request_stop()

    # The rank that does not look asks, so that the answer has to travel.
    if options.stop_after_step is not None and rank == world_size - 1:
        threading.Thread(target=ask, daemon=True).start()
    launched = dataclasses.replace(record(run, attempt=options.attempt), devices=world_size)
    train(run, launched, rank=rank, world_size=world_size)
    leave(0)


if __name__ == "__main__":
    main()
