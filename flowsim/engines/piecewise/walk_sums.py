"""What walkers' outputs add to the residual over a step: integrals along their walks, compiled.

A neuron that has changed its cell leaves the polynomials that the step's residual was made of.
What that does to other neurons depends on moments of the difference alone,

    int_0^h s^q (a w [code] - a_0 w_0 [code_0]) ds,   q = 0, ..., MOMENTS - 1,

of its output on every side of every hyperplane. On a stretch between two events both are
smooth, and Gauss's rule is taken at the same points for both, so that nothing is lost where
they hardly differ.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowsim.engines.piecewise.detection import own_polynomials
from flowsim.engines.piecewise.jit import borrowed, compiled, inlined, summing
from flowsim.engines.piecewise.roots import horner
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
    for node in range(NODES.shape[0]):
        xi = at * NODES[node]
        s, f = x + xi, at * WEIGHTS[node]
        moved = f * mass * horner(a, xi) if mass > 0.0 else 0.0
        rode = f * first_mass * horner(ridden_a, s)
        for i in range(d):
            u = moved * horner(w[:, i], xi) if mass > 0.0 else 0.0
            v = rode * horner(ridden_w[:, i], s)
            for q in range(moments):
                moved_by[q, i] += u
                rode_by[q, i] += v
                u *= s
                v *= s


@inlined
def change_side(moved, g, old, new, U):  # pragma: no cover - compiled
    """Let what a walker has added so far stay where it was, as hyperplane g's code changes.

    U (2, moments, d, G) receives the moments on the sides; `finish` puts all that a walker has
    added into its last cell.
    """
    moments, d = moved.shape
    for q in range(moments):
        for i in range(d):
            if old != 0:
                U[int(old > 0), q, i, g] += moved[q, i]
            if new != 0:
                U[int(new > 0), q, i, g] -= moved[q, i]


@compiled
def finish(  # pragma: no cover - compiled
    k0, k1, end, walkers, sums, start, first, A, W, ridden, U
):
    """Put the moments of walkers k0 to k1, at their end, into U.

    Where a walker's cell is still its first one, that is done for all of a group at once.
    """
    walkers, sums, ridden = borrowed(walkers), borrowed(sums), borrowed(ridden)
    start, first, A, W, U = borrowed((start, first, A, W, U))
    moments, d = sums.moved.shape[1:]
    left = np.empty((moments, d))
    for k in range(k0, k1):
        if walkers.fate[k] != ALIVE and walkers.x[k] < end:
            load_ridden(k, walkers, sums, start, first, A, W, ridden)
            x = walkers.x[k]
            add_stretch(
                x, end - x, 0.0, ridden.a, ridden.w, sums.moved[k], sums.mass[k], ridden.a,
                ridden.w, sums.rode[k],
            )  # fmt: skip
    for k in range(k0, k1):
        _leave_group(k, walkers.code[k], sums, U)
    done = np.zeros(k1 - k0, np.bool_)
    for k in range(k0, k1):
        if not done[k - k0]:
            left[:] = 0.0
            for other in range(k, k1):
                if walkers.group[other] == walkers.group[k]:
                    left += sums.moved[other] - sums.rode[other]
                    done[other - k0] = True
            for q in range(moments):
                for i in range(d):
                    _add_sides(sums.code[k], left[q, i], U[0, q, i], U[1, q, i])


@compiled
def _leave_group(k, code, sums, U):  # pragma: no cover - compiled
    """Put what walker k has added by the end into its last cell instead of its first."""
    old = sums.code[k]
    for g in range(code.shape[0]):
        if code[g] != old[g]:
            for q in range(U.shape[1]):
                for i in range(U.shape[2]):
                    if code[g] != 0:
                        U[int(code[g] > 0), q, i, g] += sums.moved[k, q, i]
                    if old[g] != 0:
                        U[int(old[g] > 0), q, i, g] -= sums.moved[k, q, i]


@summing
def _add_sides(code, f, minus, plus):  # pragma: no cover - compiled
    for g in range(code.shape[0]):
        plus[g] += f * (code[g] > 0)
        minus[g] += f * (code[g] < 0)


@summing
def outputs_of_sides(X, index, orientation, slope, U, out):  # pragma: no cover - compiled
    """Write the moments (moments, n) of all samples' outputs from those on the sides."""
    d, n = X.shape
    out[:] = 0.0
    for q in range(out.shape[0]):
        for i in range(d):
            minus, plus = U[0, q, i], U[1, q, i]
            for k in range(n):
                g = index[k]
                up, down = plus[g], minus[g]
                if orientation[k] < 0.0:
                    up, down = down, up
                out[q, k] += X[i, k] * (up + slope * down)
