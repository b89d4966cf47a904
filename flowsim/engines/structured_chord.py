"""The chord method for the stages of implicit Runge-Kutta steps, as a diffrax root finder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx

from flowsim.engines.problem import Tree
from flowsim.engines.structured_solve import Linearisation

#: Changes of variables of order one below this many spacings of float64 are rounding.
ROUNDING = 4.0


class Stage(NamedTuple):
    """One implicit relation ``f - F(partial + diagonal control f) = 0`` of a Runge-Kutta step."""

    point: Tree  # where the field is evaluated for the present iterate
    diagonal: Any
    s: Any  # diagonal times control, so that the relation's Jacobian is I - sJ
    unit: Any  # what makes an increment of y of an iterate
    args: Tree

    @classmethod
    def of(cls, iterate: Tree, args: Any) -> Stage:
        """Read what diffrax passes to root finders for its iterates, f or ``k = control f``."""
        if len(args) == 8:
            _, diagonal, _, prod, _, partial, own, control = args
            k, unit = prod(iterate, control), jnp.abs(control)
        else:
            _, diagonal, _, _, partial, own, control = args
            k, unit = iterate, 1.0
        if not isinstance(control, jax.Array | float):
            raise TypeError(
                f"Argument `terms` must be ODE terms, but their control is {control!r}."
            )
        point = jax.tree.map(lambda base, step: base + diagonal * step, partial, k)
        return cls(point, diagonal, diagonal * control, unit, own)


class ChordState(eqx.Module):
    """The linearisation, and how the iteration goes."""

    y: Tree
    s: Any
    stored: Tree
    diffsize: Any
    diffsize_prev: Any
    result: optx.RESULTS
    step: Any


class StructuredChord(optx.AbstractRootFinder):
    """Chord iterations for ``y' = problem.field(t, y, args)`` linearised once a step.

    It takes the place of `diffrax.VeryChord` and ends by the same rules, with four differences:
    ``I - sJ`` is never formed unless `choose` says so; iterations go on while they converge,
    where VeryChord gives up after two; what ends them is the change of the increment of y, also
    where diffrax iterates on velocities, whose size says nothing about y late in a flow; and
    changes at the level of rounding count as converged. A singular linearisation is reported as
    divergence, so that the step is rejected.

    Only for this one field: the implicit term must be an `ODETerm` of ``problem.field``, and the
    solver's arguments those of the problem. In a `MultiTerm` it may stand beside others.

    Parameters
    ----------
    problem : Problem
        Static and hashable.
    rtol, atol : float
        Changes of an increment k are measured in units of ``atol + rtol |k|``.
    choose : callable
        ``(problem, y, args) -> Linearisation``, called while tracing: shapes are all that is
        known. Hashable.
    """

    problem: Any = eqx.field(static=True)
    rtol: Any
    atol: Any
    choose: Callable[[Any, Tree, Tree], Linearisation] = eqx.field(static=True)
    norm: Callable[[Any], Any] = optx.max_norm
    kappa: float = 1e-2

    def init(
        self,
        fn: Callable[..., Any],
        y: Tree,
        args: Any,
        options: dict[str, Any],
        f_struct: Any,
        aux_struct: Any,
        tags: frozenset[object],
    ) -> ChordState:
        """Linearise at the point of the iterate y, or take a state that was made before."""
        if "init_state" in options:
            return options["init_state"]
        stage = Stage.of(y, args)
        way = self.choose(self.problem, stage.point, stage.args)
        factor = lambda: way.factor(self.problem, stage.point, stage.s, stage.args)  # noqa: E731
        like = jax.eval_shape(factor)
        blank = lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)  # noqa: E731
        # Before each step diffrax asks for the linearisation of an explicit stage, the identity.
        stored = jax.lax.cond(stage.diagonal == 0.0, blank, factor)
        return ChordState(
            y=stage.point,
            s=jnp.asarray(stage.s),
            stored=stored,
            diffsize=jnp.array(jnp.inf),
            diffsize_prev=jnp.array(1.0),
            result=optx.RESULTS.successful,
            step=jnp.array(0),
        )

    def step(
        self,
        fn: Callable[..., Any],
        y: Tree,
        args: Any,
        options: dict[str, Any],
        state: ChordState,
        tags: frozenset[object],
    ) -> tuple[Tree, ChordState, Any]:
        """Take one iteration."""
        rest, aux = fn(y, args)
        stage = Stage.of(y, args)
        way = self.choose(self.problem, state.y, stage.args)
        solved, reliable = way.solve(self.problem, state.y, state.s, stage.args, state.stored, rest)
        explicit = state.s == 0.0
        diff = jax.tree.map(lambda b, x: jnp.where(explicit, b, x), rest, solved)
        new = jax.tree.map(jnp.subtract, y, diff)

        def scaled(change: Any, value: Any) -> Any:
            return stage.unit * change / (self.atol + self.rtol * stage.unit * jnp.abs(value))

        good = explicit | reliable
        return (
            new,
            ChordState(
                y=state.y,
                s=state.s,
                stored=state.stored,
                diffsize=self.norm(jax.tree.map(scaled, diff, new)),
                diffsize_prev=state.diffsize,
                result=optx.RESULTS.where(
                    good, optx.RESULTS.successful, optx.RESULTS.nonlinear_divergence
                ),
                step=state.step + 1,
            ),
            aux,
        )

    def terminate(
        self,
        fn: Callable[..., Any],
        y: Tree,
        args: Any,
        options: dict[str, Any],
        state: ChordState,
        tags: frozenset[object],
    ) -> tuple[Any, optx.RESULTS]:
        """End as `diffrax.VeryChord` does: Hairer & Wanner 1996, Solving ODEs II, (IV.8.10)."""
        rate = state.diffsize / state.diffsize_prev
        estimate = state.diffsize * rate / (1.0 - rate)
        small = state.diffsize < ROUNDING * jnp.finfo(state.diffsize.dtype).eps / self.rtol
        diverged = ~jnp.isfinite(rate) | (rate > 2.0)
        converged = (estimate > 0.0) & (estimate < self.kappa)
        tried = state.step >= 2
        failed = (state.result != optx.RESULTS.successful) | (tried & ~small & diverged)
        # Anything but success ends optimistix's loop, so not having converged yet must be one;
        # diffrax.VeryChord calls it divergence and so never iterates a third time.
        result = optx.RESULTS.where(
            failed, optx.RESULTS.nonlinear_divergence, optx.RESULTS.successful
        )
        return failed | (tried & (small | converged)), result

    def postprocess(
        self,
        fn: Callable[..., Any],
        y: Tree,
        aux: Any,
        args: Any,
        options: dict[str, Any],
        state: ChordState,
        tags: frozenset[object],
        result: optx.RESULTS,
    ) -> tuple[Tree, Any, dict[str, Any]]:
        """Return the iterate as it is."""
        return y, aux, {}
