"""The memory that a training will need, before it starts.

Student and teacher run once on torch's meta device, which computes shapes only, and the memory of the tensors is added
up: forward and backward pass for a training step, forward pass alone for the teacher and for validation.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kdtui.engine.models import UNWORKABLE, input_channels
from kdtui.engine.shapes import ShapesOnly
from kdtui.text import counted, mebibytes

LIBRARIES = 450 * 2**20
"""Bytes of a process that has imported all libraries, or of a GPU's context; measured with torch 2.13 on Linux."""
_IMAGES = 2
"""Images of the pass on the meta device: batch norms of one value per channel cannot be trained."""
_F32 = 4
_PER_PARAMETER = 4 * _F32
"""Weight, gradient, and the two moments of AdamW."""
_MAPS_OF_TERM = 4
"""Maps of the logits' size that a loss term keeps until its backward pass, with the gradient."""
_OVERHEAD = 1.1
"""Of the allocator, and of operators that need memory beside their result; measured on the CPU."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one device.

    Attributes:
        fixed: Libraries, weights, gradients, moments and cached images.
        training: Per image of a training pass.
        validation: Per image of a validation pass.
        images: Images of a training pass.
        validated: Images of a validation pass.
    """

    fixed: int
    training: int
    validation: int
    images: int
    validated: int

    @property
    def peak(self) -> int:
        """The larger of both peaks."""
        return self.fixed + max(self.training * self.images, self.validation * self.validated)

    def largest(self, memory: int) -> int:
        """The most images of a training pass that fit into ``memory`` bytes."""
        return max(0, (memory - self.fixed) // self.training)

    def described(self, memory: int) -> str:
        """The peaks, and what fits into ``memory`` bytes."""
        training, validation = (
            mebibytes(self.fixed + each) for each in (self.training * self.images, self.validation * self.validated)
        )
        return (
            f"about {training} in training with {counted(self.images, 'image')} at once, {validation} in validation "
            f"with {self.validated}; of {mebibytes(memory)}, enough for about {self.largest(memory)} images at once"
        )


def estimate(
    student: nn.Module,
    teachers: Sequence[nn.Module],
    size: tuple[int, int],
    *,
    images: int,
    validated: int,
    terms: int,
    half: bool = False,
    averaged: bool = False,
    cached: int = 0,
) -> MemoryEstimate | None:
    """Estimate the memory of a training; None for networks that the meta device cannot run.

    Neither does it cover networks with further inputs, whose number decides.

    Args:
        student: On any device; unchanged.
        teachers: Networks that see every image.
        size: Height and width of the network's input.
        images: Images of a training pass on one device.
        validated: Images of a validation pass on one device.
        terms: Number of terms of the loss.
        half: Whether networks compute with 16 bits.
        averaged: Whether there is a moving average of the student.
        cached: Bytes of the images in memory.
    """
    if getattr(student, "extra_inputs", ()):
        return None
    try:
        learning, logits = _peak(student, size, training=True)
        looking, _ = _peak(student, size, training=False)
        taught = [_peak(teacher, size, training=False) for teacher in teachers if _stored(teacher)]
    except UNWORKABLE:
        return None
    share = 0.5 if half else 1.0
    image = _F32 * size[0] * size[1] * (2 * input_channels(student) + 2)  # as loaded and as laid out; 8-byte labels
    losses = (_MAPS_OF_TERM * terms + 2 * len(taught)) * logits
    teaching = max((share * peak for peak, _ in taught), default=0.0)
    weights = _stored(student)
    fixed = LIBRARIES + weights * (_PER_PARAMETER + (_F32 if averaged else 0)) + cached
    fixed += sum(_F32 * _stored(teacher) for teacher in teachers)
    return MemoryEstimate(
        fixed=fixed,
        training=round(_OVERHEAD * (image + max(teaching, share * learning + losses))),
        validation=round(_OVERHEAD * (image + share * looking + 2 * logits)),
        images=images,
        validated=validated,
    )


def _stored(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _peak(network: nn.Module, size: tuple[int, int], *, training: bool) -> tuple[int, int]:
    """Bytes per image of what is alive at the peak of a pass, and of the network's output."""
    tensors = {
        name: tensor.detach().to("meta").requires_grad_(tensor.requires_grad)
        for name, tensor in (*network.named_parameters(), *network.named_buffers())
    }
    images = torch.empty(_IMAGES, input_channels(network), *size, device="meta")
    before = network.training
    network.train(training)
    try:
        # A graph needs the operators themselves.
        fast = contextlib.nullcontext() if training else ShapesOnly()
        with torch.set_grad_enabled(training), fast, _Alive() as alive:
            outputs = tree_leaves(functional_call(network, tensors, (images,)))
            logits = sum(_F32 * output.numel() for output in outputs)
            if training:
                torch.stack([output.float().sum() for output in outputs]).sum().backward()
    finally:
        network.train(before)
    return alive.peak // _IMAGES, logits // _IMAGES


class _Alive(TorchDispatchMode):
    """Adds up the memory of the tensors that operators return, for as long as they exist.

    Attributes:
        peak: The most bytes at a time.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size
