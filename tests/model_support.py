"""Models of the tests, and the formulas of activations in NumPy."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import erf

import flowsim as fs
from flowsim._jax import x64
from flowsim.models import TwoLayer


def relu(u):
    return np.maximum(u, 0.0)


def gelu_tanh(u):
    return u * (1 + np.tanh(np.sqrt(2 / np.pi) * (u + 0.044715 * u**3))) / 2


#: name -> (parameters, σ, σ'): NumPy formulas, nothing shared with flowsim.
FORMULAS = {
    "relu": ({}, relu, lambda u: 1.0 * (u > 0)),
    "leaky_relu": (
        {"negative_slope": 0.2},
        lambda u: np.where(u > 0, u, 0.2 * u),
        lambda u: np.where(u > 0, 1.0, 0.2),
    ),
    "gelu": (
        {},
        lambda u: u * (1 + erf(u / np.sqrt(2))) / 2,
        lambda u: (1 + erf(u / np.sqrt(2))) / 2 + u * np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi),
    ),
    "gelu_tanh": ({}, gelu_tanh, None),
    "softplus": (
        {"beta": 5.0},
        lambda u: relu(u) + np.log1p(np.exp(-5 * np.abs(u))) / 5,
        lambda u: 1 / (1 + np.exp(-5 * u)),
    ),
    "tanh": ({}, np.tanh, lambda u: 1 / np.cosh(u) ** 2),
    "squared_relu": ({}, lambda u: relu(u) ** 2, lambda u: 2 * relu(u)),
    "identity": ({}, lambda u: u, lambda u: 1.0 + 0 * u),
}


def two_layer(name="relu", p=None, seed=0, m=4, d=3):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(m if p is None else (m, p))
    return TwoLayer(a, rng.standard_normal((m, d)), name, **FORMULAS[name][0])


def samples(n=6, d=3, p=None, seed=0):
    rng = np.random.default_rng(seed)
    return fs.Dataset(rng.standard_normal((n, d)), rng.standard_normal(n if p is None else (n, p)))


def eqx_mlp(out: Any = 1, seed=0, activation=jax.nn.tanh):
    key = jax.random.key(seed)
    return eqx.nn.MLP(3, out, 4, 1, activation=activation, key=key)


class Masked(eqx.Module):
    """A linear model on the coordinates that an integer array picks."""

    w: Any
    picked: Any
    power: float
    function: Any

    def __call__(self, x):
        return self.function(jnp.sum(self.w * x[self.picked]) ** self.power)


def loss_of(objective, parameters=None):
    with x64():
        at = objective.parameters if parameters is None else parameters
        return float(objective.loss(at, objective.args))
