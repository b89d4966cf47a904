"""The walk of single neurons through their cells inside one step, compiled.

The residual is given as a polynomial over the step, and with it what every hyperplane adds to
the field on its two sides. A neuron that meets a hyperplane moves there, chooses its side
(`flowsim.alignment.switching`), and goes on with the Taylor expansion of its new cell. What is
rarer than crossings, slides and deaths is left to `flowsim.selection`.
"""

from __future__ import annotations

import numpy as np

from flowsim.alignment import switching
from flowsim.alignment.switching import KEPT
from flowsim.engines.piecewise.codes import list_zeros
from flowsim.engines.piecewise.detection import (
    MARGIN,
    NOTHING,
    SIGN,
    SLIDE,
    own_polynomials,
    split,
)
from flowsim.engines.piecewise.entering import choose, cross, recode
from flowsim.engines.piecewise.jit import compiled, inlined
from flowsim.engines.piecewise.motion import evaluate, settle
from flowsim.engines.piecewise.near import (
    begin_list,
    first_of_listed,
    keep_up,
    leave,
    update_margins,
)
from flowsim.engines.piecewise.own import expand, onto_slides, shift, terms_of
from flowsim.engines.piecewise.slides import slide_exit
from flowsim.engines.piecewise.steepness import note_arrival, note_end, note_leaving
from flowsim.engines.piecewise.walk_arrays import ASKS, CUT, DONE, FULL, GOING
from flowsim.engines.piecewise.walk_sums import add_stretch, load_ridden
from flowsim.events import DEAD

#: A neuron's next event is looked for within so many times its mean time between events.
OUTLOOK = 5.0


@compiled
def sum_of_sides(normals, code, ends, out):  # pragma: no cover - compiled
    """Write ``sum_g q_g nu_g`` (order+1, d) of a cell; slides add nothing."""
    out[:] = 0.0
    for g in range(code.shape[0]):
        if code[g] != 0:
            q = ends[int(code[g] > 0), g]
            for i in range(out.shape[1]):
                nu = normals[i, g]
                for o in range(out.shape[0]):
                    out[o, i] += nu * q[o]


@compiled
def walk(  # pragma: no cover - compiled
    k0, k1, end, unit, plan, ends, walkers, start, first, A, W, base, touch, table, patience,
    tolerance, sums, U, out, work,
):  # fmt: skip
    """Walk those of walkers k0 to k1 that are under way up to `end` (in units), or until they ask.

    What they add to the outputs goes into `sums` and U (`walk_sums`). Returns the largest
    correction of a^2 - |w|^2.
    """
    drift = 0.0
    for k in range(k0, k1):
        if walkers.status[k] == FULL:
            walkers.status[k] = GOING
        if walkers.status[k] == GOING and _is_full(
            out.count[0], out.x.shape[0], plan.normals.shape[0]
        ):
            walkers.status[k] = FULL
        if walkers.status[k] == GOING:
            drift = max(
                drift,
                _walk_one(
                    k, end, unit, plan, ends, walkers, start, first, A, W, base, touch, table,
                    patience, tolerance, sums, U, out, work,
                ),
            )  # fmt: skip
    return drift


@inlined
def _is_full(count, rows, d):  # pragma: no cover - compiled
    """Whether the log may not hold what one more event writes."""
    return count + d + 3 > rows


