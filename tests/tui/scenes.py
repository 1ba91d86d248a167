"""Run stores in every state, made without an engine, and the cockpit over one.

What is shown of a scene is the same every time: names, ids, numbers, the order of the rows. Runs that live said their
last word a moment ago, all others at a fixed time.

    scene = Scene(tmp_path)                       an empty store in tmp_path/people/runs
    run = scene.running("b0-from-b3", epochs=4)   one run; `scene.finished`, `scene.queued`, … for the other states
    scene.advance(run)                            it trains another epoch
    scene = people(tmp_path)                      a store with a run in every state
    app = cockpit(scene)                          the app over it, nothing of this machine in it
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "b0-from-b3")          wait until the screen does
        lines(app)                                the screen as text
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdtui.events import Event, Exited, Failed, Finished, Queued, Saved, Stopped
from kdtui.profile import Profile, dump
from kdtui.store.run import EventLog, LaunchRecord, Notes, Run
from kdtui.store.state import Liveness
from kdtui.store.store import RunStore
from tests.fake_engine import Engine
from tests.tui.measured import measurements, side
from tests.tui.piloting import Recorded, Still, cockpit, lines, recorded, redrawn, settled, shows, text, until
from tests.tui.trained import PARAMETERS, SECONDS, STEPS, TEACHER_MIOU, Training

__all__ = [
    "PARAMETERS",
    "STEPS",
    "TEACHER_MIOU",
    "Engine",
    "Processes",
    "Recorded",
    "Scene",
    "Still",
    "cockpit",
    "lines",
    "people",
    "recorded",
    "redrawn",
    "settled",
    "shows",
    "text",
    "until",
]

FIRST = 1_787_322_600  # 2026-08-21 14:30:00 UTC; every further run is made ten minutes later


class Processes:
    """Answers for processes: those in ``living`` live, as far as anybody on ``host`` can see."""

    def __init__(self) -> None:
        self.host = "here"
        self.living: set[int] = set()
        self.asked = 0

    def __call__(self, record: LaunchRecord) -> Liveness:
        self.asked += 1
        if record.host != self.host:
            return Liveness.UNKNOWN
        return (
            Liveness.ALIVE
            if any(who["pid"] in self.living for who in (record.identity, *record.ranks))
            else Liveness.DEAD
        )


class Scene:
    """A run store that is filled by hand.

    Args:
        folder: The store is ``people/runs`` below it.

    Attributes:
        processes: Who lives.
        store: The store, which asks ``processes``.
    """

    def __init__(self, folder: Path) -> None:
        self.processes = Processes()
        self.store = RunStore(folder / "people" / "runs", alive=self.processes)
        self.store.root.mkdir(parents=True, exist_ok=True)
        self._trainings: dict[Run, Training] = {}

    # runs by state

    def never_launched(
        self,
        name: str,
        *,
        teacher: Run | None = None,
        temperature: float = 4.0,
        alpha: float = 0.7,
        encoder: str = "timm-efficientnet-b0",
        seed: int = 0,
        horizon: int = 80,
        best: float = 0.70,
        tags: Sequence[str] = (),
        note: str = "",
        shown_as: str | None = None,
        folder: str | None = None,
    ) -> Run:
        """A run that was made and nothing else; the options are those of all other states as well.

        Args:
            name: Its name, and the end of its id.
            teacher: The run whose best model taught it; without one it is not distilled.
            temperature: T.
            alpha: Share of the distillation loss.
            encoder: Of the student.
            seed: Of the training.
            horizon: Epochs.
            best: The mIoU it gets near in the end.
            tags: Its tags.
            note: Its note.
            shown_as: Another name in ``run.json``: foreign text.
            folder: Another id.
        """
        number = len(self._trainings)
        created = FIRST + 600 * number
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(created))
        run = Run(self.store.root / (folder or f"{stamp}-{name}"))
        distillation = {} if teacher is None else {"temperature": temperature, "alpha": alpha}
        profile: dict[str, Any] = {
            "name": name,
            "seed": seed,
            "student": {"encoder": encoder},
            "training": {"epochs": horizon},
        }
        if teacher is not None:
            profile["teacher"] = {"checkpoint": str(teacher.best)}
            profile["distillation"] = {"enabled": True, **distillation}
        manifest = {
            "id": run.id,
            "name": shown_as or name,
            "created_ns": created * 10**9,
            "teacher": None if teacher is None else {"checkpoint": str(teacher.best), "sha256": "0", "run": teacher.id},
        }
        draft = Run(run.path.with_name(f".new-{run.id}"))
        for part in (draft.checkpoints, draft.logs, draft.visualizations, draft.evaluations):
            part.mkdir(parents=True)
        draft.profile_path.write_bytes(dump(Profile.model_validate(profile)))
        draft.manifest_path.write_text(json.dumps(manifest), encoding="utf-8")
        draft.write_notes(Notes(tuple(tags), note))
        draft.path.rename(run.path)
        self._trainings[run] = Training(5000 + 10 * number, created, horizon, best, encoder, distillation)
        return run

    def queued(self, name: str, **options: Any) -> Run:
        """It waits for a slot."""
        run = self.never_launched(name, **options)
        self.launch(run)
        return run

    def running(self, name: str, *, epochs: float = 40, silent: float = 0.0, **options: Any) -> Run:
        """It trained that many epochs, and lives; its last event is ``silent`` seconds old."""
        run = self.queued(name, **options)
        self.start(run, at=time.time() - silent - epochs * STEPS * SECONDS - 2)
        self.advance(run, epochs, at=time.time() - silent)
        return run

    def finished(self, name: str, **options: Any) -> Run:
        """It trained all its epochs."""
        run = self._trained(name, 1.0, **options)
        run.best.write_bytes(b"weights")
        self.end(run, Finished(self._trainings[run].step, self._trainings[run].horizon))
        return run

    def stopped(self, name: str, *, share: float = 0.5, **options: Any) -> Run:
        """Someone asked it to stop after a share of its epochs."""
        run = self._trained(name, share, **options)
        self.end(run, Stopped(self._trainings[run].step, self._trainings[run].epoch))
        return run

    def failed(self, name: str, message: str, *, hint: str = "", share: float = 0.1, **options: Any) -> Run:
        """The engine gave up."""
        run = self._trained(name, share, **options)
        self.end(run, Failed("DivergedError", message, hint or None), code=4)
        return run

    def killed(self, name: str, *, signal: str = "SIGKILL", share: float = 0.1, **options: Any) -> Run:
        """It died without a word, as when memory runs out."""
        run = self._trained(name, share, **options)
        self.end(run, None, code=-9, signal=signal)
        return run

    def lost(self, name: str, *, share: float = 0.3, **options: Any) -> Run:
        """Its processes are gone, and no supervisor recorded their end."""
        run = self._trained(name, share, **options)
        self.processes.living.discard(self._trainings[run].pid)
        return run

    def damaged(self, name: str) -> Run:
        """A run whose ``run.json`` and ``profile.toml`` cannot be read."""
        run = self.never_launched(name)
        run.manifest_path.write_text("{half of", encoding="utf-8")
        run.profile_path.write_text("[half of", encoding="utf-8")
        return run

    def _trained(self, name: str, share: float, **options: Any) -> Run:
        run = self.never_launched(name, **options)
        training = self._trainings[run]
        self.launch(run, at=training.created)
        self.start(run, at=training.created + 1)
        epochs = share * training.horizon
        self.advance(run, epochs, at=training.created + 2 + epochs * STEPS * SECONDS)
        return run

    # what happens to a run

    def launch(self, run: Run, *, total_epochs: int | None = None, at: float | None = None) -> None:
        """Its next attempt waits for a slot."""
        training = self._trainings[run]
        training.attempt += 1
        training.horizon = total_epochs or training.horizon
        record = LaunchRecord(
            attempt=training.attempt,
            host=self.processes.host,
            pid=training.pid,
            start_ticks=1,
            boot_id="b",
            job_id=None,
            argv=("python", "-m", "kdtui.launch.supervise", str(run.path)),
            device="cpu",
            devices=1,
            total_epochs=total_epochs,
            created=training.created,
        )
        run.write_launch_record(record)
        self.processes.living.add(training.pid)
        self.write(run, Queued(training.attempt, "cpu", time=at or time.time()))

    def start(self, run: Run, *, resumed: int = 0, at: float | None = None) -> None:
        """Its attempt begins to train, behind ``resumed`` steps."""
        training = self._trainings[run]
        record = run.launch_record()
        assert record is not None
        training.step = resumed
        self.write(run, training.started(record.attempt, at or time.time()))

    def advance(self, run: Run, epochs: float = 1.0, *, at: float | None = None) -> None:
        """It trains on: a line in its events every five steps and at the end of each epoch, the last one ``at``."""
        training = self._trainings[run]
        end, last = at or time.time(), training.step + round(epochs * STEPS)
        said: list[Event] = []
        log = []
        for step in range(training.step + 1, last + 1):
            when = end - (last - step) * SECONDS
            if step % 5 == 0 or step == last:
                said.append(training.train(step, when))
            if step % STEPS == 0:
                said.append(training.validate(step, when))
                said.append(Saved(step, "last", "checkpoints/last.pth", time=when))
                epoch = step // STEPS
                log.append(f"epoch {epoch} step {step}: loss={training.loss:.4f} miou={training.score:.4f}\n")
        training.step = last
        self.write(run, *said)
        with run.training_log.open("a", encoding="utf-8") as file:
            file.writelines(log)

    def end(self, run: Run, word: Event | None, *, code: int = 0, signal: str | None = None) -> None:
        """Its last word, if it has one, and its processes are gone; at the time of its last event."""
        training = self._trainings[run]
        at = self.store.summary(run).last_event
        rank = None if code == 0 else 0
        exited = Exited(training.attempt, code, signal, rank)
        events = [exited] if word is None else [word, exited]
        for event in events:
            object.__setattr__(event, "time", at)
        self.write(run, *events)
        self.processes.living.discard(training.pid)

    def measured(
        self, run: Run, seconds: float = 0.05, *, teacher: float | None = 0.08, spread: float = 0.08, **setup: Any
    ) -> Mapping[str, Any]:
        """Measure it: ``seconds`` of an image in torch, those of its teacher, and what the setup has otherwise."""
        row = self.store.summary(run)
        assert row.best_miou is not None and row.parameters is not None
        own = side(run.id, row.parameters, seconds, row.best_miou, spread=spread)
        taught = None
        if row.teacher_parameters is not None and row.teacher_miou is not None and teacher is not None:
            taught = side("teacher", row.teacher_parameters, teacher, row.teacher_miou, spread=spread)
        found = measurements(run.id, own, taught, **setup)
        run.measurements_path.write_text(json.dumps(found), encoding="utf-8")
        return found

    def write(self, run: Run, *events: Event) -> None:
        """Append events to its file."""
        with EventLog(run.events_path) as log:
            for event in events:
                log.append(event)


def people(folder: Path) -> Scene:
    """A store with a teacher, students of it, their baseline, and a run in every state; newest last."""
    scene = Scene(folder)
    teacher = scene.finished("b3-teacher", encoder="timm-efficientnet-b3", best=0.76, tags=("teacher",))
    scene.finished("b0-alone", best=0.68, tags=("baseline",))
    for seed, best in enumerate((0.701, 0.709, 0.697)):
        scene.finished("b0-from-b3", teacher=teacher, seed=seed, best=best, note="the seeds of the table")
    scene.finished("r18-from-b3", teacher=teacher, encoder="resnet18", best=0.66)
    scene.stopped("b0-a5", teacher=teacher, alpha=0.5)
    scene.failed("b0-hot", "the loss is no longer a number", hint="a lower learning rate", teacher=teacher)
    scene.killed("b0-wide", teacher=teacher)
    scene.lost("b0-night", teacher=teacher)
    scene.running("b0-quiet", epochs=12, silent=840, teacher=teacher, temperature=8.0)
    scene.running("b0-t2", epochs=44, teacher=teacher, temperature=2.0)
    scene.running("b0-t4", epochs=41, teacher=teacher)
    scene.queued("b0-t8", teacher=teacher, temperature=8.0)
    scene.queued("b0-t16", teacher=teacher, temperature=16.0)
    scene.never_launched("draft")
    return scene
