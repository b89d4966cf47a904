"""The present state of a two-layer ReLU network's run on a stepping engine."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from flowsim.cells import Cells
from flowsim.engines.frozen import FrozenCell
from flowsim.engines.problem import Work
from flowsim.engines.stretch import Split, Stretch
from flowsim.engines.switching import Switching
from flowsim.state import State


@dataclass(eq=False)
class CellFlow:
    """The present state of a run; `flowsim.engines.record.Flow` has the attributes."""

    cells: Cells
    state: State
    frozen: bool = False
    time: float = 0.0
    tail: float = 0.0
    drift: float = 0.0
    work: Work = field(default_factory=Work)
    switching: Switching = field(init=False)

    def __post_init__(self) -> None:
        self.switching = Switching(self.cells, self.state, self.residual)

    def cell(self) -> FrozenCell:
        """Return the present cells as the frozen field needs them."""
        return FrozenCell.of(self.cells, self.state, self.switching.groups, frozen=self.frozen)

    def residual(self) -> np.ndarray:
        """Return the residual (n,) of the present state, or y where it is frozen."""
        if self.frozen:
            return self.cells.y.copy()
        groups, state = self.switching.groups, self.state
        live = np.flatnonzero(groups.slot >= 0)
        u = groups.coefficients(groups.slot[live]) * (state.z[live, 1:] @ self.cells.X.T)
        return self.cells.y - (state.mass[live] * state.z[live, 0]) @ u

    def whole(self) -> State:
        """Return the state of all neurons."""
        return self.state

    def return_to(self, state: State) -> None:
        """Put all neurons back where they were, as the end of a run."""
        self.state = state

    def moved(self, e: Stretch | Split, tau: float) -> State:
        """Return what the present state will be after `tau` in the step `e`."""
        state = self.state.copy()
        state.z = e.at(tau)
        self._settle(state)
        return state

    def settle(self) -> None:
        """Put every neuron back onto its slides and its conserved ``a^2 - ||w||^2``."""
        self.drift = max(self.drift, self._settle(self.state))

    def _settle(self, state: State) -> float:
        groups = self.switching.groups
        moving = np.flatnonzero(groups.slot >= 0)
        for j in moving[groups.projected[groups.slot[moving]]]:
            state.z[j, 1:] = groups.projector[groups.slot[j]] @ state.z[j, 1:]
        return state.settle()

    def forward(self, tau: float, t1: float) -> None:
        """Move the clock by `tau` (Neumaier's sum), exactly onto `t1` if that is its end."""
        total = self.time + tau
        part = total - self.time
        self.tail += (self.time - (total - part)) + (tau - part)
        self.time = total + self.tail
        self.tail -= self.time - total
        if t1 - self.time - self.tail <= 4e-16 * self.time:
            self.time, self.tail = t1, 0.0
