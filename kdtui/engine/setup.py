"""Set-up of a training: devices, data, student, teacher, optimizer, and the progress of an earlier attempt."""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from timm.utils import ModelEmaV3  # type: ignore[attr-defined]
from torch import nn

from kdtui import events
from kdtui.engine import checkpoint
from kdtui.engine.checkpoint import Progress, restore, student_payload, weights_alone
from kdtui.engine.data import (
    Batches,
    SegmentationDataset,
    UnlabelledImages,
    build_dataset,
    build_unlabelled,
    eval_loader,
    steps_per_epoch,
    with_statistics,
)
from kdtui.engine.data.rarity import image_weights
from kdtui.engine.data.workers import check_workers, with_workers
from kdtui.engine.dry_run import check_trainable, padded_size
from kdtui.engine.evaluate import StopRequested
from kdtui.engine.label_counts import class_presence, label_counts
from kdtui.engine.models import lay_out_channels_last
from kdtui.engine.network import build_student, check_inputs, check_metrics, network_kind
from kdtui.engine.objective import Trainable, build_objective, check_labels
from kdtui.engine.optimizers import build_optimizer, optimizer_kind
from kdtui.engine.precision import choose_channels_last, choose_precision, fabric_precision
from kdtui.engine.ranks import make_fabric
from kdtui.engine.sanity import unlabelled_warnings
from kdtui.engine.schedules import rate_factor
from kdtui.engine.start_point import Best, StartPoint, check_horizon, find_best, find_start, load_start, start_warnings
from kdtui.engine.student_weights import check_unchanged, record_published
from kdtui.engine.teacher import LoadedTeacher, teacher_of
from kdtui.engine.unfreezing import EncoderStages
from kdtui.errors import EngineError
from kdtui.profile import Profile, Training
from kdtui.profile.base import TaskName
from kdtui.store.run import LaunchRecord, Run

_STOP_PATIENCE = 30.0
"""Seconds that a rank waits for a batch after a stop was requested, if there are several ranks."""
LEAST_VALIDATED = 8
"""Images of a validation pass, unless a training pass has more."""


