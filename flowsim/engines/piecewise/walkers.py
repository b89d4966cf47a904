"""The neurons that walk in a step: in chunks on all cores, rare choices made by the rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim._cores import available_cores
from flowsim.alignment._log import scaled_events
from flowsim.cells import TOUCH
from flowsim.engines.piecewise import walk, walk_arrays, walk_sums
from flowsim.engines.piecewise.blocks import pool
from flowsim.engines.piecewise.detection import MARGIN, SIGN
from flowsim.events import ALIVE, Event, Events, kind_code
from flowsim.state import State

if TYPE_CHECKING:
    from flowsim.engines.piecewise.integrator import Integrator
    from flowsim.engines.piecewise.step import Step

#: Walkers of a chunk, which has a log of its own: few are dealt out to so many `HANDS`. How many
#: there are decides, and never the cores, so that sums are rounded alike on every machine.
FEWEST, MOST, HANDS = 64, 128, 4
#: Of very many a chunk is such a part, since each is handed to a thread by itself.
PART = 64
#: Rows of a chunk's log; a full one is emptied and the walk goes on.
LOG_ROWS = 2**12
#: A neuron may have so many events a hyperplane, and some, without progress in time.
PATIENCE = 4

PATTERN, SIGN_CHANGE = (kind_code(k) for k in ("pattern", "sign_change"))


class Party:
    """The neurons that walk in a step.

    Parameters
    ----------
    flow : Integrator
        In the state in which the step begins.
    step : Step
    neurons : (K,)
    summed : bool
        Whether to integrate what the neurons' outputs add to the residual.
    before : Party, optional
        That of a longer step, which some neuron has cut: what it has chosen there stands.

    Attributes
    ----------
    cut : float or None
        Where (time from the step's beginning) the step must end, if somewhere.
    drift : float
        The largest correction of a^2 - |w|^2.
    """

    def __init__(
        self, flow: Integrator, step: Step, neurons: np.ndarray, summed: bool,
        before: Party | None = None,
    ) -> None:  # fmt: skip
        self.flow, self.step, self.neurons, self.summed = flow, step, neurons, summed
        e, s, count = step.e, flow.state, len(neurons)
        group, member = flow.groups.places(neurons)
        self.walkers = walk_arrays.Walkers(
            z=s.z[neurons], exponent=s.exponent[neurons], sign=s.sign[neurons],
            balance=s.balance[neurons], gap=s.gap[neurons], gap_exponent=s.gap_exponent[neurons],
            fate=s.fate[neurons], code=s.code[neurons], fresh=s.fresh[neurons],
            x=step.x[neurons], what=step.what[neurons], where=step.where[neurons],
            side=step.side[neurons], group=group, member=member,
            begun=np.zeros(count, np.bool_), status=np.full(count, walk_arrays.GOING),
            idle=np.zeros(count, np.int64),
        )  # fmt: skip
        w = self.walkers
        self._chunk = min(max(FEWEST, -(-count // HANDS)), max(MOST, count // PART))
        moments = walk_sums.MOMENTS if summed else 0
        self.sums = walk_sums.sums(w.z, e.mass[neurons], w.code, moments)
        self._sides = [np.zeros((2, flow.cells.n_hyperplanes, moments)) for _ in self._starts]
        self.end = 0.0
        self._state = State(
            w.z, w.exponent, w.sign, w.balance, w.gap, w.gap_exponent, w.code, w.fate, w.fresh
        )
        self.cut: float | None = None
        self.drift = 0.0
        self._kept = np.zeros(0, np.int64)
        self._drained: list[tuple[np.ndarray, ...]] = []
        if before is not None:
            self._keep(before)

    def _keep(self, before: Party) -> None:
        """Take neurons that have cut the step before just where they were."""
        if before.cut is None:
            return
        old = np.flatnonzero(before.walkers.x * before.step.e.unit <= before.cut)
        old = old[before.walkers.status[old] == walk_arrays.CUT]
        new = np.searchsorted(self.neurons, before.neurons[old])
        for field in ("z", "exponent", "sign", "fate", "code", "fresh", "x"):
            getattr(self.walkers, field)[new] = getattr(before.walkers, field)[old]
        self.walkers.begun[new], self.walkers.status[new] = True, walk_arrays.DONE
        rows, x, steep = before.log
        own = np.isin(rows[:, 0], old)
        kept = rows[own].copy()
        kept[:, 0] = np.searchsorted(self.neurons, before.neurons[kept[:, 0]])
        self._drained.append((kept, x[own], steep[own]))
        self._kept = self.neurons[new]

    def walk(self, end: float) -> None:
        """Walk all neurons to `end` (in units), choosing cells where the kernel asks."""
        flow, e, w = self.flow, self.step.e, self.walkers
        cells = flow.cells
        plan = flow.plan_of_walks._replace(tie=e.tie)
        patience = PATIENCE * cells.n_hyperplanes + 100
        count = len(self.neurons)
        starts, self.end = self._starts, end

        def chunk(k0: int) -> tuple[float, list[tuple[np.ndarray, ...]]]:
            k1 = min(k0 + self._chunk, count)
            work, log = self.take_scratch()
            drift, drained = 0.0, []
            while True:
                drift = max(
                    drift,
                    walk.walk(
                        k0, k1, end, e.unit, walk_arrays.with_sides(plan, work), e.ends, w, e.start,
                        e.first, e.A, e.W, e.base, TOUCH, flow.table, patience,
                        flow.rtol, self.sums, self._sides[k0 // self._chunk], log, work,
                    ),
                )  # fmt: skip
                filled = int(log.count[0])
                drained.append(tuple(part[:filled].copy() for part in (log.rows, log.x, log.steep)))
                log.count[0] = 0
                stand = w.status[k0:k1].tolist()
                if walk_arrays.FULL not in stand:
                    if self.summed and walk_arrays.ASKS not in stand:
                        self._add_up(k0, k1, work)
                    self.give_back(work, log)
                    return drift, drained

        while starts:
            for drift, drained in self._each(chunk, starts):
                self.drift = max(self.drift, drift)
                self._drained += drained
            asking = np.flatnonzero(w.status == walk_arrays.ASKS)
            for k in asking:
                self._answer(int(k))
            starts = sorted({int(k) // self._chunk * self._chunk for k in asking})
        cut = w.status == walk_arrays.CUT
        # A walker that must end its step before another has come that far ends it for all.
        short = cut & (w.x < end)
        if np.any(short):
            self.cut = float(w.x[short].min()) * e.unit

    @property
    def _starts(self) -> list[int]:
        """The first walker of each chunk."""
        return list(range(0, len(self.neurons), self._chunk))

    @staticmethod
    def _each(job: Callable[[int], Any], starts: list[int]) -> Iterable[Any]:
        """Return what a job gives for each chunk, done on all cores if there are several."""
        threads = len(starts) > 1 and available_cores() > 1
        return pool().map(job, starts) if threads else map(job, starts)

    def turned_by_kept(self) -> float:
        """Return a bound on what kept neurons turn others by: what they have added is not known."""
        step = self.step
        for_so_long = (self.end - step.x[self._kept]) * step.e.unit
        return 0.5 * float(step.kinks[self._kept] @ for_so_long**2)

    def take_scratch(self) -> tuple[walk_arrays.Scratch, walk_arrays.Log]:
        """Return working memory and a log, of this step's order."""
        flow, order = self.flow, self.step.e.order
        try:
            return flow.scratch[order].pop()
        except (KeyError, IndexError):
            cells = flow.cells
            return (
                walk_arrays.scratch(order, cells.d, cells.n_hyperplanes),
                walk_arrays.log(LOG_ROWS, cells.d),
            )

    def give_back(self, work: walk_arrays.Scratch, log: walk_arrays.Log) -> None:
        self.flow.scratch.setdefault(self.step.e.order, []).append((work, log))

    def _answer(self, k: int) -> None:
        """Choose the cell of a neuron that has met something rare, by the rules."""
        w, flow = self.walkers, self.flow
        x, plane = float(w.x[k]), int(w.where[k])
        before = w.code[k].copy()
        r = self.step.e.residual(x * self.step.e.unit)
        if w.what[k] == MARGIN:
            rows = flow.rules.meet(self._state, k, plane, r, x)
        elif w.what[k] == SIGN:
            rows = flow.rules.turn(self._state, k, r, x)
        else:
            rows = flow.rules.reselect(self._state, flow.cells, k, r, x)
        w.status[k] = walk_arrays.GOING if w.fate[k] == ALIVE else walk_arrays.DONE
        if w.what[k] == MARGIN and w.fate[k] == ALIVE and w.code[k, plane] == before[plane]:
            # Velocities there are smaller than the errors of polynomials: only a new one tells.
            w.status[k] = walk_arrays.CUT
        self._note(k, x, before, [row for row in rows if row.kind != "pattern"])

    def _note(self, k: int, x: float, before: np.ndarray, others: list[Event]) -> None:
        """Keep the hyperplanes whose codes have changed, as the kernel does, and other events."""
        after = self.walkers.code[k]
        planes = np.flatnonzero(before != after)
        if self.sums.moved.shape[1]:
            for g in planes:
                walk_sums.change_side(
                    self.sums.moved[k], self.flow.normals, g, before[g], after[g],
                    self._sides[k // self._chunk],
                )  # fmt: skip
        patterns = np.column_stack(
            [np.full((len(planes), 2), (k, PATTERN)), planes, before[planes], after[planes]]
        )
        rest = [[k, kind_code(row.kind), -1, row.before, row.after] for row in others]
        turns = [row for row in rest if row[1] == SIGN_CHANGE]  # what makes the codes change
        rest = [row for row in rest if row[1] != SIGN_CHANGE]
        rows = np.concatenate([np.reshape(part, (-1, 5)) for part in (turns, patterns, rest)])
        count = len(rows)
        steep = np.zeros((count, 3 + 2 * self.flow.cells.d))
        self._drained.append((rows.astype(np.int32), np.full(count, x), steep))

    def _add_up(self, k0: int, k1: int, work: walk_arrays.Scratch) -> None:
        """Put what walkers k0 to k1 of a chunk, all at their end, have added onto its sides."""
        e = self.step.e
        walk_sums.finish(
            k0, k1, self.end, self.flow.normals, self.walkers, self.sums, e.start, e.first, e.A,
            e.W, work, self._sides[k0 // self._chunk],
        )  # fmt: skip

    def moments(self) -> np.ndarray:
        """Return the moments (MOMENTS, n), in units, of what the neurons have added to outputs."""
        flow, cells, e = self.flow, self.flow.cells, self.step.e
        of_groups = np.zeros((len(e.active), walk_sums.MOMENTS * cells.d))
        walk_sums.by_group(self.walkers.group, self.sums, of_groups)
        by_samples = flow.blocks.summed(
            len(e.active), of_groups.shape[1], walk_sums.add_groups,
            cells.slope, flow.groups.on, e.active, e.kin, of_groups,
        )  # fmt: skip
        out = np.empty((walk_sums.MOMENTS, cells.n))
        walk_sums.outputs(
            flow.X, cells.norms, cells.index, cells.orientation, cells.slope,
            reduce(np.add, self._sides), by_samples.reshape(walk_sums.MOMENTS, cells.d, cells.n),
            out,
        )  # fmt: skip
        return out

    @property
    def log(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What has happened: rows, x and steep of `walk_arrays.Log`."""
        if len(self._drained) > 1:
            parts = zip(*self._drained, strict=True)
            self._drained = [tuple(np.concatenate(part) for part in parts)]
        rows, x, steep = self._drained[0]
        return rows, x, steep

    @log.setter
    def log(self, log: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        self._drained = [log]

    def exits(self) -> np.ndarray:
        """Return when (from the step's beginning) slides have ended by themselves.

        Not those that a crossing has ended.
        """
        rows, x, _ = self.log
        changes = rows[:, 1] == PATTERN
        left = np.flatnonzero(changes & (rows[:, 3] == 0))
        if len(left) == 0:
            return np.zeros(0)
        # Few crossings are at the time of an exit: of millions no dictionary is made.
        crossed = np.flatnonzero(changes & (rows[:, 3] != 0))
        crossed = crossed[np.isin(x[crossed], x[left])]
        at = dict.fromkeys(zip(rows[crossed, 0].tolist(), x[crossed].tolist(), strict=True))
        alone = [i for i in left if (int(rows[i, 0]), float(x[i])) not in at]
        return x[alone] * self.step.e.unit

    def put_into(self, state: State) -> None:
        """Write where the neurons are into the state of all."""
        state.z[self.neurons], state.exponent[self.neurons] = self.walkers.z, self.walkers.exponent

    def put_cells_into(self, state: State) -> None:
        """Write the neurons' cells, signs and fates into the state of all."""
        w = self.walkers
        state.code[self.neurons], state.fresh[self.neurons] = w.code, w.fresh
        state.sign[self.neurons], state.fate[self.neurons] = w.sign, w.fate

    def events(self, began: float, unit: float, latest: float) -> Events:
        """Return what has happened, by time; a hyperplane's samples have a row each."""
        rows, x, _ = self.log
        times = np.minimum(began + x * unit, latest)
        events = scaled_events(rows, times, self.flow.cells)
        return replace(events, neuron=self.neurons[events.neuron].astype(np.int32))
