"""The steps of a smooth run on the host: flat states, their interpolant, functions of them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from flowsim._jax import x64
from flowsim.engines import hermite
from flowsim.engines._vectors import Layout
from flowsim.engines.problem import Land, Steps, Tree
from flowsim.engines.smooth_problem import SmoothArguments, SmoothProblem
from flowsim.engines.smooth_scaling import Frame

EPS = float(np.finfo(np.float64).eps)


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

    def __init__(self, problem: SmoothProblem, layout: Layout) -> None:
        self.problem, self.layout = problem, layout
        signs = np.random.default_rng(0).integers(0, 2, size=layout.size)
        self._signs = layout.unflatten(2.0 * signs - 1.0)

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

    def rounding(self, y: np.ndarray, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
        """Return the norms (n_units,) of the units' velocities, and what rounding makes of them.

        The latter is the change of the velocity when all parameters change by one unit of
        rounding, up or down: ``eps |H (±theta)|``.
        """
        start = self.layout.unflatten(y)
        with x64():
            speed, change = _rounding(self.problem, start, self._signs, frame.args)
        return np.asarray(speed), EPS * np.asarray(change)


@partial(jax.jit, static_argnums=0)
def _look(problem: SmoothProblem, y: Tree, args: SmoothArguments) -> Any:
    f, s = problem.jet(y, args)
    return f, s, problem.observe(y, f, args)


@partial(jax.jit, static_argnums=0)
def _rounding(problem: SmoothProblem, y: Tree, signs: Tree, args: SmoothArguments) -> Any:
    turned = jax.tree.map(lambda a, b: a * b, y, signs)
    f, change = jax.jvp(lambda y: problem.field(0.0, y, args), (y,), (turned,))
    return problem.norms(f, args), problem.norms(change, args)
