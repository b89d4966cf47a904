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

from flowsim._rows import norms
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
        of = self.leader
        z, up = normalised(state.z[of] * self.share[:, None])
        return State(
            z=z, exponent=state.exponent[of] + self.share_exponent + up, sign=state.sign[of],
            balance=np.sign(self.gap).astype(np.int64), gap=self.gap.copy(),
            gap_exponent=self.gap_exponent.copy(), code=state.code[of], fate=state.fate[of],
            fresh=state.fresh[of],
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
    size = norms(state.z)
    unit = state.z / np.where(size > 0.0, size, 1.0)[:, None]
    rows, run = _runs(unit, slot, angle)
    heaviest = _heaviest(rows, run, state.exponent[rows] + np.log2(np.maximum(size[rows], 0.5)))
    alike = (
        (norms(unit[rows] - unit[heaviest]) <= angle)
        & (state.balance[rows] == state.balance[heaviest])
        & np.all(state.fresh[rows] == state.fresh[heaviest], axis=1)
        & (slot[rows] >= 0)
    )
    first = np.arange(len(slot))
    first[rows[alike]] = heaviest[alike]
    if not np.any(rows[alike] != heaviest[alike]):
        return None
    kept = first == np.arange(len(slot))  # the heaviest are
    leader = (np.cumsum(kept) - 1)[first]
    merged = state.subset(np.flatnonzero(kept))
    several = np.bincount(leader) > 1
    rows = np.flatnonzero(several[leader])
    rows = rows[np.argsort(leader[rows], kind="stable")]
    share, share_exponent = np.ones(len(leader)), np.zeros(len(leader), np.int64)
    one, share[rows], share_exponent[rows] = _as_one(state, rows, leader[rows])
    merged.put(np.flatnonzero(several), one)
    return merged, Members(leader, share, share_exponent, state.gap, state.gap_exponent)


def _runs(unit: np.ndarray, slot: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Return neurons that others of their cell may be parallel to, and the numbers of their runs.

    Parallel neurons are neighbours along any axis, so one sort finds nearly all of them.
    """
    along = unit @ np.sin(1.0 + np.arange(unit.shape[1]))
    apart = angle * np.sqrt(unit.shape[1])
    # Most have no neighbours in any cell: a sort that leaves the order of equals open is enough.
    rows = np.argsort(along)
    behind = np.diff(along[rows], prepend=-np.inf) <= apart
    rows = np.sort(rows[_with_next(behind)])
    rows = rows[np.lexsort((along[rows], slot[rows]))]
    behind = np.diff(along[rows], prepend=-np.inf) <= apart
    behind &= np.diff(slot[rows], prepend=-2) == 0
    own = _with_next(behind)
    return rows[own], np.cumsum(~behind[own]) - 1


def _with_next(behind: np.ndarray) -> np.ndarray:
    """Mark what is close behind the one before it, and that one, too."""
    return behind | np.append(behind[1:], False)[: len(behind)]


def _heaviest(rows: np.ndarray, run: np.ndarray, log_size: np.ndarray) -> np.ndarray:
    """Return the heaviest neuron of the run of each one of `rows`."""
    by_weight = np.lexsort((-log_size, run))
    start = np.flatnonzero(np.diff(run, prepend=-1))
    return rows[by_weight[start]][run]


def _as_one(
    state: State, rows: np.ndarray, leader: np.ndarray
) -> tuple[State, np.ndarray, np.ndarray]:
    """Return neurons in which several are one, and their shares; `leader` ascends."""
    start = np.flatnonzero(np.append(True, np.diff(leader) != 0))
    of = np.repeat(np.arange(len(start)), np.diff(np.append(start, len(rows))))
    top = np.maximum.reduceat(state.exponent[rows], start)
    below = np.maximum(state.exponent[rows] - top[of], -2000).astype(np.int32)
    size = norms(state.z[rows])
    unit, square = state.z[rows] / size[:, None], np.ldexp(size, below) ** 2
    mean = np.add.reduceat(square[:, None] * unit, start)
    total = np.sqrt(np.add.reduceat(square, start))
    z, up = normalised(mean * (total / norms(mean))[:, None])
    top_gap = np.maximum.reduceat(state.gap_exponent[rows], start)
    below_gap = np.maximum(2 * (state.gap_exponent[rows] - top_gap[of]), -2000).astype(np.int32)
    one = state.subset(rows[start])
    one.z, one.exponent = z, top + up
    one.gap = np.add.reduceat(np.ldexp(state.gap[rows], below_gap), start)
    one.gap_exponent = top_gap
    one.settle()
    share, share_up = np.frexp(size / total[of])
    return one, share, state.exponent[rows] - top[of] + share_up