@dataclass
class TrainingSetup:
    """An attempt of a run, set up but not started.

    Attributes:
        precision: The chosen precision: ``fp32``, ``bf16`` or ``fp16``.
        accumulate: Micro-batches per optimizer step on this rank.
        student: The plain network.
        freezing: Functions that freeze what is not trained in an epoch, and return whether that changed.
        ema: Moving average of the student's weights; None without.
        trainable: The student and the trainable modules of the loss; ``module`` is the same wrapped by Fabric.
        teacher: On the device; None without distillation.
        progress: The progress to continue from.
        resumed: The ``resume`` part of the loaded checkpoint, or None.
        total_epochs: Total number of epochs of this attempt.
        unlabelled: Images without labels; None if there are none.
        warnings: Warnings about images without labels and the checkpoints to resume from.
        initial: What the initial weights are; empty if they are random or those of a checkpoint to resume from.
    """

    run: Run
    record: LaunchRecord
    profile: Profile
    fabric: Fabric
    precision: str
    channels_last: bool
    accumulate: int
    train_set: SegmentationDataset
    val_set: SegmentationDataset
    steps_per_epoch: int
    student: nn.Module
    freezing: tuple[Callable[[int], bool], ...]
    ema: ModelEmaV3 | None
    trainable: Trainable
    module: _FabricModule
    teacher: LoadedTeacher | None
    optimizer: torch.optim.Optimizer
    progress: Progress
    resumed: dict[str, Any] | None
    total_epochs: int
    unlabelled: UnlabelledImages | None = None
    warnings: tuple[events.Warned, ...] = ()
    initial: str = ""

    @property
    def task(self) -> TaskName:
        """The task, which determines the interpretation of the network's output."""
        return self.profile.data.task

    @property
    def evaluated(self) -> nn.Module:
        """The network that is evaluated and exported: the average of the student, if there is one."""
        return self.student if self.ema is None else self.ema.module

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in index order."""
        return self.val_set.classes

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, the only one that writes files."""
        return bool(self.fabric.global_rank == 0)

    def learning_rate(self, *, total_epochs: int | None = None) -> float:
        """The learning rate of the next step, for this attempt's number of epochs or another one."""
        settings = self.profile.training
        total_steps = (total_epochs or self.total_epochs) * self.steps_per_epoch
        step, warmup = self.progress.step, settings.warmup
        return settings.learning_rate * rate_factor(step, total_steps, warmup=warmup, course=settings.schedule)

    def freeze(self, epoch: int) -> None:
        """Freeze what is not trained in an epoch."""
        changed = [freeze(epoch) for freeze in self.freezing]
        if any(changed) and self.fabric.world_size > 1:
            # DDP expects gradients of the parameters that were trained when it was made, for as long as it exists.
            del self.module
            gc.collect()
            self.module = self.fabric.setup_module(self.trainable)

    def val_batches(self) -> Batches:
        """This rank's share of the validation set."""
        settings = self.profile.training
        per_forward = settings.micro_batch_size or settings.batch_size // self.fabric.world_size
        return eval_loader(
            self.val_set,
            max(per_forward, LEAST_VALIDATED),
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
            workers=settings.loading_processes,
            limit=self.profile.data.val_limit,
            waiting=self.while_waiting,
        )

    def while_waiting(self, seconds: float) -> None:
        """Handle a stop request while waiting for a batch.

        Args:
            seconds: Time waited so far.

        Raises:
            StopRequested: A stop was requested.
            EngineError: A stop was requested, and this rank cannot stop at the same step as the others.
        """
        if not self.run.stop_requested():
            return
        if self.fabric.world_size == 1:
            raise StopRequested
        # The other ranks wait in a collective for this one and handle the stop at the next step, if there is one.
        if seconds >= _STOP_PATIENCE:
            raise EngineError(
                f"stopped without saving: no batch for {seconds:.0f} s, so the ranks could not stop at the same step",
                where="training.workers",
                hint=f"`kdtui resume {self.run.id}` continues from the last checkpoint",
            )


