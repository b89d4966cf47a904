"""The weights of a descent at any time: steps taken again from the stored state before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from flowsim._jax import x64
from flowsim.data import Dataset
from flowsim.engines.descent.config import Descent
from flowsim.engines.descent.loop import Going
from flowsim.engines.descent.machine import Machine, Packed
from flowsim.engines.descent.problem import network_at, start_of
from flowsim.network import TwoLayerReLU

if TYPE_CHECKING:
    from flowsim.solution import DescentStates

#: Times that differ by less, relatively, are the same.
_SAME = 4e-16


class DescentTrajectory:
    """The run as a function of time: the weights of the last step at or before it."""

    def __init__(
        self, data: Dataset | None, initial: Any, settings: dict[str, Any], states: DescentStates
    ) -> None:
        self.data, self.initial, self.states = data, initial, states
        self.start = start_of(initial, data, settings)
        engine = states.engine
        try:
            engine = engine or Descent.of(settings)
        except TypeError:  # stored states need no code of the optimizer
            plain = {name: settings[name] for name in ("dtype", "coordinates")}
            engine, self._knows_steps = Descent("gd", 1.0, **plain), False
        else:
            self._knows_steps = True
        self.machine = Machine(self.start, engine)
        self._row = -1
        self._going: Going | None = None

    def network(self, t: float) -> Any:
        """Return the network, or the model, at time `t`.

        Raises
        ------
        ValueError
            Where a descent that diverges has no finite weights any more.
        """
        params = self._params(t)
        if not all(np.all(np.isfinite(x)) for x in jax.tree.leaves(params)):
            raise ValueError(
                "Argument `t` must be a time at which the weights of the descent are finite, but "
                f"at {t:.6g} they are not."
            )
        if isinstance(self.initial, TwoLayerReLU):
            return network_at(self.start, params, self.initial)
        assert self.start.objective is not None
        return self.start.objective.model(params)

    def pattern(self, t: float) -> np.ndarray:
        """Return the activation codes (m, n): the signs of ``w_j . x_k``.

        Raises
        ------
        TypeError
            After a run of a model that has no such patterns.
        """
        if not isinstance(self.initial, TwoLayerReLU):
            raise TypeError("Patterns must be those of a TwoLayerReLU, but this run has none.")
        return self.network(t).pattern(self.data)

    def outputs(self, t: float) -> np.ndarray:
        """Return the outputs of a model at the data, (n,) or (n, p)."""
        objective = self.start.objective
        assert objective is not None
        with x64():
            return np.asarray(objective.outputs(self._params(t), objective.args))

    def loss(self, t: float) -> float:
        """Return the loss of a model."""
        objective = self.start.objective
        assert objective is not None
        with x64():
            return float(objective.loss(self._params(t), objective.args))

    def _params(self, t: float) -> Any:
        s = self.states
        row = max(int(np.searchsorted(s.t, t * (1.0 + _SAME), side="right")) - 1, 0)
        if s.t[row] >= t * (1.0 - _SAME):
            return self.machine.unflat(s.parameters[row])
        if not self._knows_steps:
            raise TypeError(
                f"Argument `t` must be the time of a stored state, of states.t, but is {t:g}, and "
                'a file has no code of the optimizer or schedule; store every step, states="all", '
                "or go on from the file with flowsim.resume(path, engine=...)."
            )
        going = self._going
        if going is None or row != self._row or float(going.time) > t * (1.0 + _SAME):
            going = self.machine.unpacked(packed_of(s, row))
        self._row, self._going = row, self._until(going, t)
        return self.machine.params(self._going)

    def _until(self, going: Going, t: float) -> Going:
        """Return the descent after its last step at or before `t`."""
        passed = self._go(going, np.iinfo(np.int64).max, t * (1.0 - _SAME))
        if float(passed.time) <= t * (1.0 + _SAME):
            return passed
        return self._go(going, int(passed.step) - 1, float("inf"))

    def _go(self, going: Going, last: int, until: float) -> Going:
        """Take steps without looking at what happens."""
        while int(going.step) < last and float(going.time) < until:
            going = self.machine.emptied(self.machine.go(going, last, until, None))
        return going


def packed_of(states: DescentStates, row: int) -> Packed:
    """Return a stored state."""
    return Packed(
        int(states.iteration[row]), float(states.t[row]), float(states.t_tail[row]),
        states.parameters[row], states.memory[row],
    )  # fmt: skip
