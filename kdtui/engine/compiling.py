"""``training.compile``: forward and backward passes by ``torch.compile``, where that is possible and faster.

Before its first step a training measures a few passes of each network on random images, compiled and as they are, and
takes the faster way. Weights, running statistics and random numbers are as if it had not. What is compiled is a
function around the network, which keeps the names of its tensors in every file. Evaluation and export do not use it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from kdtui.engine.dry_run import padded_size
from kdtui.engine.evaluate import to_device
from kdtui.engine.models import UNWORKABLE, logit_channels, one_line, unwrapped
from kdtui.engine.objective import FrozenTeacher
from kdtui.engine.setup import TrainingSetup
from kdtui.profile import Loss, Profile

Forward = Callable[[Tensor], Any]
Backend = str | Callable[..., Any]
Measure = Callable[[str, Callable[[], None]], float]
BACKEND = "inductor"
_ROUNDS = 3
_FASTER = 0.97
"""Share of the time of an uncompiled pass that a compiled one may take."""
_FAILURES = (*UNWORKABLE, OSError, ImportError, subprocess.SubprocessError)
"""What dynamo and inductor raise, and what fails on the way to a compiler and back."""


def why_not_compiled(profile: Profile, student: nn.Module) -> str:
    """Why ``training.compile`` has no effect; empty if it may have one."""
    training, task = profile.training, profile.data.task
    network = unwrapped(student)
    terms = (*profile.distillation.active_terms(task), *(profile.loss or Loss()).active_terms())
    others = sorted({name for table in terms for name in table.student_needs} - logit_channels(task, 1).keys())
    compiler = os.environ.get("CXX") or "g++"
    reasons = {
        "several ranks train the student": training.devices > 1,
        "training.unfreezing changes what is trained": training.unfreezing is not None,
        "the student's output is not one map of logits per image": hasattr(network, "compose"),
        "the student reads more than images": bool(getattr(network, "extra_inputs", ())),
        f"terms read {', '.join(others)} of the student": bool(others),
        f"there is no C++ compiler ({compiler})": shutil.which(compiler) is None,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def compile_networks(
    stage: TrainingSetup, teacher: FrozenTeacher | None, *, backend: Backend = BACKEND, measure: Measure | None = None
) -> Iterator[str]:
    """Compile the student and a teacher that sees every image, if that is faster; a line on each.

    Args:
        stage: The attempt; its student is compiled.
        teacher: Is compiled too; None if there is none, or if its logits are cached.
        backend: That of ``torch.compile``.
        measure: Seconds of a call of its second argument, which its first one names: ``plain`` or ``compiled``.
    """
    measure = measure or _seconds
    reason = why_not_compiled(stage.profile, stage.student)
    if reason:
        yield f"training.compile has no effect: {reason}"
        return
    _prepare()
    device = stage.fabric.device
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the compiler are about its own code
        images = _images(stage)
        stage.trainable.compiled, line = _faster(stage.student, _step(stage, images), images.shape, backend, measure)
        yield f"student: {line}"
        if teacher is not None and not teacher.taps:
            teacher.compiled, line = _faster(teacher.network, _pass(teacher, images), images.shape, backend, measure)
            yield f"teacher: {line}"
    # From now on, what cannot be compiled is computed as it is.
    torch._dynamo.config.suppress_errors = True


def _prepare() -> None:
    """Settings of the compiler: one process, and a folder of the user, as the files in it are executed."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(base) / "kdtui" / "compiled"))
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    torch._dynamo.config.suppress_errors = False


def _images(stage: TrainingSetup) -> Tensor:
    settings, data = stage.profile.training, stage.profile.data
    count = settings.micro_batch_size or settings.batch_size
    images = torch.randn(count, data.image_channels, *padded_size(stage.profile))
    return to_device(images, stage.fabric, channels_last=stage.channels_last)


def _step(stage: TrainingSetup, images: Tensor) -> Callable[[Forward], None]:
    """Forward and backward pass of the student, without traces in it."""
    student = stage.student

    def run(forward: Forward) -> None:
        statistics = {name: values.clone() for name, values in student.named_buffers()}
        student.train()
        try:
            with stage.fabric.autocast():
                raw = forward(images)
            torch.stack([one.float().mean() for one in tree_leaves(raw)]).sum().backward()
        finally:
            for name, values in student.named_buffers():
                values.copy_(statistics[name])
            student.zero_grad(set_to_none=True)

    return run


def _pass(teacher: FrozenTeacher, images: Tensor) -> Callable[[Forward], None]:
    """Forward pass of the teacher."""

    def run(forward: Forward) -> None:
        with torch.inference_mode(), teacher.autocast():
            forward(images)

    return run


def _faster(
    network: nn.Module, run: Callable[[Forward], None], shape: torch.Size, backend: Backend, measure: Measure
) -> tuple[Forward | None, str]:
    """The compiled forward pass if it is faster, and a description.

    Args:
        network: The network.
        run: Runs the passes to measure with a forward pass.
        shape: That of the images, for which the pass is compiled.
        backend: That of ``torch.compile``.
        measure: See :func:`compile_networks`.
    """

    def plain(images: Tensor) -> Any:
        return network(images)

    run(plain)
    try:
        compiled: Forward = torch.compile(plain, backend=backend, dynamic=False)
        took = _seconds("compiled", lambda: run(compiled))
        best = {"plain": float("inf"), "compiled": float("inf")}
        for _ in range(_ROUNDS):
            for name, way in (("plain", plain), ("compiled", compiled)):
                best[name] = min(best[name], measure(name, partial(run, way)))
    except _FAILURES as error:
        return None, f"not compiled: {type(error).__name__}: {one_line(error)[:300]}"
    ratio = best["compiled"] / best["plain"]
    if ratio > _FASTER:
        return None, f"not compiled: a compiled pass takes {ratio:.2f} times as long"

    def forward(images: Tensor) -> Any:
        # Another shape, such as that of a picture, would be compiled anew.
        return (compiled if images.shape == shape else plain)(images)

    return forward, f"compiled in {took:.0f} s: a pass takes {ratio:.2f} of the time"


def _seconds(_: str, call: Callable[[], None]) -> float:
    begin = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin
