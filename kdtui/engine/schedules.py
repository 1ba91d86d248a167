"""Schedules as pure functions of the step: nothing to save, nothing that a resume could restart."""

from __future__ import annotations

import math


def warmup_cosine(step: int, total_steps: int, *, warmup: float) -> float:
    """Factor on the peak learning rate for the optimizer step numbered ``step`` (0-based).

    Linear from 1/n to 1 over the first n = ``warmup * total_steps`` steps, then a half cosine that reaches zero just
    after the last step (Loshchilov and Hutter, 1608.03983, without restarts).

    Args:
        step: Optimizer steps already done.
        total_steps: Steps of the whole run; a step beyond it gets 0.
        warmup: Share of the steps spent rising, in [0, 1).
    """
    rising = round(warmup * total_steps)
    if step < rising:
        return (step + 1) / rising
    progress = min(1.0, (step - rising) / max(1, total_steps - rising))
    return 0.5 * (1.0 + math.cos(math.pi * progress))
