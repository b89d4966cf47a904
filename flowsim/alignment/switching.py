"""Filippov selection in the frozen flow, compiled: the common cases of `flowsim.selection`.

A neuron that arrives at one hyperplane crosses it or slides; one that already slides on
independent hyperplanes chooses on all of them at once (derivations/sliding_field.py). What
is rarer, dependent slides, w = 0 and simultaneous arrivals, is left to `flowsim.selection`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from flowsim.cells import RANK_TOLERANCE

#: What `select` found: sides were chosen; the neuron dies; `flowsim.selection` must decide.
CHOSEN, DIES, ASK = range(3)
#: Multipliers of hyperplanes closer to dependent than this are left to `flowsim.selection`,
#: which does not square their condition.
SAFE = 1e-3
#: With more inputs, scattered entries of a row of the Gram matrix are read sooner than computed.
SCATTERED = 8
#: Rows of `Scratch.whole` and of `Scratch.real`.
PLANES, INSIDE, WHERE, KEPT, PLACE = range(5)
X, BASE, SHIFTED, LOW, HIGH, ZETA, VELOCITY = range(7)

# Whoever calls these kernels keeps the arrays, and they make none: without NRT, Numba's memory
# management, no references are counted, which would take longer than the rest of a crossing.
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}
compiled = njit(**_OPTIONS)
inlined = njit(**_OPTIONS, forceinline=True)
#: Sums may be taken in any order, which lets vector registers take them.
summing = njit(**_OPTIONS, fastmath={"reassoc", "nsz", "contract"})


class Scratch(NamedTuple):
    """Working memory of one thread for choices among k hyperplanes."""

    whole: np.ndarray  # (5, k) int64
    real: np.ndarray  # (7, k)
    lower: np.ndarray  # (d+1, d+1)
    basis: np.ndarray  # (d+1, d)


def scratch(d: int, planes: int) -> Scratch:
    """Allocate the working memory of one thread."""
    return Scratch(
        np.zeros((5, planes + 1), np.int64), np.zeros((7, planes + 1)),
        np.zeros((d + 1, d + 1)), np.zeros((d + 1, d)),
    )  # fmt: skip


@inlined
def add_gram_row(  # pragma: no cover - compiled
    normals, gram, planes, plane, place, count, factor, out
):
    """Add ``factor nu_g . nu_h`` to out[h] for all listed h.

    g is `plane`, and listed at `place`; normals (d, G): of the `count` listed `planes`.
    """
    if gram.shape[0] == count:
        for h in range(count):
            out[h] += factor * gram[plane, h]
    elif gram.shape[0] > 0 and normals.shape[0] > SCATTERED:
        for h in range(count):
            out[h] += factor * gram[plane, planes[h]]
    else:
        for i in range(normals.shape[0]):
            f = factor * normals[i, place]
            for h in range(count):
                out[h] += f * normals[i, h]


@inlined
def dot(normals, g, h):  # pragma: no cover - compiled
    """Return ``nu_g . nu_h``."""
    s = 0.0
    for i in range(normals.shape[0]):
        s += normals[i, g] * normals[i, h]
    return s


@compiled
def factor(normals, planes, count, kept, lower, basis):  # pragma: no cover - compiled
    """Orthonormalise the first independent ones of `planes` (Gram-Schmidt, twice).

    Writes their places into `kept`, an orthonormal basis of their normals into the rows of
    `basis`, and L with ``normals = L basis`` into `lower`; returns how many they are, and
    the smallest diagonal entry of L.
    """
    d = normals.shape[0]
    rank, smallest = 0, 1.0
    for c in range(count):
        if rank == d:
            break
        new = basis[rank]
        for i in range(d):
            new[i] = normals[i, planes[c]]
        lower[rank, :rank] = 0.0
        for _ in range(2):
            for r in range(rank):
                s = 0.0
                for i in range(d):
                    s += basis[r, i] * new[i]
                for i in range(d):
                    new[i] -= s * basis[r, i]
                lower[rank, r] += s
        size = 0.0
        for i in range(d):
            size += new[i] ** 2
        size = np.sqrt(size)
        if size > RANK_TOLERANCE:
            for i in range(d):
                new[i] /= size
            lower[rank, rank] = size
            smallest = min(smallest, size)
            kept[rank] = c
            rank += 1
    return rank, smallest


@compiled
def solve(lower, rank, x):  # pragma: no cover - compiled
    """Solve ``L L^T x = b`` in place."""
    for r in range(rank):
        for q in range(r):
            x[r] -= lower[r, q] * x[q]
        x[r] /= lower[r, r]
    for r in range(rank - 1, -1, -1):
        for q in range(r + 1, rank):
            x[r] -= lower[q, r] * x[q]
        x[r] /= lower[r, r]


@inlined
def select_one(plus, minus, tie, came):  # pragma: no cover - compiled
    """Return the side of one hyperplane reached from side `came`; see `flowsim.selection`.

    plus, minus: velocities of the margin on the two sides.
    """
    if plus < minus - tie:
        if minus < -tie:
            return -1
        return 1 if plus > tie else 0
    if minus > tie:
        return 1
    if plus < -tie:
        return -1
    if came < 0:
        return 1 if minus >= -tie and plus > tie else -1
    return -1 if plus <= tie and minus < -tie else 1


@compiled
def _box(normals, tie, count, base, whole, real, lower, basis):  # pragma: no cover - compiled
    """Minimise ``|D_0 + sum zeta_g nu_g|`` for low <= zeta <= high.

    Block principal pivoting, as in `flowsim.selection`. base[c] = nu_c . D_0. Returns
    whether it has ended and the hyperplanes with zeta inside are safely independent.
    """
    planes, inside, where = whole[PLANES], whole[INSIDE], whole[WHERE]
    kept, place = whole[KEPT], whole[PLACE]
    x, low, high, zeta, velocity = real[X], real[LOW], real[HIGH], real[ZETA], real[VELOCITY]
    place[:count] = 0
    fewest, patience = count + 1, 3
    for _ in range(100 * (count + 1)):
        free = 0
        for c in range(count):
            if place[c] == 0:
                inside[free], where[free] = planes[c], c
                free += 1
            else:
                zeta[c] = low[c] if place[c] < 0 else high[c]
        rank, smallest = factor(normals, inside, free, kept, lower, basis)
        if rank < free or smallest < SAFE:
            return False
        for r in range(free):
            x[r] = -base[where[r]]
            for o in range(count):
                if place[o] != 0:
                    x[r] -= zeta[o] * dot(normals, inside[r], planes[o])
        solve(lower, free, x)
        for r in range(free):
            zeta[where[r]] = x[r]
        wrong = 0
        for c in range(count):
            velocity[c] = base[c]
            for o in range(count):
                velocity[c] += zeta[o] * dot(normals, planes[c], planes[o])
            wrong += _moves_to(place[c], zeta[c], low[c], high[c], velocity[c], tie) != place[c]
        if wrong == 0:
            return True
        at_once = wrong < fewest or patience > 0
        fewest, patience = (wrong, 3) if wrong < fewest else (fewest, patience - 1)
        for c in range(count - 1, -1, -1):
            new = _moves_to(place[c], zeta[c], low[c], high[c], velocity[c], tie)
            if new != place[c]:
                place[c] = new
                if not at_once:  # Murty's rule: one at a time cannot cycle
                    break
    return False


@compiled
def _moves_to(place, zeta, low, high, velocity, tie):  # pragma: no cover - compiled
    """Return where a multiplier belongs: -1 at low, 0 inside, 1 at high."""
    if place == 0:
        return -1 if zeta < low - tie else (1 if zeta > high + tie else 0)
    if (place < 0 and velocity < -tie) or (place > 0 and velocity > tie):
        return 0
    return place


@compiled
def select(  # pragma: no cover - compiled
    plan, sign, came, slides, count, plane, slope, others_on, sides, work
):
    """Choose the sides of the `count` slides and of `plane`, reached from side `came`.

    `slides` (count,) hyperplanes; slope[g] = nu_g . D, of these, of sign times the field,
    without what slides add; others_on: samples on beside these hyperplanes. Writes `sides`
    (count+1,), that of `plane` last.
    """
    whole, real = work.whole, work.real
    planes = whole[PLANES]
    for c in range(count):
        planes[c] = slides[c]
    planes[count] = plane
    if plan.dies and others_on == 0:
        return _all_off(plan, count, sides, work)
    held = sign * plan.q[int(came > 0), plane]  # what `plane` adds to slope now
    for c in range(count + 1):
        g = planes[c]
        real[LOW, c], real[HIGH, c] = sign * plan.q[1, g], sign * plan.q[0, g]
        real[BASE, c] = slope[g] - held * dot(plan.normals, g, plane)
        if c < count and not real[LOW, c] < real[HIGH, c] - plan.tie:
            return ASK  # no longer attracting: a sign of a has changed
    if not real[LOW, count] < real[HIGH, count] - plan.tie:
        return _cross(plan, sign, came, count, sides, work)
    if not _box(plan.normals, plan.tie, count + 1, real[BASE], whole, real, work.lower, work.basis):
        return ASK
    for c in range(count + 1):
        sides[c] = _side(real[VELOCITY, c], plan.tie)
    return CHOSEN


@compiled
def _cross(plan, sign, came, count, sides, work):  # pragma: no cover - compiled
    """Choose the side of a hyperplane that does not attract: onward first, then back."""
    whole, real = work.whole, work.real
    plane = whole[PLANES, count]
    for back in range(2):
        trial = came if back else -came
        extra = sign * plan.q[int(trial > 0), plane]
        for c in range(count):
            real[SHIFTED, c] = real[BASE, c] + extra * dot(plan.normals, whole[PLANES, c], plane)
        if not _box(
            plan.normals, plan.tie, count, real[SHIFTED], whole, real, work.lower, work.basis
        ):
            return ASK
        v = real[BASE, count] + extra
        for c in range(count):
            v += real[ZETA, c] * dot(plan.normals, whole[PLANES, c], plane)
        if v * trial >= -plan.tie:
            for c in range(count):
                sides[c] = _side(real[VELOCITY, c], plan.tie)
            sides[count] = trial
            return CHOSEN
    return ASK


@compiled
def _side(velocity, tie):  # pragma: no cover - compiled
    return 1 if velocity > tie else (-1 if velocity < -tie else 0)


@compiled
def _all_off(plan, count, sides, work):  # pragma: no cover - compiled
    """Let the neuron die where all its last samples can be off beside it."""
    planes, kept = work.whole[PLANES], work.whole[KEPT]
    for c in range(count + 1):
        sides[c] = -plan.single[planes[c]]
        if sides[c] == 0:
            return ASK
    rank, _ = factor(plan.normals, planes, count + 1, kept, work.lower, work.basis)
    return DIES if rank == count + 1 else ASK
