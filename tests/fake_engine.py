"""The double of the engine: a program without torch that has every verb of the real one, and :class:`Engine`, without a
process.

A run does what a script says, ``script.json`` in its folder: ``{"RANK or *": [step, ...]}``, a step being one of

    {"steps": 5, "seconds": 0.05}   train: rank 0 measures after each step, looks for `stop`, saves
    {"sleep": 1.0}                  {"print": "text"}      {"ignore_sigterm": true}
    {"exit": 3}                     {"child": 60}          a child that outlives its parent and keeps the descriptors
    {"fail": "message"}             {"wait_for": "path"}   relative to the run folder
    {"raw": "text"}                 appended to events.jsonl as it is
    {"no_start": true}              as the first step: no `started`

Without a script it follows from the profile: it trains as many epochs as it says, two steps each, and the mIoU grows
with the epoch; a distilled student ends 0.02 higher, and with ``KDTUI_TEST_PEAK`` the lower the farther its temperature
is from that. A run called ``fails…`` fails, one called ``slow…`` takes its time
and ``slower…`` even more, ``held…`` waits after its first step for a file ``go`` in its folder, ``stops…`` finds a stop
file as if another command had made it, ``unfit…`` does not pass its checks, ``doubtful…`` warns.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from kdtui.errors import CheckpointError, DataError, EngineError, ExportError, Interrupted, KdtuiError
from kdtui.events import Event, Failed, Finished, Measured, Saved, Started, Stopped, Warned
from kdtui.standby import stand_by
from kdtui.store.identity import ProcessIdentity, own_identity
from kdtui.store.run import EventLog, Run, write_atomically

COMMAND = shlex.join([sys.executable, __file__])
"""For ``KDTUI_ENGINE``."""
RANK = int(os.environ.get("RANK", "0"))
STEPS = 2  # per epoch, of a run without a script


@dataclass
class Engine:
    """The engine as the one function ``ask``, without a process.

    Attributes:
        answers: What it returns for a verb, or raises.
        asked: Verbs and arguments so far.
    """

    answers: dict[str, dict[str, Any] | KdtuiError] = field(default_factory=dict)
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def __call__(self, verb: str, *arguments: str, **options: Any) -> dict[str, Any]:
        self.asked.append((verb, *arguments))
        assert verb in self.answers, f"no answer is given for {verb} {arguments}"
        answer = self.answers[verb]
        if isinstance(answer, KdtuiError):
            raise answer
        return answer


class Training:
    """One rank of a run: how far it is, and what it reports of that."""

    steps_per_epoch = STEPS

    def __init__(self, run: Run) -> None:
        record = run.launch_record()
        assert record is not None
        self.run = run
        self.record = record
        self.step = 0
        if record.attempt > 1 and run.last.exists():
            self.step = int(json.loads(run.last.read_text())["step"])

    @property
    def epoch(self) -> int:
        return 1 + self.step // self.steps_per_epoch

    def say(self, event: Event) -> None:
        if RANK == 0:
            with EventLog(self.run.events_path) as log:
                log.append(event)

    def start(self, ranks: tuple[Mapping[str, Any], ...], epochs: int, **networks: Any) -> None:
        self.say(
            Started(
                attempt=self.record.attempt,
                ranks=ranks,
                device=self.record.device,
                precision="fp32",
                threads=int(os.environ.get("OMP_NUM_THREADS", "1")),
                world_size=int(os.environ.get("WORLD_SIZE", "1")),
                epochs=epochs,
                steps_per_epoch=self.steps_per_epoch,
                resumed_step=self.step,
                **networks,
            )
        )

    def save(self) -> None:
        if RANK == 0:
            self.run.last.parent.mkdir(exist_ok=True)
            write_atomically(self.run.last, json.dumps({"step": self.step}).encode())


class Scripted(Training):
    """A rank that does what a script says."""

    steps_per_epoch = 10

    def follow(self, script: dict[str, list[dict[str, Any]]]) -> None:
        steps = script.get(str(RANK), script.get("*", []))
        if not (steps and "no_start" in steps[0]):
            self.begin()
        for step in steps:
            self.do(step)
        self.end(Finished(self.step, self.epoch))

    def begin(self) -> None:
        deadline = time.monotonic() + 60  # of a supervisor that was killed before it wrote them
        record = self.record
        while len(record.ranks) < record.devices and time.monotonic() < deadline:
            time.sleep(0.01)
            record = self.run.launch_record() or record
        student = {"parameters": 10, "parameters_used": 9}
        self.start(record.ranks or (own_identity(),), record.total_epochs or 10, student=student)

    def end(self, event: Event) -> None:
        self.save()
        self.say(Saved(self.step, "last", "checkpoints/last.pth"))
        self.say(event)
        sys.exit(0)

    def train(self, steps: int, seconds: float) -> None:
        for _ in range(steps):
            time.sleep(seconds)
            self.step += 1
            self.say(Measured("train", self.step, self.epoch, self.step * 4, {"loss": 1 / self.step}))
            self.save()
            self.say(Saved(self.step, "last", "checkpoints/last.pth"))
            if self.run.stop_requested():
                self.end(Stopped(self.step, self.epoch, reason=self.run.stop_reason()))

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


class ByName(Training):
    """A run that does what its name says, in as many epochs as its profile has."""

    def train(self, rank: ProcessIdentity) -> str:
        table = self.run.profile_table()
        name = str(table["name"])
        distilled = bool(table["distillation"]["enabled"])
        epochs = self.record.total_epochs or int(table["training"]["epochs"])
        manifest = self.run.manifest()
        if not self.step and manifest.resume_from:
            self.step = int(json.loads(Path(manifest.resume_from).read_text())["step"])
        print(f"\x1b[31mworker of {name}\x1b[0m", file=sys.stderr, flush=True)
        student = {"parameters": 1_000_000, "parameters_used": 900_000}
        teacher = {"parameters": 2_000_000, "miou": 0.8, "iou": {"target": 0.8}} if distilled else None
        self.start((rank,), epochs, student=student, teacher=teacher)
        if name.startswith("doubt"):
            self.say(Warned("a", "the labels look wrong", "look at them"))
        if name.startswith("fails"):
            self.say(Failed("EngineError", "the scripted engine fails on purpose", "train something else"))
            raise EngineError("the scripted engine fails on purpose")
        while self.step < epochs * STEPS:
            self.wait(name)
            self.take_step(epochs, distilled)
            if name.startswith("stops"):
                self.run.request_stop()
            if self.run.stop_requested():
                self.say(Stopped(self.step, (self.step - 1) // STEPS + 1, reason=self.run.stop_reason()))
                return "stopped"
        self.say(Finished(self.step, epochs))
        return "finished"

    def wait(self, name: str) -> None:
        gate, epoch = Path(os.environ.get("KDTUI_TEST_GATE", os.devnull)), self.step // STEPS
        while gate.is_dir() and self.step and self.step % STEPS == 0 and not self.run.stop_requested():
            if (gate / "open").exists() or (gate / f"epoch-{epoch}").exists():
                break
            time.sleep(0.02)
        go = self.run.path / "go"
        while name.startswith("held") and self.step and not go.exists() and not self.run.stop_requested():
            time.sleep(0.02)
        time.sleep(2.0 if name.startswith("slower") else 0.1 if name.startswith("slow") else 0.0)

    def take_step(self, epochs: int, distilled: bool) -> None:
        self.step += 1
        step, epoch = self.step, (self.step - 1) // STEPS + 1
        losses = {"loss": 1 / step, "loss.base": 0.5 / step, "images_per_second": 50.0}
        self.say(Measured("train", step, epoch, step * 4, losses))
        if step % STEPS == 0:
            miou = 0.7 - 0.2 / epoch + 0.02 * distilled
            if (peak := os.environ.get("KDTUI_TEST_PEAK")) is not None:
                miou -= abs(self.run.profile_table()["distillation"]["temperature"] - float(peak)) / 100
            scores = {"miou": miou, "best_miou": miou, "iou.target": miou, "iou.other": miou - 0.1}
            if distilled:
                scores |= {"retention": miou / 0.8, "agreement": 0.9}
            self.say(Measured("val", step, epoch, step * 4, scores, epochs=epochs))
            self.run.best.write_text(json.dumps({"step": step}))
            self.say(Saved(step, "best", "checkpoints/best_model.pth", "val/miou", miou))
        self.save()


def train(folder: str, rank: ProcessIdentity | None = None) -> dict[str, Any]:
    run = Run(Path(folder))
    script = run.path / "script.json"
    if script.exists():
        Scripted(run).follow(json.loads(script.read_text()))
    return {"word": ByName(run).train(rank or own_identity())}


def check(file: str, *rest: str) -> dict[str, Any]:
    name = tomllib.loads(Path(file).read_text())["name"]
    fits = not name.startswith("unfit")
    checks = [{"name": "teacher", "ok": fits, "message": "4 classes, 3 wanted", "hint": "another teacher"}]
    if "--resume-from" in rest:
        state = json.loads(Path(rest[rest.index("--resume-from") + 1]).read_text())
        done = {"epochs_done": state["step"] // STEPS}
        message = " ".join(rest[2 : rest.index("--store")])
        checks.append({"name": "resume", "ok": True, "message": message, "hint": None} | done)
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
    return [{"name": "resume", "ok": True, "message": f"resumes after epoch {done}", "hint": None}]


def evaluate(profile: str, checkpoint: str, split: str, *rest: str) -> dict[str, Any]:
    root = tomllib.loads(Path(profile).read_text())["data"].get("root")
    if root is not None and not Path(root).is_dir():
        raise DataError("the data folder does not exist", where=root)
    answer = {"split": split, "samples": 7, "checkpoint": checkpoint, "miou": 0.5, "iou": {"target": 0.4}, "dice": 0.6}
    if boxes := tomllib.loads(Path(profile).read_text())["data"].get("boxes"):
        answer["boxes"] = boxes
    if rest:
        Path(rest[1]).write_text(json.dumps(answer))
    return answer


def evaluations(request: str) -> dict[str, Any]:
    jobs = json.loads(Path(request).read_text())
    meeting = Path(os.environ.get("KDTUI_TEST_MEETING", os.devnull))
    if meeting.is_dir():  # ends only if a second process evaluates at the same time
        (meeting / str(os.getpid())).touch()
        deadline = time.monotonic() + 60
        while len(list(meeting.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
    step("evaluating", 0, len(jobs))
    answers: list[dict[str, Any]] = []
    for job in jobs:
        try:
            answers.append(evaluate(job["profile"], job["checkpoint"], job["split"], "--out", job["out"]))
        except KdtuiError as error:
            answers.append({"error": described(error)})
    return {"evaluations": answers}


def predict(request: str) -> dict[str, Any]:
    """Write an empty file for each picture that is not empty."""
    asked = json.loads(Path(request).read_text())
    step("loading")
    skipped = 0
    for picture, target in asked["pictures"]:
        if Path(picture).stat().st_size == 0:
            skipped += 1
            error = DataError("an image cannot be read", where=picture)
            step("predicting", report={"picture": picture, "error": described(error)})
            continue
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(f"{target}.png").touch()
    return {
        "pictures": len(asked["pictures"]),
        "skipped": skipped,
        "classes": ["background", "target"],
        "mode": asked["mode"] or "resize",
        "input_size": [48, 64],
        "device": asked["accelerator"],
        "images_per_second": 12.0,
        **_of_boxes(asked),
    }


def _of_boxes(asked: dict[str, Any]) -> dict[str, Any]:
    """The report's entries on instances: one for each box, the first two belong to the pictures."""
    if asked["boxes"] is None:
        return {}
    boxes = json.loads(Path(asked["boxes"]).read_text())
    Path(asked["results"]).write_text(json.dumps(boxes[:2]))
    return {"instances": 2, "results": asked["results"], "without_boxes": 1, "unused_boxes": len(boxes) - 2}


