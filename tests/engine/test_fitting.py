from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from kdtui.engine.check import check
from kdtui.engine.fitting import MemoryEstimate, estimate
from tests.engine.networks import unet
from tests.engine.runs import tiny_profile

SIZE = (64, 64)


def estimated(network: nn.Module, *teachers: nn.Module, images: int = 4) -> MemoryEstimate:
    answer = estimate(network, teachers, SIZE, images=images, validated=8, terms=2)
    assert answer is not None
    return answer


def test_training_needs_what_its_gradient_reads_and_validation_does_not(network: nn.Module) -> None:
    kept: dict[int, int] = {}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    training = unet().train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        training(torch.zeros(2, 3, *SIZE))
    weights = {parameter.untyped_storage()._cdata for parameter in training.parameters()}
    read = sum(size for storage, size in kept.items() if storage not in weights) // 2
    assert read < estimated(network).training < 2 * read
    assert estimated(network).validation < read / 2  # which keeps nothing for a gradient


def test_what_a_teacher_adds(network: nn.Module) -> None:
    alone, taught = estimated(network), estimated(network, unet())
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert taught.fixed == alone.fixed + 4 * parameters
    assert taught.training > alone.training and taught.validation == alone.validation


def test_the_most_images_that_fit(network: nn.Module) -> None:
    needed = estimated(network)
    for memory in (2**20, 2**30, 2**33):
        count = needed.largest(memory)
        assert needed.fixed + count * needed.training <= memory or count == 0
        assert needed.fixed + (count + 1) * needed.training > memory


def test_the_network_is_left_as_it_is(network: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    estimated(network)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_network_that_only_runs_on_its_device_has_no_estimate() -> None:
    class Own(nn.Conv2d):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if images.is_meta:
                raise NotImplementedError
            return super().forward(images)

    assert estimate(Own(3, 2, 1), (), SIZE, images=2, validated=8, terms=2) is None


def test_the_check_states_it_and_warns_if_the_device_has_less(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = tiny_profile()

    def checked() -> tuple[list[str], list[str]]:
        answer = check(profile)
        stated = [one["message"] for one in answer["checks"] if one["name"] == "memory"]
        return stated, [one["hint"] for one in answer["warnings"] if one["code"] == "memory"]

    (stated,), warned = checked()
    assert "in training with 8 images at once" in stated and not warned
    monkeypatch.setattr("kdtui.engine.check.device_memory", lambda profile: 2**20)
    assert checked()[1] == ["smaller data.height and data.width"]


TRAINING = """
import resource, sys
from pathlib import Path
from tests.engine.runs import fit, make_run
size, batch = 160, 8
run = make_run(
    Path(sys.argv[1]), data__height=size, data__width=size, data__train_samples=16, data__val_samples=8,
    student__encoder="resnet18", student__encoder_depth=5, student__decoder_channels=[256, 128, 64, 32, 16],
    training__batch_size=batch, training__epochs=1, training__precision="fp32",
)
if sys.argv[2:]:
    from kdtui.engine.check import check
    print(next(one["message"] for one in check(run.profile())["checks"] if one["name"] == "memory"))
else:
    fit(run)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_a_real_training_needs_about_as_much(tmp_path: Path) -> None:
    def printed(*more: str) -> str:
        root = Path(__file__).parents[2]
        argv = [sys.executable, "-c", TRAINING, str(tmp_path), *more]
        return subprocess.run(argv, check=True, capture_output=True, text=True, cwd=root).stdout

    told = printed("check")
    number, unit = told.split()[1:3]
    estimate = float(number) * {"MiB": 1, "GiB": 1024}[unit]
    assert estimate == pytest.approx(float(printed()), rel=0.25)
