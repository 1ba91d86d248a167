"""Write the table of encoder shapes: ``python -m kdtui.engine.build_encoder_table``.

Run it again after an update of smp or timm; a test fails if the table is outdated.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

from kdtui.engine.identify import RGB, TABLE, shape_hash
from kdtui.store.run import write_atomically

# timm encoders that are common for students, and some for teachers.
TIMM = (
    "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4",
    "tf_efficientnet_b0", "tf_efficientnet_b1", "tf_efficientnet_b2", "tf_efficientnet_b3", "tf_efficientnet_b4",
    "efficientnet_lite0", "tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2",
    "tf_efficientnetv2_b0", "tf_efficientnetv2_b1", "tf_efficientnetv2_b2", "tf_efficientnetv2_b3",
    "efficientnetv2_rw_t", "efficientnetv2_s", "tf_efficientnetv2_s",
    "mobilenetv2_050", "mobilenetv2_100", "mobilenetv2_140",
    "mobilenetv3_small_050", "mobilenetv3_small_075", "mobilenetv3_small_100", "mobilenetv3_large_075",
    "mobilenetv3_large_100", "mobilenetv3_rw", "tf_mobilenetv3_small_075", "tf_mobilenetv3_small_100",
    "tf_mobilenetv3_small_minimal_100", "tf_mobilenetv3_large_075", "tf_mobilenetv3_large_100",
    "tf_mobilenetv3_large_minimal_100", "mobilenetv4_conv_small", "mobilenetv4_conv_medium",
    "mobilenetv4_conv_large", "mobilenetv4_hybrid_medium", "mobileone_s0", "mobileone_s1",
    "fastvit_t8", "fastvit_t12", "fastvit_sa12", "repvit_m0_9", "repvit_m1", "repvit_m1_1",
    "ghostnet_100", "ghostnetv2_100", "mnasnet_100", "semnasnet_100", "fbnetc_100", "lcnet_050", "lcnet_100",
    "tinynet_a", "tinynet_c", "hardcorenas_a", "spnasnet_100", "mobilevit_s", "mobilevit_xs", "mobilevit_xxs",
    "mobilevitv2_050", "mobilevitv2_100", "edgenext_xx_small", "edgenext_small", "efficientvit_b0", "efficientvit_b1",
    "regnetx_002", "regnetx_004", "regnety_002", "regnety_004", "regnety_008",
    "resnet18", "resnet18d", "resnet26d", "resnet34", "resnet34d", "resnet50", "resnet50d", "resnet101", "resnest14d",
    "resnest50d", "res2net50_26w_4s", "gernet_s", "gernet_m", "hrnet_w18_small", "hrnet_w18", "convnext_atto",
    "convnext_femto", "convnext_pico", "convnext_nano", "convnext_tiny", "convnext_small", "convnext_base",
    "convnextv2_atto", "convnextv2_nano", "convnextv2_tiny", "seresnet50", "seresnext50_32x4d", "resnext50_32x4d",
)  # fmt: skip
_DEEPEST = 5


def encoder(name: str, *, depth: int = _DEEPEST, in_channels: int = RGB) -> nn.Module:
    """Build an encoder, without memory for its tensors if possible, as only the shapes are used."""
    if name.startswith("mit_"):  # its constructor reads values of its tensors
        return _encoder(name, depth, in_channels)
    with torch.device("meta"):
        return _encoder(name, depth, in_channels)


def rows_of(name: str) -> list[dict[str, Any]]:
    """The table's rows of an encoder: one, or one per depth if its tensors depend on the depth."""
    rows: list[dict[str, Any]] = []
    # Encoders of timm omit unused stages; those of smp keep all of them.
    depths = (5, 4, 3) if name.startswith("tu-") else (_DEEPEST,)
    for depth in depths:
        network = encoder(name, depth=depth)
        shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        wider = {
            key: tuple(value.shape) for key, value in encoder(name, depth=depth, in_channels=5).state_dict().items()
        }
        rows.append(
            {
                "name": name,
                "depth": depth if len(depths) > 1 else None,
                "hash": shape_hash(shapes),
                "stem": sorted(key for key in shapes if shapes[key] != wider[key]),
                "tensors": len(shapes),
                "channels": list(network.out_channels),  # type: ignore[arg-type]
            }
        )
    if len({row["hash"] for row in rows}) == 1:
        return [rows[0] | {"depth": None}]
    return rows


def build() -> dict[str, Any]:
    """Build the whole table."""
    names = [*smp.encoders.get_encoder_names(), *(f"tu-{name}" for name in TIMM)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # smp and timm warn of deprecated names
        rows = [row for name in names for row in rows_of(name)]
    return {"smp": smp.__version__, "timm": timm.__version__, "encoders": rows}


def _encoder(name: str, depth: int, in_channels: int) -> nn.Module:
    network: nn.Module = smp.encoders.get_encoder(name, depth=depth, in_channels=in_channels, weights=None)
    return network


if __name__ == "__main__":
    table = build()
    lines = ",\n".join(json.dumps(row) for row in table["encoders"])
    head = json.dumps({key: value for key, value in table.items() if key != "encoders"})[1:-1]
    write_atomically(TABLE, f'{{{head}, "encoders": [\n{lines}\n]}}\n'.encode())
    print(f"{len(table['encoders'])} rows in {TABLE}", file=sys.stderr)
