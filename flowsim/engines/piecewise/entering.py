"""What becomes of a walking neuron at a hyperplane, and its new cell; compiled."""

from __future__ import annotations

import numpy as np

from flowsim.alignment import switching
from flowsim.alignment.switching import ASK, DIES
from flowsim.engines.piecewise.jit import compiled, inlined
from flowsim.engines.piecewise.roots import horner
from flowsim.engines.piecewise.walk_sums import change_side
from flowsim.events import DEAD, kind_code

PATTERN, DEATH = (kind_code(k) for k in ("pattern", "death"))


@inlined
def cross(  # pragma: no cover - compiled
    plan, k, x, plane, others, ends, code, fresh, sign, base, sums, U, out
):
    """Take a neuron without slides across `plane`, if that is what it does.

    Returns the number of samples on behind it, or -1.
    """
    came = np.int64(code[plane])
    minus, plus = horner(ends[0, plane], x), horner(ends[1, plane], x)
    v = 0.0
    for o in range(base.shape[0] - 1, -1, -1):
        along = 0.0
        for i in range(base.shape[1]):
            along += plan.normals[i, plane] * base[o, i]
        v = v * x + along
    v = sign * v - sign * (plus if came > 0 else minus)
    if switching.select_one(v + sign * plus, v + sign * minus, plan.tie, came) != -came:
        return -1
    enter(plan.normals, ends, plane, code, fresh, base, -came)
    if sums.moved.shape[1] > 0:
        change_side(sums.moved[k], plan.normals, plane, came, -came, U)
    write(out, k, x, PATTERN, plane, came, -came)
    return others + plan.on[int(came < 0), plane]


@compiled
def sides_at(x, g, ends, work):  # pragma: no cover - compiled
    for side in range(2):
        work.q[side, g] = horner(ends[side, g], x)


@compiled
def choose(  # pragma: no cover - compiled
    plan, k, x, plane, count, others, ends, walkers, sums, U, out, work
):
    """Enter the cell behind `plane`; return the number of samples on there, -1 to ask.

    So many `others` are on. A neuron without slides does not cross.
    """
    normals, code, sign = plan.normals, walkers.code[k], walkers.sign[k]
    came = np.int64(code[plane])
    on = others + plan.on[int(came > 0), plane]
    slope = work.line
    for r in range(count + 1):
        g = plane if r == count else work.slides[r]
        sides_at(x, g, ends, work)
        s = 0.0
        for i in range(normals.shape[0]):
            s += normals[i, g] * horner(work.base[:, i], x)
        slope[g] = sign * s
    walkers.fresh[k, plane] = True
    if count == 0 and not (plan.dies and others == 0):
        v = slope[plane] - sign * work.q[int(came > 0), plane]
        if (
            switching.select_one(
                v + sign * work.q[1, plane], v + sign * work.q[0, plane], plan.tie, came
            )
            == came
        ):
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
        on = recode(plan, k, x, g, work.sides[r], ends, walkers, on, sums, U, out, work)
    if found == DIES:
        walkers.fate[k] = DEAD
        write(out, k, x, DEATH, -1, -1, -1)
        return 0
    return on


@inlined
def enter(normals, ends, g, code, fresh, base, new):  # pragma: no cover - compiled
    """Give hyperplane g its new code, and D what that changes."""
    old = code[g]
    leaves, enters = 1.0 if old != 0 else 0.0, 1.0 if new != 0 else 0.0
    before, after = ends[int(old > 0), g], ends[int(new > 0), g]
    for i in range(base.shape[1]):
        nu = normals[i, g]
        for o in range(base.shape[0]):
            base[o, i] += (enters * after[o] - leaves * before[o]) * nu
    code[g], fresh[g] = new, True


@compiled
def recode(  # pragma: no cover - compiled
    plan, k, x, g, new, ends, walkers, on, sums, U, out, work
):
    """Give hyperplane g its new code, and D what that changes; return how many are on."""
    code = walkers.code[k]
    old = code[g]
    walkers.fresh[k, g] = True
    if old == new:
        return on
    enter(plan.normals, ends, g, code, walkers.fresh[k], work.base, new)
    if old != 0:
        on -= plan.on[int(old > 0), g]
    if new != 0:
        on += plan.on[int(new > 0), g]
    if sums.moved.shape[1] > 0:
        change_side(sums.moved[k], plan.normals, g, old, new, U)
    write(out, k, x, PATTERN, g, old, new)
    return on


@inlined
def write(out, k, x, kind, plane, before, after):  # pragma: no cover - compiled
    i = out.count[0]
    row = out.rows[i]
    row[0], row[1], row[2], row[3], row[4] = k, kind, plane, before, after
    out.x[i] = x
    out.steep[i] = 0.0
    out.count[0] = i + 1
