"""Distributions of inputs, all with mean zero and E[x xᵀ] = I, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np


def gaussian(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Draw standard normal inputs: ``standard_normal((n, d))``."""
    return rng.standard_normal((n, d))


def symmetric(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Draw ``standard_normal((n/2, d))``, and then minus the same inputs.

    Raises
    ------
    ValueError
        If `n` is odd.
    """
    if n % 2:
        raise ValueError(f"Argument `n` must be even for symmetric inputs, but it is {n}.")
    half = rng.standard_normal((n // 2, d))
    return np.concatenate([half, -half])


def sphere(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Draw inputs uniformly from the sphere of radius sqrt(d): Gaussian ones, rescaled."""
    X = rng.standard_normal((n, d))
    return np.sqrt(d) * X / np.linalg.norm(X, axis=1, keepdims=True)


def uniform(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Draw inputs uniformly from the cube: ``uniform(-sqrt(3), sqrt(3), (n, d))``."""
    return rng.uniform(-np.sqrt(3.0), np.sqrt(3.0), (n, d))


DISTRIBUTIONS: Mapping[str, Callable[[np.random.Generator, int, int], np.ndarray]] = (
    MappingProxyType(
        {"gaussian": gaussian, "symmetric": symmetric, "sphere": sphere, "uniform": uniform}
    )
)
"""How n inputs in R^d are drawn from a generator."""

ROTATION_INVARIANT = ("gaussian", "symmetric", "sphere")
"""Distributions of one input that is Gaussian, or has its directions and E‖x‖²: all quadratic
expectations of positively homogeneous functions are those of a Gaussian."""
