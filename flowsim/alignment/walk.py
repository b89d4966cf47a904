"""The closed-form walk of one neuron through its cells while r = y, compiled.

In a cell, or on a slide, D is constant. For a > 0 (else the sign of D is flipped) the
component ``p = w . D/|D|`` grows monotonically, ``a^2 - p^2`` is constant, the rest of w
too: every margin is linear in p, so the first hyperplane reached is that of the smallest
ratio, and the time is ``log1p(E - 1)/|D|`` with E - 1 free of cancellation
(derivations/linear_flow.py, derivations/crossing_times.py). All in O(G) a crossing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowsim.alignment import switching
from flowsim.alignment.switching import ASK, DIES, KEPT, compiled
from flowsim.cells import EPS, TOUCH
from flowsim.events import DEAD, kind_code

#: How a neuron's walk stands: under way; `flowsim.selection` must choose its cell; its next
#: event is later than asked for; it has no further event; the log is full; events pile up
#: without progress in time.
GOING, ASKS, EARLY, SETTLED, FULL, STUCK = range(6)
#: Margins and slopes are computed afresh after so many events, when the neuron has shrunk by so
#: many powers of two, or D by such a factor: what rounding has left of larger numbers goes.
REFRESH, SHRUNK, FADED = 64, 2, 8.0
#: w this close to a line through D (relative) lies on it.
ON_LINE = 16 * EPS

PATTERN, DEATH, SIGN_CHANGE = (kind_code(k) for k in ("pattern", "death", "sign_change"))

#: Columns of `Neurons.real` and `Neurons.whole`, rows of the scratch arrays, columns of a log.
GAP, TIME = range(2)
SIGN, BALANCE, EXPONENT, GAP_EXPONENT, FATE, STATUS, PLANE, IDLE, CHANGES = range(9)
SIDE, MARGIN, SLOPE, BETA = range(4)
HELD, FIELD = range(2)
LOG_COLUMNS = ("neuron", "kind", "plane", "before", "after")


class Neurons(NamedTuple):
    """The neurons of one chunk; neuron j is ``2**exponent * (sign * a, w)``."""

    z: np.ndarray  # (m, d+1): a >= 0, w
    real: np.ndarray  # (m, 2): a^2 - |w|^2 = GAP * 4**GAP_EXPONENT; TIME of the last event
    whole: np.ndarray  # (m, 9) int64; BALANCE is the sign of GAP, PLANE what was reached last
    code: np.ndarray  # (m, G) int8


class Log(NamedTuple):
    """What happened, in the order of each neuron; `count` rows are filled."""

    rows: np.ndarray  # (R, 5) int32
    time: np.ndarray  # (R,)
    count: np.ndarray  # (1,) int64


class Scratch(NamedTuple):
    """Working memory of one thread.

    For the sign of a, D without what slides add is vectors[HELD] and nu_g . D is
    lines[SLOPE, g]; with it, vectors[FIELD] and lines[BETA, g].
    """

    lines: np.ndarray  # (4, G)
    vectors: np.ndarray  # (2, d)
    peak: np.ndarray  # (1,) the largest |D|, or change of it, since it was computed afresh
    slides: np.ndarray  # (G,) int64
    sides: np.ndarray  # (G+1,) int64
    counts: np.ndarray  # (2,) int64: slides, samples that are on
    choice: switching.Scratch


def scratch(d: int, planes: int) -> Scratch:
    """Allocate the working memory of one thread."""
    whole = lambda k: np.zeros(k, dtype=np.int64)  # noqa: E731
    return Scratch(
        np.zeros((4, planes)), np.zeros((2, d)), np.zeros(1), whole(planes), whole(planes + 1),
        whole(2), switching.scratch(d, planes),
    )  # fmt: skip


def log(rows: int) -> Log:
    """Allocate a log of so many rows."""
    return Log(np.empty((rows, len(LOG_COLUMNS)), np.int32), np.empty(rows), np.zeros(1, np.int64))


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
                plane, turns = _arrive(tie, t, z, k, real, rank, side, margin, beta, field)
            else:
                plane, turns = _arrive(tie, t, z, k, real, 0, side, margin, slope, held)
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
def _arrive(  # pragma: no cover - compiled
    tie, t, z, k, real, rank, side, margin, beta, D
):
    """Take a neuron to its next event at or before `t`.

    Returns the hyperplane that it has reached, or -1, and whether a has fallen to zero.
    Sets the status if there is no such event, or where `flowsim.selection` must choose.
    """
    rho = norm(D)
    if rho <= tie:
        k[STATUS] = SETTLED
        return -1, False
    p, across = split(z, D, rho, rank)
    gap = gap_now(real, k)
    uv = product(z[0], p, gap, across)
    # On the line through D a balanced neuron with p < 0 shrinks for ever; one with a = 0
    # and w orthogonal to D does not move.
    if (p < 0.0 and gap == 0.0 and across == 0.0) or (uv <= 0.0 and p <= 0.0 and z[0] <= 0.0):
        k[STATUS] = SETTLED
        return -1, False
    plane, q = _first_plane(tie, side, margin, beta)
    turns = False
    if uv <= 0.0 and p < 0.0:  # a falls to zero at p = -sqrt(-uv); if uv = 0, never
        end = z[0] ** 2 / (np.sqrt(-uv) - p) / rho
        if plane < 0 or q >= end:
            plane, q, turns = -1, end, uv < 0.0
    # On the line through D a dominated neuron with p < 0 reaches w = 0, all planes at once.
    origin = across == 0.0 and p < 0.0 and gap > 0.0
    if origin:
        plane, q = -1, -p / rho
    if plane < 0 and not turns and not origin:
        k[STATUS] = SETTLED
        return -1, False
    dp = q * rho
    a = 0.0 if turns else np.sqrt(max(z[0] ** 2 + dp * (2.0 * p + dp), 0.0))
    time = real[TIME] + elapsed(z[0], p, a, dp, uv) / rho
    if not time < np.inf:
        k[STATUS] = STUCK
        return -1, False
    if time > t:
        k[STATUS] = EARLY
        return -1, False
    k[IDLE] = 0 if time > real[TIME] else k[IDLE] + 1
    real[TIME] = time
    k[PLANE] = plane
    reached = _move(tie, z, k, q, a, gap, side, margin, beta, D)
    if origin:
        z[1:] = 0.0
    w = 0.0
    for i in range(D.shape[0]):
        w += z[1 + i] ** 2
    at_origin = w <= TOUCH**2 * (w + z[0] ** 2)
    if not turns and (reached > 1 or at_origin or k[IDLE] > 4 * side.shape[0] + 100):
        k[STATUS] = ASKS
        return -1, False
    return plane, turns


@compiled
def norm(x):  # pragma: no cover - compiled
    """Return the Euclidean norm."""
    s = 0.0
    for i in range(x.shape[0]):
        s += x[i] ** 2
    return np.sqrt(s)


@compiled
def split(z, D, rho, rank):  # pragma: no cover - compiled
    """Return w's component along D and the square of the rest; `rank` of the slides."""
    d = D.shape[0]
    p, size = 0.0, 0.0
    for i in range(d):
        p += z[1 + i] * D[i]
        size += z[1 + i] ** 2
    p /= rho
    if rank == d - 1:  # a line is left to move on
        return np.sqrt(size) if p > 0.0 else -np.sqrt(size), 0.0
    rest = 0.0
    for i in range(d):
        rest += (z[1 + i] - p * D[i] / rho) ** 2
    return p, 0.0 if rest <= ON_LINE**2 * size else rest


