"""When slides end: multipliers are polynomials of time, kept in an interval; compiled."""

from __future__ import annotations

import numpy as np

from flowsim.engines.piecewise.detection import NOTHING, SLIDE
from flowsim.engines.piecewise.jit import allocating, compiled
from flowsim.engines.piecewise.roots import first_exit


@compiled
def slide_exit(  # pragma: no cover - compiled
    h, alpha, count, slides, multipliers, ends, base, tie, table, poly
):
    """Find the first of one cell's slides whose multiplier leaves its interval within `h`.

    zeta = L D_0 must stay between q^- and q^+, whose polynomials are ends (2, G, order+1);
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
            poly[0, o] = (zeta - ends[1, plane, o]) * power
            poly[1, o] = (zeta - ends[0, plane, o]) * power
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


@allocating
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
