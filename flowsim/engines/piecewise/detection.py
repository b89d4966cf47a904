"""Detection of the first event inside a step, compiled.

On the Taylor expansion every margin ``nu_g . w_j``, every sign of ``a_j`` and every
slide multiplier is a polynomial in time, so its first root can be isolated.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from flowsim.engines.piecewise.roots import first_exit


@njit(cache=True)
def _bounds(h, c0, c1, W, scratch):  # pragma: no cover - compiled
    """Bound how far w moves in a step beyond its value, and beyond its tangent."""
    order = W.shape[1] - 1
    d = W.shape[2]
    move = 0.0
    curve = 0.0
    power = 1.0
    for i in range(1, order + 1):
        power *= h
        s = 0.0
        for c in range(c0, c1):
            for u in range(d):
                s += W[c, i, u] ** 2
        s = np.sqrt(s) * power
        move += s
        if i > 1:
            curve += s
    scratch[0] = move
    scratch[1] = curve


@njit(cache=True)
def first_event(  # pragma: no cover - compiled
    h, X, normals, code, active, start, members, z, first, A, W, balance, sign, touch, table,
):  # fmt: skip
    """Find the first margin, or sign of a, that falls to zero within the step.

    Returns (tau, what, neuron, hyperplane): what = 0 nothing, 1 a margin, 2 a sign of a.
    Two interval tests spare most polynomials; the rest are isolated exactly.
    """
    hyperplanes, d = normals.shape
    order = A.shape[1] - 1
    best, what, who, where = h, 0, -1, -1
    scratch = np.empty(2)
    poly = np.empty(order + 1)
    for q in range(active.shape[0]):
        c0, c1 = first[q], first[q + 1]
        members_are_columns = start[q + 1] - start[q] <= d + 1
        if not members_are_columns:
            _bounds(h, c0, c1, W, scratch)
            group_move, group_curve = scratch[0], scratch[1]
        for u in range(start[q], start[q + 1]):
            j = members[u]
            if members_are_columns:
                b0 = c0 + u - start[q]
                b1 = b0 + 1
                _bounds(h, b0, b1, W, scratch)
                move, curve = scratch[0], scratch[1]
            else:
                b0, b1 = c0, c1
                size = 0.0
                for i in range(d + 1):
                    size += z[j, i] ** 2
                size = np.sqrt(size)
                move, curve = group_move * size, group_curve * size
            for g in range(hyperplanes):
                side = code[j, g]
                if side == 0:
                    continue
                m0 = 0.0
                for i in range(d):
                    m0 += normals[g, i] * z[j, 1 + i]
                m0 *= side
                if m0 > move:
                    continue
                if m0 > touch:
                    m1 = 0.0
                    for b in range(b0, b1):
                        f = 1.0 if members_are_columns else z[j, b - b0]
                        for i in range(d):
                            m1 += f * normals[g, i] * W[b, 1, i]
                    m1 *= side
                    if m0 + min(0.0, m1 * h) > curve:
                        continue
                power = 1.0
                for o in range(order + 1):
                    s = 0.0
                    for b in range(b0, b1):
                        f = 1.0 if members_are_columns else z[j, b - b0]
                        for i in range(d):
                            s += f * normals[g, i] * W[b, o, i]
                    poly[o] = s * power
                    power *= best
                x = first_exit(poly, side, touch, table)
                if x >= 0.0 and (what == 0 or x < 1.0):
                    best, what, who, where = x * best, 1, j, g
            if balance[j] < 0:
                power = 1.0
                for o in range(order + 1):
                    s = 0.0
                    for b in range(b0, b1):
                        f = 1.0 if members_are_columns else z[j, b - b0]
                        s += f * A[b, o]
                    poly[o] = s * power
                    power *= best
                x = first_exit(poly, sign[j], touch, table)
                if x >= 0.0 and (what == 0 or x < 1.0):
                    best, what, who, where = x * best, 2, j, -1
    return best, what, who, where


@njit(cache=True)
def slide_exit(  # pragma: no cover - compiled
    h, weight, moment_plus, moment_minus, plane_start, plane_samples, active, start, members,
    sign, slides, slide_count, multipliers, r, base, tie, table,
):  # fmt: skip
    """Find the first slide whose multiplier leaves its interval within the step.

    zeta = L D_0 must stay between q^- and q^+; both ends are polynomials. Returns
    (tau, group, slide, side) with group = -1 if there is none. Groups whose slides
    are dependent have slide_count 0 here and are watched elsewhere.
    """
    order = r.shape[0] - 1
    d = base.shape[2]
    best, group, which, side = h, -1, -1, 0
    poly = np.empty((2, order + 1))
    for q in range(active.shape[0]):
        g = active[q]
        count = slide_count[g]
        if count == 0:
            continue
        alpha = sign[members[start[q]]]
        for s in range(count):
            plane = slides[g, s]
            power = 1.0
            for o in range(order + 1):
                zeta = 0.0
                for i in range(d):
                    zeta += multipliers[g, s, i] * base[q, o, i]
                plus = 0.0
                minus = 0.0
                for u in range(plane_start[plane], plane_start[plane + 1]):
                    k = plane_samples[u]
                    plus += moment_plus[k] * r[o, k]
                    minus += moment_minus[k] * r[o, k]
                poly[0, o] = (zeta - weight * plus) * power
                poly[1, o] = (zeta - weight * minus) * power
                power *= best
            ends = max(abs(poly[0, 0]), abs(poly[1, 0]))
            if ends <= tie:  # the interval has closed: no jump to slide against, or to leave
                continue
            for end in range(2):
                inside = alpha if end == 0 else -alpha
                x = first_exit(poly[end], inside, tie, table)
                if x >= 0.0 and (group < 0 or x < 1.0):
                    best, group, which = x * best, q, s
                    side = 1 if end == 0 else -1
                    # the remaining polynomials use the shorter step
                    scale = x if x > 0.0 else 1.0
                    power = 1.0
                    for o in range(order + 1):
                        poly[1, o] *= power
                        power *= scale
    return best, group, which, side
