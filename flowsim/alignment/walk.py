"""The closed-form walk of one neuron through its cells while r = y, compiled.

In a cell, or on a slide, D is constant and the next event known (`arrival`); behind it lies the
cell that Filippov's rules choose (`switching`). Margins and slopes are those of the listed
hyperplanes (`nearby`): of all where they are few, else of about as many as the square root.
"""

from __future__ import annotations

import numpy as np

from flowsim.alignment import switching
from flowsim.alignment.arrival import (
    BEYOND,
    MEETS,
    TURNS,
    foresee,
    norm,
    outcome,
    travel,
)
from flowsim.alignment.nearby import ANGLE, COSINE, FEW, START, WIDENED, gather, list_all
from flowsim.alignment.neurons import (
    ASKS,
    CHANGES,
    EXPONENT,
    FATE,
    FIELD,
    FULL,
    GOING,
    HELD,
    MARGIN,
    SETTLED,
    SIDE,
    SIGN,
    SLOPE,
    SPARE,
    STATUS,
    TIME,
)
from flowsim.alignment.switching import ASK, DIES, KEPT, compiled, inlined, summing
from flowsim.events import DEAD, kind_code

#: Margins and slopes are computed afresh after so many events, when the neuron has shrunk by so
#: many powers of two, or D by such a factor: what rounding has left of larger numbers goes.
REFRESH, SHRUNK, FADED = 64, 2, 8.0

PATTERN, DEATH, SIGN_CHANGE = (kind_code(k) for k in ("pattern", "death", "sign_change"))


@compiled
def walk(plan, t, neurons, out, record, work, near):  # pragma: no cover - compiled
    """Walk all neurons that are under way up to time `t` (scaled), or until they ask.

    Every neuron stops at its last event at or before `t`. Returns whether the log is full.
    """
    whole, count, rows = neurons.whole, out.count, out.time.shape[0]
    normals, gram, q, on = plan.normals, plan.gram, plan.q, plan.on
    tie, dies, slides, counts = plan.tie, plan.dies, work.slides, work.counts
    side, margin, slope, spare = (
        work.lines[SIDE], work.lines[MARGIN], work.lines[SLOPE], work.lines[SPARE],
    )  # fmt: skip
    held, D, peak = work.vectors[HELD], work.vectors[FIELD], work.peak
    kept, lower, basis = work.choice.whole[KEPT], work.choice.lower, work.choice.basis
    planes, listed, watched, centre = near.planes, near.count, near.normals, near.centre
    cone, many = near.cone, normals.shape[1] > FEW
    list_all(normals, near)
    for j in range(whole.shape[0]):
        if whole[j, STATUS] == FULL:
            whole[j, STATUS] = GOING
        if whole[j, STATUS] != GOING:
            continue
        z, k, real, code = neurons.z[j], whole[j], neurons.real[j], neurons.code[j]
        cone[ANGLE], left, size = cone[START], REFRESH, k[EXPONENT]
        angle, tried = cone[START], True
        anew, look, changed = True, many, True  # D, the list, margins and slopes: to be set up
        while k[STATUS] == GOING:
            if record and count[0] + z.shape[0] + 2 > rows:
                k[STATUS] = FULL
                return True
            if anew:
                _sum_up(normals, q, on, code, k[SIGN], spare, held, peak, slides, counts)
            rank = 0
            for i in range(held.shape[0]):
                D[i] = held[i]
            if counts[0] > 0:
                rank = _project(normals, slides, counts[0], kept, lower, basis, z, D)
                changed = True
            if look:
                gather(angle, normals, z, D, near)
            if anew or look or changed:
                _products(planes, listed[0], watched, code, z, D, side, margin, slope)
            kind, place, way, a, time = foresee(
                tie, z, k, real, rank, listed[0], side, margin, slope, spare, D, centre, cone
            )
            anew, look, changed = False, False, False
            if kind == BEYOND:
                angle, look, tried = WIDENED * angle if tried else cone[ANGLE], True, True
                continue
            k[STATUS] = outcome(kind, time, t)
            if k[STATUS] != GOING:
                break
            plane = planes[place] if kind == MEETS else -1
            k[STATUS] = travel(
                tie, kind, plane, way, a, time, z, k, real, listed[0], side, margin, slope, D
            )
            if k[STATUS] != GOING:
                break
            if kind == TURNS:  # D acts the other way; what attracted repels now
                if record:
                    _write(out, j, time, SIGN_CHANGE, -1, k[SIGN], -k[SIGN])
                k[SIGN], k[STATUS] = -k[SIGN], ASKS if counts[0] > 0 else GOING
                anew = True
            elif counts[0] == 0 and _goes_through(
                q, on, tie, dies, plane, k[SIGN], code[plane], counts[1], slope[place]
            ):
                if record:
                    _write(out, j, time, PATTERN, plane, code[plane], -code[plane])
                _cross(
                    watched, gram, q, on, planes, place, listed[0], k, code, side, slope, held,
                    peak, counts,
                )  # fmt: skip
            else:
                _switch(plan, neurons, j, plane, out, record, work)
                changed = True
            left -= 1
            if left <= 0 or k[EXPONENT] <= size - SHRUNK or norm(held) * FADED < peak[0]:
                anew, left, size = True, REFRESH, k[EXPONENT]
            tried = many and (anew or cone[COSINE] < -1.0)
            if tried:
                angle, look = cone[ANGLE], True
    return False


