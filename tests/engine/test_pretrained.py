"""Encoder weights from the hub, in a fresh interpreter: whether the hub answers is found once per process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
from safetensors.torch import save_file

BUILD = """
import sys
from kdtui.engine.models import build_network
from kdtui.errors import ModelError
from kdtui.profile import Model
failed = False
for encoder in sys.argv[1:]:
    try:
        network = build_network(Model(encoder=encoder, encoder_weights="imagenet"), task="semantic", classes=2)
    except ModelError as error:
        print(error)
        failed = True
    else:
        print(float(next(network.encoder.parameters()).detach().sum()))
sys.exit(7 if failed else 0)
"""


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def build(*encoders: str, cache: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    own = {"HF_HOME": str(cache), "TORCH_HOME": str(cache), "PYTHONWARNINGS": "error:For 'tu-'"}
    return subprocess.run(
        [sys.executable, "-c", BUILD, *encoders],
        capture_output=True,
        text=True,
        env=inherited | own | settings,
        check=False,
    )


def cached(folder: Path, encoder: str) -> float:
    """Put weights of an encoder where the hub's cache has them; the sum of those of its first layer."""
    settings = smp.encoders.encoders[encoder]["pretrained_settings"]["imagenet"]
    snapshot = folder / "hub" / f"models--{settings['repo_id'].replace('/', '--')}" / "snapshots" / settings["revision"]
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}", encoding="utf-8")
    network = smp.encoders.get_encoder(encoder, weights=None)
    weights = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(weights, snapshot / "model.safetensors")
    return float(weights["conv1.weight"].sum())


def test_a_hub_that_refuses_is_not_contacted_again_and_cached_weights_need_none(tmp_path: Path) -> None:
    encoders = ("mobilenet_v2", "tu-mobilenetv3_small_100")
    first = cached(tmp_path, "resnet18")
    hub = f"http://127.0.0.1:{closed_port()}"
    done = build(*encoders, "resnet18", cache=tmp_path, HF_ENDPOINT=hub)
    assert done.returncode == 7, done.stderr
    assert float(done.stdout.splitlines()[-1]) == pytest.approx(first, rel=1e-3, abs=1e-3)
    assert all(f"could not download the imagenet weights of {encoder}" in done.stdout for encoder in encoders)
    assert done.stdout.count("student.encoder_weights=none") == len(encoders)
    assert str(tmp_path) in done.stdout  # where weights could be put
    assert "Retrying" not in done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.slow
def test_a_proxy_that_refuses_is_not_contacted_again(tmp_path: Path) -> None:
    proxy = f"http://127.0.0.1:{closed_port()}"
    done = build("resnet18", cache=tmp_path, HF_ENDPOINT="https://hub.invalid", HTTPS_PROXY=proxy, NO_PROXY="")
    assert done.returncode == 7, done.stderr
    assert "Retrying" not in done.stderr


@pytest.mark.slow
def test_cached_weights_need_no_hub_that_was_not_contacted_before(tmp_path: Path) -> None:
    first = cached(tmp_path, "resnet18")
    done = build("resnet18", cache=tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{closed_port()}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert float(done.stdout) == pytest.approx(first, rel=1e-3, abs=1e-3)
