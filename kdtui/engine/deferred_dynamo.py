"""Import ``torch._dynamo``, torch's compiler, when it is first needed, rather than in every process.

Importing it takes longer than all else that a training needs besides torch, and training, evaluation and inference
compile nothing. Several libraries import it nevertheless, for names that do nothing until something is compiled:
torchvision (``is_compile_supported``), Fabric (``OptimizedModule``), and torch's optimizers (``disable``,
``graph_break``). A stand-in in ``sys.modules`` has these names. Any other name, and any submodule, imports the package
itself, which takes the place of the stand-in: exports, DDP and ``torch.compile`` work as without it.
"""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch

_PACKAGE = "torch._dynamo"
_UTILS = "torch._dynamo.utils"
_replacing = threading.Lock()


def defer_dynamo() -> None:
    """Put the stand-in in place; without effect if the package, or a part of it, is imported already."""
    if any(f"{name}.".startswith(f"{_PACKAGE}.") for name in sys.modules):
        return
    package = _StandIn(
        _PACKAGE, {"disable": _disable, "graph_break": _graph_break, "OptimizedModule": _OptimizedModule}
    )
    package.__path__ = []  # it is a package; the finder finds its submodules
    sys.modules[_PACKAGE] = torch._dynamo = package
    sys.modules[_UTILS] = _StandIn(_UTILS, {"is_compile_supported": _is_compile_supported})
    sys.meta_path.insert(0, _Finder())


def _imported(name: str) -> ModuleType:
    """A module of the package, imported after removing the stand-in."""
    with _replacing:
        if isinstance(sys.modules.get(_PACKAGE), _StandIn):
            sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
            del sys.modules[_PACKAGE], sys.modules[_UTILS], torch._dynamo
    return importlib.import_module(name)


class _StandIn(ModuleType):
    """A module with a few names; others are those of the module whose place it takes.

    Args:
        name: Full name of that module.
        own: The names that do not need it.
    """

    def __init__(self, name: str, own: dict[str, Any]) -> None:
        super().__init__(name)
        self._own = own

    def __getattr__(self, name: str) -> Any:
        # Special names are read from every module by `inspect` and `warnings`.
        if name.startswith("__"):
            raise AttributeError(name)
        if name in self._own and sys.modules.get(self.__name__) is self:
            return self._own[name]
        return getattr(_imported(self.__name__), name)


class _Finder(MetaPathFinder):
    """Finds a submodule by importing the package first, which imports most of them."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """See the class."""
        return ModuleSpec(fullname, _Existing(_imported(fullname))) if fullname.startswith(f"{_PACKAGE}.") else None


class _Existing(Loader):
    """A loader for a module that is imported already."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module, whose spec the caller overwrites."""
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the spec; the module was executed by its own loader."""
        module.__spec__ = self._spec


def _compiler() -> ModuleType | None:
    """The package if it has been imported, so that something may have been compiled."""
    package = sys.modules.get(_PACKAGE)
    if package is None or isinstance(package, _StandIn) or getattr(package.__spec__, "_initializing", False):
        return None
    return package


def _disable(function: Callable[..., Any], recursive: bool = True, **options: Any) -> Callable[..., Any]:
    """``torch._dynamo.disable`` of a function: the function itself until the compiler is imported."""

    @functools.cache
    def disabled(compiler: ModuleType) -> Any:
        return compiler.disable(function, recursive, **options)

    def call(*arguments: Any, **keywords: Any) -> Any:
        compiler = _compiler()
        return (function if compiler is None else disabled(compiler))(*arguments, **keywords)

    return call


def _graph_break(*arguments: Any, **keywords: Any) -> None:
    """``torch._dynamo.graph_break`` outside of compiled code."""


class _IsOptimized(type):
    def __instancecheck__(cls, instance: object) -> bool:
        compiler = _compiler()
        return compiler is not None and isinstance(instance, compiler.OptimizedModule)


class _OptimizedModule(metaclass=_IsOptimized):
    """For ``isinstance``: no module is compiled before the compiler is imported."""


def _is_compile_supported(device_type: Any) -> Any:
    return _imported(_UTILS).is_compile_supported(device_type)
