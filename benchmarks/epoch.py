"""What an epoch costs, against a plain PyTorch loop of the same student; and a launch until its first step.

The loop is what one would write without kdtui: segmentation-models-pytorch, a DataLoader, cross-entropy and Dice,
AdamW, the same precision and memory layout, decoded pictures, and the same augmentation by albumentations.
Everything runs on one thread, and processor time is counted. The ways are interleaved in one process, epoch by epoch,
and the minimum of the rounds is taken, so that the ratios hold on a machine that does other work too. ``make bench``.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from benchmarks.data import PICTURES, albumentations_of, folder
from kdtui.engine.data import IGNORE_INDEX, Source
from kdtui.engine.data.source import Size
from kdtui.engine.fit import Fit
from kdtui.engine.models import lay_out_channels_last
from kdtui.engine.network import build_student
from kdtui.engine.report import Report
from kdtui.engine.setup import TrainingSetup, set_up
from kdtui.profile import Distillation, FolderData, Model, Profile, Teacher, Training
from kdtui.store.identity import hostname, own_identity
from kdtui.store.run import LaunchRecord
from kdtui.store.store import RunStore

SIZE = Size(352, 480)
START_SIZE = Size(96, 128)  # at which the teacher's evaluation takes less than the imports
BATCH = 2
STEPS = 2  # of an epoch
ROUNDS = 3
STUDENT, TEACHER = "resnet18", "resnet34"
BARS = {"distilled, cached teacher": 1.03, "distilled, live teacher": 1.30}
START_BAR = 1.3
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_FIRST_STEP = """
import os, sys
from kdtui.engine import __main__ as engine
from kdtui.engine.fit import Fit
step = Fit._step
def first(self, batches):
    step(self, batches)
    os._exit(0)
Fit._step = first
sys.exit(engine.main(sys.argv[1:]))
"""
_LIBRARIES = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("compat", sys.argv[1])
compat = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compat)
compat.ensure_torchvision()
import torch, segmentation_models_pytorch, lightning_fabric
"""


class Decoded(Dataset[tuple[Tensor, Tensor]]):
    """Decoded pictures with their augmentation, as often as an epoch needs them."""

    def __init__(self, sources: list[Source], augment: Callable[[Source], Any]) -> None:
        self._sources, self._augment = sources, augment

    def __len__(self) -> int:
        return BATCH * STEPS

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        made = self._augment(self._sources[index % len(self._sources)])
        return made["image"], made["mask"].long()


def dice(logits: Tensor, masks: Tensor) -> Tensor:
    """One minus the mean of the Dice scores of the classes."""
    valid = (masks != IGNORE_INDEX)[:, None]
    truth = functional.one_hot(masks.clamp(max=logits.shape[1] - 1), logits.shape[1]).permute(0, 3, 1, 2) * valid
    shares = logits.softmax(dim=1) * valid
    both, sums = (shares * truth).sum((0, 2, 3)), (shares + truth).sum((0, 2, 3))
    return 1 - ((2 * both + 1) / (sums + 1)).mean()


def plain_loop(stage: TrainingSetup, augment: Callable[[Source], Any]) -> Callable[[], None]:
    """An epoch of a plain loop on the data, student and precision of a run."""
    sources = [stage.train_set.read(index) for index in range(PICTURES)]
    loader = DataLoader(Decoded(sources, augment), batch_size=BATCH, shuffle=True)
    student: nn.Module = build_student(stage.profile.student, task="semantic", classes=len(stage.classes)).train()
    layout = torch.contiguous_format
    if stage.channels_last:
        student, layout = lay_out_channels_last(student), torch.channels_last
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4, fused=True)
    half = stage.precision == "bf16"

    def epoch() -> None:
        for images, masks in loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                logits = student(images.to(memory_format=layout))
            logits = logits.float()
            loss = functional.cross_entropy(logits, masks, ignore_index=IGNORE_INDEX) + dice(logits, masks)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return epoch


def kdtui_epoch(stage: TrainingSetup, stack: contextlib.ExitStack) -> Callable[[], None]:
    """An epoch of a run without its evaluation, which the plain loop does not have either."""
    fit = Fit(stage, stack.enter_context(Report(stage.run, active=False)))
    fit.load_teacher()

    def epoch() -> None:
        fit.progress.epochs_done += 1
        fit.progress.step = fit.progress.epochs_done * stage.steps_per_epoch
        fit._train_epoch(fit.progress.epochs_done + 1)

    return epoch


def profile_of(data: FolderData, teacher: Path | None, cache: Literal["auto", "off"]) -> Profile:
    """The profile of one way."""
    return Profile(
        name="bench",
        data=data,
        student=Model(encoder=STUDENT),
        teacher=Teacher(checkpoint=str(teacher or ""), cache=cache),
        distillation=Distillation(enabled=teacher is not None),
        training=Training(
            epochs=1000, batch_size=BATCH, learning_rate=1e-4, threads=1, accelerator="cpu", visualize_every=-1
        ),
    )


def stage_of(store: RunStore, profile: Profile) -> TrainingSetup:
    """A run, set up in this process."""
    run = store.create(profile)
    record = LaunchRecord(
        attempt=1, host=hostname(), **own_identity(), job_id=None, argv=(), device="cpu", devices=1,
        total_epochs=None, created=time.time(),
    )  # fmt: skip
    run.write_launch_record(record)
    return set_up(run, record, world_size=1)


