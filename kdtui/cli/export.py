"""``export``: convert checkpoints to ONNX files whose outputs are verified against torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdtui.cli.console import (
    Exit,
    Filter,
    Json,
    MovedSets,
    RunsDir,
    complete_encoder,
    complete_profile,
    complete_run,
    emit,
    open_store,
    out,
    report,
    say,
)
from kdtui.errors import Interrupted, KdtuiError
from kdtui.export_options import PRECISIONS, ExportOptions, lines_of, option
from kdtui.text import clean

if TYPE_CHECKING:
    from kdtui.launch.engine_process import EngineStep
    from kdtui.launch.export import ExportRequest
    from kdtui.store.run import Run
    from kdtui.store.store import RunStore


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)


def _option_help(name: str) -> str:
    line = option(name)
    return f"{line.says} {line.allowed}." if line.choices else line.says


def export(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|CHECKPOINT]...",
            help="Runs (all runs of a name), or checkpoint files; none with --filter.",
            autocompletion=complete_run,
        ),
    ] = None,
    expression: Filter = "",
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--precision",
            help=_option_help("precision") + " Repeatable; default fp32.",
            autocompletion=lambda: list(PRECISIONS),
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[str, typer.Option("--checkpoint", help=_option_help("checkpoint"))] = "best",
    dynamic: Annotated[str, typer.Option("--dynamic", help=_option_help("dynamic"))] = "all",
    batch: Annotated[int, typer.Option("--batch", help=_option_help("batch"))] = 1,
    height: Annotated[int, typer.Option("--height", help=_option_help("height"))] = 0,
    width: Annotated[int, typer.Option("--width", help=_option_help("width"))] = 0,
    input_type: Annotated[str, typer.Option("--input", help=_option_help("input"))] = "float",
    contents: Annotated[str, typer.Option("--output", help=_option_help("output"))] = "logits",
    parts: Annotated[bool, typer.Option("--parts", help=_option_help("parts"))] = False,
    opset: Annotated[int, typer.Option("--opset", help=_option_help("opset"))] = 18,
    slim: Annotated[bool, typer.Option("--slim", help=_option_help("slim"))] = False,
    calibration: Annotated[int, typer.Option("--calibration", help=_option_help("calibration"))] = 100,
    keep_float: Annotated[str, typer.Option("--keep-float", help=_option_help("keep_float"))] = "none",
    limit: Annotated[float, typer.Option("--limit", help=_option_help("limit"))] = 1.0,
    folder: Annotated[
        Path | None,
        typer.Option("--to", "-o", metavar="PATH", help="Output path; a folder. Default: that of the checkpoint."),
    ] = None,
    sets: MovedSets = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            metavar="NAME,…",
            help="Class names in order; of an external checkpoint, in that of its channels.",
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="PROFILE",
            help="Profile; with data to verify and calibrate an external checkpoint.",
            autocompletion=complete_profile,
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", help="Task; hierarchical or semantic, of an external checkpoint.", show_default=False),
    ] = None,
    architecture: Annotated[
        str | None, typer.Option("--architecture", help="If the file leaves it open.", show_default=False)
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="If the file leaves it open.", autocompletion=complete_encoder)
    ] = None,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Export checkpoints to ONNX; files are verified against torch on validation images before they are saved."""
    from kdtui.launch.export import ExternalCheckpoint, export_request, with_precision
    from kdtui.launch.teachers import expand

    store = open_store(runs_dir)
    options = ExportOptions(
        checkpoint=checkpoint,
        opset=opset,
        dynamic=dynamic,
        batch=batch,
        height=height,
        width=width,
        output=contents,
        parts=parts,
        input=input_type,
        slim=slim,
        calibration=calibration,
        keep_float=keep_float,
        limit=limit,
    )
    names = () if classes is None else tuple(name.strip() for name in classes.split(","))
    external = ExternalCheckpoint(task, architecture, encoder, names, profile)
    requests = [
        export_request(source, store, with_precision(options, name), external=external, folder=folder, sets=sets or [])
        for source in dict.fromkeys(expand(sources or [], store, expression))
        for name in dict.fromkeys(precision or ["fp32"])
    ]
    for note in dict.fromkeys(request.note for request in requests if request.note):
        say(note)
    carry_out(requests, as_json=as_json)


def export_best(store: RunStore, runs: Sequence[Run], *, quiet: bool) -> None:
    """Export the best checkpoint of each run with default options; progress is printed to stderr.

    Args:
        store: The store of the runs.
        runs: Finished runs.
        quiet: Print nothing to stdout, which already has its JSON.
    """
    from kdtui.launch.export import export_request

    carry_out([export_request(str(run.path), store, ExportOptions()) for run in runs], as_json=False, quiet=quiet)


def carry_out(requests: Sequence[ExportRequest], *, as_json: bool, quiet: bool = False) -> None:
    """Make the exports, grouped by network; a failed export does not prevent the others."""
    from kdtui.launch.engine_process import EngineStep
    from kdtui.launch.export import export, together

    results: dict[str, dict[str, Any]] = {}
    code = Exit.OK
    reported: set[str] = set()
    announced: list[ExportRequest] = []
    show = progress_line()

    def on_step(request: ExportRequest, step: EngineStep) -> None:
        if request not in announced:
            announced.append(request)
            say(f"{request.name}: {request.target.name}")
        show(step)

    def finished(request: ExportRequest, outcome: dict[str, Any] | KdtuiError) -> None:
        nonlocal code
        show(EngineStep("finished"))
        if isinstance(outcome, KdtuiError):
            if outcome.message not in reported:  # all files of a network may fail for the same reason
                reported.add(outcome.message)
                report(outcome)
            message = {"error": type(outcome).__name__, "message": outcome.message}
            results[str(request.target)] = {"path": str(request.target)} | message
            code = max(code, Exit(outcome.exit_code))
            return
        results[str(request.target)] = {"path": str(request.target)} | outcome
        if not as_json and not quiet:
            for line in lines_of(outcome, request.target):
                out(line, prose=True)

    for group in together(requests):
        try:
            export(group, on_step=on_step, finished=finished)
        except KeyboardInterrupt as error:
            raise Interrupted("cancelled; existing files are unchanged") from error
    if as_json and not quiet:
        emit([results[str(request.target)] for request in requests])
    if code is not Exit.OK:
        raise typer.Exit(code)


def progress_line() -> Callable[[EngineStep], None]:
    """A callback that prints progress to stderr: one line that is redrawn on a terminal, else one line per step."""
    terminal = sys.stderr.isatty()
    last = ""

    def show(step: EngineStep) -> None:
        nonlocal last
        if terminal:
            count = f" {step.done}/{step.total}" if step.total else ""
            sys.stderr.write(f"\r\x1b[K  {clean(step.words)}{count}" if step.words != "finished" else "\r\x1b[K")
            sys.stderr.flush()
        elif step.words not in (last, "finished"):
            say(f"  {step.words}")
        last = step.words

    return show
