"""Turn neurons by small fields, to first order; compiled."""

from __future__ import annotations

import numpy as np

from flowsim.engines.piecewise.expansion import compiled


@compiled
def turn(z, D, F0, F1):  # pragma: no cover - compiled
    """Add ``M(F0) z + [M(D), M(F1)] z`` to z (d+1,), a view."""
    along, with_field, a = 0.0, 0.0, z[0]
    for i in range(D.shape[0]):
        along += F1[i] * z[1 + i]
        with_field += D[i] * z[1 + i]
    for i in range(D.shape[0]):
        z[0] += F0[i] * z[1 + i]
    for i in range(D.shape[0]):
        z[1 + i] += a * F0[i] + along * D[i] - with_field * F1[i]


@compiled
def turn_riders(  # pragma: no cover - compiled
    start, members, walks, u0, u1, z, D, F0, F1
):
    """Turn members u0 to u1, but for those that walk; D, F0, F1 (groups, d)."""
    q = np.searchsorted(start, u0, side="right") - 1
    while q < start.shape[0] - 1 and start[q] < u1:
        for u in range(max(u0, start[q]), min(u1, start[q + 1])):
            j = members[u]
            if not walks[j]:
                turn(z[j], D[q], F0[q], F1[q])
        q += 1


@compiled
def masses(start, members, mass, rates):  # pragma: no cover - compiled
    """Return the sum of all masses, and that of masses times the rates (groups,)."""
    total, moving = 0.0, 0.0
    for q in range(start.shape[0] - 1):
        s = 0.0
        for u in range(start[q], start[q + 1]):
            s += mass[members[u]]
        total += s
        moving += s * rates[q]
    return total, moving