@compiled
def _walk_one(  # pragma: no cover - compiled
    k,
    end,
    unit,
    plan,
    ends,
    walkers,
    start,
    first,
    A,
    W,
    base,
    touch,
    table,
    patience,
    tolerance,
    sums,
    U,
    out,
    work,
):
    normals, code, d = plan.normals, walkers.code[k], plan.normals.shape[0]
    z, fresh, new, near = walkers.z[k], walkers.fresh[k], work.new, work.near
    own_a, own_w, own_base, steep = work.a, work.w, work.base, work.steep
    basis, tile, rows = work.choice.basis, work.tile, out.rows
    local, D, sizes = work.local, work.D, work.sizes
    zs, exponent, balance, sign = walkers.z, walkers.exponent, walkers.balance, walkers.sign
    gap, gap_exponent, idle = walkers.gap, walkers.gap_exponent, walkers.idle
    ridden_a, ridden_w = work.ridden.a, work.ridden.w
    summed = sums.moved.shape[1] > 0
    count, on = _enter(plan.on, code, work.slides)
    known = not walkers.begun[k]
    written = 0
    drift, x, mean, order, p = 0.0, 0.0, np.inf, own_a.shape[0] - 1, own_a.shape[0]
    near.radius[0] = -1.0
    if known:
        q = walkers.group[k]
        own_polynomials(q, start[q] + walkers.member[k], d, start, first, zs, k, A, W, own_a, own_w)
        for o in range(p):
            for i in range(d):
                own_base[o, i] = base[q, o, i]
        ahead, what, where, side = (
            walkers.x[k], walkers.what[k], walkers.where[k], walkers.side[k],
        )  # fmt: skip
        mean = ahead
    else:
        x = walkers.x[k]
        sum_of_sides(normals, code, ends, own_base)
    walkers.begun[k] = True
    if summed:
        load_ridden(k, walkers, sums, start, first, A, W, work.ridden)
    rank = span_slides(plan, count, work)
    while True:
        if not known:
            if not x < end:
                break
            if count > 0 and (rank < count or not _multipliers(plan, count, rank, work)):
                walkers.status[k] = CUT
                walkers.x[k] = x
                return drift
            outlook = OUTLOOK * mean if count == 0 and mean > 0.0 else np.inf
            terms = terms_of(end, unit, tolerance, own_base) if count == 0 else order + 1
            span, p = expand(
                min(outlook, end - x), terms, unit, tolerance, x, z, rank, basis, own_base, local,
                D, own_a, own_w,
            )  # fmt: skip
            ahead, what, where = _next(
                span, normals, z, code, fresh, balance[k], sign[k], touch, table, own_a[:p],
                own_w[:p], sizes[:, :p], near, work.poly[:p], work.bernstein[:p],
            )  # fmt: skip
            side = 0
            if count > 0:
                ahead, what, where, side = _slide_before(
                    ahead, what, where, x, count, sign[k], plan.tie, ends, table, work
                )
            if what == NOTHING:
                ahead = span
        at = ahead
        if summed and not known:
            add_stretch(
                x, at, 2.0 ** max(2 * exponent[k], -2000), own_a[:p], own_w[:p], sums.moved[k],
                sums.mass[k], ridden_a, ridden_w, sums.rode[k],
            )  # fmt: skip
        known = False
        if what == MARGIN:
            began = 0.0
            for i in range(d):
                began += normals[i, where] * z[1 + i]
            if abs(began) > touch:
                fresh[where] = False
        evaluate(at, own_a[:p], own_w[:p], new)
        onto_slides(rank, basis, new[1:])
        tile.who[0] = k
        for i in range(d + 1):
            tile.new[i, 0] = new[i]
        drift = max(drift, settle(1, tile, zs, exponent, balance, gap, gap_exponent, sign))
        if near.radius[0] < 0.0:
            begin_list(
                min(OUTLOOK * mean, end - x - at), touch, normals, z[1:], code, fresh, own_w[:p],
                sizes[:, :p], near,
            )  # fmt: skip
        else:
            update_margins(z[1:], near)
        if what == NOTHING:
            x, mean = end if at >= end - x else x + at, 2.0 * mean
            continue
        mean = mean + 0.25 * (at - mean) if mean < np.inf else at
        idle[k] = idle[k] + 1 if x + at == x else 0
        x += at
        walkers.x[k], walkers.what[k], walkers.where[k] = x, what, where
        if idle[k] > patience:
            walkers.status[k] = CUT
            return drift
        if what == SIGN:
            walkers.status[k] = ASKS
            return drift
        alone = leave(where, touch, code, fresh, near)
        if what == SLIDE:
            on = recode(plan, k, x, where, side, ends, walkers, on, sums, U, out, work)
        else:
            tiny = 0.0
            for i in range(d):
                tiny += z[1 + i] ** 2
            if not alone or fresh[where] or not tiny > touch**2:
                walkers.status[k] = ASKS
                return drift
            written = out.count[0]
            if summed:
                note_arrival(x, where, rank, z[0], exponent[k], normals, own_base, basis, steep)
            others = on - plan.on[int(code[where] > 0), where]
            on = -1
            if count == 0 and not (plan.dies and others == 0):
                on = cross(
                    plan, k, x, where, others, ends, code, fresh, sign[k], own_base, sums, U, out
                )
            if on < 0:
                on = choose(plan, k, x, where, count, others, ends, walkers, sums, U, out, work)
            if on < 0:
                walkers.status[k] = ASKS
                return drift
            for i in range(written, out.count[0] if summed else written):
                if rows[i, 2] == where:
                    for c in range(steep.shape[0]):
                        out.steep[i, c] = steep[c]
        if walkers.fate[k] == DEAD:
            break
        if what == SLIDE and not alone:  # it has come onto others at the same time
            walkers.status[k], walkers.what[k] = ASKS, NOTHING
            return drift
        if summed and what == MARGIN and count > 0:
            _note_ended_slides(plan, where, written, code, out, work)
        if what == SLIDE or count > 0 or code[where] == 0:
            count = list_zeros(code, work.slides)
            rank = span_slides(plan, count, work)
        for i in range(written, out.count[0] if summed and what == MARGIN else written):
            if rows[i, 2] == where:  # the choice has used the basis of the slides
                note_leaving(x, where, rank, normals, own_base, basis, new[1:], out.steep[i])
        if count > 0:
            onto_slides(rank, basis, z[1:])
            update_margins(z[1:], near)
        if _is_full(out.count[0], out.x.shape[0], d):
            walkers.status[k] = FULL
            return drift
    walkers.x[k] = x
    walkers.status[k] = DONE
    return drift


