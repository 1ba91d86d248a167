"""An engine without torch: does what a JSON script says, so that processes can be tested as processes.

The script is ``script.json`` in the run folder: ``{"RANK or *": [step, ...]}``, a step being one of

    {"steps": 5, "seconds": 0.05}   train: rank 0 measures after each step, looks for `stop`, saves
    {"sleep": 1.0}                  {"print": "text"}      {"ignore_sigterm": true}
    {"exit": 3}                     {"child": 60}          a child that outlives its parent and keeps the descriptors
    {"fail": "message"}             {"wait_for": "path"}   relative to the run folder
    {"raw": "text"}                 appended to events.jsonl as it is
    {"no_start": true}              as the first step: no `started`

Without a script: start, three steps, finish.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from kdtui.events import Event, Failed, Finished, Measured, Saved, Started, Stopped
from kdtui.store.identity import own_identity
from kdtui.store.run import EventLog, Run, write_atomically

RANK = int(os.environ.get("RANK", "0"))


class Engine:
    def __init__(self, run: Run) -> None:
        self.run = run
        record = run.launch_record()
        assert record is not None
        self.record = record
        self.step = 0
        if record.attempt > 1 and run.last.exists():
            self.step = int(json.loads(run.last.read_text())["step"])
        signal.signal(signal.SIGTERM, lambda number, frame: run.request_stop())

    def say(self, event: Event) -> None:
        if RANK == 0:
            with EventLog(self.run.events_path) as log:
                log.append(event)

    def start(self) -> None:
        deadline = time.monotonic() + 60  # of a supervisor that was killed before it wrote them
        record = self.record
        while len(record.ranks) < record.devices and time.monotonic() < deadline:
            time.sleep(0.01)
            record = self.run.launch_record() or record
        started = Started(
            attempt=record.attempt,
            ranks=record.ranks or (own_identity(),),
            device=record.device,
            precision="fp32",
            threads=int(os.environ["OMP_NUM_THREADS"]),
            world_size=int(os.environ["WORLD_SIZE"]),
            epochs=record.total_epochs or 10,
            steps_per_epoch=10,
            resumed_step=self.step,
            student={"parameters": 10, "parameters_used": 9},
        )
        self.say(started)

    def save(self) -> None:
        if RANK == 0:
            self.run.last.parent.mkdir(exist_ok=True)
            write_atomically(self.run.last, json.dumps({"step": self.step}).encode())
            self.say(Saved(self.step, "last", "checkpoints/last.pth"))

    def end(self, event: Event, code: int) -> None:
        self.save()
        self.say(event)
        sys.exit(code)

    def train(self, steps: int, seconds: float) -> None:
        for _ in range(steps):
            time.sleep(seconds)
            self.step += 1
            epoch = 1 + self.step // 10
            self.say(Measured("train", self.step, epoch, self.step * 4, {"loss": 1 / self.step}))
            self.save()
            if self.run.stop_requested():
                self.end(Stopped(self.step, epoch), 0)

    def do(self, step: dict[str, Any]) -> None:
        if "steps" in step:
            self.train(step["steps"], step.get("seconds", 0.02))
        elif "sleep" in step:
            time.sleep(step["sleep"])
        elif "print" in step:
            print(step["print"], flush=True)
        elif "ignore_sigterm" in step:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        elif "exit" in step:
            sys.exit(step["exit"])
        elif "child" in step:
            subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({step['child']})"], close_fds=False)
        elif "fail" in step:
            self.say(Failed("EngineError", step["fail"], "try again"))
            sys.exit(4)
        elif "wait_for" in step:
            while not (self.run.path / step["wait_for"]).exists():
                time.sleep(0.02)
        elif "raw" in step:
            with self.run.events_path.open("a") as file:
                file.write(step["raw"])


def main(verb: str, *arguments: str) -> int:
    if verb == "say":  # for tests of `ask`: prints what it is told
        print(arguments[0])
        print(arguments[1] if len(arguments) > 1 else "", file=sys.stderr)
        return int(arguments[2]) if len(arguments) > 2 else 0
    run = Run(Path(arguments[0]))
    script = run.path / "script.json"
    plan = json.loads(script.read_text()) if script.exists() else {"*": [{"steps": 3}]}
    steps = plan.get(str(RANK), plan.get("*", []))
    engine = Engine(run)
    if not (steps and "no_start" in steps[0]):
        engine.start()
    for step in steps:
        engine.do(step)
    engine.end(Finished(engine.step, 1 + engine.step // 10), 0)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
