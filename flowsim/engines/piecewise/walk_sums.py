"""What walkers' outputs add to the residual over a step: integrals along their walks, compiled.

A neuron that has changed its cell leaves the polynomials that the step's residual was made of.
What that does to other neurons depends on moments of the difference alone,

    int_0^h s^q (a w [code] - a_0 w_0 [code_0]) ds,   q = 0, ..., MOMENTS - 1,

of its output: in its first cell, whose neurons are summed as a group, and where it is in another
one on the sides of the hyperplanes between the two. On a stretch between two events both are
smooth, and Gauss's rule is taken at the same points for both, so that nothing is lost where
they hardly differ.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowsim.engines.piecewise.codes import list_differences
from flowsim.engines.piecewise.detection import own_polynomials
from flowsim.engines.piecewise.jit import allocating, compiled, inlined, summing
from flowsim.engines.piecewise.kin import add_outputs
from flowsim.events import ALIVE

#: Moments of the time.
MOMENTS = 4
#: Gauss's rule on (0, 1).
NODES = 0.5 + np.array([-0.5, 0.0, 0.5]) * np.sqrt(0.6)
WEIGHTS = np.array([5.0, 8.0, 5.0]) / 18.0


class Sums(NamedTuple):
    """Of K walkers; without any moments nothing is summed."""

    z: np.ndarray  # (K, d+1), (K,), (K, G): where the step began
    mass: np.ndarray
    code: np.ndarray
    moved: np.ndarray  # (K, moments, d), of a w where the neuron is
    rode: np.ndarray  # (K, moments, d), of a w where its first cell would have taken it


class Ridden(NamedTuple):
    """Working memory: the polynomials of a neuron that stays in its first cell."""

    a: np.ndarray  # (order+1,)
    w: np.ndarray  # (order+1, d)


def sums(z: np.ndarray, mass: np.ndarray, code: np.ndarray, moments: int) -> Sums:
    """Return empty sums of neurons that are now in z, of mass, in their cells."""
    K, d = len(z), z.shape[1] - 1
    rows = K if moments else 0
    return Sums(
        z[:rows].copy(), mass[:rows].copy(), code[:rows].copy(), np.zeros((rows, moments, d)),
        np.zeros((rows, moments, d)),
    )  # fmt: skip


@inlined
def load_ridden(k, walkers, sums, start, first, A, W, ridden):  # pragma: no cover - compiled
    """Write the polynomials that walker k would have followed."""
    q = walkers.group[k]
    own_polynomials(
        q, start[q] + walkers.member[k], sums.moved.shape[2], start, first, sums.z, k, A, W,
        ridden.a, ridden.w,
    )  # fmt: skip


@inlined
def add_stretch(  # pragma: no cover - compiled
    x, at, mass, a, w, moved_by, first_mass, ridden_a, ridden_w, rode_by
):
    """Add a walker's moments over [x, x + at] to moved_by and rode_by (moments, d).

    a and w (order+1, d) are its polynomials, from x on, and the ridden ones those of its first
    cell.
    """
    moments, d = moved_by.shape
    xi0, xi1, xi2 = at * NODES[0], at * NODES[1], at * NODES[2]
    s0, s1, s2 = x + xi0, x + xi1, x + xi2
    a0, a1, a2 = _at_three(a, xi0, xi1, xi2) if mass > 0.0 else (0.0, 0.0, 0.0)
    first0, first1, first2 = _at_three(ridden_a, s0, s1, s2)
    f0, f1, f2 = at * WEIGHTS[0], at * WEIGHTS[1], at * WEIGHTS[2]
    for i in range(d):
        w0, w1, w2 = _at_three(w[:, i], xi0, xi1, xi2) if mass > 0.0 else (0.0, 0.0, 0.0)
        v0, v1, v2 = _at_three(ridden_w[:, i], s0, s1, s2)
        u0, u1, u2 = f0 * mass * a0 * w0, f1 * mass * a1 * w1, f2 * mass * a2 * w2
        v0, v1, v2 = (
            f0 * first_mass * first0 * v0, f1 * first_mass * first1 * v1,
            f2 * first_mass * first2 * v2,
        )  # fmt: skip
        for q in range(moments):
            moved_by[q, i] += u0 + u1 + u2
            rode_by[q, i] += v0 + v1 + v2
            u0, u1, u2, v0, v1, v2 = u0 * s0, u1 * s1, u2 * s2, v0 * s0, v1 * s1, v2 * s2


@inlined
def _at_three(c, x0, x1, x2):  # pragma: no cover - compiled
    """Evaluate ``sum_i c[i] x**i`` at three x at once: none waits for another."""
    v0 = v1 = v2 = c[-1]
    for i in range(c.shape[0] - 2, -1, -1):
        v0, v1, v2 = v0 * x0 + c[i], v1 * x1 + c[i], v2 * x2 + c[i]
    return v0, v1, v2


@inlined
def change_side(moved, normals, g, old, new, U):  # pragma: no cover - compiled
    """Let what a walker has added so far stay where it was, as hyperplane g's code changes.

    U (2, G, moments) receives ``nu_g .`` the moments on the sides; `finish` and `outputs` put all
    that a walker has added into its last cell.
    """
    for q in range(moved.shape[0]):
        along = 0.0
        for i in range(moved.shape[1]):
            along += normals[i, g] * moved[q, i]
        if old != 0:
            U[int(old > 0), g, q] += along
        if new != 0:
            U[int(new > 0), g, q] -= along


@compiled
def finish(  # pragma: no cover - compiled
    k0, k1, end, normals, walkers, sums, start, first, A, W, work, U
):
    """Move what walkers k0 to k1, at their end, have added from their first cells to their last."""
    for k in range(k0, k1):
        if walkers.fate[k] != ALIVE and walkers.x[k] < end:
            load_ridden(k, walkers, sums, start, first, A, W, work.ridden)
            x = walkers.x[k]
            add_stretch(
                x, end - x, 0.0, work.ridden.a, work.ridden.w, sums.moved[k], sums.mass[k],
                work.ridden.a, work.ridden.w, sums.rode[k],
            )  # fmt: skip
        now, before = walkers.code[k], sums.code[k]
        for c in range(list_differences(now, before, work.slides)):
            g = work.slides[c]
            change_side(sums.moved[k], normals, g, now[g], before[g], U)


@compiled
def by_group(group, sums, V):  # pragma: no cover - compiled
    """Add to V (groups, moments d) what the walkers have added where their first cells are."""
    moments, d = sums.moved.shape[1:]
    for k in range(group.shape[0]):
        for q in range(moments):
            for i in range(d):
                V[group[k], q * d + i] += sums.moved[k, q, i] - sums.rode[k, q, i]


@allocating
def add_groups(slope, on, active, kin, V, q0, q1, U):  # pragma: no cover - compiled
    """Add to U (moments d, n) what groups q0 to q1 have added, by samples."""
    add_outputs(slope, on, active, kin, q0, q1, V[q0:q1].copy(), U)


@summing
def outputs(X, norms, index, orientation, slope, sides, U, out):  # pragma: no cover - compiled
    """Write the moments (moments, n) of all samples' outputs.

    Of those on the sides (2, G, moments) of hyperplanes, and those by samples U (moments, d, n).
    """
    d, n = X.shape
    for q in range(out.shape[0]):
        for k in range(n):
            minus, plus = sides[0, index[k], q], sides[1, index[k], q]
            if orientation[k] < 0.0:
                minus, plus = -plus, -minus
            out[q, k] = norms[k] * (plus + slope * minus)
        for i in range(d):
            for k in range(n):
                out[q, k] += X[i, k] * U[q, i, k]
