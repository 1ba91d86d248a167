"""Plan of runs that are not started yet: epochs, time, compression and checks; for ``--dry-run`` and the forms."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtui.errors import KdtuiError, StoreError
from kdtui.launch import engine_process
from kdtui.launch.data_check import kept_check
from kdtui.launch.launcher import Check
from kdtui.launch.references import awaited_flags, awaited_profiles
from kdtui.launch.targets import launcher_for
from kdtui.store.files import byte_count
from kdtui.store.run import Run
from kdtui.store.state import RunSummary, State
from kdtui.store.store import RunStore
from kdtui.store.view_logits import budget_bytes, file_bytes, used_bytes
from kdtui.store.writable import check_writable
from kdtui.text import counted

if TYPE_CHECKING:
    from kdtui.profile import Profile

Ask = Callable[..., dict[str, Any]]

# In float32: a state with AdamW's two moments, and the weights alone.
_STATE_BYTES, _WEIGHT_BYTES = 12, 4
_SPARE_BYTES = 200 * 2**20


def merged(checks: Iterable[Check]) -> list[Check]:
    """Merge failed checks with the same message into one check with all their names and hints; keep the order.

    Several checks read the same data, so one missing folder fails them all.
    """
    alike: dict[object, list[Check]] = {}
    for number, check in enumerate(checks):
        alike.setdefault(number if check.ok else check.message, []).append(check)
    found = []
    for group in alike.values():
        names = ", ".join(dict.fromkeys(check.name for check in group))
        hints = " and ".join(dict.fromkeys(check.hint for check in group if check.hint))
        found.append(Check(names, group[0].ok, group[0].message, hints or None))
    return found


@dataclass(frozen=True)
class Caution:
    """Warning about a run that can start; see :class:`kdtui.events.Warned`."""

    code: str
    message: str
    hint: str | None = None


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan.

    Attributes:
        name: Name of the run.
        encoder: Encoder of the student.
        seed: Random seed of the training.
        epochs: Number of epochs that would be trained.
        epochs_done: Epochs that the checkpoint it starts from has completed.
        distilled: Whether distillation is enabled.
        teacher: Path of the teacher's checkpoint, or ``run:NAME`` of a run that has to finish first; of several
            teachers all, joined by `` + ``.
        parameters: Of the student, from the catalog; None for an encoder that is not in it.
        macs: Multiply-accumulates of one forward pass of the student.
        teacher_parameters: From earlier runs with the same teacher; None if unknown.
        compression: Parameters of the teacher divided by those of the student.
        eta_seconds: Estimated from an earlier run of the same student on the same data; None without one.
        eta_from: Id of that run.
        checks: Pre-flight checks.
        warnings: Likely mistakes that do not prevent a start.
    """

    name: str
    encoder: str
    seed: int
    epochs: int
    epochs_done: int
    distilled: bool
    teacher: str | None
    parameters: int | None
    macs: int | None
    teacher_parameters: int | None
    compression: float | None
    eta_seconds: float | None
    eta_from: str | None
    checks: tuple[Check, ...]
    warnings: tuple[Caution, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)


@dataclass(frozen=True)
class Start:
    """Start and end of the training, as far as they differ from the profile.

    Attributes:
        resume_from: A checkpoint of kdtui to start from.
        total_epochs: Number of epochs instead of the profile's.
        awaited: Profile of each run that has to finish first, by the checkpoint that names it.
    """

    resume_from: Path | None = None
    total_epochs: int | None = None
    awaited: Mapping[str, Profile] = field(default_factory=dict)

    def flags(self, folder: Path) -> list[str]:
        """The same as options of the engine's ``check`` command.

        Args:
            folder: Where the files for it are written.
        """
        given = {"--resume-from": self.resume_from, "--total-epochs": self.total_epochs}
        words = [word for flag, value in given.items() if value is not None for word in (flag, str(value))]
        return words + awaited_flags(self.awaited, folder)


