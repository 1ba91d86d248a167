"""An engine without torch that answers every verb the command line asks for.

What it does follows from the profile: a run called ``fails…`` fails, one called ``slow…`` takes its time
and ``slower…`` even more, ``unfit…``
does not pass its checks; the mIoU grows with the epoch, and a distilled student ends 0.02 higher.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from kdtui.errors import CheckpointError, EngineError, KdtuiError
from kdtui.events import Event, Failed, Finished, Measured, Saved, Started, Stopped
from kdtui.store.identity import own_identity
from kdtui.store.run import EventLog, Run

STEPS = 2  # per epoch


def train(folder: str) -> dict[str, Any]:
    run = Run(Path(folder))
    table = run.profile_table()
    record = run.launch_record()
    assert record is not None
    signal.signal(signal.SIGTERM, lambda number, frame: run.request_stop())
    name = str(table["name"])
    distilled = bool(table["distillation"]["enabled"])
    epochs = record.total_epochs or int(table["training"]["epochs"])
    manifest = run.manifest()
    step = 0
    if record.attempt > 1 and run.last.exists():
        step = int(json.loads(run.last.read_text())["step"])
    elif manifest.resume_from:
        step = int(json.loads(Path(manifest.resume_from).read_text())["step"])

    def say(event: Event) -> None:
        with EventLog(run.events_path) as log:
            log.append(event)

    print(f"\x1b[31mworker of {name}\x1b[0m", file=sys.stderr, flush=True)
    say(
        Started(
            attempt=record.attempt,
            ranks=(own_identity(),),
            device="cpu",
            precision="fp32",
            threads=1,
            world_size=1,
            epochs=epochs,
            steps_per_epoch=STEPS,
            resumed_step=step,
            student={"parameters": 1_000_000, "parameters_used": 900_000},
            teacher={"parameters": 2_000_000, "miou": 0.8, "iou": {"target": 0.8}} if distilled else None,
        )
    )
    if name.startswith("fails"):
        say(Failed("EngineError", "the scripted engine fails on purpose", "train something else"))
        raise EngineError("the scripted engine fails on purpose")
    while step < epochs * STEPS:
        time.sleep(2.0 if name.startswith("slower") else 0.1 if name.startswith("slow") else 0.0)
        step += 1
        epoch = (step - 1) // STEPS + 1
        say(
            Measured(
                "train", step, epoch, step * 4, {"loss": 1 / step, "loss.base": 0.5 / step, "images_per_second": 50.0}
            )
        )
        if step % STEPS == 0:
            miou = 0.7 - 0.2 / epoch + 0.02 * distilled
            scores = {"miou": miou, "best_miou": miou, "iou.target": miou, "iou.other": miou - 0.1}
            if distilled:
                scores |= {"retention": miou / 0.8, "agreement": 0.9}
            say(Measured("val", step, epoch, step * 4, scores, epochs=epochs))
            run.best.write_text(json.dumps({"step": step}))
            say(Saved(step, "best", "checkpoints/best_model.pth", "val/miou", miou))
        run.last.write_text(json.dumps({"step": step}))
        if run.stop_requested():
            say(Stopped(step, epoch))
            return {"word": "stopped"}
    say(Finished(step, epochs))
    return {"word": "finished"}


def check(file: str) -> dict[str, Any]:
    name = tomllib.loads(Path(file).read_text())["name"]
    fits = not name.startswith("unfit")
    return {"checks": [{"name": "teacher", "ok": fits, "message": "4 classes, 3 wanted", "hint": "another teacher"}]}


def evaluate(profile: str, checkpoint: str, split: str, *rest: str) -> dict[str, Any]:
    answer = {"split": split, "samples": 7, "checkpoint": checkpoint, "miou": 0.5, "iou": {"target": 0.4}, "dice": 0.6}
    if rest:
        Path(rest[1]).write_text(json.dumps(answer))
    return answer


def inspect(checkpoint: str, *rest: str) -> dict[str, Any]:
    if Path(checkpoint).stat().st_size == 0:
        raise CheckpointError("the file is empty", where=checkpoint, hint="make it again")
    return {"architecture": "Unet", "encoder": "resnet18", "parameters": 3_000_000, "asked": list(rest)}


def doctor() -> dict[str, Any]:
    ok = "KDTUI_TEST_SICK" not in os.environ
    return {"versions": {"torch": "0"}, "checks": [{"name": "torch", "ok": ok, "message": "a step", "hint": "install"}]}


def main(verb: str, *arguments: str) -> int:
    verbs: dict[str, Any] = {
        "train": train,
        "check": check,
        "evaluate": evaluate,
        "inspect": inspect,
        "doctor": doctor,
    }
    try:
        answer, code = verbs[verb](*arguments), 0
    except KdtuiError as error:
        told = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
        answer, code = {"error": told}, error.exit_code
    print(json.dumps(answer))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
