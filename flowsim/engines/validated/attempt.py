"""One rigorous run at one precision, from the start until it ends or cannot prove what is next."""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from flint import arb, ctx

from flowsim.engines.validated.balls import BOUND_BITS, ZERO, size
from flowsim.engines.validated.choice import Choice, choose
from flowsim.engines.validated.conditions import MARGIN, SIGN, conditions
from flowsim.engines.validated.expansion import expand
from flowsim.engines.validated.majorant import Search
from flowsim.engines.validated.result import EnclosedEvent, EnclosedState
from flowsim.engines.validated.roots import Root, first_root
from flowsim.engines.validated.state import BallState, Box, Neuron, initial_state, known_cell
from flowsim.engines.validated.step import Step
from flowsim.engines.validated.system import System
from flowsim.engines.validated.undecided import Undecided
from flowsim.events import ALIVE
from flowsim.network import TwoLayerReLU

#: Remainders are this many bits above the precision.
SPARE_BITS = 12
#: A step on which something cannot be proved is tried again shorter by this, so many times.
SHORTER, TRIES = 0.6, 3
#: The callback is asked when the time has grown by this factor since.
ASK_AGAIN = 1.1


@dataclass(eq=False)
class Attempt:
    """One run; `failure` says what could not be proved.

    Parameters
    ----------
    system : System
    net : TwoLayerReLU
    t1 : float
    order, bits : int
    rigorous : bool
    accept : callable, optional
        Of an EnclosedState: whether to stop there.
    max_steps : int
    note : callable, optional
        Called with the BallState at the start and after every step.
    deadline : float
        Of the monotonic clock.
    """

    system: System
    net: TwoLayerReLU
    t1: float
    order: int
    bits: int
    rigorous: bool = True
    accept: Callable[[EnclosedState], bool] | None = None
    max_steps: int = 100_000
    note: Callable[[BallState], None] | None = None
    deadline: float = float("inf")
    state: BallState = field(init=False)
    events: list[EnclosedEvent] = field(default_factory=list)
    steps: int = 0
    status: str = ""
    failure: Undecided | None = None
    search: Search = field(default_factory=Search)
    ask_at: float = 0.0

    def run(self) -> None:
        """Go on until a status is known."""
        self.state = initial_state(self.system, self.net)
        try:
            self._start()
            self._told()
            while not self.status:
                self._advance()
                self._told()
        except Undecided as failure:
            self.status, self.failure = "undecided", failure
            if not self.steps and not self.events and self.note is not None:
                self.note(self.state)  # the start is a state, too

    def _told(self) -> None:
        """Tell the state to whoever listens; see whether the run ends here."""
        if self.note is not None:
            self.note(self.state)
        t = self.state.t
        if self.status:
            return
        if self.accept is not None and float(t.mid()) >= self.ask_at:
            self.ask_at = ASK_AGAIN * float(t.mid())
            if self.accept(enclosed(self.state)):
                self.status = "accepted"
                return
        if not any(neuron.fate == ALIVE for neuron in self.state.neurons):
            # Nothing moves, so that this is the state at every later time.
            self.status = "t1" if self.t1 < float("inf") else "at_rest"
            self.state.t = arb(self.t1) if self.status == "t1" else t
        elif self.steps >= self.max_steps:
            self.status = "max_steps"
        elif clock.monotonic() >= self.deadline:
            self.status = "max_seconds"

    # -- the start ------------------------------------------------------------------------------

    def _start(self) -> None:
        """Choose the cells of neurons that start on hyperplanes."""
        state, system = self.state, self.system
        for j, neuron in enumerate(state.neurons):
            if neuron.fate == ALIVE and neuron.z[0] == 0:
                raise Undecided("a_j = 0 at the start", ZERO, j, final=True)
        # Where the margin is 0 the coefficient does not matter.
        codes = {
            j: tuple(c or 1 for c in neuron.code)
            for j, neuron in enumerate(state.neurons)
            if neuron.fate == ALIVE
        }
        box = Box(system, {j: state.neurons[j].z for j in codes}, codes)
        for j in codes:
            neuron = state.neurons[j]
            touched = tuple(g for g, c in enumerate(neuron.code) if c == 0)
            if touched:
                choice = choose(system, box, j, neuron, touched, ZERO)
                self._enter(j, choice, ZERO, dict.fromkeys(touched, 1))

    # -- one step -------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Take one step, to its end or to the first event in it."""
        system, state = self.system, self.state
        groups = state.groups(system)
        expansion = expand(system, groups, self.order)
        try:
            majorant, length = self.search.find(system, groups, self.order, self.bits - SPARE_BITS)
        except Undecided as failure:
            raise self._at(failure) from None
        left = (arb(self.t1) - state.t) if self.t1 < float("inf") else None
        for trial in range(TRIES + 1):
            h, end = arb(length * SHORTER**trial), None
            if left is not None and h >= left.lower():
                h, end = left.upper(), left
            if not h < majorant.rho:
                continue
            try:
                step = Step(system, state, expansion, majorant, h, rigorous=self.rigorous)
                roots = _first(step, self._slack(h))
            except Undecided as failure:
                if failure.final or trial == TRIES:
                    raise self._at(failure) from None
                continue
            break
        else:
            raise self._at(Undecided("no step is short enough", ZERO))
        self.steps += 1
        if not roots:
            self._move(step, h if end is None else end)
            if end is not None:
                state.t, self.status = arb(self.t1), "t1"
        else:
            self._switch(step, roots)

    def _at(self, failure: Undecided) -> Undecided:
        """Put the time of the step to a failure inside it."""
        failure.tau = self.state.t + failure.tau
        return failure

    def _move(self, step: Step, tau: arb) -> None:
        """Put the state where it is at the times of the ball `tau`; its radius becomes error."""
        state = self.state
        lost = []
        for j in step.group_of:
            neuron = state.neurons[j]
            star = step.star(j, tau)
            neuron.z = [v.mid() for v in star]
            neuron.fresh = {}
            radius = size(v.rad() for v in star)
            lost.append(radius)
            with ctx.workprec(BOUND_BITS):
                neuron.error = (step.errors[j] + radius).upper() if self.rigorous else ZERO
            self._hold(j, neuron, lost)
        with ctx.workprec(BOUND_BITS):
            state.error = (step.spread + size(lost)).upper() if self.rigorous else ZERO
        state.t = state.t + tau
        if not self.rigorous:
            state.t = state.t.mid()

    def _hold(self, j: int, neuron: Neuron, lost: list[arb]) -> None:
        """Put the midpoint of a sliding neuron onto its hyperplanes, up to rounding.

        The true w lies on them, so that the projection does not take the midpoint away from it.
        """
        P = known_cell(self.system, neuron.code).P if neuron.fate == ALIVE else None
        if P is None:
            return
        w = [sum((p * v for p, v in zip(row, neuron.z[1:], strict=True)), ZERO) for row in P]
        rounding = size(v.rad() for v in w)
        neuron.z[1:] = [v.mid() for v in w]
        lost.append(rounding)
        with ctx.workprec(BOUND_BITS):
            neuron.error = (neuron.error + rounding).upper() if self.rigorous else ZERO

    # -- events ---------------------------------------------------------------------------------

    def _slack(self, h: arb) -> arb:
        """Return how close events may be that count as one: no two, if all is to be proved."""
        return ZERO if self.rigorous else (h * arb(2) ** -(self.bits // 2)).upper()

    def _switch(self, step: Step, roots: list[Root]) -> None:
        """Move to an event (or several at one time) and let its neurons react."""
        tau, state = roots[0].tau, self.state
        box = step.box(tau)
        try:
            reactions = [
                (j, *self._reaction(step, root, box, j))
                for root in roots
                for j in step.group_of
                if self._concerns(root, j)
            ]
        except Undecided as failure:
            raise self._at(failure) from None
        self._move(step, tau)
        for j, choice, fresh in reactions:
            if choice is None:
                neuron = state.neurons[j]
                self.events.append(
                    EnclosedEvent(state.t, "sign_change", j, -1, neuron.sign, -neuron.sign)
                )
                neuron.sign, neuron.fresh = -neuron.sign, fresh
            else:
                self._enter(j, choice, state.t, fresh)

    def _concerns(self, root: Root, j: int) -> bool:
        """Whether neuron j takes part in an event, as itself or as a multiple of another."""
        f = root.condition
        if f.kind in (MARGIN, SIGN):
            return self.state.neurons[j].twin == f.neurons[0]
        return j in f.neurons

    def _reaction(
        self, step: Step, root: Root, box: Box, j: int
    ) -> tuple[Choice | None, dict[int, int]]:
        """Return where neuron j goes on (None: only its sign changes), and what vanishes there."""
        f, neuron = root.condition, self.state.neurons[j]
        slides = tuple(g for g, c in enumerate(neuron.code) if c == 0)
        if f.kind == SIGN:
            if slides:
                reason = "its output weight changes its sign on a slide, which repels it then"
                raise Undecided(reason, root.tau, j, slides[0], final=True)
            return None, {-1: 1}
        if f.kind == MARGIN:
            touched = tuple(sorted((*slides, f.plane)))
            choice = choose(self.system, box, j, neuron, touched, root.tau)
            return choice, {g: 1 for g in touched if choice.code[g]}
        code = list(neuron.code)
        for g, side in f.exits:
            code[g] = side
        gaps = known_cell(self.system, neuron.code).gaps
        held = any(gaps[g, -side] is None for g, side in f.exits)
        twice = len({g for g, _ in f.exits}) < len(f.exits)
        if held or twice or self.system.is_dead(tuple(code)):
            reason = "the hyperplane that it slides on holds it no longer on either side"
            raise Undecided(reason, root.tau, j, f.plane, final=True)
        return Choice(tuple(code), ALIVE), {g: 2 for g, _ in f.exits}

    def _enter(self, j: int, choice: Choice, t: arb, fresh: dict[int, int]) -> None:
        """Put a neuron into its next cell, and note the events."""
        system, neuron = self.system, self.state.neurons[j]
        before, neuron.code, neuron.fate = neuron.code, choice.code, choice.fate
        neuron.fresh = {g: q for g, q in fresh.items() if choice.code[g]}
        for k in range(system.n):
            g, side = system.plane[k], system.side[k]
            if before[g] != choice.code[g]:
                self.events.append(
                    EnclosedEvent(t, "pattern", j, k, before[g] * side, choice.code[g] * side)
                )
        if choice.fate != ALIVE:
            self.events.append(EnclosedEvent(t, "death", j))
        lost: list[arb] = []
        self._hold(j, neuron, lost)
        if self.rigorous:
            with ctx.workprec(BOUND_BITS):
                self.state.error = (self.state.error + size(lost)).upper()


def _first(step: Step, slack: arb) -> list[Root]:
    """Return the first event of a step, proved to be before all others.

    With a positive `slack` events that are closer than it are one; otherwise there is one root.
    """
    found: list[Root] = []
    until = step.h
    for f in conditions(step):
        root = first_root(step, f, until)
        if root is not None:
            found.append(root)
            until = min(until, (root.high + slack).upper())
    if not found:
        return []
    first = min(found, key=lambda root: float(root.high / step.h))
    together = [root for root in found if not root.low > first.high + slack]
    concerned = [j for root in together for j in root.condition.neurons]
    if (len(together) > 1 and slack == 0) or len(set(concerned)) < len(concerned):
        other = next(root for root in together if root is not first).condition.neurons[0]
        j = first.condition.neurons[0]
        which = "another of its own, as where w = 0," if other == j else f"one of neuron {other}"
        reason = f"its event and {which} are too close to each other to tell which is first"
        raise Undecided(reason, first.tau, j, first.condition.plane)
    return [first, *(root for root in together if root is not first)]


def enclosed(state: BallState) -> EnclosedState:
    """Return a state as others see it."""
    balls = [neuron.ball for neuron in state.neurons]
    return EnclosedState(
        t=state.t,
        a=[z[0] for z in balls],
        W=[z[1:] for z in balls],
        sign=tuple(neuron.sign for neuron in state.neurons),
        gap=tuple(neuron.gap for neuron in state.neurons),
        code=np.array([neuron.code for neuron in state.neurons], dtype=np.int8),
        fate=np.array([neuron.fate for neuron in state.neurons], dtype=np.int8),
        error=state.error,
    )
