"""Networks and checkpoints; imported before any test module, so that the engine makes torchvision importable first."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from torch import nn

from kdtui.engine import checkpoint, dry_run
from kdtui.engine.data import synthetic
from kdtui.engine.data.source import Pixels
from kdtui.profile import Profile
from kdtui.store.run import Run
from tests.engine.networks import own_payload, unet
from tests.engine.runs import fit, make_run


@pytest.fixture(scope="session", autouse=True)
def accepted_sizes_are_kept() -> Iterator[None]:
    """A training does not try its network's size again where an earlier one did; a fifth of a short training."""
    accepted: set[tuple[object, ...]] = set()

    def check_trainable(network: nn.Module, profile: Profile) -> None:
        settings, data = profile.training, profile.data
        sizes = (settings.batch_size, settings.micro_batch_size, settings.devices, data.height, data.width)
        key = (type(profile.student), profile.student.model_dump_json(), data.task, *sizes)
        if key not in accepted:
            dry_run.check_trainable(network, profile)
            accepted.add(key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdtui.engine.setup.check_trainable", check_trainable)
        yield


@pytest.fixture(scope="session", autouse=True)
def drawn_crops_are_kept() -> Iterator[None]:
    """A crop is drawn once: most trainings read the same ones, and drawing them was a quarter of a short one."""
    kept = lru_cache(maxsize=256)(synthetic.draw_crop)

    def draw_crop(seed: int, height: int, width: int) -> tuple[Pixels, Pixels]:
        image, labels = kept(seed, height, width)
        return image.copy(), labels.copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "draw_crop", draw_crop)
        yield


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return unet()


@pytest.fixture
def own(tmp_path: Path, network: nn.Module) -> Path:
    path = tmp_path / "best_model.pth"
    checkpoint.save(path, own_payload(network))
    return path


@pytest.fixture
def bare(tmp_path: Path, network: nn.Module) -> Path:
    path = tmp_path / "bare.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def short_teacher(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One epoch on the CPU in fp32."""
    run = make_run(tmp_path_factory.mktemp("teacher"), training__epochs=1, training__precision="fp32")
    fit(run)
    return run
