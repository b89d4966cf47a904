"""The closed-form walk of one neuron through its cells while r = y, compiled.

In a cell, or on a slide, D is constant and the next event known (`arrival`); behind it lies the
cell that Filippov's rules choose (`switching`). Margins, slopes and D follow from the Gram
matrix, O(G) a crossing; on slides they are computed afresh, O(G d).
"""

from __future__ import annotations

import numpy as np

from flowsim.alignment import switching
from flowsim.alignment.arrival import arrive, norm
from flowsim.alignment.neurons import (
    ASKS,
    BETA,
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
    STATUS,
    TIME,
)
from flowsim.alignment.switching import ASK, DIES, KEPT, compiled
from flowsim.events import DEAD, kind_code

#: Margins and slopes are computed afresh after so many events, when the neuron has shrunk by so
#: many powers of two, or D by such a factor: what rounding has left of larger numbers goes.
REFRESH, SHRUNK, FADED = 64, 2, 8.0

PATTERN, DEATH, SIGN_CHANGE = (kind_code(k) for k in ("pattern", "death", "sign_change"))


@compiled
def walk(plan, t, neurons, out, record, work):  # pragma: no cover - compiled
    """Walk all neurons that are under way up to time `t` (scaled), or until they ask.

    Every neuron stops at its last event at or before `t`. Returns whether the log is full.
    """
    # Arrays leave their tuples, and rows their arrays, once: each access counts references.
    whole, count, rows = neurons.whole, out.count, out.time.shape[0]
    normals, gram, q, on = plan.normals, plan.gram, plan.q, plan.on
    tie, dies, slides = plan.tie, plan.dies, work.counts
    side, margin = work.lines[SIDE], work.lines[MARGIN]
    slope, beta = work.lines[SLOPE], work.lines[BETA]
    held, field, peak = work.vectors[HELD], work.vectors[FIELD], work.peak
    for j in range(whole.shape[0]):
        if whole[j, STATUS] == FULL:
            whole[j, STATUS] = GOING
        if whole[j, STATUS] != GOING:
            continue
        _enter(plan, neurons, j, work)
        z, k, real, code = neurons.z[j], whole[j], neurons.real[j], neurons.code[j]
        left, size = REFRESH, k[EXPONENT]
        while k[STATUS] == GOING:
            if record and count[0] + z.shape[0] + 2 > rows:
                k[STATUS] = FULL
                return True
            if slides[0] > 0:
                rank = _project(plan, z, work)
                plane, turns = arrive(tie, t, z, k, real, rank, side, margin, beta, field)
            else:
                plane, turns = arrive(tie, t, z, k, real, 0, side, margin, slope, held)
            if turns:
                _turn(plan, neurons, j, out, record, work)
            elif plane >= 0:
                if slides[0] > 0 or not _cross(
                    normals, gram, q, on, tie, dies, plane, k, code, side, slope, held, peak, slides
                ):
                    _switch(plan, neurons, j, plane, out, record, work)
                elif record:
                    _write(out, j, real[TIME], PATTERN, plane, -code[plane], code[plane])
                left -= 1
                old = left <= 0 or k[EXPONENT] <= size - SHRUNK or norm(held) * FADED < peak[0]
                if old and k[STATUS] == GOING:
                    _enter(plan, neurons, j, work)
                    left, size = REFRESH, k[EXPONENT]
    return False


@compiled
def _enter(plan, neurons, j, work):  # pragma: no cover - compiled
    """Set up margins, slopes, slides and the number of samples that are on."""
    d, planes = plan.normals.shape
    lines, vectors, code = work.lines, work.vectors, neurons.code[j]
    sign = neurons.whole[j, SIGN]
    slides, on = 0, 0
    vectors[HELD] = 0.0
    for g in range(planes):
        lines[SIDE, g] = code[g]
        if code[g] == 0:
            work.slides[slides] = g
            slides += 1
        else:
            side = int(code[g] > 0)
            on += plan.on[side, g]
            for i in range(d):
                vectors[HELD, i] += sign * plan.q[side, g] * plan.normals[i, g]
    work.counts[0], work.counts[1] = slides, on
    work.peak[0] = norm(vectors[HELD])
    lines[SLOPE] = 0.0
    lines[MARGIN] = 0.0
    for i in range(d):
        f, w = vectors[HELD, i], neurons.z[j, 1 + i]
        for g in range(planes):
            lines[SLOPE, g] += f * plan.normals[i, g]
            lines[MARGIN, g] += w * plan.normals[i, g]


