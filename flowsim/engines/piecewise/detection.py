"""Detection of the first event of every neuron inside a step, compiled.

On the Taylor expansion every margin ``nu_g . w_j``, every sign of ``a_j`` and every
slide multiplier is a polynomial in time, so its first root can be isolated.
"""

from __future__ import annotations

import numpy as np

from flowsim.engines.piecewise.groupwise import (
    bound,
    drop_away,
    list_near,
    mark_away,
    spread_of,
    stops_on_way,
)
from flowsim.engines.piecewise.jit import allocating, borrowed, compiled, inlined
from flowsim.engines.piecewise.margins import margin_polynomial, project_all, project_some
from flowsim.engines.piecewise.motion import TILE, fetch, tile_of
from flowsim.engines.piecewise.restless import LINES, list_restless
from flowsim.engines.piecewise.roots import exit_of, horner

#: What a neuron meets first: nothing, a hyperplane, a = 0, the end of a slide.
NOTHING, MARGIN, SIGN, SLIDE = range(4)


@compiled
def split(W, size, along, aside):  # pragma: no cover - compiled
    """Split the coefficients W (order+1, d) of w(t) into ``along[i] w(0)`` and the rest.

    `size` and `aside` (order+1,) receive the norms of the coefficients and of their rests. A
    neuron that only grows comes no closer to any hyperplane, however fast.
    """
    d = W.shape[1]
    ww = 0.0
    for i in range(d):
        ww += W[0, i] ** 2
    for o in range(size.shape[0]):
        dot, s = 0.0, 0.0
        for i in range(d):
            dot += W[o, i] * W[0, i]
            s += W[o, i] ** 2
        along[o] = dot / ww if ww > 0.0 else 0.0
        t = 0.0
        for i in range(d):
            t += (W[o, i] - along[o] * W[0, i]) ** 2
        size[o], aside[o] = np.sqrt(s), np.sqrt(t)


@compiled
def reach(h, size, along, aside):  # pragma: no cover - compiled
    """Bound what margins lose in a step `h`: (move, curve, kept, turn, bend).

    A margin m with rate m' is at least m - move, and m + min(0, m' h) - curve; and, where
    kept > 0, at least kept m - turn, and kept m + min(0, (m' - along_1 m) h) - bend.
    """
    curve, kept, bend, power = 0.0, 1.0 + min(0.0, along[1] * h), 0.0, h
    for i in range(2, size.shape[0]):
        power *= h
        curve += size[i] * power
        bend += aside[i] * power
        kept += min(0.0, along[i] * power)
    return size[1] * h + curve, curve, kept, aside[1] * h + bend, bend


@compiled
def first_of_neuron(  # pragma: no cover - compiled
    h, normals, planes, side, margin, slope, A, W, balance, sign, touch, table, size, along, aside,
    poly, basis, chosen,
):  # fmt: skip
    """Find the first margin, or sign of a, of one neuron that falls to zero within a step `h`.

    A (order+1,) and W (order+1, d) are its own polynomials, as `split` has split them; planes (c,)
    the columns of normals to look at, and side, margin and slope (c,) their codes, and ``nu_g .``
    w and its rate. poly, basis and chosen (c,) are working memory. Returns (time, what, which of
    the planes). Interval tests spare most polynomials; the rest are isolated exactly, the likely
    first one first, which shortens the interval of the others.
    """
    best, what, where = h, NOTHING, -1
    bounds = reach(h, size, along, aside)
    count = _list_falling(h, side, margin, slope, touch, along[1], bounds, chosen)
    likely = _likely(count, chosen, side, margin, slope)
    for i in range(-1, count):
        c = likely if i < 0 else chosen[i]
        if c < 0 or (i >= 0 and c == likely):
            continue
        falls = np.int64(side[c])
        if what != NOTHING and not _falls(
            best, falls * margin[c], falls * slope[c], touch, along[1], bounds
        ):
            continue
        margin_polynomial(normals, planes[c], W, best, poly)
        x = exit_of(poly, falls, touch, table, basis)
        if x >= 0.0 and (what == NOTHING or x < 1.0):
            best, what, where = x * best, MARGIN, c
            bounds = reach(best, size, along, aside)
    if balance < 0:
        at = _turns(best, A, sign, touch, table, poly, basis)
        if at >= 0.0 and (what == NOTHING or at < best):
            best, what, where = at, SIGN, -1
    return best, what, where


