"""Motion of neurons to a time of their expansion, back onto slides and constants; compiled."""

from __future__ import annotations

import numpy as np

from flowsim.engines.piecewise.expansion import compiled


@compiled
def settle(j, new, z, exponent, balance, gap, gap_exponent, sign):  # pragma: no cover - compiled
    """Put neuron j, moved to `new` (d+1,), onto a^2 - |w|^2 = const and into [1/2, 2).

    Returns the relative correction of a^2 - |w|^2. The smaller of |a| and |w| is set from the
    larger, which does not amplify rounding.
    """
    d = new.shape[0] - 1
    ww = 0.0
    for i in range(d):
        ww += new[1 + i] ** 2
    aa = new[0] ** 2
    # a^2 - |w|^2 in units of the neuron's present exponent
    const = 0.0
    if balance[j] != 0:
        shift = 2 * (gap_exponent[j] - exponent[j])
        const = gap[j] * 2.0 ** min(max(shift, -2000), 1000)
    drift = abs(aa - ww - const) / (aa + ww)
    if balance[j] >= 0:
        new[0] = sign[j] * np.sqrt(max(ww + const, 0.0))
    elif ww > 0.0:
        f = np.sqrt(max(aa - const, 0.0) / ww)
        for i in range(d):
            new[1 + i] *= f
    size = 0.0
    for i in range(d + 1):
        size += new[i] ** 2
    size = np.sqrt(size)
    shift_up = 0
    while size < 0.5 and size > 0.0:
        size *= 2.0
        shift_up -= 1
    while size >= 2.0:
        size *= 0.5
        shift_up += 1
    f = 2.0**-shift_up if shift_up != 0 else 1.0  # a power takes as long as all the rest
    exponent[j] += shift_up
    for i in range(d + 1):
        z[j, i] = new[i] * f
    return drift


@compiled
def project(P, w):  # pragma: no cover - compiled
    """Replace w (d,), a view, by P w."""
    d = w.shape[0]
    moved = np.empty(d)
    for i in range(d):
        moved[i] = 0.0
        for s in range(d):
            moved[i] += P[i, s] * w[s]
    for i in range(d):
        w[i] = moved[i]


@compiled
def ride(  # pragma: no cover - compiled
    x, active, start, members, walks, u0, u1, z, exponent, first, A, W, projected, projector,
    balance, gap, gap_exponent, sign,
):  # fmt: skip
    """Move members u0 to u1, but for those that walk, by `x` units, onto their slides.

    Returns the largest relative correction of a^2 - |w|^2.
    """
    d = W.shape[2]
    basis = np.empty((d + 1, d + 1))
    new = np.empty(d + 1)
    drift = 0.0
    q = np.searchsorted(start, u0, side="right") - 1
    while q < active.shape[0] and start[q] < u1:
        g, wide = active[q], start[q + 1] - start[q] > d + 1
        if wide:
            for b in range(d + 1):
                evaluate(x, A[first[q] + b], W[first[q] + b], basis[b])
        for u in range(max(u0, start[q]), min(u1, start[q + 1])):
            j = members[u]
            if walks[j]:
                continue
            if wide:
                for i in range(d + 1):
                    new[i] = 0.0
                for b in range(d + 1):
                    f = z[j, b]
                    for i in range(d + 1):
                        new[i] += f * basis[b, i]
            else:
                c = first[q] + u - start[q]
                evaluate(x, A[c], W[c], new)
            if projected[g]:
                project(projector[g], new[1:])
            drift = max(drift, settle(j, new, z, exponent, balance, gap, gap_exponent, sign))
        q += 1
    return drift


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


@compiled
def speeds(active, start, members, z, mass, D, out):  # pragma: no cover - compiled
    """Write ``|z_j'|^2 = (w_j . D_j)^2 + a_j^2 |D_j|^2`` of each neuron; return the total."""
    d = D.shape[2]
    total = 0.0
    for q in range(active.shape[0]):
        dd = 0.0
        for i in range(d):
            dd += D[q, 0, i] ** 2
        for u in range(start[q], start[q + 1]):
            j = members[u]
            wd = 0.0
            for i in range(d):
                wd += z[j, 1 + i] * D[q, 0, i]
            out[j] = mass[j] * (wd * wd + z[j, 0] ** 2 * dd)
            total += out[j]
    return total
