"""Motion inside a cell in closed form, for any length of time, compiled.

With u = a + p and v = a - p, p = w . D/|D|, and a > 0 (else D changes its sign):
u(t) = u e^{|D|t}, v(t) = v e^{-|D|t}, the rest of w is constant (derivations/linear_flow.py).
The larger of the two exponentials goes into the neuron's exponent.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from flowsim.alignment.arrival import elapsed, gap_now, norm, product, split
from flowsim.alignment.neurons import EXPONENT, FATE, SIGN, TIME
from flowsim.events import ALIVE

#: Where w tends while the cell holds: nowhere (it is dead or at rest), to the direction of
#: D (with the sign of a), or along -D to 0.
NOWHERE, GROWS, SHRINKS = range(3)

compiled = njit(cache=True, nogil=True, error_model="numpy")


@compiled
def _parts(z, real, k, D, rho, rank):  # pragma: no cover - compiled
    """Return p, the square of w's rest, and u, v without cancellation."""
    p, across = split(z, D, rho, rank)
    a = z[0]
    uv = product(a, p, gap_now(real, k), across)
    if p >= 0.0:
        return p, across, a + p, uv / (a + p) if a + p > 0.0 else 0.0
    return p, across, uv / (a - p), a - p


@compiled
def advance(t, z, real, whole, fields, rank, cell, tie, tends, angle):  # pragma: no cover
    """Move every living neuron to time `t` (scaled); no event may lie between.

    fields (C, d), rank (C,): D of each cell, and the rank of its slides. Writes where each
    neuron tends, and the angle in radians between w and there (nan if nowhere).
    """
    d = fields.shape[1]
    D = np.empty(d)
    for j in range(z.shape[0]):
        tends[j], angle[j] = NOWHERE, np.nan
        if whole[j, FATE] != ALIVE:
            continue
        for i in range(d):
            D[i] = whole[j, SIGN] * fields[cell[j], i]
        rho = norm(D)
        if rho <= tie:
            continue
        p, across, u, v = _parts(z[j], real[j], whole[j], D, rho, rank[cell[j]])
        if u == 0.0 and v == 0.0:
            continue
        tends[j] = GROWS if u > 0.0 else SHRINKS
        _advance_one(rho * (t - real[j, TIME]), p, across, u, v, z[j], whole[j], D, rho)
        p, across, u, v = _parts(z[j], real[j], whole[j], D, rho, rank[cell[j]])
        if p != 0.0 or across > 0.0:  # else w = 0, which has no direction yet
            angle[j] = np.arctan2(np.sqrt(across), p if tends[j] == GROWS else -p)


@compiled
def _advance_one(x, p, across, u, v, z, k, D, rho):  # pragma: no cover - compiled
    """Move one neuron by |D| t = x: u grows as e^x, v falls as e^-x, the rest stays."""
    if not x > 0.0:
        return
    log_u = np.log(abs(u)) + x if u != 0.0 else -np.inf
    log_v = np.log(abs(v)) - x if v != 0.0 else -np.inf
    log_rest = 0.5 * np.log(across) if across > 0.0 else -np.inf
    top = max(log_u, log_v, log_rest)
    u, v = np.sign(u) * np.exp(log_u - top), np.sign(v) * np.exp(log_v - top)
    f = np.exp(-top) if across > 0.0 else 0.0
    for i in range(D.shape[0]):
        z[1 + i] = (z[1 + i] - p * D[i] / rho) * f + 0.5 * (u - v) * D[i] / rho
    z[0] = 0.5 * (u + v)
    size = norm(z)
    power = top / np.log(2.0) + np.log2(size)
    whole = np.floor(power)
    k[EXPONENT] += int(whole) + 1
    scale = 2.0 ** (power - whole - 1.0) / size
    for i in range(z.shape[0]):
        z[i] *= scale


@compiled
def times_to_angle(goal, z, real, whole, fields, rank, cell, tie, out):  # pragma: no cover
    """Write the (scaled) time at which each settled neuron is within `goal` of its limit."""
    D = np.empty(fields.shape[1])
    for j in range(z.shape[0]):
        out[j] = real[j, TIME]
        if whole[j, FATE] != ALIVE:
            continue
        for i in range(D.shape[0]):
            D[i] = whole[j, SIGN] * fields[cell[j], i]
        rho = norm(D)
        if rho <= tie:
            continue
        p, across, u, _ = _parts(z[j], real[j], whole[j], D, rho, rank[cell[j]])
        target = np.sqrt(across) / np.tan(goal)
        if u > 0.0 and target > p:
            uv = product(z[j, 0], p, gap_now(real[j], whole[j]), across)
            a = np.sqrt(max(uv + target * target, 0.0))
            out[j] += elapsed(z[j, 0], p, a, target - p, uv) / rho
