"""The steps of a smooth run on the host: flat states, their interpolant, functions of them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flowsim._jax import x64
from flowsim.engines import hermite
from flowsim.engines._vectors import Layout
from flowsim.engines.problem import Land, Steps, Tree
from flowsim.engines.smooth_problem import SmoothArguments, SmoothProblem
from flowsim.engines.smooth_scaling import Frame
from flowsim.models.functional import Arguments, Regression

EPS = float(np.finfo(np.float64).eps)
#: Velocities beyond this count as this: their norms must not overflow.
FAR = 1e290


@dataclass(frozen=True, eq=False)
class Knot:
    """A state of the run.

    Attributes
    ----------
    t : float
    y, f, s : (P,)
        Variables with two derivatives, flat.
    seen : dict of float
        What `SmoothProblem.observe` returns.
    frame : Frame
        The parameters are ``frame.scale * y``.
    """

    t: float
    y: np.ndarray
    f: np.ndarray
    s: np.ndarray
    seen: dict[str, float]
    frame: Frame

    def inside(self, frame: Frame) -> Knot:
        """Return the same state in other variables."""
        if self.frame is frame:
            return self
        by = self.frame.scale / frame.scale
        return replace(self, y=by * self.y, f=by * self.f, s=by * self.s, frame=frame)

    @property
    def true(self) -> np.ndarray:
        """Parameters, velocity and acceleration (3, P) in true units."""
        return self.frame.scale * np.array([self.y, self.f, self.s])


class Step:
    """An accepted step of length `h`."""

    def __init__(self, host: Host, before: Knot, after: Knot, h: float) -> None:
        self.host, self.after, self.h = host, after, h
        self.before = before.inside(after.frame)

    @cached_property
    def _coefficients(self) -> np.ndarray:
        before, after = ((knot.y, knot.f, knot.s) for knot in (self.before, self.after))
        return hermite.coefficients(before, after, self.h)

    def at(self, tau: float) -> np.ndarray:
        """Return the flat variables a time `tau` after the start, on the interpolant."""
        if tau in (0.0, self.h):
            return self.before.y if tau == 0.0 else self.after.y
        return hermite.evaluate(self._coefficients, tau / self.h)

    def look(self, tau: float, y: np.ndarray | None = None) -> Knot:
        """Return the state after `tau`: with variables y, or on the interpolant."""
        y = self.at(tau) if y is None else y
        return self.host.look(self.before.t + tau, y, self.after.frame)

    def land(self, tau: float) -> Generator[Land, Tree, np.ndarray]:
        """Return the flat variables after `tau`, integrated to."""
        if tau in (0.0, self.h):
            return self.at(tau)
        layout = self.host.layout
        start = layout.unflatten(self.before.y)
        there = yield Land(self.host.problem, start, self.after.frame.args, tau)
        return layout.flatten(there, np)


class Host:
    """A problem's functions on the host: NumPy in and out, compiled once a problem."""

    def __init__(self, problem: SmoothProblem, layout: Layout, args: Arguments) -> None:
        self.problem, self.layout = problem, layout
        rng = np.random.default_rng(0)
        draw = lambda shape: 2.0 * rng.integers(0, 2, size=shape) - 1.0  # noqa: E731
        labels = np.shape(() if args.y is None else args.y)
        self._signs = (layout.unflatten(draw(layout.size)), draw(labels))

    def look(self, t: float, y: np.ndarray, frame: Frame) -> Knot:
        """Return the state with these flat variables."""
        with x64():
            f, s, seen = _look(self.problem, self.layout.unflatten(y), frame.args)
        f, s = (self.layout.flatten(jax.tree.map(np.asarray, tree), np) for tree in (f, s))
        return Knot(t, y, f, s, {name: float(value) for name, value in seen.items()}, frame)

    def knots(self, steps: Steps, times: list[float], frame: Frame) -> list[Knot]:
        """Return the states of an answer, flat."""
        y, f, s = (self._rows(tree) for tree in (steps.y, steps.f, steps.s))
        seen = [{k: float(v[i]) for k, v in steps.observed.items()} for i in range(len(times))]
        return [Knot(t, y[i], f[i], s[i], seen[i], frame) for i, t in enumerate(times)]

    def _rows(self, tree: Tree) -> np.ndarray:
        leaves = self.layout.leaves(tree)
        return np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in leaves], axis=1)

    def rounding(self, y: np.ndarray, frame: Frame) -> Rounding:
        """Return the velocities of units, and how well they can be known."""
        with x64():
            found = _rounding(self.problem, self.layout.unflatten(y), *self._signs, frame.args)
        return Rounding(*(jax.tree.map(np.asarray, part) for part in found))