@dataclass(frozen=True)
class Plan:
    """Planned runs in the order in which they would start."""

    runs: tuple[PlannedRun, ...]

    @property
    def ok(self) -> bool:
        """Whether every run could start."""
        return all(run.ok for run in self.runs)

    @property
    def eta_seconds(self) -> float | None:
        """Time of all runs in sequence; None if one of them is unknown."""
        known = [run.eta_seconds for run in self.runs if run.eta_seconds is not None]
        return sum(known) if len(known) == len(self.runs) else None

    def to_json(self) -> dict[str, Any]:
        """The JSON object of ``--dry-run --json``."""
        return {"ok": self.ok, "eta_seconds": self.eta_seconds, "runs": [asdict(run) for run in self.runs]}


def plan(
    profiles: Sequence[Profile],
    store: RunStore,
    *,
    ask: Ask | None = None,
    checks: bool = True,
    resume_from: Path | None = None,
    total_epochs: int | None = None,
    unchecked: Collection[int] = (),
) -> Plan:
    """Plan the runs of ``profiles``, one after the other.

    Args:
        profiles: Complete, with absolute paths.
        store: The run store for the runs; times are estimated from its earlier runs.
        ask: Runs an engine command; default :func:`kdtui.launch.engine_process.ask`.
        checks: Whether to run the engine's checks, which take seconds because torch is imported. Only they report
            the epochs that a checkpoint has completed.
        resume_from: The checkpoint that the runs would start from.
        total_epochs: Number of epochs instead of the profiles' own.
        unchecked: Indices of profiles for which the checks of the others hold too.
    """
    earlier, asked = store.summaries(), (ask or engine_process.ask) if checks else None
    planned = []
    for place, profile in enumerate(profiles):
        start = Start(resume_from, total_epochs, awaited_profiles(profile, profiles, store))
        own = None if place in unchecked else asked
        planned.append(_planned(profile, store, earlier, own, start, runs=1 + len(unchecked)))
    return Plan(tuple(replace(run, checks=()) if place in unchecked else run for place, run in enumerate(planned)))


def _planned(
    profile: Profile, store: RunStore, earlier: Sequence[RunSummary], ask: Ask | None, start: Start, *, runs: int
) -> PlannedRun:
    parameters, macs = _cost(profile)
    taught = profile.distillation.enabled and profile.teacher.checkpoint is not None
    teacher_parameters = _teacher_parameters(profile, start.awaited, earlier) if taught else None
    source = _alike(profile, earlier)
    averaged = profile.training.ema is not None
    results: list[Check] = [
        disk_check(store.root, parameters, profile.training.keep_checkpoints, runs, averaged=averaged)
    ]
    warnings: tuple[Caution, ...] = ()
    done = 0
    if ask is not None:
        checked = engine_checks(profile, ask, start, store.root)
        results += [store_check(store.root), *launch_checks(profile, store, torch_gpus=checked.gpus), *checked.checks]
        if (read := kept_check(profile, store.root, checked.surveyed)) is not None:
            results.append(read)
        if checked.teacher_logits is not None:
            results.append(logits_check(store.root, profile.training.cache_gib, checked.teacher_logits))
        warnings, done = checked.warnings, checked.epochs_done
    epochs = max(0, (start.total_epochs or profile.training.epochs) - done)
    return PlannedRun(
        name=profile.name,
        encoder=profile.student.label,
        seed=profile.seed,
        epochs=epochs,
        epochs_done=done,
        distilled=profile.distillation.enabled,
        teacher=" + ".join(one.checkpoint or "" for one in profile.teacher.members) if taught else None,
        parameters=parameters,
        macs=macs,
        teacher_parameters=teacher_parameters,
        compression=teacher_parameters / parameters if teacher_parameters and parameters else None,
        eta_seconds=None if source is None else _seconds_per_epoch(source) * epochs,
        eta_from=None if source is None else source.id,
        checks=tuple(results),
        warnings=warnings,
    )


