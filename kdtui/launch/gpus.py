"""GPUs of this machine as the driver reports them, without torch."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from kdtui import processes

_DRIVER = Path("/proc/driver/nvidia/gpus")
_OTHER_DRIVERS = (Path("/dev/kfd"), Path("/dev/dxg"), Path("/dev/nvidiactl"))
"""Device files of AMD, of WSL, and of NVIDIA where /proc is hidden: there may be GPUs that cannot be counted here."""
_TIMEOUT = 20


def installed_gpus(driver: Path = _DRIVER, others: Sequence[Path] = _OTHER_DRIVERS) -> tuple[str, ...] | None:
    """UUIDs of the GPUs in the order of their indices, each followed by those of its MIG instances.

    Args:
        driver: Folder in which NVIDIA's driver lists them; read if ``nvidia-smi`` is not installed.
        others: Device files of drivers whose GPUs cannot be listed.

    Returns:
        None if a driver may be present whose GPUs cannot be listed.
    """
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
            env=processes.environment(),
        )
    except subprocess.TimeoutExpired:
        return None
    except OSError:  # not installed
        return _of_the_driver(driver, others)
    if listed.returncode != 0:
        return ()
    return tuple(re.findall(r"\(UUID: ([A-Za-z0-9/-]+)\)", listed.stdout.decode(errors="replace")))


def _of_the_driver(driver: Path, others: Sequence[Path]) -> tuple[str, ...] | None:
    """The same as :func:`installed_gpus` without ``nvidia-smi``, which some containers lack."""
    try:
        files = sorted(driver.glob("*/information"))
        found = [re.search(r"GPU UUID:\s*(GPU-[A-Za-z0-9-]+)", file.read_text(errors="replace")) for file in files]
    except OSError:
        return None
    if found and all(found):
        return tuple(match[1] for match in found if match is not None)
    return None if found or any(path.exists() for path in others) else ()


def numbers(installed: Sequence[str]) -> tuple[str, ...]:
    """The indices by which CUDA names the GPUs when all of them are visible."""
    return tuple(str(number) for number, _ in enumerate(uuid for uuid in installed if uuid.startswith("GPU-")))


def chosen_gpus(chosen: str, installed: Sequence[str] | None) -> tuple[str, ...]:
    """The entries of ``CUDA_VISIBLE_DEVICES`` that CUDA would make visible.

    As CUDA does, this stops at the first entry that is not a GPU of this machine, and returns none if an entry is
    repeated.

    Args:
        chosen: The variable's value.
        installed: See :func:`installed_gpus`; None accepts every entry.
    """
    usable: list[str] = []
    kind = chosen.strip()[:4]
    for name in (part.strip() for part in chosen.split(",")):
        known = _by_uuid(name, kind, installed) if kind in ("GPU-", "MIG-") else _by_number(name, installed)
        if known is None:
            break
        if known in usable:
            return ()
        usable.append(known)
    return tuple(usable)


def _by_number(name: str, installed: Sequence[str] | None) -> str | None:
    digits = re.match(r"\+?([0-9]{1,6})", name, re.ASCII)  # CUDA reads "1gpu2" as 1
    if digits is None:
        return None
    number = int(digits[1])
    return str(number) if installed is None or number < len(numbers(installed)) else None


def _by_uuid(name: str, kind: str, installed: Sequence[str] | None) -> str | None:
    """Match a UUID or its beginning; CUDA requires all entries of a list to be of the first one's kind."""
    if not name.startswith(kind) or len(name) == len(kind):
        return None
    if installed is None:
        return name
    if name.startswith("MIG-GPU-"):  # form of old drivers: MIG-GPU-<uuid>/<instance>/<instance>
        return name if name.removeprefix("MIG-").split("/")[0] in installed else None
    return name if sum(uuid.startswith(name) for uuid in installed) == 1 else None