@compiled
def _project(plan, z, work):  # pragma: no cover - compiled
    """Project D and w onto the slides; return their rank."""
    normals, lines, choice = plan.normals, work.lines, work.choice
    d, planes = normals.shape
    D = work.vectors[FIELD]
    D[:] = work.vectors[HELD]
    basis = choice.basis
    rank, _ = switching.factor(
        normals, work.slides, work.counts[0], choice.whole[KEPT], choice.lower, basis
    )
    for r in range(rank):
        along, moved = 0.0, 0.0
        for i in range(d):
            along += basis[r, i] * D[i]
            moved += basis[r, i] * z[1 + i]
        for i in range(d):
            D[i] -= along * basis[r, i]
            z[1 + i] -= moved * basis[r, i]
    lines[BETA] = 0.0
    lines[MARGIN] = 0.0
    for i in range(d):
        f, w = D[i], z[1 + i]
        for g in range(planes):
            lines[BETA, g] += f * normals[i, g]
            lines[MARGIN, g] += w * normals[i, g]
    return rank


@compiled
def _turn(plan, neurons, j, out, record, work):  # pragma: no cover - compiled
    """Let a pass through zero: D acts the other way."""
    k = neurons.whole[j]
    if record:
        _write(out, j, neurons.real[j, TIME], SIGN_CHANGE, -1, k[SIGN], -k[SIGN])
    k[SIGN] = -k[SIGN]
    if work.counts[0] > 0:  # what attracted repels now
        k[STATUS] = ASKS
    else:
        _enter(plan, neurons, j, work)


@compiled
def _cross(  # pragma: no cover - compiled
    normals, gram, q, on, tie, dies, plane, k, code, side, slope, held, peak, counts
):
    """Take a neuron without slides across a hyperplane; return whether it crosses alive."""
    came = code[plane]
    here, there = int(came > 0), int(came < 0)
    if dies and counts[1] == on[here, plane]:
        return False
    sign = k[SIGN]
    base = slope[plane] - sign * q[here, plane]
    if (
        switching.select_one(base + sign * q[1, plane], base + sign * q[0, plane], tie, came)
        != -came
    ):
        return False
    counts[1] += on[there, plane] - on[here, plane]
    code[plane] = -came
    side[plane] = -came
    k[CHANGES] += 1
    _add_field(normals, gram, plane, sign * (q[there, plane] - q[here, plane]), slope, held, peak)
    return True


@compiled
def _add_field(normals, gram, g, change, slope, held, peak):  # pragma: no cover - compiled
    """Add ``change nu_g`` to D."""
    for i in range(normals.shape[0]):
        held[i] += change * normals[i, g]
    peak[0] = max(peak[0], abs(change))
    switching.add_gram_row(normals, gram, g, change, slope)


@compiled
def _switch(plan, neurons, j, plane, out, record, work):  # pragma: no cover - compiled
    """Choose and enter the cell behind hyperplane `plane`: a slide, a death, or several."""
    k, code, counts, slides = neurons.whole[j], neurons.code[j], work.counts, work.slides
    came, count = np.int64(code[plane]), counts[0]
    others = counts[1] - plan.on[int(came > 0), plane]
    found = switching.select(
        plan, k[SIGN], came, slides, count, plane, work.lines[SLOPE], others, work.sides,
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
    """Give hyperplane g its new code, and the slopes what that changes."""
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
    _add_field(plan.normals, plan.gram, g, change, work.lines[SLOPE], work.vectors[HELD], work.peak)
    code[g] = new
    work.lines[SIDE, g] = new
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
