"""The ``check`` and ``doctor`` verbs: checks of a profile and of this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdtui import plugins, processes
from kdtui.engine import checkpoint
from kdtui.engine.compiling import why_not_compiled
from kdtui.engine.data import SegmentationDataset, Survey, build_dataset, build_unlabelled, steps_per_epoch, survey
from kdtui.engine.data.workers import check_workers, with_workers
from kdtui.engine.dry_run import check_trainable, padded_size
from kdtui.engine.fitting import estimate
from kdtui.engine.losses.class_weights import weights_text
from kdtui.engine.models import build_network, count_parameters
from kdtui.engine.network import build_student, check_inputs, check_metrics, network_kind, stride_of
from kdtui.engine.objective import Objective, build_objective, check_labels
from kdtui.engine.optimizers import check_optimizer
from kdtui.engine.precision import choose_precision, cpu_has_bf16
from kdtui.engine.profile_model import count_macs
from kdtui.engine.sanity import data_warnings, unlabelled_warnings
from kdtui.engine.setup import LEAST_VALIDATED
from kdtui.engine.shapes import WithoutRandomWeights
from kdtui.engine.start_point import check_horizon, check_owner, find_best, find_start, load_start, start_warnings
from kdtui.engine.student_weights import check_unchanged
from kdtui.engine.teacher import LoadedTeacher, teacher_of
from kdtui.engine.teacher_doubts import kept_doubts, teacher_doubts
from kdtui.engine.teacher_logits import cached_views, kept_logits, why_not_cached
from kdtui.engine.term_memory import device_memory
from kdtui.engine.unfreezing import EncoderStages
from kdtui.errors import CheckpointError, EngineError, KdtuiError, UsageError
from kdtui.events import Warned
from kdtui.profile import Loss, Profile
from kdtui.profile.schedules import schedules_text
from kdtui.store.run import Run
from kdtui.text import counted, mebibytes


def check(
    profile: Profile,
    *,
    resume_from: Path | None = None,
    run: Run | None = None,
    total_epochs: int | None = None,
    store: Path | None = None,
    trained_teacher: bool = True,
) -> dict[str, Any]:
    """Check data, student, precision, teacher and the checkpoint to start from; nothing is trained.

    Args:
        profile: The profile to train.
        resume_from: The checkpoint that a new run would start from.
        run: The run that would be resumed.
        total_epochs: Number of epochs instead of the profile's.
        store: The run store, in which what is doubted of the teacher is kept for its runs.
        trained_teacher: Whether the teacher is trained, so that what it predicts can be examined.

    Returns:
        ``checks``, each ``{"name", "ok", "message", "hint"}``, that of the checkpoint also with ``epochs_done``, a
        failed one with the class of its ``error``; ``warnings``, each ``{"code", "message", "hint"}``: likely mistakes
        although the checks passed; ``teacher_logits``, the size of those that would be cached; ``surveyed``, the
        samples of each split that were read and all of them; and ``gpus``, the number of GPUs that torch can use.
    """
    use_gpu = torch.cuda.is_available() and profile.training.accelerator != "cpu"
    splits: dict[str, tuple[SegmentationDataset, Survey]] = {}
    warnings: list[Warned] = []
    students: list[nn.Module] = []
    checks: list[tuple[str, Callable[[], str]]] = [
        ("training data", lambda: _data(profile, "train", splits)),
        ("validation data", lambda: _data(profile, "val", splits)),
        ("student", lambda: _student(profile, resume_from, run, students)),
        ("precision", lambda: choose_precision(profile, "cuda" if use_gpu else "cpu")),
    ]
    if profile.training.accelerator == "gpu" and not torch.cuda.is_available():
        checks.append(("torch", _no_gpu))
    if profile.data.unlabelled is not None:
        checks.append(("unlabelled images", lambda: _unlabelled(profile, splits, warnings)))
    loaded: list[LoadedTeacher] = []
    if profile.distillation.enabled:
        checks.append(("teacher", lambda: _teacher(profile, loaded)))
    if profile.loss is not None or (profile.distillation.enabled and profile.distillation.terms is not None):
        checks.append(("loss terms", lambda: _terms(profile, loaded, splits)))
    if text := schedules_text(profile.model_dump()):
        checks.append(("optimizer and schedules", lambda: _schedules(profile, text)))
    done: list[int] = []
    if resume_from is not None:
        checks.append(("resume", lambda: _resume(profile, resume_from, total_epochs, done)))
    elif run is not None:
        # First, as the other checks do not matter if the run has no checkpoint to resume from.
        checks.insert(0, ("resume", lambda: _go_on(profile, run, total_epochs, done, warnings)))
    answers = [
        _check(name, answer) | ({"epochs_done": done[0]} if name == "resume" and done else {})
        for name, answer in checks
    ]
    answers = _distinct(answers)
    if all(answer["ok"] for answer in answers):
        place = len(answers) - (resume_from is not None)  # the checkpoint is the last one
        answers[place:place] = _memory(profile, students[0], loaded, splits, warnings)
    if profile.training.compile != "off" and students and (reason := why_not_compiled(profile, students[0])):
        hint = "--set training.compile=off"
        warnings.append(Warned("not-compiled", f"training.compile has no effect: {reason}", hint))
    if len(splits) == 2:  # unreadable data are reported by a check
        (train_set, train), (val_set, val) = splits["train"], splits["val"]
        if profile.training.workers:
            answers.append(_check("workers", lambda: _workers(profile, train_set, val_set, use_gpu)))
        warnings += data_warnings(profile, train_set, val_set, (train, val))
        known = loaded if trained_teacher else []
        for teacher in known:
            if store is not None and store.is_dir():
                warnings += kept_doubts(store, profile, teacher, val_set)
            else:
                warnings += teacher_doubts(teacher, val_set)
    return {
        "checks": answers,
        "warnings": [warning.to_json() for warning in warnings],
        "teacher_logits": _teacher_logits(profile, loaded, splits, total_epochs),
        "surveyed": {name: [part.checked, part.total] for name, (_, part) in splits.items()},
        "gpus": torch.cuda.device_count() if torch.cuda.is_available() else 0,
    }


def _workers(profile: Profile, train_set: SegmentationDataset, val_set: SegmentationDataset, use_gpu: bool) -> str:
    """The number of loading processes and what they need."""
    settings = profile.training
    examine = partial(check_workers, (train_set, val_set), unlabelled=build_unlabelled(profile.data, train_set))
    threads = settings.threads or max(1, processes.cores() // settings.devices)
    settings = with_workers(settings, "cuda" if use_gpu else "cpu", threads, examine)
    return examine(settings)


def _unlabelled(profile: Profile, splits: dict[str, tuple[SegmentationDataset, Survey]], warnings: list[Warned]) -> str:
    """What the images without labels are; those that cannot be read are added to ``warnings``."""
    train_set, val_set = (
        splits[split][0] if split in splits else build_dataset(profile.data, split) for split in ("train", "val")
    )
    unlabelled = build_unlabelled(profile.data, train_set)
    assert unlabelled is not None
    warnings += unlabelled_warnings(unlabelled, profile.data, val_set)
    distillation, settings = profile.distillation, profile.training
    tables = () if unlabelled.settings.target == "hard" else distillation.active_terms(profile.data.task)
    need = [f"distill.{table.label}" for table in tables if table.needs_labels]
    skip = f"; {', '.join(need)}: not on them, as labels are needed" if need else ""
    return unlabelled.described(settings.batch_size, settings.devices) + skip


def _teacher_logits(
    profile: Profile,
    loaded: Sequence[LoadedTeacher],
    splits: Mapping[str, tuple[SegmentationDataset, Survey]],
    total_epochs: int | None,
) -> dict[str, int] | None:
    """How much the cached logits of the teachers take: epochs, views, samples, and bytes of a sample; None for none."""
    epochs = total_epochs or profile.training.epochs
    views = cached_views(profile, loaded[0], epochs) if loaded and "train" in splits else 0
    if not views:
        return None
    kept = kept_logits(profile, loaded[0], contextlib.nullcontext, torch.device("cpu"))
    train_set = splits["train"][0]
    unlabelled = build_unlabelled(profile.data, train_set)
    return {
        "epochs": epochs,
        "views": views,
        "samples": len(train_set) + (0 if unlabelled is None else len(unlabelled)),
        "sample_bytes": sum(one.sample_bytes for one in kept),
        "teachers": len(kept),
    }


def _memory(
    profile: Profile,
    student: nn.Module,
    loaded: Sequence[LoadedTeacher],
    splits: Mapping[str, tuple[SegmentationDataset, Survey]],
    warnings: list[Warned],
) -> list[dict[str, Any]]:
    """What a training needs, if it can be estimated; a warning is added if the device has less."""
    settings = profile.training
    distillation = profile.distillation
    tables = [*(profile.loss or Loss()).active_terms()]
    terms = len(tables) + (len(distillation.active_terms(profile.data.task)) if distillation.enabled else 0)
    use_gpu = torch.cuda.is_available() and settings.accelerator != "cpu"
    images = settings.micro_batch_size or settings.batch_size // settings.devices
    needed = estimate(
        student,
        [one.network for one in loaded],
        padded_size(profile),
        images=images,
        validated=max(images, LEAST_VALIDATED),
        terms=terms,
        half=choose_precision(profile, "cuda" if use_gpu else "cpu") != "fp32",
        averaged=settings.ema is not None,
        cached=0 if use_gpu else sum(dataset.kept_bytes() for dataset, _ in splits.values()),
    )
    if needed is None:
        return []
    memory = device_memory(profile)
    if needed.peak > memory:
        fitting = [count for count in range(1, images) if images % count == 0 and count <= needed.largest(memory)]
        hint = f"--set training.micro_batch_size={fitting[-1]}" if fitting else "smaller data.height and data.width"
        warnings.append(Warned("memory", f"this training may not fit into memory: {needed.described(memory)}", hint))
    return [{"name": "memory", "ok": True, "message": needed.described(memory), "hint": None}]


def _distinct(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Remove repeated failures: both splits and the student's classes may depend on the same file."""
    messages: set[str] = set()
    distinct = []
    for answer in answers:
        if answer["ok"] or answer["message"] not in messages:
            distinct.append(answer)
        if not answer["ok"]:
            messages.add(answer["message"])
    return distinct


