"""Detection of the first event of every neuron inside a step, compiled.

On the Taylor expansion every margin ``nu_g . w_j``, every sign of ``a_j`` and every
slide multiplier is a polynomial in time, so its first root can be isolated.
"""

from __future__ import annotations

import numpy as np

from flowsim.engines.piecewise.expansion import compiled, summing
from flowsim.engines.piecewise.roots import first_exit, horner

#: What a neuron meets first: nothing, a hyperplane, a = 0, the end of a slide.
NOTHING, MARGIN, SIGN, SLIDE = range(4)


@compiled
def sizes(c0, c1, W, out):  # pragma: no cover - compiled
    """Write the norms (order+1,) of the coefficients of columns c0 to c1 together."""
    for i in range(out.shape[0]):
        s = 0.0
        for c in range(c0, c1):
            for u in range(W.shape[2]):
                s += W[c, i, u] ** 2
        out[i] = np.sqrt(s)


@compiled
def reach(h, size):  # pragma: no cover - compiled
    """Bound how far w moves in a step `h` beyond its value, and beyond its tangent."""
    curve, power = 0.0, h
    for i in range(2, size.shape[0]):
        power *= h
        curve += size[i] * power
    return size[1] * h + curve, curve


@summing
def project_all(normals, w, out):  # pragma: no cover - compiled
    """Write ``nu_g . w`` (G,) for all hyperplanes; normals (d, G)."""
    out[:] = 0.0
    for s in range(normals.shape[0]):
        f, row = w[s], normals[s]
        for g in range(out.shape[0]):
            out[g] += f * row[g]


@compiled
def margin_polynomial(normals, g, W, h, out):  # pragma: no cover - compiled
    """Write the coefficients (order+1,) of ``nu_g . w`` in powers of time / h; W (order+1, d)."""
    power = 1.0
    for o in range(out.shape[0]):
        s = 0.0
        for i in range(normals.shape[0]):
            s += normals[i, g] * W[o, i]
        out[o] = s * power
        power *= h


@compiled
def first_of_neuron(  # pragma: no cover - compiled
    h, normals, code, A, W, balance, sign, touch, table, size, margin, slope, poly
):
    """Find the first margin, or sign of a, of one neuron that falls to zero within a step `h`.

    A (order+1,) and W (order+1, d) are its own polynomials, `size` the norms of W's
    coefficients, margin (G,) receives ``nu_g . w``; slope (G,) and poly (order+1,) are working
    memory. Returns (time, what, hyperplane). Two interval tests spare most polynomials; the rest
    are isolated exactly, the likely first one first, which shortens the interval of the others.
    """
    project_all(normals, W[0], margin)
    best, what, where = h, NOTHING, -1
    move, curve = reach(h, size)
    candidates, likely, soonest = 0, -1, np.inf
    for g in range(margin.shape[0]):
        side = code[g]
        m0 = margin[g] * side
        if side == 0 or m0 > move:
            continue
        m1 = 0.0
        for i in range(normals.shape[0]):
            m1 += normals[i, g] * W[1, i]
        slope[g] = m1
        candidates += 1
        at = 0.0 if m0 <= touch else (-m0 / (m1 * side) if m1 * side < 0.0 else np.inf)
        if at < soonest:
            likely, soonest = g, at
    if candidates > 0 and likely >= 0:
        margin_polynomial(normals, likely, W, best, poly)
        x = first_exit(poly, code[likely], touch, table)
        if x >= 0.0:
            best, what, where = x * best, MARGIN, likely
            move, curve = reach(best, size)
    if candidates > 0:
        for g in range(margin.shape[0]):
            side = code[g]
            m0 = margin[g] * side
            if side == 0 or m0 > move or g == likely:
                continue
            if m0 > touch and m0 + min(0.0, slope[g] * side * best) > curve:
                continue
            margin_polynomial(normals, g, W, best, poly)
            x = first_exit(poly, side, touch, table)
            if x >= 0.0 and (what == NOTHING or x < 1.0):
                best, what, where = x * best, MARGIN, g
                move, curve = reach(best, size)
    if balance < 0:
        power = 1.0
        for o in range(poly.shape[0]):
            poly[o] = A[o] * power
            power *= best
        x = first_exit(poly, sign, touch, table)
        if x >= 0.0 and (what == NOTHING or x < 1.0):
            best, what, where = x * best, SIGN, -1
    return best, what, where