def teacher_file(root: Path) -> Path:
    """A checkpoint of an untrained teacher for the three classes of the pictures."""
    network = build_student(Model(encoder=TEACHER), task="semantic", classes=3)
    path = root / "teacher.pth"
    torch.save(network.state_dict(), path)
    return path


def least(ways: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Least processor seconds of each way over interleaved rounds; a first round warms up and fills the cache."""
    took = dict.fromkeys(ways, float("inf"))
    for number in range(ROUNDS + 1):
        for name, way in ways.items():
            begin = time.process_time()
            way()
            if number:
                took[name] = min(took[name], time.process_time() - begin)
    return took


def epochs(root: Path) -> Iterator[str]:
    """A line for each way to train an epoch."""
    made = folder(root / "data", SIZE, PICTURES)
    for part in ("images", "masks"):
        for number in range(PICTURES, BATCH * STEPS):  # the same pictures again under other names
            (source,) = (root / f"data/{part}/train").glob(f"{number % PICTURES}.*")
            os.link(source, source.with_stem(str(number)))
        (root / f"data/{part}/val").symlink_to("train")
    data = made.model_copy(update={"height": SIZE.height, "width": SIZE.width, "augmentation": "heavy", "views": 1})
    augment = albumentations_of("heavy", SIZE)
    store = RunStore(root / "runs")
    teacher = teacher_file(root)
    with contextlib.ExitStack() as stack:
        stages = {
            "student alone": stage_of(store, profile_of(data, None, "off")),
            "distilled, cached teacher": stage_of(store, profile_of(data, teacher, "auto")),
            "distilled, live teacher": stage_of(store, profile_of(data, teacher, "off")),
        }
        ways = {name: kdtui_epoch(stage, stack) for name, stage in stages.items()}
        stage = stages["student alone"]
        if augment is not None:
            ways = {"plain loop": plain_loop(stage, augment)} | ways
        took = least(ways)
    images = BATCH * STEPS
    yield (
        f"{TEACHER} -> {STUDENT} {SIZE.height}x{SIZE.width}, batch {BATCH}, {stage.precision}, "
        f"{'channels last, ' if stage.channels_last else ''}least of {ROUNDS} epochs of {STEPS} steps"
    )
    reference = "plain loop" if "plain loop" in took else "student alone"
    for name, seconds in took.items():
        bar = f" (bar {BARS[name]:.2f}x)" if name in BARS and reference == "plain loop" else ""
        yield f"{name}: {seconds / images * 1e3:.0f} ms/image, {seconds / took[reference]:.3f}x of the {reference}{bar}"
    own = took["distilled, cached teacher"] - took["student alone"]
    yield f"reading logits and the distillation loss: {own / took['student alone']:.1%} of the student alone"
    if augment is None:
        yield "the plain loop needs albumentations: pip install 'kdtui[bench]'"


def start(root: Path) -> str:
    """Processor time from the command to the first optimizer step, of all processes, against imports alone."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)  # the supervisor detaches itself; its time is counted here
    store, profile = root / "start", root / "start.toml"
    data = root / "data"
    profile.write_text(
        f'name = "start"\n[data]\nkind = "folder"\nroot = "{data}"\n'
        f"height = {START_SIZE.height}\nwidth = {START_SIZE.width}\n"
        f'[student]\nencoder = "{STUDENT}"\n[teacher]\ncheckpoint = "{root}/teacher.pth"\n'
        f'[distillation]\nenabled = true\n[training]\nbatch_size = {BATCH}\nthreads = 1\naccelerator = "cpu"\n'
    )
    first = root / "first.py"
    first.write_text(_FIRST_STEP)
    compat = importlib.import_module("kdtui.engine.torchvision_compat").__file__
    ways = {
        "launch": ([sys.executable, "-m", "kdtui", "train", str(profile), "--runs-dir", str(store), "--detach"],
                   {"KDTUI_ENGINE": shlex.join([sys.executable, str(first)])}),
        "imports": ([sys.executable, "-c", _LIBRARIES, str(compat)], {}),
    }  # fmt: skip
    took = dict.fromkeys(ways, float("inf"))
    for _ in range(2):
        for name, (argv, own) in ways.items():
            before = _of_children()
            environment = os.environ | {"KDTUI_SLOT_DIR": str(root / "slots")} | own
            subprocess.run(argv, check=True, env=environment, stdout=subprocess.DEVNULL)
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.wait()
            took[name] = min(took[name], _of_children() - before)
    return (
        f"launch to the first step at {START_SIZE.height}x{START_SIZE.width}: {took['launch']:.1f} s, "
        f"{took['launch'] / took['imports']:.2f}x of importing "
        f"torch, smp and Fabric ({took['imports']:.1f} s; bar {START_BAR:.2f}x); the teacher's evaluation of "
        f"{PICTURES} images and the first step of {BATCH} included"
    )


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print a line per way."""
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, processor time")
    with tempfile.TemporaryDirectory() as place:
        for line in epochs(Path(place)):
            print(line, flush=True)
        print(start(Path(place)), flush=True)


if __name__ == "__main__":
    main()