def _data(profile: Profile, split: str, splits: dict[str, tuple[SegmentationDataset, Survey]]) -> str:
    """Describe a split and add it to ``splits``."""
    dataset = build_dataset(profile.data, split)
    looked_at = survey(dataset)
    splits[split] = dataset, looked_at
    answer = f"{dataset.describe()}; {looked_at.described()}"
    if split == "train":
        steps_per_epoch(dataset, profile.training)
        answer += f"; {dataset.memory()}"
    return answer


def _check(name: str, answer: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"name": name, "ok": True, "message": answer(), "hint": None}
    except KdtuiError as error:
        failed = {"name": name, "ok": False, "message": error.message, "hint": error.hint}
        return failed | {"error": type(error).__name__}


def _no_gpu() -> str:
    raise KdtuiError(
        "torch does not find a GPU",
        where="training.accelerator",
        found="gpu",
        allowed="cpu, auto",
        hint="--set training.accelerator=auto",
    )


def _student(profile: Profile, resume_from: Path | None, run: Run | None, built: list[nn.Module]) -> str:
    """What the student is, which is added to ``built``; it has initial weights unless it starts from a checkpoint."""
    val_set, kind = _val_set(profile), network_kind(profile.student)
    fresh = resume_from is None and (run is None or find_start(run).path is None)
    network = _network(profile, val_set.classes, download=fresh)
    weights = ""
    if fresh:
        if run is not None:
            check_unchanged(run)
        weights = kind.load_weights(network, val_set.classes)
    kind.check(network, profile)
    check_trainable(network, profile)
    check_inputs(network, val_set)
    check_metrics(kind, network, val_set)
    built.append(network)
    counts = count_parameters(network)
    size = f"{kind.title}: {counts.stored:,} parameters ({counts.used:,} used)"
    return f"{size}\n  initial weights: {weights}" if weights else size


