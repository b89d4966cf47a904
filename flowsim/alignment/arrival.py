"""A neuron's arrival at its next hyperplane, in closed form, compiled.

For a > 0 (else the sign of D is flipped) the component ``p = w . D/|D|`` grows monotonically,
``a^2 - p^2`` is constant, the rest of w too: every margin is linear in p, so the first
hyperplane reached is that of the smallest ratio, and the time is ``log1p(E - 1)/|D|`` with
E - 1 free of cancellation (derivations/linear_flow.py, derivations/crossing_times.py). It is
looked for among those that are listed (`nearby`).
"""

from __future__ import annotations

import numpy as np

from flowsim.alignment.nearby import holds
from flowsim.alignment.neurons import (
    ASKS,
    BALANCE,
    EARLY,
    EXPONENT,
    GAP,
    GAP_EXPONENT,
    GOING,
    IDLE,
    PLANE,
    SETTLED,
    STUCK,
    TIME,
)
from flowsim.alignment.switching import inlined
from flowsim.cells import EPS, TOUCH

#: w this close to a line through D (relative) lies on it.
ON_LINE = 16 * EPS
#: What comes next: a hyperplane, a = 0, w = 0, nothing, nothing since the neuron rests or shrinks
#: for ever, or what more hyperplanes than the listed must tell.
MEETS, TURNS, ORIGIN, NEVER, RESTS, BEYOND = range(6)


@inlined
def foresee(  # pragma: no cover - compiled
    tie, z, k, real, rank, count, side, margin, slope, spare, D, centre, cone
):
    """Return what comes next, which listed hyperplane, w's way in units of D, a there, and when."""
    rho = norm(D)
    p, across = split(z, D, rho, rank)
    gap = gap_now(real, k)
    uv = product(z[0], p, gap, across)
    place, q = _first_plane(tie, count, side, margin, slope, spare)
    kind, q, a = _next(tie, rho, z[0], p, across, gap, uv, place, q)
    time = real[TIME] + elapsed(z[0], p, a, q * rho, uv) / rho
    listed = holds(z, q, a, D, centre, cone)
    return kind if listed or kind in (RESTS, ORIGIN) else BEYOND, place, q, a, time


@inlined
def outcome(kind, time, t):  # pragma: no cover - compiled
    """Return the status of a neuron with that ahead."""
    if kind in (RESTS, NEVER):
        return SETTLED
    if not time < np.inf:
        return STUCK
    return EARLY if time > t else GOING


@inlined
def travel(  # pragma: no cover - compiled
    tie, kind, plane, q, a, time, z, k, real, count, side, margin, slope, D
):
    """Take a neuron to what it meets; return its status: GOING unless a choice must be made."""
    idle = 0 if time > real[TIME] else k[IDLE] + 1
    k[IDLE], k[PLANE] = idle, plane
    real[TIME] = time
    reached = _move(tie, z, k, q, a, gap_now(real, k), count, side, margin, slope, D)
    keep, w = 0.0 if kind == ORIGIN else 1.0, 0.0
    for i in range(D.shape[0]):
        z[1 + i] *= keep
        w += z[1 + i] ** 2
    at_origin = w <= TOUCH**2 * (w + z[0] ** 2)
    stalls = idle > 4 * side.shape[0] + 100
    return ASKS if kind != TURNS and (reached > 1 or at_origin or stalls) else GOING


@inlined
def _next(tie, rho, a, p, across, gap, uv, place, q):  # pragma: no cover - compiled
    """Return what comes next, w's way to it in units of D, and a there.

    place, q: the first hyperplane and the way to it.
    """
    # On the line through D a balanced neuron with p < 0 shrinks for ever; one with a = 0
    # and w orthogonal to D does not move.
    if (
        rho <= tie
        or (p < 0.0 and gap == 0.0 and across == 0.0)
        or (uv <= 0.0 and p <= 0.0 and a <= 0.0)
    ):
        return RESTS, 0.0, a
    kind = MEETS if place >= 0 else NEVER
    if uv <= 0.0 and p < 0.0:  # a falls to zero at p = -sqrt(-uv); if uv = 0, never
        end = a**2 / (np.sqrt(-uv) - p) / rho
        if place < 0 or q >= end:
            kind, q = TURNS if uv < 0.0 else NEVER, end
    # On the line through D a dominated neuron with p < 0 reaches w = 0, all planes at once.
    if across == 0.0 and p < 0.0 and gap > 0.0:
        kind, q = ORIGIN, -p / rho
    dp = q * rho
    if kind in (TURNS, NEVER):
        return kind, q, 0.0
    return kind, q, np.sqrt(max(a**2 + dp * (2.0 * p + dp), 0.0))


