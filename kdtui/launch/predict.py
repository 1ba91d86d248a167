"""Requests to segment pictures, and the engine process that does it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdtui.errors import DataError, RunNotFound, UsageError
from kdtui.launch.engine_process import EngineStep, converse
from kdtui.launch.moved import moved, profile_file
from kdtui.launch.teachers import best_of, source
from kdtui.profile.patterns import PICTURE_ENDINGS
from kdtui.text import counted

if TYPE_CHECKING:
    from kdtui.store.run import Run
    from kdtui.store.store import RunStore

FORMATS = ("index", "colour", "probabilities")
INSTANCES = "instances.json"
"""Name of the file with the run lengths of all instances."""
_SHOWN = 3


@dataclass(frozen=True)
class PredictOptions:
    """How pictures are segmented, and what is written.

    Attributes:
        mode: ``resize``, ``whole`` or ``slide``; empty for that of the network's evaluations.
        overlap: For ``slide``: share of a window that neighbours have in common; None for that of the evaluations.
        format: One of :data:`FORMATS`.
        overlay: Whether to write pictures with the classes in colours over them as well.
        boxes: File of boxes, for networks that segment the instances in them.
    """

    mode: str = ""
    overlap: float | None = None
    format: str = "index"
    overlay: bool = False
    boxes: Path | None = None


@dataclass(frozen=True)
class Network:
    """The network of a request: a checkpoint, of a run or of none, or an ONNX file."""

    path: Path
    run: Run | None = None
    note: str = ""


def network_of(text: str, store: RunStore) -> Network:
    """Resolve RUN|CHECKPOINT|ONNX; a run stands for its best checkpoint.

    Raises:
        RunNotFound: It is none of these.
    """
    try:
        chosen = source(text, store)
    except RunNotFound as error:
        raise RunNotFound(
            f"'{text}' is neither a run, a checkpoint nor an ONNX file",
            where=error.where,
            allowed=error.allowed,
            hint=error.hint,
        ) from error
    if chosen.path is not None:
        path = chosen.path.absolute()
        return Network(path, None if path.suffix == ".onnx" else chosen.run, chosen.note)
    assert chosen.run is not None
    return Network(best_of(chosen.run), chosen.run, chosen.note)


def pictures_of(texts: Iterable[str], lines: Iterable[str]) -> list[tuple[Path, Path]]:
    """The pictures of PICTURES arguments, with the relative path of each output without an ending.

    Args:
        texts: Files, folders (searched recursively), patterns such as ``*.jpg``, or ``-`` for ``lines``.
        lines: Paths, one per line.

    Raises:
        UsageError: A path does not exist, a folder has no picture, or two outputs would have one name.
    """
    pictures: list[tuple[Path, Path]] = []
    for text in texts:
        if text == "-":
            pictures += [(Path(line), Path(Path(line).stem)) for line in map(str.strip, lines) if line]
        else:
            pictures += _of_text(text)
    if not pictures:
        raise UsageError("no picture to segment", where="PICTURES", allowed="files, folders, patterns, or - for stdin")
    _check_distinct(pictures)
    return pictures


def _of_text(text: str) -> Iterator[tuple[Path, Path]]:
    path = Path(text).expanduser()
    if path.is_dir():
        inside = sorted(one for one in path.rglob("*") if one.suffix.lower() in PICTURE_ENDINGS and one.is_file())
        if not inside:
            raise UsageError("this folder has no picture", found=text, allowed=", ".join(PICTURE_ENDINGS))
        yield from ((one, one.relative_to(path).with_suffix("")) for one in inside)
    elif path.exists():
        yield path, Path(path.stem)
    else:
        matches = _matches(path)
        if not matches:
            raise UsageError("there is no such picture", found=text, allowed="a file, a folder, or a pattern")
        yield from ((one, Path(one.stem)) for one in matches)


def _matches(pattern: Path) -> list[Path]:
    """The files that match a path with ``*``, ``?`` or ``**``; for shells that pass patterns on."""
    parts = pattern.parts
    first = next((index for index, part in enumerate(parts) if any(sign in part for sign in "*?[")), None)
    if first is None:
        return []
    return sorted(path for path in Path(*parts[:first]).glob(str(Path(*parts[first:]))) if path.is_file())


def _check_distinct(pictures: Sequence[tuple[Path, Path]]) -> None:
    """Check that no two pictures have the same output."""
    first: dict[Path, Path] = {}
    for path, target in pictures:
        other = first.setdefault(target, path)
        if other != path:
            raise UsageError(
                "two pictures would have the same output name",
                found=f"{other}, {path}",
                hint="give their common folder: the outputs then keep its sub-folders",
            )


def predict(
    network: Network,
    pictures: Sequence[tuple[Path, Path]],
    folder: Path,
    options: PredictOptions,
    *,
    profile: str | None = None,
    device: str = "auto",
    on_step: Callable[[EngineStep], None] = lambda step: None,
) -> dict[str, Any]:
    """Segment the pictures in an engine process; returns its report.

    Args:
        network: From :func:`network_of`.
        pictures: From :func:`pictures_of`.
        folder: Folder of the outputs.
        options: How.
        profile: Profile of an external checkpoint.
        device: ``auto``, ``cpu`` or ``gpu``.
        on_step: Called with each progress step.

    Raises:
        DataError: Outputs would replace pictures.
        KdtuiError: The engine reported an error.
    """
    jobs = [(str(path.absolute()), str((folder / target).absolute())) for path, target in pictures]
    _check_kept(jobs, options)
    results = folder / INSTANCES
    if options.boxes is not None and options.boxes.resolve() == results.resolve():
        raise DataError("the results would replace the file of boxes", where="-o", found=str(results))
    request: dict[str, Any] = {
        "pictures": jobs,
        "network": str(network.path),
        "run": None if network.run is None else str(network.run.path),
        "mode": options.mode,
        "overlap": options.overlap,
        "format": options.format,
        "overlay": options.overlay,
        "accelerator": device,
        "boxes": None if options.boxes is None else str(options.boxes.absolute()),
        "results": str(results.absolute()),
    }
    with tempfile.TemporaryDirectory(prefix="kdtui-") as work:
        file = Path(work) / "request.json"
        if network.run is not None:
            with profile_file(network.run, moved(network.run)) as own:
                return _asked(file, request | {"profile": str(own)}, on_step)
        if profile is not None:
            from kdtui.profile import absolute, dump, load

            own = Path(work) / "profile.toml"
            own.write_bytes(dump(absolute(load(profile))))
            request["profile"] = str(own)
        return _asked(file, request, on_step)


def _asked(file: Path, request: dict[str, Any], on_step: Callable[[EngineStep], None]) -> dict[str, Any]:
    file.write_text(json.dumps(request))
    return converse("predict", str(file), on_step=on_step)


def _check_kept(jobs: Sequence[tuple[str, str]], options: PredictOptions) -> None:
    """Check that no output replaces one of the pictures."""
    endings = [".npy" if options.format == "probabilities" else ".png", *(["-overlay.png"] if options.overlay else [])]
    inputs = {Path(path).resolve() for path, _ in jobs}
    replaced = [
        f"{target}{ending}" for _, target in jobs for ending in endings if Path(f"{target}{ending}").resolve() in inputs
    ]
    if replaced:
        raise DataError(
            f"{counted(len(replaced), 'output')} would replace a picture; nothing was written",
            where="-o",
            found=", ".join(replaced[:_SHOWN]),
            hint="choose another folder with -o FOLDER",
        )