def _network(profile: Profile, classes: Sequence[str], *, download: bool = False) -> nn.Module:
    """The student of a profile; a check does not depend on its random weights."""
    with WithoutRandomWeights():
        return build_student(
            profile.student,
            task=profile.data.task,
            classes=len(classes),
            channels=profile.data.image_channels,
            download=download,
        )


def _resume(profile: Profile, path: Path, total_epochs: int | None, done: list[int]) -> str:
    """Check a checkpoint to start from; its completed epochs are appended to ``done``."""
    classes = _classes(profile)
    network = _network(profile, classes)
    start = checkpoint.load(path)
    load_start(network, start, path, classes)
    check_owner(path, start)
    state = start.get("resume")
    horizon = total_epochs or profile.training.epochs
    if state is None:
        done.append(0)
        return f"only weights, without the training state; {counted(horizon, 'epoch')} to train"
    epochs_done = state["epochs_done"]
    done.append(epochs_done)
    if epochs_done >= horizon:
        raise CheckpointError(
            "nothing is left to train: this checkpoint has completed all epochs",
            where=path,
            found=f"{counted(epochs_done, 'epoch')} completed",
            allowed=f"a checkpoint with fewer than {counted(horizon, 'epoch')}, or more epochs",
            hint=f"--total-epochs {epochs_done + profile.training.epochs}",
        )
    return f"{epochs_done} of {counted(horizon, 'epoch')} completed"


