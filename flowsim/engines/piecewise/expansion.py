"""Taylor expansion of all neurons inside their cells, compiled.

In a cell the flow is polynomial, and neurons of one cell share a linear flow:

    D_i     = P weight sum_k c_k r_{i,k} x_k,
    a_{i+1} = 1/(i+1) sum_l D_l . w_{i-l},   w_{i+1} = 1/(i+1) sum_l D_l a_{i-l},
    r_i     = [i=0] y - sum_j sum_l a_{j,l} (c_j . w_{j,i-l} x).

In powers of time / unit, a_{i+1} and w_{i+1} have the factor unit.

A group (one cell) carries as many *columns* as are needed: its members
themselves, or from d+1 members on the unit vectors, of which every member is a
combination. Arrays over columns and groups are flat, with offsets.
"""

from __future__ import annotations

import numpy as np
from numba import njit

#: In steps of up to so many units of time no coefficient that counts, or its square, underflows.
FAR = 2.0**20


def time_unit(rate: float) -> float:
    """Return the power of two, which rounds nothing, at or below ``1 / rate``; 1 for rate 0."""
    if not rate > 0.0:
        return 1.0
    return float(2.0 ** -np.clip(np.frexp(min(rate, 2.0**1000))[1], -1000, 1000))


@njit(cache=True)
def residual(X, y, coef, active, start, members, z, mass, r):  # pragma: no cover - compiled
    """Write ``r = y - h`` (n,) for the present state."""
    n, d = X.shape
    v = np.empty(d)
    r[:] = y
    for q in range(active.shape[0]):
        g = active[q]
        v[:] = 0.0
        for u in range(start[q], start[q + 1]):
            j = members[u]
            for i in range(d):
                v[i] += mass[j] * z[j, 0] * z[j, 1 + i]
        for k in range(n):
            if coef[g, k] != 0.0:
                s = 0.0
                for i in range(d):
                    s += X[k, i] * v[i]
                r[k] -= coef[g, k] * s


@njit(cache=True)
def _load_columns(wide, g_members, z, mass, d, A, W, AQ, Q, c0):  # pragma: no cover - compiled
    """Set the zeroth coefficients of a group's columns and its moment Q."""
    count = g_members.shape[0]
    if count <= d + 1:
        for b in range(count):
            j = g_members[b]
            A[c0 + b, 0] = z[j, 0]
            for i in range(d):
                W[c0 + b, 0, i] = z[j, 1 + i]
            AQ[c0 + b, 0] = mass[j] * z[j, 0]
        return count
    for b in range(d + 1):
        A[c0 + b, 0] = 1.0 if b == 0 else 0.0
        for i in range(d):
            W[c0 + b, 0, i] = 1.0 if b == i + 1 else 0.0
        for c in range(d + 1):
            Q[wide, b, c] = 0.0
    for j in g_members:
        for b in range(d + 1):
            for c in range(d + 1):
                Q[wide, b, c] += mass[j] * z[j, b] * z[j, c]
    for b in range(d + 1):
        AQ[c0 + b, 0] = Q[wide, 0, b]
    return d + 1


@njit(cache=True)
def _column_coefficients(i, unit, D, A, W, d):  # pragma: no cover - compiled
    """Write coefficient i+1 of one column: z_{i+1} = unit sum_l M(D_l) z_{i-l} / (i+1)."""
    a = 0.0
    for s in range(d):
        W[i + 1, s] = 0.0
    for o in range(i + 1):
        f = A[i - o]
        for s in range(d):
            a += D[o, s] * W[i - o, s]
            W[i + 1, s] += D[o, s] * f
    A[i + 1] = unit * a / (i + 1)
    for s in range(d):
        W[i + 1, s] = unit * W[i + 1, s] / (i + 1)


@njit(cache=True)
def _field(weight, X, coef, r, projected, projector, base, D):  # pragma: no cover - compiled
    """Write a coefficient of a group's D (d,): before and after the projection onto its slides."""
    n, d = X.shape
    for s in range(d):
        base[s] = 0.0
    for k in range(n):
        f = coef[k] * r[k]
        if f != 0.0:
            for s in range(d):
                base[s] += f * X[k, s]
    for s in range(d):
        base[s] *= weight
    for s in range(d):
        D[s] = base[s]
        if projected:
            D[s] = 0.0
            for u in range(d):
                D[s] += projector[s, u] * base[u]


