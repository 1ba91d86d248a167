"""The training loop, read top to bottom: one path for one device and for many."""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kdtui import events
from kdtui.engine import checkpoint
from kdtui.engine.data import (
    IGNORE_INDEX,
    Batch,
    SegmentationDataset,
    build_dataset,
    eval_loader,
    steps_per_epoch,
    train_loader,
)
from kdtui.engine.evaluate import Predict, StopAsked, evaluate, predictor, to_device
from kdtui.engine.metrics import Scores
from kdtui.engine.models import build_network, compose, count_parameters, stride
from kdtui.engine.precision import choose_channels_last, choose_precision, fabric_precision
from kdtui.engine.report import Report
from kdtui.engine.resume import Progress, capture, restore
from kdtui.engine.schedules import warmup_cosine
from kdtui.engine.task import FrozenTeacher, Objective, StepShare
from kdtui.engine.teacher import TeacherReport, load_teacher
from kdtui.engine.teacher_cache import TeacherCache, data_fingerprint
from kdtui.engine.visualize import write_panels
from kdtui.errors import CheckpointError, DivergedError
from kdtui.profile import Profile
from kdtui.store.identity import own_identity
from kdtui.store.run import LaunchRecord, Run

# Steps between two looks at the stop file when several ranks must hear the same answer.
_STOP_EVERY = 5
_PICTURES = 4


@dataclass
class TeacherBeside:
    """The frozen teacher with what it scored on the validation set."""

    frozen: FrozenTeacher
    report: TeacherReport
    scores: Scores
    predictions: np.ndarray


def train(run: Run, record: LaunchRecord, *, rank: int, world_size: int) -> str:
    """Train the run's student until it is finished, stopped or failed.

    Args:
        run: Holds the resolved profile; receives checkpoints, logs and pictures.
        record: The launch this process belongs to (attempt, horizon, device).
        rank: This process among ``world_size``.
        world_size: Ranks, each its own process.

    Returns:
        The last word: ``finished`` or ``stopped``.
    """
    profile = run.profile()
    fabric = _fabric(profile, record, world_size)
    with Report(run, active=rank == 0) as report:
        # Whoever asks politely ends up at the same place: the stop file.
        signal.signal(signal.SIGTERM, lambda *_: run.request_stop())
        return _Fit(run, record, profile, fabric, report).train()


