"""Diagonal linear networks: the smallest models with saddle-to-saddle dynamics."""

from __future__ import annotations

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from flowsim.models.base import Leaf, Model, floats


class DiagonalLinear(Model):
    """Represent ``h(x) = (u ⊙ v)·x``, linear in x with the vector β = u ⊙ v.

    Coordinate i, the numbers (u_i, v_i), is one unit; the flow conserves ``u_i² − v_i²``. From
    ``u = √2 α, v = 0`` and small α it jumps from saddle to saddle, one coordinate after another,
    at times of the order ln(1/α) (Pesme & Flammarion 2023, arXiv:2304.00488).

    Parameters
    ----------
    u, v : array_like (d,)
        The two layers.

    Raises
    ------
    TypeError
        If `u` or `v` does not hold real numbers.
    ValueError
        If their shapes differ, or an entry is not finite.
    """

    u: Leaf
    v: Leaf

    def __init__(self, u: ArrayLike, v: ArrayLike) -> None:
        self.u, self.v = floats("u", u, 1), floats("v", v, 1)
        if len(self.u) != len(self.v):
            raise ValueError(
                f"Argument `v` must have one entry for each of the {len(self.u)} of u, but has "
                f"{len(self.v)}."
            )

    @property
    def d(self) -> int:
        """Dimension of the inputs."""
        return self.u.shape[0]

    @property
    def vector(self) -> Leaf:
        """The vector β = u ⊙ v, shape (d,)."""
        return self.u * self.v

    def forward(self, x: Leaf) -> Leaf:
        """Return the outputs for inputs (d,) or (n, d) as a JAX array."""
        return x @ self.vector

    def units(self) -> DiagonalLinear:
        """Return this model with coordinates' numbers as leaves, both of shape (d,)."""
        numbers = np.arange(self.d)
        return eqx.tree_at(lambda model: (model.u, model.v), self, (numbers, numbers))

    def __repr__(self) -> str:
        if getattr(self.u, "ndim", 0) != 1:
            return eqx.tree_pformat(self)
        return f"DiagonalLinear(d={self.d})"
