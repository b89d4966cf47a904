"""The user's events in the runs of two-layer ReLU networks, whose engines count in scaled units."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import numpy as np

from flowsim.engines.alignment_watch import MovingFlow
from flowsim.engines.user_events import Hit, UserEvents
from flowsim.network import TwoLayerReLU
from flowsim.state import State


class UserWatch:
    """Watch functions ``g(t, network)`` of a user, with t and the network in their units.

    Parameters
    ----------
    events : UserEvents
    initial : TwoLayerReLU
        Whose slope the networks have.
    """

    def __init__(self, events: UserEvents, initial: TwoLayerReLU) -> None:
        self.events, self.initial = events, initial
        self._flow: MovingFlow | None = None

    def network(self, state: State) -> TwoLayerReLU:
        """Return a state as the network that functions are called with."""
        assert self._flow is not None
        return state.network(self.initial, self._flow.cells)

    def inside(
        self, flow: MovingFlow, e: Any, tau: float
    ) -> Iterator[tuple[Hit, Generator[float, Any, float]]]:
        """Give the zeros in the first `tau` of the step `e`, which starts in the present state.

        Each in scaled time, with a generator that yields times (scaled, from the start of the
        step) at which it needs the network, and returns the refined time.
        """
        self._flow = flow
        unit = flow.cells.time_exponent
        t0, h = float(np.ldexp(flow.time, -unit)), float(np.ldexp(tau, -unit))

        def evaluate(t: float) -> TwoLayerReLU:
            return self.network(flow.moved(e, min(float(np.ldexp(t, unit)), tau)))

        for hit in self.events.inside(evaluate, t0, h):
            yield hit, self._scaled(self.events.refine(hit, t0, h), unit, tau)

    @staticmethod
    def _scaled(
        refining: Generator[float, Any, float], unit: int, tau: float
    ) -> Generator[float, Any, float]:
        answer = None
        while True:
            try:
                t = refining.send(answer)
            except StopIteration as stop:
                return min(float(np.ldexp(stop.value, unit)), tau)
            answer = yield min(float(np.ldexp(t, unit)), tau)