def _go_on(profile: Profile, run: Run, total_epochs: int | None, done: list[int], warnings: list[Warned]) -> str:
    """Check where a run would resume; problems of its checkpoints are added to ``warnings``."""
    start = find_start(run)
    if start.path is None:
        done.append(0)
        return "no checkpoint was saved yet: training restarts with epoch 1"
    classes = _classes(profile)
    network = _network(profile, classes)
    content = checkpoint.load(start.path)
    load_start(network, content, start.path, classes)
    state = content.get("resume")
    best = None if state is None else find_best(run, start, content)
    warnings += start_warnings(start, best, state)
    if state is None:
        done.append(0)
        return f"only weights of {start.path}; {counted(total_epochs or profile.training.epochs, 'epoch')} to train"
    done.append(state["epochs_done"])
    if total_epochs is not None:
        check_horizon(run.id, total_epochs, state["epochs_done"])
    return f"resumes from {start.path.name}, after epoch {state['epochs_done']} (step {state['step']})"


def _val_set(profile: Profile) -> SegmentationDataset:
    return build_dataset(profile.data, "val", stride=stride_of(profile), seed=profile.seed)


def _classes(profile: Profile) -> tuple[str, ...]:
    return _val_set(profile).classes


def _teacher(profile: Profile, loaded: list[LoadedTeacher]) -> str:
    """What the teacher is, which is added to ``loaded``; of several, also memory and time of each."""
    teacher = teacher_of(profile, _val_set(profile))
    assert teacher is not None
    loaded.append(teacher)
    live = why_not_cached(profile, teacher)
    who = "they see every image, as their" if teacher.members else "it sees every image, as its"
    uncached = f"\n  {who} logits cannot be cached: {live}" if live else ""
    if not teacher.members:
        return _described_teacher(teacher) + uncached
    weights = teacher.network.weights
    assert isinstance(weights, tuple)
    height, width = padded_size(profile)
    student = count_macs(_network(profile, _classes(profile)), height=height, width=width)
    lines = [f"{counted(len(weights), 'teacher')}; terms on features read the first one"]
    for one, weight in zip(teacher.members, weights, strict=True):
        macs = count_macs(one.network, height=height, width=width)
        work = f", {macs / student:.1f}x the forward pass of the student" if macs and student else ""
        described = _described_teacher(one).replace("\n", "\n    ")
        lines.append(f"weight {weight:.3g}, {mebibytes(4 * one.report.parameters)}{work}: {described}")
    return "\n  ".join(lines) + uncached


def _described_teacher(teacher: LoadedTeacher) -> str:
    report = teacher.report
    title = f"{report.architecture} {report.encoder}".strip()
    description = f"{title}: {report.parameters:,} parameters, {report.classes} classes"
    if Path(teacher.settings.checkpoint or "").is_dir():
        description += f", from {Path(report.path).name}"
    if len(report.candidates) > 1:
        used, *others = report.candidates
        description += f"; the file has several networks: {used} is used, not {', '.join(others)}"
    return description if teacher.note is None else f"{description}\n{teacher.note}"


def _schedules(profile: Profile, text: str) -> str:
    """The text, if the optimizer and the stages of the encoder exist."""
    check_optimizer(profile.training.optimizer)
    if profile.training.unfreezing is not None:
        student = _network(profile, _classes(profile))
        stages = EncoderStages(student, profile.training.unfreezing, *padded_size(profile))
        text += f": {', '.join(stages.names)}"
    return text


