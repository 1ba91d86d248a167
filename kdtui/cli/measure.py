"""``measure``: size and latency of students and teachers on this machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from kdtui.cli.console import (
    ChosenRuns,
    Device,
    Filter,
    Json,
    RunsDir,
    Wide,
    emit,
    one_form,
    open_store,
    out,
    say,
    table,
)
from kdtui.cli.export import progress_line
from kdtui.errors import Interrupted, UsageError
from kdtui.measure_options import MeasureOptions
from kdtui.text import clean, giga, mebibytes, millions, milliseconds, number, ratio


class MeasureFormat(StrEnum):
    """Output format of measurements."""

    table = "table"
    json = "json"
    markdown = "markdown"


_USUAL = MeasureOptions()


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(measure)


def measure(
    runs: ChosenRuns = None,
    expression: Filter = "",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Batch size; measured besides 1.")] = _USUAL.batch,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed rounds.")] = _USUAL.repeats,
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Untimed rounds before them.")] = _USUAL.warmup,
    threads: Annotated[
        int, typer.Option("--threads", min=1, help="Threads of torch and onnxruntime.")
    ] = _USUAL.threads,
    device: Annotated[Device, typer.Option("--device", help="Device; that of the latency.")] = Device.cpu,
    size: Annotated[
        str | None,
        typer.Option(
            "--image-size",
            metavar="HEIGHTxWIDTH",
            help="Size of the images, for ONNX files that take any size; default: that of the export.",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        MeasureFormat | None,
        typer.Option(
            "--format", help="Output format; default table. markdown: one table of all networks.", show_default=False
        ),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Same as --format markdown.")] = False,
    wide: Wide = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Measure size and latency of students and their teachers, with exclusive use of the device.

    ONNX files can be named instead of runs: their size, parameters and latency on the CPU are printed, not kept.
    """
    from kdtui.launch.measure import chosen_to_measure, measure, measure_files
    from kdtui.launch.slots import place
    from kdtui.launch.teachers import expand

    written = one_form(form, MeasureFormat.markdown if markdown else None, MeasureFormat.table)
    written = one_form(
        written if form or markdown else None, MeasureFormat.json if as_json else None, MeasureFormat.table
    )
    store = open_store(runs_dir)
    found, files = chosen_to_measure(expand(runs or [], store, expression), store)
    if size is not None and not files:
        raise UsageError("--image-size is for ONNX files", found=size, hint="omit it: runs have a size")
    shape = None if size is None else _size(size)
    chosen = place("auto", 1).device if device is Device.auto else device.value
    how = MeasureOptions(batch=batch, repeats=repeats, warmup=warmup, threads=threads, device=chosen)
    try:
        if files:
            answers = measure_files(store.root, files, how, shape, on_step=progress_line())
        else:
            answers = measure(store.root, found, how, on_step=progress_line())
    except KeyboardInterrupt as error:
        raise Interrupted("cancelled; nothing was measured") from error
    if written is MeasureFormat.json:
        emit(answers)
        return
    if written is MeasureFormat.markdown:
        print(clean(as_markdown(answers)))
        return
    for index, answer in enumerate(answers.values()):
        if index:
            out()
        show(answer, wide=wide)
    say_conditions(answers.values())
    if files:
        say("MACs and memory of a single file are not known; `kdtui measure RUN` measures them for a run")


def _size(text: str) -> tuple[int, int]:
    """Height and width of ``HEIGHTxWIDTH``.

    Raises:
        UsageError: It is not two positive numbers.
    """
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isascii() and side.isdecimal() and int(side) > 0 for side in sides):
        raise UsageError("not a valid size", where="--image-size", found=text, allowed="HEIGHTxWIDTH, such as 256x512")
    return int(sides[0]), int(sides[1])


def say_conditions(answers: Collection[Mapping[str, Any]]) -> None:
    """Print the conditions of all measurements, those that are equal once."""
    from kdtui.compare.measured import NOISY, conditions, noisy

    for words in dict.fromkeys(conditions(answer["setup"]) for answer in answers):
        say(f"{words}; first to third quartile in brackets")
    if any(noisy(answer) for answer in answers):
        say(NOISY)


def show(answer: Mapping[str, Any], *, wide: bool = False) -> None:
    """Print one run's measurements: teacher, student and ratio."""
    from kdtui.compare.measured import rows

    out(answer["run"])
    lines = rows(answer)
    if answer["teacher"] is None:
        column = "student" if answer["student"].get("architecture") else "file"
        header, lines = (
            ["", column],
            [[name, student] for name, _, student, _ in lines if column == "student" or student != "-"],
        )
    else:
        header = ["", "teacher", "student", "ratio"]
    table(header, lines, right=frozenset(header[1:]), wrap=("teacher", "student"), wide=wide)


def as_markdown(answers: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table with each network once, teachers before their students, and the student's gain in brackets."""
    from kdtui.compare.measured import conditions

    names = list(_columns(answers))
    head = ["network", "parameters", "MACs", *names, "mIoU"]
    lines, seen = [head, ["---", *["---:"] * (len(head) - 1)]], set()
    for answer in answers.values():
        ratios = answer["ratio"] or {}
        for side, own in ((answer["teacher"], {}), (answer["student"], ratios)):
            if side is None or side["sha256"] in seen:
                continue
            seen.add(side["sha256"])
            title = f"{answer['run']} (student)" if side is answer["student"] else f"teacher of {answer['run']}"
            files, times = own.get("onnx_bytes", {}), own.get("latency", {})
            cells = [f"{title}: {', '.join(filter(None, (side['architecture'], side['encoder'])))}"]
            cells.append(_beside(millions(side["parameters"]), own.get("parameters")))
            cells.append(_beside(giga(side["macs"]), own.get("macs")))
            for name in names:
                kind, _, runtime = name.partition(": ")
                if kind == "bytes":
                    size = side["onnx"].get(runtime.removeprefix("ONNX "), {}).get("bytes")
                    cells.append(_beside(mebibytes(size), files.get(runtime.removeprefix("ONNX "))))
                else:
                    median = side["latency"].get(runtime, {}).get("1", {}).get("median")
                    cells.append(_beside(milliseconds(median), times.get(runtime, {}).get("1")))
            lines.append([*cells, number(side["miou"])])
    setup = next(iter(answers.values()))["setup"]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"{table}\n\n{conditions(setup)}; latency of one image."


def _columns(answers: Mapping[str, Mapping[str, Any]]) -> dict[str, None]:
    sides = [side for answer in answers.values() for side in (answer["teacher"], answer["student"]) if side]
    sizes = {f"bytes: ONNX {precision}": None for side in sides for precision in side["onnx"]}
    return sizes | {f"latency: {runtime}": None for side in sides for runtime in side["latency"]}


def _beside(text: str, times: float | None) -> str:
    return text if times is None else f"{text} ({ratio(times)})"
