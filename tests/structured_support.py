"""Two-layer problems for the structured implicit steps, written without any structure."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from flowsim.engines.structured import FrozenTwoLayer, SmoothTwoLayer


class Cell(NamedTuple):
    X: Any
    y: Any
    weight: Any
    coef: Any
    slides: Any
    mass: Any
    alive: Any
    feels: Any


@dataclass(frozen=True)
class Frozen:
    """The field of a frozen cell, written without any of the structure."""

    def field(self, t: Any, z: Any, args: Cell) -> Any:
        a, W = z[:, 0], z[:, 1:]
        h = jnp.einsum("j,j,jk,jd,kd->k", args.mass, a, args.coef, W, args.X)
        r = args.y - args.feels * h
        D = args.weight * jnp.einsum("jk,k,kd->jd", args.coef, r, args.X)
        D = D - jnp.einsum("jsd,jse,je->jd", args.slides, args.slides, D)
        rates = jnp.concatenate([jnp.sum(W * D, axis=1)[:, None], a[:, None] * D], axis=1)
        return args.alive[:, None] * rates

    def two_layer(self, z: Any, args: Cell) -> FrozenTwoLayer:
        return FrozenTwoLayer(
            a=z[:, 0],
            W=z[:, 1:],
            X=args.X,
            labels=args.y,
            weight=args.weight,
            coef=args.coef,
            mass=args.mass,
            alive=args.alive,
            slides=args.slides,
            feels=args.feels,
        )


class Data(NamedTuple):
    X: Any
    y: Any
    weight: Any
    scale: Any


@dataclass(frozen=True)
class Smooth:
    """Gradient flow of a two-layer network in scaled variables {"W": (m, d), "a": (m[, p])}."""

    phi: Callable[[Any], Any]
    feels: float = 1.0

    def loss(self, theta: Any, args: Data) -> Any:
        h = self.phi(args.X @ theta["W"].T) @ theta["a"]
        weight = args.weight.reshape((-1,) + (1,) * (h.ndim - 1))
        if self.feels:
            return jnp.sum(weight * (args.y - h) ** 2) / 2
        return -jnp.sum(weight * args.y * h)

    def field(self, t: Any, y: Any, args: Data) -> Any:
        scale = jax.tree.map(lambda x: args.scale.reshape((-1,) + (1,) * (x.ndim - 1)), y)
        theta = jax.tree.map(jnp.multiply, scale, y)
        return jax.tree.map(lambda g, s: -g / s, jax.grad(self.loss)(theta, args), scale)

    def two_layer(self, y: Any, args: Data) -> SmoothTwoLayer:
        return SmoothTwoLayer(
            a=y["a"],
            W=y["W"],
            X=args.X,
            labels=args.y,
            weight=args.weight,
            scale=args.scale,
            phi=self.phi,
            feels=self.feels,
        )


@dataclass(frozen=True)
class Opaque:
    """A problem with no structure that anyone knows of."""

    inner: Any

    def field(self, t: Any, y: Any, args: Any) -> Any:
        return self.inner.field(t, y, args)


@dataclass(frozen=True)
class Undeclared(Opaque):
    """One that has the method, but is no two-layer network."""

    def two_layer(self, y: Any, args: Any) -> None:
        return None


def squared_relu(u):
    return jnp.where(u > 0, u, 0.0) ** 2


def sharp_softplus(u):
    return jax.nn.softplus(30.0 * u) / 30.0


def gelu(u):
    return jax.nn.gelu(u, approximate=False)


ACTIVATIONS = (gelu, jnp.tanh, squared_relu, sharp_softplus)


def cell(seed, m=9, n=11, d=4, s=2, feels=1.0, leak=0.0):
    """Return a random cell with slides, dead neurons and two neurons of no mass, and a state."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    coef = np.where(rng.random((m, n)) < 0.6, 1.0, leak)
    slides = np.zeros((m, s, d))
    for j in range(0, m, 3):
        count = rng.integers(0, s + 1)
        slides[j, :count] = np.linalg.qr(rng.standard_normal((d, d)))[0][:count]
    mass = np.exp2(rng.integers(-6, 2, m))
    mass[:2] = 1e-300, 0.0
    alive = np.ones(m)
    alive[-2:] = 0.0
    z = rng.standard_normal((m, d + 1))
    y = rng.standard_normal(n)
    return z, Cell(X, y, np.float64(1 / n), coef, slides, mass, alive, np.float64(feels))


def network(seed, m=7, n=9, d=4, p=None, tiny=False):
    """Return a random network with neurons of different scales, and its data."""
    rng = np.random.default_rng(seed)
    outputs = () if p is None else (p,)
    scale = np.exp2(rng.integers(-3, 2, m))
    if tiny:
        scale[:2] = 2.0**-500
    state = {"W": rng.standard_normal((m, d)), "a": rng.standard_normal((m, *outputs))}
    X, y = rng.standard_normal((n, d)), rng.standard_normal((n, *outputs))
    return state, Data(X, y, rng.uniform(0.5, 1.5, n) / n, scale)


def one_neuron():
    """Return a neuron with D = (1, 0), residual frozen: a step with s = 1 has a singular block."""
    args = Cell(
        X=np.array([[1.0, 0.0]]),
        y=np.ones(1),
        weight=np.float64(1.0),
        coef=np.ones((1, 1)),
        slides=np.zeros((1, 0, 2)),
        mass=np.ones(1),
        alive=np.ones(1),
        feels=np.float64(0.0),
    )
    return np.array([[1.0, 0.5, 0.3]]), args


@functools.partial(jax.jit, static_argnums=0)
def jacobian(problem, y, args):
    flat, unravel = ravel_pytree(y)
    return jax.jacfwd(lambda v: ravel_pytree(problem.field(0.0, unravel(v), args))[0])(flat)


def like(y, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.standard_normal(np.shape(x)), y)


def flat(y):
    return np.concatenate([np.asarray(x).ravel() for x in jax.tree.leaves(y)])


def largest(x):
    return float(np.max(np.abs(x)))
