"""Models for the general engines: two-layer networks, perceptrons, diagonal and deep linear ones.

They are equinox modules with NumPy float64 leaves. Any other equinox module can be trained as
well, see `Objective`. JAX is imported when a name is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowsim._lazy import attach

if TYPE_CHECKING:
    from flowsim.models.activations import ACTIVATIONS, Activation
    from flowsim.models.deep_linear import DeepLinear
    from flowsim.models.diagonal import DiagonalLinear
    from flowsim.models.mlp import MLP
    from flowsim.models.objective import Objective
    from flowsim.models.two_layer import TwoLayer

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "Activation",
    "DeepLinear",
    "DiagonalLinear",
    "Objective",
    "TwoLayer",
]

__getattr__ = attach(
    __name__,
    {
        "ACTIVATIONS": "flowsim.models.activations",
        "Activation": "flowsim.models.activations",
        "DeepLinear": "flowsim.models.deep_linear",
        "DiagonalLinear": "flowsim.models.diagonal",
        "MLP": "flowsim.models.mlp",
        "Objective": "flowsim.models.objective",
        "TwoLayer": "flowsim.models.two_layer",
    },
)


def __dir__() -> list[str]:
    return __all__
