"""What the crossings of a step do to the neurons that cross, to first order.

Those have been turned by what others' crossings had done before theirs, which was in another
cell, and at another time, than if they had not.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from flowsim._cores import available_cores
from flowsim.cells import TOUCH
from flowsim.engines.piecewise import added, walk_turn
from flowsim.engines.piecewise.blocks import pool
from flowsim.engines.piecewise.walk_turn import PATTERN

if TYPE_CHECKING:
    from flowsim.engines.piecewise.feedback import Kernel
    from flowsim.engines.piecewise.walkers import Party

#: Samples of a block, and crossings times samples from which on threads are worth their start.
SAMPLES, WORTH = 512, 2**15
#: Part of the time from the first crossing to the end after which what K has made of them is
#: looked at.
MIDDLE = 0.7


class Crossings:
    """The crossings of a party that has walked to its end.

    Attributes
    ----------
    error : float
        By how much `turn` may be wrong: what had been added by the time of a crossing is known to
        leading order, and of the rest how much there is at the end, and most of it `MIDDLE` on the
        way. Crossings that it moves act on others for so much longer or shorter.
    """

    def __init__(self, party: Party) -> None:
        self.party = party
        self.error = 0.0

    def turn(
        self, whole: np.ndarray, integral: np.ndarray, decayed: np.ndarray, r: np.ndarray,
        kernel: Kernel,
    ) -> float:  # fmt: skip
        """Turn the neurons by the fields of `feedback`: F0, F1 and D of whole, integral, r (n,).

        `decayed` is what the `kernel` makes of `integral`. Those that have crossed a hyperplane
        only just, and are before it now, will cross it later. Returns the largest F0.
        """
        party, flow = self.party, self.party.flow
        cells, e, unit = flow.cells, party.step.e, party.step.e.unit
        rows, x, steep = party.log
        order = np.argsort(x, kind="stable")
        crossings = order[rows[order, 1] == PATTERN]
        begun = float(x[crossings[0]]) if len(crossings) else 0.0
        middle, shape = begun + MIDDLE * (party.end - begun), np.zeros(len(x))
        felt, strength, known, halfway = self._added(crossings, middle)
        by_then = added.shape_of(crossings, x, strength, middle, party.end, shape)
        rest = whole - known
        # What K has not made of it is added in the same shape as all of it.
        unknown = rest + decayed
        more = by_then * (unknown - rest) - kernel(halfway)
        fields = np.zeros((len(party.neurons), 6, cells.d))
        walk_turn.fields_of_walkers(
            unit * cells.weight, cells.slope, flow.X, cells.orientation, *cells.samples,
            flow.groups.on, e.active, e.kin, np.array([whole, integral, r, rest, unknown, more]),
            party.sums.code, party.walkers, fields,
        )  # fmt: skip
        beside = np.bincount(
            cells.index, unit * cells.weight * cells.norms * np.abs(rest), cells.n_hyperplanes
        )
        moved, later = np.zeros(len(x)), np.zeros(len(fields))
        walk_turn.turn_crossing(
            rows, x, steep, begun, unit, flow.normals, party.sums.z, TOUCH, felt, shape, by_then,
            fields[:, 2], fields[:, 3:], beside, fields[:, 0], moved, later,
        )  # fmt: skip
        for_so_long = np.minimum(np.abs(moved), party.end) * (party.end - x)
        self.error = float(np.max(later, initial=0.0) + strength @ for_so_long)
        walk_turn.move_events(order, rows, x, moved, party.end)
        work, log = party.take_scratch()
        turned = walk_turn.turn_walkers(flow.plan_of_walks, fields, party.walkers, work)
        party.give_back(work, log)
        self._undo_early_crossings()
        return float(turned)

    def _added(self, crossings: np.ndarray, middle: float) -> tuple[np.ndarray, ...]:
        """Return what `added.add_up` finds of the crossings: felt, strength, P and Q.

        In blocks of samples, whose parts are summed in their order: on how many cores does not
        matter.
        """
        party, flow = self.party, self.party.flow
        cells, (rows, x, steep) = flow.cells, party.log
        known, halfway = np.empty(cells.n), np.empty(cells.n)
        on = flow.groups.on[party.step.e.active[party.walkers.group]]

        def block(o0: int) -> tuple[np.ndarray, np.ndarray]:
            felt, strength = np.zeros((len(x), 2)), np.zeros(len(x))
            added.add_up(
                crossings, rows, x, steep, middle, party.end, party.step.e.unit, cells.weight,
                cells.slope, o0, min(o0 + SAMPLES, cells.n), flow.X, cells.norms, cells.orientation,
                *cells.samples, on, felt, strength, halfway, known,
            )  # fmt: skip
            return felt, strength

        starts = range(0, cells.n, SAMPLES)
        threads = len(crossings) * cells.n >= WORTH and len(starts) > 1 and available_cores() > 1
        parts = list(pool().map(block, starts) if threads else map(block, starts))
        felt, strength = (reduce(np.add, part) for part in zip(*parts, strict=True))
        return felt, strength, known, halfway

    def _undo_early_crossings(self) -> None:
        """Let neurons that are before a hyperplane again, which they had just crossed, be there."""
        rows, x, steep = self.party.log
        kept = np.empty(len(x), np.bool_)
        if not walk_turn.undo_early(rows, self.party.flow.normals, TOUCH, self.party.walkers, kept):
            self.party.log = rows[kept], x[kept], steep[kept]
