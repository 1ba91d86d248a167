"""Optimizers: torch's AdamW, and all others that timm registers and that resume exactly.

``timm.optim`` is imported where it is needed: it imports torch's compiler.
"""

from __future__ import annotations

import difflib
from typing import Any

import torch

from kdtui.engine.checkpoint import ADAMW
from kdtui.errors import EngineError
from kdtui.profile import Training


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
