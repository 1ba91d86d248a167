"""Real processes, one per rank, that talk by gloo, and the runs that two of them train."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdtui.store.run import Run
from tests.engine.preloaded import Process
from tests.engine.runs import make_run
from tests.waiting import finished

ROOT = Path(__file__).resolve().parents[2]
JOBS = {
    # The second of two processes of another job, in the variables of every system that Fabric or torch may know.
    **{"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "job", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"},
    **{"SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_NODELIST": "node[1-2]"},
    **{
        "LSB_JOBID": "7",
        "LSB_DJOB_RANKFILE": "/nowhere",
        "LSB_HOSTS": "node1 node2",
        "LSB_AFFINITY_HOSTFILE": "/nowhere",
    },
    **{"JSM_NAMESPACE_SIZE": "2", "JSM_NAMESPACE_RANK": "1", "JSM_NAMESPACE_LOCAL_RANK": "1"},
    **{"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "PMI_SIZE": "2", "PMI_RANK": "1"},
    **{"KUBERNETES_PORT": "tcp://127.0.0.1:443", "GROUP_RANK": "1", "NODE_RANK": "1"},
    **{"TORCHELASTIC_RUN_ID": "7", "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "1"},
    **{
        "LT_DEVICES": "4",
        "LT_STRATEGY": "ddp_spawn",
        "LT_NUM_NODES": "2",
        "LT_PRECISION": "16-mixed",
        "LT_CLI_USED": "1",
    },
}
"""Variables of batch systems and launchers, none of which is about a run of kdtui."""
TRAIN = str(Path(__file__).with_name("train_rank.py"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environments(world_size: int) -> list[dict[str, str]]:
    """The environment of each rank, as the supervisor sets it."""
    port = str(free_port())
    return [
        os.environ
        | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }
        for rank in range(world_size)
    ]


def start(world_size: int, *argv: str) -> list[Process]:
    """``python argv`` once per rank, the engine already imported."""
    return [Process(*argv, env=environment) for environment in environments(world_size)]


def start_fresh(world_size: int, *argv: str) -> list[subprocess.Popen[str]]:
    """``python argv`` once per rank, each a fresh interpreter, as the supervisor starts it."""
    return [
        subprocess.Popen(
            [sys.executable, *argv], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for environment in environments(world_size)
    ]


def all_end_well(processes: Sequence[Process | subprocess.Popen[str]]) -> list[str]:
    """Wait for every rank; what each wrote on stdout."""
    answers = []
    try:
        for process in processes:
            out, error = finished(process)
            assert process.returncode == 0, error[-3000:]
            answers.append(out)
    finally:
        for process in processes:
            process.kill()
    return answers


def ranks(world_size: int, *argv: str) -> list[str]:
    """Run ``python argv`` once per rank, the engine already imported; what each wrote on stdout."""
    return all_end_well(start(world_size, *argv))


def two_ranks(tmp_path: Path, teacher: Run, **changes: Any) -> Run:
    """A run of a student that two ranks train."""
    return make_run(
        tmp_path,
        training__devices=2,
        data__val_samples=11,  # uneven: one rank evaluates a sample more
        teacher__checkpoint=str(teacher.best),
        distillation__enabled=True,
        **changes,
    )
