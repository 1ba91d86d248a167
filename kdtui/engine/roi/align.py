"""RoIAlign (He et al., 1703.06870): features of boxes on a grid of fixed size.

Coordinates have the half-pixel convention (``aligned=True`` of torchvision, ``half_pixel`` of ONNX), with two samples
along each axis of a cell. Samples are bilinear; coordinates up to one pixel outside the map are clamped to its border,
samples farther outside are zero.

The operator of torchvision is used where it is compiled for the device. Elsewhere the same numbers come from two matrix
products, as bilinear weights are separable; torchvision's own fallback in Python takes minutes on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdtui.engine.network import Translation

SAMPLES = 2
"""Samples along each axis of a cell."""


def roi_align(features: Tensor, rois: Tensor, size: tuple[int, int], scale: float = 1.0) -> Tensor:
    """Mean of the bilinear samples in each cell of a grid over each box.

    Args:
        features: [B,C,H,W]; computed in at least f32.
        rois: [N,5]: index of the image in the batch, and x1, y1, x2, y2 in pixels of the network's input.
        size: Height and width of the result in cells.
        scale: Width of the features divided by that of the network's input.

    Returns:
        [N,C,h,w].
    """
    if features.dtype != torch.float64:
        features = features.float()
    aligned: Tensor = _operator(features, rois.to(features.dtype), size[0], size[1], scale)
    return aligned


@torch.library.custom_op("kdtui::roi_align", mutates_args=())
def _operator(features: Tensor, rois: Tensor, height: int, width: int, scale: float) -> Tensor:
    if _is_compiled("roi_align", features):
        compiled: Tensor = torch.ops.torchvision.roi_align(features, rois, scale, height, width, SAMPLES, True)
        return compiled
    rows, columns = _weights(features, rois, height, width, scale)
    with torch.autocast(features.device.type, enabled=False):
        return rows @ features[rois[:, 0].long()] @ columns.transpose(-1, -2)


@_operator.register_fake
def _shape(features: Tensor, rois: Tensor, height: int, width: int, scale: float) -> Tensor:
    return features.new_empty(rois.shape[0], features.shape[1], height, width)


# torch passes these names.
def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, rois, *ctx.grid = inputs
    ctx.shape = list(features.shape)
    ctx.save_for_backward(rois)


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
    (rois,) = ctx.saved_tensors
    return _backward(gradient.contiguous(), rois, ctx.shape, *ctx.grid), None, None, None, None


@torch.library.custom_op("kdtui::roi_align_backward", mutates_args=())
def _backward(gradient: Tensor, rois: Tensor, shape: list[int], height: int, width: int, scale: float) -> Tensor:
    if _is_compiled("_roi_align_backward", gradient):
        compiled: Tensor = torch.ops.torchvision._roi_align_backward(
            gradient, rois, scale, height, width, *shape, SAMPLES, True
        )
        return compiled
    features = gradient.new_zeros(shape)
    rows, columns = _weights(features, rois, height, width, scale)
    with torch.autocast(gradient.device.type, enabled=False):
        each = rows.transpose(-1, -2) @ gradient @ columns
    return features.index_add_(0, rois[:, 0].long(), each)


@_backward.register_fake
def _backward_shape(gradient: Tensor, rois: Tensor, shape: list[int], height: int, width: int, scale: float) -> Tensor:
    return gradient.new_empty(shape)


_operator.register_autograd(_gradients, setup_context=_keep)


def _is_compiled(name: str, values: Tensor) -> bool:
    """Whether torchvision has a kernel of an operator for the device of a tensor."""
    key = {"cpu": "CPU", "cuda": "CUDA"}.get(values.device.type)
    if key is None or not hasattr(torch.ops.torchvision, name):
        return False
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(f"torchvision::{name}", key))


def _weights(features: Tensor, rois: Tensor, height: int, width: int, scale: float) -> tuple[Tensor, Tensor]:
    """Weights of the rows [N,1,h,H] and columns [N,1,w,W] of the features in the cells of each box."""
    x1, y1, x2, y2 = (rois[:, 1:] * scale - 0.5).unbind(dim=1)
    rows = _axis(y1, y2, height, features.shape[-2])
    return rows.unsqueeze(1), _axis(x1, x2, width, features.shape[-1]).unsqueeze(1)


def _axis(first: Tensor, last: Tensor, cells: int, length: int) -> Tensor:
    """Weights [N,cells,length] of the positions along one axis: the mean of the samples of each cell."""
    steps = (torch.arange(cells * SAMPLES, device=first.device, dtype=first.dtype) + 0.5) / SAMPLES
    places = first[:, None] + steps * ((last - first) / cells)[:, None]
    inside = (places >= -1) & (places <= length)
    places = places.clamp(0, length - 1)
    low = places.floor().clamp(max=max(length - 2, 0))
    share, low = places - low, low.long()
    weights = places.new_zeros(*places.shape, length)
    weights.scatter_add_(2, low[..., None], (1 - share)[..., None])
    weights.scatter_add_(2, (low + 1).clamp(max=length - 1)[..., None], share[..., None])
    weights = weights * inside[..., None]
    return weights.reshape(len(weights), cells, SAMPLES, length).mean(dim=2)


def _dynamo(features: Any, rois: Any, height: int, width: int, scale: float) -> Any:
    """The operator of ONNX, opset 16 and newer, for the dynamo exporter."""
    from onnxscript import opset18

    op: Any = opset18  # its annotations know no symbolic values
    images = op.Cast(op.Gather(rois, op.Constant(value_int=0), axis=1), to=7)  # i64
    boxes = op.Gather(rois, op.Constant(value_ints=[1, 2, 3, 4]), axis=1)
    return op.RoiAlign(features, boxes, images, **_attributes(height, width, scale))


def _torchscript(graph: Any, features: Any, rois: Any, height: Any, width: Any, scale: Any) -> Any:
    """The same for the older exporter."""
    from torch.onnx import symbolic_helper

    height, width = (symbolic_helper._parse_arg(value, "i") for value in (height, width))
    scale = symbolic_helper._parse_arg(scale, "f")
    zero, rest = (graph.op("Constant", value_t=torch.tensor(value)) for value in (0, [1, 2, 3, 4]))
    images = graph.op("Cast", graph.op("Gather", rois, zero, axis_i=1), to_i=7)
    boxes = graph.op("Gather", rois, rest, axis_i=1)
    kinds = {str: "s", int: "i", float: "f"}
    attributes = {f"{name}_{kinds[type(value)]}": value for name, value in _attributes(height, width, scale).items()}
    return graph.op("RoiAlign", features, boxes, images, **attributes)


def _attributes(height: int, width: int, scale: float) -> dict[str, Any]:
    return {
        "coordinate_transformation_mode": "half_pixel",
        "mode": "avg",
        "output_height": height,
        "output_width": width,
        "sampling_ratio": SAMPLES,
        "spatial_scale": float(scale),
    }


TRANSLATION = Translation("kdtui::roi_align", dynamo=_dynamo, torchscript=_torchscript, opset=16)
"""How exporters write this operator."""