@compiled
def own_polynomials(q, u, d, start, first, z, j, A, W, own_a, own_w):  # pragma: no cover
    """Write the polynomials of member u (neuron j) of group q, from its columns."""
    c0 = first[q]
    if start[q + 1] - start[q] <= d + 1:
        own_a[:] = A[c0 + u - start[q]]
        own_w[:] = W[c0 + u - start[q]]
        return
    for o in range(own_a.shape[0]):
        own_a[o] = 0.0
        for i in range(d):
            own_w[o, i] = 0.0
        for b in range(d + 1):
            f = z[j, b]
            own_a[o] += f * A[c0 + b, o]
            for i in range(d):
                own_w[o, i] += f * W[c0 + b, o, i]


@compiled
def kink(q, x, g, own_a, own_w, jumps, spread, planes, mass, normals):  # pragma: no cover
    """Return by how fast a neuron's crossing makes the field of the others leave its polynomial.

    The neuron's own field jumps by |q^+ - q^-|, and so the rate of every output by
    a^2 |q^+ - q^-| |x_k|; that of the samples on the hyperplane by |a (nu . w)'| |x_k|. On D of
    the others these act with the weights `spread` (all samples) and planes[g] (the
    hyperplane's).
    """
    a = horner(own_a, x)
    rate = 0.0
    for i in range(normals.shape[0]):
        s = 0.0
        for o in range(own_w.shape[0] - 1, 0, -1):
            s = s * x + o * own_w[o, i]
        rate += normals[i, g] * s
    return mass * (spread * a * a * jumps[g] + planes[g] * abs(a * rate) / q)


@compiled
def scan(  # pragma: no cover - compiled
    h, unit, normals, code, active, start, members, q0, q1, z, mass, first, A, W, balance, sign,
    touch, table, spread, planes, jumps, x, what, where, kinks,
):  # fmt: skip
    """Find the first event within `h` (in units) of every member of groups q0 to q1.

    Writes x (m,), infinite if there is none, `what`, the hyperplane `where`, and `kinks`, see
    `kink`. A group's hyperplanes that no member can reach are left out at once.
    """
    d, hyperplanes = normals.shape
    order = A.shape[1] - 1
    size = np.empty(order + 1)
    own_size = np.empty(order + 1)
    poly = np.empty(order + 1)
    own_a, own_w = np.empty(order + 1), np.empty((order + 1, d))
    margin, slope = np.empty(hyperplanes), np.empty(hyperplanes)
    for q in range(q0, q1):
        c0, c1 = first[q], first[q + 1]
        wide = start[q + 1] - start[q] > d + 1
        if wide:
            sizes(c0, c1, W, size)
            if _far(q, h, normals, code, start, members, z, size, margin, touch):
                for u in range(start[q], start[q + 1]):
                    j = members[u]
                    x[j], what[j], where[j], kinks[j] = np.inf, NOTHING, -1, 0.0
                    if balance[j] < 0:
                        wide = True
                        own_polynomials(q, u, d, start, first, z, j, A, W, own_a, own_w)
                        _sign_only(h, own_a, j, balance, sign, touch, table, poly, x, what)
                continue
        for u in range(start[q], start[q + 1]):
            j = members[u]
            own_polynomials(q, u, d, start, first, z, j, A, W, own_a, own_w)
            for o in range(order + 1):
                s = 0.0
                for i in range(d):
                    s += own_w[o, i] ** 2
                own_size[o] = np.sqrt(s)
            at, kind, g = first_of_neuron(
                h, normals, code[j], own_a, own_w, balance[j], sign[j], touch, table, own_size,
                margin, slope, poly,
            )  # fmt: skip
            what[j], where[j], kinks[j] = kind, g, 0.0
            x[j] = at if kind != NOTHING else np.inf
            if kind == MARGIN:
                kinks[j] = kink(unit, at, g, own_a, own_w, jumps, spread, planes, mass[j], normals)


