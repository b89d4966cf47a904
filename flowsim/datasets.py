"""Named systems of the literature, and generators of random data."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from flowsim._rational import to_numbers
from flowsim.data import Dataset
from flowsim.inputs import DISTRIBUTIONS


def three_points() -> Dataset:
    """Return three univariate points that gradient flow from small weights fails to fit.

    It ends at the affine least-squares fit, a spurious local minimum of loss 256/2925.

    Source: Boursier & Flammarion, arXiv 2401.10791, section 5.
    """
    return Dataset.univariate(
        ["-0.75", "-0.5", "0.125"], ["1.1", "0.1", "0.8"], name="three_points"
    )


def orthogonal_pair() -> Dataset:
    """Return two univariate points whose lifted inputs ``(x, 1)`` are orthogonal.

    Source: Boursier, Pillaud-Vivien & Flammarion, arXiv 2206.00939, its published code.
    """
    return Dataset.univariate(["-0.5", 2], [-1, 1], name="orthogonal_pair")


def five_points() -> Dataset:
    """Return five univariate points where the flow passes a saddle before it interpolates.

    Source: Boursier, Pillaud-Vivien & Flammarion, arXiv 2206.00939, its published code.
    """
    return Dataset.univariate(
        ["-1.5", -1, 0, "0.25", 2], ["0.7", "-0.3", "-0.3", "0.4", "0.2"], name="five_points"
    )


def stewart() -> Dataset:
    """Return 40 points on a piecewise linear function with eight pieces.

    The inputs come from NumPy's legacy generator with seed 0, uniform on [−1, 1], in the order
    drawn.

    Source: Boursier & Flammarion, arXiv 2401.10791, after Stewart et al.
    """
    knots = [-1.0, -0.7, -0.55, -0.4, 0.0, 0.5, 0.6, 0.7, 1.0]
    values = [0.0, 0.7, 0.5, 1.0, 0.0, 1.0, 0.6, 0.7, 0.0]
    x = np.random.RandomState(0).uniform(-1.0, 1.0, 40)
    return Dataset.univariate(x, np.interp(x, knots, values), name="stewart")


def one_sample() -> Dataset:
    """Return the single sample ``x = (3, 4)``, ``y = 2``.

    An aligned neuron then obeys a logistic law: ``q = a‖w‖`` grows at rate 20 to 0.4.
    """
    return Dataset([[3, 4]], [2], name="one_sample")


def symmetric_linear() -> Dataset:
    """Return ``y = x₁`` on the corners ``±(1, 1), ±(1, −1)``, a linear function on symmetric data.

    Two aligned neurons of opposite signs fit it by a logistic law in closed form.
    """
    return Dataset(
        [[1, 1], [1, -1], [-1, -1], [-1, 1]],
        [1, 1, -1, -1],
        name="symmetric_linear",
        teacher=[1.0, 0.0],
        noise=0.0,
    )


def xor() -> Dataset:
    """Return XOR on the corners: 1 at ``±(1, 1)``, −1 at ``±(1, −1)``."""
    return Dataset([[1, 1], [1, -1], [-1, -1], [-1, 1]], [1, -1, 1, -1], name="xor")


def linear_teacher(
    n: int,
    d: int,
    noise: float = 0.5,
    seed: int = 0,
    inputs: str = "gaussian",
    teacher: ArrayLike | None = None,
) -> Dataset:
    """Draw ``y_k = β*·x_k + noise ε_k`` with Gaussian inputs and ``ε_k ~ N(0, 1)``.

    Draw order of ``numpy.random.default_rng(seed)``: the inputs as `flowsim.inputs` says,
    ``standard_normal((n, d))`` for Gaussian ones, then ``standard_normal(n)`` for ε.

    Parameters
    ----------
    n, d : int
        Number of samples and dimension of the inputs.
    noise : float
        Standard deviation of the noise.
    seed : int
        Seed of the draw.
    inputs : {"gaussian", "symmetric", "sphere", "uniform"}
        Standard normal inputs, all independent or with the second half minus the first one; or
        uniform ones from the sphere of radius √d, or from the cube [−√3, √3]^d.
    teacher : array_like (d,), optional
        The vector β*; the first unit vector by default.

    Raises
    ------
    TypeError
        If `n` or `d` is not an integer.
    ValueError
        If `n` or `d` is not positive, `n` is odd for symmetric inputs, or as for `Dataset`.

    References
    ----------
    Boursier & Flammarion, arXiv 2410.02348, section 4.
    """
    n, d = _positive(n, "n"), _positive(d, "d")
    if inputs not in DISTRIBUTIONS:
        raise ValueError(
            f"Argument `inputs` must be one of {', '.join(DISTRIBUTIONS)}, but it is {inputs!r}."
        )
    beta = np.eye(d)[0] if teacher is None else to_numbers(teacher, "teacher", ndim=1).values
    if beta.shape != (d,):
        raise ValueError(f"Argument `teacher` must have shape ({d},), but it has {beta.shape}.")
    rng = _rng(seed)
    X = DISTRIBUTIONS[inputs](rng, n, d)
    y = X @ beta + noise * rng.standard_normal(n)
    return Dataset(X, y, name="linear_teacher", teacher=beta, noise=noise, inputs=inputs)


def half_spaces(q: int = 20, seed: int = 0, noise: float = 0.3) -> Dataset:
    """Draw a noisy linear function on 2q antipodal inputs on two arcs of the circle.

    The angles are ``linspace(−50°, 50°, q)``, the inputs ``U = (cos, sin)`` and then −U, and
    ``y = x₁ + noise ε`` with ε ``standard_normal(2q)`` of ``numpy.random.default_rng(seed)``. From
    small weights the flow ends at the least-squares fits on the two half-spaces.

    Parameters
    ----------
    q : int
        Number of inputs on each arc.
    seed : int
        Seed of the noise.
    noise : float
        Standard deviation of the noise.

    Raises
    ------
    TypeError
        If `q` is not an integer.
    ValueError
        If `q` is not positive, or as for `Dataset`.
    """
    q = _positive(q, "q")
    angles = np.deg2rad(np.linspace(-50.0, 50.0, q))
    U = np.column_stack([np.cos(angles), np.sin(angles)])
    X = np.concatenate([U, -U])
    y = X[:, 0] + noise * _rng(seed).standard_normal(2 * q)
    return Dataset(X, y, name="half_spaces", teacher=[1.0, 0.0], noise=noise)


NAMES: Mapping[str, Callable[..., Dataset]] = MappingProxyType(
    {
        "three-points": three_points,
        "orthogonal-pair": orthogonal_pair,
        "five-points": five_points,
        "stewart": stewart,
        "one-sample": one_sample,
        "symmetric-linear": symmetric_linear,
        "xor": xor,
        "linear-teacher": linear_teacher,
        "half-spaces": half_spaces,
    }
)
"""The functions of this module by their names on the command line."""


def get(name: str) -> Callable[..., Dataset]:
    """Return the function called `name`, where "-" and "_" are the same.

    Raises
    ------
    ValueError
        If there is none, with the names that there are.
    """
    key = name.replace("_", "-")
    if key not in NAMES:
        raise ValueError(f"Argument `name` must be one of {', '.join(NAMES)}, but it is {name!r}.")
    return NAMES[key]


def _positive(value: int, name: str) -> int:
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"Argument `{name}` must be an integer, but it is {value!r}.") from None
    if value < 1:
        raise ValueError(f"Argument `{name}` must be at least 1, but it is {value}.")
    return value


def _rng(seed: int) -> np.random.Generator:
    try:
        return np.random.default_rng(operator.index(seed))
    except TypeError:
        raise TypeError(f"Argument `seed` must be an integer, but it is {seed!r}.") from None
    except ValueError:
        raise ValueError(f"Argument `seed` must be at least 0, but it is {seed}.") from None
