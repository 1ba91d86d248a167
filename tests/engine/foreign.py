"""Checkpoints in the layouts of other libraries, with weights that follow from their keys alone."""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import segmentation

from tests.engine.networks import unet

CLASSES = ("road", "sidewalk", "car", "sky", "person")
WIDTHS, HEADS, BLOCKS = (8, 16, 24, 32), (1, 2, 3, 4), (1, 2, 1, 1)
PUBLISHED_WIDTHS, PUBLISHED_BLOCKS = (32, 64, 160, 256), (2, 2, 2, 2)
DECODER = 16
REDUCTIONS = (8, 4, 2, 1)
Shapes = Iterator[tuple[str, tuple[int, ...]]]


def weights(shapes: Shapes) -> dict[str, Tensor]:
    """Values of a wave whose phase is a hash of the key; variances are positive."""
    state: dict[str, Tensor] = {}
    for key, shape in shapes:
        count = int(torch.Size(shape).numel())
        wave = torch.sin(0.37 * torch.arange(count, dtype=torch.float64) + zlib.crc32(key.encode()) % 1000)
        if key.endswith("running_var"):
            values = 1.5 + wave
        elif key.endswith("weight") and len(shape) == 1:
            values = 1 + 0.3 * wave
        else:
            values = 0.2 * wave
        state[key] = values.float().reshape(shape)
    return state


def images() -> Tensor:
    """f32 [2,3,64,96]."""
    return torch.sin(0.013 * torch.arange(2 * 3 * 64 * 96, dtype=torch.float64)).float().reshape(2, 3, 64, 96)


def affine(key: str, count: int) -> Shapes:
    yield from ((f"{key}.{name}", (count,)) for name in ("weight", "bias"))


def batch_norm(key: str, count: int) -> Shapes:
    yield from ((f"{key}.{name}", (count,)) for name in ("weight", "bias", "running_mean", "running_var"))


def linear(key: str, *shape: int) -> Shapes:
    yield from ((f"{key}.weight", shape), (f"{key}.bias", shape[:1]))


def hugging_face() -> dict[str, Tensor]:
    """``SegformerForSemanticSegmentation`` of transformers."""

    def shapes() -> Shapes:
        inner = "segformer.encoder"
        for stage, (width, blocks, reduction) in enumerate(zip(WIDTHS, BLOCKS, REDUCTIONS, strict=True)):
            before, side = (3, 7) if stage == 0 else (WIDTHS[stage - 1], 3)
            yield from linear(f"{inner}.patch_embeddings.{stage}.proj", width, before, side, side)
            yield from affine(f"{inner}.patch_embeddings.{stage}.layer_norm", width)
            yield from affine(f"{inner}.layer_norm.{stage}", width)
            for number in range(blocks):
                block = f"{inner}.block.{stage}.{number}"
                for name in ("layer_norm_1", "layer_norm_2"):
                    yield from affine(f"{block}.{name}", width)
                for name in ("self.query", "self.key", "self.value", "output.dense"):
                    yield from linear(f"{block}.attention.{name}", width, width)
                if reduction > 1:
                    yield from linear(f"{block}.attention.self.sr", width, width, reduction, reduction)
                    yield from affine(f"{block}.attention.self.layer_norm", width)
                yield from linear(f"{block}.mlp.dense1", 4 * width, width)
                yield from linear(f"{block}.mlp.dwconv.dwconv", 4 * width, 1, 3, 3)
                yield from linear(f"{block}.mlp.dense2", width, 4 * width)
            yield from linear(f"decode_head.linear_c.{stage}.proj", DECODER, width)
        yield "decode_head.linear_fuse.weight", (DECODER, 4 * DECODER, 1, 1)
        yield from batch_norm("decode_head.batch_norm", DECODER)
        yield from linear("decode_head.classifier", len(CLASSES), DECODER, 1, 1)

    return weights(shapes())


CONFIG = {
    "model_type": "segformer",
    "hidden_sizes": list(WIDTHS),
    "num_attention_heads": list(HEADS),
    "depths": list(BLOCKS),
    "decoder_hidden_size": DECODER,
    "strides": [4, 2, 2, 2],
    "hidden_act": "gelu",
    "id2label": {str(number): name for number, name in enumerate(CLASSES)},
}


def mmseg() -> dict[str, Tensor]:
    """SegFormer of mmsegmentation, with the encoder mit_b0."""

    def shapes() -> Shapes:
        for stage, (width, blocks, reduction) in enumerate(
            zip(PUBLISHED_WIDTHS, PUBLISHED_BLOCKS, REDUCTIONS, strict=True)
        ):
            before, side = (3, 7) if stage == 0 else (PUBLISHED_WIDTHS[stage - 1], 3)
            layer = f"backbone.layers.{stage}"
            yield from linear(f"{layer}.0.projection", width, before, side, side)
            yield from affine(f"{layer}.0.norm", width)
            yield from affine(f"{layer}.2", width)
            for number in range(blocks):
                block = f"{layer}.1.{number}"
                yield from affine(f"{block}.norm1", width)
                yield from affine(f"{block}.norm2", width)
                yield f"{block}.attn.attn.in_proj_weight", (3 * width, width)
                yield f"{block}.attn.attn.in_proj_bias", (3 * width,)
                yield from linear(f"{block}.attn.attn.out_proj", width, width)
                if reduction > 1:
                    yield from linear(f"{block}.attn.sr", width, width, reduction, reduction)
                    yield from affine(f"{block}.attn.norm", width)
                yield from linear(f"{block}.ffn.layers.0", 4 * width, width, 1, 1)
                yield from linear(f"{block}.ffn.layers.1", 4 * width, 1, 3, 3)
                yield from linear(f"{block}.ffn.layers.4", width, 4 * width, 1, 1)
            yield f"decode_head.convs.{stage}.conv.weight", (DECODER, width, 1, 1)
            yield from batch_norm(f"decode_head.convs.{stage}.bn", DECODER)
        yield "decode_head.fusion_conv.conv.weight", (DECODER, 4 * DECODER, 1, 1)
        yield from batch_norm("decode_head.fusion_conv.bn", DECODER)
        yield from linear("decode_head.conv_seg", len(CLASSES), DECODER, 1, 1)

    return weights(shapes())