@compiled
def _sign_only(h, own_a, j, balance, sign, touch, table, poly, x, what):  # pragma: no cover
    """Look for a = 0 where no margin can end."""
    power = 1.0
    for o in range(poly.shape[0]):
        poly[o] = own_a[o] * power
        power *= h
    at = first_exit(poly, sign[j], touch, table)
    if at >= 0.0:
        x[j], what[j] = at * h, SIGN


@compiled
def _far(q, h, normals, code, start, members, z, size, margin, touch):  # pragma: no cover
    """Whether no member of a large group can reach a hyperplane within `h`.

    All lie within `radius` of one of them, and move by at most `move`.
    """
    d = normals.shape[0]
    j0 = members[start[q]]
    radius, largest = 0.0, 0.0
    for u in range(start[q], start[q + 1]):
        j = members[u]
        s, t = 0.0, z[j, 0] ** 2
        for i in range(d):
            s += (z[j, 1 + i] - z[j0, 1 + i]) ** 2
            t += z[j, 1 + i] ** 2
        radius, largest = max(radius, s), max(largest, t)
    move, _ = reach(h, size)
    limit = np.sqrt(radius) + move * np.sqrt(largest)
    project_all(normals, z[j0, 1:], margin)
    for g in range(margin.shape[0]):
        side = code[j0, g]
        if side != 0 and side * margin[g] <= limit + touch:
            return False
    return True


@compiled
def slide_exit(  # pragma: no cover - compiled
    h, alpha, count, slides, multipliers, ends, base, tie, table, poly
):
    """Find the first of one cell's slides whose multiplier leaves its interval within `h`.

    zeta = L D_0 must stay between q^- and q^+, whose polynomials are ends (2, order+1, G);
    slides (count,), multipliers (count, d), base (order+1, d). Returns (time, slide, side)
    with slide = -1 if there is none. poly (2, order+1) is working memory.
    """
    order = base.shape[0] - 1
    best, which, side = h, -1, 0
    for s in range(count):
        plane = slides[s]
        power = 1.0
        for o in range(order + 1):
            zeta = 0.0
            for i in range(base.shape[1]):
                zeta += multipliers[s, i] * base[o, i]
            poly[0, o] = (zeta - ends[1, o, plane]) * power
            poly[1, o] = (zeta - ends[0, o, plane]) * power
            power *= best
        if max(abs(poly[0, 0]), abs(poly[1, 0])) <= tie:
            continue  # the interval has closed: no jump to slide against, or to leave
        for end in range(2):
            inside = alpha if end == 0 else -alpha
            x = first_exit(poly[end], inside, tie, table)
            if x >= 0.0 and (which < 0 or x < 1.0):
                best, which = x * best, s
                side = 1 if end == 0 else -1
                # the remaining polynomials use the shorter step
                scale = x if x > 0.0 else 1.0
                power = 1.0
                for o in range(order + 1):
                    poly[1, o] *= power
                    power *= scale
    return best, which, side


@compiled
def scan_slides(  # pragma: no cover - compiled
    h, active, start, members, sign, slides, slide_count, multipliers, ends, base, tie, table,
    x, what, where, side,
):  # fmt: skip
    """Let slides that end within `h` come before what `scan` has found of their neurons.

    All neurons of a group leave together. Groups whose slides are dependent have slide_count 0
    here and are watched elsewhere.
    """
    poly = np.empty((2, base.shape[1]))
    for q in range(active.shape[0]):
        g = active[q]
        if slide_count[g] == 0:
            continue
        alpha = sign[members[start[q]]]
        at, which, to = slide_exit(
            h, alpha, slide_count[g], slides[g], multipliers[g], ends, base[q], tie, table, poly
        )
        if which < 0:
            continue
        for u in range(start[q], start[q + 1]):
            j = members[u]
            if at < x[j] or what[j] == NOTHING:
                x[j], what[j], where[j], side[j] = at, SLIDE, slides[g, which], to
