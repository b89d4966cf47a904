"""Turn neurons that have walked, each by the fields of its last cell; compiled."""

from __future__ import annotations

import numpy as np

from flowsim.engines.piecewise.codes import list_differences, list_zeros, slope_at
from flowsim.engines.piecewise.jit import allocating, borrowed, compiled, inlined
from flowsim.engines.piecewise.kin import field_of
from flowsim.engines.piecewise.own import onto_slides
from flowsim.engines.piecewise.walk import span_slides
from flowsim.events import ALIVE, kind_code

#: By how much of it may be wrong what is known only at the end of what crossings do to later ones,
#: the more of it is added afterwards, and what a parabola in its shape has put right.
UNSURE = 0.5

PATTERN = kind_code("pattern")


@allocating
def fields_of_walkers(  # pragma: no cover - compiled
    weight, slope, X, orientation, first, samples, on, active, kin, r, old, walkers, out
):
    """Write the fields (K, R, d) that r (R, n) makes in the walkers' cells.

    A walker's cell is that of its group, old (K, G), but for the hyperplanes that it has crossed.
    """
    walkers, on, kin, out = borrowed(walkers), borrowed(on), borrowed(kin), borrowed(out)
    rows, d, n = r.shape[0], X.shape[0], X.shape[1]
    T, base = np.empty((rows * d, n)), np.empty((active.shape[0], 1, rows * d))
    for o in range(rows):
        for i in range(d):
            for k in range(n):
                T[o * d + i, k] = weight * r[o, k] * X[i, k]
    needed = np.zeros(active.shape[0], np.bool_)
    for k in range(out.shape[0]):
        needed[walkers.group[k]] = True
    for q in range(active.shape[0] - 1, -1, -1):
        if needed[q] and kin.parent[q] >= 0:
            needed[kin.parent[q]] = True
    for q in range(active.shape[0]):
        if needed[q]:
            field_of(q, slope, on, active, kin, T, 0, base)
    changes = np.empty(old.shape[1], np.int64)
    for k in range(out.shape[0]):
        field, code = out[k].reshape(-1), walkers.code[k]
        field[:] = base[walkers.group[k], 0]
        for at in range(list_differences(code, old[k], changes)):
            g = changes[at]
            for p in samples[first[g] : first[g + 1]]:
                side = orientation[p]
                more = slope_at(code[g] * side, slope) - slope_at(old[k, g] * side, slope)
                for s in range(field.shape[0]):
                    field[s] += more * T[s, p]


@allocating
def turn_crossing(  # pragma: no cover - compiled
    rows, x, steep, begun, unit, normals, z, touch, felt, shape, by_then, D, thirds, beside, F0,
    moved, later,
):  # fmt: skip
    """Add to F0 (K, d), those of the last cells, what comes of when they were entered.

    Before it crossed a hyperplane a neuron felt its samples as they act on the other side. And the
    neuron was turned by then, so that it crossed earlier or later, and has had the field behind
    for longer or shorter: both have turned it when it comes to the next one. So it has where it
    was turned over the hyperplane at the end of the step before, `z` (K, d+1) being where it began.
    On a slide it was not turned along the normal, until another crossing has ended that.

    `felt` and `shape` are those of `added`, D (K, d) the fields of the last cells, and thirds
    (K, 3, d) those of third order in time, as `_third_order` has them; beside (G,) is what they
    add at a hyperplane. moved (R,) receives by how much crossings are later, later (K,) by how
    much F0 may be wrong.
    """
    d = normals.shape[0]
    before = np.zeros(F0.shape)  # what crossings have turned each walker by
    for i in range(rows.shape[0]):
        moved[i] = 0.0
        if rows[i, 1] != PATTERN:
            continue
        k, g, v = rows[i, 0], rows[i, 2], steep[i, 1]
        more, unsure = _third_order(shape[i], by_then, steep[i, 3 : 3 + d], thirds[k])
        by_others, by_own, margin, rate, jump = felt[i, 0] + more, 0.0, 0.0, 0.0, 0.0
        for s in range(d):
            by_own += steep[i, 3 + s] * before[k, s]
            margin += normals[s, g] * z[k, 1 + s]
            rate += D[k, s] ** 2
            jump += steep[i, 3 + d + s] ** 2
        if x[i] == 0.0 and abs(margin) > touch:
            by_own += margin / z[k, 0]
        turned = by_others + by_own
        crosses = rows[i, 3] == -rows[i, 4]
        by = turned / v if v != 0.0 and crosses else 0.0
        kept = turned if rows[i, 3] == 0 else 0.0  # what the slide has kept the neuron from
        for s in range(d):
            by_crossing = felt[i, 1] * normals[s, g] + by * steep[i, 3 + d + s]
            by_crossing -= kept * steep[i, 3 + s]
            F0[k, s] += by_crossing
            before[k, s] += by_crossing
        if rows[i, 3] != 0:  # no slide has ended
            jump = np.sqrt(jump)
            # Meanwhile the neuron goes on turning: by a third, where that grows with the square.
            turns = min((np.sqrt(rate) + unit * jump) * (x[i] - begun), 1.0)
            wrong = turns * (abs(by_others) / 3.0 + abs(by_own)) + UNSURE * unsure
            # On a slide it matters only for where, and thus when, the neuron comes to it.
            share = 1.0 if not crosses else (jump / abs(v) if v != 0.0 else 0.0)
            later[k] += shape[i] * beside[g] + share * wrong
        if v != 0.0:
            moved[i] = -turned / (unit * v)


