"""How the stages of implicit methods are solved: to what accuracy, and when to give up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx

from flowsim.engines.problem import Tree

#: Updates of this many spacings of float64 are rounding.
ROUNDING = 16 * np.finfo(float).eps
#: Error of a stage relative to that of a step.
KAPPA = 1e-2


class UnitNorm(eqx.Module):
    """The largest entry of an update relative to its tolerance; rounding counts as 0.

    Without the latter, iterates that differ by rounding only would look like divergence at
    tolerances near rounding.
    """

    tolerance: Tree
    floor: float

    def __call__(self, update: Tree) -> jax.Array:
        """Return the norm of a pytree; NaN if it has any."""
        largest = greatest(jax.tree.map(lambda u, e: jnp.abs(u) / e, update, self.tolerance))
        return jnp.where(largest < self.floor, 0.0, largest)


class Patient(optx.AbstractRootFinder):
    """A chord method that goes on while it converges.

    diffrax 0.7.2's `VeryChord` reports divergence as soon as two iterations are not enough
    (https://github.com/patrick-kidger/diffrax/pull/754), which rejects every other step. The
    iterations here are those of `inner`; the rule is that of Hairer & Wanner, Solving Ordinary
    Differential Equations II, (IV.8.10).

    Parameters
    ----------
    inner : optimistix.AbstractRootFinder
        Its state has `diffsize`, `diffsize_prev`, `result`, `step`, as `VeryChord`'s has.
    """

    inner: Any
    rtol: float = 0.0
    atol: float = 1.0
    norm: Callable[[Any], Any] = optx.max_norm

    def init(
        self,
        fn: Any,
        y: Tree,
        args: Any,
        options: dict[str, Any],
        f_struct: Any,
        aux_struct: Any,
        tags: frozenset[object],
    ) -> Any:
        """Linearise."""
        return self.inner.init(fn, y, args, options, f_struct, aux_struct, tags)

    def step(
        self,
        fn: Any,
        y: Tree,
        args: Any,
        options: dict[str, Any],
        state: Any,
        tags: frozenset[object],
    ) -> tuple[Tree, Any, Any]:
        """Take one iteration."""
        return self.inner.step(fn, y, args, options, state, tags)

    def terminate(
        self,
        fn: Any,
        y: Tree,
        args: Any,
        options: dict[str, Any],
        state: Any,
        tags: frozenset[object],
    ) -> tuple[Any, optx.RESULTS]:
        """Return whether to stop, and whether that is a failure."""
        rate = state.diffsize / state.diffsize_prev
        small = state.diffsize == 0.0
        # The tail of the geometric series that is still missing.
        converged = small | ((rate < 1.0) & (state.diffsize * rate / (1.0 - rate) < KAPPA))
        diverged = ~small & (~jnp.isfinite(rate) | (rate > 2.0))
        tried = state.step >= 2
        failed = (state.result != optx.RESULTS.successful) | (tried & diverged)
        result = optx.RESULTS.where(
            failed, optx.RESULTS.nonlinear_divergence, optx.RESULTS.successful
        )
        return failed | (tried & converged), result

    def postprocess(
        self,
        fn: Any,
        y: Tree,
        aux: Any,
        args: Any,
        options: dict[str, Any],
        state: Any,
        tags: frozenset[object],
        result: optx.RESULTS,
    ) -> tuple[Tree, Any, dict[str, Any]]:
        """Return the iterate as it is."""
        return self.inner.postprocess(fn, y, aux, args, options, state, tags, result)


def patient(finder: Any, unit: Any, size: Tree, rtol: float) -> Patient:
    """Return a chord method with tolerances relative to units.

    Parameters
    ----------
    finder : root finder
        With fields `rtol`, `atol` and `norm`, as `VeryChord` has.
    unit : float
        What an error of 1 in the iterates is an error in y of, in the finder's norm.
    size : pytree
        The units' sizes.
    """
    norm = UnitNorm(jax.tree.map(lambda s: rtol * s / unit, size), ROUNDING / rtol)
    where = lambda f: (f.rtol, f.atol, f.norm)  # noqa: E731
    return Patient(inner=eqx.tree_at(where, finder, (0.0, 1.0, norm)))


def greatest(tree: Tree) -> jax.Array:
    """Return the largest of all entries, NaN if there is any, 0 if there is no entry."""
    leaves = [jnp.max(leaf, initial=0.0) for leaf in jax.tree.leaves(tree)]
    return jnp.max(jnp.stack(leaves)) if leaves else jnp.asarray(0.0)
