"""Dense output of the stepping engines' ReLU runs: the interpolants between stored states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.alignment.end import EndRule
from flowsim.cells import Cells
from flowsim.data import Dataset
from flowsim.engines.cell_flow import CellFlow
from flowsim.engines.frozen import FrozenProblem
from flowsim.engines.problem import Advance, drive
from flowsim.engines.record import Limits
from flowsim.engines.relu import known_rtol, run_cells
from flowsim.engines.restore import restored
from flowsim.engines.state_store import StateStore
from flowsim.engines.stretch import Stretch
from flowsim.network import TwoLayerReLU
from flowsim.state import State

if TYPE_CHECKING:
    from flowsim.solution import States

#: Interpolants may err by this many local errors of the run, relative to each neuron.
_CLOSE = 4.0
#: Steps are halved at most so often for that,
_HALVINGS = 4
#: and not at all where the half takes more steps than this: it is stiff.
_STIFF = 32


class CellTrajectory:
    """The run as a function of time.

    Between states of consecutive steps it is the steps' quintic interpolant, whose velocities
    and accelerations follow from the states. Where that is less accurate than the run, as in
    the long steps of a method of high order, it is split at states that DOP853 lands on. Where
    states have been thinned, the flow is integrated again from the state before, likewise.
    """

    def __init__(
        self, data: Dataset, initial: TwoLayerReLU, settings: dict[str, Any], states: States
    ) -> None:
        self.initial, self.states = initial, states
        self.rtol = float(settings["rtol"])
        slope, output = initial.negative_slope, initial(data.X)
        self.cells = Cells.of(data, slope, settings["loss"], output, known_rtol(settings))
        self._times = np.ldexp(states.t, self.cells.time_exponent)
        self.frozen = settings["residual"] == "frozen"
        self._row = -1
        self._pieces: tuple[CellFlow, list[Stretch]] | None = None

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
        last = len(self._times) - 1
        if row == last or tau <= 0.0:
            flow = CellFlow(self.cells, restored(self.states, row, self.cells), self.frozen)
            if 0 < row < last:  # the ends are what they are, to the last bit
                flow.settle()
            return flow.state
        if self.states.step[row + 1] > self.states.step[row] + 1:
            return self._replayed(row, tau)
        flow, pieces = self._between(row)
        for piece in pieces[:-1]:
            if tau <= piece.h:
                return flow.moved(piece, tau)
            tau -= piece.h
        return flow.moved(pieces[-1], tau)

    def _tail(self, row: int) -> float:
        return float(np.ldexp(self.states.t_tail[row], self.cells.time_exponent))

    def _between(self, row: int) -> tuple[CellFlow, list[Stretch]]:
        """Return the step from one stored state to the next, in the cells of the first."""
        if self._pieces is None or self._row != row:
            flow = CellFlow(self.cells, restored(self.states, row, self.cells), self.frozen)
            after = restored(self.states, row + 1, self.cells)
            z_end = np.ldexp(after.z, (after.exponent - flow.state.exponent)[:, None])
            h = self._times[row + 1] - self._times[row] + self._tail(row + 1) - self._tail(row)
            step = Stretch(flow.cell(), flow.state.z, z_end, float(h))
            self._row, self._pieces = row, (flow, self._split(step, _HALVINGS))
        return self._pieces

    def _split(self, step: Stretch, halvings: int) -> list[Stretch]:
        """Return the step in pieces whose interpolants are as accurate as the run."""
        from flowsim.engines.scipy import Scipy, ScipyStepper

        half = 0.5 * step.h
        request = Advance(_Unfenced(False), step.z, step.cell, half, half, _STIFF)
        answer = ScipyStepper(Scipy("DOP853"), self.rtol).advance(request)
        middle = answer.y[-1]
        error = np.linalg.norm(step.at(half) - middle, axis=1)
        close = np.all(error <= _CLOSE * self.rtol * np.linalg.norm(middle, axis=1))
        if close or halvings == 0 or answer.t[-1] < half:
            return [step]
        first = Stretch(step.cell, step.z, middle, half)
        second = Stretch(step.cell, middle, step.z_end, step.h - half)
        return self._split(first, halvings - 1) + self._split(second, halvings - 1)

    def _replayed(self, row: int, tau: float) -> State:
        from flowsim.engines.scipy import Scipy, ScipyStepper

        flow = CellFlow(self.cells, restored(self.states, row, self.cells), self.frozen)
        limits = Limits(tau, 0.0, 2**62, float("inf"))
        never = EndRule("theory", 0.0, 0.0, float("inf"))
        driver = run_cells(flow, FrozenProblem(False), limits, never, StateStore(1, "ends"))
        drive(driver, ScipyStepper(Scipy("DOP853"), self.rtol))
        return flow.state


class _Unfenced(FrozenProblem):
    """The frozen field, which no step leaves."""

    def leaves(self, before: Any, after: Any, h: Any, args: Any) -> bool:
        """Return False."""
        return False