def data(request: str) -> dict[str, Any]:
    """A report on data of a folder; a file named ``broken.png`` below it cannot be used."""
    asked = json.loads(Path(request).read_text())
    table = tomllib.loads(Path(asked["profile"]).read_text())["data"]
    broken = "root" in table and sorted(Path(table["root"]).rglob("broken.png"))
    step("reading train", 1, 2)
    while "KDTUI_TEST_SLOW_DATA" in os.environ:
        time.sleep(60)
    labels = [{"class": name, "pixels": 50, "share": 0.5, "images": 2} for name in ("sky", "road")]
    facts = {
        "samples": 2,
        "usable": 2,
        "error": None,
        "sizes": {"min": [64, 48], "median": [64, 48], "max": [96, 48], "different": 2},
        "channels": {"3": 2},
        "bits": {"8": 2},
        "values": [0.0, 255.0],
        "labels": labels,
        "ignored": {"pixels": 0, "share": 0.0},
        "absent": [],
        "near_duplicates": 0,
    }
    problem = {
        "level": "error", "code": "unusable-samples", "split": "train", "hint": "save it again", "count": 1,
        "message": "an image cannot be read (1 of 2 train samples): broken.png\n  found: nothing",
        "names": ["broken.png"],
    }  # fmt: skip
    return {
        "ok": not broken,
        "samples": 2 * len(asked["splits"] or (1, 2)),
        "read": 1,
        "kept": True,
        "classes": ["sky", "road"],
        "splits": dict.fromkeys(asked["splits"] or ("train", "val"), facts),
        "duplicates": {"exact": {"count": 0, "groups": []}, "near": {"count": 0, "pairs": []}},
        "findings": [problem] if broken else [],
        "class_weights": {"balanced": [1.0, 1.0], "effective": [1.0, 1.0]},
        "sheet": asked["sheet"] or f"{asked['root']}/.cache/data/x.png",
    }


