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

from flowsim.engines.piecewise.codes import slope_at
from flowsim.engines.piecewise.jit import allocating, borrowed, compiled, summing
from flowsim.engines.piecewise.margins import project_all

#: Vectors are parallel up to so much of themselves.
PARALLEL = 1e-14


@compiled
def coefficients(on, slope, out):  # pragma: no cover - compiled
    """Write the slopes of sigma (n,) for the activation codes `on` (n,), 0 on slides."""
    for k in range(out.shape[0]):
        out[k] = slope_at(on[k], slope)


@allocating
def add_up(  # pragma: no cover - compiled
    order, rows, x, steep, middle, end, unit, weight, slope, o0, o1, X, norms, orientation,
    first, samples, on, felt, strength, halfway, whole,
):  # fmt: skip
    """Go through the crossings, listed by time in `order`, for the samples from o0 to o1 alone.

    X (d, n); samples[first[g] : first[g+1]] are those of hyperplane g; on (K, n), the activation
    codes of the walkers at the start, are overwritten. Of each row felt (R, 2) receives by
    how much the neuron has been turned along the normal by then, and by how much more than in the
    cell behind; strength (R,) a bound on what v adds to the rate of any field: the samples' parts
    of them. Those of whole (n,) receive P at the end, those of halfway (n,) Q at the time `middle`.
    Times are in units, and fields those of an expansion's units.
    """
    rows, x, steep, X, on = borrowed((rows, x, steep, X, on))
    d, n, scale = X.shape[0], o1 - o0, weight * unit * unit
    sums, c, seen, some = np.zeros((4, n)), np.empty(n), np.empty(n), X[:, o0:o1]
    begun = x[order[0]] if order.shape[0] > 0 else 0.0
    passed = False
    for i in order:
        k, g, s = rows[i, 0], rows[i, 2], x[i] - begun
        if not passed and x[i] > middle:
            _third(middle - begun, sums, unit, halfway[o0:o1])
            passed = True
        mass, behind = steep[i, 0], steep[i, 2]
        coefficients(on[k, o0:o1], slope, c)
        felt[i], strength[i] = 0.0, 0.0
        if mass > 0.0:
            bend = steep[i, 3 + d :]
            project_all(some, steep[i, 3 : 3 + d], seen)
            felt[i, 0] = scale * _met(s, sums, c, seen)
            times = _multiple(steep[i, 3 : 3 + d], bend)
            if np.isnan(times):  # slides have begun or ended
                times = 1.0
                project_all(some, bend, seen)
            strength[i] = scale * mass * abs(times) * _size(c, seen, norms[o0:o1])
            _bend(-mass * times, s, c, seen, sums)
        for at in range(first[g], first[g + 1]):
            o = samples[at] - o0
            if not 0 <= o < n:
                continue
            through = orientation[samples[at]] * norms[samples[at]]
            on[k, samples[at]] = rows[i, 4] * orientation[samples[at]]
            other = slope_at(on[k, samples[at]], slope) - c[o]
            p = 0.5 * (s * (s * sums[0, o] - 2.0 * sums[1, o]) + sums[2, o])
            felt[i, 1] -= scale * other * through * p
            v = -mass * other * behind * through
            strength[i] += scale * abs(v) * norms[samples[at]]
            sums[0, o] += v
            sums[1, o] += v * s
            sums[2, o] += v * s * s
            sums[3, o] += v * s * s * s
    if not passed:
        _third(middle - begun, sums, unit, halfway[o0:o1])
    s = end - begun
    for o in range(n):
        whole[o0 + o] = 0.5 * unit * (s * (s * sums[0, o] - 2.0 * sums[1, o]) + sums[2, o])


@allocating
def shape_of(order, x, strength, middle, end, shape):  # pragma: no cover - compiled
    """Write which part of what is of third order has been added by each crossing in `order`.

    As of its `strength` (R,), of which the third order grows with the cube of the time since.
    Returns which part has been added by the time `middle`.
    """
    cubes, by_then = np.zeros(4), -1.0
    begun = x[order[0]] if order.shape[0] > 0 else 0.0
    for i in order:
        s = x[i] - begun
        if by_then < 0.0 and x[i] > middle:
            by_then = _cubic(middle - begun, cubes)
        shape[i] = _cubic(s, cubes)
        for q in range(4):
            cubes[q] += strength[i] * s**q
    if by_then < 0.0:
        by_then = _cubic(middle - begun, cubes)
    at_end = _cubic(end - begun, cubes)
    for i in order:
        shape[i] = min(shape[i] / at_end, 1.0) if at_end > 0.0 else 0.0
    return min(by_then / at_end, 1.0) if at_end > 0.0 else 0.0


@compiled
def _multiple(a, b):  # pragma: no cover - compiled
    """Return f where ``b = f a`` up to rounding; nan where it is not."""
    aa, ab, bb = 0.0, 0.0, 0.0
    for i in range(a.shape[0]):
        aa += a[i] ** 2
        ab += a[i] * b[i]
        bb += b[i] ** 2
    if not aa > 0.0:
        return np.nan
    f, left = ab / aa, 0.0
    for i in range(a.shape[0]):
        left += (b[i] - f * a[i]) ** 2
    return f if left <= PARALLEL**2 * bb else np.nan


@compiled
def _third(s, sums, unit, out):  # pragma: no cover - compiled
    """Write Q at `s`."""
    for o in range(out.shape[0]):
        cube = s * (s * (s * sums[0, o] - 3.0 * sums[1, o]) + 3.0 * sums[2, o]) - sums[3, o]
        out[o] = unit * cube / 6.0


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
