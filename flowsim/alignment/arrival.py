"""A neuron's arrival at its next hyperplane, in closed form, compiled.

For a > 0 (else the sign of D is flipped) the component ``p = w . D/|D|`` grows monotonically,
``a^2 - p^2`` is constant, the rest of w too: every margin is linear in p, so the first
hyperplane reached is that of the smallest ratio, and the time is ``log1p(E - 1)/|D|`` with
E - 1 free of cancellation (derivations/linear_flow.py, derivations/crossing_times.py).
"""

from __future__ import annotations

import numpy as np

from flowsim.alignment.neurons import (
    ASKS,
    BALANCE,
    EARLY,
    EXPONENT,
    GAP,
    GAP_EXPONENT,
    IDLE,
    PLANE,
    SETTLED,
    STATUS,
    STUCK,
    TIME,
)
from flowsim.alignment.switching import compiled
from flowsim.cells import EPS, TOUCH

#: w this close to a line through D (relative) lies on it.
ON_LINE = 16 * EPS


@compiled
def arrive(  # pragma: no cover - compiled
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
