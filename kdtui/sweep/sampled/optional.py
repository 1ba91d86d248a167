"""Whether Optuna, which only sampled sweeps need, is installed; without importing it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from kdtui.errors import LaunchError

PACKAGE, OLDEST = "optuna", 4


def check_installed() -> None:
    """Check that the package can be imported.

    Raises:
        LaunchError: It is missing or too old.
    """
    hint = "pip install 'kdtui[search]'"
    if find_spec(PACKAGE) is None:
        raise LaunchError(f"--sampler tpe needs {PACKAGE}, which is not installed", hint=hint)
    try:
        found = version(PACKAGE)
    except PackageNotFoundError:  # a copy without metadata
        return
    if int(found.partition(".")[0]) < OLDEST:
        raise LaunchError(f"this version of {PACKAGE} is too old", found=found, allowed=f">= {OLDEST}", hint=hint)
