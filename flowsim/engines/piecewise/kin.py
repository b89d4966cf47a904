"""Groups in nearly the same cell share most of their sums over the samples; compiled.

With c_q the slopes of group q at the samples, and p its parent, whose cell differs in few of them,

    sum_k c_qk T_k = sum_k c_pk T_k + sum_{k: c_qk != c_pk} (c_qk - c_pk) T_k,

and what a tree of such groups adds to the outputs is likewise that of its root, but for few
samples. Late in a run neurons are in few clusters, and there the sums cost what one group a
cluster does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowsim.engines.piecewise.codes import differences, list_differences, slope_at
from flowsim.engines.piecewise.jit import compiled, summing

#: Groups of one block.
BLOCK = 256
#: Samples from which on looking for parents is worth it.
WORTH = 128
#: A group is no child of one from which it differs in more than this part of the samples, and
#: takes the first one found from which it differs in less than that.
LARGEST, SMALL = 8, 64


class Kin(NamedTuple):
    """The parents of groups, which come before them; -1 for those that have none."""

    parent: np.ndarray  # (groups,)
    first: np.ndarray  # (groups+1,): samples first[q] to first[q+1] are those of group q
    sample: np.ndarray  # (S,) in which it differs from its parent,
    change: np.ndarray  # (S,) and by which slope


def kin_of(on: np.ndarray, active: np.ndarray, slope: float) -> Kin:
    """Return the parents of the active groups; on (slots, n) holds activation codes."""
    count, n = len(active), on.shape[1]
    looks = n >= WORTH and count <= BLOCK
    most = count * (n // LARGEST) if looks else 0
    kin = Kin(
        np.full(count, -1), np.zeros(count + 1, np.int64), np.empty(most, np.int64), np.empty(most)
    )
    if looks:
        relate(slope, on, active, kin)
    return kin


@summing
def field(slope, on, T, out):  # pragma: no cover - compiled
    """Write ``sum_k c_k T[:, k]`` (d,) for the activation codes `on` (n,) of a cell."""
    d, n = T.shape
    for s in range(d):
        x, row = 0.0, T[s]
        for k in range(n):
            x += row[k] * (on[k] > 0)
        if slope != 0.0:
            y = 0.0
            for k in range(n):
                y += row[k] * (on[k] < 0)
            x += slope * y
        out[s] = x


@summing
def add_output(slope, on, v, U):  # pragma: no cover - compiled
    """Add ``c_k v`` to U[:, k] (d, n): the output of a group on x_k is that times x_k."""
    d, n = U.shape
    for s in range(d):
        f, row = v[s], U[s]
        for k in range(n):
            row[k] += f * (on[k] > 0)
        if slope != 0.0:
            g = slope * f
            for k in range(n):
                row[k] += g * (on[k] < 0)


@compiled
def relate(slope, on, active, kin):  # pragma: no cover - compiled
    """Choose each group's parent among those before it, the last ones first."""
    n, found = on.shape[1], 0
    for q in range(active.shape[0]):
        own, best = on[active[q]], n // LARGEST + 1
        for p in range(q - 1, -1, -1):
            differ = differences(own, on[active[p]], best)
            if differ < best:
                kin.parent[q], best = p, differ
            if best <= n // SMALL:
                break
        if kin.parent[q] >= 0:
            other = on[active[kin.parent[q]]]
            count = list_differences(own, other, kin.sample[found:])
            for e in range(found, found + count):
                k = kin.sample[e]
                kin.change[e] = slope_at(own[k], slope) - slope_at(other[k], slope)
            found += count
        kin.first[q + 1] = found


@compiled
def field_of(q, slope, on, active, kin, T, i, base):  # pragma: no cover - compiled
    """Write ``sum_k c_qk T[:, k]`` to base[q, i] (d,), that of the parent being there."""
    p = kin.parent[q]
    if p < 0:
        field(slope, on[active[q]], T, base[q, i])
        return
    for s in range(T.shape[0]):
        x = base[p, i, s]
        for e in range(kin.first[q], kin.first[q + 1]):
            x += kin.change[e] * T[s, kin.sample[e]]
        base[q, i, s] = x


@compiled
def add_outputs(slope, on, active, kin, q0, q1, V, U):  # pragma: no cover - compiled
    """Add ``sum_q c_qk V[q - q0]`` over groups q0 to q1 to U[:, k] (d, n); V is lost."""
    for q in range(q1 - 1, q0 - 1, -1):
        v, p = V[q - q0], kin.parent[q]
        if _is_zero(v):
            continue
        if p < 0:
            add_output(slope, on[active[q]], v, U)
            continue
        for s in range(U.shape[0]):
            for e in range(kin.first[q], kin.first[q + 1]):
                U[s, kin.sample[e]] += kin.change[e] * v[s]
            V[p - q0, s] += v[s]


@compiled
def _is_zero(v):  # pragma: no cover - compiled
    some = 0
    for i in range(v.shape[0]):
        some += v[i] != 0.0
    return some == 0
