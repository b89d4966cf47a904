"""Turn neurons by small fields, to first order; compiled."""

from __future__ import annotations

import numpy as np

from flowsim.engines.piecewise.jit import allocating, compiled
from flowsim.engines.piecewise.motion import TILE, fetch, tile_of


@allocating
def turn(count, tile, z, D, F0, F1):  # pragma: no cover - compiled
    """Add ``M(F0) z + [M(D), M(F1)] z`` to the first `count` neurons of a tile, in z."""
    old, new, (along, with_field, _) = tile.old, tile.new, tile.lines
    fetch(count, z, tile)
    along[:count], with_field[:count], new[0, :count] = 0.0, 0.0, old[0, :count]
    for i in range(D.shape[0]):
        for c in range(count):
            along[c] += F1[i] * old[1 + i, c]
            with_field[c] += D[i] * old[1 + i, c]
            new[0, c] += F0[i] * old[1 + i, c]
    for i in range(D.shape[0]):
        for c in range(count):
            turned = old[0, c] * F0[i] + along[c] * D[i] - with_field[c] * F1[i]
            new[1 + i, c] = old[1 + i, c] + turned
    for c in range(count):
        for i in range(new.shape[0]):
            z[tile.who[c], i] = new[i, c]


@allocating
def turn_riders(  # pragma: no cover - compiled
    start, members, walks, u0, u1, z, D, F0, F1
):
    """Turn members u0 to u1, but for those that walk; D, F0, F1 (groups, d)."""
    tile = tile_of(D.shape[1], TILE)
    q = np.searchsorted(start, u0, side="right") - 1
    while q < start.shape[0] - 1 and start[q] < u1:
        count = 0
        for u in range(max(u0, start[q]), min(u1, start[q + 1])):
            if not walks[members[u]]:
                tile.who[count] = members[u]
                count += 1
            if count == TILE:
                turn(count, tile, z, D[q], F0[q], F1[q])
                count = 0
        turn(count, tile, z, D[q], F0[q], F1[q])
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