@inlined
def norm(x):  # pragma: no cover - compiled
    """Return the Euclidean norm."""
    s = 0.0
    for i in range(x.shape[0]):
        s += x[i] ** 2
    return np.sqrt(s)


@inlined
def split(z, D, rho, rank):  # pragma: no cover - compiled
    """Return w's component along D and the square of the rest; `rank` of the slides."""
    d = D.shape[0]
    p, size, rest = 0.0, 0.0, 0.0
    for i in range(d):
        p += z[1 + i] * D[i]
        size += z[1 + i] ** 2
    p /= rho
    for i in range(d):
        rest += (z[1 + i] - p * D[i] / rho) ** 2
    line = rank == d - 1  # is left to move on
    if line:
        p = np.sqrt(size) if p > 0.0 else -np.sqrt(size)
    return p, 0.0 if line or rest <= ON_LINE**2 * size else rest


@inlined
def product(a, p, gap, across):  # pragma: no cover - compiled
    """Return uv = a^2 - p^2 from the numbers that cancel less; gap + across is the same."""
    if gap < 0.0 and a * a + p * p < across - gap:
        return (a - p) * (a + p)
    return gap + across


@inlined
def gap_now(real, k):  # pragma: no cover - compiled
    """Return a^2 - |w|^2 in units of the neuron's present exponent."""
    return _shifted(real[GAP], k[BALANCE], 2 * (k[GAP_EXPONENT] - k[EXPONENT]))


@inlined
def _shifted(gap, balance, shift):  # pragma: no cover - compiled
    return gap * 2.0 ** min(max(shift, -2000), 1000) if balance != 0 else 0.0


@inlined
def _first_plane(tie, count, side, margin, slope, ways):  # pragma: no cover - compiled
    """Return the place of the hyperplane that is reached first and margin/-slope there, or -1.

    ways (G,) is working memory.
    """
    for c in range(count):  # no branches, of which half would be foreseen wrongly
        down = -side[c] * slope[c]
        ways[c] = max(side[c] * margin[c], 0.0) / (down if down > tie else 0.0)
    return _smallest(ways, count)


@inlined
def _smallest(x, count):  # pragma: no cover - compiled
    """Return the place of the first smallest of the numbers, and it; -1 if none is finite."""
    even = count - count % 4
    a, b, c, d = np.inf, np.inf, np.inf, np.inf
    for i in range(0, even, 4):  # four do not wait for each other
        a = x[i] if x[i] < a else a
        b = x[i + 1] if x[i + 1] < b else b
        c = x[i + 2] if x[i + 2] < c else c
        d = x[i + 3] if x[i + 3] < d else d
    for i in range(even, count):
        a = x[i] if x[i] < a else a
    a = b if b < a else a
    c = d if d < c else c
    a = c if c < a else a
    place = -1
    if a < np.inf:
        place = 0
        while x[place] != a:
            place += 1
    return place, a


@inlined
def elapsed(a, p, a_new, dp, uv):  # pragma: no cover - compiled
    """Return |D| times the time in which p grows by dp; derivations/crossing_times.py."""
    target = p + dp
    if p >= 0.0:
        u, u_new = a + p, a_new + target
        return np.log1p(dp * (u_new + u) / ((a_new + a) * u))
    v = a - p
    v_new = a_new - target if target <= 0.0 else uv / (a_new + target)
    return np.log1p(dp * (v_new + v) / ((a_new + a) * v_new))


@inlined
def _move(  # pragma: no cover - compiled
    tie, z, k, q, a, gap, count, side, margin, slope, D
):
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
    scale, halvings = _scale(size)
    k[EXPONENT] += halvings
    for i in range(d + 1):
        z[i] *= scale
    near = TOUCH * size * scale
    reached = 0
    for c in range(count):
        m = scale * (margin[c] + q * slope[c])
        margin[c] = m
        reached += int((side[c] * m <= near) & (-side[c] * slope[c] > tie))
    return reached


@inlined
def _scale(size):  # pragma: no cover - compiled
    """Return the power of two that takes `size` to [1/2, 2), and how often it halves."""
    scale, halvings = 1.0, 0
    while size * scale < 0.5 and size > 0.0:
        scale *= 2.0
        halvings -= 1
    while size * scale >= 2.0:
        scale *= 0.5
        halvings += 1
    return scale, halvings