def _terms(profile: Profile, loaded: list[LoadedTeacher], splits: dict[str, tuple[SegmentationDataset, Survey]]) -> str:
    """Build the loss terms for the student and for the teacher, if it was loaded."""
    classes = _classes(profile)
    student = _network(profile, classes)
    # A failed look at the training data is reported by its own check.
    train = splits["train"][1] if "train" in splits else None
    counts = (1,) * len(classes) if train is None else train.pixels
    network = loaded[0].network if loaded else None
    objective = build_objective(profile, len(classes), student, network, lambda: counts)
    check_labels(objective, _val_set(profile))
    unchecked = "; those of the distillation need the teacher" if profile.distillation.enabled and not loaded else ""
    lines = [f"{', '.join(objective.names)}{unchecked}", *_costs(objective), *_batch_terms(profile)]
    if train is not None:
        lines += [
            f"class weights of {name}, from {train.checked} of {counted(train.total, 'training sample')}: "
            + weights_text(weights, classes)
            for name, weights in objective.class_weights.items()
        ]
    return "\n  ".join(lines)


def _costs(objective: Objective) -> list[str]:
    """A line on each term that trains parameters or needs memory for relations between cells."""
    parameters = {
        name: f"trains {count:,} parameters of its own, which are not exported"
        for name, count in objective.parameters_of_terms.items()
    }
    memory = {name: f"about {mebibytes(count)} for relations" for name, count in objective.relation_bytes.items()}
    return [
        f"{name}: {', '.join(filter(None, (parameters.get(name), memory.get(name))))}"
        for name in objective.names
        if name in parameters or name in memory
    ]


def _batch_terms(profile: Profile) -> list[str]:
    """A line on the terms that depend on how a step is split, if there are any."""
    distillation, settings = profile.distillation, profile.training
    distill = distillation.active_terms(profile.data.task) if distillation.enabled else ()
    terms = (("base", (profile.loss or Loss()).active_terms()), ("distill", distill))
    names = [f"{part}.{table.label}" for part, tables in terms for table in tables if table.per_batch]
    images = settings.micro_batch_size or settings.batch_size // settings.devices
    where = "the image" if images == 1 else f"the {images} images"
    return [f"{', '.join(names)}: computed on {where} that one device processes at once"] if names else []


_STEPS = 8
_LEARNT = 0.5
"""Maximum share of the first loss after these steps; 0.05 is normal."""


def learn(*, learning_rate: float = 0.01) -> str:
    """Train a small network to segment the bright half of two images, to check that torch computes correctly.

    Args:
        learning_rate: Learning rate of AdamW.

    Raises:
        EngineError: Its loss did not decrease as expected.
    """
    import torch

    from kdtui.profile import Model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(
            Model(encoder="resnet18", encoder_depth=3, decoder_channels=(8, 8, 8)), task="semantic", classes=2
        )
        labels = torch.zeros(2, 32, 32, dtype=torch.long)
        labels[0, :, 16:], labels[1, 16:] = 1, 1
        images = labels[:, None] + 0.1 * torch.randn(2, 3, 32, 32)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate)
    losses: list[float] = []
    for _ in range(_STEPS + 1):
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    text = f"loss {losses[0]:.3f} before and {losses[-1]:.3f} after {_STEPS} steps of Unet resnet18 on the CPU"
    if not losses[-1] <= _LEARNT * losses[0]:  # also true for NaN
        raise EngineError(
            "the loss of a small test network did not decrease",
            found=text,
            allowed=f"at most {_LEARNT * losses[0]:.3f} after them",
            hint="reinstall torch: it computes wrong results on this machine",
        )
    return text


def _import_code(extension: plugins.Extension) -> str:
    """Import the implementation of another package's table."""
    reference = extension.table.implementation if extension.table is not None else ""
    try:
        plugins.imported(reference)
    except UsageError as error:
        hint = f"update or uninstall {extension.package}; profiles that do not use it are not affected"
        raise EngineError(error.what, where=error.where, found=error.found, hint=hint) from error
    return f"{reference} can be imported"


def doctor() -> dict[str, Any]:
    """Versions, devices, a few training steps of a small network, and the installed extensions."""
    import segmentation_models_pytorch as smp
    import timm
    import torch
    import torchvision

    def gpus() -> str:
        if not torch.cuda.is_available():
            return "no GPU; training uses the CPU"
        return ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))

    return {
        "versions": {
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "segmentation-models-pytorch": smp.__version__,
            "timm": timm.__version__,
        },
        "checks": [
            _check("torch", learn),
            _check("gpu", gpus),
            _check("bf16 on the CPU", lambda: "native" if cpu_has_bf16() else "emulated; fp32 is faster"),
            *(
                _check(f"extension {extension.name}", partial(_import_code, extension))
                for extension in plugins.extensions()
                if extension.table is not None
            ),
        ],
    }
