"""How much memory one inference needs at its peak."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Living(TorchDispatchMode):
    """Counts the bytes of tensors that live at the same time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._living: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        answer = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(answer):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                self._living[StorageWeakRef(storage)] = storage.nbytes()
        self._living = {storage: size for storage, size in self._living.items() if not storage.expired()}
        self.peak = max(self.peak, sum(self._living.values()))
        return answer


def peak_memory(network: nn.Module, images: Tensor) -> int:
    """Bytes of weights, input and everything computed, where most of it lives at once.

    On a GPU what torch allocated at its peak. On a CPU the tensors themselves are counted: a process's own peak holds
    what it did before, and differs with the allocator; scratch memory inside an operator is not seen.

    Args:
        network: In eval.
        images: f32 [N,3,H,W] on the network's device.
    """
    if images.is_cuda:
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        with torch.inference_mode():
            network(images)
        torch.cuda.synchronize()
        weights = sum(value.nbytes for value in network.state_dict().values())
        return int(torch.cuda.max_memory_allocated() - before + weights + images.nbytes)
    with torch.no_grad(), _Living() as living:
        network(images)
    weights = sum(value.nbytes for value in network.state_dict().values())
    return int(living.peak + weights + images.nbytes)
