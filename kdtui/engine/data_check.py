"""The ``data`` verb: read every sample of the splits, report what is wrong, and keep the result in the run store."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from kdtui.engine.contact_sheet import contact_sheet
from kdtui.engine.data import SegmentationDataset, build_dataset, build_unlabelled
from kdtui.engine.data.examine import SampleRecord, examine, sample_keys
from kdtui.engine.data.loading import Worker
from kdtui.engine.data_report import Alike, Finding, SplitRecords, facts_of, findings_of, to_json
from kdtui.engine.kept_records import KeptRecords
from kdtui.engine.losses.class_weights import BETA, balanced, effective
from kdtui.engine.sanity import unlabelled_warnings
from kdtui.errors import DataError, EngineError, KdtuiError, NoSplit, StoreError
from kdtui.profile import DataTable, load
from kdtui.store import data_checks
from kdtui.store.data_checks import NEEDED, SPLITS, SplitCheck
from kdtui.store.files import write_atomically

Progress = Callable[..., None]
_AT_ONCE = 4
"""Samples that a process reads before it returns them."""
_FEW = 24
"""Samples that are read in this process: starting others takes longer."""


@dataclass(frozen=True)
class DataRequest:
    """What to read; sent as JSON.

    Attributes:
        profile: File of the profile.
        root: The run store.
        splits: Names of splits; empty for training, validation and, if there is one, test.
        sheet: File of the contact sheet; empty for one beside the kept result.
        processes: Number of reading processes.
    """

    profile: str
    root: str
    splits: Sequence[str] = ()
    sheet: str = ""
    processes: int = 1


def check_data(request: DataRequest, progress: Progress) -> dict[str, Any]:
    """Read every sample of the splits that is not kept, and report on all.

    Args:
        request: The request.
        progress: Called with the number of samples read so far and their total.

    Returns:
        ``ok``, ``samples``, ``unlabelled``, ``read`` (now, not from the kept records), ``kept``, ``classes``,
        ``splits`` by name, ``duplicates``, ``findings``, ``class_weights`` and ``sheet``: see ``docs/data.md``.

    Raises:
        KdtuiError: A requested split does not exist, or a reading process ended.
    """
    table = load(request.profile).data
    data = table.as_stored()
    folder = data_checks.data_folder(Path(request.root))
    name = data_checks.settings_digest(data)
    records = KeptRecords(folder / f"{name}.jsonl")
    progress("listing", 0, 0)
    splits = [_listed(data, split) for split in request.splits or SPLITS]
    if not request.splits:
        splits = [split for split in splits if split.name in NEEDED or not isinstance(split.error, NoSplit)]
    try:
        read = _read_missing(splits, records, request.processes, progress)
    finally:
        records.flush()
    progress("comparing", 0, 0)
    alike = Alike([split.read for split in splits])
    findings = findings_of([split.read for split in splits], data, alike)
    if not request.splits:
        records.tidy({key for split in splits for key in split.keys})
    sheet = _write_sheet(splits, Path(request.sheet) if request.sheet else folder / f"{name}.png", bool(request.sheet))
    kept = _keep(splits, findings, data, Path(request.root)) and records.kept
    unlabelled, its_findings = (0, []) if request.splits else _unlabelled(table)
    findings = [*findings, *its_findings]
    classes = next((split.read.dataset.classes for split in splits if split.read.dataset is not None), ())
    return {
        "ok": not any(finding.level == "error" for finding in findings),
        "samples": sum(len(split.keys) for split in splits),
        "unlabelled": unlabelled,
        "read": read,
        "kept": kept,
        "classes": list(classes),
        "splits": {
            split.name: facts_of(split.read) | {"near_duplicates": alike.near_within(split.name)} for split in splits
        },
        "duplicates": alike.to_json(),
        "findings": to_json(findings),
        "class_weights": _weights(splits),
        "sheet": sheet,
    }


def _unlabelled(table: DataTable) -> tuple[int, list[Finding]]:
    """The number of images without labels, all of which are read, and what is wrong with them."""
    if table.unlabelled is None:
        return 0, []
    try:
        images = build_unlabelled(table, build_dataset(table, "train"))
        assert images is not None
        warnings = unlabelled_warnings(images, table, build_dataset(table, "val"), most=len(images))
        return len(images), [Finding.of(warning) for warning in warnings]
    except DataError as error:
        return 0, [Finding("error", "unlabelled-images", "", error.message, error.hint)]


@dataclass
class _Split:
    """A split, the keys of its samples, and its fingerprint before it was read."""

    name: str
    read: SplitRecords
    fingerprint: str = ""
    keys: list[str] = field(default_factory=list)

    @property
    def dataset(self) -> SegmentationDataset | None:
        return self.read.dataset

    @property
    def error(self) -> KdtuiError | None:
        return self.read.error


def _listed(data: DataTable, name: str) -> _Split:
    """The samples of a split; a split that cannot be read has an error instead."""
    split = _Split(name, SplitRecords(name))
    # Before the samples are read: a change during the reading makes the result out of date.
    with contextlib.suppress(KdtuiError, OSError):
        split.fingerprint = data_checks.fingerprint(data, name)
    try:
        dataset = build_dataset(data, name)
    except KdtuiError as error:
        split.read.error = error
        return split
    own = {path for index in range(len(dataset)) for path in dataset.sample_files(index)}
    if own:
        settings, others = data_checks.settings_digest(data), [path for path in data.files(name) if path not in own]
    else:
        settings, others = split.fingerprint, []
    split.read.dataset, split.keys = dataset, sample_keys(dataset, settings, others)
    return split


def _read_missing(splits: Sequence[_Split], kept: KeptRecords, processes: int, progress: Progress) -> int:
    """Read the samples without a kept record, and set the records of all; returns how many were read."""
    total = sum(len(split.keys) for split in splits)
    known = done = sum(kept[key] is not None for split in splits for key in split.keys)
    for split in splits:
        dataset = split.dataset
        if dataset is None:
            continue
        missing = [(index, key) for index, key in enumerate(split.keys) if kept[key] is None]
        progress(f"reading {split.name}", done, total)
        for record in _examined(dataset, missing, processes):
            kept.add(record)
            done += 1
            progress(f"reading {split.name}", done, total)
        records = (kept[key] for key in split.keys)
        split.read.records = [record for record in records if record is not None]
    return done - known


_dataset: SegmentationDataset | None = None
"""The split that this process reads; the processes are forked after it is listed."""


def _start(dataset: SegmentationDataset, worker: Worker) -> None:
    global _dataset
    _dataset = dataset
    worker(0)


def _examine(sample: tuple[int, str]) -> SampleRecord:
    assert _dataset is not None
    return examine(_dataset, *sample)


def _examined(
    dataset: SegmentationDataset, samples: Sequence[tuple[int, str]], processes: int
) -> Iterator[SampleRecord]:
    """Records of the samples, read by several processes, in order."""
    if processes < 2 or len(samples) <= _FEW:
        yield from (examine(dataset, *sample) for sample in samples)
        return
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    pool = ProcessPoolExecutor(processes, context, partial(_start, dataset, Worker()))
    try:
        yield from pool.map(_examine, samples, chunksize=_AT_ONCE)
    except BrokenProcessPool as error:
        raise EngineError(
            "a process that reads images ended unexpectedly",
            found="most often the machine or container is out of memory",
            hint="repeat the command: it continues with the samples that were not read yet",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _write_sheet(splits: Sequence[_Split], file: Path, requested: bool) -> str | None:
    """Write the contact sheet; returns its path, or None if there is nothing to show."""
    content = contact_sheet([split.read for split in splits])
    if content is None:
        return None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, content)
    except StoreError:
        if requested:
            raise
        return None
    except OSError as error:
        if requested:
            raise StoreError("the contact sheet cannot be written", where=file, found=error.strerror) from error
        return None
    return str(file)


def _keep(splits: Sequence[_Split], findings: Sequence[Finding], data: DataTable, root: Path) -> bool:
    """Keep the result for each split, beside earlier results for other splits; whether that was possible."""
    checks = data_checks.kept_checks(root, data)
    now = time.time()
    for split in splits:
        if split.error is not None and split.name not in NEEDED:
            continue
        own = [finding for finding in findings if (finding.split or "train") == split.name]
        errors = tuple(finding.message.split("\n")[0] for finding in own if finding.level == "error")
        warnings = sum(finding.level == "warning" for finding in own)
        checks[split.name] = SplitCheck(split.fingerprint, len(split.keys), now, errors, warnings)
    file = data_checks.data_folder(root) / f"{data_checks.settings_digest(data)}.json"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(data_checks.to_json(checks)).encode())
    except (OSError, StoreError):
        return False
    return True


def _weights(splits: Sequence[_Split]) -> dict[str, list[float]] | None:
    """Class weights from the labels of the training split, as the loss terms compute them; None without it."""
    train = next((split.read for split in splits if split.name == "train" and split.read.usable), None)
    if train is None or train.dataset is None:
        return None
    counts = train.counts[: len(train.dataset.classes)].tolist()
    if not sum(counts):
        return None
    weights = {"balanced": balanced(counts), "effective": effective(counts, BETA)}
    return {name: [float(f"{weight:.4g}") for weight in values] for name, values in weights.items()}
