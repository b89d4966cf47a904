"""Motion of neurons to a time of their expansion, back onto slides and constants; compiled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowsim.engines.piecewise.fading import fade
from flowsim.engines.piecewise.jit import allocating, borrowed, compiled, inlined

#: Neurons that are moved at once.
TILE = 128


class Tile(NamedTuple):
    """Some neurons on their way, a column each: loops over them use vector registers."""

    who: np.ndarray  # (T,) int64
    new: np.ndarray  # (d+1, T), where they move to
    old: np.ndarray  # (d+1, T), working memory, and likewise:
    lines: np.ndarray  # (3, T)
    marks: np.ndarray  # (3, T) bool


@allocating
def tile_of(d, width):  # pragma: no cover - compiled
    """Return an empty tile of so many neurons."""
    return Tile(
        np.empty(width, np.int64), np.empty((d + 1, width)), np.empty((d + 1, width)),
        np.empty((3, width)), np.empty((3, width), np.bool_),
    )  # fmt: skip


@inlined
def settle(count, tile, z, exponent, balance, gap, gap_exponent, sign):  # pragma: no cover
    """Put the first `count` neurons of a tile onto a^2 - |w|^2 = const and into [1/2, 2).

    Writes them to z and exponent. Returns the largest relative correction of a^2 - |w|^2. The
    smaller of |a| and |w| is set from the larger, which does not amplify rounding.
    """
    who, new, (aa, ww, const) = tile.who, tile.new, tile.lines
    for c in range(count):
        aa[c], ww[c], const[c] = new[0, c] ** 2, 0.0, 0.0
    for i in range(1, new.shape[0]):
        for c in range(count):
            ww[c] += new[i, c] ** 2
    for c in range(count):
        j = who[c]
        if balance[j] != 0:  # a^2 - |w|^2 in units of the neuron's present exponent
            shift = 2 * (gap_exponent[j] - exponent[j])
            const[c] = gap[j] * 2.0 ** min(max(shift, -2000), 1000)
    drift = 0.0
    for c in range(count):
        drift = max(drift, abs(aa[c] - ww[c] - const[c]) / (aa[c] + ww[c]))
    for c in range(count):
        if balance[who[c]] >= 0:
            new[0, c] = sign[who[c]] * np.sqrt(max(ww[c] + const[c], 0.0))
        elif ww[c] > 0.0:
            f = np.sqrt(max(aa[c] - const[c], 0.0) / ww[c])
            for i in range(1, new.shape[0]):
                new[i, c] *= f
    _normalise(count, tile, exponent)
    for c in range(count):
        for i in range(new.shape[0]):
            z[who[c], i] = new[i, c]
    return drift


@inlined
def _normalise(count, tile, exponent):  # pragma: no cover - compiled
    """Scale neurons of a tile to norms in [1/2, 2) by powers of two."""
    who, new, size = tile.who, tile.new, tile.lines[0]
    size[:count] = 0.0
    for i in range(new.shape[0]):
        for c in range(count):
            size[c] += new[i, c] ** 2
    for c in range(count):
        size[c] = np.sqrt(size[c])
    for c in range(count):
        s, up = size[c], 0
        while s < 0.5 and s > 0.0:
            s *= 2.0
            up -= 1
        while s >= 2.0:
            s *= 0.5
            up += 1
        if up != 0:
            exponent[who[c]] += up
            for i in range(new.shape[0]):
                new[i, c] *= 2.0**-up


@compiled
def project(P, count, tile):  # pragma: no cover - compiled
    """Replace w of the first `count` neurons of a tile by P w; its `old` is lost."""
    new, old = tile.new[1:], tile.old[1:]
    for i in range(P.shape[0]):
        old[i, :count] = 0.0
        for s in range(P.shape[0]):
            f = P[i, s]
            for c in range(count):
                old[i, c] += f * new[s, c]
    for i in range(P.shape[0]):
        for c in range(count):
            new[i, c] = old[i, c]


@allocating
def ride(  # pragma: no cover - compiled
    x, unit, active, start, members, walks, u0, u1, z0, exponent0, z, exponent, first, A, W, D,
    fades, projected, projector, balance, gap, gap_exponent, sign,
):  # fmt: skip
    """Move members u0 to u1, but for those that walk, by `x` units, onto their slides.

    From z0 and exponent0 to z and exponent. Returns the largest relative correction of a^2 - |w|^2.
    """
    active, start, members, first, A, W = borrowed((active, start, members, first, A, W))
    z0, z, projector, D, walks = borrowed((z0, z, projector, D, walks))
    d, drift = W.shape[2], 0.0
    tile, basis = tile_of(d, TILE), np.empty((d + 1, d + 1))
    q = np.searchsorted(start, u0, side="right") - 1
    while q < active.shape[0] and start[q] < u1:
        g, c0, wide = active[q], first[q], start[q + 1] - start[q] > d + 1
        if wide:
            for b in range(d + 1):
                evaluate(x, A[c0 + b], W[c0 + b], basis[b])
        u, end = max(u0, start[q]), min(u1, start[q + 1])
        while fades[q] and u < end:
            j = members[u]
            z[j], exponent[j] = z0[j], exponent0[j]
            fade(x, unit, D[q], j, z, exponent, sign)
            u += 1
        while u < end:
            count = 0
            while u < end and count < TILE:
                j = members[u]
                if not walks[j]:
                    tile.who[count], exponent[j] = j, exponent0[j]
                    if not wide:
                        c = c0 + u - start[q]
                        evaluate(x, A[c], W[c], tile.new[:, count])
                    count += 1
                u += 1
            if wide:
                _combine(count, basis, z0, tile)
            if projected[g]:
                project(projector[g], count, tile)
            drift = max(drift, settle(count, tile, z, exponent, balance, gap, gap_exponent, sign))
        q += 1
    return drift


@compiled
def fetch(count, z, tile):  # pragma: no cover - compiled
    """Write where neurons of a tile are to its `old`."""
    who, old = tile.who, tile.old
    for c in range(count):
        for i in range(old.shape[0]):
            old[i, c] = z[who[c], i]


@compiled
def _combine(count, basis, z, tile):  # pragma: no cover - compiled
    """Move neurons of a tile as the unit vectors move to the rows of `basis`."""
    new, old = tile.new, tile.old
    fetch(count, z, tile)
    new[:, :count] = 0.0
    for b in range(old.shape[0]):
        for i in range(old.shape[0]):
            f = basis[b, i]
            for c in range(count):
                new[i, c] += old[b, c] * f


@compiled
def evaluate(x, a, w, out):  # pragma: no cover - compiled
    """Write (a, w) at `x` from the coefficients a (order+1,) and w (order+1, d)."""
    order = a.shape[0] - 1
    out[0] = a[order]
    for i in range(w.shape[1]):
        out[1 + i] = w[order, i]
    for o in range(order - 1, -1, -1):
        out[0] = out[0] * x + a[o]
        for i in range(w.shape[1]):
            out[1 + i] = out[1 + i] * x + w[o, i]
