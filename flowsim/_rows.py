"""Norms of many short rows: NumPy takes them row by row, which costs far more than the sums."""

from __future__ import annotations

import numpy as np

#: NumPy adds fewer columns than these one after another, as is done here: to the same bits.
NARROW = 8


def squares(rows: np.ndarray) -> np.ndarray:
    """Return the sums of squares (m,) of rows (m, k)."""
    if rows.shape[1] >= NARROW:
        return np.sum(rows**2, axis=1)
    total = np.zeros(len(rows))
    for column in rows.T:
        total += column**2
    return total


def norms(rows: np.ndarray) -> np.ndarray:
    """Return the norms (m,) of rows (m, k)."""
    return np.sqrt(squares(rows))


def units(rows: np.ndarray) -> np.ndarray:
    """Return rows (m, k) of norm one; nan for rows of zeros."""
    with np.errstate(invalid="ignore"):
        return rows / norms(rows)[:, None]


def largest(rows: np.ndarray) -> np.ndarray:
    """Return the largest absolute entry (m,) of each row (m, k), k > 0."""
    if rows.shape[1] >= NARROW:
        return np.max(np.abs(rows), axis=1)
    top = np.abs(rows[:, 0])
    for column in rows.T[1:]:
        np.maximum(top, np.abs(column), out=top)
    return top