def set_up(run: Run, record: LaunchRecord, *, world_size: int) -> TrainingSetup:
    """Build everything, load the checkpoint of an earlier attempt, and write ``untrained_model.pth`` of a new run.

    Args:
        run: The run.
        record: The launch record (attempt, device, number of epochs).
        world_size: Number of ranks, each a process with its RANK in the environment.
    """
    profile = _with_statistics(run)
    settings = profile.training
    fabric = _fabric(profile, record, world_size)
    precision = choose_precision(profile, fabric.device.type)
    channels_last = choose_channels_last(profile)

    kind = network_kind(profile.student)
    network_stride = kind.stride
    train_set = build_dataset(profile.data, "train", stride=network_stride, seed=profile.seed)
    val_set = build_dataset(profile.data, "val", stride=network_stride, seed=profile.seed)
    unlabelled = build_unlabelled(profile.data, train_set)
    notes = () if unlabelled is None else unlabelled_warnings(unlabelled, profile.data, val_set)
    steps = steps_per_epoch(train_set, settings)
    profile, settings = _with_workers(profile, fabric, train_set, val_set, unlabelled)

    leads = fabric.global_rank == 0
    # Rank 0 chooses the checkpoint for all ranks.
    begin = fabric.broadcast(find_start(run) if leads else StartPoint(None))
    # The same initial weights on every rank and in every run with this seed and student.
    torch.manual_seed(_derived_seed(profile.seed, "weights"))
    download = begin.path is None
    student = build_student(
        profile.student,
        task=profile.data.task,
        classes=len(val_set.classes),
        channels=profile.data.image_channels,
        download=download,
    )
    initial = ""
    if download:
        check_unchanged(run)
        initial = kind.load_weights(student, val_set.classes)
        if leads:
            record_published(run)
    kind.check(student, profile)
    check_trainable(student, profile)
    check_inputs(student, val_set)
    check_metrics(kind, student, val_set)
    if channels_last:
        student = lay_out_channels_last(student)
    torch.manual_seed(_derived_seed(profile.seed, "steps", fabric.global_rank))

    start = None if begin.path is None else checkpoint.load(begin.path)
    best: Best | None = None
    if start is not None:
        load_start(student, start, begin.path, val_set.classes)
        if start.get("resume") is not None:
            best = fabric.broadcast(find_best(run, begin, start) if leads else None)
    elif leads:
        checkpoint.save(run.untrained, student_payload(run, profile, student, val_set.classes, asdict(val_set.pixels)))
    if profile.data.image_sampling == "rare":
        train_set.weights = image_weights(class_presence(train_set, fabric))
    counts = partial(label_counts, train_set, profile.data, run.path.parent / ".cache" / "labels", fabric)
    trainable, teacher = _with_objective(profile, fabric, student, val_set, counts=counts, channels_last=channels_last)
    stages = None
    if settings.unfreezing is not None:
        stages = EncoderStages(student, settings.unfreezing, *padded_size(profile))
    # With fp16, a fused optimizer would unscale the gradients after they were clipped.
    optimizer = build_optimizer(settings, _groups(trainable, settings, stages), fused=precision != "fp16")
    module, optimizer = fabric.setup(trainable, optimizer)
    ema = _average(student, settings.ema, start)

    progress, total_epochs = Progress(), record.total_epochs or settings.epochs
    terms_warning: tuple[events.Warned, ...] = ()
    resumed: dict[str, Any] | None = start.get("resume") if start is not None else None
    if resumed is not None:
        assert best is not None
        progress, terms_warning = restore(
            fabric, resumed, optimizer, trainable.objective.terms, kind=optimizer_kind(settings), where=begin.path
        )
        progress.best_score, progress.best_epoch = best.score, best.epoch
        progress.best_miou, progress.best_iou = best.miou, dict(best.iou)
        if begin.own and record.total_epochs is None:
            total_epochs = resumed["total_epochs"]
        if begin.own and record.total_epochs is not None:
            check_horizon(run.id, record.total_epochs, progress.epochs_done)
        if resumed["steps_per_epoch"] != steps:
            # Another batch size or other data: the step is computed from the completed epochs.
            progress.step, progress.window = progress.epochs_done * steps, []
        if leads and best.source is not None:
            _write_best(run, best)
    return TrainingSetup(
        run=run,
        record=record,
        profile=profile,
        fabric=fabric,
        precision=precision,
        channels_last=channels_last,
        accumulate=settings.batch_size // fabric.world_size // (settings.micro_batch_size or settings.batch_size)
        if settings.micro_batch_size
        else 1,
        train_set=train_set,
        val_set=val_set,
        steps_per_epoch=steps,
        student=student,
        freezing=tuple(freeze for freeze in (stages and stages.freeze, kind.freezing(student)) if freeze),
        ema=ema,
        trainable=trainable,
        module=module,
        teacher=teacher,
        optimizer=optimizer,
        progress=progress,
        resumed=resumed,
        total_epochs=total_epochs,
        unlabelled=unlabelled,
        warnings=notes + start_warnings(begin, best, resumed) + terms_warning,
        initial=initial,
    )


def _with_workers(
    profile: Profile,
    fabric: Fabric,
    train_set: SegmentationDataset,
    val_set: SegmentationDataset,
    unlabelled: UnlabelledImages | None,
) -> tuple[Profile, Training]:
    """The profile with a number of loading processes, and its settings of the training.

    Raises:
        EngineError: The shared memory is too small for the number in the profile.
    """

    def check(settings: Training) -> object:
        return check_workers((train_set, val_set), settings, unlabelled)

    settings = with_workers(profile.training, fabric.device.type, torch.get_num_threads(), check)
    if settings.workers:
        check(settings)
    return profile.model_copy(update={"training": settings}), settings


def _with_statistics(run: Run) -> Profile:
    """The profile of a run; statistics of its images are computed once and kept with it."""
    profile = run.profile()
    data = with_statistics(profile.data)
    computed = {key: list(getattr(data, key)) for key in ("mean", "std") if getattr(profile.data, key) == "dataset"}
    if computed:
        run.write_overrides({"data": computed})
    return profile.model_copy(update={"data": data})


