"""What the built-in models share: evaluation, checked read-only leaves, numbered units."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from flowsim._arguments import real, whole
from flowsim._jax import x64
from flowsim.data import Dataset
from flowsim.network import loss_factor

#: A read-only NumPy array in a model as built, a JAX array while it is traced.
Leaf = Any


class Model(eqx.Module):
    """A model that maps an input (d,) to a number or to p numbers.

    An equinox module, so a pytree whose leaves are its parameters; immutable.
    """

    @property
    @abc.abstractmethod
    def d(self) -> int:
        """Dimension of the inputs."""

    @abc.abstractmethod
    def forward(self, x: Any) -> Any:
        """Return the outputs for inputs (d,) or (n, d) as a JAX array."""

    @abc.abstractmethod
    def units(self) -> Any:
        """Return this model with each leaf replaced by the numbers of its entries' units.

        Integer arrays that broadcast against the leaves; an error counts relative to its unit.
        """

    def __call__(self, x: Any) -> Any:
        """Return the outputs for one input (d,) or for inputs (n, d), in float64.

        NumPy arrays outside JAX; JAX arrays if `x` or the parameters are such.

        Raises
        ------
        ValueError
            If the last axis of `x` is not d, or it has more than two axes.
        """
        if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves((self, x))):
            return self.forward(_inputs(jnp.asarray(x), self.d))
        with x64():
            return np.asarray(_forward(self, _inputs(np.asarray(x, np.float64), self.d)))[()]

    def residual(self, data: Dataset) -> np.ndarray:
        """Return ``r_k = y_k − h(x_k)``, of the shape of the labels."""
        return data.y - self(data.X).reshape(data.y.shape)

    def loss(self, data: Dataset, loss: str = "half_mean") -> float:
        """Return ``(1/2n) Σ_k ‖r_k‖²`` ("half_mean") or ``(1/n) Σ_k ‖r_k‖²`` ("mean").

        Raises
        ------
        ValueError
            If `loss` is neither, or the labels have another shape than the outputs.
        """
        return float(loss_factor(loss) * np.sum(self.residual(data) ** 2) / data.n)


@eqx.filter_jit
def _forward(model: Model, x: Any) -> Any:
    return model.forward(x)


def _inputs(x: Any, d: int) -> Any:
    if x.ndim not in (1, 2) or x.shape[-1] != d:
        raise ValueError(
            f"Argument `x` must have shape ({d},) or (n, {d}), but its shape is {x.shape}."
        )
    return x


def squeeze(outputs: Any) -> Any:
    """Return outputs (..., 1) as numbers (...), others as they are."""
    return outputs[..., 0] if outputs.shape[-1] == 1 else outputs


def floats(name: str, value: Any, *axes: int) -> np.ndarray:
    """Return a read-only float64 copy, checked to be finite, not empty and of one of `axes`.

    Raises
    ------
    TypeError
        If it does not hold real numbers.
    ValueError
        If it is ragged, empty, not finite, or has another number of axes.
    """
    try:
        array = np.array(value, dtype=np.float64)
    except TypeError:
        raise TypeError(f"Argument `{name}` must hold real numbers, but does not.") from None
    except ValueError:
        raise ValueError(f"Argument `{name}` must be an array of numbers, but is none.") from None
    if array.ndim not in axes or array.size == 0:
        allowed = " or ".join(f"{ndim}-d" for ndim in axes)
        raise ValueError(
            f"Argument `{name}` must be a {allowed} array that is not empty, but its shape is "
            f"{array.shape}."
        )
    if not np.all(np.isfinite(array)):
        raise ValueError(f"Argument `{name}` must hold finite numbers, but does not everywhere.")
    array.setflags(write=False)
    return array


def chain(name: str, matrices: Any) -> tuple[np.ndarray, ...]:
    """Return matrices, each checked to take what the one before it returns.

    Raises
    ------
    TypeError, ValueError
        As `floats`; ValueError if shapes do not fit, or there is none.
    """
    if isinstance(matrices, np.ndarray) and matrices.ndim < 3:
        raise ValueError(
            f"Argument `{name}` must be a list of matrices, but is one array of shape "
            f"{matrices.shape}."
        )
    checked = tuple(floats(f"{name}[{i}]", matrix, 2) for i, matrix in enumerate(matrices))
    if not checked:
        raise ValueError(f"Argument `{name}` must hold at least one matrix, but is empty.")
    for i in range(1, len(checked)):
        rows, columns = checked[i - 1].shape[0], checked[i].shape[1]
        if rows != columns:
            raise ValueError(
                f"Argument `{name}` must hold matrices that can be multiplied, but {name}[{i}] "
                f"has {columns} columns after {rows} rows of {name}[{i - 1}]."
            )
    return checked


def draw(widths: Sequence[int], scale: float, seed: int) -> list[np.ndarray]:
    """Draw one matrix a layer, first to last: entries N(0, scale²/columns).

    Raises
    ------
    TypeError
        If a width or the seed is no integer, or the scale no real number.
    ValueError
        If there are fewer than two widths, one is below 1, the scale is not positive and finite,
        or the seed is negative.
    """
    if isinstance(widths, str) or not isinstance(widths, Iterable):
        raise TypeError(f"Argument `widths` must be a list of integers, but is {widths!r}.")
    sizes = [whole(f"widths[{i}]", width, 1) for i, width in enumerate(widths)]
    if len(sizes) < 2:
        raise ValueError(
            "Argument `widths` must hold the dimensions of inputs and outputs at least, but is "
            f"{sizes}."
        )
    size = real("scale", scale)
    if not 0 < size < math.inf:
        raise ValueError(f"Argument `scale` must be positive and finite, but is {size:g}.")
    rng = np.random.default_rng(whole("seed", seed, 0))
    return [
        size / math.sqrt(columns) * rng.standard_normal((rows, columns))
        for columns, rows in pairwise(sizes)
    ]


def rows(matrices: Iterable[Any]) -> tuple[np.ndarray, ...]:
    """Return numbers of the rows of matrices, counted through, each of shape (rows, 1)."""
    numbers, start = [], 0
    for matrix in matrices:
        stop = start + matrix.shape[0]
        numbers.append(np.arange(start, stop)[:, None])
        start = stop
    return tuple(numbers)


def widths_of(matrices: Sequence[Any]) -> str | None:
    """Return widths such as "2-8-1" for a repr; None unless the leaves are plain matrices."""
    if any(getattr(matrix, "ndim", 0) != 2 for matrix in matrices):
        return None
    widths = (matrices[0].shape[1], *(matrix.shape[0] for matrix in matrices))
    return "-".join(str(width) for width in widths)
