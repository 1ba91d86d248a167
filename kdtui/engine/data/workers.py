"""Loading processes: their need of shared memory, and errors when one of them fails."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

from kdtui import processes
from kdtui.engine.data.protocol import SegmentationDataset
from kdtui.engine.data.unlabelled import UnlabelledImages
from kdtui.errors import EngineError
from kdtui.profile import Training

SHARED_MEMORY = Path("/dev/shm")
PREFETCH = 2
"""Batches that each loading process prepares ahead."""
_MOST_FOR_GPU, _MOST_FOR_CPU = 8, 4

_NO_WORKERS = "`kdtui train` with --set training.workers=0 loads in the training process"


def available_memory() -> int | None:
    """Free bytes of the shared memory; None on a system without ``/dev/shm``."""
    if not SHARED_MEMORY.is_dir():
        return None
    found = os.statvfs(SHARED_MEMORY)
    return found.f_bavail * found.f_frsize


def with_workers(
    training: Training,
    device: str,
    threads: int,
    check: Callable[[Training], object],
    *,
    cores: int | None = None,
) -> Training:
    """The settings with a number of loading processes, which no result depends on, in place of ``auto``.

    With a GPU, every core but the one of the training loads, up to eight. On the CPU, the cores that the training
    leaves, up to four, and at least one process, which loads the next batch during a step. There is none on a single
    core.

    Args:
        training: Settings of the training.
        device: ``cpu``, or a kind of GPU.
        threads: Torch threads of a rank.
        check: Raises an :class:`EngineError` for settings whose batches do not fit into the shared memory.
        cores: Number of cores of all ranks; default: those of this process.
    """
    if training.workers != "auto":
        return training
    share = (processes.cores() if cores is None else cores) // training.devices
    count = min(share - 1, _MOST_FOR_GPU) if device != "cpu" else min(max(share - threads, 1), _MOST_FOR_CPU)
    for number in range(count if share > 1 else 0, 0, -1):
        chosen = training.model_copy(update={"workers": number})
        with contextlib.suppress(EngineError):
            check(chosen)
            return chosen
    return training.model_copy(update={"workers": 0})


def check_workers(
    datasets: tuple[SegmentationDataset, SegmentationDataset],
    training: Training,
    unlabelled: UnlabelledImages | None = None,
    *,
    available: Callable[[], int | None] = available_memory,
) -> str:
    """Check that the batches of all loading processes fit into the shared memory.

    Args:
        datasets: Training and validation split.
        training: Batch sizes, workers and devices; every rank is on this machine.
        unlabelled: Images without labels, of which each step has some.
        available: Returns the free bytes of the shared memory.

    Raises:
        EngineError: They do not fit.
    """
    train_set, val_set = datasets
    size = training.batch_size // training.devices
    micro = training.micro_batch_size or size
    ahead = PREFETCH * training.loading_processes
    parts = [
        _bytes(train_set, micro * ahead + size, training.devices),
        _bytes(val_set, max(micro, 8) * (ahead + 1), training.devices),
    ]
    if unlabelled is not None:
        count = unlabelled.settings.per_step(training.batch_size, training.devices)
        parts.append(_bytes(unlabelled, micro * ahead + -(-count // training.devices), training.devices))
    needed = training.devices * max(parts)
    free = available()
    text = f"{training.workers} loading processes per device, {_mib(needed)} of shared memory"
    if free is None or needed <= free:
        return text
    raise EngineError(
        "not enough shared memory for the loading processes",
        where=SHARED_MEMORY,
        found=f"{_mib(free)} free",
        allowed=f"at least {_mib(needed)} for training.workers = {training.workers}",
        hint=f"{_NO_WORKERS}; or enlarge /dev/shm (docker run --shm-size={_mib(2 * needed).split()[0]}m)",
    )


def out_of_shared_memory(error: RuntimeError) -> EngineError | None:
    """Convert torch's failure to share a batch; None for any other error."""
    if "shared memory" not in str(error):
        return None
    return EngineError(
        "a loading process ran out of shared memory",
        where=SHARED_MEMORY,
        found=_free(),
        hint=f"{_NO_WORKERS}; or free space in /dev/shm, or enlarge it (docker run --shm-size=1g)",
    )


def death(exit_code: int) -> EngineError:
    """The error for a loading process that exited unexpectedly.

    Args:
        exit_code: Exit code of the process; negative for a signal.
    """
    if -exit_code == signal.SIGBUS:
        found = f"SIGBUS: {SHARED_MEMORY} is full or too small ({_free()})"
    elif -exit_code == signal.SIGKILL:
        found = "SIGKILL: most often the machine or container is out of memory"
    else:
        found = f"exit code {exit_code}" if exit_code >= 0 else f"signal {-exit_code}"
    return EngineError("a loading process exited unexpectedly", where="training.workers", found=found, hint=_NO_WORKERS)


def stalled(seconds: float) -> EngineError:
    """The error after waiting too long for a batch."""
    return EngineError(
        f"no batch from the loading processes for {seconds:.0f} s",
        where="training.workers",
        allowed="a batch at least that often",
        hint=f"check the disk or network of the data; {_NO_WORKERS}",
    )


def _bytes(dataset: SegmentationDataset | UnlabelledImages, samples: int, devices: int) -> int:
    """Bytes of this many samples on one device, at most those of one epoch."""
    sample = dataset[0, 0]
    tensors = (sample.image, sample.mask, sample.weak, *sample.extras.values())
    each = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    return each * min(samples, -(-len(dataset) // devices))


def _free() -> str:
    free = available_memory()
    return "none" if free is None else f"{_mib(free)} free"


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"