def _fabric(profile: Profile, record: LaunchRecord, world_size: int) -> Fabric:
    device_type = "cpu" if record.device.startswith("cpu") or not torch.cuda.is_available() else "cuda"
    if profile.training.threads:
        torch.set_num_threads(profile.training.threads)
    fabric = Fabric(
        accelerator=device_type,
        devices=world_size,
        strategy="ddp" if world_size > 1 else "auto",
        precision=fabric_precision(choose_precision(profile, device_type)),  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def _derived_seed(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


class _Fit:
    """One attempt at a run. The methods stand in the order in which they are called."""

    def __init__(self, run: Run, record: LaunchRecord, profile: Profile, fabric: Fabric, report: Report) -> None:
        self.run, self.record, self.profile, self.fabric, self.report = run, record, profile, fabric, report
        settings = profile.training
        self.precision = choose_precision(profile, fabric.device.type)
        self.channels_last = choose_channels_last(profile, self.precision)
        self.accumulate = 1
        if settings.micro_batch_size is not None:
            self.accumulate = settings.batch_size // fabric.world_size // settings.micro_batch_size

        network_stride = stride(profile.student)
        self.train_set = build_dataset(profile.data, "train", stride=network_stride, seed=profile.seed)
        self.val_set = build_dataset(profile.data, "val", stride=network_stride, seed=profile.seed)
        self.classes = self.val_set.classes
        self.task = profile.data.task
        self.steps_per_epoch = steps_per_epoch(self.train_set, settings)

        # The same weights on every rank and for every student of this seed, whatever was drawn before.
        torch.manual_seed(_derived_seed(profile.seed, "weights"))
        self.student = build_network(profile.student, task=self.task, classes=len(self.classes))
        if self.channels_last:
            self.student.to(memory_format=torch.channels_last)
        torch.manual_seed(_derived_seed(profile.seed, "steps", fabric.global_rank))
        start = self._checkpoint_to_start_from()
        if start is not None:
            self._load_student(start)
        elif fabric.global_rank == 0:
            checkpoint.save(run.untrained, self._payload())
        optimizer = torch.optim.AdamW(_groups(self.student, settings.weight_decay), **self._adamw())
        self.module, self.optimizer = fabric.setup(self.student, optimizer)

        self.progress, self.total_epochs = Progress(), record.total_epochs or settings.epochs
        self.resumed = start.get("resume") if start is not None else None
        if self.resumed is not None:
            self.progress = restore(fabric, self.resumed, self.optimizer)
            if record.total_epochs is None and record.attempt > 1:
                self.total_epochs = self.resumed["total_epochs"]
            if self.resumed["steps_per_epoch"] != self.steps_per_epoch:
                # Another batch size or data: steps are counted in epochs of this run, from the last whole one.
                self.progress.step = self.progress.epochs_done * self.steps_per_epoch
                self.progress.window = []
        self.total_steps = self.total_epochs * self.steps_per_epoch
        self.predict_student: Predict = predictor(
            self.student, fabric, task=self.task, channels_last=self.channels_last
        )
        self.teacher: TeacherBeside | None = None
        self.objective = Objective(profile.distillation, ignore_index=IGNORE_INDEX)
        self._looks = 0

    # -- before the first step ------------------------------------------------------------------------------------

    def _checkpoint_to_start_from(self) -> dict[str, Any] | None:
        """Our own last state on a further attempt, else the state a new run was told to start from."""
        if self.record.attempt > 1 and self.run.last.exists():
            return checkpoint.load(self.run.last)
        source = self.run.manifest().resume_from
        return checkpoint.load(source) if source else None

    def _load_student(self, start: dict[str, Any]) -> None:
        if start.get("format") != checkpoint.FORMAT:
            raise CheckpointError(
                "this is no checkpoint of kdtui, so there is nothing to resume",
                where=self.run.manifest().resume_from,
                hint="a foreign checkpoint can be a teacher: --teacher-checkpoint FILE",
            )
        checkpoint.load_student(self.student, start["student"], where=self.run.manifest().resume_from or self.run.last)

    def _adamw(self) -> dict[str, Any]:
        # fp16's scaler unscales inside a fused step, which gradient clipping needs done before.
        return {"lr": self.profile.training.learning_rate, "fused": self.precision != "fp16"}

    def _load_teacher(self) -> TeacherBeside | None:
        teacher = self.profile.teacher
        if teacher.checkpoint is None or not self.profile.distillation.enabled:
            return None
        network, report = load_teacher(teacher.checkpoint, teacher=teacher, task=self.task, classes=len(self.classes))
        network.to(self.fabric.device)
        if self.channels_last:
            network.to(memory_format=torch.channels_last)
        frozen = FrozenTeacher(network, task=self.task, autocast=self.fabric.autocast)
        cache = TeacherCache(
            self.run.path.parent / ".cache" / "teachers",
            teacher_sha256=report.sha256,
            fingerprint=data_fingerprint(self.profile.data, "val"),
            precision=f"{self.precision}, {self.fabric.device.type}, {stride(self.profile.student)}",
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
        )
        kept = cache.read()
        if not self._all_ranks(kept is not None):
            height, width = self.val_set[(0, 0)].mask.shape
            loader = self._val_loader()
            predict = predictor(network, self.fabric, task=self.task, channels_last=self.channels_last)

            def ask(store: np.ndarray) -> Scores:
                return self._evaluate(predict, loader, store=store)

            shape = (_samples_of(loader), height, width)
            kept = cache.write(shape, ask, last=self.fabric.global_rank == 0)
        assert kept is not None
        return TeacherBeside(frozen, report, *kept)

    def _all_ranks(self, answer: bool) -> bool:
        together = self.fabric.all_reduce(torch.tensor(float(answer), device=self.fabric.device), reduce_op="sum")
        return bool(together.item() == self.fabric.world_size)

    def _announce(self) -> None:
        identities: list[Any] = [own_identity()]
        if self.fabric.world_size > 1:
            identities = [None] * self.fabric.world_size
            torch.distributed.all_gather_object(identities, own_identity())
        counts, teacher = count_parameters(self.student), self.teacher
        self.report.started(
            events.Started(
                attempt=self.record.attempt,
                ranks=tuple(identities),
                device=self.fabric.device.type,
                precision=self.precision,
                channels_last=self.channels_last,
                threads=torch.get_num_threads(),
                world_size=self.fabric.world_size,
                epochs=self.total_epochs,
                steps_per_epoch=self.steps_per_epoch,
                resumed_step=self.progress.step,
                student={"parameters": counts.stored, "parameters_used": counts.used},
                teacher=None
                if teacher is None
                else {
                    "parameters": teacher.report.parameters,
                    "parameters_used": teacher.report.parameters_used,
                    "encoder": teacher.report.encoder,
                    "architecture": teacher.report.architecture,
                    "sha256": teacher.report.sha256,
                    "miou": teacher.scores.miou,
                    "iou": teacher.scores.iou,
                },
            )
        )
        if self.resumed is None:
            return
        if self.record.attempt == 1:
            self.report.replay(self.progress.history)
        former = self.resumed["total_epochs"]
        if former != self.total_epochs:
            before = warmup_cosine(
                self.progress.step, former * self.steps_per_epoch, warmup=self.profile.training.warmup
            )
            peak = self.profile.training.learning_rate
            self.report.say(
                events.Noted(
                    f"the horizon moves from {former} to {self.total_epochs} epochs: at step {self.progress.step} the "
                    f"learning rate jumps from {before * peak:.3g} to {self._learning_rate():.3g}"
                )
            )

    # -- the loop -------------------------------------------------------------------------------------------------

    def train(self) -> str:
        """All epochs from where the progress stands; the last word is written and returned."""
        progress = self.progress
        try:
            self.teacher = self._load_teacher()
            self._announce()
            reason = self._early_stop()
            while progress.epochs_done < self.total_epochs and reason is None:
                self._train_epoch(progress.epochs_done + 1)
                self._finish_epoch(progress.epochs_done + 1)
                reason = self._early_stop()
        except StopAsked:
            self._save([(self.run.last, "last")])
            self.report.say(events.Stopped(step=progress.step, epoch=self._epoch()))
            return "stopped"
        self.report.say(
            events.Finished(step=progress.step, epoch=progress.epochs_done, reason=reason or "all epochs done")
        )
        return "finished"

    def _train_epoch(self, epoch: int) -> None:
        progress, settings = self.progress, self.profile.training
        done = progress.step - (epoch - 1) * self.steps_per_epoch
        loader = train_loader(
            self.train_set,
            settings,
            seed=self.profile.seed,
            epoch=epoch,
            start_step=done,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
        )
        self.module.train()
        micro_batches = iter(loader)
        self._clock = time.perf_counter()
        self._images_since = 0
        for _ in range(done, self.steps_per_epoch):
            self._raise_if_asked_to_stop()
            self._step(list(islice(micro_batches, self.accumulate)))
            at_end = progress.step % self.steps_per_epoch == 0
            if at_end or progress.step % settings.log_every == 0:
                self._report_training(epoch)

    def _step(self, micro_batches: list[Batch]) -> None:
        """One optimizer step over ``micro_batches`` of this rank."""
        share = self._share(micro_batches)
        parts: dict[str, Tensor] = {}
        for index, batch in enumerate(micro_batches):
            images = to_device(batch.images, self.fabric, channels_last=self.channels_last)
            masks = batch.masks.to(self.fabric.device, non_blocking=True)
            teacher_logits = self.teacher.frozen.logits(images) if self.teacher is not None else None
            with self.fabric.no_backward_sync(self.module, enabled=index < len(micro_batches) - 1):
                student_logits = compose(self.module(images), self.task)
                terms = self.objective(student_logits, teacher_logits, masks, share)
                self.fabric.backward(terms.total)
            for name, value in terms.parts.items():
                parts[name] = parts[name] + value if name in parts else value
        clip = self.profile.training.gradient_clip
        if clip:
            norm = self.fabric.clip_gradients(self.module, self.optimizer, max_norm=clip, error_if_nonfinite=False)
            assert norm is not None
            parts["gradient_norm"] = norm.detach()
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.progress.step += 1
        self._part_names = tuple(parts)
        self.progress.window.append(torch.stack([value.float() for value in parts.values()]))
        self._images_since += self.profile.training.batch_size

    def _share(self, micro_batches: list[Batch]) -> StepShare:
        valid = sum((batch.masks != IGNORE_INDEX).sum() for batch in micro_batches)
        total = self.fabric.all_reduce(torch.as_tensor(valid, device=self.fabric.device).double(), reduce_op="sum")
        return StepShare(
            valid_pixels=max(1.0, float(total)),  # device-to-host sync, of a number that came from the host
            images=self.profile.training.batch_size,
            world_size=self.fabric.world_size,
        )

    def _learning_rate(self) -> float:
        settings = self.profile.training
        return settings.learning_rate * warmup_cosine(self.progress.step, self.total_steps, warmup=settings.warmup)

    def _report_training(self, epoch: int) -> None:
        """Close the window: one reduction over ranks and one device-to-host sync for all steps in it."""
        progress = self.progress
        window = self.fabric.all_reduce(torch.stack(progress.window), reduce_op="mean").cpu()
        self._raise_if_diverged(window)
        means = window.mean(dim=0).tolist()
        progress.window = []
        elapsed = time.perf_counter() - self._clock
        scalars: dict[str, float | None] = dict(zip(self._part_names, means, strict=True))
        scalars["lr"] = self.optimizer.param_groups[0]["lr"]
        if self.teacher is not None:
            scalars["temperature"] = self.profile.distillation.temperature
            scalars["alpha"] = self.profile.distillation.alpha
        scalars["images_per_second"] = round(self._images_since / elapsed, 3)
        self._clock, self._images_since = time.perf_counter(), 0
        self._last_train = self._measured("train", epoch, scalars)
        self.report.measured(self._last_train)

    def _raise_if_diverged(self, window: Tensor) -> None:
        finite = torch.isfinite(window)
        # fp16 overflows now and then by design: its scaler skips that step and lowers the scale.
        losses = [index for index, name in enumerate(self._part_names) if name != "gradient_norm"]
        broken = (~finite[:, losses]).any(dim=1).nonzero()
        if not len(broken):
            return
        first = int(broken[0])
        parts = [self._part_names[index] for index in losses if not finite[first, index]]
        last_good = self.run.last if self.run.last.exists() else self.run.untrained
        raise DivergedError(
            f"the loss is no longer finite at step {self.progress.step - len(window) + first + 1}",
            where=", ".join(parts),
            found=", ".join(f"{self._part_names[index]}={float(window[first, index])}" for index in losses),
            allowed="finite numbers",
            hint=f"lower the rate (--set training.learning_rate={self.profile.training.learning_rate / 10:g}) and "
            f"start again; the last good checkpoint is {last_good.name}",
        )

    def _measured(self, split: str, epoch: int, scalars: dict[str, float | None]) -> events.Measured:
        return events.Measured(
            split=split,
            step=self.progress.step,
            epoch=epoch,
            images=self.progress.step * self.profile.training.batch_size,
            scalars=scalars,
            epochs=self.total_epochs if split == "val" else None,
        )

    # -- after each epoch -----------------------------------------------------------------------------------------

    def _finish_epoch(self, epoch: int) -> None:
        progress = self.progress
        self._share_buffers()
        theirs = self.teacher.predictions if self.teacher is not None else None
        scores = self._evaluate(self.predict_student, self._val_loader(), teacher_predictions=theirs)
        if progress.best_miou is None or scores.miou > progress.best_miou:
            progress.best_miou, progress.best_epoch, progress.best_iou = scores.miou, epoch, scores.iou
        scalars = scores.scalars()
        scalars["best_miou"] = progress.best_miou
        scalars["best_epoch"] = float(progress.best_epoch)
        if self.teacher is not None and self.teacher.scores.miou > 0:
            scalars["retention"] = scores.miou / self.teacher.scores.miou
        point = self._measured("val", epoch, scalars)
        progress.epochs_done = epoch
        for kept in (self._last_train, point):
            if kept is not None:
                progress.history.append({name: value for name, value in vars(kept).items() if name != "kind"})
        self.report.measured(point)
        targets = [(self.run.epoch_checkpoint(epoch), "epoch"), (self.run.last, "last")]
        if progress.best_epoch == epoch:
            targets.append((self.run.best, "best"))
        self._save(targets)
        every = self.profile.training.visualize_every
        if every and self.fabric.global_rank == 0 and (epoch % every == 0 or epoch == self.total_epochs):
            self._visualize(epoch)

    def _share_buffers(self) -> None:
        """Rank 0's running statistics everywhere: DDP shares them only at the next training forward."""
        if self.fabric.world_size > 1:
            for buffer in self.student.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def _val_loader(self) -> DataLoader[Batch]:
        settings = self.profile.training
        per_rank = settings.micro_batch_size or max(1, settings.batch_size // self.fabric.world_size)
        return eval_loader(
            self.val_set,
            max(per_rank, 8),
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
            workers=settings.workers,
        )

    def _evaluate(self, predict: Predict, loader: DataLoader[Batch], **more: Any) -> Scores:
        self.student.eval()
        scores = evaluate(
            predict,
            loader,
            classes=self.classes,
            device=self.fabric.device,
            between_batches=_for_every_rank(self._raise_if_asked_to_stop, len(self.val_set), loader, self.fabric),
            **more,
        )
        self.student.train()
        return scores

    def _visualize(self, epoch: int) -> None:
        count = min(_PICTURES, len(self.val_set))
        samples = [self.val_set[(index, 0)] for index in range(count)]
        images = torch.stack([sample.image for sample in samples])
        masks = torch.stack([sample.mask for sample in samples])
        self.student.eval()
        student = self.predict_student(images)
        self.student.train()
        teacher = None
        if self.teacher is not None:
            teacher = self.teacher.frozen.logits(images.to(self.fabric.device)).main.argmax(1).cpu().numpy()
        folder = self.run.visualization(epoch)
        write_panels(folder, images, masks, student, teacher, classes=len(self.classes))
        self.report.say(events.Visualized(epoch=epoch, path=str(folder.relative_to(self.run.path))))

    def _save(self, targets: list[tuple[Any, str]]) -> None:
        """Write one state under several names; every rank takes part, rank 0 writes."""
        resume = capture(
            self.fabric,
            self.progress,
            self.optimizer,
            total_epochs=self.total_epochs,
            steps_per_epoch=self.steps_per_epoch,
        )
        if self.fabric.global_rank != 0:
            return
        (first, _), *others = targets
        checkpoint.save(first, self._payload(resume))
        for target, _ in others:
            checkpoint.same_as(first, target)
        for target, tag in targets:
            monitored = tag == "best"
            self.report.say(
                events.Saved(
                    step=self.progress.step,
                    tag=tag,
                    path=str(target.relative_to(self.run.path)),
                    monitor="val/miou" if monitored else None,
                    value=self.progress.best_miou if monitored else None,
                )
            )
        for old in self.run.epoch_checkpoints()[: -self.profile.training.keep_checkpoints]:
            old.unlink()

    def _payload(self, resume: dict[str, Any] | None = None) -> dict[str, Any]:
        payload: dict[str, Any] = {
            "format": checkpoint.FORMAT,
            "student": self.student.state_dict(),
            "model": self.profile.student.model_dump(mode="json", exclude_none=True),
            "task": self.task,
            "classes": list(self.classes),
            "data": {"height": self.profile.data.height, "width": self.profile.data.width},
            "run": self.run.id,
        }
        if resume is not None:
            payload |= {"step": resume["step"], "epoch": resume["epochs_done"], "best": resume["best_miou"]}
            payload["resume"] = resume
        return payload

    # -- ends -----------------------------------------------------------------------------------------------------

    def _early_stop(self) -> str | None:
        patience, progress = self.profile.training.early_stopping, self.progress
        if patience and progress.best_epoch and progress.epochs_done - progress.best_epoch >= patience:
            return f"no better mIoU in {patience} epochs (best {progress.best_miou:.4f} in epoch {progress.best_epoch})"
        return None

    def _epoch(self) -> int:
        return min(self.progress.step // self.steps_per_epoch + 1, self.total_epochs)

    def _raise_if_asked_to_stop(self) -> None:
        """Only rank 0 looks; every rank hears the same answer at the same step."""
        if self.fabric.world_size == 1:
            asked = self.run.stop_requested()
        else:
            self._looks += 1
            if self._looks % _STOP_EVERY:
                return
            asked = self.fabric.broadcast(self.run.stop_requested() if self.fabric.global_rank == 0 else None)
        if asked:
            raise StopAsked

    _last_train: events.Measured | None = None
    _part_names: tuple[str, ...] = ()


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices and kernels decay; biases and normalisation do not. Frozen parameters are in no group."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _samples_of(loader: DataLoader[Batch]) -> int:
    return sum(len(indices) for indices in loader.batch_sampler)  # type: ignore[union-attr, arg-type]


def _for_every_rank(
    look: Callable[[], None], samples: int, loader: DataLoader[Batch], fabric: Fabric
) -> Callable[[], None]:
    """``look``, called as often on every rank as the one with the fewest batches has batches.

    A look is a collective operation: a rank with one batch more would wait in it for ever.
    """
    fewest = samples // fabric.world_size
    batch_size = max((len(indices) for indices in loader.batch_sampler), default=1)  # type: ignore[union-attr, arg-type]
    remaining = iter(range(-(-fewest // batch_size)))

    def looked() -> None:
        if next(remaining, None) is not None:
            look()

    return looked
