"""Drive a smooth model's gradient flow to its end: stop conditions, events, records."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from flowsim.engines._vectors import Layout
from flowsim.engines.problem import Advance, Driver, Land, Steps, Tree, Work
from flowsim.engines.record import REPORT_EVERY, Progress
from flowsim.engines.smooth_problem import SmoothProblem
from flowsim.engines.smooth_record import Clock, FlatStore, SmoothRecord, SmoothSettings
from flowsim.engines.smooth_scaling import Scaling
from flowsim.engines.smooth_steps import EPS, Host, Knot, Step
from flowsim.engines.smooth_watch import AlignmentEnd, PlateauWatch, Rest, watched
from flowsim.engines.user_events import Hit, UserEvents
from flowsim.events import Event
from flowsim.models.objective import Objective
from flowsim.stationarity.classify import Verdict
from flowsim.stationarity.hessian import Spectrum, classify, spectrum

#: Steps asked for at a time, and the bytes that their states, velocities and accelerations take.
CHUNK_STEPS, CHUNK_BYTES = 64, 32 * 2**20
#: A velocity below this many times its rounding is none; errors below are not resolved.
ROUNDINGS = 8.0
#: States are known up to this many times the error of a step.
ERRORS = 10.0
#: A moving state is near a saddle if its rate is below this part of the rate of escape.
SLOW = 1e-2


def run_smooth(
    objective: Objective,
    settings: SmoothSettings,
    events: Sequence[Callable[[float, Any], Any]] = (),
    report: Callable[[Progress], None] | None = None,
) -> Driver:
    """Follow ``theta' = -grad L(theta)`` from the objective's parameters; a driver.

    The flow is at rest where ``||theta'|| / ||theta||`` has fallen to `stationary_rtol` times
    the largest it has been (see `flowsim.engines.smooth_watch.Rest`), and the Hessian has no
    negative eigenvalue; with one, it is passing a saddle and the run goes on. But where no
    unit's velocity can be told from rounding, or the saddle has been given the time to be left
    and no unit's velocity can be told from the errors of the steps, the flow stays for ever,
    and the run ends with the Hessian's verdict, be it a saddle.

    Parameters
    ----------
    objective : Objective
    settings : SmoothSettings
    events : sequence of callables
        Zeros to find, see `flowsim.engines.user_events.UserEvents`.
    report : callable, optional
        Called with a `Progress` a few times a second.

    Returns
    -------
    SmoothRecord
        When driven to its end. Its status is "stationary", "t1", "event", "max_steps",
        "max_seconds", "non_finite" or "step_underflow".

    Raises
    ------
    ValueError
        If the loss or its derivatives are not finite at the start, or a definition or an event
        makes no sense.
    """
    run = _Run(objective, settings, events, report)
    run.begin()
    while not run.status:
        request = run.request()
        steps = yield request
        yield from run.take(request, steps)
    return run.record()


class _Run:
    """One run: its present state, and what is known of its past."""

    def __init__(
        self,
        objective: Objective,
        settings: SmoothSettings,
        events: Sequence[Callable[[float, Any], Any]],
        report: Callable[[Progress], None] | None,
    ) -> None:
        watch = watched(objective, settings)
        self.objective, self.settings, self.report = objective, settings, report
        self.layout = Layout.of(objective.parameters)
        self.scaling = Scaling(objective, self.layout)
        problem = SmoothProblem(objective.functional, objective.n_units, watch)
        self.host = Host(problem, self.layout, objective.args)
        self.user = UserEvents(events)
        self.alignment = AlignmentEnd(objective, settings, watch)
        self.plateaus = [PlateauWatch(self.host, relative=on) for on in (True, False)]
        self.rest = Rest(settings.stationary_rtol)
        self.store = FlatStore(settings.state_bytes)
        self.clock, self.work = Clock(), Work()
        self.scalars: list[tuple[float, float, float, float]] = []
        self.rows: list[Event] = []
        self.alignment_time = float("nan")
        self.alignment_parameters: np.ndarray | None = None
        self.status = ""
        self.h: float | None = None
        self.spectrum: Spectrum | None = None
        self.began = self.reported = clock.monotonic()
        self.lowest_loss = float("inf")
        start = self.layout.flatten(objective.parameters, np) / self.scaling.frame.scale
        self.present = self.host.look(0.0, start, self.scaling.frame)

    # -- one answer after another --------------------------------------------------------

    def begin(self) -> None:
        """Look at the start."""
        knot = self.present
        for value in (knot.seen["loss"], *knot.f, *knot.s):
            if not np.isfinite(value):
                raise ValueError(
                    "The loss must be finite at the start, and so must its derivatives, but some "
                    "overflow or do not exist there."
                )
        if self.alignment.reached(knot):
            self._end_alignment(0.0, knot.true[0])
        self.rest.suspects(knot)
        self._note(knot)
        self._settle(knot)

    def request(self) -> Advance:
        """Return what is asked for next."""
        steps = max(min(CHUNK_BYTES // (24 * self.layout.size), CHUNK_STEPS), 1)
        return Advance(
            problem=self.host.problem,
            y=self.layout.unflatten(self.present.y),
            args=self.scaling.frame.args,
            span=self.clock.left(self.settings.t1),
            h=self.h,
            max_steps=min(steps, self.settings.max_steps - len(self.scalars) + 1),
        )

    def take(self, request: Advance, steps: Steps) -> Generator[Land, Tree, None]:
        """Go through the steps of an answer, until one of them ends the run."""
        self.work.add(steps)
        times = [self.clock.after(float(dt)) for dt in steps.t]
        if steps.t[-1] == request.span:
            times[-1] = self.settings.t1
        knots = self.host.knots(steps, times, self.present.frame)
        for i in range(1, len(knots)):
            if times[i] <= times[i - 1]:  # faster than the time elapsed so far can resolve
                self.status = "step_underflow"
                return
            h = float(steps.t[i] - steps.t[i - 1])
            end = yield from self._events_inside(Step(self.host, knots[i - 1], knots[i], h))
            self._note(knots[i] if end is None else end)
            self.status = self._stop(knots[i]) if end is None else "event"
            if self.status:
                return
        self.clock.add(float(steps.t[-1]))
        self.h = steps.h
        self._settle(knots[-1])
        if not self.status and (steps.failure or len(knots) == 1):
            self.status = steps.failure or "step_underflow"

    def _settle(self, knot: Knot) -> None:
        """Choose the next variables and sizes; stop where nothing moves."""
        y = self.scaling.rescale(knot.y)
        frame = self.scaling.frame
        found = self.host.rounding(y, frame)
        least = ROUNDINGS * found.noise(EPS) if self.settings.stationary_rtol > 0.0 else 0.0
        if np.all(found.speed <= least):
            self.status = "stationary"
        unit = np.ldexp(1.0, self.scaling.exponent)
        for plateaus in self.plateaus:
            plateaus.noise = float(np.sum((unit * found.noise(self.settings.rtol)) ** 2))
        per_step = ROUNDINGS * (self.h or 0.0) / self.settings.rtol
        self.scaling.tolerate(y, jax.tree.map(lambda e: per_step * e, found.noises(EPS)))
        self.present = knot.inside(self.scaling.frame)

    def _note(self, knot: Knot) -> None:
        """Record a state."""
        seen = knot.seen
        self.scalars.append((knot.t, seen["loss"], seen["speed"], seen["rate"]))
        self.lowest_loss = min(self.lowest_loss, seen["loss"])
        self.last = knot
        self.store.offer(len(self.scalars) - 1, knot.t, knot.true)
        for plateaus in self.plateaus:
            plateaus.offer(knot)
        now = clock.monotonic()
        if self.report is not None and now - self.reported >= REPORT_EVERY:
            self.report(self._progress())
            self.reported = now

    def _stop(self, knot: Knot) -> str:
        if knot.t >= self.settings.t1:
            return "t1"
        if self.rest.suspects(knot) and self._confirmed(knot):
            return "stationary"
        if len(self.scalars) > self.settings.max_steps:
            return "max_steps"
        if clock.monotonic() - self.began >= self.settings.max_seconds:
            return "max_seconds"
        return ""

    def _confirmed(self, knot: Knot) -> bool:
        """Whether a suspected rest is one, and no saddle on the way."""
        ends = self._spectrum(knot)
        if not self.rest.against(knot, ends.largest):
            return False
        if ends.descends and not (self.rest.passing and self._unmoved(knot)):
            self.rest.dismiss(knot, -ends.lowest)
            return False
        self.spectrum = ends
        return True

    def _unmoved(self, knot: Knot) -> bool:
        """Whether no unit's velocity is more than what errors of the steps make of it."""
        found = self.host.rounding(knot.y, knot.frame)
        return bool(np.all(found.speed <= ERRORS * found.noise(self.settings.rtol)))

    def _spectrum(self, knot: Knot) -> Spectrum:
        parameters = self.layout.unflatten(knot.true[0])
        return spectrum(self.objective.functional, parameters, self.objective.args)

    # -- events --------------------------------------------------------------------------

    def _events_inside(self, step: Step) -> Generator[Land, Tree, Knot | None]:
        """Record what happens in a step; return the state in which the run ends, if it does."""
        end = None
        evaluate = partial(self._model, step)
        for hit in self.user.inside(evaluate, step.before.t, step.h):
            tau = yield from self._refined(hit, step)
            self.rows.append(hit.row(step.before.t + tau))
            if hit.terminal:
                y = yield from step.land(tau)
                end = step.look(tau, y)
                step = Step(self.host, step.before, end, tau)  # the last: hits end here
        if self.alignment.reached(step.after):
            tau, y = yield from self.alignment.within(step)
            self._end_alignment(step.before.t + tau, step.after.frame.scale * y)
        return end

    def _refined(self, hit: Hit, step: Step) -> Generator[Land, Tree, float]:
        search = self.user.refine(hit, step.before.t, step.h)
        tau = next(search)
        while True:
            y = yield from step.land(tau)
            try:
                tau = search.send(self._model(step, tau, y))
            except StopIteration as end:
                return end.value

    def _model(self, step: Step, tau: float, y: np.ndarray | None = None) -> Any:
        y = step.at(tau) if y is None else y
        return self.objective.model(self.layout.unflatten(step.after.frame.scale * y))

    def _end_alignment(self, t: float, parameters: np.ndarray) -> None:
        self.alignment.waits = False
        self.alignment_time, self.alignment_parameters = t, parameters
        self.rows.append(Event(t, "alignment_end"))

    # -- at the end ----------------------------------------------------------------------

    def record(self) -> SmoothRecord:
        """Return what the run leaves behind."""
        frozen = getattr(self.objective.functional, "frozen", False)
        plateaus = self.plateaus[0 if self.lowest_loss > 0.0 else 1].found
        rows = list(self.rows) + ([] if frozen else [Event(t, "plateau") for t, _ in plateaus])
        if self.status == "stationary":
            rows.append(Event(self.last.t, "stationary"))
        verdict = self._verdict(frozen)
        self.store.offer(len(self.scalars) - 1, self.last.t, self.last.true, last=True)
        if self.report is not None:
            self.report(self._progress())
        t, loss, speed, rate = np.array(self.scalars).T
        states = np.array([state for _, _, state in self.store.rows])
        return SmoothRecord(
            t=t,
            loss=loss,
            speed=speed,
            rate=rate,
            step=np.array([step for step, _, _ in self.store.rows], dtype=np.int64),
            state_t=np.array([t for _, t, _ in self.store.rows]),
            parameters=states[:, 0],
            velocity=states[:, 1],
            acceleration=states[:, 2],
            dense=self.store.stride == 1,
            rows=rows,
            plateau_loss=[] if frozen else [loss for _, loss in plateaus],
            status=self.status,
            alignment_time=self.alignment_time,
            alignment_parameters=self.alignment_parameters,
            work=self.work,
            verdict=verdict,
            spectrum=self.spectrum,
        )

    def _verdict(self, frozen: bool) -> Verdict:
        nan = float("nan")
        if frozen:
            return Verdict("not_stationary", nan, nan, "the residual was kept frozen")
        if self.status != "stationary":
            if self.rest.slow(self.last, SLOW):
                self.spectrum = self._spectrum(self.last)
                if self.last.seen["rate"] <= -SLOW * self.spectrum.lowest:
                    return _near_saddle(self.spectrum)
            return Verdict("not_stationary", nan, nan, "the parameters are still moving")
        self.spectrum = self.spectrum or self._spectrum(self.last)
        return classify(
            self.objective.functional,
            self.layout.unflatten(self.last.true[0]),
            self.objective.args,
            stationary=True,
            initial_loss=self.scalars[0][1],
            known=self.spectrum,
        )

    def _progress(self) -> Progress:
        t, loss, _, rate = self.scalars[-1]
        return Progress(
            phase="alignment" if self.alignment.waits else "descent",
            t=t,
            loss=loss,
            loss0=self.scalars[0][1],
            events=len(self.rows),
            steps=len(self.scalars) - 1,
            rate=rate,
            alive=self.objective.n_units,
        )


def _near_saddle(ends: Spectrum) -> Verdict:
    nan = float("nan")
    reason = (
        f"the flow is slow, and the Hessian's lowest eigenvalue is {ends.lowest:.4g}: it escapes "
        f"like exp({-ends.lowest:.4g} t)"
    )
    return Verdict("saddle", nan, nan, reason)