class Rounding(NamedTuple):
    """The units' velocities at a state, and how well they can be known.

    A relative error e of all parameters, up or down, changes the velocities by ``e |H (±theta)|``;
    rounding the residuals changes them by ``eps |sum_k ±(|y_k| + |h_k|) grad h_k|``, whatever
    is left of their sum.

    Attributes
    ----------
    speed, change, terms : (n_units,)
        Norms of the units' velocities, and of the two changes without e and eps.
    changes, sums : pytrees
        Like the units: the two changes of the parts, a unit's entries in one leaf.
    """

    speed: np.ndarray
    change: np.ndarray
    terms: np.ndarray
    changes: Tree
    sums: Tree

    def noise(self, error: float) -> np.ndarray:
        """Return what the velocities (n_units,) are known up to."""
        return np.hypot(error * self.change, EPS * self.terms)

    def noises(self, error: float) -> Tree:
        """Return the same for the parts."""
        return jax.tree.map(
            lambda change, sum_: np.hypot(error * change, EPS * sum_), self.changes, self.sums
        )


@partial(jax.jit, static_argnums=0)
def _look(problem: SmoothProblem, y: Tree, args: SmoothArguments) -> Any:
    f, s = problem.jet(y, args)
    return f, s, problem.observe(y, f, args)


@partial(jax.jit, static_argnums=0)
def _rounding(
    problem: SmoothProblem, y: Tree, signs: Tree, marks: Any, args: SmoothArguments
) -> tuple[Any, ...]:
    turned = jax.tree.map(jnp.multiply, y, signs)
    f, change = jax.jvp(lambda y: problem.field(0.0, y, args), (y,), (turned,))
    sums = jax.tree.map(jnp.zeros_like, y)
    if isinstance(problem.functional, Regression):
        given = args.objective

        def outputs(y: Tree) -> Any:
            return problem.functional.outputs(jax.tree.map(jnp.multiply, y, args.scale), given)

        h, pull = jax.vjp(outputs, y)
        (slopes,) = pull(given.weight * marks * (jnp.abs(given.y) + jnp.abs(h)))
        # Divided twice, since the square of a scale may vanish.
        reach = lambda g, scale: jnp.clip(g / scale / scale, -FAR, FAR)  # noqa: E731
        sums = jax.tree.map(reach, slopes, args.scale)
    units = (problem.norms(tree, args) for tree in (f, change, sums))
    parts = (_parts(tree, args.units) for tree in (change, sums))
    return (*units, *parts)


def _parts(tree: Tree, units: Tree) -> Tree:
    """Return the norms of the parts: over the axes along which the unit is the same."""

    def part(leaf: Any, unit: Any) -> Any:
        axes = tuple(i for i in range(leaf.ndim) if i >= unit.ndim or unit.shape[i] == 1)
        largest = jnp.max(jnp.abs(leaf), axis=axes, keepdims=True)
        safe = jnp.where(largest > 0.0, largest, 1.0)
        norm = safe * jnp.sqrt(jnp.sum((leaf / safe) ** 2, axis=axes, keepdims=True))
        return norm.reshape(unit.shape)

    return jax.tree.map(part, tree, units)
