"""Two-layer networks with any of the activations, and scalar or vector outputs."""

from __future__ import annotations

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from flowsim.models.activations import Activation
from flowsim.models.base import Leaf, Model, floats
from flowsim.network import TwoLayerReLU

_SMALLEST = float(np.log(np.finfo(np.float64).tiny))
_LARGEST = float(np.log(np.finfo(np.float64).max))


class TwoLayer(Model):
    """Represent ``h(x) = Σ_j a_j σ(w_j·x)``, for a_j a number or a vector of p outputs.

    A bias is an input coordinate equal to 1 (`Dataset.univariate`), so w_j holds it and counts
    as any other weight. Neuron j, the numbers (a_j, w_j), is one unit. With relu, leaky_relu and
    identity the flow conserves ``‖a_j‖² − ‖w_j‖²``, with squared_relu ``2‖a_j‖² − ‖w_j‖²``.

    Parameters
    ----------
    a : array_like (m,) or (m, p)
        Output weights; outputs are numbers for (m,) and have shape (p,) for (m, p).
    W : array_like (m, d)
        Input weights, one neuron a row.
    activation : str
        The name of σ, see `Activation`.
    negative_slope : float, optional
        Of leaky_relu, in [0, 1); 0.01 by default.
    beta : float, optional
        The sharpness of softplus, ``ln(1 + e^{βu})/β``; 1 by default.

    Raises
    ------
    TypeError
        If `a` or `W` does not hold real numbers.
    ValueError
        If shapes do not match, an entry is not finite, or the activation is none.
    """

    a: Leaf
    W: Leaf
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        a: ArrayLike,
        W: ArrayLike,
        activation: str | Activation = "relu",
        *,
        negative_slope: float | None = None,
        beta: float | None = None,
    ) -> None:
        self.a, self.W = floats("a", a, 1, 2), floats("W", W, 2)
        if len(self.a) != len(self.W):
            raise ValueError(
                f"Argument `a` must have one entry for each of the {len(self.W)} rows of W, but "
                f"has {len(self.a)}."
            )
        self.activation = Activation.of(activation, negative_slope, beta)

    @classmethod
    def of(
        cls,
        net: TwoLayerReLU,
        activation: str | Activation | None = None,
        *,
        negative_slope: float | None = None,
        beta: float | None = None,
    ) -> TwoLayer:
        """Take the weights of a `TwoLayerReLU`, such as `flowsim.init` draws.

        Parameters
        ----------
        net : TwoLayerReLU
            The weights.
        activation : str, optional
            The name of σ; by default the network's own, relu or leaky_relu with its slope.
        negative_slope, beta : float, optional
            As for `TwoLayer`; the slope of leaky_relu is the network's by default, if it has one.

        Raises
        ------
        TypeError
            If `net` is none.
        ValueError
            If a neuron's norm is outside the range of float64, or as `TwoLayer` does.
        """
        if not isinstance(net, TwoLayerReLU):
            raise TypeError(
                f"Argument `net` must be a TwoLayerReLU, but is of type {type(net).__name__}."
            )
        sizes = net.log_norm[net.log_norm > -np.inf]
        outside = sizes[(sizes < _SMALLEST) | (sizes > _LARGEST)]
        if outside.size:
            raise ValueError(
                "Argument `net` must have neurons whose norms fit into float64, but one is "
                f"1e{outside[0] / np.log(10):.0f}."
            )
        if activation is None:
            activation = "leaky_relu" if net.negative_slope else "relu"
        if activation == "leaky_relu" and negative_slope is None and net.negative_slope:
            negative_slope = net.negative_slope
        return cls(net.a, net.W, activation, negative_slope=negative_slope, beta=beta)

    @property
    def m(self) -> int:
        """Number of neurons."""
        return self.W.shape[0]

    @property
    def d(self) -> int:
        """Dimension of the inputs, a bias coordinate included."""
        return self.W.shape[1]

    @property
    def p(self) -> int:
        """Number of outputs."""
        return self.a.shape[1] if self.a.ndim == 2 else 1

    def forward(self, x: Leaf) -> Leaf:
        """Return the outputs for inputs (d,) or (n, d) as a JAX array."""
        return self.activation(x @ self.W.T) @ self.a

    def units(self) -> TwoLayer:
        """Return this model with neurons' numbers as leaves: `a` (m,) or (m, 1), `W` (m, 1)."""
        neuron = np.arange(self.m)
        numbers = (neuron if self.a.ndim == 1 else neuron[:, None], neuron[:, None])
        return eqx.tree_at(lambda model: (model.a, model.W), self, numbers)

    def __repr__(self) -> str:
        if getattr(self.W, "ndim", 0) != 2 or getattr(self.a, "ndim", 0) not in (1, 2):
            return eqx.tree_pformat(self)
        outputs = f", p={self.p}" if self.a.ndim == 2 else ""
        return f"TwoLayer(m={self.m}, d={self.d}{outputs}, activation={self.activation})"
