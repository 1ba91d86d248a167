"""An engine without torch that answers every verb the command line asks for.

What it does follows from the profile: a run called ``fails…`` fails, one called ``slow…`` takes its time
and ``slower…`` even more, ``held…`` waits after its first step for a file ``go``
in its folder, ``stops…`` finds a stop file as if another command had made it, ``unfit…``
does not pass its checks, ``doubtful…`` warns; the mIoU grows with the epoch, and a distilled student ends 0.02 higher.
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

from kdtui.errors import CheckpointError, DataError, EngineError, ExportError, Interrupted, KdtuiError
from kdtui.events import Event, Failed, Finished, Measured, Saved, Started, Stopped, Warned
from kdtui.store.identity import Identity, own_identity
from kdtui.store.run import EventLog, Run

STEPS = 2  # per epoch


def train(folder: str, rank: Identity | None = None) -> dict[str, Any]:
    run = Run(Path(folder))
    table = run.profile_table()
    record = run.launch_record()
    assert record is not None
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
            ranks=(rank or own_identity(),),
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
    if name.startswith("doubt"):
        say(Warned("a", "the labels look wrong", "look at them"))
    if name.startswith("fails"):
        say(Failed("EngineError", "the scripted engine fails on purpose", "train something else"))
        raise EngineError("the scripted engine fails on purpose")
    while step < epochs * STEPS:
        while name.startswith("held") and step and not (run.path / "go").exists() and not run.stop_requested():
            time.sleep(0.02)
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
        if name.startswith("stops"):
            run.request_stop()
        if run.stop_requested():
            say(Stopped(step, epoch))
            return {"word": "stopped"}
    say(Finished(step, epochs))
    return {"word": "finished"}


def check(file: str, *rest: str) -> dict[str, Any]:
    name = tomllib.loads(Path(file).read_text())["name"]
    fits = not name.startswith("unfit")
    checks = [{"name": "teacher", "ok": fits, "message": "4 classes, 3 wanted", "hint": "another teacher"}]
    if "--resume-from" in rest:
        state = json.loads(Path(rest[rest.index("--resume-from") + 1]).read_text())
        done = {"epochs_done": state["step"] // STEPS}
        checks.append({"name": "resume", "ok": True, "message": " ".join(rest[2:]), "hint": None} | done)
    if "--run" in rest:
        checks = [*go_on(Run(Path(rest[rest.index("--run") + 1])), rest), *checks]
    doubts = [{"code": "a", "message": "the labels look wrong", "hint": "look at them"}] if "doubt" in name else []
    if name.startswith("lost") and "--run" in rest:
        doubts.append({"code": "checkpoint-passed-over", "message": "last.pth is missing", "hint": "copy it back"})
    return {"checks": checks, "warnings": doubts}


def go_on(run: Run, rest: tuple[str, ...]) -> list[dict[str, Any]]:
    done = json.loads(run.last.read_text())["step"] // STEPS if run.last.exists() else 0
    if "--total-epochs" in rest and int(rest[rest.index("--total-epochs") + 1]) <= done:
        words = {"message": f"{done} epochs are trained already", "hint": "a larger --total-epochs"}
        return [{"name": "resume", "ok": False, "error": "UsageError", **words}]
    return [{"name": "resume", "ok": True, "message": f"goes on after epoch {done}", "hint": None}]


def evaluate(profile: str, checkpoint: str, split: str, *rest: str) -> dict[str, Any]:
    root = tomllib.loads(Path(profile).read_text())["data"].get("root")
    if root is not None and not Path(root).is_dir():
        raise DataError("the data folder does not exist", where=root)
    answer = {"split": split, "samples": 7, "checkpoint": checkpoint, "miou": 0.5, "iou": {"target": 0.4}, "dice": 0.6}
    if rest:
        Path(rest[1]).write_text(json.dumps(answer))
    return answer


def inspect(checkpoint: str, *rest: str) -> dict[str, Any]:
    if Path(checkpoint).stat().st_size == 0:
        raise CheckpointError("the file is empty", where=checkpoint, hint="make it again")
    return {"architecture": "Unet", "encoder": "resnet18", "parameters": 3_000_000, "asked": list(rest)}


def step(words: str, done: int = 0, total: int = 0, **more: Any) -> None:
    line = {"progress": {"words": words, "done": done, "total": total} | more}
    print(json.dumps(line), file=sys.stderr, flush=True)


def export(checkpoint: str, *words: str) -> dict[str, Any]:
    count = words.count("--file")
    rest = words[3 * count :]
    given = dict(zip(rest[::2], rest[1::2], strict=True))
    step("loading")
    if Path(checkpoint).stat().st_size == 0:
        raise CheckpointError("the file is empty", where=checkpoint)
    reports = []
    for place in range(0, 3 * count, 3):
        target = words[place + 1]
        try:
            report = export_file(checkpoint, target, json.loads(words[place + 2]), given)
        except Interrupted:
            raise
        except KdtuiError as error:
            report = {"error": described(error)}
        step("finished", target=target, report=report)
        reports.append(report)
    return {"exports": reports}


def export_file(checkpoint: str, target: str, options: dict[str, Any], given: dict[str, str]) -> dict[str, Any]:
    step("exporting", target=target)
    if options["limit"] == 0 or (options["precision"] == "int8" and options["calibration"] == 13):
        raise ExportError("the file does not answer as the network does", found="2 points lost", hint="a higher limit")
    if "KDTUI_TEST_SLOW_EXPORT" in os.environ:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        Path(os.environ["KDTUI_TEST_SLOW_EXPORT"]).touch()
        try:
            time.sleep(60)
        except KeyboardInterrupt as error:
            raise Interrupted("cancelled; nothing was changed") from error
    step("verifying", 7, 7, target=target)
    logits = {"max": 1e-6, "mean": 1e-7, "scale": 9.0, "agreement": 1.0, "shapes": [[1, 3, 8, 8]]}
    report = {
        "file": Path(target).name,
        "bytes": 2**20,
        "precision": options["precision"],
        "opset": options["opset"],
        "exporter": "dynamo",
        "exporter_note": None,
        "nodes": 3,
        "inputs": {"images": {"type": "tensor(float)", "shape": ["batch", 3, "height", "width"]}},
        "outputs": {"logits": {"type": "tensor(float)", "shape": ["batch", 3, "height", "width"]}},
        "options": options,
        "asked": {"checkpoint": checkpoint} | given,
        "verified": {
            "outputs": {"logits": logits},
            "validation": {"images": 7, "miou": 0.6, "torch_miou": 0.6, "drop_points": 0.0}
            if "--run" in given
            else {"images": 0, "miou": None, "torch_miou": None, "drop_points": None},
        },
    }
    Path(target).write_text("onnx")
    return report


def measure(*rest: str) -> dict[str, Any]:
    place = rest.index("--settings")
    settings = json.loads(rest[place + 1])
    setup = settings | {"height": 8, "width": 8, "device_name": "a chip", "torch": "0", "onnxruntime": "0"}
    answers = {}
    for folder in rest[:place]:
        run = Run(Path(folder))

        def side(factor: int) -> dict[str, Any]:
            times = {"median": 0.01 * factor, "q1": 0.01 * factor, "q3": 0.01 * factor, "images_per_second": 100.0}
            return {
                "sha256": str(factor),
                "architecture": "Unet",
                "encoder": "resnet18",
                "parameters": 1_000_000 * factor,
                "parameters_used": 1_000_000 * factor,
                "parameter_bytes": 4_000_000 * factor,
                "macs": 1_000_000_000 * factor,
                "checkpoint_bytes": 9_000_000 * factor,
                "peak_memory_bytes": 5_000_000 * factor,
                "onnx": {"int8": {"bytes": 1_000_000 * factor, "miou": 0.5}},
                "latency": {"torch": {"1": times, "8": times}, "onnxruntime int8": {"1": times}},
                "miou": 0.6,
            }

        found = {"run": run.id, "setup": setup, "teacher": None, "student": side(1), "ratio": None}
        if run.profile_table()["distillation"]["enabled"]:
            found |= {"teacher": side(2), "ratio": {"parameters": 2.0, "latency": {"torch": {"1": 2.0, "8": 2.0}}}}
        run.measurements_path.write_text(json.dumps(found))
        answers[run.id] = found
    return {"runs": answers}


def doctor() -> dict[str, Any]:
    ok = "KDTUI_TEST_SICK" not in os.environ
    return {"versions": {"torch": "0"}, "checks": [{"name": "torch", "ok": ok, "message": "a step", "hint": "install"}]}


def described(error: KdtuiError) -> dict[str, Any]:
    return {"error": type(error).__name__, "message": error.message, "hint": error.hint}


def main(verb: str, *arguments: str) -> int:
    verbs: dict[str, Any] = {
        "train": train,
        "check": check,
        "evaluate": evaluate,
        "inspect": inspect,
        "export": export,
        "measure": measure,
        "doctor": doctor,
    }
    if verb == "train":
        signal.signal(signal.SIGTERM, lambda number, frame: Run(Path(arguments[0])).request_stop())
    try:
        answer, code = verbs[verb](*arguments), 0
    except KdtuiError as error:
        answer, code = {"error": described(error)}, error.exit_code
    print(json.dumps(answer))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
