"""What crossings inside a step do to the other neurons, to first order.

All neurons have been moved under a polynomial r_0 of the residual. Those that changed their
cells make outputs that it does not have: with rho what their own moves add to it, and K the
kernel of r' = -K r, the residual has been r_0 + delta,

    delta(s) = rho(s) - K int_0^s delta,

and delta turns a neuron by ``int Phi M(F(s)) Phi^-1 z(h) ds``, F its field of delta and Phi the
flow from s to h:

    dz = M(F_0) z + [M(D), M(F_1)] z + ...,   F_i the field of int_0^h (h - s)^i / i! delta ds.

Both integrals are alternating sums of K^i times moments J_i = int (h - s)^i / i! rho ds of what
`walk_sums` has integrated. This is one Picard sweep, with whatever is smooth done exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import comb, factorial
from typing import TYPE_CHECKING

import numpy as np

from flowsim.engines.piecewise import expansion, turning
from flowsim.engines.piecewise.crossings import Crossings
from flowsim.engines.piecewise.walk_sums import MOMENTS
from flowsim.engines.piecewise.walk_turn import PATTERN
from flowsim.state import State

if TYPE_CHECKING:
    from flowsim.engines.piecewise.expander import Expansion
    from flowsim.engines.piecewise.integrator import Integrator
    from flowsim.engines.piecewise.walkers import Party

#: Neurons may be turned by at most so many times the tolerance.
CORRECTED = 8000.0


def largest_turn(rtol: float) -> float:
    """Return by how much neurons may be turned in a step.

    Events inside it are off by a part of that, so it is less in terms of looser tolerances; states
    at its end by what `Feedback.error` estimates.
    """
    return min(max((6.4e-5 / rtol) ** 0.5, 1.0), CORRECTED) * rtol


@dataclass(frozen=True, eq=False)
class Feedback:
    """By how much neurons are turned, and by how much that may be wrong.

    F0 and F1 (groups, d) are the fields that turn those in their first cells.
    """

    turned: float = 0.0
    error: float = 0.0
    F0: np.ndarray | None = None
    F1: np.ndarray | None = None


class Kernel:
    """K of the state in which a step begins; all rates are those of the expansion's units."""

    def __init__(self, flow: Integrator, e: Expansion) -> None:
        self.flow, self.e, self.unit = flow, e, e.unit
        columns = int(e.first[-1])
        self._A, self._AQ = e.A[:columns, :2].copy(), e.AQ[:columns, :2].copy()
        self._W = e.W[:columns, :2].copy()
        count, d = len(e.active), flow.cells.d
        self._base, self._D = np.empty((count, 1, d)), np.empty((count, 1, d))

    def fields(self, r: np.ndarray) -> np.ndarray:
        """Return the fields (groups, d) that r (n,) gives, on slides projected."""
        flow, e = self.flow, self.e
        flow.expander.fields_of(r, 0, e.active, flow.groups, self._base, self._D)
        return self.unit * self._D[:, 0]

    def __call__(self, r: np.ndarray) -> np.ndarray:
        """Return K r (n,)."""
        flow, e = self.flow, self.e
        self.fields(r)
        return flow.blocks.outputs(
            len(e.active), expansion.next_order, 0, e.unit, flow.cells.slope, False,
            flow.groups.on, e.active, e.kin, e.start, e.members, e.mass,
            after=(
                self._D, self._A, self._W, self._AQ, flow.expander.moments, e.first,
                flow.expander.wide,
            ),
        )  # fmt: skip


def find(flow: Integrator, e: Expansion, party: Party, tau: float) -> Feedback:
    """Return what the walkers' crossings have done within `tau`, and turn the walkers by it."""
    J = _moments(party.moments(), tau / e.unit)
    alone, unknown = e.unit * size(flow, J[0]), party.turned_by_kept()
    if alone <= 0.5 * flow.rtol:  # feedback of what decays only makes it less
        return Feedback(alone, alone + unknown)
    kernel = Kernel(flow, e)
    a = kernel(J[3])
    b = kernel(J[2] - a)
    integral = J[1] - b
    c = kernel(integral)
    whole = J[0] - c
    F0, F1 = kernel.fields(whole), kernel.fields(integral)
    crossings = Crossings(party)
    turned = crossings.turn(whole, integral, c, e.residual(tau), kernel)
    turned = max(turned, float(np.linalg.norm(F0, axis=1).max(initial=0.0)))
    error = _error(flow, e, party, tau / e.unit, J, (a, b, c)) + crossings.error
    return Feedback(turned, error + unknown, F0, F1)


