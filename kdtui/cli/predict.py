"""``predict``: segment pictures with a run's student, a checkpoint or an ONNX file."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from kdtui.cli.console import (
    Device,
    Exit,
    Json,
    RunsDir,
    complete_profile,
    complete_run,
    emit,
    open_store,
    out,
    report,
    say,
)
from kdtui.cli.export import progress_line
from kdtui.errors import DataError, Interrupted, UsageError
from kdtui.text import counted


class PredictFormat(StrEnum):
    """What is written for each picture."""

    palette = "index"
    colour = "colour"
    probabilities = "probabilities"


class PredictMode(StrEnum):
    """How the network gets a picture."""

    resize = "resize"
    whole = "whole"
    slide = "slide"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(predict)


def predict(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|CHECKPOINT|ONNX",
            help="Best checkpoint of a run, a checkpoint file, or a file of `kdtui export`.",
            autocompletion=complete_run,
        ),
    ],
    pictures: Annotated[
        list[str],
        typer.Argument(metavar="PICTURES", help="Files, folders, patterns, or - for a list of paths on stdin."),
    ],
    folder: Annotated[Path, typer.Option("--to", "-o", metavar="PATH", help="Output path; a folder.")],
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Also write the pictures with the classes over them.")
    ] = False,
    evaluation: Annotated[
        PredictMode | None,
        typer.Option(
            "--evaluation",
            help="How the network gets a picture: resized, whole or in windows; default: as in evaluations of the run.",
            show_default=False,
        ),
    ] = None,
    slide: Annotated[bool, typer.Option("--slide", help="Same as --evaluation slide.")] = False,
    overlap: Annotated[
        float | None,
        typer.Option("--overlap", min=0.0, max=0.9, help="Share that windows have in common.", show_default=False),
    ] = None,
    form: Annotated[
        PredictFormat,
        typer.Option(
            "--format",
            help="Output format; index: palette PNG of classes; colour: RGB PNG; probabilities: f16 .npy [K,h,w].",
        ),
    ] = PredictFormat.palette,
    boxes: Annotated[
        Path | None,
        typer.Option(
            "--boxes",
            metavar="FILE",
            help="Boxes (COCO JSON) whose instances a network of kind roi segments; writes instances.json too.",
            show_default=False,
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="PROFILE",
            help="Profile; with the data of an external checkpoint.",
            autocompletion=complete_profile,
        ),
    ] = None,
    device: Annotated[Device, typer.Option("--device", help="Device; ONNX files use the CPU.")] = (Device.auto),
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Segment pictures; each result has its picture's size and name."""
    from kdtui.launch.engine_process import EngineStep, reported
    from kdtui.launch.predict import PredictOptions, network_of, pictures_of
    from kdtui.launch.predict import predict as segment

    if slide and evaluation not in (None, PredictMode.slide):
        raise UsageError(f"--slide and --evaluation {evaluation} exclude each other", hint="keep one of them")
    mode = PredictMode.slide if slide else evaluation
    if overlap is not None and mode in (PredictMode.resize, PredictMode.whole):
        raise UsageError("--overlap is for windows", found=f"--evaluation {mode}", hint="keep one of them")
    network = network_of(source, open_store(runs_dir))
    if network.note:
        say(network.note)
    chosen = pictures_of(pictures, sys.stdin if "-" in pictures else ())
    options = PredictOptions(
        mode=mode.value if mode else "", overlap=overlap, format=form.value, overlay=overlay, boxes=boxes
    )
    show_step = progress_line()
    skipped: list[dict[str, Any]] = []

    def step(now: EngineStep) -> None:
        error = None if now.report is None else now.report.get("error")
        if isinstance(error, dict):
            show_step(EngineStep("finished"))
            skipped.append({"picture": str(now.report["picture"]), **error} if now.report else error)
            report(reported(error))
        show_step(now)

    try:
        answer = segment(network, chosen, folder, options, profile=profile, device=device.value, on_step=step)
    except KeyboardInterrupt as error:
        raise Interrupted("cancelled; finished pictures are kept", where=folder) from error
    show_step(EngineStep("finished"))
    if as_json:
        emit(answer | {"folder": str(folder), "skipped": skipped})
    else:
        done = int(answer["pictures"]) - len(skipped)
        height, width = answer["input_size"]
        instances = answer.get("instances")
        out(
            counted(done, "picture")
            + ("" if instances is None else f", {counted(instances, 'instance')}")
            + f" in {folder}",
            prose=True,
        )
        rate = answer["images_per_second"]
        say(
            f"{answer['mode']}, {width}x{height}, {answer['device']}"
            + ("" if rate is None else f", {rate:.1f} pictures per second")
        )
        if answer.get("without_boxes"):
            say(f"{counted(answer['without_boxes'], 'picture')} without a box")
        if answer.get("unused_boxes"):
            say(f"boxes of other pictures: {answer['unused_boxes']}")
        if skipped:
            say(f"{counted(len(skipped), 'picture')} skipped")
    if skipped:
        raise typer.Exit(Exit(DataError.exit_code))
