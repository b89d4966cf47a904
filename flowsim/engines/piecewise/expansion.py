"""Taylor expansion of all neurons inside their cells, compiled.

In a cell the flow is polynomial, and neurons of one cell share a linear flow:

    D_i     = P weight sum_k c_k r_{i,k} x_k,
    a_{i+1} = 1/(i+1) sum_l D_l . w_{i-l},   w_{i+1} = 1/(i+1) sum_l D_l a_{i-l},
    r_i     = [i=0] y - sum_j sum_l a_{j,l} (c_j . w_{j,i-l} x).

In powers of time / unit, a_{i+1} and w_{i+1} have the factor unit.

A group (one cell) carries as many *columns* as are needed: its members
themselves, or from d+1 members on the unit vectors, of which every member is a
combination. Arrays over columns and groups are flat, with offsets. Groups are taken in
blocks of `BLOCK`, whose outputs are summed block by block: the result does not depend on
how many threads take them.
"""

from __future__ import annotations

import math

import numpy as np

from flowsim.engines.piecewise.jit import allocating, compiled, summing
from flowsim.engines.piecewise.kin import BLOCK, add_outputs, field_of

#: In steps of up to so many units of time no coefficient that counts, or its square, underflows.
FAR = 2.0**20
#: Below this part of what it could be, the speed of a group is summed over its members: the form of
#: its moments has lost digits.
CANCELLED = 1e-3


def time_unit(rate: float) -> float:
    """Return the power of two, which rounds nothing, at or below ``1 / rate``; 1 for rate 0."""
    if not rate > 0.0:
        return 1.0
    _, exponent = math.frexp(min(rate, 2.0**1000))
    return math.ldexp(1.0, -max(exponent, -1000))


@summing
def outputs(X, U, out):  # pragma: no cover - compiled
    """Write ``X[:, k] . U[:, k]`` (n,); X (d, n)."""
    d, n = X.shape
    out[:] = 0.0
    for s in range(d):
        for k in range(n):
            out[k] += X[s, k] * U[s, k]


@allocating
def sum_of_products(slope, on, active, kin, start, members, z, mass, q0, q1, U):  # pragma: no cover
    """Add the outputs of groups q0 to q1 at the present state to U (d, n)."""
    d = U.shape[0]
    V = np.zeros((q1 - q0, d))
    for q in range(q0, q1):
        v = V[q - q0]
        for u in range(start[q], start[q + 1]):
            j = members[u]
            f = mass[j] * z[j, 0]
            for i in range(d):
                v[i] += f * z[j, 1 + i]
    add_outputs(slope, on, active, kin, q0, q1, V, U)


@compiled
def fields(  # pragma: no cover - compiled
    slope, on, kin, T, projected, projector, active, q0, q1, i, base, D
):
    """Write coefficient i of D (d,) of groups q0 to q1: before and after their projections."""
    d = T.shape[0]
    for q in range(q0, q1):
        g = active[q]
        field_of(q, slope, on, active, kin, T, i, base)
        for s in range(d):
            D[q, i, s] = base[q, i, s]
            if projected[g]:
                D[q, i, s] = 0.0
                for u in range(d):
                    D[q, i, s] += projector[g, s, u] * base[q, i, u]


