"""Which members of a large group stay away from all hyperplanes, told from the group's map.

All members follow one linear map z(tau) = B(tau) z, so that a margin nu . w(tau) is the product
of z with a vector of the group, known at a few stops on the way; between two it bends by no
more than the map's second derivative allows.
"""

from __future__ import annotations

import numpy as np

from flowsim.engines.piecewise.jit import allocating, compiled
from flowsim.engines.piecewise.motion import evaluate

#: Stops at most; as many as keep the bending between them below this part of a neuron's size.
STOPS, BENDING = 16, 0.01
#: The norm of z is less.
LARGEST = 2.0


@compiled
def bound(h, c0, c1, W, size, out):  # pragma: no cover - compiled
    """Write by how much margins may change in a step `h`, and bend between stops on the way.

    From the norms of the coefficients of columns c0 to c1 together; `size` (order+1,) is working
    memory. Returns how many stops there are, the last at the end.
    """
    moves, bends, power = 0.0, 0.0, 1.0
    for o in range(1, size.shape[0]):
        power *= h
        s = 0.0
        for c in range(c0, c1):
            for i in range(W.shape[2]):
                s += W[c, o, i] ** 2
        s = np.sqrt(s) * power
        moves += s
        bends += 0.125 * o * (o - 1) * s
    stops = int(min(max(np.ceil(np.sqrt(bends / BENDING)), 1.0), STOPS)) if bends < np.inf else 1
    out[0], out[1] = LARGEST * moves, LARGEST * bends / stops**2
    return stops


@compiled
def spread_of(u0, u1, members, z):  # pragma: no cover - compiled
    """Return how far apart the directions of members u0 to u1 are from the first one's, or more."""
    z0 = z[members[u0]]
    own, least = 0.0, 1.0
    for i in range(z0.shape[0]):
        own += z0[i] ** 2
    for u in range(u0, u1):
        j = members[u]
        s, dot = 0.0, 0.0
        for i in range(z0.shape[0]):
            s += z[j, i] ** 2
            dot += z[j, i] * z0[i]
        least = min(least, dot / np.sqrt(s * own))
    return np.sqrt(2.0 * (1.0 - least) + 1e-14)


@compiled
def list_near(moves, radius, z, code, margin, chosen):  # pragma: no cover - compiled
    """List the hyperplanes that a group around `z` may reach; return how many they are.

    Margins change by at most `moves`, relative to the neuron's size.
    """
    size, count = 0.0, 0
    for i in range(z.shape[0]):
        size += z[i] ** 2
    size = np.sqrt(size)
    for g in range(margin.shape[0]):
        if code[g] != 0 and not code[g] * margin[g] / size - radius > moves:
            chosen[count] = g
            count += 1
    return count


@allocating
def stops_on_way(h, stops, c0, A, W, normals, count, chosen, out):  # pragma: no cover - compiled
    """Write the vectors (stops, count, d+1) whose products with z are margins at the stops."""
    d = normals.shape[0]
    z = np.empty(d + 1)
    for s in range(stops):
        for b in range(d + 1):
            evaluate(h * (s + 1) / stops, A[c0 + b], W[c0 + b], z)
            for c in range(count):
                dot = 0.0
                for i in range(d):
                    dot += normals[i, chosen[c]] * z[1 + i]
                out[s, c, b] = dot


@allocating
def drop_away(  # pragma: no cover - compiled
    count, z0, radius, code, normals, stops, bounds, touch, chosen, on_way
):
    """Take off the list what no neuron of the group comes near to; return how many are left.

    The neurons' directions are within `radius` of that of z0. A map that makes them grow moves
    margins far, but where a neuron comes from it, all around it come.
    """
    size, kept = 0.0, 0
    for b in range(z0.shape[0]):
        size += z0[b] ** 2
    size = np.sqrt(size)
    near = 2.0 * (bounds[1] + touch)  # relative to sizes, which are 1/2 or more
    for c in range(count):
        g, dot = chosen[c], 0.0
        for i in range(normals.shape[0]):
            dot += normals[i, g] * z0[1 + i]
        away = code[g] * dot / size - radius > near
        for s in range(stops):
            dot, square = 0.0, 0.0
            for b in range(z0.shape[0]):
                dot += on_way[s, c, b] * z0[b]
                square += on_way[s, c, b] ** 2
            away &= code[g] * dot / size - radius * np.sqrt(square) > near
        if not away:
            chosen[kept] = g
            on_way[:stops, kept] = on_way[:stops, c]
            kept += 1
    return kept


@compiled
def mark_away(  # pragma: no cover - compiled
    count, tile, code, normals, listed, chosen, stops, on_way, bounds, touch
):
    """Mark which of a tile's first `count` neurons stay away from the listed hyperplanes.

    All are in the cell `code`; the tile's `marks` receive them. Loops over neurons use vector
    registers.
    """
    away, far, ahead = tile.marks
    margin = tile.lines[0]
    away[:count] = True
    for c in range(listed):
        g = chosen[c]
        side = code[g]
        products(normals[:, g], tile.old[1:], count, margin)
        for u in range(count):
            far[u] = side * margin[u] > bounds[0] + touch
            ahead[u] = side * margin[u] > bounds[1] + touch
        for s in range(stops):
            products(on_way[s, c], tile.old, count, margin)
            for u in range(count):
                ahead[u] &= side * margin[u] > bounds[1] + touch
        for u in range(count):
            away[u] &= far[u] | ahead[u]


@compiled
def products(row, columns, count, out):  # pragma: no cover - compiled
    out[:count] = 0.0
    for i in range(row.shape[0]):
        f, column = row[i], columns[i]
        for u in range(count):
            out[u] += f * column[u]
