"""Command line of the engine: ``python -m kdtui.engine VERB …``.

Every verb prints exactly one JSON object to stdout: its result, or ``{"error": {"error", "message", "hint"}}`` with the
error's exit code. Everything else goes to stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from kdtui.engine.imports import without_collections
from kdtui.errors import EngineError, Interrupted, KdtuiError, StoreError
from kdtui.standby import stand_by


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; return 0 or the error's exit code."""
    options = _parser().parse_args(arguments)
    if getattr(options, "standby", None):
        _import_for_training()
        control, done = options.standby
        stand_by(control, done, partial(_check_first, options), lambda run: main(["train", run]))
    return _run(options)


def _check_first(options: argparse.Namespace) -> int:
    """Check a profile in the process that trains its run."""
    from kdtui.engine.handover import leaving

    with leaving():
        return _run(options)


def _import_for_training() -> None:
    """Import what a check and a training need."""
    with without_collections():
        import torch.fx.experimental.symbolic_shapes  # noqa: F401 - with sympy, for passes on the meta device

        from kdtui.engine import check, fit  # noqa: F401
    gc.freeze()  # modules are never garbage, and every collection would look at all of them


def _run(options: argparse.Namespace) -> int:
    verb: Callable[[argparse.Namespace], dict[str, Any]] = options.verb
    try:
        # Libraries may print; stdout is for the result only.
        with contextlib.redirect_stdout(sys.stderr):
            answer = verb(options)
    except KdtuiError as error:
        answer, code = {"error": _described(error)}, error.exit_code
    except KeyboardInterrupt:
        given_up = Interrupted("cancelled; nothing was changed")
        answer, code = {"error": _described(given_up)}, given_up.exit_code
    else:
        code = 0
    print(json.dumps(answer), flush=True)
    return code


def _described(error: KdtuiError) -> dict[str, str | None]:
    return {"error": type(error).__name__, "message": error.message, "hint": error.hint}


def _train(options: argparse.Namespace) -> dict[str, Any]:
    from kdtui import events
    from kdtui.store.run import EventLog, Run
    from kdtui.store.scan import scan

    run = Run(Path(options.run))
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))

    def ask_to_stop(*_: object) -> None:
        try:
            run.request_stop()
        except StoreError as error:  # for example a full disk; the sender may repeat the signal
            print(error, file=sys.stderr, flush=True)

    # Signals request a stop by the stop file, like the other commands. Set before the imports, which take seconds.
    signal.signal(signal.SIGTERM, ask_to_stop)

    def fail(error: KdtuiError, *, own: bool) -> None:
        print(str(error), file=sys.stderr)
        # A failed rank breaks the next collective of the others: keep its error, not theirs, which only follow from it.
        reported = world_size > 1 and isinstance(scan(run.events_path).word, events.Failed)
        if not reported and (rank == 0 or own):
            with EventLog(run.events_path) as log:
                log.append(events.Failed(**_described(error)))  # type: ignore[arg-type]

    try:
        with without_collections():
            from kdtui.engine.fit import train

        record = run.launch_record()
        if record is None:
            raise EngineError("this run was never launched", where=run.path, hint=f"kdtui resume {run.id}")
        return {"run": run.id, "word": train(run, record, rank=rank, world_size=world_size)}
    except KdtuiError as error:
        fail(error, own=True)
        raise
    except Exception as error:
        traceback.print_exc()
        known = _translated(error, run.worker_log)
        fail(known, own=_out_of_memory(error))
        raise known from error


def _translated(error: Exception, log: Path) -> KdtuiError:
    """Convert an unexpected error to a KdtuiError; the traceback is in the worker's log."""
    text = " ".join(str(error).split())[:500]
    if _out_of_memory(error):
        return EngineError(
            "out of memory",
            found=text,
            hint="with the same result: --set training.micro_batch_size=N; otherwise smaller data.height/width",
        )
    return EngineError(f"{type(error).__name__}: {text}", hint=f"the traceback is in {log}")