@compiled
def product(a, p, gap, across):  # pragma: no cover - compiled
    """Return uv = a^2 - p^2 from the numbers that cancel less; gap + across is the same."""
    if gap < 0.0 and a * a + p * p < across - gap:
        return (a - p) * (a + p)
    return gap + across


@compiled
def gap_now(real, k):  # pragma: no cover - compiled
    """Return a^2 - |w|^2 in units of the neuron's present exponent."""
    if k[BALANCE] == 0:
        return 0.0
    shift = 2 * (k[GAP_EXPONENT] - k[EXPONENT])
    return real[GAP] * 2.0 ** min(max(shift, -2000), 1000)


@compiled
def _first_plane(tie, side, margin, beta):  # pragma: no cover - compiled
    """Return the hyperplane that is reached first and margin/-beta there, or -1."""
    plane, m, b = -1, np.inf, 1.0
    for g in range(side.shape[0]):
        down = -side[g] * beta[g]
        if down > tie:
            above = max(side[g] * margin[g], 0.0)
            if above * b < m * down:
                plane, m, b = g, above, down
    return plane, m / b


@compiled
def elapsed(a, p, a_new, dp, uv):  # pragma: no cover - compiled
    """Return |D| times the time in which p grows by dp; derivations/crossing_times.py."""
    target = p + dp
    if p >= 0.0:
        u, u_new = a + p, a_new + target
        return np.log1p(dp * (u_new + u) / ((a_new + a) * u))
    v = a - p
    v_new = a_new - target if target <= 0.0 else uv / (a_new + target)
    return np.log1p(dp * (v_new + v) / ((a_new + a) * v_new))


@compiled
def _move(tie, z, k, q, a, gap, side, margin, beta, D):  # pragma: no cover - compiled
    """Add q D to w and set a; return how many hyperplanes have been reached, up to rounding.

    The norm stays in [1/2, 2).
    """
    d = D.shape[0]
    ww = 0.0
    for i in range(d):
        z[1 + i] += q * D[i]
        ww += z[1 + i] ** 2
    # Where |a| >= |w|, a is set from w and the constant: shrinking amplifies no rounding.
    z[0] = np.sqrt(ww + gap) if k[BALANCE] >= 0 else a
    size = np.sqrt(ww + z[0] ** 2)
    scale = 1.0
    while size * scale < 0.5 and size > 0.0:
        scale *= 2.0
        k[EXPONENT] -= 1
    while size * scale >= 2.0:
        scale *= 0.5
        k[EXPONENT] += 1
    for i in range(d + 1):
        z[i] *= scale
    near = TOUCH * size * scale
    reached = 0
    for g in range(side.shape[0]):
        m = scale * (margin[g] + q * beta[g])
        margin[g] = m
        reached += int((side[g] * m <= near) & (-side[g] * beta[g] > tie))
    return reached


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