def _cost(profile: Profile) -> tuple[int | None, int | None]:
    from kdtui import catalog

    channels, network = out_channels(profile), profile.student.catalog_arguments()
    if channels is None or network is None:
        return None, None
    cost = catalog.cost(**network, out_channels=channels, height=profile.data.height, width=profile.data.width)
    return (None, None) if cost is None else (cost.parameters, cost.macs)


def out_channels(profile: Profile) -> int | None:
    """Output channels of the student; None if the table of data cannot tell, or its class list cannot be read."""
    task = profile.data.task
    names = () if task == "hierarchical" else profile.data.class_names()
    return None if names is None else profile.student.out_channels(task, len(names))


def _teacher_parameters(profile: Profile, awaited: Mapping[str, Profile], earlier: Sequence[RunSummary]) -> int | None:
    """Parameters of all teachers; None if one of them is unknown."""
    names = [one.checkpoint or "" for one in profile.teacher.members]
    counts = [_cost(awaited[name])[0] if name in awaited else _known_parameters(name, earlier) for name in names]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _known_parameters(checkpoint: str, earlier: Iterable[RunSummary]) -> int | None:
    for run in earlier:
        own = Path(checkpoint).is_relative_to(run.path) and run.parameters is not None
        if own:
            return run.parameters
        if run.teacher_checkpoint == checkpoint and run.teacher_parameters is not None:
            return run.teacher_parameters
    return None


def _seconds_per_epoch(run: RunSummary) -> float:
    assert run.started is not None and run.last_event is not None and run.epoch
    return (run.last_event - run.started) / run.epoch


def _alike(profile: Profile, earlier: Sequence[RunSummary]) -> RunSummary | None:
    """The newest finished run that did the same work per epoch, from which the time is estimated."""
    wanted = _work(profile.model_dump(mode="json", exclude_none=True))
    for run in reversed(earlier):
        whole = run.state is State.FINISHED and run.attempt == 1 and run.epoch
        if not whole or run.started is None or run.last_event is None or run.encoder != profile.student.label:
            continue
        try:
            # A run started from a checkpoint counts epochs that it did not train.
            if Run(run.path).manifest().resume_from is not None:
                continue
            table = Run(run.path).profile_table()
        except StoreError:  # a damaged folder gives no estimate
            continue
        if _work(table) == wanted:
            return run
    return None


def _work(table: dict[str, Any]) -> dict[str, Any]:
    """The part of a profile that determines how long an epoch takes."""
    training = {
        key: value
        for key, value in table.get("training", {}).items()
        if key in ("batch_size", "micro_batch_size", "devices", "accelerator", "precision", "threads", "workers")
    }
    distilled = table.get("distillation", {}).get("enabled", False)
    return {"data": table.get("data"), "student": table.get("student"), "training": training, "distilled": distilled}


def disk_check(root: Path, parameters: int | None, keep: int, runs: int = 1, *, averaged: bool = False) -> Check:
    """Whether the checkpoints of a number of runs fit on the disk of the store.

    Args:
        root: The run store.
        parameters: Of the student; None if unknown.
        keep: ``training.keep_checkpoints``.
        runs: Number of runs.
        averaged: Whether checkpoints hold the weights twice, as trained and as moving average.
    """
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    # A checkpoint for each kept epoch, one of a stop within an epoch and one that is being written; the weights of the
    # best epoch, their replacement while it is written, and the untrained weights.
    state = _STATE_BYTES + (_WEIGHT_BYTES if averaged else 0)
    per_parameter = state * (keep + 2) + _WEIGHT_BYTES * 3
    needed = _SPARE_BYTES + (parameters or 30_000_000) * per_parameter * runs
    text = f"{free / 2**30:.1f} GiB free, about {needed / 2**30:.1f} GiB needed"
    if free >= needed:
        return Check("disk", True, text)
    return Check("disk", False, text, "free some space, or choose another folder with --runs-dir")