@njit(cache=True)
def rates(  # pragma: no cover - compiled
    X, weight, frozen, coef, projected, projector, active, members, z, mass, r, base, D,
):  # fmt: skip
    """Write base[:, 0], D[:, 0]; return the largest |D_i| and a bound on all rates of the flow.

    Neurons change at rate |D_j|. Unless it is frozen, the residual changes by at most
    |x_k| sum_j |z_j|^2 |D_j|, and D so at a rate of at most weight sum_k |x_k|^2 sum_j |z_j|^2.
    """
    fastest = 0.0
    for q in range(active.shape[0]):
        g = active[q]
        _field(weight, X, coef[g], r, projected[g], projector[g], base[q, 0], D[q, 0])
        for s in range(X.shape[1]):
            fastest = max(fastest, abs(D[q, 0, s]))
    if frozen:
        return fastest, fastest
    size = 0.0
    for j in members:
        for s in range(z.shape[1]):
            size += mass[j] * z[j, s] ** 2
    return fastest, max(fastest, weight * np.sum(X**2) * size)


@njit(cache=True)
def _subtract_output(i, X, coef, AQ, W, v, r):  # pragma: no cover - compiled
    """Subtract a group's part of coefficient i of the outputs from r (n,)."""
    n, d = X.shape
    for s in range(d):
        v[s] = 0.0
    for c in range(W.shape[0]):
        for o in range(i + 1):
            f = AQ[c, o]
            for s in range(d):
                v[s] += f * W[c, i - o, s]
    for k in range(n):
        if coef[k] != 0.0:
            h = 0.0
            for s in range(d):
                h += X[k, s] * v[s]
            r[k] -= coef[k] * h


@njit(cache=True)
def expand(  # pragma: no cover - compiled
    order, unit, X, weight, frozen, coef, projected, projector, active, start, members, z,
    mass, r, base, D, A, W, AQ, Q, first,
):  # fmt: skip
    """Write the Taylor coefficients up to `order` of r, D and all columns.

    r (order+1, n) comes with r[0] set; base and D (groups, order+1, d), before and after
    the projection onto the slides, with [:, 0] set by `rates`. A (columns, order+1),
    W (columns, order+1, d); first (groups+1,) column offsets. In frozen mode r stays r[0].
    The coefficients are those of powers of time / unit: in the flow's own unit they
    neither under- nor overflow.
    """
    n, d = X.shape
    groups = active.shape[0]
    v = np.empty(d)
    wide = np.empty(groups, dtype=np.int64)  # where Q holds the moments of a large group
    next_wide = 0
    first[0] = 0
    for q in range(groups):
        wide[q] = next_wide
        block = members[start[q] : start[q + 1]]
        width = _load_columns(wide[q], block, z, mass, d, A, W, AQ, Q, first[q])
        first[q + 1] = first[q] + width
        if block.shape[0] > d + 1:
            next_wide += 1
    for i in range(1, order + 1):
        for k in range(n):
            r[i, k] = 0.0
    for i in range(order + 1):
        for q in range(groups):
            g = active[q]
            if i > 0 and frozen:
                base[q, i] = 0.0
                D[q, i] = 0.0
            elif i > 0:
                _field(weight, X, coef[g], r[i], projected[g], projector[g], base[q, i], D[q, i])
            if i == order:
                continue
            c0, c1 = first[q], first[q + 1]
            for c in range(c0, c1):
                _column_coefficients(i, unit, D[q], A[c], W[c], d)
            count = start[q + 1] - start[q]
            if count <= d + 1:
                for b in range(count):
                    AQ[c0 + b, i + 1] = mass[members[start[q] + b]] * A[c0 + b, i + 1]
            else:
                for b in range(d + 1):
                    AQ[c0 + b, i + 1] = 0.0
                    for c in range(d + 1):
                        AQ[c0 + b, i + 1] += A[c0 + c, i + 1] * Q[wide[q], c, b]
            if frozen:
                continue
            _subtract_output(i + 1, X, coef[g], AQ[c0:c1], W[c0:c1], v, r[i + 1])


