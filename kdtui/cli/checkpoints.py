"""``evaluate``, ``inspect``, ``teachers`` and ``encoders``."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdtui.cli.console import (
    Filter,
    Json,
    MovedSets,
    RunsDir,
    Wide,
    complete_encoder,
    complete_profile,
    complete_run,
    emit,
    fields,
    open_store,
    out,
    say,
    table,
)
from kdtui.errors import KdtuiError, RunNotFound, UsageError
from kdtui.profile.settings import plain
from kdtui.text import counted, mebibytes, millions, number, score_title

if TYPE_CHECKING:
    from kdtui.store.run import Run
    from kdtui.store.store import RunStore


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(evaluate)
    app.command()(inspect)
    app.command()(teachers)
    app.command()(encoders)


def evaluate(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN|CHECKPOINT|ONNX]...",
            help="Best checkpoints of runs (all runs of a name), or files, also of `kdtui export`; none with --filter.",
            autocompletion=complete_run,
        ),
    ] = None,
    expression: Filter = "",
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="PROFILE",
            help="Profile; with the data to evaluate on. Default: the run's.",
            autocompletion=complete_profile,
        ),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Split; train, val or test.")] = "test",
    sets: MovedSets = None,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Evaluate checkpoints and exported files on a split of the data."""
    from kdtui.launch.evaluations import evaluate_run
    from kdtui.launch.teachers import expand

    if split not in ("train", "val", "test"):
        raise UsageError("no such split", where="--split", found=split, allowed="train, val, test")
    store = open_store(runs_dir)
    # All names are resolved first: with one misspelt name, nothing is evaluated.
    subjects = [
        _subject(text, store, profile is not None) for text in dict.fromkeys(expand(sources or [], store, expression))
    ]
    answers = []
    for run, path in subjects:
        if profile is not None:
            answer = _evaluate_on(profile, path, split, sets or [])
        else:
            assert run is not None
            answer = evaluate_run(run, split, path, sets or [])
        answers.append({"run": None if run is None else run.id, **answer} if len(subjects) > 1 else answer)
        if as_json:
            continue
        if len(subjects) > 1:
            out(str(path) if run is None else run.id)
        _print_scores(answer, split)
    if as_json:
        emit(answers if len(subjects) > 1 else answers[0])


def _subject(text: str, store: RunStore, has_data: bool) -> tuple[Run | None, Path]:
    """Resolve a RUN|CHECKPOINT|ONNX argument to the run, if any, and the checkpoint."""
    from kdtui.launch.teachers import best_of, source

    try:
        found = source(text, store)
    except RunNotFound as error:
        raise RunNotFound(
            f"'{text}' is neither a checkpoint nor a run", where=error.where, allowed=error.allowed, hint=error.hint
        ) from error
    if found.note:
        say(found.note)
    if found.path is None:
        assert found.run is not None
        return found.run, best_of(found.run)
    if found.run is None and not has_data:
        raise UsageError(
            "this checkpoint belongs to no run, so its data are unknown",
            where=found.path,
            hint="choose the data with --profile NAME",
        )
    return found.run, found.path


def _print_scores(answer: Mapping[str, Any], split: str) -> None:
    if answer.get("note"):
        say(str(answer["note"]))
    out(f"{split}  mIoU {number(answer.get('miou'))}  on {answer.get('samples', '?')} samples")
    for name, value in (answer.get("iou") or {}).items():
        out(f"  IoU {name}  {number(value)}")
    for key in ("dice", "pixel_accuracy"):
        if isinstance(answer.get(key), float):
            out(f"  {key.replace('_', ' ')}  {number(answer[key])}")
    for name, value in (answer.get("metrics") or {}).items():
        out(f"  {score_title(name)}  {number(value)}")


