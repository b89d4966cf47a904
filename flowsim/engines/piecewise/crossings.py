"""What the crossings of a step do to the neurons that cross, to first order.

Those have been turned by what others' crossings had done before theirs, which was in another
cell, and at another time, than if they had not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowsim.cells import TOUCH
from flowsim.engines.piecewise import walk_arrays, walk_turn
from flowsim.events import ALIVE, kind_code

if TYPE_CHECKING:
    from flowsim.engines.piecewise.walkers import Party

#: By how much of it the effect of crossings on later ones may be wrong: where all are of one
#: hyperplane, and where others have as much to do with it.
SURE, UNSURE = 0.02, 0.2

PATTERN = kind_code("pattern")


class Crossings:
    """The crossings of a party that has walked to its end."""

    def __init__(self, party: Party) -> None:
        self.party = party
        self._direct = np.zeros(party.flow.cells.n)
        self._gone = self._later = np.zeros(0)

    def turn(self, r: np.ndarray) -> float:
        """Turn the neurons by the fields of r (3, n): F0, F1 and D of `feedback`.

        Those that have crossed a hyperplane only just, and are before it now, will cross it
        later. Returns the largest F0.
        """
        flow = self.party.flow
        ends = np.empty((2, flow.cells.n_hyperplanes, 3))
        flow.expander.write_sides(self.party.step.e.unit * r, ends)
        fields = np.zeros((len(self.party.neurons), 3, flow.cells.d))
        work, log = self.party.take_scratch()
        plan = walk_arrays.with_sides(flow.plan_of_walks, work)
        walk_turn.fields_of_walkers(plan, ends, self.party.walkers, fields)
        self._count_crossings(fields[:, 0])
        turned = walk_turn.turn_walkers(plan, fields, self.party.walkers, work)
        self.party.give_back(work, log)
        self._undo_early_crossings()
        return float(turned)

    def _count_crossings(self, F0: np.ndarray) -> None:
        """Add to F0 (K, d), those of the last cells, what comes of when they were entered.

        Before it crossed a hyperplane a neuron felt its samples as they act on the other side.
        And the neuron was turned by then, so that it crossed earlier or later: velocities v
        before and v' behind multiply what it was turned by along the normal by v'/v. Its
        events are moved to when they were.
        """
        cells, unit = self.party.flow.cells, self.party.step.e.unit
        rows, x, steep = self.party.log
        changes = np.flatnonzero(rows[:, 1] == PATTERN)
        order = changes[np.lexsort((x[changes], rows[changes, 2]))]
        before, until = np.zeros((len(x), 2)), np.zeros((len(x), 2))
        last = np.empty((cells.n_hyperplanes, 2))
        weights = unit**2 * self.party.flow.pair_weights
        walk_turn.shared_planes(order, rows, x, steep, weights, self.party.end, before, until, last)
        sides = np.stack(cells.side_coefficients[::-1], axis=1)  # (n, 2)
        self._direct = -unit * cells.orientation * cells.norms * np.sum(
            sides * last[cells.index], axis=1
        )  # fmt: skip
        k, g = rows[changes, 0], rows[changes, 2]
        normal = cells.normals[g]
        _, v, behind = steep[changes].T
        crosses = (rows[changes, 3] == -rows[changes, 4]) & (v != 0.0)
        more = before[changes, 0] - before[changes, 1]
        jump = np.divide(behind - v, v, out=np.zeros_like(v), where=crosses)
        others = np.einsum("id,id->i", normal, F0[k]) - until[changes, 1]
        self._gone = np.zeros(len(x))
        self._gone[changes] = self._part_of_all(x[changes])
        turned = self._gone[changes] * others + before[changes, 0]
        unsure = SURE + UNSURE * (1.0 - self._shares()[g])
        self._later = np.bincount(k, np.abs(jump * turned) * unsure, len(F0))
        np.add.at(F0, k, (more + jump * turned)[:, None] * normal)
        self._move_events(changes[v != 0.0], turned[v != 0.0] / (-unit * v[v != 0.0]))

    def _move_events(self, moved: np.ndarray, by: np.ndarray) -> None:
        """Move the times of rows `moved`, and of what else happened at them, by `by`."""
        rows, x, steep = self.party.log
        pairs = list(zip(rows[:, 0].tolist(), x.tolist(), strict=True))
        shift = {pairs[i]: change for i, change in zip(moved, by, strict=True)}
        later = np.array([shift.get(pair, 0.0) for pair in pairs])
        self.party.log = rows, np.clip(x + later, 0.0, self.party.end), steep

    def _undo_early_crossings(self) -> None:
        """Let neurons that are before a hyperplane again, which they had just crossed, be there."""
        w = self.party.walkers
        rows, x, steep = self.party.log
        k, kind, g, before, after = rows.T
        margin = np.einsum("id,id->i", self.party.flow.cells.normals[g], w.z[k, 1:])
        early = (kind == PATTERN) & (before == -after) & (w.fate[k] == ALIVE)
        early &= (w.code[k, g] == after) & (after * margin < -TOUCH)
        last = {(int(k[i]), int(g[i])): int(i) for i in np.flatnonzero(early)}
        if not last:
            return
        undone = list(last.values())
        w.code[k[undone], g[undone]] = before[undone]
        w.fresh[k[undone], g[undone]] = False
        kept = np.delete(np.arange(len(x)), undone)
        self.party.log, self._gone = (rows[kept], x[kept], steep[kept]), self._gone[kept]

    def error(self, whole: np.ndarray) -> float:
        """Return by how much F0 may be wrong where others have changed outputs before a crossing.

        `turn` has seen to what crossings of the same hyperplane do at once, which neglects how
        neurons turn from then on. What else is in `whole` (n,), the integral of delta, had grown
        by the time of a crossing about as the crossings' known effects have.
        """
        cells, e = self.party.flow.cells, self.party.step.e
        rows, x, _ = self.party.log
        crossings = np.flatnonzero((rows[:, 1] == PATTERN) & (rows[:, 3] == -rows[:, 4]))
        if len(crossings) == 0:
            return 0.0
        k, g, at = rows[crossings, 0], rows[crossings, 2], x[crossings]
        first = np.full(cells.n_hyperplanes, np.inf)
        np.minimum.at(first, g, at)
        turns = np.minimum(1.0, e.unit * float(e.rates().max(initial=0.0)) * (at - first[g]))
        sizes = e.unit * cells.weight * cells.norms
        direct, other = (
            np.bincount(cells.index, sizes * np.abs(r), cells.n_hyperplanes)
            for r in (self._direct, whole - self._direct)
        )
        wrong = self._part(at, first[g]) * turns * direct[g] + self._gone[crossings] * other[g]
        return float(np.max(np.bincount(k, wrong, len(self.party.neurons)) + self._later))

    def _part(self, x: np.ndarray, first: np.ndarray | float) -> np.ndarray:
        """Return which part of the square of the time since `first` has gone by at x."""
        whole = np.broadcast_to(self.party.end - first, x.shape)
        return np.divide(x - first, whole, out=np.ones_like(x), where=whole > 0.0) ** 2

    def _shares(self) -> np.ndarray:
        """Return each hyperplane's share (G,) of what crossings are known to add by the end."""
        step, neurons = self.party.step, self.party.neurons
        known = neurons[step.kinks[neurons] > 0.0]
        added = step.kinks[known] * np.maximum(self.party.end - step.x[known], 0.0) ** 2
        shares = np.bincount(step.where[known], added, self.party.flow.cells.n_hyperplanes)
        total = shares.sum()
        return shares / total if total > 0.0 else shares

    def _part_of_all(self, x: np.ndarray) -> np.ndarray:
        """Return which part of what crossings have added by the end they have added by x."""
        rows, times, _ = self.party.log
        step, neurons = self.party.step, self.party.neurons
        known = neurons[step.kinks[neurons] > 0.0]
        if len(known) == 0 or np.any(rows[:, 3] == 0):
            return self._part(x, times.min())
        t, kink = step.x[known], step.kinks[known]
        order = np.argsort(t)
        t, kink = t[order] - t[order[0]], kink[order]
        powers = np.array([kink, kink * t, kink * t**2])
        sums = np.concatenate([np.zeros((3, 1)), np.cumsum(powers, axis=1)], axis=1)

        def added(s: np.ndarray) -> np.ndarray:
            S = sums[:, np.searchsorted(t, s)]
            return np.maximum(s * (s * S[0] - 2.0 * S[1]) + S[2], 0.0)

        start = step.x[known].min()
        whole = added(np.array(self.party.end - start))
        return np.minimum(added(x - start) / whole, 1.0) if whole > 0.0 else np.ones_like(x)
