"""Encoder weights from the hub, in a fresh interpreter: whether the hub answers is found once per process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
from safetensors.torch import save_file

from kdtui.engine.hub_cache import published_files

BUILD = """
import sys
from kdtui.engine.models import build_network
from kdtui.errors import ModelError
from kdtui.profile import Model
failed, connections = False, []
sys.addaudithook(lambda event, of: connections.append(of[1]) if event == "socket.connect" else None)
for encoder in sys.argv[1:]:
    try:
        network = build_network(Model(encoder=encoder, encoder_weights="imagenet"), task="semantic", classes=2)
    except ModelError as error:
        print(error)
        failed = True
    else:
        print(float(next(network.encoder.parameters()).detach().sum()), len(connections))
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
    """Put weights of an encoder where the hub's cache has them, as files without links; the sum of those of its first
    layer.
    """
    files = published_files(encoder)
    repository = folder / "hub" / f"models--{files[0].repo.replace('/', '--')}"
    revision = files[0].revision
    if revision == "main":
        revision = "0" * 40
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(revision)
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}", encoding="utf-8")
    network = (
        timm.create_model(encoder.removeprefix("tu-"), pretrained=False)
        if encoder.startswith("tu-")
        else smp.encoders.get_encoder(encoder, weights=None)
    )
    weights = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(weights, snapshot / "model.safetensors")
    return float(next(network.parameters()).detach().sum())


def test_cached_weights_need_no_connection_and_others_are_named_after_one_attempt(tmp_path: Path) -> None:
    there, missing = ("resnet18", "tu-test_resnet"), ("mobilenet_v2", "tu-mobilenetv3_small_100")
    sums = [cached(tmp_path, encoder) for encoder in there]
    hub = f"http://127.0.0.1:{closed_port()}"
    done = build(*there, *missing, cache=tmp_path, HF_ENDPOINT=hub)
    assert done.returncode == 7, done.stderr
    for line, first in zip(done.stdout.splitlines(), sums, strict=False):
        total, connections = line.split()
        assert float(total) == pytest.approx(first, rel=1e-3, abs=1e-3)
        assert connections == "0"
    assert done.stdout.count("--set student.weights=none") == len(missing)
    for encoder in missing:
        assert f"could not download the imagenet weights of {encoder}, which are not in the cache" in done.stdout
        file = published_files(encoder)[0]
        assert f"where: {tmp_path}/hub/{file.folder.name}/snapshots/{file.revision}/model.safetensors" in done.stdout
        assert f"run `hf download {file.repo}" in done.stdout
        assert f"copy {file.folder.name} from" in done.stdout
    assert "Retrying" not in done.stderr
    assert "Warning" not in done.stderr


def test_weights_that_are_not_on_the_hub_are_in_the_cache_of_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    [file] = published_files("tu-legacy_seresnet18")
    assert file.path.parent == tmp_path / "hub" / "checkpoints"
    assert not file.is_cached
    assert str(file.path) in file.how_to_copy
    file.path.parent.mkdir(parents=True)
    file.path.touch()
    assert file.is_cached


def test_every_encoder_with_published_weights_has_files() -> None:
    names = smp.encoders.get_encoder_names()
    without = [name for name in names if not published_files(name)]
    assert 5 * len(without) < len(names)
    assert all("imagenet" not in smp.encoders.encoders[name]["pretrained_settings"] for name in without)


@pytest.mark.slow
def test_a_proxy_that_refuses_is_not_contacted_again(tmp_path: Path) -> None:
    proxy = f"http://127.0.0.1:{closed_port()}"
    done = build("resnet18", cache=tmp_path, HF_ENDPOINT="https://hub.invalid", HTTPS_PROXY=proxy, NO_PROXY="")
    assert done.returncode == 7, done.stderr
    assert "Retrying" not in done.stderr
