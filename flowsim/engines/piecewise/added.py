"""What crossings have added to the residual by the time of a later one, to leading order; compiled.

A neuron that crosses hyperplane g at x_j changes the rate of its outputs at once, by

    v_jk = -a^2 (c'_k D' - c_k D) . x_k,

c and D before, c' and D' behind it: off g all outputs bend with the neuron's field, on g they do
since the neuron leaves or enters them. So the integral of delta (`feedback`) is by x

    P_k(x) = sum_{x_j < x} v_jk (x - x_j)^2 / 2,

up to what is of third order in the time since. Most of that is what K has made of it
(`feedback`), ``-K Q`` with Q_k(x) = sum_{x_j < x} v_jk (x - x_j)^3 / 6.
"""

from __future__ import annotations

import numpy as np

from flowsim.engines.piecewise.jit import compiled, summing
from flowsim.engines.piecewise.margins import project_all


@compiled
def slope_at(side, slope):  # pragma: no cover - compiled
    """Return the slope of sigma on a side, 0 on a slide."""
    return 1.0 * (side > 0.0) + slope * (side < 0.0)


@compiled
def coefficients(code, index, orientation, slope, out):  # pragma: no cover - compiled
    """Write the slopes of sigma (n,) at the samples in a cell, 0 on slides."""
    for k in range(out.shape[0]):
        out[k] = slope_at(code[index[k]] * orientation[k], slope)


@compiled
def add_up(  # pragma: no cover - compiled
    order, rows, x, steep, middle, end, unit, weight, slope, X, norms, index, orientation, first,
    samples, codes, felt, strength, shape, halfway, whole,
):  # fmt: skip
    """Go through the crossings, listed by time in `order`.

    X (d, n); samples[first[g] : first[g+1]] are those of hyperplane g; codes (K, G), those of
    the walkers at the start, are overwritten. Of each row felt (R, 2) receives by
    how much the neuron has been turned along the normal by then, and by how much more than in the
    cell behind; strength (R,) a bound on what v adds to the rate of any field; shape (R,) which
    part of what is of third order, as of its strength, has been added. whole (n,) receives P at
    the end, halfway (n,) Q at the time `middle`; returns which part has been added by then. Times
    are in units, and fields those of an expansion's units.
    """
    d, n, scale = X.shape[0], X.shape[1], weight * unit * unit
    sums, c, seen, cubes = np.zeros((4, n)), np.empty(n), np.empty(n), np.zeros(4)
    begun = x[order[0]] if order.shape[0] > 0 else 0.0
    by_then = -1.0
    for i in order:
        k, g, s = rows[i, 0], rows[i, 2], x[i] - begun
        if by_then < 0.0 and x[i] > middle:
            by_then = _third(middle - begun, sums, cubes, unit, halfway)
        mass, behind = steep[i, 0], steep[i, 2]
        coefficients(codes[k], index, orientation, slope, c)
        felt[i], strength[i], shape[i] = 0.0, 0.0, _cubic(s, cubes)
        if mass > 0.0:
            project_all(X, steep[i, 3 : 3 + d], seen)
            felt[i, 0] = scale * _met(s, sums, c, seen)
            project_all(X, steep[i, 3 + d :], seen)
            strength[i] = scale * mass * _size(c, seen, norms)
            _bend(-mass, s, c, seen, sums)
        for at in range(first[g], first[g + 1]):
            o = samples[at]
            through = orientation[o] * norms[o]
            other = slope_at(rows[i, 4] * orientation[o], slope) - c[o]
            p = 0.5 * (s * (s * sums[0, o] - 2.0 * sums[1, o]) + sums[2, o])
            felt[i, 1] -= scale * other * through * p
            v = -mass * other * behind * through
            strength[i] += scale * abs(v) * norms[o]
            sums[0, o] += v
            sums[1, o] += v * s
            sums[2, o] += v * s * s
            sums[3, o] += v * s * s * s
        for q in range(4):
            cubes[q] += strength[i] * s**q
        codes[k, g] = rows[i, 4]
    if by_then < 0.0:
        by_then = _third(middle - begun, sums, cubes, unit, halfway)
    s = end - begun
    at_end = _cubic(s, cubes)
    for i in order:
        shape[i] = min(shape[i] / at_end, 1.0) if at_end > 0.0 else 0.0
    for o in range(n):
        whole[o] = 0.5 * unit * (s * (s * sums[0, o] - 2.0 * sums[1, o]) + sums[2, o])
    return min(by_then / at_end, 1.0) if at_end > 0.0 else 0.0


@compiled
def _third(s, sums, cubes, unit, out):  # pragma: no cover - compiled
    """Write Q at `s`; return how much of third order, by its strength, has been added by then."""
    for o in range(out.shape[0]):
        cube = s * (s * (s * sums[0, o] - 3.0 * sums[1, o]) + 3.0 * sums[2, o]) - sums[3, o]
        out[o] = unit * cube / 6.0
    return _cubic(s, cubes)


@compiled
def _cubic(s, sums):  # pragma: no cover - compiled
    """Return ``sum_j f_j (s - s_j)^3`` of ``sums[q] = sum_j f_j s_j^q``."""
    value = s * (s * (s * sums[0] - 3.0 * sums[1]) + 3.0 * sums[2]) - sums[3]
    return max(value, 0.0)


@summing
def _met(s, sums, c, seen):  # pragma: no cover - compiled
    """Return ``sum_k c_k seen_k P_k``."""
    total = 0.0
    for k in range(c.shape[0]):
        p = s * (s * sums[0, k] - 2.0 * sums[1, k]) + sums[2, k]
        total += c[k] * seen[k] * p
    return 0.5 * total


@summing
def _size(c, seen, norms):  # pragma: no cover - compiled
    total = 0.0
    for k in range(c.shape[0]):
        total += c[k] * abs(seen[k]) * norms[k]
    return total


@summing
def _bend(f, s, c, seen, sums):  # pragma: no cover - compiled
    """Add the jump ``f c_k seen_k`` of all rates at `s`."""
    for k in range(c.shape[0]):
        v = f * c[k] * seen[k]
        sums[0, k] += v
        sums[1, k] += v * s
        sums[2, k] += v * s * s
        sums[3, k] += v * s * s * s
