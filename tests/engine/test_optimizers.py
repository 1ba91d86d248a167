"""Every optimizer that a profile may name trains, and resumes exactly from the state in a checkpoint."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from kdtui.engine.check import check
from kdtui.engine.optimizers import build_optimizer, clip_gradients, optimizer_names
from kdtui.engine.ranks import make_fabric
from kdtui.errors import EngineError
from kdtui.profile import Training
from tests.engine.runs import tiny_profile

NAMES = optimizer_names()


class Trained:
    """A network with kernels and biases in groups of their own, and its optimizer."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
        parameters = list(self.network.parameters())
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if (p.ndim > 1) == kernels], "weight_decay": 0.01 * kernels}
            for kernels in (True, False)
        ]
        self.optimizer = build_optimizer(Training(optimizer=name), groups, fused=True)
        self.images = torch.randn(2, 3, 4, 4)

    def steps(self, count: int) -> dict[str, Any]:
        for _ in range(count):
            self.network(self.images).square().mean().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}


@pytest.mark.parametrize("norm", [3.0, 4.0, 1e-3, math.nan, math.inf])
def test_gradients_are_clipped_bit_for_bit_as_by_torch(norm: float) -> None:
    fabric, module = make_fabric(accelerator="cpu", world_size=1), nn.Linear(64, 8)
    optimizer = torch.optim.SGD(module.parameters())
    gradients = [torch.randn(8, 64), 0.01 * torch.randn(8)]
    gradients[0].mul_(norm / torch.linalg.vector_norm(gradients[0]))
    ways: list[Callable[[], Any]] = [
        lambda: clip_gradients(fabric, module, optimizer, 3.5),
        lambda: nn.utils.clip_grad_norm_(module.parameters(), 3.5),
    ]
    results = []
    for clip in ways:
        for parameter, gradient in zip(module.parameters(), gradients, strict=True):
            parameter.grad = gradient.clone()
        results.append([clip(), *(one.grad for one in module.parameters())])
    for ours, theirs in zip(*results, strict=True):
        assert ours is not None
        assert torch.equal(ours.nan_to_num(7.0), theirs.nan_to_num(7.0))


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_trains_and_resumes_bit_for_bit(name: str) -> None:
    whole, first, second = Trained(name), Trained(name), Trained(name)
    before = [parameter.detach().clone() for parameter in whole.network.parameters()]
    file = io.BytesIO()
    torch.save(first.steps(2), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    second.network.load_state_dict(state["network"])
    second.optimizer.load_state_dict(state["optimizer"])
    ours, theirs = whole.steps(4)["network"], second.steps(2)["network"]
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not all(map(torch.equal, before, whole.network.parameters()))
    assert [group["weight_decay"] for group in whole.optimizer.param_groups] == [0.01, 0.0]


def test_the_default_is_the_fused_adamw_of_torch() -> None:
    optimizer = Trained("adamw").optimizer
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.defaults["fused"]


def test_the_usual_names_are_there_and_those_that_cannot_resume_are_not() -> None:
    assert {"adamw", "sgd", "momentum", "lion", "adam", "lamb"} <= set(NAMES)
    assert not {"adahessian", "kron", "fusedadam", "bnbadam"} & set(NAMES)


def test_an_unknown_name_is_refused_with_similar_ones() -> None:
    with pytest.raises(EngineError, match="no optimizer of this name") as refused:
        Trained("lyon")
    assert refused.value.hint == "--set training.optimizer=lion"
    checks = check(tiny_profile(training__optimizer="lyon"))["checks"]
    (failed,) = [one for one in checks if not one["ok"]]
    assert failed["name"] == "optimizer and schedules"
    assert "lion" in failed["message"]
