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
    project_all,
)
from flowsim.engines.piecewise.expansion import compiled, recurrence, summing
from flowsim.engines.piecewise.motion import settle
from flowsim.engines.piecewise.roots import horner
from flowsim.engines.piecewise.slides import slide_exit
from flowsim.engines.piecewise.walk_arrays import ASKS, CUT, DONE, FULL, GOING
from flowsim.events import DEAD, kind_code

PATTERN, DEATH = (kind_code(k) for k in ("pattern", "death"))


@compiled
def shift(c, x, out):  # pragma: no cover - compiled
    """Write the coefficients of ``c(x + s)`` in powers of s."""
    p = c.shape[0]
    out[:] = c
    for i in range(p - 1):
        for o in range(p - 2, i - 1, -1):
            out[o] += x * out[o + 1]


@summing
def sum_of_sides(normals, code, ends, out):  # pragma: no cover - compiled
    """Write ``sum_g q_g nu_g`` (order+1, d) of a cell; slides add nothing."""
    d, planes = normals.shape
    for o in range(out.shape[0]):
        minus, plus = ends[0, o], ends[1, o]
        for s in range(d):
            x, row = 0.0, normals[s]
            for g in range(planes):
                x += row[g] * (plus[g] * (code[g] > 0) + minus[g] * (code[g] < 0))
            out[o, s] = x


@compiled
def walk(  # pragma: no cover - compiled
    k0, k1, end, unit, plan, ends, walkers, start, first, A, W, base, touch, table, patience,
    tolerance, out, work,
):  # fmt: skip
    """Walk those of walkers k0 to k1 that are under way up to `end` (in units), or until they ask.

    Returns the largest correction of a^2 - |w|^2.
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
                    patience, tolerance, out, work,
                ),
            )  # fmt: skip
    return drift


@compiled
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
    out,
    work,
):
    normals, code, d = plan.normals, walkers.code[k], plan.normals.shape[0]
    z, new, order = walkers.z[k], work.new, work.a.shape[0] - 1
    count, on = _enter(plan, code, work)
    known = not walkers.begun[k]
    drift, x = 0.0, 0.0
    if known:
        q = walkers.group[k]
        own_polynomials(
            q, start[q] + walkers.member[k], d, start, first, walkers.z, k, A, W, work.a, work.w
        )
        work.base[:] = base[walkers.group[k]]
        ahead, what, where, side = (
            walkers.x[k], walkers.what[k], walkers.where[k], walkers.side[k],
        )  # fmt: skip
    else:
        x = walkers.x[k]
        sum_of_sides(normals, code, ends, work.base)
        project_all(normals, z[1:], work.lines[0])
    walkers.begun[k] = True
    rank = _span(plan, count, work)
    while True:
        if not known:
            if not x < end:
                break
            if count > 0 and (rank < count or not _multipliers(plan, count, rank, work)):
                walkers.status[k] = CUT
                walkers.x[k] = x
                return drift
            span = min(end - x, _expand(order, unit, tolerance, x, z, rank, work))
            ahead, what, where, side = _next(
                k, span, x, count, plan, ends, walkers, touch, table, work
            )
            if what == NOTHING:
                ahead = span
        known = False
        at = ahead
        if what == MARGIN:
            began = 0.0
            for i in range(d):
                began += normals[i, where] * z[1 + i]
            if abs(began) > touch:
                walkers.fresh[k, where] = False
        new[0] = horner(work.a, at)
        for i in range(d):
            new[1 + i] = horner(work.w[:, i], at)
        _onto_slides(rank, work, new[1:])
        drift = max(
            drift,
            settle(
                k, new, walkers.z, walkers.exponent, walkers.balance, walkers.gap,
                walkers.gap_exponent, walkers.sign,
            ),
        )  # fmt: skip
        if what == NOTHING:
            x = end if at >= end - x else x + at
            project_all(normals, z[1:], work.lines[0])
            continue
        walkers.idle[k] = walkers.idle[k] + 1 if x + at == x else 0
        x += at
        walkers.x[k], walkers.what[k], walkers.where[k] = x, what, where
        if walkers.idle[k] > patience:
            walkers.status[k] = CUT
            return drift
        if what == SIGN:
            walkers.status[k] = ASKS
            return drift
        project_all(normals, z[1:], work.lines[0])
        alone = _open(where, touch, code, walkers.fresh[k], work.lines[0])
        if what == SLIDE:
            on = _recode(plan, k, x, where, side, ends, walkers, on, out, work)
        else:
            tiny = 0.0
            for i in range(d):
                tiny += z[1 + i] ** 2
            if not alone or walkers.fresh[k, where] or not tiny > touch**2:
                walkers.status[k] = ASKS
                return drift
            on = _choose(plan, k, x, where, count, on, ends, walkers, out, work)
            if on < 0:
                walkers.status[k] = ASKS
                return drift
        if walkers.fate[k] == DEAD:
            break
        if what == SLIDE and not alone:  # it has come onto others at the same time
            walkers.status[k], walkers.what[k] = ASKS, NOTHING
            return drift
        count = _list_slides(code, work) if what == SLIDE or count > 0 or code[where] == 0 else 0
        rank = _span(plan, count, work)
        if count > 0:
            _onto_slides(rank, work, z[1:])
            project_all(normals, z[1:], work.lines[0])
        if _is_full(out, d):
            walkers.status[k] = FULL
            return drift
    walkers.x[k] = x
    walkers.status[k] = DONE
    return drift


@compiled
def _enter(plan, code, work):  # pragma: no cover - compiled
    """List the slides; return how many they are and how many samples are on."""
    on = 0
    for g in range(code.shape[0]):
        if code[g] != 0:
            on += plan.on[int(code[g] > 0), g]
    return _list_slides(code, work), on


@compiled
def _list_slides(code, work):  # pragma: no cover - compiled
    count = 0
    for g in range(code.shape[0]):
        if code[g] == 0:
            work.slides[count] = g
            count += 1
    return count


@compiled
def _span(plan, count, work):  # pragma: no cover - compiled
    """Orthonormalise the slides' normals; return their rank."""
    if count == 0:
        return 0
    rank, _ = switching.factor(
        plan.normals, work.slides, count, work.choice.whole[KEPT], work.choice.lower,
        work.choice.basis,
    )  # fmt: skip
    return rank


