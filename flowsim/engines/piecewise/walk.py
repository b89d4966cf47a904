"""The walk of single neurons through their cells inside one step, compiled.

The residual is given as a polynomial over the step, and with it what every hyperplane adds to
the field on its two sides. A neuron that meets a hyperplane moves there, chooses its side
(`flowsim.alignment.switching`), and goes on with the Taylor expansion of its new cell. What is
rarer than crossings, slides and deaths is left to `flowsim.selection`.
"""

from __future__ import annotations

import numpy as np

from flowsim.alignment import switching
from flowsim.alignment.switching import ASK, DIES, KEPT
from flowsim.engines.piecewise.detection import (
    MARGIN,
    NOTHING,
    SIGN,
    SLIDE,
    first_of_neuron,
    own_polynomials,
    split,
)
from flowsim.engines.piecewise.expansion import compiled, inlined
from flowsim.engines.piecewise.motion import evaluate, settle
from flowsim.engines.piecewise.near import gather, keep_up, leave, update_margins
from flowsim.engines.piecewise.own import expand, onto_slides, shift, terms_of
from flowsim.engines.piecewise.roots import horner
from flowsim.engines.piecewise.slides import slide_exit
from flowsim.engines.piecewise.steepness import note_arrival, note_leaving
from flowsim.engines.piecewise.walk_arrays import ASKS, CUT, DONE, FULL, GOING
from flowsim.engines.piecewise.walk_sums import add_stretch, change_side, load_ridden
from flowsim.events import DEAD, kind_code

#: A neuron's next event is looked for within so many times its mean time between events.
OUTLOOK = 5.0

