"""Memory that a distillation term needs for relations between cells, before anything is trained."""

from __future__ import annotations

import psutil
import torch

from kdtui.errors import ModelError
from kdtui.profile import Profile
from kdtui.profile.term_tables import DistillationTerm
from kdtui.text import mebibytes

BYTES = 24
"""Of a relation: similarities of student and teacher, both softmaxes, divergence and gradient, each in f32."""


def needed(table: DistillationTerm, height: int, width: int, images: int) -> int:
    """Bytes of the relations of a term; 0 for most terms.

    Args:
        table: The term.
        height: Height of the student's map in cells.
        width: Its width.
        images: Images that one device processes at once.
    """
    return BYTES * table.relations(height, width, images)


def check_fits(table: DistillationTerm, size: tuple[int, int], profile: Profile, where: str, memory: int) -> int:
    """Check that the relations of a term fit into memory.

    Args:
        table: The term.
        size: Height and width of the student's map that it reads, in cells.
        profile: The run's.
        where: Key of the term, for the message.
        memory: Bytes of the device.

    Returns:
        Bytes of the relations.

    Raises:
        ModelError: They do not fit; the message has a value of ``pool`` with which they do.
    """
    settings = profile.training
    images = settings.micro_batch_size or settings.batch_size // settings.devices
    bytes_needed = needed(table, *size, images)
    if bytes_needed <= memory:
        return bytes_needed
    pools = [2**power for power in range(1, 9)]
    fitting = [pool for pool in pools if needed(table.model_copy(update={"pool": pool}), *size, images) <= memory]
    raise ModelError(
        "the relations between the cells of this map do not fit into memory",
        where=f"{where}.on",
        found=f"{table.on}: {size[0]}x{size[1]} cells, {images} images: {mebibytes(bytes_needed)}",
        allowed=f"at most {mebibytes(memory)}, the memory of the device",
        hint=f"set pool of this term to {fitting[0]}" if fitting else "set on of this term to a smaller map",
    )


def device_memory(profile: Profile) -> int:
    """Bytes of memory of a device that would train a profile; of a CPU, the share of one of its ranks."""
    if profile.training.accelerator != "cpu" and torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return int(psutil.virtual_memory().total) // profile.training.devices
