"""Losses as pure JAX functions of parameters: hashable, so that equal ones are compiled once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

#: A pytree of arrays.
Tree = Any


class Arguments(NamedTuple):
    """The numbers that a loss depends on beside the parameters.

    Attributes
    ----------
    X : (n, d) or None
    y : (n,) or (n, p) or None
    weight : scalar or None
        The loss is ``weight/2 Σ_k ‖r_k‖²``.
    constants : pytree
        The model's arrays that are not trained: those of integers and bools.
    """

    X: Any
    y: Any
    weight: Any
    constants: Tree


@dataclass(frozen=True)
class Static:
    """What is no array in a pytree: its structure, and leaves such as functions and names.

    Equal if structures and leaves are; functions are equal if they are the same object.
    """

    leaves: tuple[Any, ...]
    structure: Any

    @classmethod
    def of(cls, tree: Tree) -> Static:
        """Take the leaves and the structure of a pytree.

        Raises
        ------
        TypeError
            If a leaf or a static field cannot be hashed.
        """
        leaves, structure = jax.tree.flatten(tree)
        static = cls(tuple(leaves), structure)
        try:
            hash(static)
        except TypeError as error:
            raise TypeError(
                f"Argument `model` must have static parts that can be hashed, but {error}."
            ) from None
        return static

    def combine(self, *trees: Tree) -> Tree:
        """Return the whole pytree, given its arrays."""
        return eqx.combine(*trees, jax.tree.unflatten(self.structure, self.leaves))


@dataclass(frozen=True)
class Regression:
    """The squared loss ``L = weight/2 Σ_k ‖y_k − h(x_k)‖²`` of a model, one input at a time.

    With `frozen` it is ``−weight Σ_k y_k·h(x_k)``, whose gradient is that of L with the residual
    held at y.
    """

    static: Static
    frozen: bool = False

    def outputs(self, parameters: Tree, args: Arguments) -> jax.Array:
        """Return the outputs at args.X, of shape (n,) or (n, p) as the labels are."""
        _demand_x64()
        model = self.static.combine(parameters, args.constants)
        outputs = jax.vmap(model)(jnp.asarray(args.X))
        return outputs.reshape(args.X.shape[:1] + args.y.shape[1:])

    def loss(self, parameters: Tree, args: Arguments) -> jax.Array:
        """Return the loss."""
        outputs = self.outputs(parameters, args)
        if self.frozen:
            return -args.weight * jnp.sum(args.y * outputs)
        return args.weight / 2 * jnp.sum((args.y - outputs) ** 2)


@dataclass(frozen=True)
class Given:
    """A loss that is given as a function of the parameters."""

    static: Static
    function: Callable[[Tree], Any]

    def outputs(self, parameters: Tree, args: Arguments) -> jax.Array:
        """Raise TypeError: there is no model.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError("Argument `model` must be a model to have outputs, but is a loss function.")

    def loss(self, parameters: Tree, args: Arguments) -> jax.Array:
        """Return the loss."""
        _demand_x64()
        return jnp.asarray(self.function(self.static.combine(parameters, args.constants)))


Functional = Regression | Given


def _demand_x64() -> None:
    """Raise where JAX would silently compute in float32."""
    if jnp.result_type(float) != np.float64:
        raise RuntimeError("Losses are evaluated in float64: call them inside flowsim._jax.x64().")
