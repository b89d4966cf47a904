"""One step of the event-driven Taylor integrator: expand, choose its length, move, switch.

The residual is the only coupling between neurons. A step takes it as a polynomial, on which
every neuron walks through its own cells; the step is as long as what the crossings do to the
residual turns no neuron by more than the tolerance (DESIGN: two levels).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from flowsim.alignment.plan import plan_of
from flowsim.cells import TOUCH, Cells
from flowsim.engines.groups import Groups
from flowsim.engines.piecewise import closed_form, detection, expansion, motion, slides
from flowsim.engines.piecewise.blocks import Blocks
from flowsim.engines.piecewise.long_steps import LongSteps
from flowsim.engines.piecewise.roots import binomials
from flowsim.engines.piecewise.walk_arrays import Log, Scratch
from flowsim.engines.piecewise.walkers import Party
from flowsim.engines.switching import Cause, Rules, Switching
from flowsim.events import Event, EventLog, Events
from flowsim.state import State

#: A step in closed form is at least so many Taylor steps long.
CLOSED = 4.0
#: Part of the tolerance that the predicted effect of crossings may use up.
SAFETY = 0.5
#: A step looks for events within this many times the last one's length.
OUTLOOK = 8.0
#: Attempts at a step; each is shorter, the last ends at the first event.
ATTEMPTS = 6


def taylor_order(rtol: float) -> int:
    """Return the order that minimises work a unit of time (Jorba & Zou 2005, eq. 3.9)."""
    return max(4, int(np.ceil(1.0 - 0.5 * np.log(rtol))))


@dataclass(eq=False)
class Expansion:
    """Taylor coefficients at the present state; the time is relative to it."""

    active: np.ndarray
    start: np.ndarray
    members: np.ndarray
    mass: np.ndarray  # (m,)
    r: np.ndarray  # (order+1, n)
    base: np.ndarray  # (groups, order+1, d)
    D: np.ndarray  # (groups, order+1, d)
    A: np.ndarray  # (columns, order+1)
    W: np.ndarray  # (columns, order+1, d)
    first: np.ndarray  # (groups+1,)
    ends: np.ndarray  # (2, order+1, G), what the sides of hyperplanes add to D
    tie: float
    spread: float  # weight sum_k |x_k|^2 sum_j |z_j|^2
    unit: float = 1.0  # coefficients are those of powers of time / unit
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
class Step:
    """A step from the present state, not yet taken.

    x (m,) is where each neuron's first event is, in units; infinite if it has none within the
    longest step. `tau` is the step's length, `cause` what else ends it.
    """

    e: Expansion
    tau: float
    x: np.ndarray
    what: np.ndarray
    where: np.ndarray
    side: np.ndarray
    cause: Cause | None = None
    drift: float = 0.0
    state: State | None = None  # (without codes) where it ends, and the neurons that walk
    party: Party | None = None
    rate: float | None = None  # a bound on |D| in all cells, where neurons change them
    events: Events | None = None  # what happens in a step in closed form

    def residual(self, tau: float) -> np.ndarray:
        """Return r(tau) (n,)."""
        return self.e.residual(tau)

    def rates(self) -> np.ndarray:
        """Return the minimal-norm ``||D||`` of each group at the start, or a bound on all."""
        rates = self.e.rates()
        return rates if self.rate is None else np.append(rates, self.rate)

    @property
    def still(self) -> bool:
        """Whether nothing moves and nothing ever will."""
        return bool(np.isinf(self.tau))


@dataclass(eq=False)
class Integrator:
    """The flow from one state on.

    Parameters
    ----------
    cells : Cells
    state : State
        Changed in place.
    rtol : float
        Local error of a step, relative to every neuron and to y.
    frozen : bool
        Keep ``r = y``.
    every_event : bool
        End every step at its first event, found by a Taylor expansion.
    time, tail : float
        The present (scaled) time as an unevaluated sum.
    """

    cells: Cells
    state: State
    rtol: float
    frozen: bool = False
    every_event: bool = False
    time: float = 0.0
    tail: float = 0.0
    drift: float = 0.0
    switching: Switching = field(init=False)

    def __post_init__(self) -> None:
        self.order = taylor_order(self.rtol)
        self.table = binomials(self.order)
        cells = self.cells
        m, n, d, p = len(self.state.z), cells.n, cells.d, self.order + 1
        self.X = np.ascontiguousarray(cells.X.T)
        self.normals = np.ascontiguousarray(cells.normals.T)
        self._r = np.zeros((p, n))
        self._base = np.empty((m, p, d))
        self._D = np.empty((m, p, d))
        self._A = np.empty((m, p))
        self._W = np.empty((m, p, d))
        self._AQ = np.empty((m, p))
        self.moments = np.empty((m // (d + 2) + 1, d + 1, d + 1))  # only groups of more than d+1
        self._first = np.zeros(m + 1, dtype=np.int64)
        self.wide = np.zeros(m + 1, dtype=np.int64)
        self._speed = np.zeros(m)
        self.outlook = np.inf
        self.long_steps = LongSteps()
        self.scratch: list[tuple[Scratch, Log]] = []
        self._ends = np.empty((2, p, cells.n_hyperplanes))
        plus, minus = cells.side_coefficients
        moment = cells.weight * cells.orientation * cells.norms
        self._moments = (minus * moment, plus * moment)
        # What crossings do to others: nothing to a frozen residual.
        squares = (0.0 if self.frozen else cells.weight) * cells.norms**2
        self._spread = float(np.sum(squares))
        self._planes = np.bincount(cells.index, weights=squares, minlength=cells.n_hyperplanes)
        self.blocks = Blocks(self.X)
        # The walk takes q from each thread, and no Gram matrix.
        self.plan_of_walks = plan_of(cells)._replace(gram=np.empty((0, 0)))
        self.switching = Switching(cells, self.state, self.residual)

    @property
    def groups(self) -> Groups:
        """The neurons by cell."""
        return self.switching.groups

    def start(self) -> list[Event]:
        """Select cells of neurons that start on hyperplanes; report ambiguous ones."""
        return self.switching.start(self.time)

    # -- expansion --------------------------------------------------------------------

    def residual(self) -> np.ndarray:
        """Return the residual of the present state, or y where it is frozen."""
        if self.frozen:
            return self.cells.y.copy()
        return self.cells.y - self._outputs(self.state.z, self.state.mass)

    def _outputs(self, z: np.ndarray, mass: np.ndarray) -> np.ndarray:
        """Return h (n,) of neurons in the present cells."""
        active, start, members = self.groups.ordered()
        return self.blocks.outputs(
            len(active), expansion.sum_of_products, self.cells.slope,
            self.groups.on, active, start, members, z, mass,
        )  # fmt: skip

    def expand(self) -> Expansion:
        """Return the Taylor coefficients at the present state (views, valid until the next)."""
        active, start, members = self.groups.ordered()
        cells, count = self.cells, len(active)
        mass = self.state.mass
        self._r[0] = self.residual()
        base, D = self._base[:count], self._D[:count]
        self.write_fields(0, active, base, D)
        fastest = float(np.max(np.abs(D[:, 0]), initial=0.0))
        spread = float(expansion.spread(self.X, cells.weight, members, self.state.z, mass))
        bound = fastest if self.frozen else max(fastest, spread)
        e = Expansion(
            active, start, members, mass, self._r, base, D, self._A, self._W,
            self._first[: count + 1], self._ends, cells.tie(self._r[0]), spread,
            expansion.time_unit(bound) if fastest > 0.0 else 1.0,
        )  # fmt: skip
        expansion.load_columns(
            start, members, self.state.z, mass, e.A, e.W, self._AQ, self.moments, e.first, self.wide
        )
        self._fill(e)
        # The bound may be far off, where its fast directions are at rest. Only coefficients
        # that had underflowed grow past the tolerance with the unit, so none overflows.
        slowest = expansion.time_unit(fastest)
        while e.step > expansion.FAR * e.unit and e.unit < slowest:
            e.unit = min(expansion.FAR * e.unit, slowest)
            self._fill(e)
        self.write_sides(e)
        return e

    def write_sides(self, e: Expansion) -> None:
        """Write what the sides of hyperplanes add to D."""
        expansion.sides(self.cells.index, *self._moments, e.r, e.ends)

    def write_fields(self, i: int, active: np.ndarray, base: np.ndarray, D: np.ndarray) -> None:
        """Write coefficient i of the groups' fields."""
        groups, slope = self.groups, self.cells.slope
        T = self.blocks.T
        expansion.moments_of(self.X, self.cells.weight, self._r[i], T)
        self.blocks.each(
            len(active), expansion.fields,
            lambda q0, q1: (
                slope, groups.on, T, groups.projected, groups.projector, active, q0, q1, i, base, D,
            ),
        )  # fmt: skip

    def _fill(self, e: Expansion) -> None:
        """Write the coefficients in the expansion's unit of time, and its step."""
        cells, groups = self.cells, self.groups
        if not self.blocks.many(len(e.active)):
            expansion.expand(
                self.order, e.unit, self.X, cells.weight, cells.slope, self.frozen, groups.on,
                groups.projected, groups.projector, e.active, e.start, e.members, e.mass,
                e.r, e.base, e.D, e.A, e.W, self._AQ, self.moments, e.first, self.wide,
                self.blocks.T, self.blocks.U,
            )  # fmt: skip
        else:
            self._fill_in_blocks(e)
        e.step = e.unit * expansion.step_size(
            self.order, e.unit, self.rtol, e.first, len(e.active), e.A, e.W, e.D, e.r, self.frozen
        )

    def _fill_in_blocks(self, e: Expansion) -> None:
        """Do what `expansion.expand` does, on all cores."""
        cells, groups, count = self.cells, self.groups, len(e.active)
        for i in range(self.order + 1):
            if i > 0 and self.frozen:
                e.base[:, i] = e.D[:, i] = 0.0
            elif i > 0:
                self.write_fields(i, e.active, e.base, e.D)
            if i < self.order:
                e.r[i + 1] = -self.blocks.outputs(
                    count, expansion.next_order, i, e.unit, cells.slope,
                    self.frozen, groups.on, e.active, e.start, e.members, e.mass,
                    after=(e.D, e.A, e.W, self._AQ, self.moments, e.first, self.wide),
                )  # fmt: skip

    def speed(self, e: Expansion) -> float:
        """Return ``||theta'||^2`` (scaled)."""
        return motion.speeds(e.active, e.start, e.members, self.state.z, e.mass, e.D, self._speed)

    # -- one step ---------------------------------------------------------------------

    def plan(self, e: Expansion, limit: float) -> Step:
        """Return the step that `e` allows, at most `limit` long: its neurons have been moved."""
        if (
            not (self.every_event or self.frozen)
            and (step := self._in_closed_form(e, limit)) is not None
        ):
            return step
        if self.long_steps.worth(self, e, limit):
            e = self.long_steps.expand(self, e, limit)
        h = min(e.step, limit, self.outlook) if np.isfinite(e.step) else limit
        step, kinks = self._scan(e, h)
        coming = np.flatnonzero(step.x < np.inf)
        coming = coming[np.argsort(step.x[coming], kind="stable")]
        ends = step.x[coming] * e.unit
        step.tau = h if len(ends) == 0 else self._length(ends, kinks[coming], h)
        self._watch_dependent(step)
        cut = None
        for attempt in range(ATTEMPTS):
            if attempt == ATTEMPTS - 1:
                step.tau = min(step.tau, float(ends[0]))
            cut = self._attempt(step, cut)
            if cut is not None:
                step.tau, step.cause = cut, None
                continue
            error = self._error(step, kinks)
            if error <= self.rtol:
                break
            shorter = step.tau * max(0.1, min(0.7, 0.9 * np.sqrt(SAFETY * self.rtol / error)))
            before = ends[ends <= shorter]
            step.tau, step.cause = float(before[-1] if len(before) else ends[0]), None
        return step

    def _in_closed_form(self, e: Expansion, limit: float) -> Step | None:
        """Return a step in which the residual does not change, if it is worth it."""
        if self.every_event or self.frozen:
            return None
        tau = min(closed_form.reach(self, e, SAFETY * self.rtol), limit)
        if not tau > CLOSED * e.step or not np.isfinite(e.step):
            return None
        e.r[1:] = 0.0
        found = closed_form.walk(self, e.r[0], tau)
        if found is None:
            return None
        nothing = np.zeros(0, np.int64)
        rate = closed_form.largest_rate(self, e)
        return Step(
            e, tau, np.zeros(0), nothing, nothing, nothing, state=found[0], rate=rate,
            events=found[1],
        )  # fmt: skip

    def _scan(self, e: Expansion, h: float) -> tuple[Step, np.ndarray]:
        """Return an empty step with every neuron's first event within `h`, and their kinks."""
        state, groups, m = self.state, self.groups, len(self.state.z)
        # Where nothing moves the polynomials are constants, the same over any stretch.
        span = h / e.unit if np.isfinite(e.step) else 1.0
        step = Step(
            e, h, np.full(m, np.inf), np.zeros(m, np.int64), np.full(m, -1), np.zeros(m, np.int64)
        )
        kinks = np.zeros(m)
        jumps = np.abs(e.ends[1, 0] - e.ends[0, 0])
        self.blocks.each_member(
            len(e.members), detection.scan,
            lambda u0, u1: (
                span, e.unit, self.normals, state.code, e.active, e.start, e.members, u0, u1,
                state.z, e.mass, e.first, e.A, e.W, state.balance, state.sign, TOUCH, self.table,
                self._spread, self._planes, jumps, step.x, step.what, step.where, kinks,
            ),
        )  # fmt: skip
        if np.any(groups.slide_count[e.active]):
            slides.scan_slides(
                span, e.active, e.start, e.members, state.sign, groups.slides,
                groups.slide_count, groups.multipliers, e.ends, e.base, e.tie, self.table,
                step.x, step.what, step.where, step.side,
            )  # fmt: skip
        return step, kinks

    def _length(self, t: np.ndarray, kink: np.ndarray, h: float) -> float:
        """Return how far to go: to the last event before the crossings' effect is too large.

        By then they have turned the others by ``1/2 sum_j kink_j (t - t_j)^2``; t ascends.
        """
        if self.every_event:
            return float(t[0])
        effect = _turning(t, kink, np.append(t, h))
        allowed = np.flatnonzero(effect <= SAFETY * self.rtol)
        last = int(allowed[-1]) if len(allowed) else 0  # at the first event there is none yet
        return h if last == len(t) else float(t[last])

    def _watch_dependent(self, step: Step) -> None:
        """Let the step end where slides on dependent hyperplanes end."""
        e = step.e
        # In an endless step nothing moves, so nothing ends.
        watched = self.groups.dependent if np.isfinite(step.tau) else set()
        for q in np.flatnonzero(np.isin(e.active, list(watched))):
            block = e.members[e.start[q] : e.start[q + 1]].copy()
            step.tau, step.cause = self.switching.dependent_end(
                block, e.residual, step.tau, step.cause
            )

    def _attempt(self, step: Step, cut: float | None) -> float | None:
        """Move all neurons by the step; return where it must end instead, if somewhere.

        `cut` is where the last attempt was to end, if that is what this one does.
        """
        before = step.party if step.tau == cut else None
        step.drift, step.state, step.party = self._moved(step, step.tau, before)
        return None if step.party is None else step.party.cut

    def _moved(
        self, step: Step, tau: float, before: Party | None = None
    ) -> tuple[float, State, Party | None]:
        """Return the neurons after `tau`, and those that walk; the state has its old codes."""
        e, groups, state = step.e, self.groups, self.state.moving()
        x = tau / e.unit if np.isfinite(tau) else 0.0
        walks = step.x <= x
        if step.cause is not None and step.cause.what == "dependent":
            walks[step.cause.neurons] = False
        drifts = self.blocks.each_member(
            len(e.members), motion.ride,
            lambda u0, u1: (
                x, e.active, e.start, e.members, walks, u0, u1, state.z, state.exponent, e.first,
                e.A, e.W, groups.projected, groups.projector, state.balance, state.gap,
                state.gap_exponent, state.sign,
            ),
        )  # fmt: skip
        drift = max(drifts, default=0.0)
        if not np.any(walks):
            return drift, state, None
        party = Party(self, step, np.flatnonzero(walks), before)
        step.rate = closed_form.largest_rate(self, e)
        party.walk(x)
        party.put_into(state)
        return max(drift, party.drift), state, party

    def _error(self, step: Step, kinks: np.ndarray) -> float:
        """Return by how much the residual's error has turned neurons, where some have walked."""
        state, party, cells = step.state, step.party, self.cells
        assert state is not None
        if party is None or self.frozen:
            return 0.0
        now = self._residual_after(step)
        off = np.abs(now - step.e.residual(step.tau))
        field_error = cells.weight * float(np.sum(off * cells.norms))
        if field_error <= cells.rounding(now):
            return 0.0
        began = step.x[party.neurons] * step.e.unit
        kink = kinks[party.neurons]
        grown = float(np.sum(kink * (step.tau - began)))
        turned = 0.5 * float(np.sum(kink * (step.tau - began) ** 2))
        duration = turned / grown if grown > 0.0 else 0.5 * step.tau
        return field_error * duration

    def _residual_after(self, step: Step) -> np.ndarray:
        """Return the residual at the end of a step: riders in their cells, walkers in theirs."""
        assert step.state is not None
        assert step.party is not None
        mass = step.state.mass
        walk = step.party.neurons
        return (
            self.cells.y
            - self._outputs(step.state.z, _without(mass, walk))
            - (step.party.outputs(mass[walk]))
        )

    def moved(self, step: Step, tau: float) -> State:
        """Return what the present state will be after the first `tau` of the step."""
        if step.events is not None:
            return self._closed(step, tau)[0].copy()
        if tau == step.tau and step.state is not None:
            state, party = step.state, step.party
        else:
            _, state, party = self._moved(step, tau)
        state = state.copy()
        if party is not None:
            party.put_codes_into(state)
        return state

    def take(self, step: Step, log: EventLog, tau: float | None = None) -> None:
        """Take the step, or its first `tau`; note in `log` what has happened on the way."""
        if step.events is not None:
            self._take_closed(step, log, step.tau if tau is None else tau)
            return
        if tau is None or tau == step.tau:
            tau, cause = step.tau, step.cause
            drift, state, party = step.drift, step.state, step.party
        else:
            cause = None
            drift, state, party = self._moved(step, tau)
        assert state is not None
        self.drift = max(self.drift, drift)
        self.state.adopt(state)
        if tau > 0.0:
            self.outlook = OUTLOOK * tau if tau < step.e.step else np.inf
        self.long_steps.note(step.e.step, tau)
        began = self.time
        self._forward(tau)
        if party is not None:
            party.put_codes_into(self.state)
            log.extend(party.events(began, step.e.unit, self.time))
            self.switching.place(party.neurons)
        if cause is not None:
            log.extend(self.switching.switch(cause, self.time))

    def _closed(self, step: Step, tau: float) -> tuple[State, Events]:
        """Return the state after the first `tau` of a step in closed form, and the events."""
        if tau < step.tau:
            found = closed_form.walk(self, step.e.r[0], tau)
            assert found is not None  # the whole step has been walked
            return found
        assert step.state is not None
        assert step.events is not None
        return step.state, step.events

    def _take_closed(self, step: Step, log: EventLog, tau: float) -> None:
        """Take a step in closed form."""
        state, events = self._closed(step, tau)
        began = self.time
        self.state.adopt(state)
        self.state.code, self.state.fresh = state.code, state.fresh
        self._forward(tau)
        log.extend(replace(events, t=np.minimum(began + events.t, self.time)))
        self.switching.place(np.arange(len(state.z)))

    def _forward(self, tau: float) -> None:
        """Move the clock by `tau`."""
        # Neumaier's sum: many tiny steps on a long run must not blur event times.
        total = self.time + tau
        part = total - self.time
        self.tail += (self.time - (total - part)) + (tau - part)
        self.time = total + self.tail
        self.tail -= self.time - total

    @property
    def rules(self) -> Rules:
        """What becomes of single neurons."""
        return self.switching.rules


def _without(mass: np.ndarray, neurons: np.ndarray) -> np.ndarray:
    mass = mass.copy()
    mass[neurons] = 0.0
    return mass


def _turning(t: np.ndarray, kink: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return ``1/2 sum_{t_j < s} kink_j (s - t_j)^2`` for each s of `at`; both are ascending.

    Summed from one time to the next, so that near coincidences cost no digits.
    """
    gap = np.diff(at, prepend=0.0)
    total = np.append(0.0, np.cumsum(kink))[: len(at)]
    gained = total * gap
    slope = np.cumsum(gained) - gained
    return np.cumsum(gap * (slope + 0.5 * gained))
