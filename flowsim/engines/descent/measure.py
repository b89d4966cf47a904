"""What is recorded of a descent's states: loss, speed, rate and living neurons, in float64."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowsim._jax import x64
from flowsim.cells import Cells
from flowsim.data import Dataset
from flowsim.engines.descent.problem import Start
from flowsim.events import ALIVE, DEAD
from flowsim.network import TwoLayerReLU, loss_factor
from flowsim.state import State
from flowsim.stationarity.classify import Snapshot


class Seen(NamedTuple):
    """One row of the history."""

    loss: float
    speed: float
    rate: float
    alive: int


#: Of weights that are infinite, or not numbers, of which there is no network.
LOST = Seen(float("inf"), float("inf"), float("inf"), 0)


def seen_of_model(start: Start, params: Any) -> Seen:
    """Return the loss, ``|grad L|^2`` and ``|grad L| / |theta|`` of a model."""
    assert start.objective is not None
    with x64():
        loss, gradient = _loss_and_gradient(start.objective.functional, params, start.args)
    speed, size = (
        sum(float(np.sum(np.square(x))) for x in jax.tree.leaves(t)) for t in (gradient, params)
    )
    if size == 0.0:  # compared with what the start is, 1 if that is zero too
        size = start.objective.initial_scale**2 * sum(np.size(x) for x in jax.tree.leaves(params))
    rate = np.sqrt(speed / size)
    return Seen(float(loss), speed, float(rate), -1)


@partial(jax.jit, static_argnums=0)
def _loss_and_gradient(functional: Any, params: Any, args: Any) -> Any:
    return jax.value_and_grad(functional.loss)(params, jax.tree.map(jnp.asarray, args))


def seen_of_network(net: TwoLayerReLU, data: Dataset, settings: dict[str, Any]) -> Seen:
    """Return the loss, ``|grad L|^2``, ``max_j |D_j|`` and how many neurons are on somewhere."""
    r = data.y if settings["residual"] == "frozen" else net.residual(data)
    on = net.pattern(data) > 0
    slopes = np.where(on, 1.0, net.negative_slope)
    D = 2 * loss_factor(settings["loss"]) / data.n * ((slopes * r) @ data.X)
    speed = np.sum(np.sum(net.W * D, axis=1) ** 2 + net.a**2 * np.sum(D**2, axis=1))
    alive = np.any(slopes > 0.0, axis=1) & (net.log_norm > -np.inf)
    rates = np.linalg.norm(D[alive], axis=1)
    loss = net.loss(data, loss=settings["loss"])
    return Seen(loss, float(speed), float(np.max(rates, initial=0.0)), int(np.sum(alive)))


def snapshot_of(net: TwoLayerReLU, data: Dataset, cells: Cells) -> Snapshot:
    """Return a network as the verdict needs it; within rounding of a kink a neuron is on it."""
    s = state_of(net, cells)
    r = np.ldexp(net.residual(data), -cells.y_exponent)
    return Snapshot(cells, s.z, s.mass, s.sign, s.balance == 0, s.code, s.fate, r)


def state_of(net: TwoLayerReLU, cells: Cells) -> State:
    """Return the state of a network, whose neurons that are off everywhere are dead."""
    state = State.of(net, cells)
    if cells.slope == 0.0:
        on = np.any(cells.sample_codes(state.code) >= 0, axis=1)
        state.fate[(state.fate == ALIVE) & ~on] = DEAD
    return state