@inlined
def _enter(on_sides, code, slides):  # pragma: no cover - compiled
    """List the slides; return how many they are and how many samples are on."""
    on = 0
    for g in range(code.shape[0]):
        on += on_sides[1, g] * (code[g] > 0) + on_sides[0, g] * (code[g] < 0)
    return list_zeros(code, slides), on


@inlined
def _note_ended_slides(plan, where, written, code, out, work):  # pragma: no cover - compiled
    """Note of slides that a crossing has ended, in rows from `written` on, what they kept out.

    Beside the slides that go on: one that begins on `where` did not keep the neuron before.
    """
    begins = code[where] == 0
    if begins:
        code[where] = 1
    rank = span_slides(plan, list_zeros(code, work.slides), work)
    for i in range(written, out.count[0]):
        if out.rows[i, 3] == 0:
            note_end(out.rows[i, 2], rank, plan.normals, work.choice.basis, out.steep[i])
    if begins:
        code[where] = 0


@inlined
def span_slides(plan, count, work):  # pragma: no cover - compiled
    """Orthonormalise the slides' normals; return their rank."""
    if count == 0:
        return 0
    rank, _ = switching.factor(
        plan.normals, work.slides, count, work.choice.whole[KEPT], work.choice.lower,
        work.choice.basis,
    )  # fmt: skip
    return rank


@inlined
def _multipliers(plan, count, rank, work):  # pragma: no cover - compiled
    """Write L with ``zeta = L D_0``; return whether it is well conditioned."""
    lower, x = work.choice.lower, work.choice.real[0]
    for r in range(rank):
        if lower[r, r] < switching.SAFE**2:
            return False
    for i in range(plan.normals.shape[0]):
        for r in range(rank):
            x[r] = plan.normals[i, work.slides[r]]
        switching.solve(lower, rank, x)
        for r in range(rank):
            work.multipliers[r, i] = -x[r]
    return True


@inlined
def _next(  # pragma: no cover - compiled
    h, normals, z, code, fresh, balance, sign, touch, table, a, w, sizes, near, poly, basis
):
    """Return the neuron's next event within `h` but for slides' ends: (time, what, hyperplane).

    Its polynomials are a and w.
    """
    size, along, aside = sizes[0], sizes[1], sizes[2]
    split(w, size, along, aside)
    keep_up(h, touch, normals, z[1:], code, fresh, size, along, aside, near)
    return first_of_listed(
        h, code, a, w, balance, sign, touch, table, size, along, aside, poly, basis, near
    )


@compiled
def _slide_before(  # pragma: no cover - compiled
    at, what, where, x, count, sign, tie, ends, table, work
):
    """Return the event of `_next`, or the end of a slide that comes before: with its side."""
    for side in range(2):
        for r in range(count):
            g = work.slides[r]
            shift(ends[side, g : g + 1].T, x, work.ends[side, g : g + 1].T)
    leaves, which, side = slide_exit(
        at, sign, count, work.slides, work.multipliers, work.ends, work.local, tie, table,
        work.exits,
    )  # fmt: skip
    if which >= 0:
        return leaves, SLIDE, work.slides[which], side
    return at, what, where, 0
