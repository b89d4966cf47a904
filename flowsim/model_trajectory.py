"""Dense output of a model's run: the quintic interpolants between stored states."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from flowsim._jax import x64
from flowsim.engines._vectors import Layout
from flowsim.engines.hermite import coefficients, evaluate
from flowsim.models.objective import Objective

if TYPE_CHECKING:
    from flowsim.data import Dataset
    from flowsim.solution import ModelStates


class ModelTrajectory:
    """The run as a function of time.

    Parameters
    ----------
    model : Any
        As `flowsim.simulate` has been given it.
    data : Dataset or None
    settings : dict
    states : ModelStates
    """

    def __init__(
        self, model: Any, data: Dataset | None, settings: dict[str, Any], states: ModelStates
    ) -> None:
        self.states = states
        self.objective = Objective.of(
            model, data, loss=settings["loss"], residual=settings["residual"]
        )
        self.layout = Layout.of(self.objective.parameters)

    def parameters(self, t: float) -> np.ndarray:
        """Return all parameters (P,) at time `t`, in the order of the model's leaves.

        Raises
        ------
        ValueError
            Between stored states of a run whose steps have not all been stored.
        """
        s = self.states
        row = max(int(np.searchsorted(s.t, t, side="right")) - 1, 0)
        if t == s.t[row] or row + 1 == len(s.t):
            return s.parameters[row].copy()
        if s.step[row + 1] > s.step[row] + 1:
            raise ValueError(
                "Argument `t` must be one of states.t, since this run has stored only some of its "
                f"states, but is {t:.6g}; raise state_bytes."
            )
        h = float(s.t[row + 1] - s.t[row])
        before, after = (
            (s.parameters[i], s.velocity[i], s.acceleration[i]) for i in (row, row + 1)
        )
        return evaluate(coefficients(before, after, h), (t - s.t[row]) / h)

    def network(self, t: float) -> Any:
        """Return the model at time `t`, its arrays as NumPy's."""
        return self.objective.model(self.layout.unflatten(self.parameters(t)))

    def outputs(self, t: float) -> np.ndarray:
        """Return the outputs at the data, (n,) or (n, p)."""
        objective = self.objective
        with x64():
            theta = self.layout.unflatten(self.parameters(t))
            return np.asarray(_outputs(objective.functional, theta, objective.args))

    def loss(self, t: float) -> float:
        """Return the loss."""
        objective = self.objective
        with x64():
            theta = self.layout.unflatten(self.parameters(t))
            return float(compiled_loss(objective.functional, theta, objective.args))


@partial(jax.jit, static_argnums=0)
def _outputs(functional: Any, parameters: Any, args: Any) -> Any:
    return functional.outputs(parameters, args)


@partial(jax.jit, static_argnums=0)
def compiled_loss(functional: Any, parameters: Any, args: Any) -> Any:
    """Return an objective's loss, compiled once for all models of one functional."""
    return functional.loss(parameters, args)
