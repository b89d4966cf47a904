"""Distances of two networks, or models, of one architecture."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowsim.network import TwoLayerReLU


def vector_of(model: Any) -> np.ndarray:
    """Return all parameters of a model (P,), of a TwoLayerReLU row by row (a_j, w_j)."""
    if isinstance(model, TwoLayerReLU):
        return np.column_stack([model.a, model.W]).ravel()
    import jax

    tree = model[1] if isinstance(model, tuple) else model
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    kept = [x.astype(np.float64).ravel() for x in leaves if np.issubdtype(x.dtype, np.floating)]
    return np.concatenate(kept)


def apart(one: Any, other: Any, *, permute: bool = False) -> float:
    """Return ``|theta - theta'| / |theta'|``.

    Parameters
    ----------
    one, other : TwoLayerReLU or models
    permute : bool
        Of the orders of neurons take the one in which they are closest.
    """
    if isinstance(one, TwoLayerReLU):
        # Over the largest norm: squares of neurons of any size stay in range.
        top = max(float(np.max(net.log_norm)) for net in (one, other))
        top = top if top > -np.inf else 0.0  # of two networks that are zero
        a, b = (net.direction * np.exp(net.log_norm - top)[:, None] for net in (one, other))
        if permute:
            a, b = _in_order(a, b)
    else:
        a, b = vector_of(one), vector_of(other)
    off, size = float(np.linalg.norm(a - b)), float(np.linalg.norm(b))
    if off == 0.0:
        return 0.0
    return off / size if size > 0.0 else float("nan")


def _in_order(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return neurons (m, d+1) in the orders in which they are closest."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    rows, columns = linear_sum_assignment(cdist(a, b, "sqeuclidean"))
    return a[rows], b[columns]


def gaps(net: TwoLayerReLU) -> np.ndarray:
    """Return ``(a_j^2 - |w_j|^2) / (a_j^2 + |w_j|^2)`` (m,), which no scale underflows."""
    u = net.direction
    return u[:, 0] ** 2 - np.sum(u[:, 1:] ** 2, axis=1)