PATTERN, DEATH = (kind_code(k) for k in ("pattern", "death"))


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
        if walkers.status[k] == GOING and _is_full(out, plan.normals.shape[0]):
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
def _is_full(out, d):  # pragma: no cover - compiled
    """Whether the log may not hold what one more event writes."""
    return out.count[0] + d + 3 > out.x.shape[0]


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
    z, new, near, fresh = walkers.z[k], work.new, work.near, walkers.fresh[k]
    count, on = _enter(plan, code, work)
    known = not walkers.begun[k]
    written = 0
    drift, x, mean, order, p = 0.0, 0.0, np.inf, work.a.shape[0] - 1, work.a.shape[0]
    near.radius[0] = -1.0
    if known:
        q = walkers.group[k]
        own_polynomials(
            q, start[q] + walkers.member[k], d, start, first, walkers.z, k, A, W, work.a, work.w
        )
        work.base[:] = base[walkers.group[k]]
        ahead, what, where, side = (
            walkers.x[k], walkers.what[k], walkers.where[k], walkers.side[k],
        )  # fmt: skip
        mean = ahead
    else:
        x = walkers.x[k]
        sum_of_sides(normals, code, ends, work.base)
    walkers.begun[k] = True
    summed = sums.moved.shape[1] > 0
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
            terms = terms_of(end, unit, tolerance, work.base) if count == 0 else order + 1
            span, p = expand(min(outlook, end - x), terms, unit, tolerance, x, z, rank, work)
            ahead, what, where, side = _next(
                k, span, p, x, count, plan, ends, walkers, touch, table, work
            )
            if what == NOTHING:
                ahead = span
        at = ahead
        if summed and not known:
            mass = 2.0 ** max(2 * walkers.exponent[k], -2000)
            add_stretch(k, x, at, mass, work.a[:p], work.w[:p], sums, work.ridden)
        known = False
        if what == MARGIN:
            began = 0.0
            for i in range(d):
                began += normals[i, where] * z[1 + i]
            if abs(began) > touch:
                walkers.fresh[k, where] = False
        evaluate(at, work.a[:p], work.w[:p], new)
        onto_slides(rank, work.choice.basis, new[1:])
        work.tile.who[0] = k
        work.tile.new[:, 0] = new
        drift = max(
            drift,
            settle(
                1, work.tile, walkers.z, walkers.exponent, walkers.balance, walkers.gap,
                walkers.gap_exponent, walkers.sign,
            ),
        )  # fmt: skip
        if near.radius[0] < 0.0:
            gather(0.0, touch, normals, z[1:], code, fresh, near, work.line)
        else:
            update_margins(z[1:], near)
        if what == NOTHING:
            x, mean = end if at >= end - x else x + at, 2.0 * mean
            continue
        mean = mean + 0.25 * (at - mean) if mean < np.inf else at
        walkers.idle[k] = walkers.idle[k] + 1 if x + at == x else 0
        x += at
        walkers.x[k], walkers.what[k], walkers.where[k] = x, what, where
        if walkers.idle[k] > patience:
            walkers.status[k] = CUT
            return drift
        if what == SIGN:
            walkers.status[k] = ASKS
            return drift
        alone = leave(where, touch, code, fresh, near)
        if what == SLIDE:
            on = _recode(plan, k, x, where, side, ends, walkers, on, sums, U, out, work)
        else:
            tiny = 0.0
            for i in range(d):
                tiny += z[1 + i] ** 2
            if not alone or walkers.fresh[k, where] or not tiny > touch**2:
                walkers.status[k] = ASKS
                return drift
            written = out.count[0]
            if summed:
                note_arrival(x, where, rank, z[0], walkers.exponent[k], plan, work)
            on = _choose(plan, k, x, where, count, on, ends, walkers, sums, U, out, work)
            if on < 0:
                walkers.status[k] = ASKS
                return drift
            for i in range(written, out.count[0] if summed else written):
                if out.rows[i, 2] == where:
                    out.steep[i] = work.steep
        if walkers.fate[k] == DEAD:
            break
        if what == SLIDE and not alone:  # it has come onto others at the same time
            walkers.status[k], walkers.what[k] = ASKS, NOTHING
            return drift
        count = list_slides(code, work) if what == SLIDE or count > 0 or code[where] == 0 else 0
        rank = span_slides(plan, count, work)
        for i in range(written, out.count[0] if summed and what == MARGIN else written):
            if out.rows[i, 2] == where:  # the choice has used the basis of the slides
                note_leaving(x, where, rank, plan, work, out.steep[i])
        if count > 0:
            onto_slides(rank, work.choice.basis, z[1:])
            update_margins(z[1:], near)
        if _is_full(out, d):
            walkers.status[k] = FULL
            return drift
    walkers.x[k] = x
    walkers.status[k] = DONE
    return drift


@inlined
def _enter(plan, code, work):  # pragma: no cover - compiled
    """List the slides; return how many they are and how many samples are on."""
    on = 0
    for g in range(code.shape[0]):
        if code[g] != 0:
            on += plan.on[int(code[g] > 0), g]
    return list_slides(code, work), on


@inlined
def list_slides(code, work):  # pragma: no cover - compiled
    count = 0
    for g in range(code.shape[0]):
        if code[g] == 0:
            work.slides[count] = g
            count += 1
    return count


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
def _next(k, h, p, x, count, plan, ends, walkers, touch, table, work):  # pragma: no cover
    """Return the neuron's next event within `h`: (time, what, hyperplane, side).

    Its polynomials have p coefficients.
    """
    w, near, code, sizes = work.w[:p], work.near, walkers.code[k], work.sizes[:, :p]
    size, along, aside = sizes[0], sizes[1], sizes[2]
    split(w, size, along, aside)
    keep_up(
        h, touch, plan.normals, walkers.z[k, 1:], code, walkers.fresh[k], size, along, aside, near,
        work.line,
    )  # fmt: skip
    listed = near.count[0]
    for c in range(listed):
        near.code[c] = code[near.planes[c]]
    at, what, where = first_of_neuron(
        h, near.normals[:, :listed], listed, work.all, near.code, work.a[:p], w,
        walkers.balance[k], walkers.sign[k], touch, table, size, along, aside, near.margin,
        work.line, work.poly[:p],
    )  # fmt: skip
    if where >= 0:
        where = near.planes[where]
    if count == 0:
        return at, what, where, 0
    for side in range(2):
        for r in range(count):
            g = work.slides[r]
            shift(ends[side, g : g + 1].T, x, work.ends[side, g : g + 1].T)
    leaves, which, side = slide_exit(
        at, walkers.sign[k], count, work.slides, work.multipliers, work.ends, work.local,
        plan.tie, table, work.exits,
    )  # fmt: skip
    if which >= 0:
        return leaves, SLIDE, work.slides[which], side
    return at, what, where, 0


