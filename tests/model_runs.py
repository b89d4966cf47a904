"""Small runs of every kind of model, each made once a process."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import flowsim as fs
from flowsim.models import MLP, DeepLinear, DiagonalLinear, TwoLayer

SCIPY = fs.engines.Scipy()
#: ``L = 1/2 (β - β*)ᵀ H (β - β*)`` for the data below.
H = np.array([[1.0, 0.5], [0.5, 1.0]])
TARGET = np.array([2.0, 1.0])


def diagonal_data() -> fs.Dataset:
    X = np.sqrt(2.0) * np.linalg.cholesky(H).T
    return fs.Dataset(X, X @ TARGET)


def diagonal(alpha: float) -> DiagonalLinear:
    return DiagonalLinear(np.full(2, np.sqrt(2.0) * alpha), np.zeros(2))


def labelled(p: int | None) -> fs.Dataset:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((5, 2))
    return fs.Dataset(X, rng.standard_normal(5 if p is None else (5, p)))


def two_layer(activation: str, p: int | None = None, scale: float = 0.3) -> TwoLayer:
    rng = np.random.default_rng(0)
    a = scale * rng.standard_normal(3 if p is None else (3, p))
    return TwoLayer(a, scale * rng.standard_normal((3, 2)), activation)


def eqx_mlp(out: Any) -> eqx.nn.MLP:
    return eqx.nn.MLP(2, out, 3, 1, activation=jax.nn.tanh, key=jax.random.key(0))


def wells(parameters: Any) -> Any:
    """A double well in x with minima -3 at x = -1, 1, times a valley in y."""
    x, y = parameters["x"]
    return jnp.square(x**2 - 1.0) / 4 + y**2 / 2 - 3.0


#: Models with their data, and the time that the run of each is cut at.
MODELS: dict[str, Callable[[], tuple[Any, Any, float]]] = {
    "tanh": lambda: (two_layer("tanh"), labelled(None), 20.0),
    "softplus-2": lambda: (two_layer("softplus", 2), labelled(2), 5.0),
    "mlp-bias": lambda: (
        MLP.init([2, 3, 1], 0.5, 0, bias=True, activation="gelu"),
        labelled(1),
        5.0,
    ),
    "diagonal": lambda: (diagonal(1e-8), diagonal_data(), float("inf")),
    "deep-linear-2": lambda: (DeepLinear.init([2, 3, 2], 0.01, 0), labelled(2), float("inf")),
    "equinox": lambda: (eqx_mlp("scalar"), labelled(None), 5.0),
    "equinox-2": lambda: (eqx_mlp(2), labelled(2), 5.0),
    "loss": lambda: ((wells, {"x": np.array([1e-9, 0.3])}), None, float("inf")),
}


@cache
def run(name: str, engine: Any = SCIPY) -> fs.Solution:
    model, data, t1 = MODELS[name]()
    return fs.simulate(model, data, engine=engine, t1=t1)
