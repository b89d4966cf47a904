"""The modified flow, which gradient descent follows one order closer than the flow.

    theta' = -grad L - (eta/4) grad |grad L|^2 = -grad (L + (eta/4) |grad L|^2)

(Barrett & Dherin 2021, arXiv:2009.11162; Hairer, Lubich & Wanner, Geometric Numerical Integration,
chapter IX). With ReLU it holds inside activation cells: ``|grad L|^2`` jumps from one to the next,
and where in a step a neuron crosses is an error of the order of eta again.
"""

from __future__ import annotations

import time as clock
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import DOP853

from flowsim._jax import x64
from flowsim.data import Dataset
from flowsim.engines._vectors import Layout
from flowsim.models.objective import Objective
from flowsim.network import TwoLayerReLU

#: Tolerance of its integration, relative to every parameter's size at the start, and evaluations
#: after which it is given up, some 2 s: every crossing of a hyperplane costs many, and slides,
#: which it has not, any number.
RTOL, EVALUATIONS = 1e-9, 20_000


class ModifiedFlow(NamedTuple):
    """The modified flow at some times, as far as it has come.

    Attributes
    ----------
    t : (T,)
    models : list of T models
    status : str
        "t1", or "max_steps" or "max_seconds" where it has been given up.
    """

    t: np.ndarray
    models: list[Any]
    status: str


def modified_flow(
    net: Any, data: Dataset | None, rate: float, t: np.ndarray, loss: str,
    seconds: float = float("inf"),
) -> ModifiedFlow:  # fmt: skip
    """Return the modified flow of the learning rate `rate` at ascending times `t`.

    It is given up after `seconds`.
    """
    began = clock.monotonic()
    objective = Objective.of(smooth(net), data, loss=loss)
    with x64():
        layout = Layout.of(objective.parameters)
        start = layout.flatten(objective.parameters, np)
        args = jax.tree.map(jnp.asarray, objective.args)

        def field(_: float, y: np.ndarray) -> np.ndarray:
            return np.asarray(_velocity(objective.functional, layout, y, args, rate))

        size = np.abs(start) + 1e-3 * np.sqrt(np.mean(start**2))
        solver = DOP853(field, 0.0, start, float(t[-1]) if len(t) else 0.0, rtol=RTOL,
                        atol=RTOL * size)  # fmt: skip
        states = [start for x in t if x <= 0.0]
        late = False
        while len(states) < len(t) and solver.status == "running" and solver.nfev < EVALUATIONS:
            late = clock.monotonic() - began >= seconds
            if late:
                break
            solver.step()
            if t[len(states)] <= solver.t:
                dense = solver.dense_output()
                states += [dense(x) for x in t[len(states) :] if x <= solver.t]
    models = [_like(net, objective.model(layout.unflatten(y))) for y in states]
    given_up = "max_seconds" if late else "max_steps"
    return ModifiedFlow(t[: len(states)], models, "t1" if len(states) == len(t) else given_up)


@partial(jax.jit, static_argnums=(0, 1))
def _velocity(functional: Any, layout: Layout, theta: Any, args: Any, rate: Any) -> Any:
    def changed(theta: Any) -> Any:
        loss = lambda v: functional.loss(layout.unflatten(v), args)  # noqa: E731
        value, slope = jax.value_and_grad(loss)(theta)
        return value + rate / 4 * jnp.sum(slope**2)

    return -jax.grad(changed)(theta)


def smooth(net: Any) -> Any:
    """Return a TwoLayerReLU as a model that JAX differentiates; others as they are."""
    if not isinstance(net, TwoLayerReLU):
        return net
    from flowsim.models import TwoLayer

    return TwoLayer.of(net)


def _like(net: Any, model: Any) -> Any:
    """Return a model of the modified flow as the network that it is of."""
    if isinstance(net, TwoLayerReLU):
        return TwoLayerReLU(model.a, model.W, net.negative_slope)
    return model
