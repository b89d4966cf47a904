"""What is minimised: a model and data, or a loss function, as a loss of the parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np

from flowsim._arguments import one_of
from flowsim._jax import x64
from flowsim.data import Dataset
from flowsim.models.base import Model
from flowsim.models.functional import Arguments, Functional, Given, Regression, Static, Tree
from flowsim.network import LOSSES, loss_factor

RESIDUALS = ("full", "frozen")


@dataclass(frozen=True, eq=False, repr=False)
class Objective:
    """Hold a loss as a function of the parameters, with all that depends on the start only.

    ``L(θ) = (c/n) Σ_k ‖y_k − h_θ(x_k)‖²``, c = 1/2 or 1, or a given function L(θ). Built by
    `Objective.of`.

    Attributes
    ----------
    functional : hashable
        Has the pure JAX functions ``loss(parameters, args)`` and ``outputs(parameters, args)``;
        equal for models that differ in numbers only, so that they share what is compiled.
    parameters : pytree
        What is trained: the float64 NumPy arrays of the model at the start, read-only.
    args : Arguments
        X, y and weight, all None for a loss function; and constants, the arrays that are not
        trained.
    units : pytree
        Like `parameters`, of integer arrays that broadcast against its leaves: the unit (a
        neuron, a coordinate) of each entry, numbered from 0. An error counts relative to its
        unit's norm.
    n_units : int
    initial_scale : float
        Root mean square of the parameters at the start, 1 if all are zero: what units that are
        zero are compared with.
    data : Dataset or None
        None for a loss function.
    """

    functional: Functional
    parameters: Tree
    args: Arguments
    units: Tree
    n_units: int
    initial_scale: float
    data: Dataset | None

    @classmethod
    def of(
        cls,
        model: Any,
        data: Dataset | None = None,
        loss: str = "half_mean",
        residual: str = "full",
    ) -> Objective:
        """Take apart a model, and check that it fits the data.

        Floating-point arrays of the model are its parameters, converted to float64; arrays of
        integers and bools are constants; what is no array is static, functions by identity.
        Units are the built-in models' own. In other pytrees each row (index of the first axis)
        of an array with two axes or more is a unit, and each array of fewer axes is one.

        Parameters
        ----------
        model : flowsim model, equinox.Module or (function, pytree)
            A model maps an input (d,) to a number, or to one of shape (1,) or (p,). Instead, a
            pair of a function L(θ), written with JAX, and the parameters θ at the start, a pytree
            of arrays; floats in it are parameters too, but not those inside equinox modules.
        data : Dataset, optional
            None for a loss function.
        loss : {"half_mean", "mean"}
            c = 1/2 or 1.
        residual : {"full", "frozen"}
            "frozen" keeps r = y, as in early alignment: the loss becomes ``−(2c/n) Σ_k y_k·h_k``.

        Raises
        ------
        TypeError
            If `model` or `data` is of no such type, parameters are complex, a static part cannot
            be hashed, or the residual of a loss function is to be frozen.
        ValueError
            If there are no parameters, one is not finite, the model does not take inputs (d,) or
            does not return what the labels are, or does not compute in float64; or a loss
            function returns no real number.
        """
        one_of("residual", residual, RESIDUALS)
        one_of("loss", loss, LOSSES)
        if _is_pair(model):
            _check_loss_function(data, loss, residual)
            function, tree = model
            tree = jax.tree.map(_as_array, tree, is_leaf=_is_module)
        elif isinstance(model, eqx.Module) and callable(model):
            function, tree = None, model
            _check_data(model, data)
        else:
            raise TypeError(
                "Argument `model` must be a model of flowsim, a callable equinox module or a pair "
                f"(loss function, parameters), but is of type {type(model).__name__}."
            )
        parameters, constants, static = _partition(tree)
        args = _arguments(data, loss, constants)
        if function is None:
            functional = Regression(static, residual == "frozen")
        else:
            functional = Given(static, function)
        _check_result(functional, parameters, args)
        units, n_units = _units(model, parameters)
        scale = _rms(jax.tree.leaves(parameters))
        return cls(functional, parameters, args, units, n_units, scale, data)

    @property
    def static(self) -> Static:
        """What is no array in the model; hashable."""
        return self.functional.static

    def outputs(self, parameters: Tree, args: Arguments) -> Any:
        """Return the outputs at args.X, (n,) or (n, p); TypeError for a loss function.

        Like `loss` to be called inside ``flowsim._jax.x64()``.
        """
        return self.functional.outputs(parameters, args)

    def loss(self, parameters: Tree, args: Arguments) -> Any:
        """Return the loss.

        Raises
        ------
        RuntimeError
            Outside ``flowsim._jax.x64()``, where JAX would compute in float32.
        """
        return self.functional.loss(parameters, args)

    def model(self, parameters: Tree) -> Any:
        """Return the model (or the pytree of a loss function) with these parameters, as NumPy."""
        arrays = jax.tree.map(np.asarray, parameters)
        return self.static.combine(arrays, self.args.constants)

    def __repr__(self) -> str:
        count = sum(leaf.size for leaf in jax.tree.leaves(self.parameters))
        of = "a loss function" if self.data is None else repr(self.data)
        return f"Objective({count} parameters, {self.n_units} units, {of})"


def with_parameters(model: Any, leaves: list[np.ndarray]) -> Any:
    """Return a model, or a pair of a loss function and its parameters, with other parameters.

    Parameters
    ----------
    model : Any
        As `Objective.of` takes it.
    leaves : list of arrays
        In the order of its parameters.

    Raises
    ------
    ValueError
        If their number or shapes are not those of the model's.
    """
    tree = jax.tree.map(_as_array, model[1]) if _is_pair(model) else model
    parameters, constants, static = _partition(tree)
    old, structure = jax.tree.flatten(parameters)
    if [np.shape(leaf) for leaf in old] != [np.shape(leaf) for leaf in leaves]:
        raise ValueError(
            "Argument `model` must have parameters of the shapes "
            f"{[np.shape(leaf) for leaf in leaves]}, but has {[np.shape(leaf) for leaf in old]}."
        )
    new = static.combine(jax.tree.unflatten(structure, leaves), constants)
    return (model[0], new) if _is_pair(model) else new


def _is_pair(model: Any) -> bool:
    return isinstance(model, tuple) and len(model) == 2 and callable(model[0])


def _is_module(node: Any) -> bool:
    return isinstance(node, eqx.Module)


def _as_array(leaf: Any) -> Any:
    """Return a float as an array: of a loss function's parameters it is trained."""
    return np.asarray(leaf) if isinstance(leaf, float) else leaf


