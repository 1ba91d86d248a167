from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from kdtui.engine.data import SegmentationDataset, build_dataset, eval_loader, steps_per_epoch, train_loader
from kdtui.engine.data.first_pipeline import SampleCache
from kdtui.engine.data.loading import epoch_order
from kdtui.engine.data.synthetic import SyntheticPeople
from kdtui.errors import DataError
from kdtui.profile import Profile, SyntheticData, Training, dump
from tests.engine.data.makers import label_folder
from tests.engine.preloaded import CONTEXT, Process
from tests.waiting import eventually, finished

DATA = SyntheticData(height=32, width=32, train_samples=37, val_samples=11, augmentation="heavy")


def people(split: str = "train", **changes: object) -> SegmentationDataset:
    return build_dataset(DATA.model_copy(update=changes), split)


def indices(dataset: SegmentationDataset, training: Training, **place: Any) -> list[list[int]]:
    loader = train_loader(dataset, training, **{"seed": 0, "epoch": 1, **place})
    return [[index for index, _ in batch] for batch in loader.plan]


def chained(parts: Iterable[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(parts))


def test_a_step_owns_the_same_samples_however_the_work_is_divided() -> None:
    dataset = people()
    order = epoch_order(len(dataset), seed=0, epoch=1)
    assert sorted(order) == list(range(37))
    whole = indices(dataset, Training(batch_size=8))
    assert whole == [order[at : at + 8] for at in range(0, 32, 8)] and len(whole) == steps_per_epoch(
        dataset, Training(batch_size=8)
    )
    micro = indices(dataset, Training(batch_size=8, micro_batch_size=2))
    assert [chained(micro[at : at + 4]) for at in range(0, 16, 4)] == whole
    for ranks in (2, 4):
        training = Training(batch_size=8, devices=ranks, micro_batch_size=2)
        parts = [indices(dataset, training, rank=r, world_size=ranks) for r in range(ranks)]
        per_step = 8 // ranks // 2
        joined = [chained(b for p in parts for b in p[s * per_step : (s + 1) * per_step]) for s in range(4)]
        assert joined == whole


def test_a_later_start_is_the_tail_of_the_same_epoch() -> None:
    dataset, training = people(), Training(batch_size=8, micro_batch_size=4)
    whole = indices(dataset, training)
    for step in range(5):
        assert indices(dataset, training, start_step=step) == whole[2 * step :]
    assert list(train_loader(dataset, training, seed=0, epoch=1, start_step=4)) == []


def test_epochs_and_seeds_have_their_own_order() -> None:
    orders = {tuple(epoch_order(37, seed=seed, epoch=epoch)) for seed in range(3) for epoch in range(1, 4)}
    assert len(orders) == 9


def test_views_come_round() -> None:
    def views(dataset: SegmentationDataset) -> list[int]:
        return [train_loader(dataset, Training(batch_size=8), seed=0, epoch=e).plan[0][0][1] for e in range(1, 8)]

    assert views(people(views=3)) == [1, 2, 0, 1, 2, 0, 1]
    assert views(people()) == [1, 2, 3, 4, 5, 6, 7]


def test_runs_with_one_view_seed_see_the_same_views_in_different_orders() -> None:
    data, training = DATA.model_copy(update={"views": 2, "view_seed": 9}), Training(batch_size=8)
    loaders = [train_loader(build_dataset(data, "train", seed=s), training, seed=s, epoch=2) for s in (0, 1)]
    views = [
        {key: batch.images[at] for keys, batch in zip(loader.plan, loader, strict=True) for at, key in enumerate(keys)}
        for loader in loaders
    ]
    assert loaders[0].plan != loaders[1].plan
    common = views[0].keys() & views[1].keys()
    assert len(common) > 20
    assert all(torch.equal(views[0][key], views[1][key]) for key in common)
    later = train_loader(build_dataset(data, "train", seed=0), training, seed=0, epoch=2, start_step=3)
    assert torch.equal(next(iter(later)).images, list(loaders[0])[3].images)
    own = [build_dataset(DATA, "train", seed=seed)[0, 1].image for seed in (0, 1)]
    assert not torch.equal(*own)
    assert "view_seed" not in dump(Profile(name="a", data=DATA)).decode()


def test_fewer_samples_than_a_batch_is_an_error() -> None:
    with pytest.raises(DataError, match=r"37 samples, batch_size 64") as caught:
        train_loader(people(), Training(batch_size=64), seed=0, epoch=1)
    assert caught.value.hint == "--set training.batch_size=37"


@pytest.mark.parametrize("ranks", [1, 2, 3, 16])
def test_evaluation_loses_and_repeats_no_sample(ranks: int) -> None:
    dataset = people("val")
    loaders = [eval_loader(dataset, 4, rank=r, world_size=ranks) for r in range(ranks)]
    assert [key for loader in loaders for batch in loader.plan for key in batch] == [(i, 0) for i in range(11)]
    masks = torch.cat([batch.masks for loader in loaders for batch in loader])
    assert torch.equal(masks, torch.stack([dataset[i, 0].mask for i in range(11)]))


def test_any_number_of_workers_gives_the_same_batches_twice() -> None:
    alone = list(train_loader(people(), Training(batch_size=8), seed=3, epoch=2))
    assert [b.images.shape for b in alone] == [(8, 3, 32, 32)] * 4
    assert alone[0].images.dtype == torch.float32 and alone[0].masks.dtype == torch.int64
    shared = train_loader(people(), Training(batch_size=8, workers=2), seed=3, epoch=2)
    for _ in range(2):
        helped = list(shared)
        assert len(helped) == len(shared) == len(alone)
        for a, b in zip(alone, helped, strict=True):
            assert torch.equal(a.images, b.images) and torch.equal(a.masks, b.masks)


class WithMeans(SyntheticPeople):
    """Has a further input: the mean of each image as the network gets it."""

    def extras(self, image: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"mean": image.mean()}


@pytest.mark.parametrize("workers", [0, 1])
def test_further_inputs_of_a_sample_are_in_its_batch(workers: int) -> None:
    dataset = WithMeans(DATA, "val", stride=32, seed=0)
    for batch in eval_loader(dataset, 4, workers=workers):
        assert batch.extras.keys() == {"mean"}
        torch.testing.assert_close(batch.extras["mean"], batch.images.mean(dim=(1, 2, 3)))


def test_loading_leaves_the_training_stream_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    for workers in (0, 2):
        torch.manual_seed(5)
        list(eval_loader(people("val"), 4, workers=workers))
        assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failure_in_a_worker_arrives_as_it_was(tmp_path: Path, workers: int) -> None:
    dataset = build_dataset(label_folder(tmp_path), "val")
    (tmp_path / "masks/val/1.png").write_bytes(b"")
    with pytest.raises(DataError) as alone:
        dataset[1, 0]
    with pytest.raises(DataError) as caught:
        list(eval_loader(dataset, 1, workers=workers))
    assert type(caught.value) is DataError
    assert caught.value.message == alone.value.message and caught.value.hint == alone.value.hint
    assert "1.png" in caught.value.message


@pytest.mark.skipif(sys.platform != "linux", reason="workers share the cache where they are forked")
def test_what_workers_have_rendered_is_kept_for_all(tmp_path: Path) -> None:
    dataset = build_dataset(label_folder(tmp_path), "val")
    first = list(eval_loader(dataset, 1, workers=2))
    for path in (tmp_path / "images/val").iterdir():
        path.unlink()
    again = list(eval_loader(dataset, 1))
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, again, strict=True))