@inlined
def _sum_up(  # pragma: no cover - compiled
    normals, q, on, code, sign, spare, held, peak, slides, counts
):
    """Set up D, slides and the number of samples that are on."""
    planes = normals.shape[1]
    count, number = 0, 0
    for g in range(planes):  # loops without branches do several at once
        here, plus, minus = code[g], q[1, g], q[0, g]
        spare[g] = sign * (plus if here > 0 else (minus if here < 0 else 0.0))
    for g in range(planes):
        here, plus, minus = code[g], on[1, g], on[0, g]
        number += plus if here > 0 else (minus if here < 0 else 0)
    for g in range(planes):
        if code[g] == 0:
            slides[count] = g
            count += 1
    counts[0], counts[1] = count, number
    _add_up(normals, spare, held)
    peak[0] = norm(held)


@summing
def _add_up(normals, weights, D):  # pragma: no cover - compiled
    """Write the sum of all normals times their weights."""
    for i in range(D.shape[0]):
        s = 0.0
        for g in range(normals.shape[1]):
            s += weights[g] * normals[i, g]
        D[i] = s


@inlined
def _products(  # pragma: no cover - compiled
    planes, count, normals, code, z, D, side, margin, slope
):
    """Write sides of the listed hyperplanes, and products of their normals with D and w."""
    for c in range(count):
        side[c] = code[planes[c]]
        slope[c] = 0.0
        margin[c] = 0.0
    for i in range(normals.shape[0]):
        f, w = D[i], z[1 + i]
        for c in range(count):
            slope[c] += f * normals[i, c]
            margin[c] += w * normals[i, c]


@compiled
def _project(  # pragma: no cover - compiled
    normals, slides, count, kept, lower, basis, z, D
):
    """Project D and w onto the slides; return their rank."""
    d = normals.shape[0]
    rank, _ = switching.factor(normals, slides, count, kept, lower, basis)
    for _ in range(2):  # where little is left, the first leaves as much off the slides by rounding
        for r in range(rank):
            along, moved = 0.0, 0.0
            for i in range(d):
                along += basis[r, i] * D[i]
                moved += basis[r, i] * z[1 + i]
            for i in range(d):
                D[i] -= along * basis[r, i]
                z[1 + i] -= moved * basis[r, i]
    return rank


@inlined
def _goes_through(q, on, tie, dies, plane, sign, came, others, slope):  # pragma: no cover
    """Return whether a neuron without slides that has come to a hyperplane crosses it alive."""
    here = int(came > 0)
    base = slope - sign * q[here, plane]
    plus, minus = base + sign * q[1, plane], base + sign * q[0, plane]
    onward = switching.select_one(plus, minus, tie, came) == -came
    return onward & ((others != on[here, plane]) | (not dies))


@inlined
def _cross(  # pragma: no cover - compiled
    normals, gram, q, on, planes, place, count, k, code, side, slope, held, peak, counts
):
    """Take a neuron without slides across a hyperplane.

    place: where among the `count` listed hyperplanes, whose `normals` are given, it is.
    """
    plane = planes[place]
    came = code[plane]
    here, there = int(came > 0), int(came < 0)
    counts[1] += on[there, plane] - on[here, plane]
    code[plane] = -came
    side[place] = -came
    k[CHANGES] += 1
    change = k[SIGN] * (q[there, plane] - q[here, plane])
    for i in range(held.shape[0]):
        held[i] += change * normals[i, place]
    peak[0] = max(peak[0], abs(change))
    switching.add_gram_row(normals, gram, planes, plane, place, count, change, slope)


@compiled
def _switch(plan, neurons, j, plane, out, record, work):  # pragma: no cover - compiled
    """Choose and enter the cell behind hyperplane `plane`: a slide, a death, or several."""
    k, code, counts, slides = neurons.whole[j], neurons.code[j], work.counts, work.slides
    came, count = np.int64(code[plane]), counts[0]
    others = counts[1] - plan.on[int(came > 0), plane]
    slope = work.lines[SPARE]
    for c in range(count + 1):
        g = plane if c == count else slides[c]
        slope[g] = 0.0
        for i in range(plan.normals.shape[0]):
            slope[g] += plan.normals[i, g] * work.vectors[HELD, i]
    found = switching.select(
        plan, k[SIGN], came, slides, count, plane, slope, others, work.sides,
        work.choice,
    )  # fmt: skip
    if found == ASK:
        k[STATUS] = ASKS
        return
    kept = 0
    for c in range(count + 1):
        g = plane if c == count else slides[c]
        _recode(plan, neurons, j, g, work.sides[c], out, record, work)
        if work.sides[c] == 0:
            slides[kept] = g
            kept += 1
    counts[0] = kept
    if found == DIES:
        k[FATE], k[STATUS] = DEAD, SETTLED
        if record:
            _write(out, j, neurons.real[j, TIME], DEATH, -1, -1, -1)


@compiled
def _recode(plan, neurons, j, g, new, out, record, work):  # pragma: no cover - compiled
    """Give hyperplane g its new code, and D what that changes."""
    code, sign = neurons.code[j], neurons.whole[j, SIGN]
    old = code[g]
    if old == new:
        return
    change = 0.0
    if old != 0:
        change -= sign * plan.q[int(old > 0), g]
        work.counts[1] -= plan.on[int(old > 0), g]
    if new != 0:
        change += sign * plan.q[int(new > 0), g]
        work.counts[1] += plan.on[int(new > 0), g]
    held = work.vectors[HELD]
    for i in range(held.shape[0]):
        held[i] += change * plan.normals[i, g]
    work.peak[0] = max(work.peak[0], abs(change))
    code[g] = new
    neurons.whole[j, CHANGES] += 1
    if record:
        _write(out, j, neurons.real[j, TIME], PATTERN, g, old, new)


@compiled
def _write(out, j, time, kind, plane, before, after):  # pragma: no cover - compiled
    i = out.count[0]
    row = out.rows[i]
    row[0], row[1], row[2], row[3], row[4] = j, kind, plane, before, after
    out.time[i] = time
    out.count[0] = i + 1
