"""Deep linear networks: products of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import equinox as eqx
from numpy.typing import ArrayLike

from flowsim.models.base import Leaf, Model, chain, draw, rows, squeeze, widths_of


class DeepLinear(Model):
    """Represent ``h(x) = W_L ⋯ W_1 x``.

    Rows of the factors are units. The flow conserves ``W_l W_lᵀ − W_{l+1}ᵀ W_{l+1}`` (Arora,
    Cohen & Hazan 2018, arXiv:1802.06509). There are no biases: append an input coordinate equal
    to 1.

    Parameters
    ----------
    factors : list of array_like (rows, columns)
        W_1, ..., W_L, the first one applied first. If W_L has one row the outputs are numbers,
        otherwise of shape (rows,).

    Raises
    ------
    TypeError
        If a factor does not hold real numbers.
    ValueError
        If shapes do not match, or an entry is not finite.
    """

    factors: tuple[Leaf, ...]

    def __init__(self, factors: Sequence[ArrayLike]) -> None:
        self.factors = chain("factors", factors)

    @classmethod
    def init(cls, widths: Sequence[int], scale: float, seed: int) -> DeepLinear:
        """Draw factors ``W_l ~ N(0, λ²/columns)``.

        Draw order of ``numpy.random.default_rng(seed)``: ``standard_normal((rows, columns))``
        for W_1, then W_2, ..., W_L.

        Parameters
        ----------
        widths : list of int
            Dimension of the inputs, the inner dimensions, number of outputs.
        scale : float
            The scale λ > 0.
        seed : int
            Seed.

        Raises
        ------
        TypeError
            If a width or the seed is no integer, or the scale no real number.
        ValueError
            If there are fewer than two widths, one is below 1, or the scale is not positive.
        """
        return cls(draw(widths, scale, seed))

    @property
    def d(self) -> int:
        """Dimension of the inputs."""
        return self.factors[0].shape[1]

    @property
    def p(self) -> int:
        """Number of outputs."""
        return self.factors[-1].shape[0]

    @property
    def matrix(self) -> Leaf:
        """The product W_L ⋯ W_1, shape (p, d)."""
        return reduce(lambda product, factor: factor @ product, self.factors)

    def forward(self, x: Leaf) -> Leaf:
        """Return the outputs for inputs (d,) or (n, d) as a JAX array."""
        for factor in self.factors:
            x = x @ factor.T
        return squeeze(x)

    def units(self) -> DeepLinear:
        """Return this model with numbers of rows as leaves, each of shape (rows, 1)."""
        return eqx.tree_at(lambda model: model.factors, self, rows(self.factors))

    def __repr__(self) -> str:
        widths = widths_of(self.factors)
        return eqx.tree_pformat(self) if widths is None else f"DeepLinear({widths})"