@compiled
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


@compiled
def _onto_slides(rank, work, w):  # pragma: no cover - compiled
    """Project w (d,), a view, onto the slides (twice is enough)."""
    basis = work.choice.basis
    for _ in range(2 if rank > 0 else 0):
        for r in range(rank):
            s = 0.0
            for i in range(w.shape[0]):
                s += basis[r, i] * w[i]
            for i in range(w.shape[0]):
                w[i] -= s * basis[r, i]


@compiled
def _expand(order, unit, tolerance, x, z, rank, work):  # pragma: no cover - compiled
    """Write the neuron's polynomials from where it is; return for how long they hold.

    The cells that it enters may be faster than those that the step's length comes from.
    """
    d = work.w.shape[1]
    for i in range(d):
        shift(work.base[:, i], x, work.local[:, i])
    work.D[:] = work.local
    for o in range(order + 1):
        _onto_slides(rank, work, work.D[o])
    work.a[0] = z[0]
    for i in range(d):
        work.w[0, i] = z[1 + i]
    for o in range(order):
        recurrence(o, unit, work.D, work.a, work.w)
    span = np.inf
    for o in range(order - 1, order + 1):
        last = work.a[o] ** 2
        for i in range(d):
            last += work.w[o, i] ** 2
        if last > 0.0:
            span = min(span, (tolerance / np.sqrt(last)) ** (1.0 / o))
    rate = 0.0
    for i in range(d):
        rate += work.D[0, i] ** 2
    return min(span, 2.0 / (unit * np.sqrt(rate))) if rate > 0.0 else span


@compiled
def _next(k, h, x, count, plan, ends, walkers, touch, table, work):  # pragma: no cover - compiled
    """Return the neuron's next event within `h`: (time, what, hyperplane, side)."""
    at, what, where = first_of_neuron(
        h, plan.normals, work.all.shape[0], work.all, walkers.code[k], work.a, work.w,
        walkers.balance[k], walkers.sign[k], touch, table, work.sizes[0], work.sizes[1],
        work.sizes[2], work.lines[0], work.lines[1], work.poly,
    )  # fmt: skip
    if count == 0:
        return at, what, where, 0
    for r in range(count):
        for side in range(2):
            shift(ends[side, :, work.slides[r]], x, work.ends[side, :, work.slides[r]])
    leaves, which, side = slide_exit(
        at, walkers.sign[k], count, work.slides, work.multipliers, work.ends, work.local,
        plan.tie, table, work.exits,
    )  # fmt: skip
    if which >= 0:
        return leaves, SLIDE, work.slides[which], side
    return at, what, where, 0


@compiled
def _open(plane, touch, code, fresh, margin):  # pragma: no cover - compiled
    """Mark other hyperplanes that the neuron has left; return whether it is on `plane` alone."""
    alone = True
    for g in range(code.shape[0]):
        if code[g] == 0 or g == plane:
            continue
        if abs(margin[g]) > touch:
            fresh[g] = False
        elif not fresh[g]:
            alone = False
    return alone


@compiled
def _sides_at(x, g, ends, work):  # pragma: no cover - compiled
    for side in range(2):
        work.q[side, g] = horner(ends[side, :, g], x)


@compiled
def _choose(plan, k, x, plane, count, on, ends, walkers, out, work):  # pragma: no cover - compiled
    """Enter the cell behind `plane`; return the number of samples on there, -1 to ask."""
    normals, code, sign = plan.normals, walkers.code[k], walkers.sign[k]
    came = np.int64(code[plane])
    here = int(came > 0)
    slope = work.lines[1]
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
            return _recode(plan, k, x, plane, side, ends, walkers, on, out, work)
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
        on = _recode(plan, k, x, g, work.sides[r], ends, walkers, on, out, work)
    if found == DIES:
        walkers.fate[k] = DEAD
        _write(out, k, x, DEATH, -1, -1, -1)
        return 0
    return on


@compiled
def _recode(plan, k, x, g, new, ends, walkers, on, out, work):  # pragma: no cover - compiled
    """Give hyperplane g its new code, and D what that changes; return how many are on."""
    code, normals, base = walkers.code[k], plan.normals, work.base
    old = code[g]
    walkers.fresh[k, g] = True
    if old == new:
        return on
    for o in range(base.shape[0]):
        change = 0.0
        if old != 0:
            change -= ends[int(old > 0), o, g]
        if new != 0:
            change += ends[int(new > 0), o, g]
        for i in range(base.shape[1]):
            base[o, i] += change * normals[i, g]
    if old != 0:
        on -= plan.on[int(old > 0), g]
    if new != 0:
        on += plan.on[int(new > 0), g]
    code[g] = new
    _write(out, k, x, PATTERN, g, old, new)
    return on


@compiled
def _write(out, k, x, kind, plane, before, after):  # pragma: no cover - compiled
    i = out.count[0]
    row = out.rows[i]
    row[0], row[1], row[2], row[3], row[4] = k, kind, plane, before, after
    out.x[i] = x
    out.count[0] = i + 1