def look(folder: str) -> dict[str, Any]:
    """Two layouts, if the folder has a file ``two``; classes are named if it has ``classes.txt``."""
    if not any(Path(folder).iterdir()):
        raise DataError("no images with masks are recognised in this folder", where=folder, hint="write a profile")
    named = (Path(folder) / "classes.txt").exists()
    guess: dict[str, Any] = {
        "keys": {
            "images": "images/{split}/{name}",
            "masks": "masks/{split}/{name}",
            "classes": ["class 0", "class 5 #804020"],
            "label_map": {"0": "class 0", "5": "class 5"},
        },
        "counts": {"train": 6, "val": 2},
        "ground": {"layout": "images and masks", "labels": "numbers 0, 5"},
        "known": "",
        "names": ["class 0", "class 5"],
        "named": named,
        "size": [480, 360],
        "channels": 3,
    }
    other = guess | {"keys": guess["keys"] | {"masks": "other/{split}/{name}"}}
    return {"root": folder, "guesses": [guess, other] if (Path(folder) / "two").exists() else [guess]}


def inspect(checkpoint: str, *rest: str) -> dict[str, Any]:
    if Path(checkpoint).stat().st_size == 0:
        raise CheckpointError("the file is empty", where=checkpoint, hint="make it again")
    return {"architecture": "Unet", "encoder": "resnet18", "parameters": 3_000_000, "asked": list(rest)}


