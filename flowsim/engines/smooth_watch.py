"""What the driver of smooth models watches for: the end of alignment, plateaus, rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator

import numpy as np

from flowsim.engines.problem import Land, Tree
from flowsim.engines.refinement import secants
from flowsim.engines.smooth_record import SmoothSettings
from flowsim.engines.smooth_steps import Host, Knot, Step
from flowsim.models.objective import Objective
from flowsim.plateaus import PlateauScan

#: The definitions of `flowsim.alignment.end` that mean something without activation cells.
DEFINITIONS = ("residual", "growth")
#: A dismissed rest is looked at again after a rise of the rate by this factor over the limit.
RISEN = 100.0
#: So many e-foldings take a disturbance of the size of rounding out of a saddle for sure.
PATIENCE = 100.0


def watched(objective: Objective, settings: SmoothSettings) -> str:
    """Return which definition of the end of alignment is watched; "" for none.

    A loss function has no such phase, nor have labels that are all zero.

    Raises
    ------
    ValueError
        If the definition needs activation cells, or a scale below 1 and it is not.
    """
    if objective.data is None and settings.alignment != "residual":
        raise ValueError(
            "Argument `alignment` must be left out for a loss function, which has no such phase, "
            f"but is {settings.alignment!r}."
        )
    if objective.data is None:
        return ""
    if settings.alignment not in DEFINITIONS:
        raise ValueError(
            'Argument `alignment` must be "residual" or "growth" for a smooth model, since other '
            f"definitions need activation cells, but is {settings.alignment!r}."
        )
    if settings.alignment == "growth" and not log_scale(objective, settings) < 0.0:
        raise ValueError(
            'Argument `alignment` must be "residual" for a scale of 1 or more, but is "growth".'
        )
    return settings.alignment if np.any(objective.args.y) else ""


def log_scale(objective: Objective, settings: SmoothSettings) -> float:
    """Return ln λ: as it is given, or that of the parameters' root mean square."""
    given = settings.log_scale
    return math.log(objective.initial_scale) if given is None else given