def store_check(root: Path) -> Check:
    """Whether a run folder can be created in the store."""
    try:
        check_writable(root)
    except StoreError as error:
        return Check("run store", False, error.message, error.hint)
    return Check("run store", True, f"{root} is writable")


def logits_check(root: Path, gib: float | None, logits: Mapping[str, int]) -> Check:
    """What the cached logits of a teacher take and save.

    Args:
        root: The run store.
        gib: ``training.cache_gib``.
        logits: ``epochs``, ``views``, ``samples``, ``teachers`` and ``sample_bytes`` of the run, these of all teachers.
    """
    size = file_bytes(logits["samples"], logits["sample_bytes"])
    size += (logits["teachers"] - 1) * file_bytes(logits["samples"], 0)  # each teacher has files of its own
    budget = budget_bytes(root, gib)
    used = used_bytes(root)
    fitting = min(logits["views"], max(0, budget - used) // size)
    text = f"{counted(fitting, 'view')} of {counted(logits['samples'], 'sample')} cached, {byte_count(size * fitting)}"
    text += f" (this store: {byte_count(used)} of at most {byte_count(budget)})"
    if fitting < logits["views"]:
        text += f"; {logits['views'] - fitting} more do not fit training.cache_gib"
    saved = logits["epochs"] - logits["views"]
    if fitting and saved > 0:
        text += f"; {fitting * saved // logits['views']} of {counted(logits['epochs'], 'epoch')} without the teacher"
    return Check("teacher logits", True, text)


def launch_checks(profile: Profile, store: RunStore, *, torch_gpus: int | None = None) -> tuple[Check, ...]:
    """What the launcher of a profile's target finds out before a run.

    Args:
        profile: The run's.
        store: Where the run would be.
        torch_gpus: GPUs that the engine's torch can use; None where it was not asked.
    """
    try:
        return launcher_for(profile, store).check(profile, torch_gpus=torch_gpus)
    except KdtuiError as error:
        return (Check("launch target", False, error.message, error.hint),)


@dataclass(frozen=True)
class EngineChecks:
    """Result of the engine's checks before a run.

    Attributes:
        checks: Data, student, precision, teacher, and the checkpoint it starts from.
        warnings: Likely mistakes that do not prevent a start.
        epochs_done: Epochs that the checkpoint it starts from has completed.
        gpus: Number of GPUs that torch can use; None if the engine did not run.
        surveyed: Samples that were read, and all samples, of each split that could be read.
        teacher_logits: For :func:`logits_check`; None if the teacher sees every image.
    """

    checks: tuple[Check, ...]
    warnings: tuple[Caution, ...] = ()
    epochs_done: int = 0
    gpus: int | None = None
    surveyed: Mapping[str, Sequence[int]] = field(default_factory=dict)
    teacher_logits: Mapping[str, int] | None = None


def engine_checks(profile: Profile, ask: Ask, start: Start, store: Path) -> EngineChecks:
    """Let the engine check whether it can train the profile."""
    from kdtui.profile import dump

    with tempfile.TemporaryDirectory(prefix="kdtui-") as folder:
        file = Path(folder) / "profile.toml"
        file.write_bytes(dump(profile))
        try:
            answer = ask("check", str(file), *start.flags(file.parent), "--store", str(store))
        except KdtuiError as error:
            return EngineChecks((Check("engine", False, error.message, error.hint),))
    checks = answer.get("checks", [])
    return EngineChecks(
        tuple(
            Check(str(check["name"]), bool(check["ok"]), str(check["message"]), check.get("hint")) for check in checks
        ),
        tuple(
            Caution(str(warning["code"]), str(warning["message"]), warning.get("hint"))
            for warning in answer.get("warnings", [])
        ),
        sum(int(check.get("epochs_done", 0)) for check in checks),
        answer.get("gpus"),
        answer.get("surveyed", {}),
        answer.get("teacher_logits"),
    )
