"""The compiled loop of accepted steps: diffrax's methods and controller, flowsim's contract.

Time inside a step runs from 0 to h, since problems are autonomous: h keeps all its digits
however late it is.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from flowsim.engines._diffrax_methods import (
    Method,
    is_fsal,
    prepare,
    tableaus,
    terms,
    with_tolerance,
)
from flowsim.engines._diffrax_roots import greatest
from flowsim.engines.problem import Knot, Problem, Tree

#: Failures, by their numbers inside the loop.
FAILURES = ("", "step_underflow", "non_finite")
#: A step that ends within this factor of the span ends at it.
STRETCH = 1.01
#: So many rejections in a row, each by a factor of at least 5 where nothing converges.
MOST_REJECTIONS = 60
#: Longest step, where nothing moves: far from overflow.
LONGEST = float(np.finfo(float).max) ** 0.25


class Run(NamedTuple):
    """One run inside the loop."""

    t: Any
    h: Any  # to try next
    knot: tuple[Tree, Tree, Tree]  # y, f, s
    inner: Tree  # the method's state
    control: Tree  # the controller's state
    count: Any  # accepted steps
    rejected: Any
    row: Any  # rejections since the last accepted step
    evaluations: Any
    broken: Any  # whether the last rejection was of what is no number
    left: Any
    failure: Any


class Attempt(NamedTuple):
    """What one attempt of the method gives."""

    knot: tuple[Tree, Tree, Tree]
    inner: Tree
    error: Any  # largest, relative to units; inf for what is no number, or not solved
    finite: Any


@partial(jax.jit, static_argnames=("problem", "method", "chunk", "batched"))
def advance(
    problem: Problem,
    method: Method,
    chunk: int,
    batched: bool,
    rtol: Any,
    y: Tree,
    args: Tree,
    span: Any,
    h: Any,
    limit: Any,
) -> tuple[Run, dict[str, Any]]:
    """Take at most ``min(chunk, limit)`` accepted steps over at most the time `span`.

    Parameters
    ----------
    batched : bool
        Whether every array has a leading axis of independent runs.
    h : float array
        First step to try; NaN lets the loop choose.

    Returns
    -------
    run : Run
        The end. Without a failure, ``run.h`` is the step to try next.
    buffers : dict of pytrees of arrays (chunk + 2, ...)
        ``t, y, f, s, observed``: entry 0 is the start, entry i the i-th accepted step.
    """
    loop = _Loop(problem, method, chunk, rtol)
    lift = jax.vmap if batched else lambda function: function
    run, buffers = lift(loop.start)(y, args, span, h)
    active = lift(loop.active)

    def body(state: tuple[Run, Any]) -> tuple[Run, Any]:
        run, buffers = state
        run, index, entry = lift(loop.attempt)(run, args, span, active(run, span, limit))
        # Buffers stay outside of every select, which would copy them.
        return run, lift(_write)(buffers, index, entry)

    def goes_on(state: tuple[Run, Any]) -> Any:
        return jnp.any(active(state[0], span, limit))

    return jax.lax.while_loop(goes_on, body, (run, buffers))


@partial(jax.jit, static_argnames=("problem", "method"))
def land(
    problem: Problem, method: Method, rtol: Any, y: Tree, args: Tree, tau: Any, pieces: Any
) -> tuple[Tree, Any]:
    """Return the state after `tau` in `pieces` equal steps, and whether all solves worked."""
    term = terms(problem, method.kind)
    solver = prepare(method, problem, rtol)
    h, zero = tau / pieces, jnp.zeros_like(tau)

    def piece(_: Any, state: tuple[Tree, Any]) -> tuple[Tree, Any]:
        y, fine = state
        ready = with_tolerance(solver, rtol, problem.size(y, args), h)
        inner = ready.init(term, zero, h, y, args)
        y, _, _, _, result = ready.step(term, zero, h, y, args, inner, False)
        return y, fine & _solved(result) & _finite(y)

    return jax.lax.fori_loop(0, pieces, piece, (y, jnp.asarray(True)))


class _Loop:
    """The transitions of one run, as pure functions."""

    def __init__(self, problem: Problem, method: Method, chunk: int, rtol: Any) -> None:
        self.problem, self.chunk, self.rtol = problem, chunk, rtol
        self.term = terms(problem, method.kind)
        self.solver = prepare(method, problem, rtol)
        self.order = self.solver.error_order(self.term)
        self.controller = method.controller(rtol)
        self.stages = tableaus(method.kind)[0].num_stages
        self.fsal = is_fsal(method.kind)

    def start(self, y: Tree, args: Tree, span: Any, h: Any) -> tuple[Run, dict[str, Any]]:
        """Return the run before its first step, and its buffers with entry 0 filled."""
        f, s = self.problem.jet(y, args)
        chosen = jnp.isnan(h)
        h = jax.lax.cond(chosen, lambda: self._first_step(y, f, args, span), lambda: h)
        solver = with_tolerance(self.solver, self.rtol, self.problem.size(y, args), h)
        zero = jnp.zeros_like(h)
        _, control = self.controller.init(self.term, zero, h, 0.0, h, None, solver.func, self.order)
        run = Run(
            t=jnp.zeros_like(span),
            h=jnp.minimum(h, LONGEST),
            knot=(y, f, s),
            inner=solver.init(self.term, zero, h, y, args),
            control=jax.tree.map(jnp.asarray, control),
            count=jnp.asarray(0),
            rejected=jnp.asarray(0),
            row=jnp.asarray(0),
            evaluations=jnp.where(chosen, 1, 0),
            broken=jnp.asarray(False),
            left=jnp.asarray(False),
            failure=jnp.where(_finite((y, f, s)), 0, FAILURES.index("non_finite")),
        )
        entry = self._entry(run.t, run.knot, args)
        empty = jax.tree.map(lambda x: jnp.zeros((self.chunk + 2, *x.shape), x.dtype), entry)
        return run, _write(empty, 0, entry)

    def active(self, run: Run, span: Any, limit: Any) -> Any:
        """Return whether the run takes another step."""
        room = run.count < jnp.minimum(limit, self.chunk)
        return room & ~run.left & (run.failure == 0) & (run.t < span)

    def attempt(self, run: Run, args: Tree, span: Any, active: Any) -> tuple[Run, Any, Any]:
        """Try one step; return the run, where in the buffers to write, and what."""
        h, last = _fit(run.h, span - run.t)
        stuck = ~last & (run.t + h == run.t)
        trial = self._try(run, h, args)
        keep, t0, t1, _, control, _ = self.controller.adapt_step_size(
            jnp.zeros_like(h), h, 0.0, 0.0, None, trial.error, self.order, run.control
        )
        keep = keep & ~stuck & active
        # A step cut short at the span says little about the next one's length.
        proposed = jnp.minimum(t1 - t0, LONGEST)
        ahead = jnp.where(keep & (h < run.h), jnp.maximum(proposed, run.h), proposed)
        row = jnp.where(keep, 0, run.row + 1)
        broken = jnp.where(keep | stuck, run.broken, ~trial.finite)
        before, after = Knot(*run.knot), Knot(*trial.knot)
        new = Run(
            t=jnp.where(keep, jnp.where(last, span, run.t + h), run.t),
            h=ahead,
            knot=_choose(keep, trial.knot, run.knot),
            inner=_choose(keep, trial.inner, run.inner),
            control=control,
            count=run.count + keep,
            rejected=run.rejected + ~keep,
            row=row,
            evaluations=run.evaluations + self.stages - (self.fsal & (run.count > 0)),
            broken=broken,
            left=keep & self.problem.leaves(before, after, h, args),
            failure=jnp.where(stuck | (row >= MOST_REJECTIONS), jnp.where(broken, 2, 1), 0),
        )
        index = jnp.where(keep, new.count, self.chunk + 1)
        return _choose(active, new, run), index, self._entry(new.t, trial.knot, args)

    def _try(self, run: Run, h: Any, args: Tree) -> Attempt:
        """Take one step, whatever its error."""
        y = run.knot[0]
        size = self.problem.size(y, args)
        solver = with_tolerance(self.solver, self.rtol, size, h)
        zero = jnp.zeros_like(h)
        y1, error, _, inner, result = solver.step(self.term, zero, h, y, args, run.inner, False)
        f1, s1 = self.problem.jet(y1, args)
        units = jax.tree.map(jnp.maximum, size, self.problem.size(y1, args))
        relative = greatest(jax.tree.map(lambda e, u: jnp.abs(e) / u, error, units))
        solved = _solved(result)
        # The error of what was not solved is infinite, but says nothing about the field.
        finite = _finite((y1, f1, s1)) & (jnp.isfinite(relative) | ~solved)
        usable = finite & solved
        return Attempt(
            knot=(y1, f1, s1),
            inner=inner,
            error=jnp.where(usable, relative, jnp.inf),
            finite=finite,
        )

    def _first_step(self, y: Tree, f: Tree, args: Tree, span: Any) -> Any:
        """Return a first step, by the algorithm of Hairer, Norsett & Wanner I, II.4.

        It is done in the time in which the state moves by its own size, so that it does not
        depend on the unit of time; and not beyond the time in which the velocity turns,
        since near a saddle nearly all of the motion is still to come.
        """
        size = self.problem.size(y, args)
        speed = greatest(jax.tree.map(lambda v, s: jnp.abs(v) / s, f, size))
        unit = 1.0 / speed
        probe = jax.tree.map(lambda x, v: x + 0.01 * unit * v, y, f)
        turned = self.problem.field(jnp.zeros_like(span), probe, args)
        bend = greatest(jax.tree.map(lambda v, w, s: jnp.abs(w - v) / s, f, turned, size))
        rate = jnp.fmax(1.0, bend * unit / 0.01)
        h = unit * jnp.minimum(1 / rate, (0.01 * self.rtol / rate) ** (1 / self.order))
        rest = jnp.where(jnp.isfinite(span), span, 1.0)  # nothing moves: any step will do
        return jnp.where(jnp.isfinite(h) & (h > 0.0), h, rest)

    def _entry(self, t: Any, knot: tuple[Tree, Tree, Tree], args: Tree) -> dict[str, Any]:
        y, f, s = knot
        observed = self.problem.observe(y, f, args)
        return {"t": t, "y": y, "f": f, "s": s, "observed": observed}


def _fit(h: Any, remaining: Any) -> tuple[Any, Any]:
    """Return the step to take, and whether it is the last: no sliver is left for later."""
    last = STRETCH * h >= remaining
    step = jnp.where(2.0 * h > remaining, 0.5 * remaining, h)
    return jnp.where(last, remaining, step), last


def _choose(which: Any, new: Tree, old: Tree) -> Tree:
    return jax.tree.map(lambda a, b: jnp.where(which, a, b), new, old)


def _write(buffers: Tree, index: Any, entry: Tree) -> Tree:
    return jax.tree.map(lambda b, x: b.at[index].set(x), buffers, entry)


def _finite(tree: Tree) -> Any:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _solved(result: Any) -> Any:
    return result == diffrax.RESULTS.successful