@compiled
def _third_order(part, by_then, normal, fields):  # pragma: no cover - compiled
    """Return how much of the fields of third order acts along a normal by now, and may be wrong.

    `part` of them has been added, by its shape. Of fields (3, d) the first is that at the end, the
    second what is known at the end only, and the third how much more than the shape says there was
    when it said `by_then`: a parabola in the shape goes through it.
    """
    bend = part * (1.0 - part) / (by_then * (1.0 - by_then)) if 0.0 < by_then < 1.0 else 0.0
    at_end, unknown, more = 0.0, 0.0, 0.0
    for s in range(normal.shape[0]):
        at_end += normal[s] * fields[0, s]
        unknown += normal[s] * fields[1, s]
        more += normal[s] * fields[2, s]
    return part * at_end + bend * more, part * (1.0 - part) * abs(unknown) + bend * abs(more)


@compiled
def move_events(order, rows, x, moved, end):  # pragma: no cover - compiled
    """Move the times of rows by `moved`, and those of what else happened to a neuron then.

    `order` lists all rows by time. A crossing at the step's beginning was in the step before.
    """
    for n in range(order.shape[0]):
        i = order[n]
        if moved[i] == 0.0:
            continue
        for way in (-1, 1):
            other = n + way
            while 0 <= other < order.shape[0] and x[order[other]] == x[i]:
                o = order[other]
                if rows[o, 0] == rows[i, 0] and moved[o] == 0.0:
                    moved[o] = moved[i]
                other += way
    for i in range(x.shape[0]):
        x[i] = min(max(x[i] + moved[i], 0.0 if x[i] > 0.0 else -end), end)


@allocating
def undo_early(rows, normals, touch, walkers, kept):  # pragma: no cover - compiled
    """Let neurons that are before a hyperplane again, which they had just crossed, be there.

    kept (R,) receives which rows are left; returns whether all.
    """
    kept[:] = True
    for i in range(rows.shape[0] - 1, -1, -1):
        k, kind, g, before, after = rows[i]
        if kind != PATTERN or before != -after or walkers.code[k, g] != after:
            continue
        margin = 0.0
        for s in range(normals.shape[0]):
            margin += normals[s, g] * walkers.z[k, 1 + s]
        if walkers.fate[k] == ALIVE and after * margin < -touch:
            walkers.code[k, g], walkers.fresh[k, g] = before, False
            kept[i] = False
    return np.all(kept)


@compiled
def turn_walkers(plan, fields, walkers, work):  # pragma: no cover - compiled
    """Turn walkers by F0, F1 and D (K, 3+, d), on their slides. Returns the largest ``||F0||``."""
    largest = 0.0
    for k in range(fields.shape[0]):
        if walkers.fate[k] != ALIVE:
            continue
        count = list_zeros(walkers.code[k], work.slides)
        rank = span_slides(plan, count, work)
        for i in range(3 if rank > 0 else 0):
            onto_slides(rank, work.choice.basis, fields[k, i])
        largest = max(largest, _turn_one(k, walkers.z, fields))
        if rank > 0:
            onto_slides(rank, work.choice.basis, walkers.z[k, 1:])
    return np.sqrt(largest)


@inlined
def _turn_one(k, z, fields):  # pragma: no cover - compiled
    """Turn one walker as `turning.turn` does; return the square of ||F0||."""
    a, along, with_field, square = z[k, 0], 0.0, 0.0, 0.0
    for i in range(fields.shape[2]):
        w = z[k, 1 + i]
        along += fields[k, 1, i] * w
        with_field += fields[k, 2, i] * w
        z[k, 0] += fields[k, 0, i] * w
        square += fields[k, 0, i] ** 2
    for i in range(fields.shape[2]):
        z[k, 1 + i] += a * fields[k, 0, i] + along * fields[k, 2, i] - with_field * fields[k, 1, i]
    return square
