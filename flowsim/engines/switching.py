"""Switching: the move of neurons into the cells that Filippov's rules select, for every engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from flowsim.cells import TOUCH, Cells, projector
from flowsim.engines._touching import touching
from flowsim.engines.groups import Groups
from flowsim.events import ALIVE, DEAD, ORIGIN, Event
from flowsim.selection import Selection, select
from flowsim.state import State

#: A unit normal whose square has less than this part along slides depends on theirs.
DEPENDENT = 1e-8


@dataclass(eq=False)
class Cause:
    """What ended a step before its natural length."""

    what: str  # "margin", "sign", "slide", "dependent"
    neurons: np.ndarray
    plane: int = -1
    side: int = 0
    selection: Selection | None = None  # already made, where only the far side of tau tells


class Rules:
    """What becomes of one neuron at an event; changes the state alone.

    Parameters
    ----------
    cells : Cells
    """

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        #: Ties are those of rounding alone.
        self._sharp = replace(cells, rtol=0.0)

    def meet(self, state: State, j: int, plane: int, r: np.ndarray, time: float) -> list[Event]:
        """Let neuron j go on from hyperplane `plane`, and others that it lies on."""
        # Decided here before, and off again: a velocity drives it that loose tolerances cannot
        # tell from zero.
        cells = self._sharp if state.fresh[j, plane] else self.cells
        state.fresh[j, plane] = False
        return self.reselect(state, cells, j, r, time, plane)

    def turn(self, state: State, j: int, r: np.ndarray, time: float) -> list[Event]:
        """Let a_j pass through zero: what attracted the neuron repels it now."""
        before = int(state.sign[j])
        state.sign[j] = -before
        rows = [Event(time, "sign_change", j, -1, before, -before)]
        if not np.all(state.code[j]):
            rows += self.reselect(state, self.cells, j, r, time)
        return rows

    def leave_slide(self, state: State, j: int, plane: int, side: int, time: float) -> list[Event]:
        """Let neuron j leave a slide to one side."""
        before = state.code[j].copy()
        state.code[j, plane] = side
        state.fresh[j, plane] = True
        return self._pattern_rows(j, before, state.code[j], time)

    def reselect(
        self, state: State, cells: Cells, j: int, r: np.ndarray, time: float, plane: int = -1
    ) -> list[Event]:
        """Select neuron j's cell anew from the hyperplanes that it lies on."""
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
            # No side drives it; only rounding took it across. It goes back along its slides: to be
            # put back onto these would take it across again.
            normal = cells.normals[plane]
            along = projector(cells.normals[chosen.code == 0])[0] @ normal
            if float(normal @ along) > DEPENDENT:
                w -= float(normal @ w) / float(normal @ along) * along
        return self.enter(state, j, chosen, time)

    def enter(self, state: State, j: int, chosen: Selection, time: float) -> list[Event]:
        """Put neuron j into the selected cell, and onto its slides; return what happened."""
        w = state.z[j, 1:]
        before = state.code[j].copy()
        was_origin = not np.any(before)
        state.fresh[j, (before == 0) & (chosen.code != 0)] = True
        state.code[j] = chosen.code
        state.fate[j] = chosen.fate
        if chosen.fate == ALIVE and not np.all(chosen.code):
            w[:] = projector(self.cells.normals[chosen.code == 0])[0] @ w
        rows = self._pattern_rows(j, before, chosen.code, time)
        if chosen.ambiguous:
            rows.append(Event(time, "ambiguous", j))
        if chosen.fate == DEAD:
            rows.append(Event(time, "death", j))
        elif chosen.fate == ORIGIN or (not np.any(chosen.code) and not was_origin):
            rows.append(Event(time, "origin", j))
        return rows

    def _pattern_rows(
        self, j: int, before: np.ndarray, after: np.ndarray, time: float
    ) -> list[Event]:
        old, new = self.cells.sample_codes(before), self.cells.sample_codes(after)
        return [
            Event(time, "pattern", j, int(k), int(old[k]), int(new[k]))
            for k in np.flatnonzero(old != new)
        ]


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
        self.rules = Rules(cells)
        self.groups = Groups(cells, len(state.z))
        self._mask = np.empty(len(state.z), dtype=np.bool_)
        self.place(np.flatnonzero(state.fate == ALIVE))

    def place(self, neurons: np.ndarray) -> None:
        """Bring the groups up to date with the cells and fates of some neurons."""
        self.groups.place_all(neurons, self.state.code, self.state.sign, self.state.fate)

    def start(self, time: float) -> list[Event]:
        """Select cells of neurons that start on hyperplanes; report ambiguous ones."""
        state = self.state
        self._settle_signs()
        rows: list[Event] = []
        r = self._residual()
        chosen = (state.fate == ALIVE) & ~np.all(state.code, axis=1)
        for j in np.flatnonzero(chosen):
            found = self.rules.reselect(state, self.cells, int(j), r, time)
            rows += [row for row in found if row.kind != "pattern"]
        if self.cells.slope == 0.0:
            inside = np.flatnonzero((state.fate == ALIVE) & np.all(state.code, axis=1))
            on = np.any(self.cells.sample_codes(state.code[inside]) > 0, axis=1)
            state.fate[inside[~on]] = DEAD
            chosen[inside[~on]] = True
        self.place(np.flatnonzero(chosen))
        return rows

    def _settle_signs(self) -> None:
        """A neuron that starts at a = 0 takes the sign that its own field gives it."""
        state, r = self.state, self._residual()
        for j in np.flatnonzero((state.z[:, 0] == 0.0) & (state.fate == ALIVE)):
            growth = state.z[j, 1:] @ self.cells.field(r, state.code[j])
            state.sign[j] = -1 if growth < 0.0 else 1

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
        state, rules = self.state, self.rules
        rows: list[Event] = []
        first = int(cause.neurons[0])
        if cause.what == "slide":
            for j in cause.neurons:
                rows += rules.leave_slide(state, int(j), cause.plane, cause.side, time)
        elif cause.what == "sign":
            rows += rules.turn(state, first, self._residual(), time)
        elif cause.what == "margin":
            rows += rules.meet(state, first, cause.plane, self._residual(), time)
        elif cause.selection is not None:
            for j in cause.neurons:
                rows += rules.enter(state, int(j), cause.selection, time)
        touching(
            self.cells.normals, state.code, state.fate, state.fresh, state.z, TOUCH, self._mask
        )
        hit = np.flatnonzero(self._mask)
        if len(hit):
            r = self._residual()
            for j in hit:
                rows += rules.reselect(state, self.cells, int(j), r, time)
        self.place(np.append(cause.neurons, hit))
        return rows
