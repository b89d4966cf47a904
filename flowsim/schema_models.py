"""Models in saved runs: their parameters by name, and what else is needed to build them again.

The models of `flowsim.models` are built again from their file. Of any other (an equinox module,
a loss function) a file has the parameters, but not the code: whoever loads it gives the model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowsim.schema_types import Group, Variable

#: Constructor arguments of the built-in models that hold parameters, one array or a list.
_PARAMETERS = {
    "TwoLayer": ("a", "W"),
    "MLP": ("weights", "biases"),
    "DiagonalLinear": ("u", "v"),
    "DeepLinear": ("factors",),
}


@dataclass(frozen=True, eq=False, repr=False)
class SavedModel:
    """Stand for a model whose code a file does not hold: its parameters, by their names."""

    parameters: dict[str, np.ndarray]
    kind: str = "custom"

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {value.shape}" for name, value in self.parameters.items())
        return f"SavedModel({shapes}; give its code by flowsim.load(path, model=...))"


def kind_of(model: Any) -> str:
    """Return the name of a built-in model, else "loss function" or "custom"."""
    from flowsim import models

    if isinstance(model, SavedModel):
        return model.kind
    name = type(model).__name__
    if name in _PARAMETERS and type(model) is getattr(models, name):
        return name
    return "loss function" if isinstance(model, tuple) else "custom"


def model_group(model: Any, parameters: Any) -> Group:
    """Return the group of a model with the (pytree of) parameters that a run is about."""
    kind = kind_of(model)
    attrs: dict[str, Any] = {"kind": kind}
    if kind in _PARAMETERS:
        arrays = _named(parameters, _PARAMETERS[kind])
        activation = getattr(model, "activation", None)
        if activation is not None:
            attrs["activation"] = json.dumps([activation.name, activation.parameter])
    elif isinstance(model, SavedModel):
        arrays = parameters
    else:
        arrays = _by_path(parameters)
    return Group({name: _variable(name, array) for name, array in arrays.items()}, attrs)


def model_of(group: Group) -> Any:
    """Return the built-in model of a group; a `SavedModel` of any other."""
    from flowsim import models

    kind = str(group.attrs["kind"])
    arrays = {name: variable.values for name, variable in group.variables.items()}
    if kind not in _PARAMETERS:
        return SavedModel(arrays, kind)
    given: dict[str, Any] = {}
    for name in _PARAMETERS[kind]:
        given[name] = arrays.get(name, _several(arrays, name))
    if "activation" in group.attrs:
        name, parameter = json.loads(str(group.attrs["activation"]))
        given["activation"] = models.Activation(name, parameter)
    return getattr(models, kind)(**given)


def _several(arrays: dict[str, np.ndarray], name: str) -> list[np.ndarray | None] | None:
    """Return a list of arrays with gaps, as long as the longest list of the model is."""
    layers = max((int(key.split("_")[1]) + 1 for key in arrays if "_" in key), default=0)
    found = [arrays.get(f"{name}_{i}") for i in range(layers)]
    return None if all(array is None for array in found) else found


def _named(model: Any, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for name in names:
        value = getattr(model, name)
        if isinstance(value, tuple | list):
            listed = {f"{name}_{i}": item for i, item in enumerate(value)}
            arrays |= {key: np.asarray(item) for key, item in listed.items() if item is not None}
        elif value is not None:
            arrays[name] = np.asarray(value)
    return arrays


def _by_path(parameters: Any) -> dict[str, np.ndarray]:
    """Return the leaves of a pytree under the names of their places in it."""
    import jax

    leaves = jax.tree_util.tree_leaves_with_path(parameters)
    found: dict[str, np.ndarray] = {}
    for path, leaf in leaves:
        text = jax.tree_util.keystr(path)
        name = "".join(c if c.isalnum() else "_" for c in text).strip("_") or "parameters"
        while name in found:
            name += "_"
        if _is_parameter(leaf):
            found[name] = np.asarray(leaf)
    return found


def _is_parameter(leaf: Any) -> bool:
    """Whether a leaf is trained, as `flowsim.models.Objective` has it: floating-point numbers."""
    return np.issubdtype(getattr(leaf, "dtype", type(leaf)), np.floating)


def _variable(name: str, array: np.ndarray) -> Variable:
    dims = tuple(f"{name}_axis_{i}" for i in range(array.ndim))
    return Variable(array, dims, {"long_name": f"parameters {name}", "units": "1"})
