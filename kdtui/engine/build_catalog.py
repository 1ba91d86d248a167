"""Write the data of the catalog: ``python -m kdtui.engine.build_catalog``.

Everything runs on the meta device, without computation. Run it again after an update of smp or timm.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from kdtui.catalog import TILE, family
from kdtui.engine.build_encoder_table import encoder
from kdtui.engine.data.source import MEAN, STD
from kdtui.engine.profile_model import count_macs, stored_parameters
from kdtui.store.run import write_atomically

DATA = Path(__file__).parents[1] / "catalog_data.json"
# Students for small devices, as timm names them.
MOBILE = (
    "mobilenetv3_small_050", "mobilenetv3_small_075", "mobilenetv3_small_100", "mobilenetv3_large_075",
    "mobilenetv3_large_100", "tf_mobilenetv3_small_minimal_100", "tf_mobilenetv3_large_minimal_100",
    "mobilenetv4_conv_small", "mobilenetv4_conv_medium", "mobilenetv4_conv_large", "mobilenetv2_050",
    "mobilenetv2_100", "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3",
    "efficientnet_lite0", "tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnetv2_b0",
    "tf_efficientnetv2_b1", "mobileone_s0", "fastvit_t8", "repvit_m0_9", "repvit_m1_1", "ghostnet_100",
    "ghostnetv2_100", "hardcorenas_a", "mnasnet_100", "fbnetc_100", "lcnet_050", "lcnet_100", "tinynet_a",
    "spnasnet_100", "mobilevitv2_050", "edgenext_xx_small", "efficientvit_b0", "regnety_002", "resnet18d",
    "convnext_atto",
)  # fmt: skip
# Of smp's own encoders, as in the `config.json` of their published weights; all others have ImageNet's.
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_DPN = ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3)
_SMP = {
    _HALF: ("inceptionresnetv2", "inceptionv4", "xception", *(f"timm-tf_efficientnet_lite{size}" for size in range(5))),
    _DPN: ("dpn68", "dpn68b", "dpn92", "dpn98", "dpn107", "dpn131"),
}
DEPTHS = (5, 4, 3)
# Attention is quadratic in the area and squeeze-and-excitation is constant, so three sizes determine all terms.
_SIDES = (128, 256, 384)
# Another shape, to check the polynomial of each encoder.
_PROOF = (320, 192)


def names() -> tuple[str, ...]:
    """Names of all encoders of the catalog."""
    return (*smp.encoders.get_encoder_names(), *(f"tu-{name}" for name in MOBILE))


def row_of(name: str, depths: Sequence[int] = DEPTHS) -> dict[str, Any]:
    """The catalog's entry of an encoder."""
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # smp and timm warn of deprecated names
        return {"name": name, "family": family(name), "depths": {str(depth): _at(name, depth) for depth in depths}}


def normalisations() -> list[dict[str, Any]]:
    """Mean and standard deviation with which encoders were trained, where they are not ImageNet's.

    Weights of timm have a tag after a dot, without which the default ones of a network are meant; a tag is listed if
    its values are not those of the default.
    """
    groups: dict[tuple[tuple[float, ...], tuple[float, ...]], list[str]] = {
        values: list(encoders) for values, encoders in _SMP.items()
    }
    defaults: dict[str, Any] = {}
    for name in sorted([*timm.list_models(), *timm.list_pretrained()]):
        config = timm.get_pretrained_cfg(name)
        if config is None or len(config.mean) != len(MEAN):
            continue
        values = tuple(config.mean), tuple(config.std)
        if values != defaults.setdefault(name.partition(".")[0], (MEAN, STD)):
            groups.setdefault(values, []).append(f"tu-{name}")
        if "." not in name:
            defaults[name] = values
    usual = groups.pop((MEAN, STD), [])  # tags whose default is not ImageNet's
    others = [{"mean": mean, "std": std, "encoders": names} for (mean, std), names in groups.items()]
    return [{"mean": None, "std": None, "encoders": usual}, *others]


def lines_of(rows: Sequence[dict[str, Any]]) -> bytes:
    """The catalog as JSON with one encoder per line, for readable diffs."""
    head = json.dumps({"smp": smp.__version__, "timm": timm.__version__})[1:-1]
    body = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    own = ",\n".join(json.dumps(group, separators=(",", ":")) for group in normalisations())
    return f'{{{head}, "normalisations": [\n{own}\n], "encoders": [\n{body}\n]}}\n'.encode()


def build() -> bytes:
    """Build the whole catalog."""
    workers = min(os.cpu_count() or 1, 8)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return lines_of(list(pool.map(row_of, names())))


def _at(name: str, depth: int) -> dict[str, Any]:
    network = encoder(name, depth=depth).to("meta").eval()
    side = _SIDES[1]
    features: list[Tensor] = network(torch.empty(1, 3, side, side, device="meta"))
    # A Unet uses all feature maps except the first, which has the size of the image.
    torch.stack([feature.sum() for feature in features[1:] if feature.requires_grad]).sum().backward()
    used = sum(parameter.numel() for parameter in network.parameters() if parameter.grad is not None)
    work = _polynomial({_tiles(side, side): count_macs(network, height=side, width=side) for side in _SIDES})
    row = {
        "parameters": stored_parameters(network),
        "used": used,
        "macs": work,
        "channels": list(network.out_channels),  # type: ignore[arg-type]
        "reductions": [side // int(feature.shape[-1]) for feature in features],
    }
    if depth == DEPTHS[0]:
        row["deviation"] = _deviation(network, work)
    return row


def _tiles(height: int, width: int) -> int:
    return height * width // TILE


def _polynomial(work: dict[int, int]) -> list[int]:
    """Coefficients of 1, a and a², for an area of a tiles."""
    (x0, y0), (x1, y1), (x2, y2) = ((Fraction(x), Fraction(y)) for x, y in work.items())
    first, second = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    square = (second - first) / (x2 - x0)
    linear = first - square * (x0 + x1)
    constant = y0 - linear * x0 - square * x0 * x0
    return [round(coefficient) for coefficient in (constant, linear, square)]


def _deviation(network: nn.Module, work: Sequence[int]) -> float:
    """Relative error of the polynomial at a shape that was not used to fit it."""
    height, width = _PROOF
    true = count_macs(network, height=height, width=width)
    area = _tiles(height, width)
    return round((work[0] + work[1] * area + work[2] * area * area - true) / true, 6)


if __name__ == "__main__":
    content = build()
    write_atomically(DATA, content)
    print(f"{len(names())} encoders in {DATA}", file=sys.stderr)
