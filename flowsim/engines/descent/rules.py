"""How a gradient becomes a step: the rules of descent, hashable so that equal ones share code."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from flowsim.engines.descent.config import Descent
from flowsim.engines.descent.schedule import own_rate

#: A pytree of arrays.
Tree = Any


@dataclass(frozen=True)
class Rule:
    """An optimizer without its learning rate, which is an argument of compiled code.

    Attributes
    ----------
    name : str
        Of `config.OPTIMIZERS`, or "optax".
    momentum, b1, b2, eps : float
        Of those that have them, else 0.
    transformation : optax.GradientTransformation or None
        With its learning rate inside, of "optax".
    schedule : callable or None
        The learning rate by the step; None if it is constant.
    """

    name: str
    momentum: float = 0.0
    b1: float = 0.0
    b2: float = 0.0
    eps: float = 0.0
    transformation: Any = None
    schedule: Callable[[Any], Any] | None = None

    @classmethod
    def of(cls, engine: Descent) -> Rule:
        """Return the rule of an engine."""
        rate = engine.learning_rate
        name, schedule = engine.name, rate if callable(rate) else None
        if name == "optax":
            return cls(name, transformation=engine.optimizer, schedule=schedule)
        if name == "adam":
            return cls(name, b1=engine.b1, b2=engine.b2, eps=engine.eps, schedule=schedule)
        momentum = engine.momentum if name in ("momentum", "nesterov") else 0.0
        return cls(name, momentum=momentum, schedule=schedule)

    def init(self, params: Tree) -> Tree:
        """Return what the optimizer remembers at the start."""
        return self._direction().init(params)

    def update(
        self, params: Tree, memory: Tree, gradient: Tree, step: Any, rate: Any
    ) -> tuple[Tree, Tree]:
        """Return parameters and memory after a step; `step` counts from 0."""
        change, memory = self._direction().update(gradient, memory, params)
        if self.name == "optax":
            moved = jax.tree.map(lambda p, u: (p + u).astype(p.dtype), params, change)
        else:
            eta = self.rate(step, rate)
            moved = jax.tree.map(lambda p, u: p - eta.astype(p.dtype) * u, params, change)
        return moved, memory

    def rate(self, step: Any, rate: Any) -> Any:
        """Return the learning rate of a step, in float64."""
        return jnp.asarray(rate if self.schedule is None else self.schedule(step), jnp.float64)

    def time(self, steps: Any, rate: Any) -> Any:
        """Return the time after so many steps of a constant rate: the sum of their intervals."""
        mu = self.momentum
        if mu == 0.0:
            return steps * rate
        missing = mu**self._first * -jnp.expm1(steps * math.log(mu)) / (1.0 - mu)
        return rate * ((steps - missing) / (1.0 - mu))

    def interval(self, step: Any, rate: Any) -> Any:
        """Return how far a step of some rate takes time.

        As far as it would a parameter of constant gradient -1: with momentum mu
        ``(1 - mu^(k+1)) / (1 - mu)`` of the rate in step k, with Nesterov's one power more. At
        ``1 / (1 - mu)`` from the start, time would be ahead by ``mu / (1 - mu)^2`` rates.
        """
        mu = self.momentum
        if mu == 0.0:
            return rate
        return rate * (-jnp.expm1((step + self._first) * math.log(mu)) / (1.0 - mu))

    @property
    def _first(self) -> int:
        """The power of mu that is missing in the first step along a constant gradient."""
        return 2 if self.name == "nesterov" else 1

    def _direction(self) -> Any:
        import optax

        if self.name == "optax":
            return self.transformation
        if self.name == "adam":
            return optax.scale_by_adam(self.b1, self.b2, self.eps)
        if self.name == "gd":
            return optax.identity()
        return optax.trace(self.momentum, nesterov=self.name == "nesterov")


def rate_of(engine: Descent, params: Tree) -> float:
    """Return the constant learning rate; that of a transformation is asked of itself.

    0 if there is a schedule. Of a transformation it is `schedule.own_rate`.
    """
    if callable(engine.learning_rate):
        return 0.0
    if engine.learning_rate is not None:
        return float(engine.learning_rate)
    return own_rate(engine.optimizer, params)
