"""Turn neurons that have walked, each by the fields of its last cell; compiled."""

from __future__ import annotations

import numpy as np

from flowsim.engines.piecewise.expansion import compiled
from flowsim.engines.piecewise.own import onto_slides
from flowsim.engines.piecewise.turning import turn
from flowsim.engines.piecewise.walk import list_slides, span_slides, sum_of_sides
from flowsim.events import ALIVE


@compiled
def fields_of_walkers(plan, ends, walkers, out):  # pragma: no cover - compiled
    """Write the fields (K, 3, d) of F0, F1 and D, whose sides add ends (2, G, 3)."""
    for k in range(out.shape[0]):
        if walkers.fate[k] == ALIVE:
            sum_of_sides(plan.normals, walkers.code[k], ends, out[k])


@compiled
def turn_walkers(plan, fields, walkers, work):  # pragma: no cover - compiled
    """Turn walkers by F0, F1 and D (K, 3, d), on their slides. Returns the largest ``||F0||``."""
    largest = 0.0
    for k in range(fields.shape[0]):
        if walkers.fate[k] != ALIVE:
            continue
        count = list_slides(walkers.code[k], work)
        rank = span_slides(plan, count, work)
        for i in range(3):
            onto_slides(rank, work.choice.basis, fields[k, i])
        work.tile.who[0] = k
        turn(1, work.tile, walkers.z, fields[k, 2], fields[k, 0], fields[k, 1])
        onto_slides(rank, work.choice.basis, walkers.z[k, 1:])
        largest = max(largest, np.sqrt(np.sum(fields[k, 0] ** 2)))
    return largest


@compiled
def shared_planes(  # pragma: no cover - compiled
    order, rows, x, steep, weights, end, before, until, last
):
    """Find what several neurons that cross one hyperplane do to each other there, to first order.

    With v_i the rate of their a nu . w on a side, after less before they cross at x_i,

        A_s(x) = sum_{x_i < x} v_i (x - x_i)^2 / 2

    is what they have added to its integral on side s by x, and ``-sum_s' weights[g, s, s'] A_s'``
    turns w along nu on side s. `order` lists the crossings by hyperplane and time; `weights` are
    ``weight sum_k |x_k|^2 c_k(s) c_k(s')``. Of each row, `before` and `until` (R, 2) receive that
    on the sides before and behind the crossing, by x and (`until`) by the end; last (G, 2) A_s.
    """
    total, added = np.zeros((2, 3)), np.zeros(2)
    last[:] = 0.0
    for n in range(order.shape[0]):
        i = order[n]
        g = rows[i, 2]
        if n == 0 or rows[order[n - 1], 2] != g:
            first = x[i]
            total[:] = 0.0
        s = x[i] - first
        _sums_at(total, s, added)
        _on_sides(rows[i], weights[g], added, before[i])
        for side in range(2):
            v = steep[i, 2] * int(rows[i, 4] == 2 * side - 1)
            v -= steep[i, 1] * int(rows[i, 3] == 2 * side - 1)
            v *= steep[i, 0]
            total[side, 0] += v
            total[side, 1] += v * s
            total[side, 2] += v * s * s
        _sums_at(total, end - first, last[g])
    for n in range(order.shape[0]):
        i = order[n]
        _on_sides(rows[i], weights[rows[i, 2]], last[rows[i, 2]], until[i])


@compiled
def _sums_at(total, s, out):  # pragma: no cover - compiled
    for side in range(2):
        out[side] = 0.5 * (s * (s * total[side, 0] - 2.0 * total[side, 1]) + total[side, 2])


@compiled
def _on_sides(row, weights, added, out):  # pragma: no cover - compiled
    for i in range(2):
        out[i] = 0.0
        code = row[3 + i]
        for other in range(2):
            if code != 0:
                out[i] -= weights[int(code > 0), other] * added[other]
