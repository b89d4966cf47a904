"""The neurons that walk in a step: in chunks on all cores, rare choices made by the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowsim._cores import available_cores
from flowsim.cells import TOUCH
from flowsim.engines.piecewise import walk
from flowsim.engines.piecewise.blocks import pool
from flowsim.engines.piecewise.detection import MARGIN, SIGN
from flowsim.engines.piecewise.expansion import sum_of_products
from flowsim.events import ALIVE, Event, Events, kind_code
from flowsim.state import State

if TYPE_CHECKING:
    from flowsim.engines.piecewise.integrator import Integrator, Step

#: Walkers of a chunk, which has a log of its own.
CHUNK = 128
#: Rows of a chunk's log; a full one is emptied and the walk goes on.
LOG_ROWS = 2**12
#: A neuron may have so many events a hyperplane, and some, without progress in time.
PATIENCE = 4

PATTERN = kind_code("pattern")


class Party:
    """The neurons that walk in a step.

    Parameters
    ----------
    flow : Integrator
        In the state in which the step begins.
    step : Step
    neurons : (K,)
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
        self, flow: Integrator, step: Step, neurons: np.ndarray, before: Party | None = None
    ) -> None:
        self.flow, self.step, self.neurons = flow, step, neurons
        e, s, count = step.e, flow.state, len(neurons)
        place = np.empty(len(s.z), dtype=np.int64)
        place[e.members] = np.arange(len(e.members))
        place = place[neurons]
        group = np.searchsorted(e.start, place, side="right") - 1
        self.walkers = walk.Walkers(
            z=s.z[neurons], exponent=s.exponent[neurons], sign=s.sign[neurons],
            balance=s.balance[neurons], gap=s.gap[neurons], gap_exponent=s.gap_exponent[neurons],
            fate=s.fate[neurons], code=s.code[neurons], fresh=s.fresh[neurons],
            x=step.x[neurons], what=step.what[neurons], where=step.where[neurons],
            side=step.side[neurons], group=group, member=place - e.start[group],
            begun=np.zeros(count, np.bool_), status=np.full(count, walk.GOING),
            idle=np.zeros(count, np.int64),
        )  # fmt: skip
        w = self.walkers
        self._state = State(
            w.z, w.exponent, w.sign, w.balance, w.gap, w.gap_exponent, w.code, w.fate, w.fresh
        )
        self.cut: float | None = None
        self.drift = 0.0
        self._rows: list[np.ndarray] = []
        self._x: list[np.ndarray] = []
        if before is not None:
            self._keep(before)

    def _keep(self, before: Party) -> None:
        """Take neurons that have cut the step before just where they were."""
        if before.cut is None:
            return
        old = np.flatnonzero(before.walkers.x * before.step.e.unit <= before.cut)
        old = old[before.walkers.status[old] == walk.CUT]
        new = np.searchsorted(self.neurons, before.neurons[old])
        for field in ("z", "exponent", "sign", "fate", "code", "fresh", "x"):
            getattr(self.walkers, field)[new] = getattr(before.walkers, field)[old]
        self.walkers.begun[new], self.walkers.status[new] = True, walk.DONE
        rows, x = np.concatenate(before._rows), np.concatenate(before._x)
        own = np.isin(rows[:, 0], old)
        kept = rows[own].copy()
        kept[:, 0] = np.searchsorted(self.neurons, before.neurons[kept[:, 0]])
        self._rows.append(kept)
        self._x.append(x[own])

    def walk(self, end: float) -> None:
        """Walk all neurons to `end` (in units), choosing cells where the kernel asks."""
        flow, e, w = self.flow, self.step.e, self.walkers
        cells = flow.cells
        plan = flow.plan_of_walks._replace(tie=e.tie)
        patience = PATIENCE * cells.n_hyperplanes + 100
        count = len(self.neurons)
        starts = list(range(0, count, CHUNK))

        def chunk(k0: int) -> tuple[float, list[tuple[np.ndarray, np.ndarray]]]:
            k1 = min(k0 + CHUNK, count)
            try:
                work, log = flow.scratch.pop()
            except IndexError:
                work, log = (
                    walk.scratch(flow.order, cells.d, cells.n_hyperplanes),
                    walk.log(LOG_ROWS),
                )
            drift, drained = 0.0, []
            while True:
                drift = max(
                    drift,
                    walk.walk(
                        k0, k1, end, e.unit, walk.with_sides(plan, work), e.ends, w, e.start,
                        e.first, e.A, e.W, e.base, TOUCH, flow.table, patience,
                        flow.rtol, log, work,
                    ),
                )  # fmt: skip
                filled = int(log.count[0])
                drained.append((log.rows[:filled].copy(), log.x[:filled].copy()))
                log.count[0] = 0
                if not np.any(w.status[k0:k1] == walk.FULL):
                    flow.scratch.append((work, log))
                    return drift, drained

        while starts:
            threads = len(starts) > 1 and available_cores() > 1
            for drift, drained in pool().map(chunk, starts) if threads else map(chunk, starts):
                self.drift = max(self.drift, drift)
                self._rows += [rows for rows, _ in drained]
                self._x += [x for _, x in drained]
            asking = np.flatnonzero(w.status == walk.ASKS)
            for k in asking:
                self._answer(int(k))
            starts = sorted({int(k) // CHUNK * CHUNK for k in asking})
        cut = w.status == walk.CUT
        # A walker that must end its step before another has come that far ends it for all.
        short = cut & (w.x < end)
        if np.any(short):
            self.cut = float(w.x[short].min()) * e.unit

    def _answer(self, k: int) -> None:
        """Choose the cell of a neuron that has met something rare, by the rules."""
        w, flow = self.walkers, self.flow
        x, plane = float(w.x[k]), int(w.where[k])
        before = w.code[k, plane]
        r = self.step.e.residual(x * self.step.e.unit)
        if w.what[k] == MARGIN:
            rows = flow.rules.meet(self._state, k, plane, r, x)
        elif w.what[k] == SIGN:
            rows = flow.rules.turn(self._state, k, r, x)
        else:
            rows = flow.rules.reselect(self._state, flow.cells, k, r, x)
        w.status[k] = walk.GOING if w.fate[k] == ALIVE else walk.DONE
        if w.what[k] == MARGIN and w.fate[k] == ALIVE and w.code[k, plane] == before:
            # Velocities there are smaller than the errors of polynomials: only a new one tells.
            w.status[k] = walk.CUT
        for row in rows:
            self._note(k, row)

    def _note(self, k: int, row: Event) -> None:
        """Keep a row of a sample; those of the kernel, of hyperplanes, are told by their kind."""
        values = [k, -1 - kind_code(row.kind), row.sample, row.before, row.after]
        self._rows.append(np.array([values], dtype=np.int32))
        self._x.append(np.array([row.t]))

    def outputs(self, mass: np.ndarray) -> np.ndarray:
        """Return the outputs (n,) of these neurons, of mass (K,), in their present cells."""
        cells, count = self.flow.cells, len(self.neurons)
        each = np.arange(count + 1)
        living = np.where(self.walkers.fate == ALIVE, mass, 0.0)
        return self.flow.blocks.outputs(
            count, sum_of_products, cells.slope, cells.sample_codes(self.walkers.code),
            each[:-1], each, each[:-1], self.walkers.z, living,
        )  # fmt: skip

    def put_into(self, state: State) -> None:
        """Write the neurons, but for their codes, into the state of all."""
        w = self.walkers
        state.z[self.neurons], state.exponent[self.neurons] = w.z, w.exponent
        state.sign[self.neurons], state.fate[self.neurons] = w.sign, w.fate

    def put_codes_into(self, state: State) -> None:
        """Write the neurons' codes into the state of all."""
        state.code[self.neurons] = self.walkers.code
        state.fresh[self.neurons] = self.walkers.fresh

    def events(self, began: float, unit: float, latest: float) -> Events:
        """Return what has happened, by time; a hyperplane's samples have a row each."""
        rows, x = np.concatenate(self._rows), np.concatenate(self._x)
        by_time = np.argsort(x, kind="stable")
        rows, t = rows[by_time], np.minimum(began + x[by_time] * unit, latest)
        cells = self.flow.cells
        plane = np.where(rows[:, 1] == PATTERN, rows[:, 2], cells.n_hyperplanes)
        # Rows of hyperplanes become those of their samples; others stay one row.
        repeat = np.append(self.flow.samples_of_plane, 1)[plane]
        source = np.repeat(np.arange(len(rows)), repeat)
        nth = np.arange(len(source)) - np.repeat(np.cumsum(repeat) - repeat, repeat)
        rows, plane = rows[source], plane[source]
        of_plane = plane < cells.n_hyperplanes
        first = np.append(self.flow.first_of_plane, 0)[plane]
        sample = np.where(
            of_plane, self.flow.plane_samples[np.where(of_plane, first + nth, 0)], rows[:, 2]
        )
        turn = np.where(of_plane, cells.orientation[np.maximum(sample, 0)], 1).astype(np.int8)
        kind = rows[:, 1]
        return Events(
            t=t[source],
            kind_code=np.where(kind < 0, -1 - kind, kind).astype(np.int8),
            neuron=self.neurons[rows[:, 0]].astype(np.int32),
            sample=sample.astype(np.int32),
            before=(rows[:, 3] * turn).astype(np.int8),
            after=(rows[:, 4] * turn).astype(np.int8),
        )
