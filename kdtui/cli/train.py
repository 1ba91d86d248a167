"""``train``, ``distill`` and ``resume``: create, launch and follow runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kdtui.cli.console import (
    Exit,
    Json,
    MovedSets,
    RunName,
    RunsDir,
    Sets,
    complete_encoder,
    complete_method,
    complete_profile,
    complete_run,
    emit,
    open_store,
    out,
    report,
    say,
)
from kdtui.cli.export import export_best
from kdtui.cli.interrupts import interrupts
from kdtui.cli.layout import hanging
from kdtui.cli.setting_options import option_help, setting_options
from kdtui.cli.training import TrainOptions, attend, check_plan, finish, follow_runs, show_plan
from kdtui.errors import KdtuiError, UsageError
from kdtui.profile.limits import MOST_EPOCHS
from kdtui.profile.settings import SETTINGS

if TYPE_CHECKING:
    from kdtui.launch.standby import Standby
    from kdtui.profile import Profile
    from kdtui.store.run import Run
    from kdtui.store.store import RunStore


_TEACHER, _ENCODER, _TAGS = (SETTINGS[name] for name in ("teacher", "encoder", "tags"))
_BASELINE, _EQUAL_TIME = (SETTINGS[name] for name in ("baseline", "equal_time"))
Tags = Annotated[
    list[str] | None, typer.Option(*_TAGS.flags, metavar="TAG", help=f"{option_help(_TAGS)[:-1]}; repeatable.")
]
MethodName = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME",
        help="Distil with the terms of this method; `kdtui methods` lists them.",
        autocompletion=complete_method,
        show_default=False,
    ),
]
Student = Annotated[
    str | None,
    typer.Option(
        *_ENCODER.flags,
        metavar="ENCODER",
        help=option_help(_ENCODER),
        autocompletion=complete_encoder,
        show_default=False,
    ),
]
Detach = Annotated[
    bool,
    typer.Option("--detach", help="Print the id of each run and return at once; the run continues in the background."),
]
KeepGoing = Annotated[
    bool, typer.Option("--keep-going", help="Train the remaining runs even if one fails or is stopped.")
]
Seeds = Annotated[
    str | None,
    typer.Option(
        "--seeds",
        metavar="LIST",
        help="Seeds, as in 0,1,2 or 0-4: a run for each, all queued at once and compared at the end.",
        show_default=False,
    ),
]
WithBaseline = Annotated[
    bool,
    typer.Option(
        *_BASELINE.flags,
        help=option_help(_BASELINE),
    ),
]
Teachers = Annotated[
    list[str] | None,
    typer.Option(
        *_TEACHER.flags,
        metavar="CKPT|RUN",
        help=f"{option_help(_TEACHER)[:-1]}; repeatable.",
        autocompletion=complete_run,
        show_default=False,
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be done; run the pre-flight checks, start nothing.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Start nothing if the plan has warnings.")]
TotalEpochs = Annotated[
    int | None,
    typer.Option("--total-epochs", min=1, max=MOST_EPOCHS, help="New total number of epochs.", show_default=False),
]
EqualTimeOption = Annotated[
    Literal["student", "total"] | None,
    typer.Option(*_EQUAL_TIME.flags, help=option_help(_EQUAL_TIME), show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(setting_options(without=[_ENCODER.name])(train))
    app.command()(setting_options(without=[_ENCODER.name])(distill))
    app.command()(resume)


def train(
    profiles: Annotated[
        list[str],
        typer.Argument(metavar="PROFILE...", help="Names or files of profiles.", autocompletion=complete_profile),
    ],
    teacher_checkpoint: Teachers = None,
    encoder: Student = None,
    method: MethodName = None,
    settings: Sequence[str] = (),
    tag: Tags = None,
    sets: Sets = None,
    resume_from: Annotated[
        str | None,
        typer.Option(
            "--resume", metavar="RUN|CKPT", help="Start a new run from this checkpoint.", autocompletion=complete_run
        ),
    ] = None,
    total_epochs: TotalEpochs = None,
    seed_list: Seeds = None,
    with_baseline: WithBaseline = False,
    equal_time: EqualTimeOption = None,
    dry_run: DryRun = False,
    strict: Strict = False,
    skip_training: Annotated[
        bool, typer.Option("--skip-training", help="Evaluate the newest run of each profile and compare them.")
    ] = False,
    export_onnx: Annotated[
        bool,
        typer.Option("--export-onnx", help="Afterwards export each run's best checkpoint to fp32 ONNX and verify it."),
    ] = False,
    detach: Detach = False,
    keep_going: KeepGoing = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Train one or more profiles in sequence; ends at the first run that fails or is stopped."""
    from kdtui.launch.teachers import find_teachers, prepare, resume_point, student_sets

    store = open_store(runs_dir)
    named = any(text.startswith("name=") for text in settings)
    if len(profiles) > 1 and (named or resume_from):
        raise UsageError(
            f"{'--name' if named else '--resume'} needs a single profile, not {len(profiles)}",
            hint="train the profiles with one command each",
        )
    if export_onnx and (detach or dry_run):
        raise UsageError(
            f"--export-onnx and {'--detach' if detach else '--dry-run'} exclude each other",
            hint="kdtui export RUN exports a run after its training",
        )
    grouped = seed_list is not None or with_baseline or equal_time is not None
    if grouped:
        from kdtui.cli.groups import check_options, train_group

        others = {"--resume": resume_from, "--total-epochs": total_epochs, "--skip-training": skip_training}
        check_options(seed_list, [*settings, *(sets or [])], others, with_baseline=with_baseline)
    teacher = find_teachers(teacher_checkpoint, store) if teacher_checkpoint else None
    further = [*_method_sets(method), *settings, *(sets or [])]
    chosen_sets = [[*(student_sets(encoder, profile) if encoder else []), *further] for profile in profiles]
    recipes = list(zip(profiles, chosen_sets, strict=True))
    if skip_training:
        from kdtui.cli.compare import evaluate_newest
        from kdtui.profile import load

        unused = {
            "--strict": strict,
            "--resume": resume_from,
            "--total-epochs": total_epochs,
            "--dry-run": dry_run,
            "--detach": detach,
            "--tag": tag,
        }
        for flag, value in unused.items():
            if value:
                raise UsageError(f"--skip-training and {flag} exclude each other", hint=f"omit {flag}")

        # Nothing is trained, so the profiles need no teacher.
        newest = evaluate_newest(store, [load(profile, own).name for profile, own in recipes], as_json=as_json)
        if export_onnx:
            export_best(store, newest, quiet=as_json)
        return
    prepared = [prepare(profile, own, teacher) for profile, own in recipes]
    start = resume_point(resume_from, store) if resume_from else None
    for chosen in (teacher, start):
        if chosen is not None and chosen.note:
            say(chosen.note)
    then = partial(export_best, store, quiet=as_json) if export_onnx else None
    options = TrainOptions(tag or (), dry_run, strict, detach, keep_going, as_json, then)
    if grouped:
        train_group(store, prepared, options, seed_list, with_baseline=with_baseline, equal_time=equal_time)
    else:
        checkpoint = None if start is None else start.checkpoint
        _carry_out(store, prepared, options, resume_from=checkpoint, total_epochs=total_epochs)


