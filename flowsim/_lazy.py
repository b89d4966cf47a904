"""Packages whose public names are imported when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    """Keep functions from being hidden by the submodules that they live in.

    Importing ``flowsim.simulate`` makes Python assign the module to the package's attribute
    ``simulate``, where users expect the function.
    """

    _lazy_home: Mapping[str, str]

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in self._lazy_home and isinstance(value, ModuleType)):
            ModuleType.__setattr__(self, name, value)


def attach(
    package: str, home: Mapping[str, str], submodules: tuple[str, ...] = ()
) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of `package`: names of `home` come from the modules it names.

    Parameters
    ----------
    package : str
        The package's ``__name__``.
    home : mapping
        Public names, and the full names of the modules that define them.
    submodules : tuple of str
        Public submodules.
    """
    module = sys.modules[package]
    module.__dict__["_lazy_home"] = dict(home)
    module.__class__ = _Package

    def getattribute(name: str) -> Any:
        if name in home:
            value = getattr(import_module(home[name]), name)
        elif name in submodules:
            value = import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module.__dict__[name] = value
        return value

    return getattribute
