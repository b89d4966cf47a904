"""The quintic Hermite interpolant of a step: dense output and the polynomials of its events.

From value, velocity and acceleration at both ends of a step of length h,

    p(tau) = sum_i c_i tau^i,  i = 0..5,

with an error of ``h^6/46080 max|y^(6)|``: below the local error of the steps that make it, for
methods of order five and more. No method's own interpolant is needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def coefficients(before: Any, after: Any, h: float) -> np.ndarray:
    """Return the power coefficients (6, ...) in tau/h of the interpolant on [0, 1].

    Parameters
    ----------
    before, after : triples of arrays (...)
        Value, velocity and acceleration at the ends.
    h : float
        Length of the step.
    """
    p0, v0, a0 = (np.asarray(x, dtype=np.float64) for x in before)
    p1, v1, a1 = (np.asarray(x, dtype=np.float64) for x in after)
    v0, v1, a0, a1 = h * v0, h * v1, h * h * a0, h * h * a1
    rise = p1 - p0
    return np.array(
        [
            p0,
            v0,
            0.5 * a0,
            10.0 * rise - 6.0 * v0 - 4.0 * v1 - 1.5 * a0 + 0.5 * a1,
            -15.0 * rise + 8.0 * v0 + 7.0 * v1 + 1.5 * a0 - a1,
            6.0 * rise - 3.0 * (v0 + v1) - 0.5 * (a0 - a1),
        ]
    )


def bernstein(before: Any, after: Any, h: Any) -> tuple[Any, ...]:
    """Return the six Bernstein coefficients of the interpolant, for NumPy or JAX arrays.

    The interpolant lies between the smallest and the largest of them: where all are
    positive, it is.
    """
    p0, v0, a0 = before
    p1, v1, a1 = after
    return (
        p0,
        p0 + (h / 5.0) * v0,
        p0 + (2.0 * h / 5.0) * v0 + (h * h / 20.0) * a0,
        p1 - (2.0 * h / 5.0) * v1 + (h * h / 20.0) * a1,
        p1 - (h / 5.0) * v1,
        p1,
    )


def evaluate(c: np.ndarray, x: float) -> np.ndarray:
    """Return the value at ``tau = x h``."""
    value = c[-1]
    for lower in c[-2::-1]:
        value = value * x + lower
    return value
