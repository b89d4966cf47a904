"""Descent of a two-layer ReLU network in coordinates that keep ``a^2 - ||w||^2``.

With ``G = |a^2 - ||w||^2|`` the larger one of |a| and ||w|| is ``sqrt(G) cosh rho``, the smaller
one ``sqrt(G) sinh rho``, and ``ln(|a| + ||w||) = ln sqrt(G) + rho``. In the flow, u = w / ||w||,

    rho' = sign(a) u.D,     u' = (a / ||w||) (D - (u.D) u),

so that a changes its sign where it is the smaller one and rho passes 0, and nowhere else. Where
||w|| is the smaller one, w passes 0 there, at which u is no coordinate: near it the vector rho u,
whose velocity ``sign(a) ((u.D) u + rho coth(rho) (D - (u.D) u))`` is regular, takes the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from flowsim.models.functional import Arguments
from flowsim.network import TwoLayerReLU
from flowsim.state import BALANCED

#: rho up to which w takes its steps as a vector.
NEAR = 1.0
#: The smallest rho of a neuron with ||w|| < |a|, in units in the last place of its coordinate.
SMALLEST = 4.0


class LogNorm(NamedTuple):
    """Directions of w, ``ln(|a| + ||w||)``, and signs of a; neurons are the last axis."""

    direction: Any  # (d, m)
    size: Any  # (m,)
    sign: Any  # (m,)


class Kept(NamedTuple):
    """What `LogNorm` does not change: per neuron the conserved gap."""

    inner: Any  # (m,) bool: |a| < ||w||
    log_root: Any  # (m,) ln sqrt|a^2 - ||w||^2|, -inf where balanced


@dataclass(frozen=True)
class LogNormLoss:
    """The loss by `LogNorm`; `gradient` is minus the flow's velocity."""

    slope: float
    frozen: bool

    def look(self, params: LogNorm, args: Arguments) -> tuple[Any, Any]:
        """Return outputs (n,), and preactivations (n, m) over ``||w||``."""
        pre = args.X @ params.direction
        less, more = _parts(params, args.constants, jnp)
        product = params.sign * less * more * jnp.exp(2 * params.size) / 4  # a ||w||
        return jnp.where(pre > 0, pre, self.slope * pre) @ product, pre

    def gradient(self, params: LogNorm, args: Arguments) -> LogNorm:
        """Return minus the velocity of the flow in these coordinates."""
        outputs, pre = self.look(params, args)
        r = args.y if self.frozen else args.y - outputs
        slope = jnp.where(pre > 0, jnp.ones((), pre.dtype), jnp.asarray(self.slope, pre.dtype))
        D = args.weight * (args.X.T @ (slope * r[:, None]))
        along = jnp.sum(params.direction * D, axis=0)
        turning = _ratio(params, args.constants) * (D - along * params.direction)
        return LogNorm(-turning, -params.sign * along, jnp.zeros_like(params.sign))

    def sizes(self, params: LogNorm, args: Arguments) -> Any:
        """Return ``ln |(a, w)|`` of each neuron."""
        less, more = _parts(params, args.constants, jnp)
        return params.size + 0.5 * jnp.log((less**2 + more**2) / 4)

    def signs(self, params: LogNorm, args: Arguments) -> Any:
        """Return whether a is positive (m,)."""
        return _ratio(params, args.constants) > 0

    def retract(self, params: LogNorm, before: LogNorm, args: Arguments) -> LogNorm:
        """Put directions back onto the sphere, and rho to where it is not negative."""
        kept = args.constants
        balanced = kept.log_root == -jnp.inf
        root = jnp.where(balanced, 0, kept.log_root)
        rho, old = params.size - root, before.size - root
        direction = params.direction / jnp.sqrt(jnp.sum(params.direction**2, axis=0))
        # The smaller of both is w: a step of the vector rho u, of which `params` has the parts.
        vector = rho * before.direction + old * (params.direction - before.direction)
        length = jnp.sqrt(jnp.sum(vector**2, axis=0))
        eps = jnp.finfo(rho.dtype).eps
        least = SMALLEST * eps * jnp.maximum(jnp.abs(root), 1)  # at rho = 0 there is no direction
        near = ~kept.inner & ~balanced & (jnp.minimum(rho, old) < NEAR)
        held = jnp.where(length > 0, vector / length, before.direction)
        # The smaller one is a: it changes its sign.
        turned = kept.inner & (rho < 0)
        return LogNorm(
            jnp.where(near, held, direction),
            jnp.where(near, root + jnp.maximum(length, least), jnp.where(turned, root - rho,
                                                                        params.size)),
            jnp.where(turned, -before.sign, before.sign),
        )  # fmt: skip


def _parts(params: LogNorm, kept: Kept, xp: Any) -> tuple[Any, Any]:
    """Return the smaller and the larger one of |a| and ||w||, over half of their sum."""
    power = 2 * (kept.log_root - params.size)
    return -xp.expm1(power), 1 + xp.exp(power)


def _ratio(params: LogNorm, kept: Kept) -> Any:
    """Return ``a / ||w||``."""
    less, more = _parts(params, kept, jnp)
    return params.sign * jnp.where(kept.inner, less / more, more / less)


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
    with np.errstate(divide="ignore"):
        log_root = 0.5 * np.log(np.abs(gap)) + net.log_norm
    size = np.log(np.abs(a) + norm) + net.log_norm
    sign = np.where(a < 0, -1.0, 1.0)
    return LogNorm((w / norm[:, None]).T, size, sign), Kept(gap < 0.0, log_root)


def network_of(params: LogNorm, kept: Kept, negative_slope: float) -> TwoLayerReLU:
    """Return the network."""
    less, more = _parts(params, kept, np)
    a, norm = np.where(kept.inner, less, more), np.where(kept.inner, more, less)
    return TwoLayerReLU(
        params.sign * a, (norm * params.direction).T, negative_slope,
        log_scale=params.size - np.log(2.0),
    )  # fmt: skip
