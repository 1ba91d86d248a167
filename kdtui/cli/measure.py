"""``measure``: what compression gives on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from kdtui.cli.console import emit, out, say, table
from kdtui.cli.export import teller
from kdtui.cli.options import Json, RunNames, RunsDir, open_store
from kdtui.errors import Interrupted
from kdtui.wording import clean, giga, mebibytes, millions, milliseconds, number, percent, ratio

_NOISY = 0.15  # interquartile range over median


class Device(StrEnum):
    """Where latency is measured."""

    cpu = "cpu"
    gpu = "gpu"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(measure)


def measure(
    runs: RunNames,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images of the larger call.")] = 8,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed rounds.")] = 30,
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Rounds before them.")] = 5,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of torch and onnxruntime.")] = 1,
    device: Annotated[Device, typer.Option("--device", help="Where latency is measured.")] = Device.cpu,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="One table of all networks, for a README, instead of one for each run.")
    ] = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Measure size and latency of students beside their teachers, with the device to itself."""
    from kdtui.launch.measuring import How, measure

    store = open_store(runs_dir)
    found = list(dict.fromkeys(store.find(run) for run in runs))
    how = How(batch=batch, repeats=repeats, warmup=warmup, threads=threads, device=device.value)
    try:
        answers = measure(store.root, found, how, heard=teller())
    except KeyboardInterrupt as error:
        raise Interrupted("cancelled; nothing was measured") from error
    if as_json:
        emit(answers)
        return
    if markdown:
        print(clean(as_markdown(answers)))
        return
    for place, answer in enumerate(answers.values()):
        if place:
            out()
        show(answer)


def show(answer: Mapping[str, Any]) -> None:
    """One run's measurements: teacher, student, ratio, and how they were made."""
    setup = answer["setup"]
    out(answer["run"])
    lines = rows(answer)
    if answer["teacher"] is None:
        table(["", "student"], [[name, student] for name, _, student, _ in lines], right=frozenset({"student"}))
    else:
        table(["", "teacher", "student", "ratio"], lines, right=frozenset({"teacher", "student", "ratio"}))
    say(f"{conditions(setup)}; in brackets the first to the third quartile")
    if _noise(answer) > _NOISY:
        say("the quartiles are wide: something else used this machine. Ratios suffer less than values; measure again")


def as_markdown(answers: Mapping[str, Mapping[str, Any]]) -> str:
    """Every network once, a teacher before its students; in brackets how many times as small or fast as its teacher."""
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
            cells = [f"{title}: {side['architecture']}, {side['encoder']}"]
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


def conditions(setup: Mapping[str, Any]) -> str:
    """What the times depend on, in a line."""
    threads = "1 thread" if setup["threads"] == 1 else f"{setup['threads']} threads"
    return (
        f"{setup['height']} x {setup['width']}, {setup['device_name']}, {threads}, median of {setup['repeats']} "
        f"interleaved repeats; torch {setup['torch']}, onnxruntime {setup['onnxruntime']}"
    )


def rows(answer: Mapping[str, Any]) -> list[list[str]]:
    """Name, teacher, student and ratio of every line of the table."""
    teacher, student, ratios = answer["teacher"] or {}, answer["student"], answer["ratio"] or {}
    lines = [
        [words, write(teacher.get(key)), write(student.get(key)), ratio(ratios.get(key))]
        for words, key, write in (
            ("parameters", "parameters", millions),
            ("  of them used", "parameters_used", millions),
            ("parameter bytes", "parameter_bytes", mebibytes),
            ("MACs", "macs", giga),
            ("peak memory", "peak_memory_bytes", mebibytes),
            ("checkpoint", "checkpoint_bytes", mebibytes),
        )
    ]
    precisions = dict.fromkeys([*teacher.get("onnx", {}), *student["onnx"]])
    for precision in precisions:
        sizes = [side.get("onnx", {}).get(precision, {}).get("bytes") for side in (teacher, student)]
        smaller = ratios.get("onnx_bytes", {}).get(precision)
        lines.append([f"ONNX {precision}", *map(mebibytes, sizes), ratio(smaller)])
    for runtime in dict.fromkeys([*teacher.get("latency", {}), *student["latency"]]):
        sides = [side.get("latency", {}).get(runtime, {}) for side in (teacher, student)]
        for count in dict.fromkeys([*sides[0], *sides[1]]):
            faster = ratios.get("latency", {}).get(runtime, {}).get(count)
            lines.append(
                [f"{runtime}, batch {count}", *(_milliseconds(side.get(count)) for side in sides), ratio(faster)]
            )
            if count != "1":
                lines.append(["  images a second", *(_speed(side.get(count)) for side in sides), ""])
    lines.append(["mIoU", number(teacher.get("miou")), number(student.get("miou")), percent(student.get("retention"))])
    for precision in precisions:
        scores = [side.get("onnx", {}).get(precision, {}).get("miou") for side in (teacher, student)]
        lines.append([f"  ONNX {precision}", *map(number, scores), ""])
    lines.append(["agreement", "", number(student.get("agreement")), ""])
    return lines


def _milliseconds(times: Mapping[str, float] | None) -> str:
    if times is None:
        return "-"
    return f"{times['median'] * 1e3:.2f} ms ({times['q1'] * 1e3:.2f} to {times['q3'] * 1e3:.2f})"


def _speed(times: Mapping[str, float] | None) -> str:
    return "-" if times is None else f"{times['images_per_second']:.1f}"


def _noise(answer: Mapping[str, Any]) -> float:
    """The widest interquartile range over its median."""
    spreads = [
        (times["q3"] - times["q1"]) / times["median"]
        for side in (answer["teacher"], answer["student"])
        if side is not None
        for batches in side["latency"].values()
        for times in batches.values()
    ]
    return max(spreads, default=0.0)