def _check_loss_function(data: Any, loss: str, residual: str) -> None:
    if data is not None:
        raise TypeError(
            "Argument `data` must be None for a loss function, but is of type "
            f"{type(data).__name__}."
        )
    if loss != "half_mean":
        raise ValueError(f"Argument `loss` must be left out for a loss function, but is {loss!r}.")
    if residual == "frozen":
        raise TypeError(
            "Argument `residual` must be 'full' for a loss function, which has no residual, but is "
            "'frozen'."
        )


def _check_data(model: Any, data: Any) -> None:
    if not isinstance(data, Dataset):
        raise TypeError(f"Argument `data` must be a Dataset, but is of type {type(data).__name__}.")
    if isinstance(model, Model) and model.d != data.d:
        raise ValueError(
            f"Argument `model` must have the data's input dimension {data.d}, but has {model.d}."
        )


def _partition(tree: Tree) -> tuple[Tree, Tree, Static]:
    """Split a pytree into parameters, constant arrays and the static rest."""
    parameters, others = eqx.partition(tree, eqx.is_inexact_array)
    constants, static = eqx.partition(others, _is_array)
    parameters = jax.tree.map(_parameter, parameters)
    if not jax.tree.leaves(parameters):
        raise ValueError(
            "Argument `model` must have floating-point arrays as parameters, but has none."
        )
    return parameters, constants, Static.of(static)


