"""The modified flow, which gradient descent follows one order closer than the flow.

    theta' = -grad L - (eta/4) grad |grad L|^2 = -grad (L + (eta/4) |grad L|^2)

(Barrett & Dherin 2021, arXiv:2009.11162; Hairer, Lubich & Wanner, Geometric Numerical Integration,
chapter IX). With ReLU it holds inside activation cells: the new term jumps from one to the next.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowsim.data import Dataset
from flowsim.engines.scipy import Scipy
from flowsim.models.objective import Objective
from flowsim.network import TwoLayerReLU
from flowsim.simulate import simulate
from flowsim.solution import Solution

#: Tolerance and steps of its integration.
RTOL, STEPS = 1e-9, 20_000


def modified_flow(
    net: Any, data: Dataset | None, rate: float, t1: float, loss: str, seconds: float
) -> Solution:
    """Return the run of the modified flow for the learning rate `rate`."""
    objective = Objective.of(smooth(net), data, loss=loss)
    functional, args = objective.functional, jax.tree.map(jnp.asarray, objective.args)

    def changed(parameters: Any) -> Any:
        value, slope = jax.value_and_grad(functional.loss)(parameters, args)
        return value + rate / 4 * sum(jnp.sum(x**2) for x in jax.tree.leaves(slope))

    parameters = jax.tree.map(np.array, objective.parameters)
    return simulate(
        (changed, parameters), engine=Scipy("DOP853"), t1=t1, rtol=RTOL, max_steps=STEPS,
        stationary_rtol=0.0, max_seconds=seconds, state_bytes=2**30,
    )  # fmt: skip


def smooth(net: Any) -> Any:
    """Return a TwoLayerReLU as a model that JAX differentiates; others as they are."""
    if not isinstance(net, TwoLayerReLU):
        return net
    from flowsim.models import TwoLayer

    return TwoLayer.of(net)
