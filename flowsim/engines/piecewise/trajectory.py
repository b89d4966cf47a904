"""Dense output: the state at any time, by restarting from the nearest stored state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.cells import Cells
from flowsim.data import Dataset
from flowsim.engines.piecewise.integrator import Expansion, Integrator
from flowsim.engines.restore import restored
from flowsim.network import TwoLayerReLU

if TYPE_CHECKING:
    from flowsim.solution import States


class Trajectory:
    """The run as a function of time.

    The integrator is deterministic: started from a stored state it takes the run's
    own steps, so dense output has no error of its own.
    """

    def __init__(
        self, data: Dataset, initial: TwoLayerReLU, settings: dict[str, Any], states: States
    ) -> None:
        self.initial, self.states = initial, states
        self.rtol = float(settings["rtol"])
        slope, output = initial.negative_slope, initial(data.X)
        self.cells = Cells.of(data, slope, settings["loss"], output, self.rtol)
        self._times = np.ldexp(states.t, self.cells.time_exponent)
        self.frozen = settings["residual"] == "frozen"
        self._integrator: Integrator | None = None
        self._expansion: Expansion | None = None
        self._ends = 0.0
        self._cause: Any = None

    def network(self, t: float) -> TwoLayerReLU:
        """Return the network at time `t` (in the user's units)."""
        s = float(np.ldexp(t, self.cells.time_exponent))
        integrator = self._at(s)
        tau = s - integrator.time - integrator.tail
        state = integrator.state
        if s > integrator.time and self._expansion is not None:
            state = integrator.moved(self._expansion, tau)
        return state.network(self.initial, self.cells)

    def pattern(self, t: float) -> np.ndarray:
        """Return the activation codes (m, n) at time `t`: -1 off, 0 slide, 1 on."""
        integrator = self._at(float(np.ldexp(t, self.cells.time_exponent)))
        return self.cells.sample_codes(integrator.state.code)

    def _at(self, s: float) -> Integrator:
        """Return an integrator at the last restart at or before `s`, expanded."""
        row = int(np.searchsorted(self._times, s, side="right")) - 1
        row = max(row, 0)
        current = self._integrator
        if current is None or current.time > s or self._times[row] > current.time:
            current = self._restart(row)
        while s > current.time + self._ends:
            self._take_step(current)
        return current

    def _restart(self, row: int) -> Integrator:
        tail = float(np.ldexp(self.states.t_tail[row], self.cells.time_exponent))
        state = restored(self.states, row, self.cells)
        integrator = Integrator(
            self.cells, state, self.rtol, self.frozen, float(self._times[row]), tail
        )
        self._integrator = integrator
        self._look_ahead(integrator)
        return integrator

    def _look_ahead(self, integrator: Integrator) -> None:
        self._expansion = integrator.expand()
        step = self._expansion.step
        self._ends, self._cause = integrator.first_event(self._expansion, step)

    def _take_step(self, integrator: Integrator) -> None:
        assert self._expansion is not None
        integrator.advance(self._expansion, self._ends)
        if self._cause is not None:
            integrator.switch(self._cause)
        self._look_ahead(integrator)
