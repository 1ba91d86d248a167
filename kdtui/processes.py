"""Start child processes such that they execute nothing from the working folder.

The working folder may contain files from untrusted sources. Python would import a ``random.py`` from it before its own,
the search for programs may find a ``git`` in it, and the dynamic linker may load a library from it.

This module is imported before the working folder is removed from ``sys.path``: at the top level it only imports modules
that Python has already loaded.
"""

import os
import sys

_PATHS = ("PATH", "PYTHONPATH")
_LIBRARY_PATHS = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")
"""Variables with search paths of programs, modules and libraries; an empty part means the working folder."""

_FOLDERS = (
    # Python's own library, its startup file, the user's packages, compiled modules.
    *("PYTHONHOME", "PYTHONSTARTUP", "PYTHONUSERBASE", "PYTHONPYCACHEPREFIX"),
    # Compiled kernels and extensions, which are loaded as code.
    *("TORCH_EXTENSIONS_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "CUDA_HOME"),
    # Downloaded weights, and settings.
    *("TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"),
    *("MATPLOTLIBRC", "MPLCONFIGDIR"),
)
"""Variables with a single folder or file with the same effect; relative ones are not passed on."""


def python(*arguments: str) -> list[str]:
    """The argv of a child process with this Python interpreter."""
    return [sys.executable, "-P", *arguments]


def environment(changes: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of a child process: that of this process without paths into the working folder.

    Args:
        changes: Variables to set in addition, unchecked.
    """
    variables = dict(os.environ)
    for name in (*_PATHS, *_LIBRARY_PATHS):
        if name in variables:
            folders = variables[name]
            if name in _LIBRARY_PATHS:
                folders = folders.replace(";", os.pathsep)  # the linker accepts both separators
            variables[name] = os.pathsep.join(part for part in folders.split(os.pathsep) if part.startswith(("/", "$")))
            if not variables[name]:
                del variables[name]
    for name in _FOLDERS:
        if not variables.get(name, "/").startswith(("/", "~")):
            del variables[name]
    # A name without a slash is searched like any library; one with a slash is a path.
    libraries = variables.pop("LD_PRELOAD", "").replace(":", " ").split()
    kept = [library for library in libraries if "/" not in library or library.startswith("/")]
    if kept:
        variables["LD_PRELOAD"] = " ".join(kept)
    # Unlike the option -P, the variable is also inherited by grandchildren.
    variables["PYTHONSAFEPATH"] = "1"
    variables.pop("PYTHONINSPECT", None)  # the prompt at exit would change the exit code
    return variables | (changes or {})


def cores() -> int:
    """Number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def program(name: str) -> str | None:
    """The path of an installed program, ignoring the working folder; None if there is none."""
    import shutil

    return shutil.which(name, path=environment().get("PATH", os.defpath))


def forget_working_folder(*, run_as_module: bool = False) -> None:
    """Remove the working folder from ``sys.path``, unless ``PYTHONPATH`` contains it as an absolute path.

    Args:
        run_as_module: Whether this process was started by ``python -m``, which inserts the working folder first.
    """
    if run_as_module and not sys.flags.safe_path:
        del sys.path[0]
    listed = os.environ.get("PYTHONPATH", "")
    if not listed or sys.flags.ignore_environment:
        return
    parts = listed.split(os.pathsep)
    absolute = {os.path.normpath(part) for part in parts if part.startswith("/")}
    try:
        here = os.getcwd()  # noqa: PTH109 - pathlib would be imported from the working folder
    except FileNotFoundError:  # it was removed, so nothing can be imported from it
        return
    relative = {os.path.normpath(f"{here}/{part}") for part in parts if not part.startswith("/")} - absolute
    sys.path[:] = [entry for entry in sys.path if entry not in relative]
