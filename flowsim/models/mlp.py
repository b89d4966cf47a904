"""Multi-layer perceptrons, with or without bias vectors."""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from flowsim._arguments import flag
from flowsim.models.activations import Activation
from flowsim.models.base import Leaf, Model, chain, draw, floats, rows, squeeze, widths_of


class MLP(Model):
    """Represent ``h(x) = W_L z_{L−1} + b_L``, ``z_l = σ(W_l z_{l−1} + b_l)``, ``z_0 = x``.

    The biases are explicit vectors, and trained; inputs then need no coordinate equal to 1. Row
    i of W_l and entry i of b_l belong to one neuron and are one unit, so that a bias counts
    relative to its neuron. With relu, leaky_relu and identity the flow conserves, for each
    neuron i of each layer l < L, ``‖W_l[i]‖² + b_l[i]² − ‖W_{l+1}[:, i]‖²``: the bias counts as
    one more incoming weight, and b_L in no neuron's balance.

    Parameters
    ----------
    weights : list of array_like (rows, columns)
        W_1, ..., W_L. If W_L has one row the outputs are numbers, otherwise of shape (rows,).
    biases : list of array_like (rows,) or None, optional
        b_1, ..., b_L; None, for one layer or for all, means no bias.
    activation : str
        The name of σ, see `Activation`.
    negative_slope, beta : float, optional
        As for `TwoLayer`.

    Raises
    ------
    TypeError
        If an array does not hold real numbers.
    ValueError
        If shapes do not match, an entry is not finite, or the activation is none.
    """

    weights: tuple[Leaf, ...]
    biases: tuple[Leaf | None, ...]
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        weights: Sequence[ArrayLike],
        biases: Sequence[ArrayLike | None] | None = None,
        activation: str | Activation = "relu",
        *,
        negative_slope: float | None = None,
        beta: float | None = None,
    ) -> None:
        self.weights = chain("weights", weights)
        self.biases = _biases(biases, [len(W) for W in self.weights])
        self.activation = Activation.of(activation, negative_slope, beta)

    @classmethod
    def init(
        cls,
        widths: Sequence[int],
        scale: float,
        seed: int,
        *,
        bias: bool = False,
        activation: str | Activation = "relu",
        negative_slope: float | None = None,
        beta: float | None = None,
    ) -> MLP:
        """Draw weights ``W_l ~ N(0, λ²/columns)``; biases, if any, start at 0.

        Draw order of ``numpy.random.default_rng(seed)``: ``standard_normal((rows, columns))``
        for W_1, then W_2, ..., W_L.

        Parameters
        ----------
        widths : list of int
            Dimension of the inputs, numbers of neurons, number of outputs.
        scale : float
            The scale λ > 0.
        seed : int
            Seed.
        bias : bool
            Whether each layer has a bias vector.
        activation, negative_slope, beta
            As for `MLP`.

        Raises
        ------
        TypeError
            If a width or the seed is no integer, or the scale no real number.
        ValueError
            If there are fewer than two widths, one is below 1, or the scale is not positive.
        """
        weights = draw(widths, scale, seed)
        biases = [np.zeros(len(W)) for W in weights] if flag("bias", bias) else None
        return cls(weights, biases, activation, negative_slope=negative_slope, beta=beta)

    @property
    def d(self) -> int:
        """Dimension of the inputs."""
        return self.weights[0].shape[1]

    @property
    def p(self) -> int:
        """Number of outputs."""
        return self.weights[-1].shape[0]

    def forward(self, x: Leaf) -> Leaf:
        """Return the outputs for inputs (d,) or (n, d) as a JAX array."""
        layers = list(zip(self.weights, self.biases, strict=True))
        for W, b in layers[:-1]:
            x = self.activation(_affine(W, b, x))
        return squeeze(_affine(*layers[-1], x))

    def units(self) -> MLP:
        """Return this model with neurons' numbers as leaves, outputs last."""
        numbers = rows(self.weights)
        pairs = zip(numbers, self.biases, strict=True)
        biases = tuple(None if b is None else number[:, 0] for number, b in pairs)
        return eqx.tree_at(
            lambda model: (model.weights, model.biases),
            self,
            (numbers, biases),
            is_leaf=lambda leaf: leaf is None,
        )

    def __repr__(self) -> str:
        widths = widths_of(self.weights)
        if widths is None:
            return eqx.tree_pformat(self)
        biases = "" if all(b is None for b in self.biases) else ", with biases"
        return f"MLP({widths}{biases}, activation={self.activation})"


def _affine(W: Leaf, b: Leaf | None, x: Leaf) -> Leaf:
    return x @ W.T if b is None else x @ W.T + b


def _biases(
    biases: Sequence[ArrayLike | None] | None, sizes: list[int]
) -> tuple[np.ndarray | None, ...]:
    if biases is None:
        return (None,) * len(sizes)
    if len(biases) != len(sizes):
        raise ValueError(
            f"Argument `biases` must have one entry for each of the {len(sizes)} layers, but has "
            f"{len(biases)}."
        )
    checked = []
    for i, (b, size) in enumerate(zip(biases, sizes, strict=True)):
        checked.append(None if b is None else floats(f"biases[{i}]", b, 1))
        if b is not None and len(checked[-1]) != size:
            raise ValueError(
                f"Argument `biases[{i}]` must have one entry for each of the {size} rows of "
                f"weights[{i}], but has {len(checked[-1])}."
            )
    return tuple(checked)
