"""Four ways to solve ``(I - sJ) x = b``: what a linearised implicit step needs.

Each is a stateless object: `factor` prepares a state y and a number s once, `solve` is then
called with every right side. What is prepared holds nothing that the arguments hold already.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy as jsp
from jax.flatten_util import ravel_pytree

from flowsim.engines.problem import Tree
from flowsim.engines.structured_blocks import Array, Pair, TwoLayerView

#: Columns of the dense Jacobian that are computed at a time.
COLUMNS = 64
#: GMRES: reduction of the residual asked for; a chord with so good an inverse loses nothing.
REDUCTION = 1e-10
#: Residual, relative to the right side, above which a chord could not converge.
USELESS = 1e-2
#: GMRES: directions kept before a restart, and restarts.
RESTART, CYCLES = 60, 10


class Linearisation(eqx.Module):
    """A way to solve with ``I - sJ``, J the Jacobian of ``problem.field(., args)`` at y."""

    @abstractmethod
    def factor(self, problem: Any, y: Tree, s: Array, args: Tree) -> Tree:
        """Return what `solve` needs: a pytree of arrays."""

    @abstractmethod
    def solve(
        self, problem: Any, y: Tree, s: Array, args: Tree, stored: Tree, b: Tree
    ) -> tuple[Tree, Array]:
        """Return x like y with ``(I - sJ) x = b``, and whether it can be relied on."""


class Dense(Linearisation):
    """The whole matrix, from Jacobian-vector products: P² numbers and O(P³) operations."""

    def factor(self, problem: Any, y: Tree, s: Array, args: Tree) -> Tree:
        flat, unravel = ravel_pytree(y)
        field = lambda v: ravel_pytree(problem.field(0.0, unravel(v), args))[0]  # noqa: E731
        _, push = jax.linearize(field, flat)
        size = len(flat)
        column = lambda i: jnp.zeros_like(flat).at[i].set(1.0)  # noqa: E731
        transposed = jax.lax.map(
            lambda i: column(i) - s * push(column(i)),
            jnp.arange(size),
            batch_size=min(COLUMNS, size),
        )
        return jsp.linalg.lu_factor(transposed)

    def solve(
        self, problem: Any, y: Tree, s: Array, args: Tree, stored: Tree, b: Tree
    ) -> tuple[Tree, Array]:
        flat, unravel = ravel_pytree(b)
        return unravel(jsp.linalg.lu_solve(stored, flat, trans=1)), _invertible(stored[0])


class Woodbury(Linearisation):
    """The blocks of a two-layer network and an N x N system, N the number of its outputs.

    ``x = B⁻¹ (b - s U Ω c)``, ``(I + s Vᵀ B⁻¹ U Ω) c = Vᵀ B⁻¹ b`` with
    `flowsim.engines.structured_blocks`; c is how the outputs change along x. Derived in
    derivations/structured_step.py.
    """

    def factor(self, problem: Any, y: Tree, s: Array, args: Tree) -> Tree:
        view: TwoLayerView = problem.two_layer(y, args)
        blocks = view.factor(s)
        system = s * view.capacitance(blocks) * view.omega()
        lu = jsp.linalg.lu_factor(jnp.eye(len(system)) + system)
        return blocks, lu, view.regular(blocks) & _invertible(lu[0])

    def solve(
        self, problem: Any, y: Tree, s: Array, args: Tree, stored: Tree, b: Tree
    ) -> tuple[Tree, Array]:
        blocks, lu, regular = stored
        view, pair, join = _views(problem, y, args, b)
        change = jsp.linalg.lu_solve(lu, view.outputs(view.solve(blocks, pair)))
        return join(_back(view, s, blocks, pair, change)), regular


class Krylov(Linearisation):
    """As `Woodbury`, with the N x N system solved by GMRES and never formed."""

    def factor(self, problem: Any, y: Tree, s: Array, args: Tree) -> Tree:
        view: TwoLayerView = problem.two_layer(y, args)
        blocks = view.factor(s)
        return blocks, view.regular(blocks)

    def solve(
        self, problem: Any, y: Tree, s: Array, args: Tree, stored: Tree, b: Tree
    ) -> tuple[Tree, Array]:
        blocks, regular = stored
        view, pair, join = _views(problem, y, args, b)
        omega = view.omega()

        def times(c: Array) -> Array:
            return c + s * view.outputs(view.solve(blocks, view.velocities(omega * c)))

        change, converged = _gmres(times, view.outputs(view.solve(blocks, pair)))
        return join(_back(view, s, blocks, pair, change)), regular & converged


class MatrixFree(Linearisation):
    """GMRES on Jacobian-vector products of any field: stores nothing but directions.

    Few directions do if few modes are stiff; nothing preconditions it.
    """

    def factor(self, problem: Any, y: Tree, s: Array, args: Tree) -> Tree:
        return ()

    def solve(
        self, problem: Any, y: Tree, s: Array, args: Tree, stored: Tree, b: Tree
    ) -> tuple[Tree, Array]:
        _, push = jax.linearize(lambda v: problem.field(0.0, v, args), y)
        return _gmres(lambda v: jax.tree.map(lambda x, f: x - s * f, v, push(v)), b)


def _views(
    problem: Any, y: Tree, args: Tree, b: Tree
) -> tuple[TwoLayerView, Pair, Callable[[Pair], Tree]]:
    """Return the network at y, b as a pair of arrays, and how a pair becomes a tree like y."""

    def split(v: Tree) -> Pair:
        view = problem.two_layer(v, args)
        return view.a, view.W

    # The split only puts entries elsewhere, so its transpose puts them back.
    pair, back = jax.vjp(split, b)
    return problem.two_layer(y, args), pair, lambda x: back(x)[0]


def _back(view: TwoLayerView, s: Array, blocks: Tree, b: Pair, change: Array) -> Pair:
    """Return ``B⁻¹ (b - s U Ω c)``."""
    pulled = view.velocities(view.omega() * change)
    return view.solve(blocks, (b[0] - s * pulled[0], b[1] - s * pulled[1]))


def _invertible(lu: Array) -> Array:
    diagonal = jnp.diagonal(lu)
    return jnp.all(jnp.isfinite(diagonal) & (diagonal != 0.0))


def _gmres(times: Callable[[Tree], Tree], b: Tree) -> tuple[Tree, Array]:
    """Solve by GMRES; return also whether it got anywhere.

    JAX's ends inside a cycle, as soon as the residual is small; lineax's runs two whole ones.
    """
    x, _ = jsp.sparse.linalg.gmres(
        times, b, tol=REDUCTION, restart=RESTART, maxiter=CYCLES, solve_method="incremental"
    )
    rest = jax.tree.map(jnp.subtract, b, times(x))
    return x, _norm(rest) <= USELESS * _norm(b)


def _norm(x: Tree) -> Array:
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(x)))