def distill(
    teacher: Annotated[
        list[str],
        typer.Option(
            *_TEACHER.flags,
            metavar="CKPT|RUN",
            help=f"{option_help(_TEACHER)[:-1]}; repeatable.",
            autocompletion=complete_run,
        ),
    ],
    student: Annotated[
        str,
        typer.Option(*_ENCODER.flags, metavar="ENCODER", help=option_help(_ENCODER), autocompletion=complete_encoder),
    ],
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="PROFILE",
            help="Profile; default: that of the teacher's run.",
            autocompletion=complete_profile,
            show_default=False,
        ),
    ] = None,
    method: MethodName = None,
    settings: Sequence[str] = (),
    tag: Tags = None,
    sets: Sets = None,
    seed_list: Seeds = None,
    with_baseline: WithBaseline = False,
    equal_time: EqualTimeOption = None,
    dry_run: DryRun = False,
    strict: Strict = False,
    detach: Detach = False,
    keep_going: KeepGoing = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Distil a student from a teacher."""
    from kdtui.launch.teachers import find_teachers, prepare, recipe, student_sets

    store = open_store(runs_dir)
    grouped = seed_list is not None or with_baseline or equal_time is not None
    if grouped:
        from kdtui.cli.groups import check_options, train_group

        check_options(seed_list, [*settings, *(sets or [])], {}, with_baseline=with_baseline)
    chosen = find_teachers(teacher, store)
    if chosen.note:
        say(chosen.note)
    own_sets = [*student_sets(student, profile), *_method_sets(method), *settings, *(sets or [])]
    if profile is not None:
        prepared = prepare(profile, own_sets, chosen)
    else:
        prepared = recipe(chosen, student, own_sets, named=any(text.startswith("name=") for text in settings))
    options = TrainOptions(tag or (), dry_run, strict, detach, keep_going, as_json)
    if grouped:
        train_group(store, [prepared], options, seed_list, with_baseline=with_baseline, equal_time=equal_time)
    else:
        _carry_out(store, [prepared], options)


def resume(
    run: RunName,
    total_epochs: TotalEpochs = None,
    sets: MovedSets = None,
    dry_run: DryRun = False,
    detach: Detach = False,
    runs_dir: RunsDir = None,
) -> None:
    """Continue a run in its own folder, as its next attempt."""
    from kdtui.launch import start
    from kdtui.store.state import State

    store = open_store(runs_dir)
    found = store.find(run)
    if total_epochs is None and store.summary(found).state is State.FINISHED:
        raise UsageError(
            "the run is finished, so there is nothing left to train",
            where=found.id,
            hint=f"kdtui resume {found.id} --total-epochs N trains it for more epochs",
        )
    going = start.resume(store, found, total_epochs=total_epochs, sets=sets or [], dry_run=dry_run)
    if dry_run:
        for name, message in going.checks:
            out(f"ok   {name}: {hanging(message, 5)}")
    for warning in going.warnings:
        (out if dry_run else say)(f"WARN {warning}")
    if dry_run:
        return
    if detach:
        out(found.id)
        return
    finish(attend(store, [found]))


def _method_sets(name: str | None) -> list[str]:
    """The ``--set`` texts of a method; options and ``--set`` follow, so that they can change it."""
    from kdtui.profile.methods import find_method

    return [] if name is None else find_method(name).sets()


def _carry_out(
    store: RunStore,
    profiles: Sequence[Profile],
    options: TrainOptions,
    *,
    resume_from: Path | None = None,
    total_epochs: int | None = None,
) -> None:
    """Check all profiles and train them in sequence.

    If one of them trains the teacher of another one, all are launched at once: the supervisors wait for each other.
    """
    from kdtui.launch.references import linked
    from kdtui.launch.start import prepared
    from kdtui.launch.teachers import check_tags

    check_tags(options.tags)
    profiles = linked(profiles, store)
    with prepared(() if options.dry_run else profiles, store) as standby:
        _train(store, profiles, options, standby, resume_from=resume_from, total_epochs=total_epochs)


def _train(
    store: RunStore,
    profiles: Sequence[Profile],
    options: TrainOptions,
    standby: Standby | None,
    *,
    resume_from: Path | None,
    total_epochs: int | None,
) -> None:
    """See :func:`_carry_out`."""
    from kdtui.launch.plan import plan
    from kdtui.launch.references import after_runs, waits_among
    from kdtui.launch.start import start, wait_for_exit

    ask = None if standby is None else standby.ask
    planned = plan(profiles, store, ask=ask, resume_from=resume_from, total_epochs=total_epochs)
    if options.dry_run and options.as_json:
        emit(planned.to_json())
    else:
        show_plan(planned, to_stdout=options.dry_run)
    check_plan(planned, strict=options.strict)
    if options.dry_run:
        return
    at_once = options.detach or any(waits_among(profile, profiles) for profile in profiles)
    code = Exit.OK
    runs: dict[int, Run] = {}
    finished: list[Run] = []
    for place, profile in enumerate(profiles):
        ended, interrupted = Exit.OK, False
        # Set up before the launch, as Ctrl-C in between would end the command and leave the run going unmentioned.
        with interrupts(not at_once) as pressed:
            try:
                run = start(
                    store,
                    after_runs(profile, profiles, runs),
                    tags=options.tags,
                    resume_from=resume_from,
                    total_epochs=total_epochs,
                    origin="kdtui train",
                    standby=standby,
                )
            except KdtuiError as error:  # runs before it are reported below
                report(error)
                ended, interrupted = Exit(error.exit_code), bool(pressed)
            else:
                runs[place] = run
                if not options.as_json:
                    out(run.id)
                if not at_once:  # the others wait in the device queue, which keeps their order
                    ended, interrupted = follow_runs(store, [run], pressed=pressed)
                    finished += [run] if ended is Exit.OK else []
        code = max(code, ended)
        if interrupted or (ended is not Exit.OK and not options.keep_going):
            _report_not_started(profiles[place + 1 :])
            break
    if at_once and not options.detach:
        code = max(code, _attend_in_turn(store, list(runs.values()), finished, keep_going=options.keep_going))
    if options.as_json:
        for run in runs.values():
            if store.summary(run).state.final:
                wait_for_exit(store, run)
        from kdtui.cli.runs import run_json

        emit([run_json(summary) for summary in store.summaries(runs.values())])
    if options.then is not None:
        options.then(finished)
    finish(code)


def _attend_in_turn(store: RunStore, runs: Sequence[Run], finished: list[Run], *, keep_going: bool) -> Exit:
    """Follow launched runs one after the other; stop the others if one ends badly, unless ``keep_going``.

    Args:
        store: Their store.
        runs: Students after their teachers.
        finished: Runs that finished are appended.
        keep_going: Whether a run that fails or is stopped ends only the runs that wait for it.
    """
    code = Exit.OK
    for place, run in enumerate(runs):
        ended, interrupted = follow_runs(store, [run])
        code = max(code, ended)
        if ended is Exit.OK:
            finished.append(run)
        elif interrupted or not keep_going:
            rest = runs[place + 1 :]
            _stop_others(store, run, rest)
            return max(code, attend(store, rest)) if rest else code
    return code


def _stop_others(store: RunStore, ended: Run, runs: Sequence[Run]) -> None:
    """Stop the runs that do not wait for one that ended or is stopped here: those that do fail and report why."""
    from kdtui.launch.targets import launcher_of
    from kdtui.store.state import LIVE

    unfinished = {ended.id}
    for run in runs:
        waits = unfinished & {*run.manifest().awaited}
        if not waits and store.summary(run).state in LIVE:
            say(f"stopping {run.id}; --keep-going continues after a failed or stopped run")
            launcher_of(run, store).stop(run)
        unfinished.add(run.id)


def _report_not_started(profiles: Sequence[Profile]) -> None:
    if profiles:
        say(f"not started: {', '.join(profile.name for profile in profiles)}")
        say("  next: train them with another command; --keep-going continues after a failed or stopped run")
