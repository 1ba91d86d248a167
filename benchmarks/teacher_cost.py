"""What the live teacher costs: a distilled step against a student-only step, and against a teacher run in fp32.

Interleaved in one process, so that the ratios hold when the machine's speed drifts: ``make bench``.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from kdtui.engine.data import IGNORE_INDEX
from kdtui.engine.losses import Labels, StepShare
from kdtui.engine.models import build_network, compose, lay_out_channels_last
from kdtui.engine.objective import FrozenTeacher, build_objective
from kdtui.engine.precision import choose_precision
from kdtui.profile import Distillation, Model, Profile, SyntheticData

ROUNDS = 5
BATCH = 4


def measured(student: str, teacher: str, height: int, width: int) -> dict[str, float]:
    """Median seconds per step of each way, on one batch of random images."""
    profile = Profile(name="bench", data=SyntheticData(height=height, width=width), student=Model(encoder=student))
    bf16 = choose_precision(profile, "cpu") == "bf16"
    networks = [
        lay_out_channels_last(build_network(Model(encoder=encoder), task="hierarchical", classes=3))
        for encoder in (student, teacher)
    ]
    images = torch.randn(BATCH, 3, height, width).contiguous(memory_format=torch.channels_last)
    masks = torch.randint(0, 3, (BATCH, height, width))

    def autocast() -> contextlib.AbstractContextManager[None]:
        return torch.autocast("cpu", torch.bfloat16, enabled=bf16)

    alike = FrozenTeacher(networks[1], task="hierarchical", autocast=autocast)
    in_fp32 = FrozenTeacher(networks[1], task="hierarchical", autocast=contextlib.nullcontext)
    ways: dict[str, Callable[[], None]] = {
        "student alone": lambda: step(networks[0], None, images, masks, autocast),
        "live teacher": lambda: step(networks[0], alike, images, masks, autocast),
        "live teacher in fp32": lambda: step(networks[0], in_fp32, images, masks, autocast),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(ROUNDS + 1):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            if round_:  # the first one warms up
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def step(
    student: nn.Module,
    teacher: FrozenTeacher | None,
    images: torch.Tensor,
    masks: torch.Tensor,
    autocast: Callable[[], contextlib.AbstractContextManager[None]],
) -> None:
    """Forward and backward of one step."""
    profile = Profile(name="bench", distillation=Distillation(enabled=teacher is not None))
    objective = build_objective(profile, 3, student, None if teacher is None else teacher.network)
    theirs = None if teacher is None else teacher.outputs(images)
    with autocast():
        raw = student(images)
    share = StepShare(valid_pixels=float(masks.numel()), images=len(images))
    objective(compose(raw, "hierarchical"), theirs, Labels(masks, IGNORE_INDEX), share).total.backward()
    student.zero_grad()


def main() -> None:
    """Print a row per student, teacher and size."""
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {BATCH}, median of {ROUNDS} interleaved"
    )
    for student, teacher in (("timm-efficientnet-b0", "timm-efficientnet-b3"), ("resnet18", "resnet34")):
        for height, width in ((160, 128), (352, 480)):
            took = measured(student, teacher, height, width)
            alone = took["student alone"]
            ratios = ", ".join(
                f"{name} {value / alone:.2f}x" for name, value in took.items() if name != "student alone"
            )
            print(
                f"{teacher} -> {student} {height}x{width}: student alone {alone * 1e3 / BATCH:.0f} ms/image; {ratios}"
            )


if __name__ == "__main__":
    main()