@allocating
def weigh(  # pragma: no cover - compiled
    start, members, z, exponent, mass, wide, block, parts, u0, u1
):
    """Write the masses of members u0 to u1, and the moments of large groups' members to `parts`.

    Those of group q among the members of a block, from one multiple of `block` on to the next,
    are parts[wide[q] + block's number]; u0 is a multiple, and u1 one or the end.
    """
    n, bits, q = z.shape[1], mass.view(np.int64), np.searchsorted(start, u0, side="right") - 1
    while u0 < u1:
        while start[q + 1] <= u0:
            q += 1
        end = min(start[q + 1], (u0 // block + 1) * block)
        for u in range(u0, end):  # the bits of a power of two, as `State.mass` has them
            j = members[u]
            bits[j] = min(max(2 * exponent[j] + 1023, 0), 2046) << 52
        if start[q + 1] - start[q] > n:
            part = parts[wide[q] + u0 // block]
            part[:] = 0.0
            for u in range(u0, end):
                j = members[u]
                for b in range(n):
                    f = mass[j] * z[j, b]
                    for c in range(b + 1):
                        part[b, c] += f * z[j, c]
        u0 = end


@compiled
def load_columns(  # pragma: no cover - compiled
    start, members, z, mass, A, W, AQ, Q, first, wide, block, parts, sizes, q0, q1
):
    """Set the zeroth coefficients of the columns of groups q0 to q1, and the large ones' moments.

    first (groups+1,) has the offsets of the groups' columns, wide (groups,) where Q holds a large
    group's moments, of which `weigh` has written the parts. sizes (groups,) receives sums of
    |z_j|^2 with the masses.
    """
    d = W.shape[2]
    for q in range(q0, q1):
        c0, count = first[q], start[q + 1] - start[q]
        sizes[q] = 0.0
        if count <= d + 1:
            for b in range(count):
                j = members[start[q] + b]
                A[c0 + b, 0] = z[j, 0]
                for i in range(d):
                    W[c0 + b, 0, i] = z[j, 1 + i]
                AQ[c0 + b, 0] = mass[j] * z[j, 0]
                for i in range(d + 1):
                    sizes[q] += mass[j] * z[j, i] ** 2
            continue
        moments = Q[wide[q]]
        moments[:] = 0.0
        for part in range(start[q] // block, (start[q + 1] - 1) // block + 1):
            moments += parts[wide[q] + part]
        for b in range(d + 1):
            sizes[q] += moments[b, b]
            for c in range(b):
                moments[c, b] = moments[b, c]
        for b in range(d + 1):
            A[c0 + b, 0] = 1.0 if b == 0 else 0.0
            for i in range(d):
                W[c0 + b, 0, i] = 1.0 if b == i + 1 else 0.0
            AQ[c0 + b, 0] = moments[0, b]


@allocating
def sum_of_columns(slope, on, active, kin, q0, q1, AQ, W, first, U):  # pragma: no cover - compiled
    """Add the outputs of groups q0 to q1 to U (d, n): those of `sum_of_products`."""
    d = U.shape[0]
    V = np.zeros((q1 - q0, d))
    for q in range(q0, q1):
        v = V[q - q0]
        for c in range(first[q], first[q + 1]):
            for i in range(d):
                v[i] += AQ[c, 0] * W[c, 0, i]
    add_outputs(slope, on, active, kin, q0, q1, V, U)


@compiled
def recurrence(i, unit, D, A, W):  # pragma: no cover - compiled
    """Write coefficient i+1 of one column: z_{i+1} = unit sum_l M(D_l) z_{i-l} / (i+1).

    Coefficients that D does not have are zero.
    """
    d = W.shape[1]
    terms = min(i + 1, D.shape[0])
    a = 0.0
    for o in range(terms):
        for s in range(d):
            a += D[o, s] * W[i - o, s]
    A[i + 1] = unit * a / (i + 1)
    for s in range(d):
        x = 0.0
        for o in range(terms):
            x += D[o, s] * A[i - o]
        W[i + 1, s] = unit * x / (i + 1)


@allocating
def next_order(  # pragma: no cover - compiled
    i, unit, slope, frozen, on, active, kin, start, members, mass, q0, q1, D, A, W, AQ, Q, first,
    wide, U,
):  # fmt: skip
    """Write coefficient i+1 of the columns of groups q0 to q1; add their outputs' to U (d, n)."""
    d = W.shape[2]
    V = np.zeros((q1 - q0, d))
    for q in range(q0, q1):
        c0, c1 = first[q], first[q + 1]
        for c in range(c0, c1):
            recurrence(i, unit, D[q], A[c], W[c])
        if frozen:
            continue
        count = start[q + 1] - start[q]
        if count <= d + 1:
            for b in range(count):
                AQ[c0 + b, i + 1] = mass[members[start[q] + b]] * A[c0 + b, i + 1]
        else:
            for b in range(d + 1):
                AQ[c0 + b, i + 1] = 0.0
                for c in range(d + 1):
                    AQ[c0 + b, i + 1] += A[c0 + c, i + 1] * Q[wide[q], c, b]
        v = V[q - q0]
        for c in range(c0, c1):
            for o in range(i + 2):
                f = AQ[c, o]
                for s in range(d):
                    v[s] += f * W[c, i + 1 - o, s]
    if not frozen:
        add_outputs(slope, on, active, kin, q0, q1, V, U)


@compiled
def moments_of(X, weight, r, T):  # pragma: no cover - compiled
    """Write ``weight r_k x_k`` (d, n); X (d, n)."""
    for s in range(X.shape[0]):
        for k in range(X.shape[1]):
            T[s, k] = weight * r[k] * X[s, k]


@allocating
def expand(  # pragma: no cover - compiled
    order, unit, X, weight, slope, frozen, on, kin, projected, projector, active, start, members,
    mass, r, base, D, A, W, AQ, Q, first, wide, T, U,
):  # fmt: skip
    """Write the Taylor coefficients up to `order` of r, D and all columns, on one thread.

    r (order+1, n) comes with r[0] set; base and D (groups, order+1, d), before and after
    the projection onto the slides, with [:, 0] set by `fields`. A (columns, order+1),
    W (columns, order+1, d), their zeroth coefficients and `first` and `wide` set by
    `load_columns`. In frozen mode r stays r[0]. The coefficients are those of powers of
    time / unit: in the flow's own unit they neither under- nor overflow. T, U (d, n) are
    working memory; X (d, n).
    """
    groups = active.shape[0]
    part, h = np.empty_like(U), np.empty(X.shape[1])
    for i in range(order + 1):
        if i > 0 and frozen:
            base[:groups, i] = 0.0
            D[:groups, i] = 0.0
        elif i > 0:
            moments_of(X, weight, r[i], T)
            fields(slope, on, kin, T, projected, projector, active, 0, groups, i, base, D)
        if i == order:
            break
        U[:] = 0.0
        for q0 in range(0, groups, BLOCK):
            part[:] = 0.0
            next_order(
                i, unit, slope, frozen, on, active, kin, start, members, mass, q0,
                min(q0 + BLOCK, groups), D, A, W, AQ, Q, first, wide, part,
            )  # fmt: skip
            U += part
        outputs(X, U, h)
        for k in range(X.shape[1]):
            r[i + 1, k] = -h[k]


@compiled
def sides(index, minus, plus, r, ends):  # pragma: no cover - compiled
    """Write what hyperplanes add to D on their sides, ends (2, G, order+1), from r (order+1, n).

    minus and plus (n,) are what a sample's unit residual adds on either side.
    """
    ends[:] = 0.0
    for k in range(index.shape[0]):
        for o in range(r.shape[0]):
            ends[0, index[k], o] += minus[k] * r[o, k]
            ends[1, index[k], o] += plus[k] * r[o, k]


@compiled
def speed(start, members, z, mass, Q, wide, D):  # pragma: no cover - compiled
    """Return ``sum_j |z_j'|^2 = sum_j (w_j . D_j)^2 + a_j^2 |D_j|^2`` with the masses."""
    d, total = D.shape[2], 0.0
    for q in range(D.shape[0]):
        field, moving, size, dd = D[q, 0], 0.0, 0.0, 0.0
        for i in range(d):
            dd += field[i] ** 2
        if start[q + 1] - start[q] > d + 1:
            moments = Q[wide[q]]
            moving, size = moments[0, 0] * dd, moments[0, 0]
            for i in range(d):
                size += moments[1 + i, 1 + i]
                for s in range(d):
                    moving += field[i] * moments[1 + i, 1 + s] * field[s]
        if moving <= CANCELLED * size * dd:
            moving = 0.0
            for u in range(start[q], start[q + 1]):
                j, wd = members[u], 0.0
                for i in range(d):
                    wd += z[j, 1 + i] * field[i]
                moving += mass[j] * (wd * wd + z[j, 0] ** 2 * dd)
        total += moving
    return total


@compiled
def step_size(  # pragma: no cover - compiled
    order, unit, tolerance, first, groups, A, W, D, r, frozen
):
    """Largest step whose last two terms are within `tolerance` of every neuron and of y.

    Columns have norm of order one and y is, so all is relative; where the output far
    exceeds y, its error is relative to the residual. In units of `unit`. A shrinking
    neuron loses ``exp(2 |D| h)`` digits in a step, hence ``|D| h <= 2``.
    """
    columns = first[groups]
    d = W.shape[2]
    h = np.inf
    largest = 1.0
    for k in range(r.shape[1]):
        largest = max(largest, abs(r[0, k]))
    for q in range(order - 1, order + 1):
        worst = 0.0
        for c in range(columns):
            s = A[c, q] ** 2
            for i in range(d):
                s += W[c, q, i] ** 2
            worst = max(worst, s)
        worst = np.sqrt(worst)
        if not frozen:
            for k in range(r.shape[1]):
                worst = max(worst, abs(r[q, k]) / largest)
        if worst > 0.0:
            h = min(h, (tolerance / worst) ** (1.0 / q))
    for g in range(groups):
        s = 0.0
        for i in range(d):
            s += (unit * D[g, 0, i]) ** 2
        if s > 0.0:
            h = min(h, 2.0 / np.sqrt(s))
    return h
