"""Drive the integrator to its end: stop conditions, records, stored states."""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from flowsim.engines.alignment_watch import AlignmentWatch
from flowsim.engines.piecewise.checkpoint import Checkpoint
from flowsim.engines.piecewise.expander import Expansion
from flowsim.engines.piecewise.integrator import Integrator
from flowsim.engines.piecewise.lengths import is_off
from flowsim.engines.piecewise.step import Step
from flowsim.engines.record import (
    REPORT_EVERY,
    ZENO_PER_NEURON,
    Limits,
    Progress,
    Record,
    progress_of,
    return_to_last_state,
    snapshot,
)
from flowsim.engines.state_store import StateStore
from flowsim.engines.user_watch import UserWatch
from flowsim.events import Event
from flowsim.stationarity.classify import at_rest

if TYPE_CHECKING:
    from flowsim.certificates.watch import EndWatch

#: Rates this many times over the tolerance are not worth a least-squares problem.
CHECK_EVERY = 8
#: Where crossings blur when the alignment phase ends, a step goes so far towards it.
NEARER = 0.99
#: Speeds below this have lost digits to underflow and cannot be audited.
SMALLEST_SPEED = 1e-280


def integrate(
    integrator: Integrator,
    record: Record,
    store: StateStore,
    limits: Limits,
    watch: AlignmentWatch,
    report: Callable[[Progress], None] | None = None,
    user: UserWatch | None = None,
    checkpoint: Checkpoint | None = None,
    proofs: EndWatch | None = None,
) -> Record:
    """Integrate until a stop condition holds; always says which.

    `integrator` has been started, or goes on from where `record` and `store` end: the state is
    noted again.
    """
    began = reported = clock.monotonic()
    idle = 0
    patience = ZENO_PER_NEURON * len(integrator.state.z) + 100
    while True:
        e = integrator.expand()
        if not (np.all(np.isfinite(e.r[0])) and np.all(np.isfinite(e.D[:, 0]))):
            return_to_last_state(record, store, integrator)
            record.status = "non_finite"
            break
        _note(record, integrator, e)
        step = record.step
        store.offer(step, integrator)
        if checkpoint is not None:
            checkpoint.offer()
        now = clock.monotonic()
        if report is not None and now - reported >= REPORT_EVERY:
            report(progress_of(record, integrator))
            reported = now
        record.status = _stop(integrator, e, limits, step, now - began)
        if not record.status and proofs is not None and not watch.waits:
            record.status = _proof(record, integrator, e, proofs)
        if record.status:
            break
        if idle > patience:
            record.status = "zeno"
            break
        limit = limits.t1 - integrator.time - integrator.tail
        if not integrator.time + min(e.step, limit) > integrator.time:
            record.status = "step_underflow"
            break
        plan = integrator.plan(e, limit)
        if plan.still:  # nothing moves and nothing ever will
            record.status = "stationary"
            break
        tau = plan.tau
        if user is not None and (end := _user_events(record, integrator, plan, user)) is not None:
            tau = end
        if watch.waits and (x := watch.end_within(integrator, plan, tau)) is not None:
            if is_off(integrator, plan, x):  # look again from nearer by
                watch.waits, tau = True, NEARER * x
            else:
                record.alignment_time = integrator.time + x
                record.alignment_state = integrator.moved(plan, x)
                record.rows.append(Event(record.alignment_time, "alignment_end"))
        before = integrator.time
        integrator.take(plan, record.rows, tau)
        if limits.t1 - integrator.time - integrator.tail <= 4e-16 * integrator.time:
            integrator.time, integrator.tail = limits.t1, 0.0  # what is left is no step
        idle = idle + 1 if integrator.time - before <= 4e-16 * before else 0
        if record.status:  # a terminal event of the user
            _note(record, integrator, integrator.expand())
            store.offer(record.step, integrator)
            break
    if report is not None:
        report(progress_of(record, integrator))
    return record


def _proof(record: Record, integrator: Integrator, e: Expansion, proofs: EndWatch) -> str:
    """Return the status of a run that is proved to have nothing left to do but to converge."""
    before = record.time[-2] if record.step > 0 else 0.0
    record.certificate = proofs.proves(integrator, e.r[0], before, record.alignment_time)
    return "" if record.certificate is None else "certified"


def _user_events(
    record: Record, integrator: Integrator, step: Step, user: UserWatch
) -> float | None:
    """Note the user's events in a step; return where one ends the run."""
    for hit, refining in user.inside(integrator, step, step.tau):
        try:
            at = next(refining)
            while True:
                at = refining.send(user.network(integrator.moved(step, at)))
        except StopIteration as stop:
            at = stop.value
        record.rows.append(hit.row(integrator.time + at))
        if hit.terminal:
            record.status = "event"
            return at
    return None


def _note(record: Record, integrator: Integrator, e: Expansion) -> None:
    r0 = e.r[0]
    weight = integrator.cells.weight
    speed = integrator.speed(e)
    rates = e.rates()
    record.time.append(integrator.time)
    record.loss.append(0.5 * weight * float(r0 @ r0))
    record.speed.append(speed)
    record.rate.append(float(rates.max(initial=0.0)))
    record.alive.append(integrator.alive)
    if not integrator.frozen and speed > SMALLEST_SPEED:
        # dL/dt from the residual's own series against -|theta'|^2 from the neurons',
        # beyond what the rounding of D, and of its projection onto slides, explains.
        slope = weight * float(r0 @ e.r[1]) / e.unit
        noise = integrator.cells.rounding(r0) * np.sqrt(e.size)
        pressed = np.sqrt(e.size) * float(np.linalg.norm(e.base[:, 0], axis=1).max(initial=0.0))
        excess = abs(slope + speed) - (2 * np.sqrt(speed) + pressed + noise) * noise
        record.dissipation = max(record.dissipation, excess / speed)


def _stop(integrator: Integrator, e: Expansion, limits: Limits, step: int, seconds: float) -> str:
    if integrator.time + integrator.tail >= limits.t1:
        return "t1"
    if _may_rest(integrator, e, limits, step) and at_rest(
        snapshot(integrator, e.r[0]), limits.stationary_rtol
    ):
        return "stationary"
    if step >= limits.max_steps:
        return "max_steps"
    if seconds >= limits.max_seconds:
        return "max_seconds"
    return ""


def _may_rest(integrator: Integrator, e: Expansion, limits: Limits, step: int) -> bool:
    """Spare the full test: all rates are small, or so many that only vanishing ones are not."""
    if integrator.frozen or limits.stationary_rtol == 0.0:
        return False
    cells = integrator.cells
    bound = limits.stationary_rtol * cells.rate_scale * cells.weight * cells.n
    if np.all(e.rates() <= bound):
        return True
    if step % CHECK_EVERY:
        return False
    # All fast groups must consist of light neurons for them to be vanishing ones.
    heavy = e.rates() > bound
    mass = e.mass[e.members]
    return all(np.all(mass[e.start[q] : e.start[q + 1]] < 1e-12) for q in np.flatnonzero(heavy))
