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
        print(float(next(network.encoder.parameters()).sum()))
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


def test_a_hub_that_refuses_is_not_asked_again(tmp_path: Path) -> None:
    encoders = ("resnet18", "tu-mobilenetv3_small_100")
    done = build(*encoders, cache=tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{closed_port()}")
    assert done.returncode == 7, done.stderr
    assert all(f"weights of {encoder} could not be had" in done.stdout for encoder in encoders)
    assert done.stdout.count("student.encoder_weights=none") == len(encoders)
    assert str(tmp_path) in done.stdout  # where weights could be put
    assert "Retrying" not in done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.slow
def test_a_proxy_that_refuses_is_not_asked_again(tmp_path: Path) -> None:
    proxy = f"http://127.0.0.1:{closed_port()}"
    done = build("resnet18", cache=tmp_path, HF_ENDPOINT="https://hub.invalid", HTTPS_PROXY=proxy, NO_PROXY="")
    assert done.returncode == 7, done.stderr
    assert "Retrying" not in done.stderr


def test_weights_in_the_cache_need_no_hub(tmp_path: Path) -> None:
    settings = smp.encoders.encoders["resnet18"]["pretrained_settings"]["imagenet"]
    folder = f"models--{settings['repo_id'].replace('/', '--')}"
    snapshot = tmp_path / "hub" / folder / "snapshots" / settings["revision"]
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}", encoding="utf-8")
    weights = smp.encoders.get_encoder("resnet18", weights=None).state_dict()
    save_file({key: value.contiguous() for key, value in weights.items()}, snapshot / "model.safetensors")
    done = build("resnet18", cache=tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{closed_port()}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert float(done.stdout) == pytest.approx(float(weights["conv1.weight"].sum()), rel=1e-3, abs=1e-3)
