"""Lists the checkpoints to export and their existing exports; call in a thread, as disks may be slow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdtui.errors import KdtuiError
from kdtui.export_options import PRECISIONS, suffix
from kdtui.launch.export import ExportRequest, export_request
from kdtui.store.export_files import report_of
from kdtui.store.files import read_file
from kdtui.store.run import Run
from kdtui.store.store import RunStore
from kdtui.store.values import MOST_BYTES, is_number, parse_json
from kdtui.text import one_line
from kdtui.tui.views.export import ExportFile, ExportSource, ParsedDraft


def source_argument(source: str, store: RunStore) -> str:
    """The source of an export request: the folder of a run of the store, else the source itself."""
    folder = store.root / source
    return str(folder) if folder.parent == store.root and (folder / "profile.toml").is_file() else source


def list_sources(read: ParsedDraft, store: RunStore) -> list[ExportSource]:
    """List the existing files of each source, and those that the export would write."""
    return [_source_or_error(source, read, store) for source in read.sources]


def _source_or_error(source: str, read: ParsedDraft, store: RunStore) -> ExportSource:
    """List the files of a source; for one that cannot be read, only the error, and no files of another source."""
    try:
        return _source(source, read, store)
    except KdtuiError as error:
        return ExportSource(source, trouble=_sentence(error))
    except OSError as error:
        return ExportSource(source, trouble=error.strerror or str(error))


def _source(source: str, read: ParsedDraft, store: RunStore) -> ExportSource:
    requests: list[ExportRequest] = []
    trouble = ""
    if read.options is not None:
        try:
            for precision in read.precisions:
                options = replace(read.options, precision=precision)
                requests.append(
                    export_request(
                        source_argument(source, store), store, options, external=read.external, folder=read.folder
                    )
                )
        except KdtuiError as error:
            trouble = _sentence(error)
        except OSError as error:  # no permission, or the path is too long
            trouble = error.strerror or str(error)
    run = requests[0].run if requests else _run(source, store)
    targets = {request.target: request.options.precision for request in requests}
    existing = [] if run is None else run.exports()
    files = [_export_file(path, targets.get(path), read.folder) for path in dict.fromkeys([*existing, *targets])]
    return ExportSource(
        name=source if run is None else run.id,
        checkpoints=() if run is None else tuple(_checkpoints(run)),
        files=tuple(sorted(files, key=lambda file: file.fate == "new")),
        trouble=trouble,
    )


def _run(source: str, store: RunStore) -> Run | None:
    folder = Path(source_argument(source, store))
    return Run(folder) if (folder / "profile.toml").is_file() else None


def _sentence(error: KdtuiError) -> str:
    facts = [error.what, error.found and f"found {error.found}", error.allowed and f"allowed: {error.allowed}"]
    return " · ".join(one_line(fact) for fact in facts if fact)


def _checkpoints(run: Run) -> Iterator[str]:
    yield from (name for name in ("best", "last", "untrained") if run.checkpoint(name).is_file())
    yield from (str(epoch) for epoch in run.epochs_on_disk())


def _export_file(path: Path, precision: str | None, folder: Path | None) -> ExportFile:
    name = path.name if folder is None or path.parent != folder.absolute() else str(path)
    try:
        size = path.stat().st_size
    except OSError:  # does not exist yet
        return ExportFile(name, precision or _precision(path), "new")
    report = _report(path)
    reported = report.get("precision")
    return ExportFile(
        name,
        reported if reported in PRECISIONS else precision or _precision(path),
        "stays" if precision is None else "replaced",
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
