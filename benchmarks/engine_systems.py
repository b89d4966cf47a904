"""The systems that the engines are compared on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from engine_fields import Field, Library, diagonal, layers

import flowsim as fs
from flowsim.models import MLP, DiagonalLinear, TwoLayer


@dataclass(frozen=True, eq=False)
class System:
    """A model, data and a time, with the flow written out for other solvers.

    Attributes
    ----------
    key, name : str
    model : TwoLayerReLU or model
        At the start, as flowsim takes it.
    field : callable
        Makes the field of flat parameters for a `Library`.
    read : callable
        Returns the flat parameters of a model.
    units : (P,)
        The unit (neuron, coordinate) of each parameter: errors are relative to its norm.
    kinks : bool
        Neurons change their activation patterns on the way.
    """

    key: str
    name: str
    model: Any
    data: fs.Dataset
    t1: float
    field: Callable[[Library], Field]
    read: Callable[[Any], np.ndarray]
    units: np.ndarray
    kinks: bool = False

    @property
    def start(self) -> np.ndarray:
        """The parameters at the start."""
        return self.read(self.model)

    @property
    def relu(self) -> bool:
        """Whether it is a two-layer ReLU network."""
        return isinstance(self.model, fs.TwoLayerReLU)

    @property
    def size(self) -> float:
        """The median norm of a unit at the start."""
        return float(np.median(self._norms(self.start)))

    def error(self, theta: np.ndarray, truth: np.ndarray) -> float:
        """Return the largest error of a unit relative to its norm."""
        return float(np.max(self._norms(theta - truth) / self._norms(truth)))

    def _norms(self, theta: np.ndarray) -> np.ndarray:
        return np.sqrt(np.bincount(self.units, theta**2))


def two_layer(
    key: str, name: str, data: fs.Dataset, net: fs.TwoLayerReLU, t1: float,
    activation: str = "relu", beta: float | None = None, kinks: bool = False,
) -> System:  # fmt: skip
    """Return a two-layer network's system; its parameters are W and then a."""
    model = net if activation == "relu" else TwoLayer.of(net, activation, beta=beta)
    field = partial(
        layers, shapes=[(net.m, net.d), (1, net.m)], X=data.X, y=data.y, name=activation, beta=beta
    )
    units = np.concatenate([np.repeat(np.arange(net.m), net.d), np.arange(net.m)])
    read = lambda model: np.concatenate([np.ravel(model.W), model.a])  # noqa: E731
    return System(key, name, model, data, t1, field, read, units, kinks)


def perceptron() -> System:
    """Return a deeper network's system; a row of its matrices is a unit."""
    data = fs.datasets.linear_teacher(20, 3, noise=0.5, seed=0)
    widths = [3, 16, 16, 1]
    model = MLP.init(widths, 0.5, seed=0, activation="tanh")
    shapes = [W.shape for W in model.weights]
    field = partial(layers, shapes=shapes, X=data.X, y=data.y, name="tanh")
    units = np.repeat(np.arange(sum(widths[1:])), np.repeat(widths[:-1], widths[1:]))
    read = lambda model: np.concatenate([np.ravel(W) for W in model.weights])  # noqa: E731
    return System("mlp", "tanh 3-16-16-1, λ=0.5", model, data, 50.0, field, read, units)


def diagonal_linear() -> System:
    """Return a diagonal linear network with H = X^T X / n = ((1, .5), (.5, 1)), β* = (2, 1)."""
    X = np.sqrt(2.0) * np.linalg.cholesky(np.array([[1.0, 0.5], [0.5, 1.0]])).T
    data = fs.Dataset(X, X @ [2.0, 1.0], name="diagonal")
    model = DiagonalLinear(np.full(2, np.sqrt(2.0) * 1e-8), np.zeros(2))
    return System(
        "diagonal", "diagonal linear, α=1e-8", model, data, 30.0,
        partial(diagonal, X=data.X, y=data.y),
        lambda model: np.concatenate([model.u, model.v]), np.array([0, 1, 0, 1]),
    )  # fmt: skip


def frozen_cell() -> System:
    """Return neurons inside the cones of two half-spaces, which no neuron leaves."""
    data = fs.datasets.half_spaces(10, seed=0)
    angle = np.deg2rad(np.linspace(-20.0, 20.0, 10))
    right = np.column_stack([np.cos(angle), np.sin(angle)])
    W = 1e-3 * np.concatenate([right, -right])
    net = fs.init.from_arrays(np.repeat([1e-3, -1e-3], 10), W)
    return two_layer("cell", "ReLU, no events: half-spaces, m=20, λ=1e-3", data, net, 60.0)


def systems() -> list[System]:
    """Return all systems."""
    teacher, balanced = fs.datasets.linear_teacher, fs.init.balanced
    return [
        two_layer(
            "gelu", "GELU n=20 d=5 m=50, λ=1e-3",
            teacher(20, 5, noise=0.5, seed=0), balanced(50, 5, 1e-3, seed=0), 40.0, "gelu",
        ),
        two_layer(
            "softplus", "softplus β=20 n=20 d=3 m=20, λ=1e-2",
            teacher(20, 3, noise=0.5, seed=0), balanced(20, 3, 1e-2, seed=0), 40.0,
            "softplus", 20.0,
        ),
        diagonal_linear(),
        perceptron(),
        frozen_cell(),
        two_layer(
            "three", "ReLU: three points, m=20, λ=1e-3",
            fs.datasets.three_points(), balanced(20, 2, 1e-3, seed=0), 60.0, kinks=True,
        ),
        two_layer(
            "teacher", "ReLU: linear teacher n=20 d=3, m=50, λ=1e-3",
            teacher(20, 3, noise=0.5, seed=0), balanced(50, 3, 1e-3, seed=0), 30.0, kinks=True,
        ),
        two_layer(
            "slides", "ReLU with slides: five points, m=20, λ=1e-3",
            fs.datasets.five_points(), balanced(20, 2, 1e-3, seed=0), 60.0, kinks=True,
        ),
    ]  # fmt: skip
