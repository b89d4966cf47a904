"""Small systems for the tests of steppers, and how to follow them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowsim.engines.diffrax import Diffrax, DiffraxStepper
from flowsim.engines.problem import Advance, Steps, Work

#: How often a class of problems has been traced.
TRACES: Counter[str] = Counter()


class System:
    """What the test systems share: entries are units, sizes absolute values."""

    def field(self, t: Any, y: Any, args: Any) -> Any:
        raise NotImplementedError

    def jet(self, y: Any, args: Any) -> tuple[Any, Any]:
        TRACES[type(self).__name__] += 1
        field = lambda y: self.field(0.0, y, args)  # noqa: E731
        return jax.jvp(field, (y,), (field(y),))

    def size(self, y: Any, args: Any) -> Any:
        return jax.tree.map(lambda x: jnp.maximum(jnp.abs(x), 1e-300), y)

    def observe(self, y: Any, f: Any, args: Any) -> dict[str, Any]:
        return {"sum": sum(jnp.sum(leaf) for leaf in jax.tree.leaves(y))}

    def leaves(self, before: Any, after: Any, h: Any, args: Any) -> Any:
        return jnp.asarray(False)


@dataclass(frozen=True)
class Linear(System):
    """y' = A y in one unit: y(t) = exp(tA) y(0)."""

    def field(self, t: Any, y: Any, args: Any) -> Any:
        return args @ y

    def size(self, y: Any, args: Any) -> Any:
        return jnp.linalg.norm(y, keepdims=True)


@dataclass(frozen=True)
class Logistic(System):
    """y' = rate y (1 - y), a pytree of independent ones."""

    def field(self, t: Any, y: Any, args: Any) -> Any:
        return jax.tree.map(lambda x: args * x * (1.0 - x), y)

    @staticmethod
    def exact(y: Any, t: Any, rate: Any = 1.0) -> Any:
        return y / (y + (1.0 - y) * np.exp(-rate * t))


@dataclass(frozen=True)
class Crowded(System):
    """y' = rate y (1 - y / capacity), with args = (rate, capacity)."""

    def field(self, t: Any, y: Any, args: Any) -> Any:
        rate, capacity = args
        return rate * y * (1.0 - y / capacity)


@dataclass(frozen=True)
class Counted(Logistic):
    """A class of its own, whose traces nobody else adds to."""


@dataclass(frozen=True)
class Slaved(System):
    """A slow logistic variable u, and fast ones that follow u^2 at the rates `args`."""

    def field(self, t: Any, y: Any, args: Any) -> Any:
        u = y[0]
        return jnp.concatenate([(u * (1.0 - u))[None], -args * (y[1:] - u * u)])

    def size(self, y: Any, args: Any) -> Any:
        return jnp.ones_like(y)


@dataclass(frozen=True)
class ReLUCell(System):
    """Two-layer ReLU network with frozen pattern: z (m, d+1), args = (X, y, pattern)."""

    def field(self, t: Any, y: Any, args: Any) -> Any:
        X, labels, pattern = args
        a, w = y[:, 0], y[:, 1:]
        r = labels - a @ (pattern * (w @ X.T))
        D = (pattern * r) @ X / len(labels)
        return jnp.concatenate([jnp.sum(w * D, axis=1)[:, None], a[:, None] * D], axis=1)

    def size(self, y: Any, args: Any) -> Any:
        return jnp.linalg.norm(y, axis=1, keepdims=True)


@dataclass(frozen=True)
class Walled(System):
    """y' = 1 up to y = 1, where there is no number any more."""

    def field(self, t: Any, y: Any, args: Any) -> Any:
        return jnp.where(y < 1.0, 1.0, jnp.nan)


@dataclass(frozen=True)
class Blind(System):
    """y' = 1, whose acceleration is no number beyond y = 1."""

    def field(self, t: Any, y: Any, args: Any) -> Any:
        return jnp.ones_like(y)

    def jet(self, y: Any, args: Any) -> tuple[Any, Any]:
        return jnp.ones_like(y), jnp.where(y < 1.0, 0.0, jnp.nan)


@dataclass(frozen=True)
class Explosion(System):
    """y' = y^2 from y(0) = 1, which is infinite at t = 1."""

    def field(self, t: Any, y: Any, args: Any) -> Any:
        return y * y


@dataclass(frozen=True)
class Fenced(Logistic):
    """Left as soon as a step ends beyond `args`' half."""

    def leaves(self, before: Any, after: Any, h: Any, args: Any) -> Any:
        return after.y[0] > 0.5


def follow(
    stepper: DiffraxStepper, problem: Any, y: Any, args: Any, span: float
) -> tuple[Any, Work]:
    """Take steps to the end of the span; return the last state and the work."""
    h, work, rest = None, Work(), span
    while rest > 0.0:
        steps = stepper.advance(Advance(problem, y, args, rest, h, 10**6))
        assert not steps.failure
        work.add(steps)
        y, h, rest = jax.tree.map(lambda x: x[-1], steps.y), steps.h, rest - steps.t[-1]
    return y, work


def once(name: Any, request: Advance, rtol: float = 1e-8, **options: Any) -> Steps:
    return DiffraxStepper(Diffrax(name, **options), rtol).advance(request)


def relu_cell() -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(4)
    X = rng.normal(size=(5, 2))
    z = rng.normal(size=(3, 3))
    return z, (X, rng.normal(size=5), (z[:, 1:] @ X.T > 0.0).astype(float))