@inlined
def _list_falling(h, side, margin, slope, touch, along, bounds, chosen):  # pragma: no cover
    """List in `chosen` the margins that may fall to zero within `h`; return how many."""
    for c in range(side.shape[0]):  # two loops without branches
        falls = _falls(h, side[c] * margin[c], side[c] * slope[c], touch, along, bounds)
        chosen[c] = falls & (side[c] != 0.0)
    count = 0
    for c in range(side.shape[0]):
        falls = chosen[c]
        chosen[count] = c
        count += falls
    return count


@compiled
def _likely(count, chosen, side, margin, slope):  # pragma: no cover - compiled
    """Return the one that straight lines reach first, or -1."""
    plane, m, b = -1, np.inf, 1.0
    for i in range(count):
        c = chosen[i]
        down = -side[c] * slope[c]
        above = max(side[c] * margin[c], 0.0)
        if down > 0.0 and above * b < m * down:
            plane, m, b = c, above, down
    return plane


@inlined
def _falls(h, m, rate, touch, along, bounds):  # pragma: no cover - compiled
    """Whether a margin m may fall to zero within `h`; see `reach` for its bounds."""
    move, curve, kept, _, bend = bounds
    stays = (
        (m > move)
        | (m + min(0.0, rate * h) > curve)
        | ((kept > 0.0) & (kept * m + min(0.0, (rate - along * m) * h) > bend))
    )
    leaves = (m >= -touch) & (rate * h > 2.0 * curve)  # faster than it bends back
    above = m > touch
    return not ((above & stays) | ((not above) & leaves))


@compiled
def _turns(h, A, sign, touch, table, poly, basis):  # pragma: no cover - compiled
    """Return when a falls to zero within `h`, or -1."""
    power = 1.0
    for o in range(poly.shape[0]):
        poly[o] = A[o] * power
        power *= h
    x = exit_of(poly, sign, touch, table, basis)
    return x * h if x >= 0.0 else -1.0


@compiled
def own_polynomials(q, u, d, start, first, z, j, A, W, own_a, own_w):  # pragma: no cover
    """Write the polynomials of member u (neuron j) of group q, from its columns."""
    c0 = first[q]
    if start[q + 1] - start[q] <= d + 1:
        c = c0 + u - start[q]
        for o in range(own_a.shape[0]):
            own_a[o] = A[c, o]
            for i in range(d):
                own_w[o, i] = W[c, o, i]
        return
    own_a[:], own_w[:] = 0.0, 0.0
    for b in range(d + 1):  # long loops inside, which use vector registers
        f, a, w, sums = z[j, b], A[c0 + b], W[c0 + b].reshape(-1), own_w.reshape(-1)
        for o in range(a.shape[0]):
            own_a[o] += f * a[o]
        for o in range(w.shape[0]):
            sums[o] += f * w[o]


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


@allocating
def _survey(  # pragma: no cover - compiled
    h, q, u0, u1, normals, code, members, z, first, A, W, touch, size, margin, chosen, bounds,
    on_way,
):  # fmt: skip
    """List in `chosen` what members u0 to u1 of group q may meet within `h`.

    Returns how many hyperplanes these are, how many stops there are on the way, and on_way, which
    may be another array. size and margin are working memory.
    """
    z0 = z[members[u0]]
    stops = bound(h, first[q], first[q + 1], W, size, bounds)
    project_all(normals, z0[1:], margin)
    radius = spread_of(u0, u1, members, z)
    moves = 0.5 * bounds[0] + 2.0 * touch
    count = list_near(moves, radius, z0, code, margin, chosen)
    if stops > on_way.shape[0] or count > on_way.shape[1]:
        shape = max(stops, on_way.shape[0]), max(count, on_way.shape[1])
        on_way = np.empty((shape[0], shape[1], z0.shape[0]))
    stops_on_way(h, stops, first[q], A, W, normals, count, chosen, on_way)
    count = drop_away(count, z0, radius, code, normals, stops, bounds, touch, chosen, on_way)
    return count, stops, on_way


