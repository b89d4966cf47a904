"""One restart of the event-driven Taylor integrator: expand, step to the first event, switch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from flowsim.cells import TOUCH, Cells
from flowsim.engines.groups import Groups
from flowsim.engines.piecewise import detection, expansion
from flowsim.engines.piecewise.roots import binomials
from flowsim.engines.switching import Cause, Switching
from flowsim.events import Event
from flowsim.state import State


def taylor_order(rtol: float) -> int:
    """Return the order that minimises work a unit of time (Jorba & Zou 2005, eq. 3.9)."""
    return max(4, int(np.ceil(1.0 - 0.5 * np.log(rtol))))


@dataclass(eq=False)
class Expansion:
    """Taylor coefficients of one restart; the time is relative to it."""

    active: np.ndarray
    start: np.ndarray
    members: np.ndarray
    r: np.ndarray  # (order+1, n)
    base: np.ndarray  # (groups, order+1, d)
    D: np.ndarray  # (groups, order+1, d)
    A: np.ndarray  # (columns, order+1)
    W: np.ndarray  # (columns, order+1, d)
    first: np.ndarray  # (groups+1,)
    unit: float  # coefficients are those of powers of time / unit
    step: float = np.inf  # the longest step within the tolerance; infinite where nothing moves

    def residual(self, tau: float) -> np.ndarray:
        """Return r(tau) (n,)."""
        value, x = self.r[-1], tau / self.unit
        for c in self.r[-2::-1]:
            value = value * x + c
        return value

    def rates(self) -> np.ndarray:
        """Return the minimal-norm ``||D||`` of each group."""
        return np.linalg.norm(self.D[:, 0], axis=1)


@dataclass(eq=False)
class Integrator:
    """The flow from one state on, restarted at every event.

    Parameters
    ----------
    cells : Cells
    state : State
        Changed in place.
    rtol : float
        Local error of a step, relative to every neuron and to y.
    frozen : bool
        Keep ``r = y``.
    time, tail : float
        The present (scaled) time as an unevaluated sum.
    """

    cells: Cells
    state: State
    rtol: float
    frozen: bool = False
    time: float = 0.0
    tail: float = 0.0
    drift: float = 0.0
    switching: Switching = field(init=False)

    def __post_init__(self) -> None:
        self.order = taylor_order(self.rtol)
        self._table = binomials(self.order)
        m, n, d = len(self.state.z), self.cells.n, self.cells.d
        p = self.order + 1
        self._r = np.zeros((p, n))
        self._base = np.empty((m, p, d))
        self._D = np.empty((m, p, d))
        self._A = np.empty((m, p))
        self._W = np.empty((m, p, d))
        self._AQ = np.empty((m, p))
        self._Q = np.empty((m // (d + 2) + 1, d + 1, d + 1))  # only groups of more than d+1
        self._first = np.zeros(m + 1, dtype=np.int64)
        self._speed = np.zeros(m)
        self._plane_samples = np.argsort(self.cells.index, kind="stable").astype(np.int64)
        counts = np.bincount(self.cells.index, minlength=self.cells.n_hyperplanes)
        self._plane_start = np.append(0, np.cumsum(counts)).astype(np.int64)
        plus, minus = self.cells.side_coefficients
        moment = self.cells.orientation * self.cells.norms
        self._moments = (plus * moment, minus * moment)
        self.switching = Switching(self.cells, self.state, self.residual)

    @property
    def groups(self) -> Groups:
        """The neurons by cell."""
        return self.switching.groups

    def start(self) -> list[Event]:
        """Select cells of neurons that start on hyperplanes; report ambiguous ones."""
        return self.switching.start(self.time)

    def switch(self, cause: Cause) -> list[Event]:
        """Move neurons to their new cells after a step that `cause` ended; return rows."""
        return self.switching.switch(cause, self.time)

    # -- expansion --------------------------------------------------------------------

    def residual(self) -> np.ndarray:
        """Return the residual of the present state, or y where it is frozen."""
        if self.frozen:
            return self.cells.y.copy()
        active, start, members = self.groups.ordered()
        r = np.empty(self.cells.n)
        state = self.state
        expansion.residual(
            self.cells.X, self.cells.y, self.groups.coef, active, start, members,
            state.z, state.mass, r,
        )  # fmt: skip
        return r

    def expand(self) -> Expansion:
        """Return the Taylor coefficients at the present state (views, valid until the next)."""
        active, start, members = self.groups.ordered()
        state, groups = self.state, self.groups
        mass = state.mass
        if self.frozen:
            self._r[0] = self.cells.y
        else:
            expansion.residual(
                self.cells.X, self.cells.y, groups.coef, active, start, members,
                state.z, mass, self._r[0],
            )  # fmt: skip
        fastest, bound = expansion.rates(
            self.cells.X, self.cells.weight, self.frozen, groups.coef, groups.projected,
            groups.projector, active, members, state.z, mass, self._r[0], self._base, self._D,
        )  # fmt: skip
        n_groups = len(active)
        e = Expansion(
            active, start, members, self._r, self._base[:n_groups], self._D[:n_groups],
            self._A, self._W, self._first[: n_groups + 1],
            expansion.time_unit(bound) if fastest > 0.0 else 1.0,
        )  # fmt: skip
        self._fill(e, mass)
        # The bound may be far off, where its fast directions are at rest. Only coefficients
        # that had underflowed grow past the tolerance with the unit, so none overflows.
        slowest = expansion.time_unit(fastest)
        while e.step > expansion.FAR * e.unit and e.unit < slowest:
            e.unit = min(expansion.FAR * e.unit, slowest)
            self._fill(e, mass)
        return e

    def _fill(self, e: Expansion, mass: np.ndarray) -> None:
        """Write the coefficients in the expansion's unit of time, and its step."""
        groups = self.groups
        expansion.expand(
            self.order, e.unit, self.cells.X, self.cells.weight, self.frozen, groups.coef,
            groups.projected, groups.projector, e.active, e.start, e.members, self.state.z, mass,
            e.r, e.base, e.D, e.A, e.W, self._AQ, self._Q, e.first,
        )  # fmt: skip
        e.step = e.unit * expansion.step_size(
            self.order, e.unit, self.rtol, e.first, len(e.active), e.A, e.W, e.D, e.r, self.frozen
        )

    def speed(self, e: Expansion) -> float:
        """Return ``||theta'||^2`` (scaled)."""
        return expansion.speeds(
            e.active, e.start, e.members, self.state.z, self.state.mass, e.D, self._speed
        )

    # -- one step ---------------------------------------------------------------------

    def first_event(self, e: Expansion, h: float) -> tuple[float, Cause | None]:
        """Return the length of the step and what ends it (None: its natural end)."""
        state, groups, cells = self.state, self.groups, self.cells
        # Where nothing moves the polynomials are constants, the same over any stretch.
        span = h / e.unit if np.isfinite(e.step) else 1.0
        x, what, j, plane = detection.first_event(
            span, cells.X, cells.normals, state.code, e.active, e.start, e.members, state.z,
            e.first, e.A, e.W, state.balance, state.sign, TOUCH, self._table,
        )  # fmt: skip
        cause = None
        if what:
            cause = Cause("margin" if what == 1 else "sign", np.array([j]), plane)
        if np.any(groups.slide_count[e.active]):
            x_slide, q, which, side = detection.slide_exit(
                x, cells.weight, *self._moments, self._plane_start, self._plane_samples,
                e.active, e.start, e.members, state.sign, groups.slides, groups.slide_count,
                groups.multipliers, e.r, e.base, cells.tie(e.r[0]), self._table,
            )  # fmt: skip
            if q >= 0:
                x = x_slide
                block = e.members[e.start[q] : e.start[q + 1]].copy()
                cause = Cause("slide", block, int(groups.slides[e.active[q], which]), int(side))
        tau = h if cause is None else x * e.unit
        # In an endless step nothing moves, so nothing ends.
        watched = groups.dependent if np.isfinite(tau) else set()
        for q in np.flatnonzero(np.isin(e.active, list(watched))):
            block = e.members[e.start[q] : e.start[q + 1]].copy()
            tau, cause = self.switching.dependent_end(block, e.residual, tau, cause)
        return tau, cause

    def _move(self, state: State, e: Expansion, tau: float) -> float:
        """Move the neurons of `state` by `tau`; return the largest correction it took."""
        groups = self.groups
        return expansion.advance(
            tau / e.unit, e.active, e.start, e.members, state.z, state.exponent, e.first, e.A, e.W,
            groups.projected, groups.projector, state.balance, state.gap, state.gap_exponent,
            state.sign,
        )  # fmt: skip

    def moved(self, e: Expansion, tau: float) -> State:
        """Return what the present state will be after `tau`, if no event lies between."""
        state = self.state.copy()
        self._move(state, e, tau)
        return state

    def advance(self, e: Expansion, tau: float) -> None:
        """Move every neuron and the clock by `tau`."""
        drift = self._move(self.state, e, tau)
        self.drift = max(self.drift, drift)
        # Neumaier's sum: many tiny steps on a long run must not blur event times.
        total = self.time + tau
        part = total - self.time
        self.tail += (self.time - (total - part)) + (tau - part)
        self.time = total + self.tail
        self.tail -= self.time - total