def _evaluate_on(profile: str, checkpoint: Path, split: str, sets: Sequence[str]) -> dict[str, Any]:
    from kdtui.launch.engine_process import ask
    from kdtui.profile import absolute, dump, load

    with tempfile.TemporaryDirectory(prefix="kdtui-") as folder:
        file = Path(folder) / "profile.toml"
        file.write_bytes(dump(absolute(load(profile, sets))))
        return ask("evaluate", str(file), str(checkpoint), split)


def inspect(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A file, a save_pretrained folder or a run.")],
    task: Annotated[
        str | None,
        typer.Option("--task", help="Task; hierarchical or semantic, for four channels.", show_default=False),
    ] = None,
    architecture: Annotated[
        str | None, typer.Option("--architecture", help="If the file leaves it open.", show_default=False)
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="If the file leaves it open.", autocompletion=complete_encoder)
    ] = None,
    logits: Annotated[
        str | None,
        typer.Option("--logits", metavar="NAME", help="The logits of an ONNX file with several outputs."),
    ] = None,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """Describe the contents of a checkpoint or an ONNX file; no code in it is executed."""
    from kdtui.launch.engine_process import ask
    from kdtui.launch.teachers import find_teacher

    try:
        found = find_teacher(checkpoint, open_store(runs_dir))
    except UsageError as error:
        if error.found != checkpoint:
            raise
        raise UsageError(f"there is no checkpoint '{checkpoint}'", allowed=error.allowed, hint=error.hint) from error
    if found.note:
        say(found.note)
    path = found.checkpoint
    given = {"--task": task, "--architecture": architecture, "--encoder": encoder, "--output": logits}
    options = [word for flag, value in given.items() if value is not None for word in (flag, value)]
    answer = ask("inspect", str(path), *options)
    if as_json:
        emit(answer)
        return
    rows = [
        (key.replace("_", " "), _counts(value) if key == "places" else _text(value))
        for key, value in answer.items()
        if value not in (None, {}, [], "")
    ]
    fields(rows)


def _counts(places: dict[str, int]) -> str:
    return ", ".join(f"{place} ({counted(count, 'tensor')})" for place, count in places.items())


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int):
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{value:,}"


def teachers(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[FOLDER]...", help="Folders to search for checkpoints.")
    ] = None,
    inspecting: Annotated[
        bool, typer.Option("--inspect", help="Also read each file of the folders: its network, classes and errors.")
    ] = False,
    wide: Wide = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """List possible teachers: the best checkpoints of runs, and checkpoint files in folders."""
    from kdtui.launch.engine_process import ask
    from kdtui.launch.teachers import inspected, teacher_rows

    store = open_store(runs_dir)
    rows = teacher_rows(store, folders or [])
    if inspecting:
        rows = inspected(rows, ask)
    if as_json:
        emit([asdict(row) for row in rows])
    elif rows:
        columns = {
            "teacher": [row.run or row.checkpoint for row in rows],
            **({"family": [row.family or "-" for row in rows]} if inspecting else {}),
            "architecture": [row.architecture or "-" for row in rows],
            "encoder": [row.encoder or "-" for row in rows],
            "params": [millions(row.parameters) for row in rows],
            **({"classes": [str(row.classes or "-") for row in rows]} if inspecting else {}),
            "mIoU": [number(row.miou) for row in rows],
            "size": [mebibytes(row.bytes) for row in rows],
        }
        table(
            list(columns),
            [list(cells) for cells in zip(*columns.values(), strict=True)],
            right=frozenset({"params", "classes", "mIoU", "size"}),
            wrap=("teacher",),
            drop=("size", "architecture", "family", "params"),
            wide=wide,
        )
        for row in rows:
            if row.mistake:
                say(f"{row.checkpoint} cannot teach: {row.mistake.splitlines()[0]}")
        if any(row.run is None for row in rows):
            say("kdtui inspect CHECKPOINT describes a file")
    else:
        say(f"no checkpoints in {store.root}; kdtui teachers FOLDER searches other folders")


