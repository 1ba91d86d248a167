"""Load batches of a dataset, in an order that can be resumed at any step.

The order of an epoch is a permutation drawn from ``(seed, epoch)``. Optimizer step ``s`` has the samples
``order[s * B : (s + 1) * B]``; ranks, and within them micro-batches, are contiguous slices of it. So the
samples of a step do not depend on how the work is divided, and resuming needs only the step number.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from kdtui.engine.data.protocol import Batch, Sample, SegmentationDataset
from kdtui.engine.data.rarity import weighted_order
from kdtui.engine.data.source import seed_of
from kdtui.engine.data.unlabelled import UnlabelledImages
from kdtui.engine.data.workers import PREFETCH, death, out_of_shared_memory, stalled
from kdtui.errors import DataError, EngineError, KdtuiError
from kdtui.profile import Training

SampleKey = tuple[int, int]
Waiting = Callable[[float], None]
POLL = 1.0
"""Seconds between two checks for other events while waiting for a batch."""
_DYING = 30.0
PATIENCE = 300.0
"""Seconds without a batch after which loading fails."""
_PR_SET_PDEATHSIG = 1
_NEXT_VIEW = 1_000_003  # a prime beyond all epochs


class _Carrying(Dataset["Sample | KdtuiError"]):
    """Wrapper of a dataset that returns failures instead of raising them.

    DataLoader recreates a worker's exception from its text only, which would lose its class, facts and hint.
    """

    def __init__(self, dataset: SegmentationDataset, unlabelled: UnlabelledImages | None, *, evaluation: bool) -> None:
        self._dataset = dataset
        self._unlabelled = unlabelled
        self._evaluation = evaluation

    def __getitem__(self, key: SampleKey) -> Sample | KdtuiError:
        index, view = key
        try:
            if self._unlabelled is not None and index >= len(self._dataset):
                return self._unlabelled[index - len(self._dataset), view]
            return self._dataset.for_evaluation(index) if self._evaluation else self._dataset[key]
        except KdtuiError as error:
            return error


def _collate(collate: Callable[[Sequence[Sample]], Batch], samples: list[Sample | KdtuiError]) -> Batch | KdtuiError:
    """One batch, or the first failure among its samples.

    A loading process moves the batch into shared memory here. In the queue's thread, a failure would only be
    printed, and the batch would never arrive.
    """
    whole: list[Sample] = []
    for sample in samples:
        if isinstance(sample, KdtuiError):
            return sample
        whole.append(sample)
    batch = collate(whole)
    truths = tuple(sample.truth for sample in whole if sample.truth is not None)
    if truths:
        batch = batch._replace(truths=truths)
    weak = [sample.weak for sample in whole if sample.weak is not None]
    if weak:
        skipped = tuple(name for sample in whole for name in sample.skipped)
        weak = [torch.stack(weak)]
        batch = batch._replace(weak=weak[0], skipped=skipped)
    if torch.utils.data.get_worker_info() is not None:
        try:
            for tensor in (batch.images, batch.masks, *batch.extras.values(), *truths, *weak):
                tensor.share_memory_()
        except RuntimeError as error:
            known = out_of_shared_memory(error)
            if known is None:
                raise
            return known
    return batch


def _end_when_asked_by(parent: int) -> None:
    """Wait for SIGTERM, and exit when the parent sent it."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