def _out_of_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _inspect(options: argparse.Namespace) -> dict[str, Any]:
    from kdtui.engine.teacher_report import inspect

    report = inspect(
        options.checkpoint,
        task=options.task,
        architecture=options.architecture,
        encoder=options.encoder,
        output=options.output,
    )
    return dict(report.to_json())


def _describe(options: argparse.Namespace) -> dict[str, Any]:
    from kdtui.engine.teacher_report import inspect

    def one(path: str) -> dict[str, Any]:
        try:
            return dict(inspect(path).to_json())
        except KdtuiError as error:
            return {"error": _described(error)}

    return {"files": [one(path) for path in options.checkpoints]}


def _evaluate(options: argparse.Namespace) -> dict[str, Any]:
    from kdtui.engine.evaluate_file import assess

    return assess(_profile(options.profile), options.checkpoint, options.split, out=options.out)


def _evaluations(options: argparse.Namespace) -> dict[str, Any]:
    progress = _cancellable()
    progress("loading", 0, 0)

    from kdtui.engine.evaluate_file import assess

    jobs = json.loads(options.request.read_bytes())
    answers: list[dict[str, Any]] = []
    for number, job in enumerate(jobs):
        progress("evaluating", number, len(jobs))
        try:
            answers.append(assess(_profile(job["profile"]), job["checkpoint"], job["split"], out=Path(job["out"])))
        except Interrupted:
            raise
        except KdtuiError as error:  # continue with the other runs
            answers.append({"error": _described(error)})
    return {"evaluations": answers}


def _check(options: argparse.Namespace) -> dict[str, Any]:
    with without_collections():
        from kdtui.engine.check import check
    from kdtui.engine.untrained import stand_ins, with_names
    from kdtui.store.run import Run

    run = None if options.run is None else Run(options.run)
    awaited = {checkpoint: _profile(file) for checkpoint, file in options.awaited}
    own = _profile(options.profile)
    with stand_ins(own, awaited) as (profile, names):
        answer = check(
            profile,
            resume_from=options.resume_from,
            run=run,
            total_epochs=options.total_epochs,
            store=options.store,
            trained_teacher=not any(one.checkpoint in awaited for one in own.teacher.members),
        )
        named: dict[str, Any] = with_names(answer, names)
        return named


def _doctor(options: argparse.Namespace) -> dict[str, Any]:
    from kdtui.engine.check import doctor

    return doctor()


def _export(options: argparse.Namespace) -> dict[str, Any]:
    progress = _cancellable()
    progress("loading", 0, 0)

    from kdtui.engine.export import export, source
    from kdtui.engine.export.make import Shared
    from kdtui.export_options import from_json
    from kdtui.profile import Teacher
    from kdtui.store.run import Run

    requests = [(Path(target), from_json(json.loads(text))) for target, text in options.file]
    if options.run is not None:
        now = None if options.profile is None else _profile(options.profile)
        what = source.of_run(Run(Path(options.run)), Path(options.checkpoint), now)
    else:
        overrides = Teacher(task=options.task, architecture=options.architecture, encoder=options.encoder)
        what = source.of_checkpoint(
            Path(options.checkpoint),
            teacher=overrides,
            classes=tuple(json.loads(options.classes)),
            profile=None if options.profile is None else _profile(options.profile),
        )
    reports: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="kdtui-") as folder:
        shared = Shared(Path(folder)) if len(requests) > 1 else None
        for target, wanted in requests:
            tell = partial(progress, target=str(target))
            try:
                report = export(what, target, wanted, progress=tell, shared=shared)
            except Interrupted:
                raise
            except KdtuiError as error:  # continue with the other files
                report = {"error": _described(error)}
            tell("finished", 0, 0, report=report)
            reports.append(report)
    return {"exports": reports}


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    progress = _cancellable()
    progress("loading", 0, 0)

    from kdtui.engine.measure import measure
    from kdtui.measure_options import MeasureOptions
    from kdtui.store.run import Run

    settings = MeasureOptions(**json.loads(options.settings))
    return measure([Run(Path(run)) for run in options.runs], settings, progress=progress)


