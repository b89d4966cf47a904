"""One step of the event-driven Taylor integrator: expand, choose its length, move, switch.

The residual is the only coupling between neurons. A step takes it as a polynomial, on which
every neuron walks through its own cells; what the crossings do to the others is added at its end,
and the step is as long as that is known to the tolerance (docs/engine.md, two levels).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from flowsim.alignment.plan import plan_of
from flowsim.cells import Cells
from flowsim.engines.groups import Groups
from flowsim.engines.piecewise import (
    closed_form,
    detection,
    fading,
    feedback,
    first_events,
    lengths,
    riders,
)
from flowsim.engines.piecewise.coalescence import Members, coalesced
from flowsim.engines.piecewise.expander import Expander, Expansion
from flowsim.engines.piecewise.feedback import largest_turn
from flowsim.engines.piecewise.first_events import FirstEvents
from flowsim.engines.piecewise.lengths import SAFETY, turning
from flowsim.engines.piecewise.long_steps import LongSteps
from flowsim.engines.piecewise.roots import binomials
from flowsim.engines.piecewise.step import Moved, Step, Walked
from flowsim.engines.piecewise.walk_arrays import Log, Scratch
from flowsim.engines.piecewise.walkers import Party
from flowsim.engines.switching import Rules, Switching
from flowsim.events import ALIVE, Event, EventLog, Events
from flowsim.state import State

#: Effects below this part of the tolerance are none, however often neurons cross.
NOTHING = 1e-6
#: A step looks for events within this many times the last one's length.
OUTLOOK = 8.0
#: At first it looks only so many times that length ahead.
NEARER = 1.5
#: Attempts at a step; each is shorter, the last ends at the first event.
ATTEMPTS = 6
#: Parallel neurons are looked for when so many steps have been taken, twice as many, and so on.
FIRST_LOOK = 32


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
    coalesce : float
        Neurons within this angle of each other go on as one; 0 for none.

    Attributes
    ----------
    state : State
        Of what goes on; `whole` is that of all neurons.
    members : Members, optional
        Of which neuron in `state` each one is a part, if some have coalesced.
    taken : int
        Number of steps.
    """

    cells: Cells
    state: State
    rtol: float
    frozen: bool = False
    every_event: bool = False
    time: float = 0.0
    tail: float = 0.0
    drift: float = 0.0
    coalesce: float = 0.0
    members: Members | None = None
    taken: int = 0
    switching: Switching = field(init=False)

    def __post_init__(self) -> None:
        cells = self.cells
        self._fit()
        self.table = binomials(self.order)
        self.normals = np.ascontiguousarray(cells.normals.T)
        self.outlook, self.allowance = np.inf, SAFETY * self.rtol
        self.largest_turn = largest_turn(self.rtol)
        self.long_steps = LongSteps()
        # What crossings do to others: nothing to a frozen residual.
        squares = (0.0 if self.frozen else cells.weight) * cells.norms**2
        self.spread = float(np.sum(squares))
        self.planes = np.bincount(cells.index, weights=squares, minlength=cells.n_hyperplanes)
        self.largest_singular = float(np.linalg.norm(cells.X, 2))
        # The walk takes q from each thread, and no Gram matrix.
        self.plan_of_walks = plan_of(cells)._replace(gram=np.empty((0, 0)))

    def _fit(self) -> None:
        """Make room for the neurons of the state, and put them into their cells."""
        m = len(self.state.z)
        self.expander = Expander(self.cells, m, self.rtol, self.frozen)
        self.order, self.X = self.expander.order, self.expander.X
        self.blocks = self.expander.blocks
        self.first_events = FirstEvents(m)
        self.scratch: dict[int, list[tuple[Scratch, Log]]] = {}
        self.switching = Switching(self.cells, self.state, self.residual)
        self._whole: State | None = None  # of all neurons, where some go on as one
        self._room: tuple[np.ndarray, np.ndarray] | None = None
        self._lived = self._alive = -1  # how many lived when all of them were counted

    @property
    def groups(self) -> Groups:
        """The neurons by cell."""
        return self.switching.groups

    def start(self) -> list[Event]:
        """Select cells of neurons that start on hyperplanes; report ambiguous ones."""
        rows = self.switching.start(self.time)
        self.unite()
        return rows

    # -- neurons that go on as one ------------------------------------------------------

    def unite(self) -> None:
        """Let neurons that are parallel go on as one."""
        if self.coalesce == 0.0:
            return
        found = coalesced(self.state, self.groups.slot, self.coalesce)
        if found is not None:
            self.go_on_as(found[0], found[1].after(self.members))

    def go_on_as(self, state: State, members: Members | None) -> None:
        """Go on with another number of neurons."""
        radius = self.expander.radius
        self.state, self.members = state, members
        self._fit()
        self.expander.radius = radius

    def whole(self) -> State:
        """Return the present state of all neurons, which is not to be changed."""
        if self.members is None:
            return self.state
        if self._whole is None:
            self._whole = self.members.spread(self.state)
        return self._whole

    def _of_all(self, state: State) -> State:
        return state if self.members is None else self.members.spread(state)

    @property
    def alive(self) -> int:
        """How many neurons are alive."""
        living = self.groups.living
        if self.members is None:
            return living
        if living != self._lived:  # nobody comes back to life
            alive = self.state.fate == ALIVE
            self._lived, self._alive = living, int(np.sum(self.members.count[alive]))
        return self._alive

    def return_to(self, state: State) -> None:
        """Put all neurons back where they were, as the end of a run."""
        self.state, self.members, self._whole = state, None, None

    # -- expansion --------------------------------------------------------------------

    def residual(self) -> np.ndarray:
        """Return the residual of the present state, or y where it is frozen."""
        return self.expander.residual(self.state, self.groups)

    def expand(self) -> Expansion:
        """Return the Taylor coefficients at the present state (views, valid until the next)."""
        return self.expander.expand(self.state, self.groups, self.outlook)

    def speed(self, e: Expansion) -> float:
        """Return ``||theta'||^2`` (scaled)."""
        return self.expander.speed(self.state, e)

    # -- one step ---------------------------------------------------------------------

    def plan(self, e: Expansion, limit: float) -> Step:
        """Return the step that `e` allows, at most `limit` long: its neurons have been moved."""
        step = closed_form.step_of(self, e, limit, SAFETY * self.rtol)
        if step is not None:
            return step
        if self.long_steps.worth(self, e, limit):
            e = self.long_steps.expand(self, e, limit)
        step, ends, kinks = self._look_ahead(e, limit)
        if fading.meet_something(e, step.x):
            e = self.expand()
            step, ends, kinks = self._look_ahead(e, limit)
        first_events.watch_dependent(self, step)
        cut = None
        for attempt in range(ATTEMPTS):
            if attempt == ATTEMPTS - 1:
                step.tau = min(step.tau, float(ends[0]))
            step.effect = 0.0 if self.every_event else turning(ends, kinks, step.tau)
            cut = self._attempt(step, cut)
            if cut is not None:
                step.tau, step.cause = cut, None
                continue
            longer = lengths.may_be_longer(self, step, ends, kinks)
            if longer >= 1.0:
                break
            # Up to the first event there is no error.
            first = float(ends[0])
            step.tau, step.cause = first + max(0.1, 0.9 * longer) * (step.tau - first), None
            step.shortened = True
        assert step.walked is not None
        step.moved = self._moved(step, step.tau, step.walked)
        return step

    def _look_ahead(self, e: Expansion, limit: float) -> tuple[Step, np.ndarray, np.ndarray]:
        """Return a step as long as its events let it be, at most `limit`, their times and kinks.

        Times ascend; events later than the step's end may be missing.
        """
        h = min(e.step, limit, self.outlook) if np.isfinite(e.step) else limit
        # Most steps end about where the last one did: they need not know what comes far behind.
        nearer = NEARER * self.outlook / OUTLOOK
        for within in [nearer, h] if nearer < h else [h]:
            step = first_events.scan(self, e, h, within)
            coming = self.first_events.until(within / e.unit if within < h else np.inf)
            ends, kinks = step.x[coming] * e.unit, step.kinks[coming]
            if len(ends):
                exits = step.what[coming] == detection.SLIDE
                step.tau = lengths.until_turned(self, ends, kinks, exits, h)
                if step.tau <= ends[-1]:
                    break
        return step, ends, kinks

    def _attempt(self, step: Step, cut: float | None) -> float | None:
        """Let neurons that change cells walk; return where the step must end, if somewhere.

        `cut` is where the last attempt was to end, if that is what this one does.
        """
        before = step.walked.party if step.walked is not None and step.tau == cut else None
        if step.walked is not None:
            step.walked.wait()
        step.walked = self._walked(step, step.tau, before)
        return None if step.walked.party is None else step.walked.party.cut

    def _walked(self, step: Step, tau: float, before: Party | None = None) -> Walked:
        """Return the neurons that change cells within `tau`, moved."""
        e = step.e
        x = tau / e.unit if np.isfinite(tau) else 0.0
        walks = step.x <= x
        if step.cause is not None and step.cause.what == "dependent":
            walks[step.cause.neurons] = False
        if not np.any(walks):
            return Walked(walks)
        others = riders.move_beside(self, e, x, walks)
        acts = not (self.frozen or self.every_event) and (
            step.effect > NOTHING * self.rtol or bool(np.any(step.what[walks] != detection.MARGIN))
        )
        party = Party(self, step, np.flatnonzero(walks), acts, before)
        step.rate = closed_form.largest_rate(self, e)
        party.walk(x)
        if not acts or party.cut is not None:
            return Walked(walks, party, others=others)
        return Walked(walks, party, feedback.find(self, e, party, tau), others)

    def _moved(self, step: Step, tau: float, walked: Walked) -> Moved:
        """Return all neurons after `tau`."""
        e, party = step.e, walked.party
        if walked.others is not None:
            state, drift = walked.others.result()
        else:
            x = tau / e.unit if np.isfinite(tau) else 0.0
            state, drift = riders.move(self, e, x, walked.walks)
        if party is None:
            return Moved(state, None, drift)
        feedback.turn_others(self, e, state, walked.walks, walked.feedback)
        party.put_into(state)
        return Moved(state, party, max(drift, party.drift))

    def moving(self) -> State:
        """Return a state to move, in memory that a step has left: fresh memory costs far more."""
        room, self._room = self._room, None
        return self.state.moving(room)

    def moved(self, step: Step, tau: float) -> State:
        """Return what the state of all neurons will be after the first `tau` of the step."""
        if step.events is not None:
            return self._of_all(closed_form.after(self, step, tau)[0].copy())
        whole = tau == step.tau and step.moved is not None
        found = step.moved if whole else self._moved(step, tau, self._walked(step, tau))
        assert found is not None
        state = found.state.copy()
        if found.party is not None:
            found.party.put_cells_into(state)
        return self._of_all(state)

    def take(self, step: Step, log: EventLog, tau: float | None = None) -> None:
        """Take the step, or its first `tau`; note in `log` what has happened on the way."""
        closed, self._whole = step.events is not None, None
        if closed:
            self._take_closed(step, log, step.tau if tau is None else tau)
        else:
            self._take_walked(step, log, tau)
        self.taken += 1
        if closed or (self.taken >= FIRST_LOOK and self.taken & (self.taken - 1) == 0):
            self.unite()

    def _take_walked(self, step: Step, log: EventLog, tau: float | None) -> None:
        """Take a step in the residual's polynomial."""
        if tau is None or tau == step.tau:
            tau, cause, found = step.tau, step.cause, step.moved
            self.allowance = lengths.next_allowance(self, step)
        else:
            cause, found = None, self._moved(step, tau, self._walked(step, tau))
        assert found is not None
        party = found.party
        self.drift = max(self.drift, found.drift)
        self._room = self.state.adopt(found.state)
        if tau > 0.0:  # where nothing has cut the step, nothing may be ahead
            self.outlook = OUTLOOK * tau if tau < min(step.e.step, self.outlook) else np.inf
        self.long_steps.note(step.e.step, tau)
        # A party knows its step: together they would stay until garbage is collected.
        step.walked = step.moved = None
        began = self.time
        self._forward(tau)
        if party is not None:
            party.put_cells_into(self.state)
            self._report(party.events(began, step.e.unit, self.time), log)
            self.switching.place(party.neurons)
        if cause is not None:
            self._report(self.switching.switch(cause, self.time), log)

    def _report(self, events: Events | Iterable[Event], log: EventLog) -> None:
        """Note events, once for each member of the neurons that they are of."""
        log.extend(events if self.members is None else self.members.events(events))

    def _take_closed(self, step: Step, log: EventLog, tau: float) -> None:
        """Take a step in closed form."""
        state, events = closed_form.after(self, step, tau)
        began = self.time
        self.state.adopt(state)
        self.state.code, self.state.fresh = state.code, state.fresh
        self.state.sign, self.state.fate = state.sign, state.fate
        self._forward(tau)
        self._report(replace(events, t=np.minimum(began + events.t, self.time)), log)
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
