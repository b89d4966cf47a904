"""The gradient flow of any objective as a problem for steppers, in variables of order one.

    y = theta / scale,     y' = -grad L(scale y) / scale,

with one power of two as the scale of each unit (a neuron, a coordinate, a row), so that a start
of size 1e-300 is nothing special, and rescaling is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flowsim.engines.problem import Knot, Tree
from flowsim.engines.structured_blocks import SmoothTwoLayer
from flowsim.models.functional import Arguments, Functional, Regression
from flowsim.models.two_layer import TwoLayer


class SmoothArguments(NamedTuple):
    """The numbers of a `SmoothProblem`.

    Attributes
    ----------
    objective : Arguments
    scale : pytree
        Broadcasts against the parameters: powers of two, one a unit.
    units : pytree
        Likewise, the unit of each entry.
    floor : pytree
        Likewise, sizes in the variables y that errors are relative to at least.
    start : (n_units,)
        ln of the units' norms at the start of the run, in the variables y; inf if zero.
    """

    objective: Arguments
    scale: Tree
    units: Tree
    floor: Any
    start: Any


@dataclass(frozen=True)
class SmoothProblem:
    """The flow ``theta' = -grad L(theta)`` as a `flowsim.engines.problem.Problem`.

    Parameters
    ----------
    functional : hashable
        Of an `Objective`.
    n_units : int
    watch : {"", "residual", "growth"}
        What `observe` adds for the end of the alignment phase.
    """

    functional: Functional
    n_units: int
    watch: str = ""

    @property
    def traceable(self) -> bool:
        """JAX can trace this problem."""
        return True

    def field(self, t: Any, y: Tree, args: SmoothArguments) -> Tree:
        """Return ``-grad L(scale y) / scale``."""
        slope = jax.grad(self.functional.loss)(_times(y, args.scale), args.objective)
        return jax.tree.map(lambda g, scale: -g / scale, slope, args.scale)

    def jet(self, y: Tree, args: SmoothArguments) -> tuple[Tree, Tree]:
        """Return y' and y''."""
        field = lambda y: self.field(0.0, y, args)  # noqa: E731
        f = field(y)
        return f, jax.jvp(field, (y,), (f,))[1]

    def size(self, y: Tree, args: SmoothArguments) -> Tree:
        """Return the norm of each entry's unit, but at least its floor."""
        norms = self.norms(y, args)

        def size(leaf: Any, units: Any, floor: Any) -> Any:
            return jnp.broadcast_to(jnp.maximum(norms[units], floor), jnp.shape(leaf))

        return jax.tree.map(size, y, args.units, args.floor)

    def observe(self, y: Tree, f: Tree, args: SmoothArguments) -> dict[str, Any]:
        """Return loss, speed, rate and what the end of the alignment phase depends on.

        ``speed = ||theta'||^2 = -dL/dt``, ``rate = ||theta'|| / ||theta||``; ``departure`` is
        ``||h|| / ||y||``, ``growth`` the largest ln of a unit's norm over that at the start.
        """
        theta, velocity = _times(y, args.scale), _times(f, args.scale)
        fast = norm(velocity)
        out = {
            "loss": self.functional.loss(theta, args.objective),
            "speed": fast**2,
            "rate": jnp.where(fast > 0.0, fast / norm(theta), 0.0),
        }
        if self.watch == "residual":
            labels = args.objective.y
            outputs = self.functional.outputs(theta, args.objective)
            out["departure"] = norm(outputs) / norm(labels)
        elif self.watch == "growth":
            out["growth"] = jnp.max(jnp.log(self.norms(y, args)) - args.start)
        return out

    def leaves(self, before: Knot, after: Knot, h: Any, args: SmoothArguments) -> Any:
        """Return False: the field is the same everywhere."""
        return jnp.zeros((), dtype=bool)

    def norms(self, y: Tree, args: SmoothArguments) -> Any:
        """Return the norms (n_units,) of the units, without squares out of range."""
        entries, units = _flat(y), _units_of(y, args.units)
        largest = jax.ops.segment_max(jnp.abs(entries), units, self.n_units)
        safe = jnp.where(largest > 0.0, largest, 1.0)
        return safe * jnp.sqrt(
            jax.ops.segment_sum((entries / safe[units]) ** 2, units, self.n_units)
        )

    def two_layer(self, y: Tree, args: SmoothArguments) -> SmoothTwoLayer | None:
        """Return the network if the model is a `TwoLayer`, see `flowsim.engines.structured`."""
        if not (isinstance(y, TwoLayer) and isinstance(self.functional, Regression)):
            return None
        given = args.objective
        return SmoothTwoLayer(
            a=y.a,
            W=y.W,
            X=jnp.asarray(given.X),
            labels=jnp.asarray(given.y),
            weight=jnp.asarray(given.weight),
            scale=args.scale.W[:, 0],
            phi=y.activation,
            feels=jnp.asarray(0.0 if self.functional.frozen else 1.0),
        )


def _flat(y: Tree) -> Any:
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(y)])


def _units_of(y: Tree, units: Tree) -> Any:
    return _flat(jax.tree.map(lambda leaf, unit: jnp.broadcast_to(unit, leaf.shape), y, units))


def _times(y: Tree, scale: Tree) -> Tree:
    return jax.tree.map(jnp.multiply, y, scale)


def norm(tree: Tree) -> Any:
    """Return the Euclidean norm of all entries, without squares out of range."""
    entries = _flat(tree)
    largest = jnp.max(jnp.abs(entries))
    safe = jnp.where(largest > 0.0, largest, 1.0)
    return safe * jnp.sqrt(jnp.sum((entries / safe) ** 2))
