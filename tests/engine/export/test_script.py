"""The script of the documents that runs an exported file without kdtui."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdtui.engine.data import PixelFormat
from kdtui.engine.export import export
from kdtui.engine.export.deployed import InputSize
from kdtui.engine.export.source import ExportNetwork
from kdtui.engine.models import compose, create
from kdtui.export_options import ExportOptions
from kdtui.profile import Model
from tests.docs import DOCS
from tests.engine.export.asking import pictures
from tests.engine.export.conftest import Made

PAGE = DOCS / "export.md"


SCRIPT = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)[0]
PICTURE = InputSize(40, 60)


def run_script(file: Path, folder: Path, source: ExportNetwork, size: InputSize, run: pytest.MonkeyPatch) -> None:
    """Run the script on a picture; what it draws is what the network answers for the picture at the file's size."""
    picture = Image.fromarray(pictures(1, PICTURE.height, PICTURE.width)[0])
    picture.save(folder / "picture.png")
    run.chdir(folder)
    run.setattr(sys, "argv", ["segment.py", str(file), "picture.png"])
    exec(compile(SCRIPT, str(PAGE), "exec"), {})
    channels = source.pixels.channels
    resized = picture.convert("L" if channels == 1 else "RGB").resize(
        (size.width, size.height), Image.Resampling.BILINEAR
    )
    values = torch.from_numpy(np.array(resized).reshape(size.height, size.width, channels)).permute(2, 0, 1)
    with torch.inference_mode():
        answer = compose(source.network(source.pixels.normalised(values)[None]), source.task).main
    expected = answer.argmax(dim=1)[0].numpy().astype(np.uint8)
    drawn = Image.fromarray(expected).resize(picture.size, Image.Resampling.NEAREST)
    assert np.mean(np.asarray(Image.open(folder / "classes.png")) == np.asarray(drawn)) > 0.99


def test_three_classes_of_an_open_size(
    exported: Made,
    source: ExportNetwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_script(exported.path, tmp_path, source, source.size, monkeypatch)
    shares = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert list(shares) == list(source.classes)
    assert sum(float(share.split("%")[0]) for share in shares.values()) == pytest.approx(100, abs=0.2)


@pytest.mark.parametrize(
    ("kind", "contents", "pixels"),
    [
        ("uint8", "argmax", PixelFormat((0.3, 0.4, 0.5), (0.2, 0.3, 0.1), bgr=True)),
        ("normalised", "softmax", PixelFormat((0.4,), (0.2,))),
    ],
    ids=["bytes in BGR to classes", "normalised grey"],
)
def test_eleven_classes_of_a_fixed_size_and_batch(
    kind: str,
    contents: str,
    pixels: PixelFormat,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = Model(encoder="tu-test_resnet", encoder_depth=3, decoder_channels=(8, 8, 8))
    names = tuple(f"class {number}" for number in range(11))
    network = create(model, channels=len(names), in_channels=pixels.channels).eval().requires_grad_(False)
    source = ExportNetwork(
        network,
        "semantic",
        names,
        stride=8,
        size=InputSize(32, 48),
        profile=None,
        facts={"checkpoint_sha256": "0" * 64},
        out_channels=11,
        pixels=pixels,
    )
    options = ExportOptions(opset=17, dynamic="none", batch=2, input=kind, output=contents)
    export(source, tmp_path / "model.onnx", options)
    run_script(tmp_path / "model.onnx", tmp_path, source, source.size, monkeypatch)
    assert [line.split(": ")[0] for line in capsys.readouterr().out.splitlines()] == list(names)
