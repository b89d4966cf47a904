"""Dense output: the state at any time, by restarting from the nearest stored state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.cells import Cells
from flowsim.data import Dataset
from flowsim.engines.piecewise.integrator import Integrator
from flowsim.engines.piecewise.restart import integrator_at
from flowsim.engines.piecewise.step import Step
from flowsim.events import EventLog
from flowsim.network import TwoLayerReLU
from flowsim.state import State

if TYPE_CHECKING:
    from flowsim.solution import States


class Trajectory:
    """The run as a function of time.

    Started from a stored state the integrator takes steps like the run's own, of the same
    tolerance.
    """

    def __init__(
        self, data: Dataset, initial: TwoLayerReLU, settings: dict[str, Any], states: States
    ) -> None:
        self.initial, self.states, self.settings = initial, states, settings
        slope, output = initial.negative_slope, initial(data.X)
        self.cells = Cells.of(data, slope, settings["loss"], output, float(settings["rtol"]))
        self._times = np.ldexp(states.t, self.cells.time_exponent)
        self._integrator: Integrator | None = None
        self._step: Step | None = None

    def network(self, t: float) -> TwoLayerReLU:
        """Return the network at time `t` (in the user's units)."""
        return self._state(t).network(self.initial, self.cells)

    def pattern(self, t: float) -> np.ndarray:
        """Return the activation codes (m, n) at time `t`: -1 off, 0 slide, 1 on."""
        return self.cells.sample_codes(self._state(t).code)

    def _state(self, t: float) -> State:
        """Return the state at time `t`, inside the step that passes it."""
        s = float(np.ldexp(t, self.cells.time_exponent))
        integrator, step = self._at(s)
        if not s > integrator.time:
            return integrator.whole()
        return integrator.moved(step, s - integrator.time - integrator.tail)

    def _at(self, s: float) -> tuple[Integrator, Step]:
        """Return an integrator at the beginning of the step that passes `s`, and that step."""
        row = max(int(np.searchsorted(self._times, s, side="right")) - 1, 0)
        current, step = self._integrator, self._step
        if current is None or current.time > s or self._times[row] > current.time:
            every_event = bool(self.settings.get("every_event", False))
            current = integrator_at(
                self.states, row, self.cells, self.settings, every_event=every_event
            )
            current.unite()
            step = None
        step = step or current.plan(current.expand(), np.inf)
        while s > current.time + step.tau:
            current.take(step, EventLog())
            step = current.plan(current.expand(), np.inf)
        self._integrator, self._step = current, step
        return current, step
