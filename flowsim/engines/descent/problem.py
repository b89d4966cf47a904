"""What descends: losses of parameters, their gradients, and what is looked at on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowsim.data import Dataset
from flowsim.engines.descent.log_norm import LogNormLoss, log_norm_of, network_of
from flowsim.models.functional import Arguments, Functional, Given
from flowsim.models.objective import Objective
from flowsim.network import TwoLayerReLU, loss_factor

#: A pytree of arrays.
Tree = Any


class Weights(NamedTuple):
    """A two-layer ReLU network's weights; neurons are the last axis, which is the fastest."""

    a: Any  # (m,)
    W: Any  # (d, m)


@dataclass(frozen=True)
class ReluLoss:
    """The loss of a two-layer (leaky) ReLU network, by its weights.

    ``grad_a = -w.D, grad_w = -a D`` with ``D_j = weight sum_k sigma'(w_j.x_k) r_k x_k``.
    """

    slope: float
    frozen: bool

    def look(self, params: Weights, args: Arguments) -> tuple[Any, Any]:
        """Return outputs (n,) and preactivations (n, m)."""
        pre = args.X @ params.W
        return jnp.where(pre > 0, pre, self.slope * pre) @ params.a, pre

    def field(self, params: Weights, args: Arguments) -> Any:
        """Return D (d, m)."""
        outputs, pre = self.look(params, args)
        r = args.y if self.frozen else args.y - outputs
        slope = jnp.where(pre > 0, jnp.ones((), pre.dtype), jnp.asarray(self.slope, pre.dtype))
        return args.weight * (args.X.T @ (slope * r[:, None]))

    def gradient(self, params: Weights, args: Arguments) -> Weights:
        """Return the gradient of the loss."""
        D = self.field(params, args)
        return Weights(-jnp.sum(params.W * D, axis=0), -params.a * D)

    def sizes(self, params: Weights, args: Arguments) -> Any:
        """Return ``ln |(a, w)|`` of each neuron."""
        rows = jnp.concatenate([params.a[None], params.W])
        top = jnp.max(jnp.abs(rows), axis=0)  # squares of small weights would underflow
        unit = rows / jnp.where(top > 0, top, 1)
        return jnp.log(top) + 0.5 * jnp.log(jnp.sum(unit**2, axis=0))

    def signs(self, params: Weights, args: Arguments) -> Any:
        """Return whether a is positive (m,)."""
        return params.a > 0

    def retract(self, params: Weights, before: Weights, args: Arguments) -> Weights:
        """Return the parameters themselves: all are allowed."""
        return params


@dataclass(frozen=True)
class ModelLoss:
    """The loss of any model, or a given one, by automatic differentiation."""

    functional: Functional

    def gradient(self, params: Tree, args: Arguments) -> Tree:
        """Return the gradient of the loss."""
        return jax.grad(self.functional.loss)(params, args)

    def look(self, params: Tree, args: Arguments) -> tuple[Any, Any]:
        """Return outputs, and nothing of patterns."""
        if isinstance(self.functional, Given):
            return jnp.zeros(0), None
        return self.functional.outputs(params, args), None

    def retract(self, params: Tree, before: Tree, args: Arguments) -> Tree:
        """Return the parameters themselves."""
        return params


Loss = ReluLoss | LogNormLoss | ModelLoss


@dataclass(frozen=True, eq=False)
class Start:
    """What a descent starts from.

    Attributes
    ----------
    loss : Loss
    params : pytree of float64 arrays
    args : Arguments
        In float64.
    objective : Objective or None
        Of a model; None for a TwoLayerReLU.
    """

    loss: Loss
    params: Tree
    args: Arguments
    objective: Objective | None = None


def start_of(net: Any, data: Dataset | None, settings: dict[str, Any]) -> Start:
    """Return what descends, given what `simulate` has been given.

    Raises
    ------
    ValueError, TypeError
        If the network cannot be held in the coordinates asked for.
    """
    frozen = settings["residual"] == "frozen"
    if not isinstance(net, TwoLayerReLU):
        if settings["coordinates"] != "weights":
            raise ValueError(
                'Argument `coordinates` must be "weights" but for a TwoLayerReLU, but is '
                f"{settings['coordinates']!r}."
            )
        objective = Objective.of(net, data, loss=settings["loss"], residual=settings["residual"])
        loss = ModelLoss(objective.functional)
        return Start(loss, objective.parameters, objective.args, objective)
    assert data is not None  # a TwoLayerReLU has data
    weight = np.asarray(2 * loss_factor(settings["loss"]) / data.n)
    if settings["coordinates"] == "log_norm":
        params, kept = log_norm_of(net)
        args = Arguments(data.X, data.y, weight, kept)
        return Start(LogNormLoss(net.negative_slope, frozen), params, args)
    smallest, largest = (
        np.log(np.finfo(settings["dtype"]).tiny),
        np.log(np.finfo(settings["dtype"]).max),
    )
    sizes = net.log_norm[net.log_norm > -np.inf]
    if np.any((sizes < smallest) | (sizes > largest)):
        raise ValueError(
            f"Argument `net` must have neurons whose norms fit into {settings['dtype']} to descend "
            'in its weights, but has not; use coordinates="log_norm".'
        )
    args = Arguments(data.X, data.y, weight, ())
    return Start(ReluLoss(net.negative_slope, frozen), Weights(net.a, net.W.T), args)


def network_at(start: Start, params: Tree, like: TwoLayerReLU) -> TwoLayerReLU:
    """Return parameters of a TwoLayerReLU's descent as the network."""
    if isinstance(start.loss, ReluLoss):
        return TwoLayerReLU(params.a, params.W.T, like.negative_slope)
    return network_of(params, start.args.constants, like.negative_slope)
