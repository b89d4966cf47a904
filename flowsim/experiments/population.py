"""Expectations over the distribution of inputs: test losses without a test set.

A two-layer network is positively homogeneous, and so the mean square of one over Gaussian inputs
is a quadratic form of its neurons (Cho & Saul 2009),

    E[sigma(u.x) sigma(v.x)] = s u.v + (1 - s)^2 |u||v| (sin p + (pi - p) cos p) / (2 pi),

p the angle between u and v, s the slope of sigma on negative numbers. A linear function is a
network, too, ``b.x = (sigma(b.x) - sigma(-b.x)) / (1 + s)``, so that distances of networks and
linear functions are mean squares of networks. Uniform inputs on the sphere of radius sqrt(d) have
the same expectations, by homogeneity.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from flowsim.inputs import DISTRIBUTIONS
from flowsim.network import TwoLayerReLU

#: Size and seed of the sample that stands for other distributions, and for smooth models.
SAMPLE_SIZE, SAMPLE_SEED = 2**16, 2**32
#: Neurons that together make up less than this part of a network are left out: below rounding.
_NEGLIGIBLE = 2.0**-56
_BLOCK = 2**22


def mean_square(a: np.ndarray, W: np.ndarray, negative_slope: float = 0.0) -> float:
    """Return ``E[(sum_j a_j sigma(w_j.x))^2]`` over standard normal x, in closed form.

    Parameters
    ----------
    a : (m,) and W : (m, d)
        A network.
    negative_slope : float
        s.
    """
    norms = np.linalg.norm(W, axis=1)
    sizes = np.abs(a) * norms
    order = np.argsort(sizes)
    small = np.cumsum(sizes[order]) <= _NEGLIGIBLE * np.sum(sizes)
    kept = np.sort(order[~small])
    if len(kept) == 0:
        return 0.0
    units = W[kept] / norms[kept, None]
    weights = a[kept] * norms[kept]
    rows = max(1, _BLOCK // len(kept))
    total = 0.0
    for first in range(0, len(kept), rows):
        block = slice(first, first + rows)
        total += float(weights[block] @ kernel(units[block], units, negative_slope) @ weights)
    return max(total, 0.0)


def kernel(U: np.ndarray, V: np.ndarray, negative_slope: float = 0.0) -> np.ndarray:
    """Return ``E[sigma(u.x) sigma(v.x)]`` over standard normal x for rows u of U, v of V.

    Parameters
    ----------
    U : (k, d) and V : (l, d)
    negative_slope : float
        s.

    Returns
    -------
    (k, l)
    """
    s, product = negative_slope, U @ V.T
    scale = np.linalg.norm(U, axis=1)[:, None] * np.linalg.norm(V, axis=1)
    angle = angles(U, V)
    both = scale * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2.0 * np.pi)
    return s * product + (1.0 - s) ** 2 * both


def derivative_kernel(U: np.ndarray, V: np.ndarray, negative_slope: float = 0.0) -> np.ndarray:
    """Return ``E[sigma'(u.x) sigma'(v.x)]``, shape (k, l), with arguments as of `kernel`."""
    s = negative_slope
    return s + (1.0 - s) ** 2 * (np.pi - angles(U, V)) / (2.0 * np.pi)


def angles(U: np.ndarray, V: np.ndarray) -> np.ndarray:
    """Return the angles (k, l) between rows, 0 with a row that is zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        u = U / np.linalg.norm(U, axis=1)[:, None]
        v = V / np.linalg.norm(V, axis=1)[:, None]
    cosine = np.nan_to_num(u @ v.T, nan=1.0)
    return np.arccos(np.clip(cosine, -1.0, 1.0))


def linear_network(slope: np.ndarray, negative_slope: float = 0.0) -> TwoLayerReLU:
    """Return the two neurons that are the linear function ``slope . x``."""
    c = 1.0 / (1.0 + negative_slope)
    return TwoLayerReLU([c, -c], np.stack([slope, -slope]), negative_slope)


def distance_square(f: TwoLayerReLU, g: TwoLayerReLU) -> float:
    """Return ``E[(f(x) - g(x))^2]`` over standard normal x; both have one slope."""
    a, W = np.concatenate([f.a, -g.a]), np.concatenate([f.W, g.W])
    return mean_square(a, W, f.negative_slope)


def sampled_square(
    f: Callable[[np.ndarray], np.ndarray], inputs: str, d: int, size: int = SAMPLE_SIZE
) -> float:
    """Return the mean of ``f(x)^2`` over a fixed sample of a distribution of `flowsim.inputs`."""
    return float(np.mean(np.square(f(sample(inputs, d)[:size]))))


@lru_cache(maxsize=4)
def sample(inputs: str, d: int) -> np.ndarray:
    """Return the fixed sample (65536, d), drawn with the seed 2^32."""
    X = DISTRIBUTIONS[inputs](np.random.default_rng(SAMPLE_SEED), SAMPLE_SIZE, d)
    X.setflags(write=False)
    return X
