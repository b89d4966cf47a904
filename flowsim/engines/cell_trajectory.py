"""Dense output of the stepping engines' ReLU runs: the interpolants between stored states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.alignment.end import EndRule
from flowsim.cells import Cells
from flowsim.data import Dataset
from flowsim.engines.frozen import FrozenProblem
from flowsim.engines.problem import drive
from flowsim.engines.record import Limits, StateStore
from flowsim.engines.relu import CellFlow, run_cells
from flowsim.engines.restore import restored
from flowsim.engines.stretch import Stretch
from flowsim.network import TwoLayerReLU
from flowsim.state import State

if TYPE_CHECKING:
    from flowsim.solution import States

#: Bytes of states kept while a stretch is integrated again: its ends.
_REPLAY_BYTES = 1


class CellTrajectory:
    """The run as a function of time.

    Between states of consecutive steps it is the steps' quintic interpolant, whose velocities
    and accelerations follow from the states. Where states have been thinned, the flow is
    integrated again from the state before, by DOP853 at the run's tolerance.
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
        self._row = -1
        self._step: tuple[CellFlow, Stretch] | None = None

    def network(self, t: float) -> TwoLayerReLU:
        """Return the network at time `t` (in the user's units)."""
        return self._state(t).network(self.initial, self.cells)

    def pattern(self, t: float) -> np.ndarray:
        """Return the activation codes (m, n) at time `t`: -1 off, 0 slide, 1 on."""
        return self.cells.sample_codes(self._state(t).code)

    def _state(self, t: float) -> State:
        s = float(np.ldexp(t, self.cells.time_exponent))
        row = max(int(np.searchsorted(self._times, s, side="right")) - 1, 0)
        tau = s - self._times[row] - self._tail(row)
        if row + 1 == len(self._times) or tau <= 0.0:
            return restored(self.states, row, self.cells)
        if self.states.step[row + 1] > self.states.step[row] + 1:
            return self._replayed(row, tau)
        flow, step = self._between(row)
        return flow.moved(step, tau)

    def _tail(self, row: int) -> float:
        return float(np.ldexp(self.states.t_tail[row], self.cells.time_exponent))

    def _between(self, row: int) -> tuple[CellFlow, Stretch]:
        """Return the step from one stored state to the next, in the cells of the first."""
        if self._step is None or self._row != row:
            flow = CellFlow(self.cells, restored(self.states, row, self.cells), self.frozen)
            after = restored(self.states, row + 1, self.cells)
            z_end = np.ldexp(after.z, (after.exponent - flow.state.exponent)[:, None])
            h = self._times[row + 1] - self._times[row] + self._tail(row + 1) - self._tail(row)
            step = Stretch(flow.cell(), flow.state.z, z_end, float(h))
            self._row, self._step = row, (flow, step)
        return self._step

    def _replayed(self, row: int, tau: float) -> State:
        from flowsim.engines.scipy import Scipy, ScipyStepper

        flow = CellFlow(self.cells, restored(self.states, row, self.cells), self.frozen)
        limits = Limits(tau, 0.0, 2**62, float("inf"))
        never = EndRule("theory", 0.0, 0.0, float("inf"))
        driver = run_cells(flow, FrozenProblem(False), limits, never, StateStore(_REPLAY_BYTES))
        drive(driver, ScipyStepper(Scipy("DOP853"), self.rtol))
        return flow.state
