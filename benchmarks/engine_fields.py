"""Gradient flows written out by hand, once for NumPy, JAX, PyTorch and heyoka's symbols.

What a careful user of a solver writes: no autodiff, few operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

SQRT2, SQRT2PI = 2.0**0.5, (2.0 * np.pi) ** 0.5
Field = Callable[[Any], Any]


@dataclass(frozen=True)
class Library:
    """The operations that the fields are made of."""

    array: Callable[[np.ndarray], Any]
    matmul: Callable[[Any, Any], Any]
    concatenate: Callable[[Any], Any]
    erf: Callable[[Any], Any]
    exp: Callable[[Any], Any]
    tanh: Callable[[Any], Any]
    softplus: Callable[[Any], Any]
    positive: Callable[[Any], Any]  # 1 or True where positive


def of_numpy() -> Library:
    """Return NumPy's operations."""
    from scipy.special import erf

    return Library(
        np.asarray, np.matmul, np.concatenate, erf, np.exp, np.tanh,
        lambda u: np.logaddexp(0.0, u), lambda u: u > 0.0,
    )  # fmt: skip


def of_jax() -> Library:
    """Return JAX's operations."""
    jax = import_module("jax")
    xp = jax.numpy
    return Library(
        xp.asarray, xp.matmul, xp.concatenate, jax.scipy.special.erf, xp.exp, xp.tanh,
        lambda u: xp.logaddexp(0.0, u), lambda u: u > 0.0,
    )  # fmt: skip


def of_torch() -> Library:
    """Return PyTorch's operations."""
    xp: Any = import_module("torch")
    return Library(
        lambda x: xp.tensor(x, dtype=xp.float64), xp.matmul, xp.cat, xp.erf, xp.exp, xp.tanh,
        lambda u: xp.nn.functional.softplus(u, threshold=700.0), lambda u: u > 0.0,
    )  # fmt: skip


def of_heyoka(positive: Callable[[Any], Any] | None = None) -> Library:
    """Return heyoka's operations, on NumPy arrays of its expressions.

    `positive` stands for what is 1 where its argument is positive; by default heyoka's `relup`.
    """
    hy: Any = import_module("heyoka")
    each = lambda f: np.vectorize(f, otypes=[object])  # noqa: E731
    matmul = lambda A, B: np.array(  # noqa: E731
        [[hy.sum([hy.expression(1.0) * p for p in row * column]) for column in B.T] for row in A],
        dtype=object,
    )
    return Library(
        np.asarray, matmul, np.concatenate, each(hy.erf), each(hy.exp), each(hy.tanh),
        each(lambda u: hy.log(1.0 + hy.exp(u))), positive or each(hy.relup),
    )  # fmt: skip


def activation(library: Library, name: str, beta: float | None) -> Callable[[Any], tuple[Any, Any]]:
    """Return the function that returns an activation's values and slopes."""

    def relu(u: Any) -> tuple[Any, Any]:
        on = library.positive(u)
        return u * on, on

    def tanh(u: Any) -> tuple[Any, Any]:
        t = library.tanh(u)
        return t, 1.0 - t * t

    def gelu(u: Any) -> tuple[Any, Any]:
        below = 0.5 * (1.0 + library.erf(u / SQRT2))
        return u * below, below + u * library.exp(-0.5 * u * u) / SQRT2PI

    def softplus(u: Any) -> tuple[Any, Any]:
        sharpness = beta or 1.0
        slope = 0.5 * (1.0 + library.tanh(0.5 * sharpness * u))
        return library.softplus(sharpness * u) / sharpness, slope

    return {"relu": relu, "tanh": tanh, "gelu": gelu, "softplus": softplus}[name]


def layers(
    library: Library, shapes: Sequence[tuple[int, int]], X: np.ndarray, y: np.ndarray,
    name: str, beta: float | None = None,
) -> Field:  # fmt: skip
    """Return minus the gradient of ``(1/2n) sum_k r_k^2`` for weights W_1, ..., W_L, flat."""
    act, matmul = activation(library, name, beta), library.matmul
    inputs, labels = library.array(X), library.array(y[:, None])
    stops = np.cumsum([rows * columns for rows, columns in shapes])

    def field(theta: Any) -> Any:
        parts = zip(stops, shapes, strict=True)
        weights = [theta[stop - a * b : stop].reshape((a, b)) for stop, (a, b) in parts]
        values, slopes = [inputs], []
        for W in weights[:-1]:
            value, slope = act(matmul(values[-1], W.T))
            values.append(value)
            slopes.append(slope)
        back = (labels - matmul(values[-1], weights[-1].T)) * (1.0 / len(X))
        rates = [matmul(back.T, values[-1])]
        for i in range(len(slopes) - 1, -1, -1):
            back = matmul(back, weights[i + 1]) * slopes[i]
            rates.insert(0, matmul(back.T, values[i]))
        return library.concatenate([rate.reshape(-1) for rate in rates])

    return field


def diagonal(library: Library, X: np.ndarray, y: np.ndarray) -> Field:
    """Return minus the gradient of ``(1/2n) ||y - X (u * v)||^2`` for (u, v), flat."""
    inputs, labels = library.array(X), library.array(y[:, None])
    d = X.shape[1]

    def field(theta: Any) -> Any:
        u, v = theta[:d], theta[d:]
        r = (labels - library.matmul(inputs, (u * v)[:, None])) * (1.0 / len(X))
        back = library.matmul(r.T, inputs)[0]
        return library.concatenate([back * v, back * u])

    return field
