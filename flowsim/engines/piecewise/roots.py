"""First-root isolation of polynomials in the Bernstein basis, compiled.

A polynomial without a sign change among its Bernstein coefficients on an interval
has no root there (Descartes' rule of signs); with one it has exactly one. De
Casteljau subdivision, left half first, thus finds the *first* root: two crossings
inside a step cannot hide each other.
"""

from __future__ import annotations

import numpy as np

from flowsim.engines.piecewise.jit import allocating, compiled

#: Subdivision stops at 2**-MAX_DEPTH of the interval: two roots closer are a touch.
MAX_DEPTH = 48


@allocating
def binomials(degree):  # pragma: no cover - compiled
    """Return (degree+1, degree+1) Pascal triangle."""
    table = np.zeros((degree + 1, degree + 1))
    for i in range(degree + 1):
        table[i, 0] = 1.0
        for j in range(1, i + 1):
            table[i, j] = table[i - 1, j - 1] + table[i - 1, j]
    return table


@compiled
def horner(c, x):  # pragma: no cover - compiled
    """Evaluate ``sum_i c[i] x**i``."""
    value = c[-1]
    for i in range(c.shape[0] - 2, -1, -1):
        value = value * x + c[i]
    return value


@compiled
def _bisect(c, low, high):  # pragma: no cover - compiled
    """Refine a bracket with c(low) > 0 >= c(high) to the last bit (secant-guarded)."""
    f_low, f_high = horner(c, low), horner(c, high)
    if f_low <= 0.0:
        return low
    if f_high > 0.0:
        return high
    for iteration in range(200):
        if iteration % 3 == 2 or f_low == f_high:
            mid = 0.5 * (low + high)
        else:
            mid = low + (high - low) * (f_low / (f_low - f_high))
        if not (low < mid < high):
            mid = 0.5 * (low + high)
            if not (low < mid < high):
                break
        f = horner(c, mid)
        if f > 0.0:
            low, f_low = mid, f
        else:
            high, f_high = mid, f
            if f == 0.0:
                break
    return high


@allocating
def first_root(c, table):  # pragma: no cover - compiled
    """Return the smallest x in (0, 1] with ``c(x) <= 0`` given ``c(0) > 0``, or -1.

    `c` (p+1,) are power coefficients scaled to the unit interval, `table` the
    binomials of degree p or more.
    """
    return _first_root(c, table, np.empty(c.shape[0]))


@compiled
def _first_root(c, table, basis):  # pragma: no cover - compiled
    p = c.shape[0] - 1
    _bernstein(c, table, basis)
    changes = _changes(basis)
    if changes == 0:
        return 0.0 if basis[0] <= 0.0 else -1.0
    if changes == 1 and basis[p] <= 0.0:
        return _bisect(c, 0.0, 1.0)
    return _first_of_many(c, basis)


@compiled
def _bernstein(c, table, out):  # pragma: no cover - compiled
    """Write the Bernstein coefficients on [0, 1]."""
    p = c.shape[0] - 1
    out[:] = c[0]
    for i in range(1, p + 1):
        f = c[i] / table[p, i]
        for j in range(i, p + 1):
            out[j] += table[j, i] * f


@compiled
def _changes(b):  # pragma: no cover - compiled
    changes = 0
    for j in range(b.shape[0] - 1):
        changes += (b[j] > 0.0) != (b[j + 1] > 0.0)
    return changes


@allocating
def _first_of_many(c, b):  # pragma: no cover - compiled
    """Return the first root of a polynomial c with Bernstein coefficients b, or -1."""
    p = c.shape[0] - 1
    stack = np.empty((MAX_DEPTH + 2, p + 1))
    start = np.empty(MAX_DEPTH + 2)
    width = np.empty(MAX_DEPTH + 2)
    stack[0] = b
    start[0], width[0] = 0.0, 1.0
    top = 0
    smallest = 0.5**MAX_DEPTH
    while top >= 0:
        changes = _changes(stack[top])
        if changes == 0:
            if stack[top, 0] <= 0.0:
                return start[top]
            top -= 1
            continue
        if changes == 1 and stack[top, p] <= 0.0:
            return _bisect(c, start[top], start[top] + width[top])
        if width[top] <= smallest:
            return start[top] + width[top]
        half = 0.5 * width[top]
        # De Casteljau: the right half stays at `top`, the left goes above it.
        for j in range(p + 1):
            stack[top + 1, j] = stack[top, j]
        work = stack[top + 1]
        right = stack[top]
        right[p] = work[p]
        for level in range(1, p + 1):
            for j in range(p, level - 1, -1):
                work[j] = 0.5 * (work[j] + work[j - 1])
            right[p - level] = work[p]
        # `work` now holds the left half's coefficients.
        start[top + 1], width[top + 1] = start[top], half
        start[top] += half
        width[top] = half
        top += 1
    return -1.0


@allocating
def first_exit(c, side, touch, table):  # pragma: no cover - compiled
    """Return the first x in [0, 1] at which ``side * c`` falls to zero, or -1.

    A value within `touch` of zero at the start is a root at 0 that has been dealt with
    (the last event), or one that only rounding could find: it has left when it is
    `touch` on the wrong side. So every event takes the flow on, and a quantity that tends
    to zero without crossing it never counts as having crossed.
    """
    return exit_of(c.copy(), side, touch, table, np.empty(c.shape[0]))


@compiled
def exit_of(c, side, touch, table, basis):  # pragma: no cover - compiled
    """Return what `first_exit` does; c is lost, and basis (p+1,) working memory."""
    for i in range(c.shape[0]):
        c[i] *= side
    if c[0] < -touch:
        return 0.0
    if c[0] > touch:
        return _first_root(c, table, basis)
    start = c[0]
    c[0] += 2.0 * touch
    x = _first_root(c, table, basis)
    if x <= 0.0:
        return x
    c[0] = start
    return _back_to_zero(c, x)


@compiled
def _back_to_zero(c, x):  # pragma: no cover - compiled
    """Move from just behind a falling zero of `c` onto it (Newton); else return x."""
    found = x
    for _ in range(3):
        slope = 0.0
        value = c[-1]
        for i in range(c.shape[0] - 2, -1, -1):
            slope = slope * found + value
            value = value * found + c[i]
        if slope >= 0.0:
            return x
        found -= value / slope
        if not 0.5 * x < found <= x:
            return x
    return found
