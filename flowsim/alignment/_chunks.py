"""Walk many neurons: in chunks on all cores, with the rare choices made by `flowsim.selection`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace

import numpy as np

from flowsim._cores import available_cores
from flowsim._distinct import distinct_rows
from flowsim.alignment import nearby, neurons, walk
from flowsim.alignment.plan import Plan, plan_of
from flowsim.cells import TOUCH, Cells, projector
from flowsim.events import ALIVE, DEAD, ORIGIN, kind_code
from flowsim.network import TwoLayerReLU
from flowsim.selection import Selection, select
from flowsim.state import State

#: A chunk holds so many neurons, and more of very many: a part of them, but no more than so many,
#: and so many activation codes.
CHUNK, PART, LARGEST, CHUNK_CODES = 512, 32, 4096, 2**20
#: Rows of a thread's log; a full one is emptied and the walk goes on.
LOG_ROWS = 2**14
#: A neuron whose events pile up so often without progress in time is given up.
STRIKES = 3


@dataclass(eq=False)
class Walked:
    """Neurons at their last events, as `neurons.Neurons`; `codes[cell]` are their cells."""

    z: np.ndarray
    real: np.ndarray
    whole: np.ndarray
    cell: np.ndarray  # (m,)
    codes: np.ndarray  # (C, G)
    rows: np.ndarray  # (R, 5), columns `neurons.LOG_COLUMNS`
    times: np.ndarray  # (R,)
    violation: float  # the largest distance of a margin from where its code says, relative

    def copy(self) -> Walked:
        """Return the same, with neurons of their own."""
        return replace(self, z=self.z.copy(), real=self.real.copy(), whole=self.whole.copy())


def walk_all(net: TwoLayerReLU, cells: Cells, t: float, *, record: bool) -> Walked:
    """Walk all neurons of `net` up to their last events at or before `t` (scaled).

    The result does not depend on the number of cores.
    """
    plan = plan_of(cells)

    def chunk_of(part: slice) -> _Chunk:
        return _Chunk.of(State.of(net.subset(part), cells), cells, plan, record, start=True)

    return _walk(chunk_of, net.m, cells, t)


def walk_on(state: State, cells: Cells, t: float) -> Walked:
    """Walk all neurons on from `state`, whose cells are chosen, as `walk_all` does for a time `t`.

    All labels `cells.y` stand for the residual.
    """
    plan = plan_of(cells)

    def chunk_of(part: slice) -> _Chunk:
        return _Chunk.of(state.subset(part), cells, plan, record=True, start=False)

    return _walk(chunk_of, len(state.z), cells, t)


def walk_further(walked: Walked, cells: Cells, t: float) -> Walked:
    """Walk all neurons on from where they have walked to, not recorded; `walked` is used up."""
    plan, early = plan_of(cells), walked.whole[:, neurons.STATUS] == neurons.EARLY
    walked.whole[early, neurons.STATUS] = neurons.GOING

    def chunk_of(part: slice) -> _Chunk:
        own = neurons.Neurons(
            walked.z[part], walked.real[part], walked.whole[part], walked.codes[walked.cell[part]]
        )
        return _Chunk(own, cells, plan, record=False)

    return _walk(chunk_of, len(walked.z), cells, t)


def _walk(chunk_of: Callable[[slice], _Chunk], m: int, cells: Cells, t: float) -> Walked:
    size = min(max(CHUNK, m // PART), LARGEST)
    size = max(1, min(size, CHUNK_CODES // cells.n_hyperplanes))
    slices = [slice(i, min(i + size, m)) for i in range(0, m, size)]

    def work(part: slice) -> Walked:
        return chunk_of(part).walk(t)

    workers = min(len(slices), available_cores())
    if workers == 1:
        return _joined((work(part) for part in slices), slices)
    with ThreadPoolExecutor(workers) as pool:
        return _joined(pool.map(work, slices), slices)


def _joined(parts: Iterator[Walked], slices: list[slice]) -> Walked:
    """Put chunks together; cells are numbered in the order in which neurons are in them."""
    number: dict[bytes, int] = {}
    codes: list[np.ndarray] = []
    whole: list[Walked] = []
    for part, place in zip(parts, slices, strict=True):
        ids = np.empty(len(part.codes), dtype=np.int64)
        for i, code in enumerate(part.codes):
            ids[i] = number.setdefault(code.tobytes(), len(codes))
            if ids[i] == len(codes):
                codes.append(code)
        part.cell = ids[part.cell]
        part.rows[:, 0] += place.start
        whole.append(part)
    names = [item.name for item in fields(Walked) if item.name not in ("codes", "violation")]
    columns = {name: np.concatenate([getattr(part, name) for part in whole]) for name in names}
    violation = max(part.violation for part in whole)
    return Walked(**columns, codes=np.array(codes), violation=violation)


class _Chunk:
    """The walk of one chunk."""

    def __init__(self, own: neurons.Neurons, cells: Cells, plan: Plan, record: bool) -> None:
        self.cells, self.plan, self.record, self.neurons = cells, plan, record, own
        self.strikes = np.zeros(len(own.z), dtype=np.int64)
        self.log = neurons.log(LOG_ROWS if record else 0)
        self.scratch = neurons.scratch(cells.d, own.code.shape[1])
        self.near = nearby.empty(cells.d, own.code.shape[1])
        self.drained: list[tuple[np.ndarray, np.ndarray]] = []

    @classmethod
    def of(cls, state: State, cells: Cells, plan: Plan, record: bool, *, start: bool) -> _Chunk:
        """Return the neurons of `state`; at the `start` their cells have yet to be chosen."""
        m = len(state.z)
        whole = np.zeros((m, 9), dtype=np.int64)
        for column, values in (
            (neurons.SIGN, state.sign), (neurons.BALANCE, state.balance),
            (neurons.EXPONENT, state.exponent), (neurons.GAP_EXPONENT, state.gap_exponent),
            (neurons.FATE, state.fate), (neurons.STATUS, neurons.GOING), (neurons.PLANE, -1),
        ):  # fmt: skip
            whole[:, column] = values
        real = np.column_stack([state.gap, np.zeros(m)])
        chunk = cls(neurons.Neurons(state.z, real, whole, state.code), cells, plan, record)
        if start:
            chunk._start()
        s = chunk.neurons
        s.z[:, 0] *= s.whole[:, neurons.SIGN]
        s.whole[s.whole[:, neurons.FATE] != ALIVE, neurons.STATUS] = neurons.SETTLED
        return chunk

    def _start(self) -> None:
        """Choose signs where a = 0 and cells of neurons on hyperplanes; find the dead."""
        s, cells = self.neurons, self.cells
        for j in np.flatnonzero((s.z[:, 0] == 0.0) & (s.whole[:, neurons.FATE] == ALIVE)):
            growth = s.z[j, 1:] @ cells.field(cells.y, s.code[j])
            s.whole[j, neurons.SIGN] = -1 if growth < 0.0 else 1
        for j in np.flatnonzero((s.whole[:, neurons.FATE] == ALIVE) & ~np.all(s.code, axis=1)):
            self._enter(int(j), self._select(int(j)), start=True)
        if self.plan.dies:
            on = np.where(s.code > 0, self.plan.on[1], self.plan.on[0])
            off = np.all(s.code != 0, axis=1) & ~np.any(on > 0, axis=1)
            s.whole[(s.whole[:, neurons.FATE] == ALIVE) & off, neurons.FATE] = DEAD

    def walk(self, t: float) -> Walked:
        """Walk up to time `t`, choosing cells where the kernel asks."""
        s = self.neurons
        while True:
            full = walk.walk(self.plan, t, s, self.log, self.record, self.scratch, self.near)
            self._drain()
            asking = np.flatnonzero(s.whole[:, neurons.STATUS] == neurons.ASKS)
            for j in asking:
                self._answer(int(j))
            if not full and len(asking) == 0:
                return self._result()
            self._drain()

    def _answer(self, j: int) -> None:
        s = self.neurons
        if s.whole[j, neurons.IDLE] > 0:
            self.strikes[j] += s.whole[j, neurons.IDLE] > 4 * s.code.shape[1] + 100
        if self.strikes[j] > STRIKES:
            s.whole[j, neurons.STATUS] = neurons.STUCK
            return
        self._enter(j, self._select(j))

    def _select(self, j: int) -> Selection:
        s, cells = self.neurons, self.cells
        w, before = s.z[j, 1:], s.code[j]
        at_origin = bool(np.linalg.norm(w) <= TOUCH)
        if at_origin:
            w[:] = 0.0
        on = (before == 0) | (np.abs(cells.normals @ w) <= TOUCH)
        if s.whole[j, neurons.PLANE] >= 0:
            on[s.whole[j, neurons.PLANE]] = True
        return select(
            cells,
            cells.y,
            before,
            np.flatnonzero(on),
            float(s.whole[j, neurons.SIGN]),
            at_origin=at_origin,
        )

    def _enter(self, j: int, chosen: Selection, *, start: bool = False) -> None:
        """Put neuron j into the selected cell and note what happened."""
        s = self.neurons
        before = s.code[j].copy()
        changed = np.flatnonzero(before != chosen.code)
        if not start:
            s.whole[j, neurons.CHANGES] += len(changed)
            for g in changed:
                self._note(j, "pattern", int(g), int(before[g]), int(chosen.code[g]))
        if chosen.ambiguous:
            self._note(j, "ambiguous")
        if chosen.fate == DEAD:
            self._note(j, "death")
        elif chosen.fate == ORIGIN or (not np.any(chosen.code) and np.any(before)):
            self._note(j, "origin")
        s.code[j], s.whole[j, neurons.FATE] = chosen.code, chosen.fate
        if chosen.fate != ALIVE:
            s.whole[j, neurons.STATUS] = neurons.SETTLED
            return
        s.whole[j, neurons.STATUS] = neurons.GOING
        if not np.all(chosen.code):
            P, _ = projector(self.cells.normals[chosen.code == 0])
            s.z[j, 1:] = P @ s.z[j, 1:]

    def _note(self, j: int, kind: str, g: int = -1, before: int = -1, after: int = -1) -> None:
        if self.record:
            row = np.array([[j, kind_code(kind), g, before, after]], dtype=np.int32)
            self.drained.append((row, self.neurons.real[[j], neurons.TIME]))

    def _drain(self) -> None:
        count = int(self.log.count[0])
        self.drained.append((self.log.rows[:count].copy(), self.log.time[:count].copy()))
        self.log.count[0] = 0

    def _result(self) -> Walked:
        s = self.neurons
        first, cell = distinct_rows(s.code)
        return Walked(
            z=s.z,
            real=s.real,
            whole=s.whole,
            cell=cell,
            codes=s.code[first],
            rows=np.concatenate([rows for rows, _ in self.drained]),
            times=np.concatenate([times for _, times in self.drained]),
            violation=self._violation(),
        )

    def _violation(self) -> float:
        """Return by how much a living neuron's margin is on another side than its code says."""
        s = self.neurons
        live = s.whole[:, neurons.FATE] == ALIVE
        z, code = s.z[live], s.code[live]
        margin = z[:, 1:] @ self.cells.normals.T
        wrong = np.where(code == 0, np.abs(margin), -code * margin).max(axis=1, initial=0.0)
        return float(np.max(wrong / np.linalg.norm(z, axis=1), initial=0.0))
