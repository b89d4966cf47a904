"""Least-squares limits: where the loss tends while the occupied cells hold."""

from __future__ import annotations

import numpy as np

from flowsim._distinct import sorted_rows
from flowsim.cells import Cells, null_basis

#: Singular values below this part of the largest do not count towards a range.
RANK = 1e-10
#: So many columns a sample are looked at together.
ENOUGH = 4
#: Columns below this part of the largest are rounding of zero columns.
ROUNDING = 1e-13


def feature_range(cells: Cells, codes: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis (n, rank) of what neurons in the cells `codes` can fit.

    A neuron in a cell with coefficients c and slides S contributes
    ``diag(c) X P_S v`` for any v, P_S the projector orthogonal to its slides.
    """
    blocks: list[np.ndarray] = []
    for code in sorted_rows(codes):
        if sum(block.shape[1] for block in blocks) >= ENOUGH * cells.n:
            blocks = [orthonormal(np.concatenate(blocks, axis=1))]
            if blocks[0].shape[1] == cells.n:  # all labels can be fitted
                return blocks[0]
        free = null_basis(cells.normals[code == 0])
        blocks.append((cells.coefficients(code)[:, None] * cells.X) @ free)
    return orthonormal(np.concatenate(blocks, axis=1)) if blocks else np.zeros((cells.n, 0))


def attainable_range(cells: Cells) -> np.ndarray:
    """Return an orthonormal basis (n, rank) of the span of all ``sigma(X w)``.

    Networks are positively homogeneous and ``h(x) - h(-x)`` is linear, so the values
    on a hyperplane's samples are one even number and a linear function: the span of
    ``|nu_g . x|`` on each hyperplane's samples, and of X.
    """
    if cells.n_hyperplanes == cells.n and np.min(cells.norms) > ROUNDING * np.max(cells.norms):
        return np.eye(cells.n)
    even = np.zeros((cells.n, cells.n_hyperplanes))
    even[np.arange(cells.n), cells.index] = cells.norms
    return orthonormal(np.concatenate([even, cells.X], axis=1))


def orthonormal(columns: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis of the column space, by its singular values."""
    sizes = np.linalg.norm(columns, axis=0)
    # Scaling lets coordinates of any size count; what is rounding must not be scaled up.
    kept = sizes > ROUNDING * sizes.max(initial=0.0)
    columns = columns[:, kept] / sizes[kept]
    if columns.shape[1] == 0:
        return np.zeros((len(columns), 0))
    u, s, _ = np.linalg.svd(columns, full_matrices=False)
    return u[:, s > RANK * s[0]]


def least_squares_residual(y: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Return ``(I - P) y`` for the span of an orthonormal basis (projected twice)."""
    r = y - basis @ (basis.T @ y)
    return r - basis @ (basis.T @ r)
