"""The training loop, the same for one device and for several."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor

from kdtui import events
from kdtui.engine.announcement import announce, note_once
from kdtui.engine.compiling import compile_networks
from kdtui.engine.counts import counts_file
from kdtui.engine.data import IGNORE_INDEX, Batch, Batches, evaluated_indices, picture_labels, train_loader
from kdtui.engine.evaluate import (
    Evaluation,
    Predict,
    StopRequested,
    evaluate,
    extras_to_device,
    predictor,
    to_device,
    write_panels,
)
from kdtui.engine.losses import Labels, StepShare
from kdtui.engine.losses.class_weights import weights_text
from kdtui.engine.metrics import Scores
from kdtui.engine.models import Outputs, outputs_of
from kdtui.engine.network import network_kind
from kdtui.engine.optimizers import clip_gradients
from kdtui.engine.ranks import reduced
from kdtui.engine.report import Report
from kdtui.engine.sanity import balance_warnings, data_warnings, score_warnings, teacher_warnings
from kdtui.engine.saving import save_state
from kdtui.engine.schedules import alpha_at, temperature_at
from kdtui.engine.setup import TrainingSetup, set_up
from kdtui.engine.teacher_doubts import kept_doubts
from kdtui.engine.teacher_evaluation import EvaluatedTeacher, evaluate_teacher
from kdtui.engine.teacher_logits import TeacherLogits, teacher_logits
from kdtui.errors import DivergedError, StoreError
from kdtui.palette import class_colours
from kdtui.profile import Profile
from kdtui.store.run import LaunchRecord, Run, write_atomically
from kdtui.text import counted

# Steps between two checks of the stop file with several ranks, as each check is a collective.
_STOP_EVERY = 5
_PICTURES = 4
_COLD = 0.01
"""Temperature below which a hint suggests a higher one."""


def train(run: Run, record: LaunchRecord, *, rank: int, world_size: int) -> str:
    """Train the run's student until it is finished, stopped or failed.

    Args:
        run: The run; checkpoints, logs and pictures are written to its folder.
        record: The launch record (attempt, number of epochs, device).
        rank: The rank of this process.
        world_size: Number of ranks, each a separate process.

    Returns:
        The kind of the final event: ``finished`` or ``stopped``.
    """
    stage = set_up(run, record, world_size=world_size)
    with Report(run, active=rank == 0) as report:
        word = Fit(stage, report).train()
    # Ranks end together, and the caller ends each with `leave`, which explains why the process group is not destroyed.
    stage.fabric.barrier()
    return word


class _Prepared(NamedTuple):
    """A micro-batch on the device, with the teacher's outputs, and the totals of the optimizer step."""

    images: Tensor
    labels: Labels
    teacher: Outputs | None
    share: StepShare
    unlabelled: bool


