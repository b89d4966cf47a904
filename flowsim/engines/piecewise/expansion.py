"""Taylor expansion of all neurons inside their cells, compiled.

In a cell the flow is polynomial, and neurons of one cell share a linear flow:

    D_i     = P weight sum_k c_k r_{i,k} x_k,
    a_{i+1} = 1/(i+1) sum_l D_l . w_{i-l},   w_{i+1} = 1/(i+1) sum_l D_l a_{i-l},
    r_i     = [i=0] y - sum_j sum_l a_{j,l} (c_j . w_{j,i-l} x).

A group (one cell) carries as many *columns* as are needed: its members
themselves, or from d+1 members on the unit vectors, of which every member is a
combination. Arrays over columns and groups are flat, with offsets.
"""

from __future__ import annotations

import numpy as np
from numba import njit


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
def _column_coefficients(i, D, A, W, d):  # pragma: no cover - compiled
    """Write coefficient i+1 of one column: z_{i+1} = sum_l M(D_l) z_{i-l} / (i+1)."""
    a = 0.0
    for s in range(d):
        W[i + 1, s] = 0.0
    for o in range(i + 1):
        f = A[i - o]
        for s in range(d):
            a += D[o, s] * W[i - o, s]
            W[i + 1, s] += D[o, s] * f
    A[i + 1] = a / (i + 1)
    for s in range(d):
        W[i + 1, s] /= i + 1


@njit(cache=True)
def expand(  # pragma: no cover - compiled
    order, X, weight, frozen, coef, projected, projector, active, start, members, z, mass,
    r, base, D, A, W, AQ, Q, first,
):  # fmt: skip
    """Write the Taylor coefficients up to `order` of r, D and all columns.

    r (order+1, n) comes with r[0] set. base, D (groups, order+1, d): before and after
    the projection onto the slides; A (columns, order+1), W (columns, order+1, d); first
    (groups+1,) column offsets. In frozen mode r stays r[0].
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
            for s in range(d):
                base[q, i, s] = 0.0
            if i == 0 or not frozen:
                for k in range(n):
                    f = coef[g, k] * r[i, k]
                    if f != 0.0:
                        for s in range(d):
                            base[q, i, s] += f * X[k, s]
                for s in range(d):
                    base[q, i, s] *= weight
            if projected[g]:
                for s in range(d):
                    D[q, i, s] = 0.0
                    for u in range(d):
                        D[q, i, s] += projector[g, s, u] * base[q, i, u]
            else:
                for s in range(d):
                    D[q, i, s] = base[q, i, s]
            if i == order:
                continue
            c0, c1 = first[q], first[q + 1]
            for c in range(c0, c1):
                _column_coefficients(i, D[q], A[c], W[c], d)
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
            for s in range(d):
                v[s] = 0.0
            for c in range(c0, c1):
                for o in range(i + 2):
                    f = AQ[c, o]
                    for s in range(d):
                        v[s] += f * W[c, i + 1 - o, s]
            for k in range(n):
                if coef[g, k] != 0.0:
                    h = 0.0
                    for s in range(d):
                        h += X[k, s] * v[s]
                    r[i + 1, k] -= coef[g, k] * h


@njit(cache=True)
def step_size(order, tolerance, first, groups, A, W, D, r, frozen):  # pragma: no cover - compiled
    """Largest step whose last two terms are within `tolerance` of every neuron and of y.

    Columns have norm of order one and y is, so all is relative; where the output far
    exceeds y, its error is relative to the residual. A shrinking
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
            s += D[g, 0, i] ** 2
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