def _with_objective(
    profile: Profile,
    fabric: Fabric,
    student: nn.Module,
    dataset: SegmentationDataset,
    *,
    counts: Callable[[], Sequence[int]],
    channels_last: bool,
) -> tuple[Trainable, LoadedTeacher | None]:
    """The student with its loss, and the teacher on the device.

    Building networks and projections draws random numbers: those of the student must depend neither on the teacher nor
    on trainable modules of the loss.
    """
    device = fabric.device
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        teacher = teacher_of(profile, dataset)
        torch.manual_seed(_derived_seed(profile.seed, "terms"))
        network = None if teacher is None else teacher.network
        objective = build_objective(profile, len(dataset.classes), student, network, counts)
        check_labels(objective, dataset)
    if teacher is not None:
        teacher.network.to(device)
        if channels_last:
            lay_out_channels_last(teacher.network)
    return Trainable(student, objective), teacher


def _fabric(profile: Profile, record: LaunchRecord, world_size: int) -> Fabric:
    device_type = "cpu" if record.device.startswith("cpu") else "cuda"
    if device_type == "cuda" and not torch.cuda.is_available():
        raise EngineError(
            "this run was assigned a GPU, but torch does not find one",
            where="training.accelerator",
            found=f"torch {torch.__version__}, CUDA_VISIBLE_DEVICES {os.environ.get('CUDA_VISIBLE_DEVICES', 'unset')}",
            hint="check with `kdtui doctor`; or use the CPU: --set training.accelerator=cpu",
        )
    if profile.training.threads:
        torch.set_num_threads(profile.training.threads)
    fabric = make_fabric(
        accelerator=device_type,
        world_size=world_size,
        precision=fabric_precision(choose_precision(profile, device_type)),
    )
    fabric.launch()
    return fabric


def _average(student: nn.Module, decay: float | None, start: Mapping[str, Any] | None) -> ModelEmaV3 | None:
    """The moving average of a student; that of a checkpoint is in the place of its student.

    The decay rises to its value over the first steps, so that a short training is not averaged with random weights.

    Args:
        student: On its device; it gets its own weights back if the checkpoint has an average.
        decay: ``training.ema``.
        start: The checkpoint to start from, whose student was loaded.
    """
    ema = None if decay is None else ModelEmaV3(student, decay=decay, use_warmup=True)
    own = ((start or {}).get("resume") or {}).get("student")
    if own is not None:
        student.load_state_dict(own)
    return ema


def _derived_seed(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def _write_best(run: Run, best: Best) -> None:
    """Write the weights of the best score of a checkpoint to ``best_model.pth``, as the run may not exceed it."""
    assert best.source is not None
    content = checkpoint.load(best.source)
    checkpoint.save(run.best, weights_alone(content) | {"run": run.id, "epoch": best.epoch, "best": best.score})


def _groups(trainable: Trainable, settings: Training, stages: EncoderStages | None) -> list[dict[str, Any]]:
    """Parameter groups: weight decay for matrices and kernels, none for biases and normalisation; no frozen parameters.

    Trainable modules of the loss are in separate groups after those of the student, whose positions in the optimizer's
    state therefore do not depend on the loss. An encoder with a learning rate of its own has groups between them.
    """
    encoder = set(map(id, stages.parameters)) if stages is not None else set()
    scale = settings.unfreezing.encoder_rate if settings.unfreezing is not None else 1.0
    student, terms = (
        [parameter for parameter in module.parameters() if parameter.requires_grad]
        for module in (trainable.student, trainable.objective)
    )
    parts: list[tuple[list[nn.Parameter], dict[str, Any]]] = [
        ([parameter for parameter in student if id(parameter) not in encoder], {}),
        ([parameter for parameter in student if id(parameter) in encoder], {"lr_scale": scale}),
        (terms, {}),
    ]
    return [
        {"params": [p for p in part if (p.ndim > 1) == kernels], "weight_decay": decay, **keys}
        for part, keys in parts
        if part
        for kernels, decay in ((True, settings.weight_decay), (False, 0.0))
    ]