def turn_others(
    flow: Integrator, e: Expansion, state: State, walks: np.ndarray, found: Feedback
) -> None:
    """Turn all neurons of `state` but those that walk."""
    if found.F0 is None:
        return
    D, F0, F1 = e.unit * e.D[:, 0], found.F0, found.F1
    flow.blocks.each_member(
        len(e.members), turning.turn_riders,
        lambda u0, u1: (e.start, e.members, walks, u0, u1, state.z, D, F0, F1),
    )  # fmt: skip


def _moments(raw: np.ndarray, x: float) -> np.ndarray:
    """Return ``int (x - s)^q / q! rho ds`` from the outputs' moments of powers of s."""
    to_end = np.zeros((MOMENTS, MOMENTS))
    for q in range(MOMENTS):
        for i in range(q + 1):
            to_end[q, i] = -comb(q, i) * (-1.0) ** i * x ** (q - i) / factorial(q)
    return to_end @ raw


def size(flow: Integrator, r: np.ndarray) -> float:
    """Return a bound on the field of r (n,) in any cell."""
    cells = flow.cells
    return min(
        cells.weight * float(np.abs(r) @ cells.norms),
        flow.largest_singular * math.sqrt(cells.weight) * _norm(r),
    )


def _norm(v: np.ndarray) -> float:
    """Return the Euclidean norm; NumPy's function takes longer to be called than to sum."""
    return math.sqrt(float(v @ v))


def _error(
    flow: Integrator, e: Expansion, party: Party, x: float, J: np.ndarray,
    products: tuple[np.ndarray, ...],
) -> float:  # fmt: skip
    """Return what the expansions above leave out: of their next terms, as kinks have them."""
    a, b, c = products
    pairs = ((a, J[3]), (b, J[2] - a), (c, J[1] - b))
    sizes = [(_norm(Kv), _norm(v)) for Kv, v in pairs]
    contraction = max((Kv / v for Kv, v in sizes if v > 0.0), default=0.0)
    series = size(flow, a) * contraction**3 * x / 6.0
    rates = e.unit * e.rates()
    total, moving = turning.masses(e.start, e.members, e.mass, rates)
    # The kernel changes as neurons grow, and where they change cells.
    of_mass = size(flow, c) / total if total > 0.0 else 0.0
    kernel = of_mass * moving * x + _changed(flow, e, party, J[1], of_mass)
    rate = float(rates.max(initial=0.0))
    swing = e.unit * float(np.linalg.norm(e.D[:, 1], axis=1).max(initial=0.0))
    order = size(flow, J[1]) * (rate**2 / 4.0 + swing / 2.0) * x
    return float(e.unit * (series + kernel + order))


def _changed(
    flow: Integrator, e: Expansion, party: Party, integral: np.ndarray, otherwise: float
) -> float:
    """Return a bound on what a residual's `integral` (n,) does otherwise where neurons walk.

    A neuron that crosses a hyperplane is turned otherwise by that one's samples only, and acts
    otherwise on them only. One that has begun or ended a slide does so on all: `otherwise` is how
    much that may be for each unit of mass.
    """
    rows, cells = party.log[0], flow.cells
    rows = rows[rows[:, 1] == PATTERN]
    pushes = np.bincount(
        cells.index, cells.weight * cells.norms * np.abs(integral), cells.n_hyperplanes
    )
    of_plane = e.unit * (flow.spread * pushes + flow.planes * size(flow, integral))
    crosses = rows[:, 3] == -rows[:, 4]
    of_row = np.where(crosses, of_plane[rows[:, 2]], otherwise)
    of_walker = np.bincount(rows[:, 0], of_row, len(party.neurons))
    return float(np.minimum(of_walker, otherwise) @ e.mass[party.neurons])