def _measure_files(options: argparse.Namespace) -> dict[str, Any]:
    progress = _cancellable()
    progress("loading", 0, 0)

    from kdtui.engine.measure_files import measure_files
    from kdtui.measure_options import MeasureOptions

    settings = MeasureOptions(**json.loads(options.settings))
    size = None if options.size is None else tuple(options.size)
    return measure_files(options.files, settings, size, progress=progress)


def _screen(options: argparse.Namespace) -> dict[str, Any]:
    progress = _cancellable()
    progress("loading", 0, 0)

    from kdtui.engine.screen import screen
    from kdtui.measure_options import MeasureOptions

    request = json.loads(options.request.read_bytes())
    profile = _profile(request["profile"])
    return screen(
        profile,
        {name: type(profile.student)(**table) for name, table in request["networks"].items()},
        MeasureOptions(**json.loads(options.settings)),
        runtime=request["runtime"],
        precision=request["precision"],
        sizes_only=request["sizes_only"],
        progress=progress,
    )


def _predict(options: argparse.Namespace) -> dict[str, Any]:
    progress = _cancellable()
    progress("loading", 0, 0)

    from kdtui.engine.predict import PredictRequest, predict

    return predict(PredictRequest(**json.loads(options.request.read_bytes())), progress)


def _data(options: argparse.Namespace) -> dict[str, Any]:
    progress = _cancellable()
    progress("loading", 0, 0)

    from kdtui.engine.data_check import DataRequest, check_data

    return check_data(DataRequest(**json.loads(options.request.read_bytes())), progress)


def _look(options: argparse.Namespace) -> dict[str, Any]:
    from kdtui.engine.look import look

    return look(options.folder.absolute())


def _cancellable() -> Callable[..., None]:
    """Let SIGTERM and SIGINT cancel the verb; return a callback that reports progress as JSON lines on stderr."""

    def give_up(*_: object) -> None:
        # Not an Exception, which torch's exporters would catch to try an alternative.
        raise KeyboardInterrupt

    def tell(words: str, done: int, total: int, **more: object) -> None:
        line = {"progress": {"words": words, "done": done, "total": total} | more}
        text = json.dumps(line).encode() + b"\n"
        try:
            while text:
                text = text[os.write(2, text) :]
        except BrokenPipeError as error:  # the calling process has exited, so the result is not needed
            raise Interrupted("the calling process has exited") from error

    signal.signal(signal.SIGTERM, give_up)
    signal.signal(signal.SIGINT, give_up)
    return tell


