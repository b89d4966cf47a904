"""Switching: the move of neurons into the cells that Filippov's rules select, for every engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from flowsim.cells import TOUCH, Cells
from flowsim.engines._touching import touching
from flowsim.engines.groups import Groups
from flowsim.events import ALIVE, DEAD, ORIGIN, Event
from flowsim.selection import Selection, select
from flowsim.state import State


@dataclass(eq=False)
class Cause:
    """What ended a step before its natural length."""

    what: str  # "margin", "sign", "slide", "dependent"
    neurons: np.ndarray
    plane: int = -1
    side: int = 0
    selection: Selection | None = None  # already made, where only the far side of tau tells


class Switching:
    """The cells of all neurons: chosen at the start, and changed by every `Cause`.

    Parameters
    ----------
    cells : Cells
    state : State
        Changed in place, as are the groups.
    residual : callable
        Returns the residual (n,) of the present state.
    """

    def __init__(self, cells: Cells, state: State, residual: Callable[[], np.ndarray]) -> None:
        self.cells, self.state, self._residual = cells, state, residual
        self.groups = Groups(cells, len(state.z))
        self._mask = np.empty(len(state.z), dtype=np.bool_)
        #: Ties are those of rounding alone.
        self._sharp = replace(cells, rtol=0.0)
        for j in np.flatnonzero(state.fate == ALIVE):
            self.groups.place(int(j), state.code[j], int(state.sign[j]))

    def start(self, time: float) -> list[Event]:
        """Select cells of neurons that start on hyperplanes; report ambiguous ones."""
        state = self.state
        self._settle_signs()
        rows: list[Event] = []
        r = self._residual()
        for j in np.flatnonzero((state.fate == ALIVE) & ~np.all(state.code, axis=1)):
            found = self._reselect(int(j), self.cells, r, time)
            rows += [row for row in found if row.kind != "pattern"]
        off = self.cells.slope == 0.0 and (state.fate == ALIVE)
        for j in np.flatnonzero(off):
            if not np.any(self.cells.coefficients(state.code[j])) and np.all(state.code[j]):
                state.fate[j] = DEAD
                self.groups.remove(int(j))
        return rows

    def _settle_signs(self) -> None:
        """A neuron that starts at a = 0 takes the sign that its own field gives it."""
        state, r = self.state, self._residual()
        for j in np.flatnonzero((state.z[:, 0] == 0.0) & (state.fate == ALIVE)):
            growth = state.z[j, 1:] @ self.cells.field(r, state.code[j])
            state.sign[j] = -1 if growth < 0.0 else 1
            self.groups.place(int(j), state.code[j], int(state.sign[j]))

    def dependent_end(
        self,
        block: np.ndarray,
        residual: Callable[[float], np.ndarray],
        tau: float,
        cause: Cause | None,
    ) -> tuple[float, Cause | None]:
        """Look whether a slide on dependent hyperplanes still holds at `tau`; bisect if not.

        Its multipliers are not unique, so no polynomial tells; the minimal-norm element
        over the hull of the neighbouring cells does. `block` are the neurons that share it,
        `residual` is r in the step, which `cause` ends at `tau` otherwise.
        """
        j = int(block[0])
        code, sign = self.state.code[j], float(self.state.sign[j])
        touched = np.flatnonzero(code == 0)
        at_origin = not np.any(self.state.z[j, 1:])

        def ends(x: float) -> Selection | None:
            chosen = select(self.cells, residual(x), code, touched, sign, at_origin=at_origin)
            stays = chosen.fate == ALIVE and not np.any(chosen.code[touched])
            return None if stays else chosen

        selection = ends(tau)
        if selection is None:
            return tau, cause
        low, high = 0.0, tau
        while low < (mid := 0.5 * (low + high)) < high:
            chosen = ends(mid)
            if chosen is None:
                low = mid
            else:
                high, selection = mid, chosen
        return high, Cause("dependent", block, selection=selection)

    def switch(self, cause: Cause, time: float) -> list[Event]:
        """Move neurons to their new cells after a step that `cause` ended; return rows."""
        state = self.state
        rows: list[Event] = []
        cells = self.cells
        if cause.what == "slide":
            for j in cause.neurons:
                rows += self._leave_slide(j, cause.plane, cause.side, time)
        forced: list[int] = []
        if cause.what == "sign":
            j = int(cause.neurons[0])
            before = int(state.sign[j])
            state.sign[j] = -before
            rows.append(Event(time, "sign_change", j, -1, before, -before))
            self.groups.place(j, state.code[j], -before)
            if not np.all(state.code[j]):
                forced.append(j)
        elif cause.what == "margin":
            j = int(cause.neurons[0])
            if state.fresh[j, cause.plane]:
                # Decided here before, and off again: a velocity drives it that loose tolerances
                # cannot tell from zero.
                cells = self._sharp
            state.fresh[j, cause.plane] = False
            forced.append(j)
        elif cause.selection is not None:
            for j in cause.neurons:
                rows += self._enter(int(j), cause.selection, time)
        touching(
            self.cells.normals, state.code, state.fate, state.fresh, state.z, TOUCH, self._mask
        )
        self._mask[forced] = True
        hit = np.flatnonzero(self._mask)
        if len(hit):
            r = self._residual()
            for j in hit:
                plane = cause.plane if cause.what == "margin" and j == forced[0] else -1
                rows += self._reselect(int(j), cells, r, time, plane)
        return rows

    def _reselect(
        self, j: int, cells: Cells, r: np.ndarray, time: float, plane: int = -1
    ) -> list[Event]:
        """Select neuron j's cell anew from the hyperplanes that it lies on."""
        state = self.state
        w = state.z[j, 1:]
        before = state.code[j].copy()
        at_origin = bool(np.linalg.norm(w) <= TOUCH)
        on = (before == 0) | (np.abs(cells.normals @ w) <= TOUCH) | at_origin
        if plane >= 0:
            on[plane] = True
        if at_origin:
            w[:] = 0.0
        touched = np.flatnonzero(on)
        chosen = select(cells, r, before, touched, float(state.sign[j]), at_origin=at_origin)
        state.fresh[j, touched] = True
        stays = plane >= 0 and chosen.fate == ALIVE and chosen.code[plane] == before[plane]
        if stays and float(cells.normals[plane] @ w) * before[plane] < -TOUCH:
            # No side drives it; only rounding took it across.
            w -= float(cells.normals[plane] @ w) * cells.normals[plane]
        return self._enter(j, chosen, time)

    def _enter(self, j: int, chosen: Selection, time: float) -> list[Event]:
        """Put neuron j into the selected cell; return what happened."""
        state = self.state
        w = state.z[j, 1:]
        before = state.code[j].copy()
        was_origin = not np.any(before)
        state.fresh[j, (before == 0) & (chosen.code != 0)] = True
        state.code[j] = chosen.code
        state.fate[j] = chosen.fate
        if chosen.fate == ALIVE:
            self.groups.place(j, chosen.code, int(state.sign[j]))
            if self.groups.projected[self.groups.slot[j]]:
                w[:] = self.groups.projector[self.groups.slot[j]] @ w
        else:
            self.groups.remove(j)
        rows = self._pattern_rows(j, before, chosen.code, time)
        if chosen.ambiguous:
            rows.append(Event(time, "ambiguous", j))
        if chosen.fate == DEAD:
            rows.append(Event(time, "death", j))
        elif chosen.fate == ORIGIN or (not np.any(chosen.code) and not was_origin):
            rows.append(Event(time, "origin", j))
        return rows

    def _leave_slide(self, j: int, plane: int, side: int, time: float) -> list[Event]:
        state = self.state
        before = state.code[j].copy()
        state.code[j, plane] = side
        state.fresh[j, plane] = True
        self.groups.place(j, state.code[j], int(state.sign[j]))
        return self._pattern_rows(j, before, state.code[j], time)

    def _pattern_rows(
        self, j: int, before: np.ndarray, after: np.ndarray, time: float
    ) -> list[Event]:
        old, new = self.cells.sample_codes(before), self.cells.sample_codes(after)
        return [
            Event(time, "pattern", j, int(k), int(old[k]), int(new[k]))
            for k in np.flatnonzero(old != new)
        ]