class Worker:
    """Initialise a loading process so that only the rank that forked it ends it, and it ends with that rank.

    A forked worker has copies of the rank's descriptors, including its device slot: one that outlived a killed rank
    would keep the slot locked. Ctrl-C, or SIGTERM to the whole group, requests a clean stop of the rank, which needs
    batches until then: so a worker obeys SIGTERM only from its rank, which is how multiprocessing ends it.
    """

    def __init__(self) -> None:
        self._parent = os.getpid()

    def __call__(self, worker: int) -> None:
        """Initialise the process that this runs in."""
        torch.set_num_threads(1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if sys.platform != "linux":
            return
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != self._parent:  # it ended before the call of prctl
            os.kill(os.getpid(), signal.SIGKILL)
        # Blocked first: threads inherit the mask, and only a blocked signal can be waited for.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_asked_by, args=(self._parent,), daemon=True).start()


class Batches:
    """The batches of one pass; every iteration returns the same ones.

    Args:
        dataset: Source of the samples.
        plan: The keys of every batch.
        workers: Number of loading processes; 0 loads in this process.
        unlabelled: Source of the samples whose number is not one of the dataset.
        evaluation: Whether samples are those of :meth:`SegmentationDataset.for_evaluation`.
        waiting: Called every second while waiting for a batch, with the seconds so far; may raise.
        patience: Seconds without a batch after which loading fails.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        plan: list[list[SampleKey]],
        *,
        workers: int,
        unlabelled: UnlabelledImages | None = None,
        evaluation: bool = False,
        waiting: Waiting = lambda seconds: None,
        patience: float = PATIENCE,
    ) -> None:
        self.plan = plan
        self._waiting, self._patience = waiting, patience
        workers = min(workers, len(plan))
        self._loader: DataLoader[Any] = DataLoader(
            _Carrying(dataset, unlabelled, evaluation=evaluation),
            batch_sampler=plan,
            collate_fn=partial(_collate, dataset.collate),
            num_workers=workers,
            prefetch_factor=PREFETCH if workers else None,
            timeout=POLL if workers else 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=Worker() if workers else None,
            # Forked workers share the cache of rendered samples.
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
            # Separate: DataLoader draws a base seed per pass, which would change the random numbers of training.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self.plan)

    def _started(self) -> tuple[Iterator[Any], list[BaseProcess]]:
        """Start a pass over the loader, and return its batches and processes."""
        others = set(multiprocessing.active_children())
        handler = signal.getsignal(signal.SIGCHLD)
        batches = iter(self._loader)
        # Torch's handler raises for a dead worker at any point, for example while a checkpoint is written. The next
        # wait for a batch reports it as well.
        if signal.getsignal(signal.SIGCHLD) is not handler and handler is not None:
            signal.signal(signal.SIGCHLD, handler)
        return batches, [child for child in multiprocessing.active_children() if child not in others]

    def __iter__(self) -> Iterator[Batch]:
        if not self._loader.num_workers:
            for keys, batch in zip(self.plan, self._loader, strict=True):
                yield _whole(batch)._replace(keys=tuple(keys))
            return
        batches, workers = self._started()
        # Receiving a batch may block forever if its worker is suspended.
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as receiver:
            plan = iter(self.plan)
            while (batch := self._received(receiver, batches, workers)) is not None:
                yield _whole(batch)._replace(keys=tuple(next(plan)))

    def _received(
        self, receiver: ThreadPoolExecutor, batches: Iterator[Any], workers: list[BaseProcess]
    ) -> Batch | KdtuiError | None:
        """The next batch, or None after the last; checks for dead or stalled workers and calls :attr:`_waiting`."""
        waited = 0.0
        coming = receiver.submit(next, batches, None)
        while True:
            try:
                if wait([coming], POLL).done:
                    received: Batch | KdtuiError | None = coming.result()
                    return received
            except (RuntimeError, OSError, EOFError) as error:
                if not str(error).startswith("DataLoader timed out"):
                    # A connection closes shortly before its process ends.
                    raise _death(workers, wait_for_it=isinstance(error, OSError | EOFError)) or error from None
                coming = receiver.submit(next, batches, None)
                continue
            waited += POLL
            try:
                dead = _death(workers)
                if dead is not None:
                    raise dead
                self._waiting(waited)
                if waited >= self._patience:
                    raise stalled(waited)
            except BaseException:
                _kill(workers)
                raise


def _whole(batch: Any) -> Batch:
    if isinstance(batch, KdtuiError):
        raise batch
    return cast(Batch, batch)


def _death(workers: list[BaseProcess], *, wait_for_it: bool = False) -> EngineError | None:
    """Error for the first loading process that has ended; None while all are running."""
    if wait_for_it:
        ending = multiprocessing.connection.wait([worker.sentinel for worker in workers], _DYING)
        for worker in workers:
            if worker.sentinel in ending:
                # A process closes its descriptors, including the sentinel, before its exit code is available.
                worker.join(_DYING)
    for worker in workers:
        worker.join(0)
        if worker.exitcode is not None:
            return death(worker.exitcode)
    return None


def _kill(workers: list[BaseProcess]) -> None:
    """Kill loading processes that may be unable to exit; this process could not exit before them."""
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join(POLL)


def steps_per_epoch(dataset: SegmentationDataset, training: Training) -> int:
    """Optimizer steps of an epoch; an incomplete last step is dropped."""
    steps = len(dataset) // training.batch_size
    if steps == 0:
        raise DataError(
            "the training split has fewer samples than one batch",
            found=f"{len(dataset)} samples, batch_size {training.batch_size}",
            hint=_smaller_batch(len(dataset), training),
        )
    return steps


def _smaller_batch(samples: int, training: Training) -> str:
    """Options for the largest batch size that the samples fill."""
    devices = min(training.devices, samples)
    options = [f"--set training.batch_size={samples // devices * devices}"]
    if devices < training.devices:
        options.append(f"--set training.devices={devices}")
    if training.micro_batch_size is not None and samples // devices % training.micro_batch_size:
        options.append("--set training.micro_batch_size=1")
    return " ".join(options)


def epoch_order(count: int, *, seed: int, epoch: int, weights: NDArray[np.float64] | None = None) -> list[int]:
    """The order of the samples in ``epoch``; with weights, some occur several times and others not at all."""
    rng = np.random.default_rng(seed_of(seed, "order", epoch))
    return cast(list[int], rng.permutation(count).tolist()) if weights is None else weighted_order(weights, rng)


def _with_views(dataset: SegmentationDataset, order: Sequence[int], epoch: int) -> list[SampleKey]:
    """The keys of an epoch; each occurrence of a sample has another view, as far as there are several."""
    occurrences: Counter[int] = Counter()
    keys = []
    for index in order:
        keys.append((index, dataset.view_of(epoch + occurrences[index] * _NEXT_VIEW)))
        occurrences[index] += 1
    return keys


def train_loader(
    dataset: SegmentationDataset,
    training: Training,
    *,
    seed: int,
    epoch: int,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    unlabelled: UnlabelledImages | None = None,
    waiting: Waiting = lambda seconds: None,
) -> Batches:
    """This rank's micro-batches of ``epoch``, in the order of the optimizer steps.

    Those of images without labels come first in each step: the last backward pass, in which ranks exchange gradients,
    must reach the parameters of all terms.

    Args:
        dataset: The training split.
        training: Batch sizes and workers.
        seed: The run's seed.
        epoch: Epoch, which determines the permutation and the view.
        start_step: Completed steps of this epoch.
        rank: Rank of this process.
        world_size: Number of processes; ``training.batch_size`` is over all of them.
        unlabelled: Images without labels, of which each step has some.
        waiting: See :class:`Batches`.
    """
    steps = steps_per_epoch(dataset, training)
    order = _with_views(dataset, epoch_order(len(dataset), seed=seed, epoch=epoch, weights=dataset.weights), epoch)
    size = training.batch_size // world_size
    micro = training.micro_batch_size or size
    plan = []
    for step in range(start_step, steps):
        first = step * training.batch_size + rank * size
        own = order[first : first + size]
        further = []
        if unlabelled is not None:
            count = unlabelled.settings.per_step(training.batch_size, training.devices)
            keys = unlabelled.keys((epoch - 1) * steps + step, count)
            share = keys[count * rank // world_size : count * (rank + 1) // world_size]
            further = [(len(dataset) + index, its_view) for index, its_view in share]
        plan += [part[at : at + micro] for part in (further, own) for at in range(0, len(part), micro)]
    return Batches(dataset, plan, workers=training.loading_processes, unlabelled=unlabelled, waiting=waiting)


def eval_loader(
    dataset: SegmentationDataset,
    batch_size: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    limit: int | None = None,
    waiting: Waiting = lambda seconds: None,
) -> Batches:
    """This rank's part of the split, in order; every sample is on exactly one rank, once.

    A rank may have no samples if there are fewer samples than ranks.

    Args:
        dataset: The split.
        batch_size: Samples in a batch; 1 is used where they have different sizes.
        rank: Rank of this process.
        world_size: Number of processes.
        workers: Number of loading processes.
        limit: Number of samples, evenly spread over the split; by default all.
        waiting: See :class:`Batches`.
    """
    indices = evaluated_indices(dataset, limit)
    first, last = (len(indices) * r // world_size for r in (rank, rank + 1))
    keys = [(index, 0) for index in indices[first:last]]
    size = batch_size if dataset.evaluation == "resize" else 1
    plan = [keys[at : at + size] for at in range(0, len(keys), size)]
    return Batches(dataset, plan, workers=workers, evaluation=True, waiting=waiting)


def evaluated_indices(dataset: SegmentationDataset, limit: int | None) -> list[int]:
    """The samples of a split that are evaluated, evenly spread over it."""
    count = len(dataset) if limit is None else min(limit, len(dataset))
    return [place * len(dataset) // count for place in range(count)]
