"""Watch a run for the end of its early alignment phase, located inside the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from flowsim._rows import norms
from flowsim.alignment.end import EndRule
from flowsim.engines.record import Flow
from flowsim.events import ALIVE
from flowsim.state import State


class Stretch(Protocol):
    """One accepted step of an engine as a function of the time in it."""

    def residual(self, tau: float) -> np.ndarray:
        """Return r(tau) (n,)."""
        ...

    def rates(self) -> np.ndarray:
        """Return ``||D||`` of the living neurons (or of their groups) at the start."""
        ...


class MovingFlow(Flow, Protocol):
    """A flow that can be looked at inside its present step."""

    def moved(self, e: Any, tau: float, /) -> State:
        """Return what the present state will be after `tau`."""
        ...


class AlignmentWatch:
    """Look, step after step, whether the phase ends under `rule`.

    Parameters
    ----------
    rule : EndRule
    flow : MovingFlow
    start : State, optional
        From which neurons grow, if it is not the present one.
    ended : bool
        The phase is over.
    """

    def __init__(
        self, rule: EndRule, flow: MovingFlow, start: State | None = None, *, ended: bool = False
    ) -> None:
        self.rule = rule
        # With zero labels there is no alignment, and a frozen residual never leaves y.
        never = flow.frozen and rule.definition == "residual"
        self.waits = bool(np.any(flow.cells.y)) and not never and not ended
        self._start = _log_sizes(flow.whole() if start is None else start)

    def end_within(self, flow: MovingFlow, e: Stretch, tau: float) -> float | None:
        """Return when in a step of length `tau` the phase ends, if it does."""
        excess = {
            "residual": self._departure,
            "growth": self._growth,
            "theory": self._time,
        }[self.rule.definition](flow, e)
        x = _first(excess, tau)
        self.waits = x is None
        return x

    def _time(self, flow: MovingFlow, e: Stretch) -> Callable[[float], float]:
        return lambda x: flow.time + x - self.rule.time

    def _departure(self, flow: MovingFlow, e: Stretch) -> Callable[[float], float]:
        y = flow.cells.y
        limit = self.rule.threshold * np.linalg.norm(y)
        return lambda x: float(np.linalg.norm(e.residual(x) - y) - limit)

    def _growth(self, flow: MovingFlow, e: Stretch) -> Callable[[float], float]:
        goal = self.rule.log_growth
        state = flow.whole()
        alive = state.fate == ALIVE
        present = np.max((_log_sizes(state) - self._start)[alive], initial=-np.inf)
        # A neuron grows at most at the rate |D_j|, which changes little in a step.
        fastest = 2.0 * float(e.rates().max(initial=0.0))

        def excess(x: float) -> float:
            if present + fastest * x < goal:
                return -1.0
            grown = _log_sizes(flow.moved(e, x)) - self._start
            return float(np.max(grown[alive], initial=-np.inf) - goal)

        return excess


def _log_sizes(state: State) -> np.ndarray:
    """Return ln |(a_j, w_j)|, -inf for a zero neuron."""
    with np.errstate(divide="ignore"):
        return np.log(norms(state.z)) + state.exponent * np.log(2.0)


def _first(excess: Callable[[float], float], tau: float) -> float | None:
    """Return where in [0, tau] a quantity becomes nonnegative, to the last bit; None if not."""
    if excess(0.0) >= 0.0:
        return 0.0
    if excess(tau) < 0.0:
        return None
    low, high = 0.0, tau
    while low < (mid := 0.5 * (low + high)) < high:
        low, high = (mid, high) if excess(mid) < 0.0 else (low, mid)
    return high
