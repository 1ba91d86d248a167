"""Lightning Fabric for the ranks that kdtui started."""

from __future__ import annotations

import os
from typing import Any

from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from torch import Tensor


class KdtuiEnvironment(ClusterEnvironment):
    """One process per rank on this machine, started by kdtui with ``RANK``, ``MASTER_ADDR`` and ``MASTER_PORT``.

    Without it, Fabric would detect a surrounding job of a batch system, ``mpirun`` or ``torchrun`` and wait for the
    other processes of that job.

    Args:
        world_size: Number of ranks; if there are several, ``RANK`` has the number of this one.
    """

    def __init__(self, world_size: int) -> None:
        self._world_size = world_size
        self._rank = int(os.environ["RANK"]) if world_size > 1 else 0

    @property
    def creates_processes_externally(self) -> bool:
        """Fabric never starts a process."""
        return True

    @property
    def main_address(self) -> str:
        """All ranks are on this machine."""
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        """A port that was free when the ranks were started."""
        return int(os.environ["MASTER_PORT"])

    @staticmethod
    def detect() -> bool:
        """Never detected automatically."""
        return False

    def world_size(self) -> int:
        """Number of ranks."""
        return self._world_size

    def set_world_size(self, size: int) -> None:
        """Fabric's own count, which is the same."""

    def global_rank(self) -> int:
        """This rank."""
        return self._rank

    def set_global_rank(self, rank: int) -> None:
        """Fabric's own count, which is the same."""

    def local_rank(self) -> int:
        """This rank: there is one machine."""
        return self._rank

    def node_rank(self) -> int:
        """There is one machine."""
        return 0


def make_fabric(*, accelerator: str, world_size: int = 1, precision: Any = None) -> Fabric:
    """Create Fabric for the ranks that kdtui started.

    Args:
        accelerator: ``cpu``, ``cuda`` or ``auto``.
        world_size: Number of ranks.
        precision: Fabric's name of the precision.
    """
    # Variables of Fabric's launcher would override the arguments; with those of torchrun, torch waits for its store.
    for name in [name for name in os.environ if name.startswith(("LT_", "TORCHELASTIC_"))]:
        del os.environ[name]
    return Fabric(
        accelerator=accelerator,
        devices=world_size,
        strategy="ddp" if world_size > 1 else "auto",
        precision=precision,
        plugins=[KdtuiEnvironment(world_size)],
    )


def reduced(fabric: Fabric, value: Tensor, how: str) -> Tensor:
    """``value`` reduced over all ranks (``sum`` or ``mean``); a collective."""
    answer = fabric.all_reduce(value, reduce_op=how)
    assert isinstance(answer, Tensor)
    return answer
