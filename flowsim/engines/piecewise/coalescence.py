"""Coalescence: parallel neurons go on as one.

Neurons whose (a, w) are positive multiples of each other stay so for ever, since the flow is
linear in every neuron: ``z_j = s_j u`` acts on outputs as one neuron of size
``sqrt(sum_j s_j^2)``, of which each keeps its share. Neurons within an angle of each other in one
cell go on as one in their mean direction, weighted by squared size, so that outputs change by the
square of the angle only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from flowsim.events import Event, Events
from flowsim.state import State, normalised


@dataclass(frozen=True, eq=False)
class Members:
    """Of which neuron of a smaller state each neuron is a part.

    Neuron j is ``share[j] * 2**share_exponent[j]`` times neuron ``leader[j]``.
    """

    leader: np.ndarray  # (m,) int64
    share: np.ndarray  # (m,) float64
    share_exponent: np.ndarray  # (m,) int64
    gap: np.ndarray  # (m,) float64 and
    gap_exponent: np.ndarray  # (m,) int64: the neurons' own conserved a^2 - ||w||^2

    @cached_property
    def count(self) -> np.ndarray:
        """How many neurons each one of the smaller state stands for."""
        return np.bincount(self.leader)

    @cached_property
    def _by_leader(self) -> np.ndarray:
        return np.argsort(self.leader, kind="stable")

    def spread(self, state: State) -> State:
        """Return the state of all neurons."""
        rows = state.subset(self.leader)
        z, up = normalised(rows.z * self.share[:, None])
        return replace(
            rows, z=z, exponent=rows.exponent + self.share_exponent + up,
            balance=np.sign(self.gap).astype(np.int64), gap=self.gap.copy(),
            gap_exponent=self.gap_exponent.copy(),
        )  # fmt: skip

    def events(self, rows: Events | Iterable[Event]) -> Events:
        """Return the events of the smaller state as those of all neurons, in the same order."""
        events = rows if isinstance(rows, Events) else Events.from_rows(rows)
        whose = np.where(events.neuron >= 0, events.neuron, 0)
        times = np.where(events.neuron >= 0, self.count[whose], 1)
        which = np.repeat(np.arange(len(events)), times)
        # The i-th copy of an event is that of the i-th member.
        place = np.arange(len(which)) - np.repeat(np.cumsum(times) - times, times)
        first = np.cumsum(self.count) - self.count
        copies = events.select(which)
        neuron = self._by_leader[first[whose[which]] + place].astype(np.int32)
        return replace(copies, neuron=np.where(copies.neuron >= 0, neuron, copies.neuron))

    def after(self, earlier: Members | None) -> Members:
        """Return the members of all neurons, if these are those of an `earlier` smaller state."""
        if earlier is None:
            return self
        share, up = np.frexp(earlier.share * self.share[earlier.leader])
        return Members(
            self.leader[earlier.leader], share,
            earlier.share_exponent + self.share_exponent[earlier.leader] + up,
            earlier.gap, earlier.gap_exponent,
        )  # fmt: skip


def coalesced(state: State, slot: np.ndarray, angle: float) -> tuple[State, Members] | None:
    """Return a state in which neurons within `angle` of each other are one; None if none are.

    Parameters
    ----------
    state : State
    slot : (m,) int
        The cells of the neurons, -1 for those that do not move: they are left alone.
    angle : float
        Largest distance between ``z_j / |z_j|``.
    """
    size = np.linalg.norm(state.z, axis=1)
    unit = state.z / np.where(size > 0.0, size, 1.0)[:, None]
    rows, heaviest = _heaviest_nearby(
        unit, state.exponent + np.log2(np.maximum(size, 0.5)), slot, angle
    )
    alike = (
        (np.linalg.norm(unit[rows] - unit[heaviest], axis=1) <= angle)
        & (state.balance[rows] == state.balance[heaviest])
        & np.all(state.fresh[rows] == state.fresh[heaviest], axis=1)
        & (slot[rows] >= 0)
    )
    first = np.arange(len(slot))
    first[rows[alike]] = heaviest[alike]
    if not np.any(rows[alike] != heaviest[alike]):
        return None
    kept, leader = np.unique(first, return_inverse=True)
    leader = leader.ravel()
    merged = state.subset(kept)
    several = np.flatnonzero(np.bincount(leader) > 1)
    rows = np.argsort(leader, kind="stable")
    rows = rows[np.isin(leader[rows], several)]
    share, share_exponent = np.ones(len(leader)), np.zeros(len(leader), np.int64)
    one, share[rows], share_exponent[rows] = _as_one(state, rows, leader[rows])
    merged.put(several, one)
    return merged, Members(leader, share, share_exponent, state.gap, state.gap_exponent)


def _heaviest_nearby(
    unit: np.ndarray, log_size: np.ndarray, slot: np.ndarray, angle: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return neurons that others may be parallel to, and the heaviest such one of their cell.

    Parallel neurons are neighbours along any axis, so one sort finds nearly all of them.
    """
    along = unit @ np.sin(1.0 + np.arange(unit.shape[1]))
    order = np.lexsort((along, slot))
    near = np.diff(along[order]) <= angle * np.sqrt(unit.shape[1])
    near &= np.diff(slot[order]) == 0
    before, behind = np.append(False, near), np.append(near, False)
    rows = order[before | behind]  # most have no neighbours, and are not sorted again
    run = np.cumsum(~before[before | behind]) - 1
    by_weight = np.lexsort((-log_size[rows], run))
    start = np.flatnonzero(np.diff(run, prepend=-1))
    return rows, rows[by_weight[start]][run]


def _as_one(
    state: State, rows: np.ndarray, leader: np.ndarray
) -> tuple[State, np.ndarray, np.ndarray]:
    """Return neurons in which several are one, and their shares; `leader` ascends."""
    start = np.flatnonzero(np.append(True, np.diff(leader) != 0))
    of = np.repeat(np.arange(len(start)), np.diff(np.append(start, len(rows))))
    top = np.maximum.reduceat(state.exponent[rows], start)
    below = np.maximum(state.exponent[rows] - top[of], -2000).astype(np.int32)
    size = np.linalg.norm(state.z[rows], axis=1)
    unit, square = state.z[rows] / size[:, None], np.ldexp(size, below) ** 2
    mean = np.add.reduceat(square[:, None] * unit, start)
    total = np.sqrt(np.add.reduceat(square, start))
    z, up = normalised(mean * (total / np.linalg.norm(mean, axis=1))[:, None])
    top_gap = np.maximum.reduceat(state.gap_exponent[rows], start)
    below_gap = np.maximum(2 * (state.gap_exponent[rows] - top_gap[of]), -2000).astype(np.int32)
    one = state.subset(rows[start])
    one.z, one.exponent = z, top + up
    one.gap = np.add.reduceat(np.ldexp(state.gap[rows], below_gap), start)
    one.gap_exponent = top_gap
    one.settle()
    share, share_up = np.frexp(size / total[of])
    return one, share, state.exponent[rows] - top[of] + share_up
