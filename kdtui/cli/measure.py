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
from kdtui.wording import giga, mebibytes, millions, number, percent, ratio

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
    threads = "1 thread" if setup["threads"] == 1 else f"{setup['threads']} threads"
    say(
        f"{setup['height']} x {setup['width']}, {setup['device_name']}, {threads}, {setup['repeats']} interleaved "
        f"repeats: median (first to third quartile); torch {setup['torch']}, onnxruntime {setup['onnxruntime']}"
    )
    if _noise(answer) > _NOISY:
        say("the quartiles are wide: something else used this machine. Ratios suffer less than values; measure again")


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
