"""Which members of a large group may come to a hyperplane, told from how far they turn; compiled.

The direction u of a balanced neuron turns like ``u' = ±(1 - u u^T) D``, so in a step h by no more
than (Grönwall)

    int |(1 - u_0 u_0^T) D| exp(int |D|),

and ``nu . u`` changes by no more than u does. Neurons that are aligned with their field turn by
next to nothing, and those of a cell are close to each other, so that most steps find none.
"""

from __future__ import annotations

import numpy as np

from flowsim.engines.piecewise.groupwise import list_near, products
from flowsim.engines.piecewise.jit import allocating, compiled
from flowsim.engines.piecewise.margins import norm, project_all
from flowsim.engines.piecewise.motion import TILE, fetch

#: What rounding may do to squares, relative, and to distances.
ROUNDING, DISTANCE = 1e-15, 1e-14
#: Rows of working memory for `list_restless`.
LINES = 5


@allocating
def list_restless(  # pragma: no cover - compiled
    h, unit, u0, u1, members, z, balance, D, normals, code, touch, tile, lines, margin, chosen,
    needs, out,
):  # fmt: skip
    """List those of members u0 to u1 of a group that may come to a hyperplane within `h`.

    All are in the cell `code`, with the field D (order+1, d). lines (LINES, TILE), margin (G,),
    chosen (G,) and needs (m,) are working memory. Returns how many they are.
    """
    first = z[members[u0], 1:] / norm(z[members[u0], 1:])
    most, least = _survey(h, unit, u0, u1, members, z, D, first, touch, tile, lines, needs)
    radius = np.sqrt(2.0 * (1.0 - least) + DISTANCE)
    project_all(normals, first, margin)
    listed = list_near(most, radius, first, code, margin, chosen)
    count = 0
    for start in range(u0, u1, TILE):
        some = min(u1 - start, TILE)
        away = tile.marks[0]
        tile.who[:some] = members[start : start + some]
        if listed > 0:
            fetch(some, z, tile)
        away[:some] = True
        for c in range(listed):
            side, value = code[chosen[c]], lines[0]
            products(normals[:, chosen[c]], tile.old[1:], some, value)
            for u in range(some):
                away[u] &= side * value[u] > needs[start - u0 + u]
        for u in range(some):
            if not away[u] or balance[tile.who[u]] != 0:
                out[count] = tile.who[u]
                count += 1
    return count


@allocating
def _survey(  # pragma: no cover - compiled
    h, unit, u0, u1, members, z, D, direction, touch, tile, lines, needs
):
    """Write how far margins may fall, and return the most and the least cosine to `direction`.

    `needs` are of margins themselves, the most is of those of directions.
    """
    rest, grown = _stretch(h, unit, D)
    turn, size, cosine = lines[0], lines[1], lines[2]
    most, least = 0.0, 1.0
    for start in range(u0, u1, TILE):
        some = min(u1 - start, TILE)
        tile.who[:some] = members[start : start + some]
        fetch(some, z, tile)
        _turns(h, unit, some, tile.old[1:], D, direction, rest, grown, lines)
        for c in range(some):
            need = turn[c] + DISTANCE + touch / size[c]
            needs[start - u0 + c] = need * size[c]
            most, least = max(most, need), min(least, cosine[c])
    return most, least


@compiled
def _stretch(h, unit, D):  # pragma: no cover - compiled
    """Return by how much the coefficients of D from the second on turn, and ``exp(int |D|)``."""
    rest, total, power = 0.0, 0.0, unit * h
    for o in range(D.shape[0]):
        s = 0.0
        for i in range(D.shape[1]):
            s += D[o, i] ** 2
        s = np.sqrt(s) * power / (o + 1)
        total += s
        if o >= 2:
            rest += s
        power *= h
    return rest, np.exp(total)


@compiled
def _turns(h, unit, count, w, D, direction, rest, grown, lines):  # pragma: no cover - compiled
    """Write by how much neurons w (d, count) turn at most, |w|, and the cosine to `direction`.

    Into the first three of the lines. Loops over neurons use vector registers.
    """
    first, size, cosine, second, ww = lines
    ww[:count], first[:count], second[:count], cosine[:count] = 0.0, 0.0, 0.0, 0.0
    size0, size1 = 0.0, 0.0
    for i in range(D.shape[1]):
        d0, d1, u = D[0, i], D[1, i], direction[i]
        size0 += d0**2
        size1 += d1**2
        for c in range(count):
            ww[c] += w[i, c] ** 2
            first[c] += d0 * w[i, c]
            second[c] += d1 * w[i, c]
            cosine[c] += u * w[i, c]
    now, later = unit * h, 0.5 * unit * h**2
    for c in range(count):
        across0 = np.sqrt(max(size0 - first[c] ** 2 / ww[c], 0.0) + ROUNDING * size0)
        across1 = np.sqrt(max(size1 - second[c] ** 2 / ww[c], 0.0) + ROUNDING * size1)
        size[c] = np.sqrt(ww[c])
        cosine[c] /= size[c]
        first[c] = (now * across0 + later * across1 + rest) * grown
