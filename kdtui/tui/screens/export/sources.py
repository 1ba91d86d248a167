"""Lists the checkpoints to export and their existing exports; call in a thread, as disks may be slow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdtui.errors import KdtuiError
from kdtui.export_options import PRECISIONS, suffix
from kdtui.launch.export import ExportRequest, order
from kdtui.store.export_files import report_of
from kdtui.store.files import read_file
from kdtui.store.run import Run
from kdtui.store.store import RunStore
from kdtui.store.values import MOST_BYTES, is_number, parse_json
from kdtui.text import one_line
from kdtui.tui.views.export import ExportFile, ExportSource, Read


def place(source: str, store: RunStore) -> str:
    """The argument for :func:`kdtui.launch.export.order`: the folder of a run of the store, else the source itself."""
    folder = store.root / source
    return str(folder) if folder.parent == store.root and (folder / "profile.toml").is_file() else source


def look(read: Read, store: RunStore) -> list[ExportSource]:
    """List the existing files of each source, and those that the export would write."""
    return [_seen_or_told(source, read, store) for source in read.sources]


def _seen_or_told(source: str, read: Read, store: RunStore) -> ExportSource:
    """List the files of a source; for one that cannot be read, only the error, and no files of another source."""
    try:
        return _seen(source, read, store)
    except KdtuiError as error:
        return ExportSource(source, trouble=_sentence(error))
    except OSError as error:
        return ExportSource(source, trouble=error.strerror or str(error))


def _seen(source: str, read: Read, store: RunStore) -> ExportSource:
    orders: list[ExportRequest] = []
    trouble = ""
    if read.options is not None:
        try:
            for precision in read.precisions:
                options = replace(read.options, precision=precision)
                orders.append(order(place(source, store), store, options, foreign=read.foreign, folder=read.folder))
        except KdtuiError as error:
            trouble = _sentence(error)
        except OSError as error:  # no permission, or the path is too long
            trouble = error.strerror or str(error)
    run = orders[0].run if orders else _run(source, store)
    targets = {wanted.target: wanted.options.precision for wanted in orders}
    there = [] if run is None else run.exports()
    files = [_lying(path, targets.get(path), read.folder) for path in dict.fromkeys([*there, *targets])]
    return ExportSource(
        name=source if run is None else run.id,
        checkpoints=() if run is None else tuple(_checkpoints(run)),
        files=tuple(sorted(files, key=lambda file: file.fate == "new")),
        trouble=trouble,
    )


def _run(source: str, store: RunStore) -> Run | None:
    folder = Path(place(source, store))
    return Run(folder) if (folder / "profile.toml").is_file() else None


def _sentence(error: KdtuiError) -> str:
    facts = [error.what, error.found and f"found {error.found}", error.allowed and f"allowed: {error.allowed}"]
    return " · ".join(one_line(fact) for fact in facts if fact)


def _checkpoints(run: Run) -> Iterator[str]:
    yield from (name for name in ("best", "last", "untrained") if run.checkpoint(name).is_file())
    yield from (str(epoch) for epoch in run.epochs_on_disk())


def _lying(path: Path, wanted: str | None, folder: Path | None) -> ExportFile:
    name = path.name if folder is None or path.parent != folder.absolute() else str(path)
    try:
        size = path.stat().st_size
    except OSError:  # does not exist yet
        return ExportFile(name, wanted or _precision(path), "new")
    report = _report(path)
    said = report.get("precision")
    return ExportFile(
        name,
        said if said in PRECISIONS else wanted or _precision(path),
        "stays" if wanted is None else "replaced",
        size,
        _number(_table(_table(report, "verified"), "validation").get("miou")),
        _number(report.get("made")),
    )


def _precision(path: Path) -> str:
    ends = [precision for precision in PRECISIONS if precision != "fp32" and path.name.endswith(suffix(precision))]
    return ends[0] if ends else "fp32"


def _report(path: Path) -> Mapping[str, Any]:
    """The report of an export; empty if it cannot be read: the file is listed anyway."""
    try:
        found = parse_json(read_file(report_of(path), most=MOST_BYTES))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _table(tables: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = tables.get(key)
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) else None
