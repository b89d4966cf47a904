"""What descends: losses of parameters, their gradients, and what is looked at on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowsim.data import Dataset
from flowsim.models.functional import Arguments, Functional, Given
from flowsim.models.objective import Objective
from flowsim.network import TwoLayerReLU, loss_factor
from flowsim.state import BALANCED

#: A pytree of arrays.
Tree = Any


class Weights(NamedTuple):
    """A two-layer ReLU network's weights; neurons are the last axis, which is the fastest."""

    a: Any  # (m,)
    W: Any  # (d, m)


class LogNorm(NamedTuple):
    """The same in coordinates that keep ``a^2 - ||w||^2``.

    `size` is ``ln ||w||``, or a where ``|a| < ||w||``.
    """

    direction: Any  # (d, m), of w
    size: Any  # (m,)


class Kept(NamedTuple):
    """What `LogNorm` does not change: per neuron the sign of a, and the conserved gap."""

    sign: Any  # (m,)
    inner: Any  # (m,) bool: |a| < ||w||
    log_gap: Any  # (m,) ln |a^2 - ||w||^2|, -inf where balanced


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
        square = params.a**2 + jnp.sum(params.W**2, axis=0)
        return 0.5 * jnp.log(square)

    def signs(self, params: Weights, args: Arguments) -> Any:
        """Return whether a is positive (m,)."""
        return params.a > 0

    def retract(self, params: Weights) -> Weights:
        """Return the parameters themselves: all are allowed."""
        return params


@dataclass(frozen=True)
class LogNormLoss:
    """The same loss by direction and log-norm; `gradient` is minus the flow's velocity."""

    slope: float
    frozen: bool

    def _norm(self, params: LogNorm, kept: Kept) -> tuple[Any, Any]:
        """Return ``||w||`` and ``a / ||w||``."""
        q = params.size
        inner = jnp.hypot(q, jnp.exp(0.5 * kept.log_gap))
        outer_ratio = kept.sign * jnp.sqrt(1 + jnp.exp(kept.log_gap - 2 * q))
        norm = jnp.where(kept.inner, inner, jnp.exp(jnp.where(kept.inner, 0, q)))
        return norm, jnp.where(kept.inner, q / inner, outer_ratio)

    def look(self, params: LogNorm, args: Arguments) -> tuple[Any, Any]:
        """Return outputs (n,), and preactivations (n, m) over ``||w||``."""
        pre = args.X @ params.direction
        norm, ratio = self._norm(params, args.constants)
        return jnp.where(pre > 0, pre, self.slope * pre) @ (ratio * norm**2), pre

    def gradient(self, params: LogNorm, args: Arguments) -> LogNorm:
        """Return minus the velocity of the flow in these coordinates."""
        outputs, pre = self.look(params, args)
        r = args.y if self.frozen else args.y - outputs
        slope = jnp.where(pre > 0, jnp.ones((), pre.dtype), jnp.asarray(self.slope, pre.dtype))
        D = args.weight * (args.X.T @ (slope * r[:, None]))
        along = jnp.sum(params.direction * D, axis=0)
        norm, ratio = self._norm(params, args.constants)
        turning = ratio * (D - along * params.direction)
        growth = jnp.where(args.constants.inner, norm, ratio) * along
        return LogNorm(-turning, -growth)

    def sizes(self, params: LogNorm, args: Arguments) -> Any:
        """Return ``ln |(a, w)|`` of each neuron."""
        norm, ratio = self._norm(params, args.constants)
        log_norm = jnp.where(args.constants.inner, jnp.log(norm), params.size)
        return log_norm + 0.5 * jnp.log1p(ratio**2)

    def signs(self, params: LogNorm, args: Arguments) -> Any:
        """Return whether a is positive (m,)."""
        kept = args.constants
        return jnp.where(kept.inner, params.size, kept.sign) > 0

    def retract(self, params: LogNorm) -> LogNorm:
        """Put directions back onto the sphere."""
        norm = jnp.sqrt(jnp.sum(params.direction**2, axis=0))
        return LogNorm(params.direction / norm, params.size)


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

    def retract(self, params: Tree) -> Tree:
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


def log_norm_of(net: TwoLayerReLU) -> tuple[LogNorm, Kept]:
    """Return a network in coordinates that keep ``a^2 - ||w||^2``.

    Raises
    ------
    ValueError
        If some w is zero, whose direction there is none.
    """
    a, w = net.direction[:, 0], net.direction[:, 1:]
    norm = np.linalg.norm(w, axis=1)
    if np.any(norm == 0.0):
        raise ValueError(
            'Argument `net` must have no neuron with w = 0 to descend with coordinates="log_norm", '
            "but has one."
        )
    gap = (np.abs(a) - norm) * (np.abs(a) + norm)
    gap[np.abs(gap) <= BALANCED] = 0.0
    inner = gap < 0.0
    with np.errstate(divide="ignore"):
        log_gap = np.log(np.abs(gap)) + 2 * net.log_norm
    log_w = np.log(norm) + net.log_norm
    size = np.where(inner, net.a, log_w)
    sign = np.where(a < 0, -1.0, 1.0)
    return LogNorm((w / norm[:, None]).T, size), Kept(sign, inner, log_gap)


def network_at(start: Start, params: Tree, like: TwoLayerReLU) -> TwoLayerReLU:
    """Return parameters of a TwoLayerReLU's descent as the network."""
    if isinstance(start.loss, ReluLoss):
        return TwoLayerReLU(params.a, params.W.T, like.negative_slope)
    kept = start.args.constants
    q = params.size
    with np.errstate(over="ignore", divide="ignore"):
        inner = np.hypot(q, np.exp(0.5 * kept.log_gap))
        log_w = np.where(kept.inner, np.log(inner), q)
        ratio = np.where(
            kept.inner, q / inner, kept.sign * np.sqrt(1.0 + np.exp(kept.log_gap - 2 * log_w))
        )
    return TwoLayerReLU(ratio, params.direction.T, like.negative_slope, log_scale=log_w)