def _is_array(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, np.ndarray | np.generic)


def _parameter(leaf: Any) -> np.ndarray:
    """Return a read-only float64 copy; smaller floats are converted exactly."""
    if np.issubdtype(leaf.dtype, np.complexfloating):
        raise TypeError("Argument `model` must have real parameters, but some are complex.")
    array = np.array(leaf, dtype=np.float64)
    if array.size == 0:
        raise ValueError("Argument `model` must have parameters that are not empty, but one is.")
    if not np.all(np.isfinite(array)):
        raise ValueError("Argument `model` must have finite parameters, but some are not.")
    array.setflags(write=False)
    return array


def _arguments(data: Dataset | None, loss: str, constants: Tree) -> Arguments:
    if data is None:
        return Arguments(None, None, None, constants)
    weight = np.asarray(2 * loss_factor(loss) / data.n)
    return Arguments(data.X, data.y, weight, constants)


def _check_result(functional: Functional, parameters: Tree, args: Arguments) -> None:
    """Check, without computing, what the model or the loss function returns."""
    with x64():
        if isinstance(functional, Regression):
            model = functional.static.combine(parameters, args.constants)
            _check_outputs(model, args)
            return
        value = _shape_of(functional.loss, parameters, args)
    if not isinstance(value, jax.ShapeDtypeStruct) or value.shape or value.dtype != np.float64:
        raise ValueError(
            "Argument `model` must have a loss function that returns a float64 number, but it "
            f"returns {_describe(value)}."
        )


def _check_outputs(model: Any, args: Arguments) -> None:
    value = _shape_of(model, jax.ShapeDtypeStruct(args.X.shape[1:], np.float64))
    wanted = args.y.shape[1:]
    allowed = ((), (1,)) if wanted in ((), (1,)) else (wanted,)
    if not isinstance(value, jax.ShapeDtypeStruct) or value.shape not in allowed:
        what = "a number" if len(allowed) == 2 else f"an array of shape {wanted}"
        raise ValueError(
            f"Argument `model` must return {what} for each input, as the labels are, but returns "
            f"{_describe(value)}."
        )
    if value.dtype != np.float64:
        raise ValueError(
            f"Argument `model` must compute in float64, but returns {_describe(value)}."
        )


def _shape_of(function: Any, *arguments: Any) -> Any:
    """Return the shapes that a function of the user's returns."""
    try:
        return eqx.filter_eval_shape(function, *arguments)
    except (TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"Argument `model` must be written with JAX and take what it is given, but fails: "
            f"{reason.rstrip('.')}."
        ) from error


def _describe(value: Any) -> str:
    if isinstance(value, jax.ShapeDtypeStruct):
        return f"{value.dtype} of shape {value.shape}"
    return f"a {type(value).__name__}"


def _units(model: Any, parameters: Tree) -> tuple[Tree, int]:
    """Number the units: a built-in model's own, otherwise rows and vectors."""
    if isinstance(model, Model):
        units = model.units()
        return units, 1 + max(int(leaf.max()) for leaf in jax.tree.leaves(units))
    leaves, structure = jax.tree.flatten(parameters)
    numbers, start = [], 0
    for leaf in leaves:
        count = leaf.shape[0] if leaf.ndim > 1 else 1
        shape = (count,) + (1,) * (leaf.ndim - 1) if leaf.ndim else ()
        numbers.append(np.arange(start, start + count).reshape(shape))
        start += count
    return jax.tree.unflatten(structure, numbers), start


def _rms(leaves: list[np.ndarray]) -> float:
    """Return the root mean square, without squares that leave the range of float64."""
    entries = np.concatenate([leaf.ravel() for leaf in leaves])
    largest = float(np.max(np.abs(entries), initial=0.0))
    if largest == 0.0:
        return 1.0
    return largest * float(np.sqrt(np.mean((entries / largest) ** 2)))
