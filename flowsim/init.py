"""Random initialisations of scale λ, reproducible from their seed."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from flowsim.network import TwoLayerReLU

#: Larger weights would overflow.
_LARGEST_LOG10 = 300
#: Binary exponents are 64-bit integers, with room for what a run adds to them.
_SMALLEST_LOG10 = -1e15
# Outside, weights are held as unit scale and a logarithm, since the smallest of them, or their
# squares, would leave the range of float64.
_LARGEST_PLAIN_LOG10 = 150.0


def balanced(
    m: int,
    d: int,
    scale: float | None = None,
    seed: int | None = None,
    *,
    log10_scale: float | None = None,
    negative_slope: float = 0.0,
) -> TwoLayerReLU:
    """Draw a balanced network: ``w_j ~ N(0, λ²/m I)``, ``a_j = ±‖w_j‖`` with random signs.

    Draw order of ``numpy.random.default_rng(seed)``: ``standard_normal((m, d))`` for W, then
    ``choice([-1.0, 1.0], m)`` for the signs.

    Parameters
    ----------
    m, d : int
        Number of neurons, and dimension of the inputs with the bias coordinate if there is one.
    scale : float, optional
        The scale λ > 0. Give it or `log10_scale`.
    seed : int, optional
        Seed; drawn and kept in the metadata if None.
    log10_scale : float, optional
        log₁₀ λ, for scales that float64 cannot hold.
    negative_slope : float
        As for `TwoLayerReLU`.

    Returns
    -------
    TwoLayerReLU
        With metadata kind, scale (0.0 if it underflows), log10_scale and seed.

    Raises
    ------
    TypeError
        If `m`, `d` or `seed` is not an integer.
    ValueError
        If `m`, `d` or `scale` is not positive, or not one of `scale` and `log10_scale` is given.
    """
    m, d, seed, rng = _prepare(m, d, seed)
    W = rng.standard_normal((m, d)) / math.sqrt(m)
    a = _signs(rng, m) * np.linalg.norm(W, axis=1)
    return _network("balanced", a, W, scale, log10_scale, seed, negative_slope)


def dominated(
    m: int,
    d: int,
    scale: float | None = None,
    seed: int | None = None,
    *,
    log10_scale: float | None = None,
    negative_slope: float = 0.0,
) -> TwoLayerReLU:
    """Draw a dominated network: ``w_j ~ N(0, λ²/m I)``, ``a_j = ±sqrt(‖w_j‖² + b_j²)``.

    The ``b_j ~ N(0, λ²/m)`` make |a_j| > ‖w_j‖ for every neuron. Draw order: W and the signs as
    for `balanced`, then ``standard_normal(m)`` for b. Arguments and errors are those of
    `balanced`.
    """
    m, d, seed, rng = _prepare(m, d, seed)
    W = rng.standard_normal((m, d)) / math.sqrt(m)
    signs = _signs(rng, m)
    b = rng.standard_normal(m) / math.sqrt(m)
    a = signs * np.hypot(np.linalg.norm(W, axis=1), b)
    return _network("dominated", a, W, scale, log10_scale, seed, negative_slope)


def unbalanced(
    m: int,
    d: int,
    scale: float | None = None,
    seed: int | None = None,
    *,
    log10_scale: float | None = None,
    negative_slope: float = 0.0,
) -> TwoLayerReLU:
    """Draw an unbalanced network: ``w_j ~ N(0, λ²/m I)``, ``a_j ~ N(0, λ²/m)`` independently.

    Output weights may then change sign. Draw order: ``standard_normal((m, d))`` for W, then
    ``standard_normal(m)`` for a. Arguments and errors are those of `balanced`.
    """
    m, d, seed, rng = _prepare(m, d, seed)
    W = rng.standard_normal((m, d)) / math.sqrt(m)
    a = rng.standard_normal(m) / math.sqrt(m)
    return _network("unbalanced", a, W, scale, log10_scale, seed, negative_slope)


def mirrored(
    m: int,
    d: int,
    scale: float | None = None,
    seed: int | None = None,
    *,
    log10_scale: float | None = None,
    negative_slope: float = 0.0,
) -> TwoLayerReLU:
    """Draw a balanced network of pairs ``(‖w‖, w), (−‖w‖, w)``, whose output is zero.

    Neurons 2i and 2i+1 are a pair, with ``w ~ N(0, λ²/m I)``. Draw order:
    ``standard_normal((m/2, d))`` for the input weights. Arguments and errors are those of
    `balanced`, and `m` must be even.
    """
    m, d, seed, rng = _prepare(m, d, seed)
    if m % 2:
        raise ValueError(f"Argument `m` must be even for mirrored pairs, but it is {m}.")
    W = np.repeat(rng.standard_normal((m // 2, d)) / math.sqrt(m), 2, axis=0)
    a = np.tile([1.0, -1.0], m // 2) * np.linalg.norm(W, axis=1)
    return _network("mirrored", a, W, scale, log10_scale, seed, negative_slope)


def from_arrays(a: ArrayLike, W: ArrayLike, negative_slope: float = 0.0) -> TwoLayerReLU:
    """Create a network from output weights `a` (m,) and input weights `W` (m, d).

    Raises
    ------
    TypeError, ValueError
        As for `TwoLayerReLU`.
    """
    return TwoLayerReLU(a, W, negative_slope, metadata={"kind": "arrays"})


KINDS: Mapping[str, Callable[..., TwoLayerReLU]] = MappingProxyType(
    {
        "balanced": balanced,
        "dominated": dominated,
        "unbalanced": unbalanced,
        "mirrored": mirrored,
    }
)
"""The random initialisations by name."""


def get(kind: str) -> Callable[..., TwoLayerReLU]:
    """Return the initialisation called `kind`.

    Raises
    ------
    ValueError
        If there is none, with the names that there are.
    """
    if kind not in KINDS:
        raise ValueError(f"Argument `kind` must be one of {', '.join(KINDS)}, but it is {kind!r}.")
    return KINDS[kind]


def _prepare(m: int, d: int, seed: int | None) -> tuple[int, int, int, np.random.Generator]:
    m, d = _positive(m, "m"), _positive(d, "d")
    if seed is None:
        # Drawn here and recorded, so that the network can be drawn again.
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    seed = _integer(seed, "seed")
    if seed < 0:
        raise ValueError(f"Argument `seed` must be at least 0, but it is {seed}.")
    return m, d, seed, np.random.default_rng(seed)


def _positive(value: int, name: str) -> int:
    value = _integer(value, name)
    if value < 1:
        raise ValueError(f"Argument `{name}` must be at least 1, but it is {value}.")
    return value


def _integer(value: int, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"Argument `{name}` must be an integer, but it is {value!r}.") from None


def _signs(rng: np.random.Generator, m: int) -> np.ndarray:
    return rng.choice([-1.0, 1.0], m)


def _network(
    kind: str,
    a: np.ndarray,
    W: np.ndarray,
    scale: float | None,
    log10_scale: float | None,
    seed: int,
    negative_slope: float,
) -> TwoLayerReLU:
    """Scale a network drawn at λ = 1."""
    scale, log10_scale = _scale(scale, log10_scale)
    metadata = {"kind": kind, "scale": scale, "log10_scale": log10_scale, "seed": seed}
    if abs(log10_scale) <= _LARGEST_PLAIN_LOG10:
        return TwoLayerReLU(scale * a, scale * W, negative_slope, metadata=metadata)
    log_scale = log10_scale * math.log(10.0)
    return TwoLayerReLU(a, W, negative_slope, log_scale=log_scale, metadata=metadata)


def _scale(scale: float | None, log10_scale: float | None) -> tuple[float, float]:
    """Return λ, 0 where it underflows, and its decimal logarithm."""
    if (scale is None) == (log10_scale is None):
        given = "neither is" if scale is None else "both are"
        raise ValueError(
            f"Argument `scale` must be given, or log10_scale, and not both, but {given}."
        )
    if scale is not None:
        scale = float(scale)
        if not 0 < scale < math.inf:
            raise ValueError(f"Argument `scale` must be positive and finite, but it is {scale}.")
        return scale, math.log10(scale)
    assert log10_scale is not None
    log10_scale = float(log10_scale)
    if not math.isfinite(log10_scale):
        raise ValueError(f"Argument `log10_scale` must be finite, but it is {log10_scale}.")
    if log10_scale < _SMALLEST_LOG10:
        raise ValueError(
            f"Argument `log10_scale` must be at least {_SMALLEST_LOG10:g}, but it is "
            f"{log10_scale:g}."
        )
    if log10_scale > _LARGEST_LOG10:
        raise ValueError(
            f"Argument `log10_scale` must be at most {_LARGEST_LOG10}, so that the weights are "
            f"within float64's range, but it is {log10_scale:g}."
        )
    return 10.0**log10_scale, log10_scale
