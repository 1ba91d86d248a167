"""Fast work where only the shapes of tensors matter: on torch's meta device, and on weights that are loaded afterwards.

On the meta device torch runs batch norms, bilinear interpolation and random values through the Python code that defines
these operators for compilers, which is most of the time of a forward pass, and a third of that of building a network of
timm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class ShapesOnly(TorchFunctionMode):
    """A mode in which slow operators on the meta device return empty tensors; other operators, and errors, are torch's.

    Nothing changes on other devices.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator, or return an empty result."""
        given = kwargs or {}
        empty = _EMPTY.get(func)
        if empty is not None:
            result = empty(*args, **given)
            if result is not None:
                return result
        return func(*args, **given)


class WithoutRandomWeights(ShapesOnly):
    """As the base class; and initial weights are zero on every device, for networks whose weights do not matter."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator, or return an empty result or zeros."""
        if func in _RANDOM:
            weights = args[0] if args else (kwargs or {})["tensor"]
            if not weights.is_meta:
                with torch.no_grad():
                    return weights.zero_()
        return super().__torch_function__(func, types, args, kwargs)


def passed(network: nn.Module, images: Tensor, inputs: Mapping[str, Tensor] | None = None) -> Any:
    """Raw output of a network on the device of the images, which need not be that of the network.

    Args:
        network: Unchanged: training mode changes running statistics of copies only.
        images: f32 [B,C,H,W].
        inputs: Its further inputs by name.
    """
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    copies = {name: tensor.detach().to(images.device, copy=True) for name, tensor in tensors.items()}
    with torch.no_grad(), ShapesOnly():
        return functional_call(network, copies, (images,), dict(inputs or {}))


def shapes_of(network: nn.Module, images: Tensor, inputs: Mapping[str, Tensor]) -> Any:
    """As :func:`passed`, tensors on the meta device."""
    return passed(network, images.to("meta"), {name: tensor.to("meta") for name, tensor in inputs.items()})


def _normalised(
    images: Tensor,
    *statistics: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    **_: Any,
) -> Tensor | None:
    channels = images.shape[1]
    fit = all(one is None or one.numel() == channels for one in (*statistics, weight, bias))
    one_value = training and images.numel() == channels
    return torch.empty_like(images) if images.is_meta and fit and not one_value else None


def _resized(
    images: Tensor, *, size: Any = None, scale_factor: Any = None, mode: str = "nearest", **_: Any
) -> Tensor | None:
    if not images.is_meta or mode != "bilinear" or images.ndim != 4 or (size is None) == (scale_factor is None):
        return None
    given = scale_factor if size is None else size
    height, width = given if isinstance(given, Sequence) else (given, given)
    if size is None:
        height, width = images.shape[2] * height, images.shape[3] * width
    sides = int(height), int(width)
    return images.new_empty(*images.shape[:2], *sides) if min(*sides, *images.shape[2:]) > 0 else None


def _untouched(tensor: Tensor, *_: Any, **__: Any) -> Tensor | None:
    return tensor if tensor.is_meta else None


_RANDOM = (Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)
_EMPTY: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
    functional.batch_norm: _normalised,
    functional.interpolate: _resized,
    **dict.fromkeys(_RANDOM, _untouched),
}
"""What computes the result of an operator on the meta device, or None where torch shall."""