class AlignmentEnd:
    """Wait for ``||h|| >= threshold ||y||``, or for a unit to grow by λ^(-epsilon)."""

    def __init__(self, objective: Objective, settings: SmoothSettings, watch: str) -> None:
        self.waits = watch != ""
        self._name = {"": "", "residual": "departure", "growth": "growth"}[watch]
        self._goal = settings.alignment_threshold
        if watch == "growth":
            self._goal = -settings.alignment_epsilon * log_scale(objective, settings)

    def reached(self, knot: Knot) -> bool:
        """Whether the phase is over at a state."""
        return self.waits and knot.seen[self._name] >= self._goal

    def within(self, step: Step) -> Generator[Land, Tree, tuple[float, np.ndarray]]:
        """Return when in a step whose end has reached it, and the variables there."""
        excess = lambda knot: knot.seen[self._name] - self._goal  # noqa: E731
        tau = _root(lambda x: excess(step.look(x)), 0.0, step.h)
        other = tau - 1e-4 * step.h if tau > 0.5 * step.h else tau + 1e-4 * step.h
        search = secants(tau, other, 0.0, step.h, 1e-15 * max(step.before.t, step.h))
        x = next(search)
        while True:
            y = yield from step.land(x)
            try:
                x = search.send(excess(step.look(x, y)))
            except StopIteration as end:
                return (tau, step.at(tau)) if end.value is None else (x, y)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function that ends positive becomes so, given that it does."""
    from scipy.optimize import brentq

    if function(low) >= 0.0:
        return low
    return float(brentq(function, low, high, xtol=1e-14 * high, rtol=1e-14))  # pyright: ignore


class PlateauWatch:
    """Find plateaus as steps come, and refine their times.

    A plateau is a local minimum in time of the scale-free speed ``-d ln L/dt`` or, with
    `relative` off, of ``||theta'||^2``, that `flowsim.plateaus.PLATEAU_DEPTH` surrounds.
    """

    def __init__(self, host: Host, *, relative: bool) -> None:
        self.found: list[tuple[float, float]] = []  # time and loss
        self.noise = 0.0  # what ||theta'||^2 is known up to
        self._host, self._relative = host, relative
        self._scan = PlateauScan()
        self._near: list[Knot] = []  # before, at and after the lowest state so far
        self._last: Knot | None = None

    def offer(self, knot: Knot) -> None:
        """Take the next state."""
        noise = self.noise / self._unit(knot)
        found = self._scan.offer(self._speed(knot), noise)
        if len(self._near) == 2:
            self._near.append(knot)
        if self._scan.bottom == self._scan.seen - 1:
            assert self._last is not None  # the first state is never a bottom
            self._near = [self._last, knot]
        self._last = knot
        if found is not None:
            self.found.append(self._refined(*self._near))
            self._near = []

    def _unit(self, knot: Knot) -> float:
        loss = knot.seen["loss"] if self._relative else 1.0
        return loss if loss > 0.0 else np.inf

    def _speed(self, knot: Knot) -> float:
        return knot.seen["speed"] / self._unit(knot)

    def _rise(self, knot: Knot) -> float:
        """Return the logarithmic derivative in time of the speed."""
        _, f, s = knot.true
        f, s = f / np.max(np.abs(f)), s / np.max(np.abs(f))
        return 2.0 * float(f @ s) / float(f @ f) + (self._speed(knot) if self._relative else 0.0)

    def _refined(self, before: Knot, bottom: Knot, after: Knot) -> tuple[float, float]:
        """Return time and loss of the minimum next to the lowest state, on the interpolant."""
        for first, last in ((before, bottom), (bottom, after)):
            if self._rise(first) < 0.0 <= self._rise(last):
                step = Step(self._host, first, last, last.t - first.t)
                tau = _root(lambda x, step=step: self._rise(step.look(x)), 0.0, step.h)
                there = step.look(tau)
                return there.t, there.seen["loss"]
        return bottom.t, bottom.seen["loss"]  # rounding has the last word


class Rest:
    """Suspect that the flow has come to rest.

    ``||theta'|| / ||theta||`` is at most `rtol` times the largest that it has been. So the start
    is never at rest, however small it is: there the largest is the present one. Where a start of
    size λ moves at a speed of order one, as with softplus, that is 1/λ and says nothing about
    later; so a rest must also hold against the Hessian's largest eigenvalue (`against`).

    The quotient of each unit by itself has been considered and left: near a minimum units that
    no longer matter go on shrinking at a constant rate of their own, and the flow would never
    rest; and where units still grow, at a saddle, the Hessian has a negative eigenvalue. But
    whether a flow that does not leave a saddle moves at all is asked unit by unit, since the
    growth of a tiny one is nothing beside the rounding of the others.
    """

    def __init__(self, rtol: float) -> None:
        self.passing = False  # the last rest was a saddle, and the rate has not risen since
        self._rtol = rtol
        self._largest = 0.0
        self._asleep_until = 0.0

    def suspects(self, knot: Knot) -> bool:
        """Take the next state; return whether it may be one of rest."""
        rate = knot.seen["rate"]
        self._largest = max(self._largest, rate)
        limit = self._rtol * self._largest
        if rate > RISEN * limit:
            self.passing, self._asleep_until = False, 0.0
        return rate <= limit and knot.t > self._asleep_until

    def against(self, knot: Knot, largest: float) -> bool:
        """Return whether a suspected rest is one beside the largest eigenvalue there, too."""
        self._largest = min(self._largest, largest)
        return knot.seen["rate"] <= self._rtol * self._largest

    def slow(self, knot: Knot, part: float) -> bool:
        """Whether the rate is at most a part of the largest."""
        return knot.seen["rate"] <= part * self._largest

    def dismiss(self, knot: Knot, escape: float) -> None:
        """Take the state for a saddle that the flow escapes from at the rate `escape`.

        Do not suspect again before the rate has risen, or rounding would have escaped; nor,
        if it has come to that before, until the time has doubled.
        """
        pause = PATIENCE / escape
        self._asleep_until = max(knot.t + pause, 2.0 * knot.t if self.passing else 0.0)
        self.passing = True