def describe(*checkpoints: str) -> dict[str, Any]:
    def one(path: str) -> dict[str, Any]:
        try:
            return inspect(path) | {"family": "torchvision", "classes": 19}
        except KdtuiError as error:
            return {"error": described(error)}

    return {"files": [one(path) for path in checkpoints]}


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
    """Fixed numbers; ``KDTUI_TEST_GROWN`` is a file with, by the beginning of a run's name, the factors by which a
    trained student costs more than the untrained one, in its first and further measurements.
    """
    place = rest.index("--settings")
    settings = json.loads(rest[place + 1])
    setup = settings | {"height": 8, "width": 8, "device_name": "a chip", "torch": "0", "onnxruntime": "0"}
    answers = {}
    grown = json.loads(Path(os.environ.get("KDTUI_TEST_GROWN", os.devnull)).read_text() or "{}")
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
        student, name = run.profile_table()["student"], str(run.profile_table()["name"])
        if (factors := next((grown[start] for start in grown if name.startswith(start)), None)) is not None:
            before = json.loads(run.measurements_path.read_text()) if run.measurements_path.exists() else {"count": 0}
            found["count"] = before["count"] + 1
            factor = factors[min(before["count"], len(factors) - 1)]
            seconds, size = screened(student)
            times = {"median": seconds * factor, "q1": seconds * factor, "q3": seconds * factor}
            found["student"]["latency"]["onnxruntime fp32"] = {"1": times | {"images_per_second": 1.0}}
            found["student"]["onnx"]["fp32"] = {"bytes": int(size * factor), "miou": 0.5}
            found["student"]["parameters"] = size // 4
        run.measurements_path.write_text(json.dumps(found))
        answers[run.id] = found
    return {"runs": answers}


