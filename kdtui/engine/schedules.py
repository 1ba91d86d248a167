"""Learning-rate schedules as pure functions of the step, without state to save."""

from __future__ import annotations

import math


def warmup_cosine(step: int, total_steps: int, *, warmup: float) -> float:
    """Factor of the peak learning rate for the 0-based optimizer step ``step``.

    Linear from 1/n to 1 over the first n = ``warmup * total_steps`` steps, then a half cosine that reaches zero just
    after the last step (Loshchilov and Hutter, 1608.03983, without restarts).

    Args:
        step: Number of completed optimizer steps.
        total_steps: Number of steps of the whole run; later steps get 0.
        warmup: Share of warm-up steps, in [0, 1).
    """
    rising = round(warmup * total_steps)
    if step < rising:
        return (step + 1) / rising
    progress = min(1.0, (step - rising) / max(1, total_steps - rising))
    return 0.5 * (1.0 + math.cos(math.pi * progress))
