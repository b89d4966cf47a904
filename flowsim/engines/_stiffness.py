"""When an implicit method pays: the rule by which the Diffrax stepper changes its method.

An explicit method is held by stability where its steps h come near its real stability
interval beta over the spectral radius rho of the Jacobian (symmetric for a gradient flow); at
tight tolerances it keeps away from it by a factor of 2 or 3, and accuracy alone would have
``h rho`` below beta/10. That an implicit method could take longer steps there is not sure,
since accuracy limits it as well, and more so at its lower order. So it is tried:

* explicit, and ``h rho >= beta/4`` throughout 128 steps (to compile an implicit method takes
  seconds): try the implicit method for 8 steps;
* after a try, stay implicit if one of its steps is worth four of the longest stable explicit
  ones, ``h rho >= 4 beta``; else be explicit again, and wait before the next try twice as
  many steps as before it, from 256 to 1024;
* implicit, and ``h rho < 2 beta``: be explicit again.

`h` is the controller's proposal. The two last thresholds differ for hysteresis.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowsim.engines.problem import Problem, Tree

#: Accepted steps between two looks at the Jacobian, of a try, and held before the first try.
LOOK, TRY, HELD = 16, 8, 128
#: Ratios h rho / beta at which to try, to stay and to return.
TRIED, STAYS, RETURNS = 0.25, 4.0, 2.0
#: Most accepted steps at the border before the next try.
PATIENCE = 1024
#: Power iterations of the first look and of later ones, which start where it ended.
FIRST, LATER = 12, 4


class Stiffness:
    """The state of the rule: explicit, trying, or implicit."""

    def __init__(self, beta: float) -> None:
        self.beta = beta
        self.implicit = False
        self._trying = False
        self._since = 0  # accepted steps since the last look
        self._held = 0  # accepted steps at the border of stability, since the last try
        self._wait = HELD
        self._vector: Tree | None = None

    @property
    def limit(self) -> int | None:
        """Steps after which to look again, at most; None if it does not matter."""
        return max(TRY - self._since, 1) if self._trying else None

    def due(self, taken: int) -> bool:
        """Count accepted steps, and return whether to look at the Jacobian now."""
        self._since += taken
        return taken > 0 and self._since >= (TRY if self._trying else LOOK)

    def radius(self, problem: Problem, y: Tree, args: Tree) -> np.ndarray:
        """Estimate rho, (B,), at a batch of states."""
        shapes = [leaf.shape for leaf in jax.tree.leaves(y)]
        known = self._vector
        fresh = known is None or [leaf.shape for leaf in jax.tree.leaves(known)] != shapes
        start = _start(y) if fresh else known
        rho, self._vector = spectral_radius(problem, y, args, start, FIRST if fresh else LATER)
        return np.nan_to_num(np.asarray(rho), posinf=0.0)

    def decide(self, h: np.ndarray, rho: np.ndarray) -> None:
        """Choose the method for the next steps: the median run of a batch decides."""
        gain = float(np.median(h * rho)) / self.beta
        since, self._since = self._since, 0
        if self._trying:
            self._end_try(gain >= STAYS)
        elif self.implicit:
            self.implicit = gain >= RETURNS
        else:
            self._held = self._held + since if gain >= TRIED else 0
            self._trying = self.implicit = self._held >= self._wait

    def give_up(self) -> None:
        """Return to the explicit method: the implicit one finds no step."""
        self._since = 0
        self._end_try(False)

    def stable(self, h: float, rho: float) -> float:
        """Return `h`, or the explicit method's longest stable step if that is shorter."""
        return min(h, 0.9 * self.beta / rho) if rho > 0.0 else h

    def _end_try(self, paid: bool) -> None:
        self._trying, self.implicit = False, paid
        self._wait = HELD if paid else min(2 * self._wait, PATIENCE)
        self._held = 0


def _start(y: Tree) -> Tree:
    """Return a vector without symmetries, the same for equal shapes."""
    leaves, structure = jax.tree.flatten(y)
    vectors = [
        np.cos(1.0 + i + np.sqrt(2.0) * np.arange(leaf.size, dtype=float)).reshape(leaf.shape)
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, vectors)


@partial(jax.jit, static_argnames="problem")
def spectral_radius(
    problem: Problem, y: Tree, args: Tree, vector: Tree, iterations: Any
) -> tuple[jax.Array, Tree]:
    """Estimate the spectral radius of the field's Jacobian at a batch of states.

    Power iterations ``v <- J v / |J v|`` with ``rho = |J v|``, from below for a symmetric J.

    Returns
    -------
    rho : (B,)
    vector : pytree
        Where to start the next time.
    """

    def one(y: Tree, args: Tree, v: Tree) -> tuple[jax.Array, Tree]:
        _, product = jax.linearize(lambda x: problem.field(jnp.zeros(()), x, args), y)

        def iterate(_: Any, state: tuple[jax.Array, Tree]) -> tuple[jax.Array, Tree]:
            v = state[1]
            image = product(v)
            rho = _norm(image)
            new = jax.tree.map(lambda a, b: jnp.where(rho > 0.0, a / rho, b), image, v)
            return rho, new

        return jax.lax.fori_loop(0, iterations, iterate, (jnp.zeros(()), _unit(v)))

    return jax.vmap(one)(y, args, vector)


def _unit(v: Tree) -> Tree:
    norm = _norm(v)
    usable = jnp.isfinite(norm) & (norm > 0.0)
    return jax.tree.map(lambda x: jnp.where(usable, x / norm, jnp.ones_like(x)), v)


def _norm(v: Tree) -> jax.Array:
    return jnp.sqrt(sum((jnp.sum(x * x) for x in jax.tree.leaves(v)), jnp.zeros(())))
