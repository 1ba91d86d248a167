"""A training that never happened: how far a run of a scene is, and what it says of itself at each step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from kdtui.events import Measured, Started

STEPS = 10
"""Optimizer steps of an epoch."""
PARAMETERS = {"timm-efficientnet-b0": 6_251_904, "timm-efficientnet-b3": 13_159_468, "resnet18": 14_328_354}
TEACHER_MIOU = 0.7540
PIXEL = {"background": 0.031, "target": 0.624, "other": 0.345}
SECONDS = 3.0
"""Of a step."""


@dataclass
class Training:
    """How far a run is.

    Attributes:
        horizon: Epochs.
        best: The mIoU it gets near in the end.
        distillation: Temperature and alpha; empty without a teacher.
    """

    pid: int
    created: int
    horizon: int
    best: float
    encoder: str
    distillation: Mapping[str, float]
    attempt: int = 0
    step: int = 0
    score: float = 0.0
    loss: float = 1.0

    @property
    def epoch(self) -> int:
        """The one it is in."""
        return max(1, math.ceil(self.step / STEPS))

    def started(self, attempt: int, at: float) -> Started:
        """Its first word, behind the steps that it has."""
        parameters = PARAMETERS[self.encoder]
        iou = {"background": 0.93, "target": 0.75, "other": 0.58}
        taught = {"parameters": 13_159_468, "miou": TEACHER_MIOU, "iou": iou, "pixel": PIXEL}
        return Started(
            attempt=attempt,
            ranks=({"pid": self.pid + 1, "start_ticks": 1, "boot_id": "b"},),
            device="cpu",
            precision="fp32",
            threads=2,
            world_size=1,
            epochs=self.horizon,
            steps_per_epoch=STEPS,
            resumed_step=self.step,
            student={"parameters": parameters, "parameters_used": parameters - 412_160},
            teacher=taught if self.distillation else None,
            time=at,
        )

    def train(self, step: int, at: float) -> Measured:
        """What it says of a step."""
        part = step / (self.horizon * STEPS)
        wave = 0.05 * math.sin(step * 1.7 + self.pid) * math.exp(-2 * part)
        self.loss = round(0.35 + 0.9 * math.exp(-6 * part) + wave, 4)
        scalars: dict[str, float | None] = {
            "loss": self.loss,
            "loss.base": round(0.8 * self.loss, 4),
            "lr": round(0.001 * (1 - part) + 1e-6, 8),
            "images_per_second": 88.0,
        }
        if self.distillation:
            parts = {"loss.distill": 1.1 * self.loss, "loss.distill.logits": 0.8 * self.loss}
            scalars |= {name: round(value, 4) for name, value in parts.items()} | dict(self.distillation)
        return Measured("train", step, (step - 1) // STEPS + 1, step * 16, scalars, time=round(at, 3))

    def validate(self, step: int, at: float) -> Measured:
        """What it says at the end of an epoch."""
        self.score = round(self.best * (1 - math.exp(-5 * step / (self.horizon * STEPS))), 4)
        scalars: dict[str, float | None] = {"miou": self.score, "best_miou": self.score, "best_epoch": step / STEPS}
        iou = {"background": min(0.99, self.score + 0.2), "target": self.score, "other": 0.8 * self.score}
        scalars |= {f"iou.{name}": round(value, 4) for name, value in iou.items()}
        if self.distillation:
            scalars |= {"agreement": round(0.8 + self.score / 6, 4), "retention": round(self.score / TEACHER_MIOU, 4)}
        return Measured("val", step, step // STEPS, step * 16, scalars, self.horizon, time=round(at, 3))
