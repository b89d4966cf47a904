"""The Taylor expansion of one neuron in its cell, as far as its next event may be; compiled."""

from __future__ import annotations

import numpy as np

from flowsim.engines.piecewise.expansion import recurrence
from flowsim.engines.piecewise.jit import compiled, inlined

#: Part of the tolerance by which what is left out of the field may move a neuron in a step.
NEGLIGIBLE = 1e-2


@compiled
def shift(c, x, out):  # pragma: no cover - compiled
    """Write the coefficients (p, d) of ``c(x + s)`` in powers of s."""
    p, d = c.shape
    for o in range(p):
        for i in range(d):
            out[o, i] = c[o, i]
    for k in range(p - 1):
        for o in range(p - 2, k - 1, -1):
            for i in range(d):
                out[o, i] += x * out[o + 1, i]


@inlined
def vector_at(c, x, out):  # pragma: no cover - compiled
    """Write ``sum_o c[o] x**o`` (d,) of coefficients (p, d)."""
    p, d = c.shape
    for i in range(d):
        out[i] = c[p - 1, i]
    for o in range(p - 2, -1, -1):
        for i in range(d):
            out[i] = out[i] * x + c[o, i]


@compiled
def terms_of(end, unit, tolerance, base):  # pragma: no cover - compiled
    """Return how many coefficients of D (order+1, d) a neuron notices up to `end`."""
    p, tail = base.shape[0], 0.0
    power = end ** (p - 1)
    while p > 1:
        size = 0.0
        for i in range(base.shape[1]):
            size += abs(base[p - 1, i])
        if size != 0.0:
            tail += size * power
        if not tail * unit * end <= NEGLIGIBLE * tolerance:
            break
        p -= 1
        power /= end
    return p


@compiled
def onto_slides(rank, basis, w):  # pragma: no cover - compiled
    """Project w (d,), a view, onto the slides (twice is enough)."""
    for _ in range(2 if rank > 0 else 0):
        for r in range(rank):
            s = 0.0
            for i in range(w.shape[0]):
                s += basis[r, i] * w[i]
            for i in range(w.shape[0]):
                w[i] -= s * basis[r, i]


@inlined
def expand(  # pragma: no cover - compiled
    h, terms, unit, tolerance, x, z, rank, basis, base, local, D, a, w
):
    """Write the neuron's polynomials from x on; return for how long they hold, and their length.

    They hold no longer than `h`, and have no more coefficients than that takes (all, where it
    is infinite); the others are zero. D has so many `terms`. The cells that the
    neuron enters may be faster than those that the step's length comes from.
    """
    order, d = a.shape[0] - 1, w.shape[1]
    local, D = local[:terms], D[:terms]
    shift(base[:terms], x, local)
    for o in range(terms):
        for i in range(d):
            D[o, i] = local[o, i]
    for o in range(terms if rank > 0 else 0):
        onto_slides(rank, basis, D[o])
    a[0] = z[0]
    for i in range(d):
        w[0, i] = z[1 + i]
    last, power, short = 0, h, False
    while last < order:
        recurrence(last, unit, D, a, w)
        last += 1
        before, short = short, _size(last, a, w) * power <= tolerance
        power *= h
        if before and short and last >= terms:
            break
    a[last + 1 :] = 0.0
    w[last + 1 :] = 0.0
    span = h if last < order else min(h, _span(order, tolerance, a, w))
    rate = 0.0
    for i in range(d):
        rate += D[0, i] ** 2
    span = min(span, 2.0 / (unit * np.sqrt(rate))) if rate > 0.0 else span
    return span, last + 1


@inlined
def _size(o, a, w):  # pragma: no cover - compiled
    s = a[o] ** 2
    for i in range(w.shape[1]):
        s += w[o, i] ** 2
    return np.sqrt(s)


@inlined
def _span(order, tolerance, a, w):  # pragma: no cover - compiled
    """Return for how long the last two terms are within `tolerance`."""
    span = np.inf
    for o in range(order - 1, order + 1):
        last = _size(o, a, w)
        if last > 0.0:
            span = min(span, (tolerance / last) ** (1.0 / o))
    return span
