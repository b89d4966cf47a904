"""Activation functions by name: hashable, so that equal ones are compiled once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from flowsim._arguments import one_of, real


@dataclass(frozen=True)
class Activation:
    """An activation function σ(u), applied entry by entry to JAX arrays.

    ============  =================================================================
    relu          max(u, 0)
    leaky_relu    u for u > 0, s u otherwise, s = `negative_slope` (0.01 by default)
    gelu          u Φ(u), Φ the normal distribution function, through erf
    gelu_tanh     its approximation u (1 + tanh(√(2/π) (u + 0.044715 u³)))/2
    softplus      ln(1 + e^{βu})/β, β = `beta` (1 by default)
    tanh          tanh(u)
    squared_relu  max(u, 0)²
    identity      u
    ============  =================================================================

    The derivative at a kink u = 0 is the one of the negative side, as in
    `TwoLayerReLU.gradient`. GELU: Hendrycks & Gimpel 2016, arXiv:1606.08415.

    Attributes
    ----------
    name : str
    parameter : float or None
        The negative slope of leaky_relu, β of softplus.
    """

    name: str
    parameter: float | None = None

    @classmethod
    def of(
        cls,
        activation: str | Activation,
        negative_slope: float | None = None,
        beta: float | None = None,
    ) -> Activation:
        """Return the activation of a name, or check one that is given.

        Raises
        ------
        TypeError
            If a parameter is no real number.
        ValueError
            If there is no such activation, it has no such parameter, the slope is not in [0, 1),
            or `beta` is not positive and finite.
        """
        given = {"negative_slope": negative_slope, "beta": beta}
        own = None
        if isinstance(activation, str):
            name = one_of("activation", activation, ACTIVATIONS)
            own = _PARAMETERS.get(name)
        elif not isinstance(activation, Activation):
            raise TypeError(
                "Argument `activation` must be the name of an activation, but is of type "
                f"{type(activation).__name__}."
            )
        for key, value in given.items():
            if value is not None and (own is None or key != own[0]):
                raise ValueError(
                    f"Argument `{key}` must be left out with the activation {activation}, but is "
                    f"{value!r}."
                )
        if isinstance(activation, Activation):
            return activation
        if own is None:
            return cls(activation)
        key, default = own
        value = given[key]
        return cls(activation, _CHECKS[key](default if value is None else value))

    @property
    def negative_slope(self) -> float | None:
        """The slope at u < 0 of relu and leaky_relu; None for the others."""
        return 0.0 if self.name == "relu" else self.parameter if self.name == "leaky_relu" else None

    @property
    def piecewise_linear(self) -> bool:
        """Whether it is relu or leaky_relu, whose flow has to be followed cell by cell."""
        return self.negative_slope is not None

    def __call__(self, u: Any) -> Any:
        """Return σ(u)."""
        return _FUNCTIONS[self.name](u, self.parameter)

    def __str__(self) -> str:
        if self.parameter is None:
            return self.name
        return f"{self.name}({_PARAMETERS[self.name][0]}={self.parameter:g})"


def _leaky(u: Any, slope: float | None) -> Any:
    import jax.numpy as jnp

    # not maximum(u, slope u), whose derivative at 0 JAX takes as the mean of both sides
    return jnp.where(u > 0, u, (slope or 0.0) * u)


def _squared_relu(u: Any, _: float | None) -> Any:
    return _leaky(u, 0.0) ** 2


def _gelu(u: Any, _: float | None) -> Any:
    import jax

    return jax.nn.gelu(u, approximate=False)


def _gelu_tanh(u: Any, _: float | None) -> Any:
    import jax

    return jax.nn.gelu(u, approximate=True)


def _softplus(u: Any, beta: float | None) -> Any:
    import jax

    sharpness = 1.0 if beta is None else beta
    return jax.nn.softplus(sharpness * u) / sharpness


def _tanh(u: Any, _: float | None) -> Any:
    import jax.numpy as jnp

    return jnp.tanh(u)


def _identity(u: Any, _: float | None) -> Any:
    return u


_FUNCTIONS: Mapping[str, Callable[[Any, float | None], Any]] = MappingProxyType(
    {
        "relu": _leaky,
        "leaky_relu": _leaky,
        "gelu": _gelu,
        "gelu_tanh": _gelu_tanh,
        "softplus": _softplus,
        "tanh": _tanh,
        "squared_relu": _squared_relu,
        "identity": _identity,
    }
)

ACTIVATIONS = tuple(_FUNCTIONS)
"""Names of the activations."""

_PARAMETERS = MappingProxyType({"leaky_relu": ("negative_slope", 0.01), "softplus": ("beta", 1.0)})


def _check_slope(value: float) -> float:
    slope = real("negative_slope", value)
    if not 0 <= slope < 1:
        raise ValueError(f"Argument `negative_slope` must be in [0, 1), but is {slope:g}.")
    return slope


#: A sharper softplus has derivatives that overflow.
_LARGEST_BETA = 1e100


def _check_beta(value: float) -> float:
    beta = real("beta", value)
    if not 0 < beta < math.inf:
        raise ValueError(f"Argument `beta` must be positive and finite, but is {beta:g}.")
    if not 1.0 / _LARGEST_BETA <= beta <= _LARGEST_BETA:
        raise ValueError(
            f"Argument `beta` must lie between {1.0 / _LARGEST_BETA:g} and {_LARGEST_BETA:g}, so "
            f"that derivatives do not overflow, but is {beta:g}."
        )
    return beta


_CHECKS = MappingProxyType({"negative_slope": _check_slope, "beta": _check_beta})
