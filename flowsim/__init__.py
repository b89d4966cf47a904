"""Exact-to-tolerance gradient flow of two-layer ReLU networks.

Public names are imported when they are first used, so that ``import flowsim`` is quick.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from flowsim._version import __version__

if TYPE_CHECKING:
    from flowsim import datasets, engines, init, plot
    from flowsim.data import Dataset
    from flowsim.files import load
    from flowsim.network import TwoLayerReLU
    from flowsim.simulate import simulate
    from flowsim.solution import RunError, Solution

__all__ = [
    "Dataset",
    "RunError",
    "Solution",
    "TwoLayerReLU",
    "__version__",
    "datasets",
    "engines",
    "init",
    "load",
    "plot",
    "simulate",
]

_HOME = {
    "Dataset": "flowsim.data",
    "RunError": "flowsim.solution",
    "Solution": "flowsim.solution",
    "TwoLayerReLU": "flowsim.network",
    "load": "flowsim.files",
    "simulate": "flowsim.simulate",
}
_SUBMODULES = ("datasets", "engines", "init", "plot")


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    elif name in _SUBMODULES:
        value = import_module(f"flowsim.{name}")
    else:
        raise AttributeError(f"module 'flowsim' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """Keep functions from being hidden by the submodules that they live in.

    Importing ``flowsim.simulate`` makes Python assign the module to the package's attribute
    ``simulate``, where users expect the function.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            ModuleType.__setattr__(self, name, value)


sys.modules[__name__].__class__ = _Package
