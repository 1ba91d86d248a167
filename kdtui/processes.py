"""How every child process is started, so that it executes nothing from the working folder.

A user may be in a folder of files from anywhere. Python would import a ``random.py`` there before its own, the search
for programs may find a ``git`` there, and the dynamic linker may load a library from there.

This module is imported before the working folder is off this process's own path: it imports what Python has loaded
by then, and nothing else at its top.
"""

import os
import sys

_PATHS = ("PATH", "PYTHONPATH")
_LIBRARY_PATHS = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")
"""Lists of folders that programs, modules and libraries are loaded from; an empty part is the working folder."""

_FOLDERS = (
    # Python's own library, its startup file, the user's packages, compiled modules.
    *("PYTHONHOME", "PYTHONSTARTUP", "PYTHONUSERBASE", "PYTHONPYCACHEPREFIX"),
    # Compiled kernels and extensions, which are loaded as code.
    *("TORCH_EXTENSIONS_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "CUDA_HOME"),
    # Downloaded weights, and settings.
    *("TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"),
    *("MATPLOTLIBRC", "MPLCONFIGDIR"),
)
"""Single folders and files with the same effect; a relative one is not passed on."""


def python(*arguments: str) -> list[str]:
    """The argv of another process of this interpreter."""
    return [sys.executable, "-P", *arguments]


def environment(changes: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of a child process: this one's, without what points into the working folder.

    Args:
        changes: Variables to set, as they are.
    """
    variables = dict(os.environ)
    for name in (*_PATHS, *_LIBRARY_PATHS):
        if name in variables:
            folders = variables[name]
            if name in _LIBRARY_PATHS:
                folders = folders.replace(";", os.pathsep)  # the linker takes both
            variables[name] = os.pathsep.join(part for part in folders.split(os.pathsep) if part.startswith(("/", "$")))
            if not variables[name]:
                del variables[name]
    for name in _FOLDERS:
        if not variables.get(name, "/").startswith(("/", "~")):
            del variables[name]
    # A name without a slash is searched for as any library is; one with a slash is a file.
    libraries = variables.pop("LD_PRELOAD", "").replace(":", " ").split()
    kept = [library for library in libraries if "/" not in library or library.startswith("/")]
    if kept:
        variables["LD_PRELOAD"] = " ".join(kept)
    # A grandchild by `sys.executable` inherits the variable; an option reaches the child alone.
    variables["PYTHONSAFEPATH"] = "1"
    variables.pop("PYTHONINSPECT", None)  # a prompt at the end would replace the exit code
    return variables | (changes or {})


def program(name: str) -> str | None:
    """The path of an installed program; one in the working folder is passed over."""
    import shutil

    return shutil.which(name, path=environment().get("PATH", os.defpath))


def forget_working_folder(*, run_as_module: bool = False) -> None:
    """Take the working folder off this process's ``sys.path``, unless ``PYTHONPATH`` has it as an absolute path.

    Args:
        run_as_module: Whether ``python -m`` started this process, which puts the working folder first.
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
    except FileNotFoundError:  # removed: nothing can be imported from it
        return
    relative = {os.path.normpath(f"{here}/{part}") for part in parts if not part.startswith("/")} - absolute
    sys.path[:] = [entry for entry in sys.path if entry not in relative]
