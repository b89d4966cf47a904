"""What the driver of smooth models is told and what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowsim.engines.problem import Work
from flowsim.events import Event
from flowsim.stationarity.classify import Verdict
from flowsim.stationarity.hessian import Spectrum


@dataclass(frozen=True)
class SmoothSettings:
    """Stop conditions, tolerances and definitions, as `flowsim.simulate` has them.

    Attributes
    ----------
    log_scale : float, optional
        ln λ of the initialisation, of which "growth" needs the power; by default that of the
        objective's initial scale.
    """

    t1: float = float("inf")
    rtol: float = 1e-12
    stationary_rtol: float = 1e-11
    max_steps: int = 1_000_000
    max_seconds: float = float("inf")
    state_bytes: int = 32 * 2**20
    alignment: str = "residual"
    alignment_threshold: float = 1e-3
    alignment_epsilon: float = 0.25
    log_scale: float | None = None


@dataclass(eq=False)
class Clock:
    """Time as a compensated sum (Neumaier) of the steppers' spans."""

    time: float = 0.0
    tail: float = 0.0

    def after(self, dt: float) -> float:
        """Return the time `dt` later."""
        return self.time + (self.tail + dt)

    def left(self, t1: float) -> float:
        """Return how long it is to `t1`."""
        return t1 - self.time - self.tail

    def add(self, dt: float) -> None:
        """Go on by `dt`."""
        total = self.time + dt
        larger, smaller = (self.time, dt) if abs(self.time) >= abs(dt) else (dt, self.time)
        self.tail += (larger - total) + smaller
        self.time = total


class FlatStore:
    """Stored states within a memory budget: every `stride`-th step, stride doubling."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.stride = 1
        self.rows: list[tuple[int, float, np.ndarray]] = []

    def offer(self, step: int, t: float, state: np.ndarray, *, last: bool = False) -> None:
        """Keep a state (3, P) if its turn has come, or it is the last of the run."""
        if (self.rows and self.rows[-1][0] == step) or (step % self.stride and not last):
            return
        self.rows.append((step, t, state))
        if len(self.rows) > 2 and len(self.rows) * state.nbytes > self.budget and not last:
            self.stride *= 2
            self.rows = [row for row in self.rows if row[0] % self.stride == 0]


@dataclass(frozen=True, eq=False)
class SmoothRecord:
    """What a run leaves behind, in true units.

    Attributes
    ----------
    t, loss, speed, rate : (S,)
        At every accepted step, both ends included: ``speed = ||theta'||^2 = -dL/dt``,
        ``rate = ||theta'|| / ||theta||``.
    step, state_t : (K,)
        Stored states: index into the history, and time.
    parameters, velocity, acceleration : (K, P)
        Theirs, flat in the order of the parameters' leaves.
    dense : bool
        Every step is stored: the quintic Hermite interpolants of neighbours are dense output.
    rows : list of Event
    plateau_loss : list of float
        The loss at each "plateau" of `rows`, in their order.
    status : str
    alignment_time : float
        nan if the phase has not ended, or there is none.
    alignment_parameters : (P,) or None
    work : Work
    verdict : Verdict
    spectrum : Spectrum or None
        Of the Hessian at the end, if it has been computed.
    """

    t: np.ndarray
    loss: np.ndarray
    speed: np.ndarray
    rate: np.ndarray
    step: np.ndarray
    state_t: np.ndarray
    parameters: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    dense: bool
    rows: list[Event]
    plateau_loss: list[float]
    status: str
    alignment_time: float
    alignment_parameters: np.ndarray | None
    work: Work
    verdict: Verdict
    spectrum: Spectrum | None
