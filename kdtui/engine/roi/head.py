"""The head of a box: from the output of stage 1 and the pixels in the box to two decisions per pixel of its mask.

All maps have the size of the grid, [N,C,h,w] for N boxes; the last step of each branch has that of the mask. N may be
0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdtui.profile import RoiModel

_REDUCTION = 8
"""Width of the features divided by that between the two layers of the channel attention."""
_SPATIAL = 7
"""Side of the kernel of the spatial attention."""


class Norm(nn.BatchNorm2d):
    """A batch norm that lets an empty batch pass: its mean would not be defined."""

    def forward(self, values: Tensor) -> Tensor:
        """See torch; of an empty batch, the gradients of weight and bias are zero, and statistics do not change."""
        if self.training and not len(values):
            return F.batch_norm(values, self.running_mean, self.running_var, self.weight, self.bias, False)
        return super().forward(values)


class Layer(nn.Sequential):
    """A convolution of 3x3 with batch norm and ReLU."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(nn.Conv2d(channels, width, 3, padding=1, bias=False), Norm(width), nn.ReLU())


class Residual(nn.Module):
    """Two convolutions of 3x3, added to their input."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = Layer(channels, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), Norm(width))
        self.skip: nn.Module = nn.Identity()
        if channels != width:
            self.skip = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), Norm(width))

    def forward(self, values: Tensor) -> Tensor:
        """Features of the width of the block."""
        return F.relu(self.second(self.first(values)) + self.skip(values))


class Larger(nn.Sequential):
    """Transposed convolutions that enlarge maps, by a factor of 2 each; one layer of 3x3 for a factor of 1."""

    def __init__(self, channels: int, width: int, factor: int) -> None:
        layers: list[nn.Module] = [] if factor > 1 else [Layer(channels, width)]
        while factor > 1:
            layers += [nn.ConvTranspose2d(channels, width, 2, stride=2, bias=False), Norm(width), nn.ReLU()]
            channels, factor = width, factor // 2
        super().__init__(*layers)


class SmallUNet(nn.Module):
    """A U-Net of residual blocks whose width doubles each time that the maps are halved."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(map(Residual, [channels, *widths[:-1]], widths))
        self.up = nn.ModuleList(
            Residual(deep + wide, wide) for deep, wide in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )

    def forward(self, values: Tensor) -> Tensor:
        """Features of the first level, of the input's size."""
        skips: list[Tensor] = []
        for block in self.down:
            values = block(F.max_pool2d(values, 2) if skips else values)
            skips.append(values)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            values = block(torch.cat([F.interpolate(values, skip.shape[-2:]), skip], dim=1))
        features: Tensor = values
        return features


class Attention(nn.Module):
    """Attention of channels (Hu et al., 1709.01507), then of places (Woo et al., 1807.06521)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(4, channels // _REDUCTION)
        self.channels = nn.Sequential(nn.Conv2d(channels, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, channels, 1))
        self.places = nn.Conv2d(2, 1, _SPATIAL, padding=_SPATIAL // 2)

    def forward(self, values: Tensor) -> Tensor:
        """The values, scaled twice."""
        values = values * self.channels(values.mean(dim=(2, 3), keepdim=True)).sigmoid()
        seen = torch.cat([values.mean(dim=1, keepdim=True), values.amax(dim=1, keepdim=True)], dim=1)
        scaled: Tensor = values * self.places(seen).sigmoid()
        return scaled


class RoiHead(nn.Module):
    """The head of a network of kind ``roi``.

    Shared features of the cells of a box go into two branches: a small U-Net decides between background and foreground,
    and a residual block, whose input the first branch gates, between target and others.

    Args:
        table: Its widths and parts.
        channels: Channels of the images.
    """

    def __init__(self, table: RoiModel, channels: int) -> None:
        super().__init__()
        width, narrow = table.head_channels, max(4, table.head_channels // 4)
        self.rgb: nn.Module | None = None
        if table.rgb_features:
            self.rgb = nn.Sequential(
                Residual(channels, narrow), Residual(narrow, width // 2), Residual(width // 2, width)
            )
        self.shared = nn.Sequential(
            Layer(1 + (width if table.rgb_features else 0), width), Residual(width, width), Residual(width, width)
        )
        self.background = SmallUNet(width, narrow, table.head_depth)
        self.background_mask = Larger(narrow, narrow, table.factor)
        self.background_logits = nn.Conv2d(narrow, 2, 1)
        self.gate = nn.Conv2d(narrow, width, 1) if table.gate else None
        self.target = Residual(width, width // 2)
        self.attention: nn.Module = Attention(width // 2) if table.attention else nn.Identity()
        self.target_mask = Larger(width // 2, narrow, table.factor)
        self.target_logits = nn.Conv2d(narrow, 2, 1)

    def forward(self, foreground: Tensor, pixels: Tensor) -> Tensor:
        """Raw logits of the two decisions, background | foreground and target | others.

        Args:
            foreground: Output of stage 1 in the cells of the boxes, [N,1,h,w].
            pixels: The image in the same cells, [N,C,h,w].

        Returns:
            [N,4,H,W].
        """
        parts = [foreground] if self.rgb is None else [foreground, self.rgb(pixels)]
        shared = self.shared(torch.cat(parts, dim=1))
        background = self.background(shared)
        if self.gate is not None:
            shared = shared * self.gate(background).sigmoid()
        target = self.target_mask(self.attention(self.target(shared)))
        return torch.cat([self.background_logits(self.background_mask(background)), self.target_logits(target)], dim=1)