def test_the_cache_stays_within_its_budget() -> None:
    cache = SampleCache(10, 4, 4, budget=3 * 4 * 4 * 4 + 5)
    image, mask = torch.ones(4, 4, 3, dtype=torch.uint8).numpy(), torch.ones(4, 4, dtype=torch.uint8).numpy()
    for index in range(10):
        assert cache.get(index) is None
        cache.put(index, image * index, mask)
    kept = [index for index in range(10) if cache.get(index) is not None]
    assert kept == [0, 1, 2]
    found = cache.get(2)
    assert found is not None and (found[0] == 2).all() and (found[1] == 1).all()
    assert SampleCache(10, 4, 4, budget=0).get(0) is None


def test_a_dataset_can_be_sent_to_another_process() -> None:
    dataset = people("val")
    expected = dataset[3, 0].mask.sum().item()
    with CONTEXT.Pool(1) as pool:
        assert pool.apply(_masked, (dataset,)) == expected


def _masked(dataset: SegmentationDataset) -> float:
    return dataset[3, 0].mask.sum().item()


LOADING = """
import sys, time
from kdtui.engine.data import build_dataset, train_loader
from kdtui.profile import SyntheticData, Training
from tests.waiting import eventually, finished
if __name__ == "__main__":
    data = SyntheticData(height=32, width=32, train_samples=4000)
    batches = iter(train_loader(build_dataset(data, "train"), Training(batch_size=2, workers=2), seed=0, epoch=1))
    next(batches), next(batches)  # one of each worker: both have come up
    print("ready", flush=True)
    for line in sys.stdin:
        print(len([next(batches) for _ in range(300)]), flush=True)
"""


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    """No such process, or one that only waits to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="/proc and prctl are Linux's own")
def test_workers_pass_a_stop_signal_and_die_with_the_process_that_forked_them() -> None:
    (asked, ask), (answer, answered) = os.pipe(), os.pipe()
    process = Process("-c", LOADING, stdin=asked, stdout=answered)
    os.close(asked)
    os.close(answered)
    workers: list[int] = []
    try:
        with os.fdopen(ask, "w", buffering=1) as questions, os.fdopen(answer) as answers:
            assert answers.readline() == "ready\n"
            workers = children(process.pid)
            assert len(workers) == 2
            for worker in workers:
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
                    os.kill(worker, number)
            questions.write("go\n")
            assert answers.readline() == "300\n"
            assert children(process.pid) == workers
            for worker in workers:
                os.kill(worker, signal.SIGSTOP)  # so that nothing in them can notice: the kernel must end them
            process.kill()
            eventually(lambda: all(gone(worker) for worker in workers), "the workers end")
    finally:
        process.kill()
        for worker in workers:
            if not gone(worker):
                os.kill(worker, signal.SIGKILL)


def test_a_process_that_abandons_its_workers_ends() -> None:
    process = Process("-c", LOADING)
    assert finished(process)[0] == "ready\n" and process.returncode == 0