@inlined
def _sides_at(x, g, ends, work):  # pragma: no cover - compiled
    for side in range(2):
        work.q[side, g] = horner(ends[side, g], x)


@inlined
def _choose(  # pragma: no cover - compiled
    plan, k, x, plane, count, on, ends, walkers, sums, U, out, work
):
    """Enter the cell behind `plane`; return the number of samples on there, -1 to ask."""
    normals, code, sign = plan.normals, walkers.code[k], walkers.sign[k]
    came = np.int64(code[plane])
    here = int(came > 0)
    slope = work.line
    for r in range(count + 1):
        g = plane if r == count else work.slides[r]
        _sides_at(x, g, ends, work)
        s = 0.0
        for i in range(normals.shape[0]):
            s += normals[i, g] * horner(work.base[:, i], x)
        slope[g] = sign * s
    walkers.fresh[k, plane] = True
    others = on - plan.on[here, plane]
    if count == 0 and not (plan.dies and others == 0):
        v = slope[plane] - sign * work.q[here, plane]
        side = switching.select_one(
            v + sign * work.q[1, plane], v + sign * work.q[0, plane], plan.tie, came
        )
        if side == -came:
            return _recode(plan, k, x, plane, side, ends, walkers, on, sums, U, out, work)
        if side == came:
            walkers.fresh[k, plane] = False
            return -1
    if count > 0 and not abs(work.q[1, plane] - work.q[0, plane]) > plan.tie:
        walkers.fresh[k, plane] = False  # without a jump, what nothing drives stays
        return -1
    found = switching.select(
        plan, sign, came, work.slides, count, plane, slope, others, work.sides, work.choice
    )
    if found == ASK or (found != DIES and work.sides[count] == came):
        walkers.fresh[k, plane] = False
        return -1
    for r in range(count + 1):
        g = plane if r == count else work.slides[r]
        on = _recode(plan, k, x, g, work.sides[r], ends, walkers, on, sums, U, out, work)
    if found == DIES:
        walkers.fate[k] = DEAD
        _write(out, k, x, DEATH, -1, -1, -1)
        return 0
    return on


@inlined
def _recode(  # pragma: no cover - compiled
    plan, k, x, g, new, ends, walkers, on, sums, U, out, work
):
    """Give hyperplane g its new code, and D what that changes; return how many are on."""
    code, normals, base = walkers.code[k], plan.normals, work.base
    old = code[g]
    walkers.fresh[k, g] = True
    if old == new:
        return on
    leaves, enters = 1.0 if old != 0 else 0.0, 1.0 if new != 0 else 0.0
    before, after = ends[int(old > 0), g], ends[int(new > 0), g]
    for i in range(base.shape[1]):
        nu = normals[i, g]
        for o in range(base.shape[0]):
            base[o, i] += (enters * after[o] - leaves * before[o]) * nu
    if old != 0:
        on -= plan.on[int(old > 0), g]
    if new != 0:
        on += plan.on[int(new > 0), g]
    code[g] = new
    if sums.moved.shape[1] > 0:
        change_side(k, g, old, new, sums, U)
    _write(out, k, x, PATTERN, g, old, new)
    return on


@inlined
def _write(out, k, x, kind, plane, before, after):  # pragma: no cover - compiled
    i = out.count[0]
    row = out.rows[i]
    row[0], row[1], row[2], row[3], row[4] = k, kind, plane, before, after
    out.x[i] = x
    out.steep[i] = 0.0
    out.count[0] = i + 1