def authors() -> dict[str, Tensor]:
    """SegFormer as its authors published it: names of smp in the encoder, linear projections."""

    def shapes() -> Shapes:
        for stage, (width, blocks, reduction) in enumerate(
            zip(PUBLISHED_WIDTHS, PUBLISHED_BLOCKS, REDUCTIONS, strict=True), start=1
        ):
            before, side = (3, 7) if stage == 1 else (PUBLISHED_WIDTHS[stage - 2], 3)
            yield from linear(f"backbone.patch_embed{stage}.proj", width, before, side, side)
            yield from affine(f"backbone.patch_embed{stage}.norm", width)
            yield from affine(f"backbone.norm{stage}", width)
            for number in range(blocks):
                block = f"backbone.block{stage}.{number}"
                yield from affine(f"{block}.norm1", width)
                yield from affine(f"{block}.norm2", width)
                yield from linear(f"{block}.attn.q", width, width)
                yield from linear(f"{block}.attn.kv", 2 * width, width)
                yield from linear(f"{block}.attn.proj", width, width)
                if reduction > 1:
                    yield from linear(f"{block}.attn.sr", width, width, reduction, reduction)
                    yield from affine(f"{block}.attn.norm", width)
                yield from linear(f"{block}.mlp.fc1", 4 * width, width)
                yield from linear(f"{block}.mlp.dwconv.dwconv", 4 * width, 1, 3, 3)
                yield from linear(f"{block}.mlp.fc2", width, 4 * width)
            yield from linear(f"decode_head.linear_c{stage}.proj", DECODER, width)
        yield "decode_head.linear_fuse.conv.weight", (DECODER, 4 * DECODER, 1, 1)
        yield from batch_norm("decode_head.linear_fuse.bn", DECODER)
        yield from linear("decode_head.linear_pred", len(CLASSES), DECODER, 1, 1)

    return weights(shapes())


def write_smp(folder: Path) -> Path:
    torch.save(unet(classes=len(CLASSES)).state_dict(), folder / "smp.pth")
    return folder / "smp.pth"


def write_torchvision(folder: Path) -> Path:
    torch.manual_seed(0)
    network = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=len(CLASSES))
    torch.save({"model": network.state_dict(), "epoch": 3}, folder / "torchvision.pth")
    return folder / "torchvision.pth"


def write_hugging_face(folder: Path, **changes: Any) -> Path:
    (folder / "hugging_face").mkdir()
    save_file(hugging_face(), folder / "hugging_face" / "model.safetensors")
    (folder / "hugging_face" / "config.json").write_text(json.dumps(CONFIG | changes))
    return folder / "hugging_face"


def write_mmseg(folder: Path) -> Path:
    auxiliary = {"auxiliary_head.conv_seg.weight": torch.zeros(5, 4, 1, 1)}
    torch.save({"meta": {"CLASSES": CLASSES}, "state_dict": mmseg() | auxiliary}, folder / "mmseg.pth")
    return folder / "mmseg.pth"


def write_authors(folder: Path) -> Path:
    torch.save({"state_dict": authors()}, folder / "authors.pth")
    return folder / "authors.pth"


class Pooled(nn.Module):
    """A network of two layers with half the resolution."""

    def __init__(self, classes: int = len(CLASSES)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, classes, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits [B,K,H/2,W/2]."""
        logits: Tensor = self.head(self.body(pictures).relu())
        return logits


def export(network: nn.Module, path: Path, *inputs: Tensor, fixed: bool = False, **names: Any) -> Path:
    """Write an ONNX file of a network, by default of one that takes images of any size."""
    axes = None if fixed or inputs else {"images": {0: "n", 2: "h", 3: "w"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that is quick is deprecated
        torch.onnx.export(
            network.eval(),
            inputs or (torch.rand(2, 3, 64, 64),),
            path,
            dynamic_axes=axes,
            dynamo=False,
            **({"input_names": ["images"]} | names),
        )
    return path


def write_onnx(folder: Path) -> Path:
    return export(Pooled(), folder / "pooled.onnx")


def onnx_teacher(folder: Path, **settings: Any) -> dict[str, Any]:
    """Settings of a teacher for a hierarchical task that is an ONNX file."""
    path = export(Pooled(classes=4), folder / "hierarchical.onnx")
    return {"checkpoint": str(path), "task": "hierarchical", **settings}


WRITERS = {
    "segmentation-models-pytorch": write_smp,
    "torchvision": write_torchvision,
    "Hugging Face": write_hugging_face,
    "mmsegmentation": write_mmseg,
    "SegFormer's authors": write_authors,
    "ONNX": write_onnx,
}
"""Writes a checkpoint with the five classes into a folder, by family."""