def _profile(path: str) -> Any:
    from kdtui.profile import load

    return load(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kdtui.engine", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    train = verbs.add_parser("train", help="train the run in this folder; one process per rank")
    train.add_argument("run")
    train.set_defaults(verb=_train)

    inspect = verbs.add_parser("inspect", help="describe the contents of a checkpoint")
    inspect.add_argument("checkpoint")
    inspect.add_argument("--task", choices=["hierarchical", "semantic"])
    inspect.add_argument("--architecture")
    inspect.add_argument("--encoder")
    inspect.add_argument("--output", help="name of the output with the logits, for an ONNX file with several")
    inspect.set_defaults(verb=_inspect)

    describe = verbs.add_parser("describe", help="describe the contents of several checkpoints")
    describe.add_argument("checkpoints", nargs="+")
    describe.set_defaults(verb=_describe)

    evaluate = verbs.add_parser("evaluate", help="evaluate a checkpoint on a split")
    evaluate.add_argument("profile")
    evaluate.add_argument("checkpoint")
    evaluate.add_argument("split")
    evaluate.add_argument("--out", type=Path)
    evaluate.set_defaults(verb=_evaluate)

    evaluations = verbs.add_parser("evaluations", help="evaluate several checkpoints")
    evaluations.add_argument("request", type=Path, help="JSON list of tables with profile, checkpoint, split and out")
    evaluations.set_defaults(verb=_evaluations)

    check = verbs.add_parser("check", help="check whether a profile can be trained: data, student, teacher")
    check.add_argument("profile")
    check.add_argument("--resume-from", type=Path, help="the checkpoint that a new run would start from")
    check.add_argument("--run", type=Path, help="the run that would be resumed")
    check.add_argument("--store", type=Path, help="the run store, for what its runs share")
    check.add_argument("--total-epochs", type=int, help="number of epochs instead of the profile's")
    check.add_argument(
        "--awaited",
        nargs=2,
        action="append",
        default=[],
        metavar=("CHECKPOINT", "PROFILE"),
        help="a teacher or initial weights that are not trained yet, and their profile",
    )
    check.add_argument(
        "--standby",
        nargs=2,
        type=int,
        metavar=("CONTROL", "DONE"),
        help="descriptors: train afterwards in the same process if that is ordered",
    )
    check.set_defaults(verb=_check)

    export = verbs.add_parser("export", help="export a checkpoint to verified ONNX files")
    export.add_argument("checkpoint")
    export.add_argument(
        "--file",
        nargs=2,
        action="append",
        required=True,
        metavar=("TARGET", "OPTIONS"),
        help="path of an ONNX file, and JSON of kdtui.export_options.ExportOptions",
    )
    export.add_argument("--run", help="the run of the checkpoint")
    export.add_argument("--profile", help="profile with data for an external checkpoint")
    export.add_argument("--classes", default="[]", help="JSON list of class names")
    export.add_argument("--task", choices=["hierarchical", "semantic"])
    export.add_argument("--architecture")
    export.add_argument("--encoder")
    export.set_defaults(verb=_export)

    measure = verbs.add_parser("measure", help="size and latency of students and their teachers")
    measure.add_argument("runs", nargs="+", metavar="RUN")
    measure.add_argument("--settings", default="{}", help="JSON of kdtui.measure_options.MeasureOptions")
    measure.set_defaults(verb=_measure)

    files = verbs.add_parser("measure-files", help="size and latency of ONNX files")
    files.add_argument("files", nargs="+", type=Path, metavar="FILE")
    files.add_argument("--settings", default="{}", help="JSON of kdtui.measure_options.MeasureOptions")
    files.add_argument("--size", nargs=2, type=int, metavar=("HEIGHT", "WIDTH"))
    files.set_defaults(verb=_measure_files)

    screen = verbs.add_parser("screen", help="size and latency of untrained networks")
    screen.add_argument("request", type=Path, help="JSON with profile, networks, runtime, precision and sizes_only")
    screen.add_argument("--settings", default="{}", help="JSON of kdtui.measure_options.MeasureOptions")
    screen.set_defaults(verb=_screen)

    predict = verbs.add_parser("predict", help="segment pictures")
    predict.add_argument("request", type=Path, help="JSON of kdtui.engine.predict.PredictRequest")
    predict.set_defaults(verb=_predict)

    data = verbs.add_parser("data", help="read every sample of the splits and report what is wrong")
    data.add_argument("request", type=Path, help="JSON of kdtui.engine.data_check.DataRequest")
    data.set_defaults(verb=_data)

    look = verbs.add_parser("look", help="guess the layout and the labels of a folder")
    look.add_argument("folder", type=Path)
    look.set_defaults(verb=_look)

    doctor = verbs.add_parser("doctor", help="check torch, its devices, and a few training steps")
    doctor.set_defaults(verb=_doctor)
    return parser


if __name__ == "__main__":
    exit_code = main()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from kdtui.engine.fit import leave

        leave(exit_code)
    sys.exit(exit_code)