@njit(cache=True)
def step_size(
    order, unit, tolerance, first, groups, A, W, D, r, frozen
):  # pragma: no cover - compiled
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


@njit(cache=True)
def advance(  # pragma: no cover - compiled
    tau, active, start, members, z, exponent, first, A, W, projected, projector,
    balance, gap, gap_exponent, sign,
):  # fmt: skip
    """Move all members by `tau`, onto their slides and onto a^2 - |w|^2 = const.

    Returns the largest relative correction of a^2 - |w|^2. The smaller of |a| and |w|
    is set from the larger, which does not amplify rounding.
    """
    order = A.shape[1] - 1
    d = W.shape[2]
    basis = np.empty((d + 1, d + 1))
    new = np.empty(d + 1)
    moved = np.empty(d)
    drift = 0.0
    for q in range(active.shape[0]):
        g = active[q]
        c0, width = first[q], first[q + 1] - first[q]
        for b in range(width):
            s = A[c0 + b, order]
            for o in range(order - 1, -1, -1):
                s = s * tau + A[c0 + b, o]
            basis[b, 0] = s
            for i in range(d):
                s = W[c0 + b, order, i]
                for o in range(order - 1, -1, -1):
                    s = s * tau + W[c0 + b, o, i]
                basis[b, 1 + i] = s
        members_are_columns = start[q + 1] - start[q] <= d + 1
        for u in range(start[q], start[q + 1]):
            j = members[u]
            if members_are_columns:
                for i in range(d + 1):
                    new[i] = basis[u - start[q], i]
            else:
                for i in range(d + 1):
                    new[i] = 0.0
                    for b in range(d + 1):
                        new[i] += z[j, b] * basis[b, i]
            if projected[g]:
                for i in range(d):
                    moved[i] = 0.0
                    for s in range(d):
                        moved[i] += projector[g, i, s] * new[1 + s]
                for i in range(d):
                    new[1 + i] = moved[i]
            ww = 0.0
            for i in range(d):
                ww += new[1 + i] ** 2
            aa = new[0] ** 2
            # a^2 - |w|^2 in units of the neuron's present exponent
            const = 0.0
            if balance[j] != 0:
                shift = 2 * (gap_exponent[j] - exponent[j])
                const = gap[j] * 2.0 ** min(max(shift, -2000), 1000)
            drift = max(drift, abs(aa - ww - const) / (aa + ww))
            if balance[j] >= 0:
                new[0] = sign[j] * np.sqrt(max(ww + const, 0.0))
            elif ww > 0.0:
                f = np.sqrt(max(aa - const, 0.0) / ww)
                for i in range(d):
                    new[1 + i] *= f
            size = 0.0
            for i in range(d + 1):
                size += new[i] ** 2
            size = np.sqrt(size)
            shift_up = 0
            while size < 0.5 and size > 0.0:
                size *= 2.0
                shift_up -= 1
            while size >= 2.0:
                size *= 0.5
                shift_up += 1
            f = 2.0**-shift_up
            exponent[j] += shift_up
            for i in range(d + 1):
                z[j, i] = new[i] * f
    return drift


@njit(cache=True)
def speeds(active, start, members, z, mass, D, out):  # pragma: no cover - compiled
    """Write ``|z_j'|^2 = (w_j . D_j)^2 + a_j^2 |D_j|^2`` of each neuron; return the total."""
    d = D.shape[2]
    total = 0.0
    for q in range(active.shape[0]):
        dd = 0.0
        for i in range(d):
            dd += D[q, 0, i] ** 2
        for u in range(start[q], start[q + 1]):
            j = members[u]
            wd = 0.0
            for i in range(d):
                wd += z[j, 1 + i] * D[q, 0, i]
            out[j] = mass[j] * (wd * wd + z[j, 0] ** 2 * dd)
            total += out[j]
    return total