def measure_files(*rest: str) -> dict[str, Any]:
    place = rest.index("--settings")
    height, width = map(int, rest[rest.index("--size") + 1 :][:2]) if "--size" in rest else (8, 8)
    setup = json.loads(rest[place + 1]) | {"height": height, "width": width, "device_name": "a chip"}
    times = {"median": 0.01, "q1": 0.01, "q3": 0.01, "images_per_second": 100.0}
    side = {
        "sha256": "1",
        "architecture": "",
        "encoder": "",
        "parameters": 1_000_000,
        "macs": None,
        "onnx": {"file": {"bytes": 1_000_000, "miou": None}},
        "latency": {"onnxruntime file": {"1": times}},
        "miou": None,
    }
    answer = {"setup": setup | {"torch": "0", "onnxruntime": "0"}, "teacher": None, "student": side, "ratio": None}
    files = [word for word in rest[:place] if word.endswith(".onnx")]
    return {"runs": {file: {"run": file} | answer for file in files}}


def screened(table: Mapping[str, Any]) -> tuple[float, int]:
    """Seconds and bytes of an untrained network."""
    widths = table.get("decoder_channels", [16])
    width = widths[-1] if isinstance(widths, list) else widths
    return 1e-3 * width * (2 if table["encoder"].startswith("resnet") else 1), 400_000 * width


def screen(request: str, *rest: str) -> dict[str, Any]:
    """Networks whose time and size grow with the last decoder width; the encoder ``tu-broken`` cannot be built."""
    asked = json.loads(Path(request).read_text())
    answers: dict[str, Any] = {}
    for place, (name, table) in enumerate(asked["networks"].items()):
        median, size = screened(table)
        times = {"median": median, "q1": median, "q3": median, "n": 1, "images_per_second": 1 / median}
        sizes = {"parameters": size // 4, "parameters_used": size // 4, "macs": size * 5 // 2}
        answers[name] = sizes if asked["sizes_only"] else sizes | {"bytes": size, "latency": times}
        if table["encoder"] == "tu-broken":
            answers[name] = {"error": "no such encoder"}
        if (slow := os.environ.get("KDTUI_TEST_SLOW_SCREEN")) is not None:
            Path(slow).touch()
            time.sleep(0.3)
        step("measured", place + 1, len(asked["networks"]), target=name, report=answers[name])
    return {"runs": answers}


def doctor() -> dict[str, Any]:
    ok = "KDTUI_TEST_SICK" not in os.environ
    return {"versions": {"torch": "0"}, "checks": [{"name": "torch", "ok": ok, "message": "a step", "hint": "install"}]}


def say(answer: str, words: str = "", code: str = "0") -> NoReturn:
    """Print the given text, and exit with a code."""
    print(answer)
    print(words, file=sys.stderr)
    sys.exit(int(code))


def works(*rest: str) -> dict[str, Any]:
    step("a")
    os.write(2, b"noise\n")
    step("b", 1, 2)
    return {"environment": os.environ.get("SAID"), "rest": rest}


def waits(pid_file: str) -> NoReturn:
    """Wait for ever; SIGTERM ends it with an answer."""

    def give_up(*_: object) -> None:
        raise Interrupted("cancelled")

    if signal.getsignal(signal.SIGTERM) != signal.SIG_IGN:
        signal.signal(signal.SIGTERM, give_up)
    Path(pid_file).write_text(str(os.getpid()))
    step("waits")
    while True:
        time.sleep(60)


def stubborn(pid_file: str) -> NoReturn:
    """Wait forever, for every command."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    waits(pid_file)


def described(error: KdtuiError) -> dict[str, Any]:
    return {"error": type(error).__name__, "message": error.message, "hint": error.hint}


def main(verb: str, *arguments: str) -> int:
    if "--standby" in arguments:
        *rest, _, control, done = arguments
        stand_by(int(control), int(done), lambda: main(verb, *rest), lambda run: main("train", run))
    verbs: dict[str, Any] = {
        "train": train,
        "check": check,
        "evaluate": evaluate,
        "evaluations": evaluations,
        "predict": predict,
        "data": data,
        "look": look,
        "inspect": inspect,
        "describe": describe,
        "export": export,
        "measure": measure,
        "measure-files": measure_files,
        "screen": screen,
        "doctor": doctor,
        # for tests of the dialogue itself
        "say": say,
        "works": works,
        "waits": waits,
        "stubborn": stubborn,
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