def encoders(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="Part of a name, or a glob.")] = "",
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher",
            metavar="CKPT|RUN",
            help="Teacher, a checkpoint or a run; the compression is relative to it.",
            autocompletion=complete_run,
        ),
    ] = None,
    wide: Wide = False,
    as_json: Json = False,
    runs_dir: RunsDir = None,
) -> None:
    """List encoders for students with their costs, as students of the teacher's own run if there is one."""
    parameters, network = (None, USUAL) if teacher is None else _as_taught_by(teacher, open_store(runs_dir))
    rows = encoder_rows(pattern, parameters, network)
    if not rows:
        raise UsageError("no encoder matches", found=pattern, hint="kdtui encoders lists all encoders")
    if as_json:
        emit(rows)
        return
    cells = [
        [
            row["encoder"],
            millions(row["parameters"]),
            f"{row['macs'] / 1e9:.2f} G",
            *([] if parameters is None else [f"{row['compression']:.2f}x"]),
        ]
        for row in rows
    ]
    header = ["encoder", "params", "MACs", *([] if parameters is None else ["smaller"])]
    table(header, cells, right=frozenset(header[1:]), wrap=("encoder",), wide=wide)
    widths = plain(network["decoder_channels"]) or "by default"
    size = f"{network['out_channels']} channels, {network['height']}x{network['width']}"
    say(f"{network['architecture']}, decoder {widths}, {size}")


USUAL: Mapping[str, Any] = {
    "architecture": "Unet",
    "decoder_channels": None,
    "out_channels": 4,
    "height": 256,
    "width": 256,
}
"""Arguments of :func:`kdtui.catalog.cost` for encoders that are listed without a run."""


def _as_taught_by(text: str, store: RunStore) -> tuple[int, Mapping[str, Any]]:
    """Parameters of a teacher, and the arguments of the cost of its students: those of its own run."""
    from kdtui.launch.engine_process import ask
    from kdtui.launch.teachers import find_teacher

    chosen = find_teacher(text, store)
    if chosen.note:
        say(chosen.note)
    known = None if chosen.run is None else _of_run(chosen.run, store)
    parameters = known if known is not None else int(ask("inspect", str(chosen.checkpoint))["parameters"])
    return parameters, USUAL if chosen.run is None else _network_of(chosen.run)


def _network_of(run: Run) -> Mapping[str, Any]:
    from kdtui.launch.plan import out_channels

    try:
        profile = run.profile()
    except KdtuiError:  # its files are damaged, or a package is missing
        return USUAL
    network, channels = profile.student.catalog_arguments(), out_channels(profile)
    if network is None or channels is None:
        return USUAL
    own = {key: value for key, value in network.items() if key != "encoder"}
    return {**own, "out_channels": channels, "height": profile.data.height, "width": profile.data.width}


def _of_run(run: Run, store: RunStore) -> int | None:
    try:
        return store.summary(run).parameters
    except KdtuiError:  # its files are damaged; the checkpoint is inspected instead
        return None


def encoder_rows(
    pattern: str, teacher_parameters: int | None, network: Mapping[str, Any] = USUAL
) -> list[dict[str, Any]]:
    """Encoders whose name contains, or as a glob matches, ``pattern``; smallest first.

    Args:
        pattern: Part of a name, or a glob.
        teacher_parameters: To compare with; None for no comparison.
        network: Arguments of :func:`kdtui.catalog.cost`, except the encoder.
    """
    from kdtui import catalog

    rows = []
    for encoder in catalog.encoders(pattern or None):
        name = encoder.name
        cost = catalog.cost(name, **network)
        if cost is None:
            continue
        row: dict[str, Any] = {"encoder": name, "parameters": cost.parameters, "macs": cost.macs}
        if teacher_parameters is not None:
            row["compression"] = teacher_parameters / cost.parameters
        rows.append(row)
    return sorted(rows, key=lambda row: int(row["parameters"]))
