"""Optimizers: torch's AdamW, and all others that timm registers and that resume exactly.

``timm.optim`` is imported where it is needed: it imports torch's compiler.
"""

from __future__ import annotations

import difflib
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from kdtui.engine.checkpoint import ADAMW
from kdtui.errors import EngineError
from kdtui.profile import Training

_ADDED = 1e-6
"""What torch adds to the norm that it divides by."""


def optimizer_names() -> tuple[str, ...]:
    """Names of ``training.optimizer``.

    Left out are optimizers of packages that are not installed, those that need a graph of the gradients, and Kron,
    which draws random numbers that no checkpoint has.
    """
    from timm.optim import get_optimizer_info, list_optimizers  # type: ignore[attr-defined]

    infos = [get_optimizer_info(str(name)) for name in list_optimizers()]
    return tuple(
        info.name
        for info in infos
        if not isinstance(info.opt_class, str) and not info.second_order and info.opt_class.__name__ != "Kron"
    )


def check_optimizer(name: str) -> None:
    """Check that there is an optimizer of this name.

    Raises:
        EngineError: There is none.
    """
    if name == ADAMW:
        return
    names = optimizer_names()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        raise EngineError(
            "there is no optimizer of this name",
            where="training.optimizer",
            found=name,
            allowed=f"{', '.join(close) or 'adamw, sgd, lion'}, and other names of timm.optim.list_optimizers()",
            hint=f"--set training.optimizer={close[0] if close else ADAMW}",
        )


def optimizer_kind(settings: Training) -> str:
    """Name and parameter groups of an optimizer; a state fits optimizers of the same kind."""
    rate = settings.unfreezing and settings.unfreezing.encoder_rate
    return settings.optimizer if rate is None else f"{settings.optimizer} with {rate:g} of the rate in the encoder"


def build_optimizer(settings: Training, groups: list[dict[str, Any]], *, fused: bool) -> torch.optim.Optimizer:
    """The optimizer of a training.

    Args:
        settings: Its name and peak learning rate.
        groups: Parameter groups, each with its weight decay.
        fused: Whether AdamW updates all parameters in one kernel.

    Raises:
        EngineError: There is no optimizer of this name.
    """
    if settings.optimizer == ADAMW:
        return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=fused)
    from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]

    check_optimizer(settings.optimizer)
    return create_optimizer_v2(groups, opt=settings.optimizer, lr=settings.learning_rate)


def clip_gradients(fabric: Fabric, module: nn.Module, optimizer: torch.optim.Optimizer, largest: float) -> Tensor:
    """Scale the gradients such that their norm is at most ``largest``; return their norm before.

    On the CPU, gradients with a smaller norm are left alone, which Fabric would multiply by 1. On a GPU the comparison
    would wait for the device, and fp16 has gradients that must be unscaled first.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if fabric.device.type != "cpu" or getattr(fabric.strategy.precision, "scaler", None) is not None:
        norm = fabric.clip_gradients(module, optimizer, max_norm=largest, error_if_nonfinite=False)
        assert norm is not None
    else:
        norm = nn.utils.get_total_norm([one.grad for one in parameters if one.grad is not None])
        if not largest / (norm + _ADDED) >= 1:  # also if it is not a number
            nn.utils.clip_grads_with_norm_(parameters, largest, norm)
    return norm.detach()