@allocating
def scan(  # pragma: no cover - compiled
    h, near_h, unit, normals, code, active, start, members, u0, u1, z, mass, first, A, W, D,
    balance, sign, touch, table, spread, planes, jumps, x, what, where, kinks,
):  # fmt: skip
    """Find the first event within `h` (in units) of members u0 to u1, if it is before `near_h`.

    Some of the later ones are found, too. Writes of who has one x (m,), `what`, the hyperplane
    `where`, and `kinks`, see `kink`; those of others stay as they are.
    """
    normals, code, active, start, members = borrowed((normals, code, active, start, members))
    z, first, A, W, D, x, kinks = borrowed((z, first, A, W, D, x, kinks))
    d, hyperplanes = normals.shape
    p = A.shape[1]
    size, along, aside = np.empty(p), np.empty(p), np.empty(p)
    poly, basis = np.empty(p), np.empty(p)
    own_a, own_w, bounds = np.empty(p), np.empty((p, d)), np.empty(3)
    margin, slope, side = np.empty(hyperplanes), np.empty(hyperplanes), np.empty(hyperplanes)
    all_planes, chosen = np.arange(hyperplanes), np.empty(hyperplanes, dtype=np.int64)
    falling = np.empty(hyperplanes, dtype=np.int64)
    on_way, tile, lines = np.empty((1, 1, d + 1)), tile_of(d, TILE), np.empty((LINES, TILE))
    restless, needs = np.empty(u1 - u0, np.int64), np.empty(u1 - u0)
    q = np.searchsorted(start, u0, side="right") - 1
    while q < active.shape[0] and start[q] < u1:
        wide = start[q + 1] - start[q] > d + 1
        u, own1 = max(u0, start[q]), min(u1, start[q + 1])
        near, count, j0, stops, who = all_planes, hyperplanes, members[u], 0, members
        if wide:
            own1 = list_restless(
                near_h, unit, u, own1, members, z, balance, D[q], normals, code[j0], touch, tile,
                lines, margin, chosen, needs, restless,
            )  # fmt: skip
            u, who = 0, restless
        if wide and own1 > 0:
            near = chosen
            count, stops, on_way = _survey(
                near_h, q, 0, own1, normals, code[j0], restless, z, first, A, W, touch, size,
                margin, chosen, bounds, on_way,
            )  # fmt: skip
        while u < own1:
            some = min(own1 - u, TILE)
            tile.who[:some] = who[u : u + some]
            if wide:
                fetch(some, z, tile)
                mark_away(
                    some, tile, code[j0], normals, count, chosen, stops, on_way, bounds, touch
                )
            for c in range(some):
                j = tile.who[c]
                if wide and balance[j] >= 0 and tile.marks[0, c]:
                    continue
                own_polynomials(q, u + c, d, start, first, z, j, A, W, own_a, own_w)
                split(own_w, size, along, aside)
                project_some(normals, near, z[j, 1:], margin[:count])
                project_some(normals, near, own_w[1], slope[:count])
                for i in range(count):
                    side[i] = code[j, near[i]]
                at, kind, i = first_of_neuron(
                    h, normals, near, side[:count], margin[:count], slope[:count], own_a, own_w,
                    balance[j], sign[j], touch, table, size, along, aside, poly, basis, falling,
                )  # fmt: skip
                if kind != NOTHING:
                    x[j], what[j], where[j] = at, kind, -1
                if kind == MARGIN:
                    where[j] = near[i]
                    kinks[j] = kink(
                        unit, at, near[i], own_a, own_w, jumps, spread, planes, mass[j], normals
                    )
            u += some
        q += 1