class Fit:
    """One attempt of a run. The methods are in the order in which they are called.

    Args:
        stage: The attempt, set up.
        report: Writer of events and logs.
    """

    def __init__(self, stage: TrainingSetup, report: Report) -> None:
        self.stage, self.report = stage, report
        self.progress = stage.progress
        self.objective = stage.trainable.objective
        self.kind = network_kind(stage.profile.student)
        self.predict_student = predictor(
            stage.evaluated, stage.fabric, task=stage.task, channels_last=stage.channels_last
        )
        self.teacher: EvaluatedTeacher | None = None
        self.teacher_logits: TeacherLogits | None = None
        self._looks = 0
        self._scores: Scores | None = None  # of the last epoch of this attempt
        self._part_names: tuple[str, ...] = ()

    def train(self) -> str:
        """Train all remaining epochs; write the final event and return its kind."""
        progress, total_epochs = self.progress, self.stage.total_epochs
        try:
            self.load_teacher()
            announce(self.stage, self.report, None if self.teacher is None else self.teacher.described())
            for note in () if self.teacher is None else (self.teacher.note, self.teacher.members_text()):
                if note:
                    note_once(self.stage, self.report, note)
            if self.teacher_logits is not None and self.stage.resumed is None:
                self.report.say(events.Noted(self.teacher_logits.described()))
            for name, weights in self.objective.class_weights.items():
                text = weights_text(weights, self.stage.classes)
                samples = counted(len(self.stage.train_set), "training sample")
                note_once(self.stage, self.report, f"class weights of {name} from the labels of {samples}: {text}")
            self._warn_before_training()
            self._compile()
            reason = self._early_stop()
            while progress.epochs_done < total_epochs and reason is None:
                self._train_epoch(progress.epochs_done + 1)
                self._warn_of_balance(progress.epochs_done + 1)
                self._finish_epoch(progress.epochs_done + 1)
                reason = self._early_stop()
        except StopRequested:
            if progress.window:
                self._raise_if_diverged(self._window())
            save_state(self.stage, self.report, [(self.stage.run.last, "last")], score=self.kind.score)
            epoch = min(progress.step // self.stage.steps_per_epoch + 1, total_epochs)
            reason = self.stage.run.stop_reason()
            self.report.say(events.Stopped(step=progress.step, epoch=epoch, reason=reason))
            return "stopped"
        if self._scores is not None and progress.best_miou is not None:
            teacher_scores = None if self.teacher is None else self.teacher.scores
            self.report.warn(score_warnings(self._scores, progress.best_miou, teacher_scores))
        self.report.say(
            events.Finished(step=progress.step, epoch=progress.epochs_done, reason=reason or "all epochs done")
        )
        return "finished"

    def load_teacher(self) -> None:
        """Evaluate the teacher on the validation set, unless its predictions are cached."""
        device = self.stage.fabric.device
        # The student's random numbers must not depend on whether the teacher is evaluated, or in which attempt.
        with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
            self.teacher = evaluate_teacher(
                self.stage, lambda predict, batches, store: self._evaluate(predict, batches, store=store)
            )
            if self.teacher is not None and self.stage.teacher is not None:
                self.teacher_logits = teacher_logits(self.stage, self.stage.teacher)

    def _compile(self) -> None:
        """Compile the networks that see training images, where that is possible and faster."""
        if self.stage.profile.training.compile == "off":
            return
        live = None if self.teacher is None or self.teacher_logits is not None else self.teacher.frozen
        for line in compile_networks(self.stage, live):
            self.report.say(events.Noted(line))

    def _warn_before_training(self) -> None:
        stage = self.stage
        if not stage.leads:
            return
        warnings = [*stage.warnings, *([] if self.teacher is None else teacher_warnings(self.teacher.scores))]
        if stage.resumed is None:
            doubts = []
            if stage.teacher is not None:
                doubts = kept_doubts(stage.run.path.parent, stage.profile, stage.teacher, stage.val_set)
            # Chance is compared with the score on the whole split.
            doubts = [doubt for doubt in doubts if doubt.code != "teacher-near-chance"]
            warnings = [*data_warnings(stage.profile, stage.train_set, stage.val_set), *warnings, *doubts]
        self.report.warn(warnings)

    def _warn_of_balance(self, epoch: int) -> None:
        """After the first epoch, report a distillation term next to which the others hardly count."""
        if epoch == 1 and self.progress.train_point:
            self.report.warn(balance_warnings(self.stage.profile.distillation, self.progress.train_point["scalars"]))

    # -- an epoch -------------------------------------------------------------------------------------------------

    def _train_epoch(self, epoch: int) -> None:
        stage, progress = self.stage, self.progress
        done = progress.step - (epoch - 1) * stage.steps_per_epoch
        batches = train_loader(
            stage.train_set,
            stage.profile.training,
            seed=stage.profile.seed,
            epoch=epoch,
            start_step=done,
            rank=stage.fabric.global_rank,
            world_size=stage.fabric.world_size,
            unlabelled=stage.unlabelled,
            waiting=stage.while_waiting,
        )
        stage.module.train()
        self._schedule(epoch)
        micro_batches, per_step = iter(batches), len(batches) // (stage.steps_per_epoch - done or 1)
        self._clock, self._images_since, self._waited = time.perf_counter(), 0, 0.0
        for _ in range(done, stage.steps_per_epoch):
            self._raise_if_asked_to_stop()
            began = time.perf_counter()
            loaded = list(islice(micro_batches, per_step))
            self._waited += time.perf_counter() - began
            self._step(loaded)
            at_end = progress.step % stage.steps_per_epoch == 0
            if at_end or progress.step % stage.profile.training.log_every == 0:
                self._report_training(epoch)

    def _schedule(self, epoch: int) -> None:
        """Set what the schedules say for an epoch."""
        self.stage.freeze(epoch)
        table, epochs = self.stage.profile.distillation, self.stage.total_epochs
        retentions = (point["scalars"].get("retention") for point in self.progress.history)
        self.objective.schedule(
            temperature=temperature_at(table, epoch, epochs),
            alpha=alpha_at(table, epoch, epochs, (share for share in retentions if share is not None)),
        )

    def _step(self, micro_batches: list[Batch]) -> None:
        """One optimizer step over ``micro_batches`` of this rank."""
        stage, fabric = self.stage, self.stage.fabric
        parts = self.backward(micro_batches)
        if stage.leads:
            for message in {text for batch in micro_batches for text in batch.skipped}:
                note_once(stage, self.report, f"skipped: {message}")
        clip = stage.profile.training.gradient_clip
        if clip:
            parts["gradient_norm"] = clip_gradients(fabric, stage.module, stage.optimizer, clip)
        for group in stage.optimizer.param_groups:
            group["lr"] = stage.learning_rate() * group.get("lr_scale", 1.0)
        stage.optimizer.step()
        stage.optimizer.zero_grad()
        self.progress.step += 1
        if stage.ema is not None:
            stage.ema.update(stage.student, step=self.progress.step)
        self._part_names = tuple(parts)
        self.progress.window.append(torch.stack([value.float() for value in parts.values()]))
        self._images_since += stage.profile.training.batch_size

    def backward(self, micro_batches: list[Batch]) -> dict[str, Tensor]:
        """Compute the gradients of one optimizer step; return the loss parts, summed over the micro-batches."""
        stage, fabric = self.stage, self.stage.fabric
        parts: dict[str, Tensor] = {}
        for index, one in enumerate(self._prepared(micro_batches)):
            # DDP reduces gradients once per step, with the last micro-batch.
            with fabric.no_backward_sync(stage.module, enabled=index < len(micro_batches) - 1):
                raw, features = stage.module(one.images, one.labels.extras)
                outputs = outputs_of(stage.student, raw, stage.task, features)
                if one.unlabelled:
                    assert one.teacher is not None
                    terms = self.objective.unlabelled(outputs, one.teacher, one.labels, one.share)
                else:
                    terms = self.objective(outputs, one.teacher, one.labels, one.share)
                fabric.backward(terms.total)
            for name, value in terms.parts.items():
                parts[name] = parts[name] + value if name in parts else value
        return dict(sorted(parts.items(), key=lambda part: part[0].startswith(("loss.unlabelled", "confident"))))

    def _prepared(self, micro_batches: list[Batch]) -> Iterator[_Prepared]:
        """The micro-batches of a step, those without labels and the others each with their own totals."""
        by_kind = [[batch for batch in micro_batches if (batch.weak is None) == labelled] for labelled in (False, True)]
        # Totals are collectives: those of a step come before its first forward pass.
        ready = [self._shared(batches) for batches in by_kind if batches]
        return chain.from_iterable(ready)

    def _shared(self, micro_batches: list[Batch]) -> Iterable[_Prepared]:
        share, unlabelled = self._share(micro_batches), micro_batches[0].weak is not None
        outputs: Iterable[Outputs | None] = map(self._teacher_outputs, micro_batches)
        if self.objective.has_masses(unlabelled=unlabelled):
            known: Iterable[Outputs | None] = [None] * len(micro_batches)
            if self.objective.has_teacher_masses(unlabelled=unlabelled):
                outputs = known = list(outputs)
            each = [
                self.objective.masses(teacher, self._labels(batch), unlabelled=unlabelled)
                for teacher, batch in zip(known, micro_batches, strict=True)
            ]
            share = dataclasses.replace(share, masses=self._summed(each))
        return (
            _Prepared(self._on_device(batch.images), self._labels(batch), teacher, share, unlabelled)
            for teacher, batch in zip(outputs, micro_batches, strict=True)
        )

    def _on_device(self, images: Tensor) -> Tensor:
        return to_device(images, self.stage.fabric, channels_last=self.stage.channels_last)

    def _teacher_outputs(self, batch: Batch) -> Outputs | None:
        if self.teacher is None:
            return None
        images = self._on_device(batch.images if batch.weak is None else batch.weak)
        if self.teacher_logits is not None:
            return self.teacher.frozen.composed(self.teacher_logits.raw(batch.keys, images))
        return self.teacher.frozen.outputs(images, extras_to_device(batch.extras, self.stage.fabric))

    def _labels(self, batch: Batch) -> Labels:
        fabric = self.stage.fabric
        masks, extras = batch.masks.to(fabric.device, non_blocking=True), extras_to_device(batch.extras, fabric)
        pictures = None
        if self.objective.of_pictures:
            pictures = Labels(picture_labels(batch).to(fabric.device, non_blocking=True), IGNORE_INDEX, extras)
        return Labels(masks, IGNORE_INDEX, extras, pictures)

    def _summed(self, each: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The masses of the micro-batches, summed over the whole optimizer step; a collective with several ranks."""
        masses = torch.stack([torch.stack([mass[name] for mass in each]).sum() for name in each[0]])
        return dict(zip(each[0], reduced(self.stage.fabric, masses, "sum"), strict=True))

    def _share(self, micro_batches: list[Batch]) -> StepShare:
        share = self._totals([batch.masks for batch in micro_batches])
        if self.objective.of_pictures:
            share = dataclasses.replace(share, pictures=self._totals(list(map(picture_labels, micro_batches))))
        return share

    def _totals(self, label_maps: Sequence[Tensor]) -> StepShare:
        """The totals of a step from the label maps of its micro-batches; a collective with several ranks."""
        fabric = self.stage.fabric
        valid = sum(int((masks != IGNORE_INDEX).sum()) for masks in label_maps)
        maps = sum(map(len, label_maps))
        if fabric.world_size > 1:
            valid, maps = reduced(fabric, torch.tensor([valid, maps], device=fabric.device), "sum").tolist()
        return StepShare(
            valid_pixels=float(max(1, valid)),
            images=max(1, maps),
            world_size=fabric.world_size,
            step=self.progress.step,
            epoch=self.progress.epochs_done + 1,
        )

    def _report_training(self, epoch: int) -> None:
        """Report the steps since the last report, with one reduction over ranks and one device-to-host sync."""
        window = self._window()
        self._raise_if_diverged(window)
        self.progress.window = []
        scalars: dict[str, float | None] = dict(zip(self._part_names, window.mean(dim=0).tolist(), strict=True))
        scalars["lr"] = self.stage.optimizer.param_groups[0]["lr"]
        if self.teacher is not None:
            scalars |= {"temperature": self.objective.temperature, "alpha": self.objective.alpha}
        if self.teacher_logits is not None:
            scalars["teacher_cached"] = self._share_of_cached()
        took = time.perf_counter() - self._clock
        scalars["images_per_second"] = round(self._images_since / took, 3)
        scalars["data_wait"] = round(self._waited / took, 4)  # of rank 0
        self._clock, self._images_since, self._waited = time.perf_counter(), 0, 0.0
        point = self._measured("train", epoch, scalars)
        self.progress.train_point = vars(point).copy()
        self.report.measured(point)

    def _share_of_cached(self) -> float | None:
        """The share of the teacher's logits on this rank that were read since the last report; None for none."""
        logits = self.teacher_logits
        assert logits is not None
        if (note := logits.note()) is not None and self.stage.leads:
            note_once(self.stage, self.report, note)
        return logits.share_read()

    def _window(self) -> Tensor:
        """Mean over ranks of the loss parts of the steps since the last report, [steps, P]; a collective."""
        return reduced(self.stage.fabric, torch.stack(self.progress.window), "mean").cpu()

    def _raise_if_diverged(self, window: Tensor) -> None:
        # Gradients in fp16 may overflow: the scaler then skips the step and lowers its scale. Without a scaler the
        # gradient has been applied to the weights, even if the loss is still finite.
        overflows = self.stage.precision == "fp16"
        losses = [index for index, name in enumerate(self._part_names) if not (overflows and name == "gradient_norm")]
        broken = ~torch.isfinite(window[:, losses])
        if not broken.any():
            return
        first = int(broken.any(dim=1).nonzero()[0])
        values = {self._part_names[index]: float(window[first, index]) for index in losses}
        run, rate = self.stage.run, self.stage.profile.training.learning_rate
        broken_parts = [name for name, value in values.items() if not np.isfinite(value)]
        intact = [path.name for path in (run.last, run.best, run.untrained) if path.exists()]
        raise DivergedError(
            f"the loss is no longer finite at step {self.progress.step - len(window) + first + 1}",
            where=", ".join(broken_parts),
            found=", ".join(f"{name}={value:g}" for name, value in values.items()),
            allowed="finite numbers",
            hint=f"the last checkpoint is intact ({intact[0] if intact else run.manifest().resume_from}); try "
            + (_warmer(self.stage.profile, broken_parts) or f"--set training.learning_rate={rate / 10:g}"),
        )

    def _measured(self, split: str, epoch: int, scalars: dict[str, float | None]) -> events.Measured:
        return events.Measured(
            split=split,
            step=self.progress.step,
            epoch=epoch,
            images=self.progress.step * self.stage.profile.training.batch_size,
            scalars=scalars,
            epochs=self.stage.total_epochs if split == "val" else None,
        )

    # -- after each epoch -----------------------------------------------------------------------------------------

    def _finish_epoch(self, epoch: int) -> None:
        stage, progress = self.stage, self.progress
        if stage.fabric.world_size > 1:
            # Copy rank 0's running statistics to all ranks: DDP does so only in the next training forward.
            for buffer in (*stage.trainable.buffers(), *(stage.ema.buffers() if stage.ema is not None else ())):
                torch.distributed.broadcast(buffer, src=0)
        former_best, improved = progress.best_epoch, False
        if epoch % (stage.profile.training.evaluate_every or 1) == 0 or epoch == stage.total_epochs:
            improved = self._evaluate_student(epoch)
        elif progress.train_point:
            progress.history.append(progress.train_point)
        progress.epochs_done = epoch  # not before, since a stop may be requested during the evaluation
        targets = [(stage.run.epoch_checkpoint(epoch), "epoch")]
        if improved:
            targets.append((stage.run.best, "best"))
        # Saved last: a run killed before it repeats the epoch, and one killed after it needs its best weights.
        targets.append((stage.run.last, "last"))
        save_state(self.stage, self.report, targets, score=self.kind.score)
        if stage.leads:
            self._visualize_if_due(epoch, improved=improved, former_best=former_best)

    def _evaluate_student(self, epoch: int) -> bool:
        """Evaluate and report an epoch; return whether it is the best so far."""
        progress = self.progress
        theirs = None if self.teacher is None else self.teacher.predictions
        batches = self.stage.val_batches()
        counts: list[np.ndarray] = []
        scores = self._scores = self._evaluate(self.predict_student, batches, teacher_predictions=theirs, counts=counts)
        score = scores.value(self.kind.score)
        improved = progress.best_score is None or score > progress.best_score
        if improved:
            progress.best_score, progress.best_epoch = score, epoch
            progress.best_miou, progress.best_iou = scores.miou, scores.iou
            self._keep_counts(counts)
        scalars = scores.scalars() | {"best_miou": progress.best_miou, "best_epoch": float(progress.best_epoch)}
        if self.kind.score != "miou":
            scalars[f"best_{self.kind.score}"] = progress.best_score
        if self.teacher is not None and self.teacher.scores.miou > 0:
            scalars["retention"] = scores.miou / self.teacher.scores.miou
        point = self._measured("val", epoch, scalars)
        progress.history += [kept for kept in (progress.train_point, vars(point).copy()) if kept]
        self.report.measured(point)
        return improved

    def _keep_counts(self, counts: list[np.ndarray]) -> None:
        """Write the counts of each image at the best epoch, for intervals; a collective with several ranks."""
        stage = self.stage
        parts = [counts]
        if stage.fabric.world_size > 1:
            parts = [[] for _ in range(stage.fabric.world_size)]
            torch.distributed.all_gather_object(parts, counts)
        if not stage.leads:
            return
        content = counts_file(stage.val_set, [one for part in parts for one in part], stage.profile.data.val_limit)
        try:
            write_atomically(stage.run.counts("val"), content)
        except StoreError as error:  # the training continues without them
            note_once(stage, self.report, f"could not write the counts per image: {error.found}")

    def _evaluate(
        self,
        predict: Predict,
        batches: Batches,
        *,
        teacher_predictions: np.ndarray | None = None,
        store: np.ndarray | None = None,
        counts: list[np.ndarray] | None = None,
    ) -> Scores:
        stage = self.stage
        stage.student.eval()
        scores = evaluate(
            predict,
            batches,
            Evaluation(stage.val_set),
            classes=stage.classes,
            device=stage.fabric.device,
            metrics=self.kind.metrics(stage.classes),
            teacher_predictions=teacher_predictions,
            store=store,
            counts=counts,
            between_batches=self._looks_of_every_rank(batches),
        )
        stage.student.train()
        return scores

    def _looks_of_every_rank(self, batches: Batches) -> Callable[[], None]:
        """A check of the stop file that runs as often on every rank as the rank with the fewest batches has batches.

        With several ranks the check is a collective: a rank with one more batch would wait in it without end.
        """
        evaluated = len(evaluated_indices(self.stage.val_set, self.stage.profile.data.val_limit))
        fewest = evaluated // self.stage.fabric.world_size
        batch_size = max(map(len, batches.plan), default=1)
        remaining = iter(range(-(-fewest // batch_size)))

        def look() -> None:
            if next(remaining, None) is not None:
                self._raise_if_asked_to_stop()

        return look

    def _visualize_if_due(self, epoch: int, *, improved: bool, former_best: int) -> None:
        """Write pictures of the best, the last and the configured epochs; those of former best epochs are deleted.

        Args:
            epoch: The epoch that ended.
            improved: Whether it is the best so far.
            former_best: The best epoch before it; 0 for none.
        """
        every = self.stage.profile.training.visualize_every
        last = epoch == self.stage.total_epochs or self._early_stop() is not None
        if every < 0 or not (improved or last or (every and epoch % every == 0)):
            return
        try:
            self._visualize(epoch)
            if improved and 0 < former_best < epoch and not (every and former_best % every == 0):
                shutil.rmtree(self.stage.run.visualization(former_best), ignore_errors=True)
        except OSError as error:  # the training continues without pictures
            note_once(self.stage, self.report, f"could not write the pictures of epoch {epoch}: {error.strerror}")

    def _visualize(self, epoch: int) -> None:
        stage = self.stage
        evaluation, device = Evaluation(stage.val_set), stage.fabric.device
        images, truths, students, teachers = [], [], [], []
        # Spread over the split, as neighbours may be frames of one video.
        spread = np.linspace(0, len(stage.val_set) - 1, min(_PICTURES, len(stage.val_set)))
        stage.student.eval()
        for index in spread:
            batch = stage.val_set.evaluation_batch(round(index))
            picture, truth, labels = evaluation.picture(self.predict_student, batch, device)
            images += list(picture)
            truths += list(self.kind.picture_labels(truth, batch))
            students += list(self.kind.picture_labels(labels, batch))
            if self.teacher is not None:
                theirs = evaluation.picture(self._predict_teacher, batch, device).labels
                teachers += [one.cpu().numpy() for one in self.kind.picture_labels(theirs, batch)]
        stage.student.train()
        folder = stage.run.visualization(epoch)
        write_panels(
            folder,
            images,
            truths,
            students,
            teachers or None,
            colours=self.kind.picture_colours(class_colours(stage.val_set.own_colours)),
            pixels=stage.val_set.pixels,
            overlay=bool(self.kind.picture_legend),
        )
        self.report.say(events.Visualized(epoch=epoch, path=str(folder.relative_to(stage.run.path))))

    def _predict_teacher(self, images: Tensor, extras: Mapping[str, Tensor]) -> Outputs:
        assert self.teacher is not None
        device = self.stage.fabric.device
        return self.teacher.frozen.outputs(images.to(device), extras_to_device(extras, self.stage.fabric))

    # -- ends -----------------------------------------------------------------------------------------------------

    def _early_stop(self) -> str | None:
        patience, progress = self.stage.profile.training.early_stopping, self.progress
        if patience and progress.best_epoch and progress.epochs_done - progress.best_epoch >= patience:
            return (
                f"no better {'mIoU' if self.kind.score == 'miou' else self.kind.score} in {counted(patience, 'epoch')}"
                f" (best {progress.best_score:.4f} in epoch {progress.best_epoch})"
            )
        return None

    def _raise_if_asked_to_stop(self) -> None:
        """Raise StopAsked if a stop is requested; rank 0 checks the stop file and broadcasts the result."""
        fabric, run = self.stage.fabric, self.stage.run
        if fabric.world_size == 1:
            requested = run.stop_requested()
        else:
            self._looks += 1
            if self._looks % _STOP_EVERY:
                return
            requested = bool(fabric.broadcast(run.stop_requested() if self.stage.leads else None))
        if requested:
            raise StopRequested


def _warmer(profile: Profile, broken_parts: Collection[str]) -> str:
    """A hint if only the distillation overflowed and logits are divided by a tiny temperature; else empty."""
    distillation = profile.distillation
    if not distillation.enabled or "loss.base" in broken_parts:
        return ""
    for term in distillation.active_terms(profile.data.task):
        if getattr(term, "temperature", 1.0) < _COLD:
            own = distillation.temperature >= _COLD
            return f"a higher temperature of the term '{term.label}'" if own else "--set distillation.temperature=4.0"
    return ""


def leave(code: int) -> NoReturn:
    """Flush the output and exit with ``code`` without any cleanup.

    The process group must not be destroyed, neither explicitly nor at interpreter exit: its destructor joins the
    threads of gloo while holding the GIL, and a thread that still has to release a tensor waits for the GIL. With torch
    2.13, one in twenty groups of two busy ranks deadlocked, and some aborted. All files are already written, and the
    kernel closes the sockets.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
