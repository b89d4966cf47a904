"""Implicit steps with the structured root finder: those of Newton on the dense Jacobian."""

from __future__ import annotations

import functools
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest
from structured_support import (
    Frozen,
    Opaque,
    Smooth,
    Undeclared,
    cell,
    flat,
    gelu,
    largest,
    network,
    one_neuron,
)

from flowsim._jax import x64
from flowsim.engines.structured import (
    StructuredChord,
    cheapest,
    measure,
    structured_root_finder,
)


def root_finder(problem: Any, rtol: float, kind: str) -> Any:
    finder = structured_root_finder(problem, rtol, kind)
    assert isinstance(finder, StructuredChord)
    return finder


def drift(t, y, args):
    return jax.tree.map(lambda x: -0.1 * x, y)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def steps(problem: Any, method: Any, kind: str | None, y: Any, args: Any, h: Any) -> Any:
    """Return the state after three steps of length h; kind None is optimistix's dense Newton."""
    if kind is None:
        finder = optx.Newton(rtol=1e-13, atol=1e-13)
    else:
        finder = root_finder(problem, 1e-11, kind)
    term = diffrax.ODETerm(problem.field)
    if "KenCarp" in method.__name__:
        term = diffrax.MultiTerm(diffrax.ODETerm(drift), term)
    solver = method(root_finder=finder)
    solution = diffrax.diffeqsolve(term, solver, 0.0, 3 * h, h, y, args, throw=False)
    return jax.tree.map(lambda x: x[0], solution.ys), solution.result


FROZEN, SMOOTH = (Frozen(), *cell(11)), (Smooth(gelu), *network(11, p=2))


@pytest.mark.parametrize(
    ("method", "kind", "system"),
    [
        (diffrax.Kvaerno5, "structured", FROZEN),
        (diffrax.Kvaerno5, "krylov", FROZEN),
        (diffrax.Kvaerno5, "structured", SMOOTH),
        (diffrax.Kvaerno5, "krylov", SMOOTH),
        (diffrax.KenCarp4, "structured", FROZEN),
        (diffrax.KenCarp4, "structured", SMOOTH),
    ],
)
def test_steps_are_those_of_newtons_method_on_the_dense_jacobian(method, kind, system):
    problem, y, args = system
    with x64():
        expected, good = steps(problem, method, None, y, args, 0.1)
        assert good == diffrax.RESULTS.successful
        found, good = steps(problem, method, kind, y, args, 0.1)
        assert good == diffrax.RESULTS.successful
    moved = largest(flat(expected) - flat(y))
    assert moved > 0.1
    assert largest(flat(found) - flat(expected)) < 1e-10 * moved


def test_problems_without_structure_are_stepped_by_krylov_or_densely():
    y, args = network(12)
    with x64():
        expected, _ = steps(Smooth(gelu), diffrax.Kvaerno5, "structured", y, args, 0.1)
        for problem, kind in ((Opaque(Smooth(gelu)), "krylov"), (Undeclared(Smooth(gelu)), "auto")):
            found, good = steps(problem, diffrax.Kvaerno5, kind, y, args, 0.1)
            assert good == diffrax.RESULTS.successful
            assert largest(flat(found) - flat(expected)) < 1e-10


def test_a_batch_of_runs_takes_the_steps_of_each_run():
    runs = [cell(seed) for seed in (21, 22, 23)]
    h = np.array([0.01, 0.03, 0.05])
    y = np.stack([run[0] for run in runs])
    args = jax.tree.map(lambda *x: np.stack(x), *(run[1] for run in runs))
    with x64():
        take = lambda y, args, h: steps(Frozen(), diffrax.Kvaerno5, "structured", y, args, h)[0]  # noqa: E731
        together = np.asarray(jax.jit(jax.vmap(take))(y, args, h))
        alone = np.stack([take(run[0], run[1], step) for run, step in zip(runs, h, strict=True)])
    assert largest(together - alone) < 1e-11


def test_a_structured_step_of_what_is_no_network_is_refused():
    y, args = cell(0)
    with x64(), pytest.raises(ValueError, match="Argument `kind` must not be structured"):
        steps(Undeclared(Frozen()), diffrax.Kvaerno5, "structured", y, args, 0.1)


def test_a_step_with_a_singular_linearisation_is_rejected():
    y, args = one_neuron()
    gamma = 0.26  # the diagonal of Kvaerno5
    term = diffrax.ODETerm(Frozen().field)
    solver = diffrax.Kvaerno5(root_finder=root_finder(Frozen(), 1e-9, "structured"))
    # So loose that only failures are rejected.
    controller = diffrax.PIDController(rtol=10.0, atol=10.0)

    @jax.jit
    def run(h):
        ran: Any = diffrax.diffeqsolve(
            term, solver, 0.0, h, h, y, args, stepsize_controller=controller, throw=False
        )
        return ran.ys[0, 0], ran.stats["num_rejected_steps"], ran.result

    with x64():
        for s, rejections in ((1.0, 1), (0.9, 0), (1.2, 0)):
            end, rejected, result = run(jnp.array(s / gamma))
            assert result == diffrax.RESULTS.successful
            assert rejected == rejections, s
            assert np.all(np.isfinite(end))


def intermediates(jaxpr):
    """Yield the size of every array of a jaxpr, loops and branches included."""
    for equation in jaxpr.eqns:
        for out in equation.outvars:
            yield int(np.prod(getattr(out.aval, "shape", ()), dtype=np.int64))
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns") or callable(x)
        ):
            body = getattr(inner, "jaxpr", inner)
            if hasattr(body, "eqns"):
                yield from intermediates(body)


@pytest.mark.parametrize(("kind", "most"), [("frozen", 80_000), ("smooth", 600_000)])
def test_no_array_of_a_step_is_as_large_as_the_jacobian(kind, most):
    m, n, d = 500, 50, 20
    y, args = cell(0, m, n, d) if kind == "frozen" else network(0, m, n, d)
    problem = Frozen() if kind == "frozen" else Smooth(gelu)
    with x64():
        finder = root_finder(problem, 1e-8, "auto")
        assert cheapest(measure(problem, y, args)) == "woodbury"
        start, end = jnp.array(0.0), jnp.array(0.1)
        solver, term = diffrax.Kvaerno5(root_finder=finder), diffrax.ODETerm(problem.field)

        def step(y, args):
            state = solver.init(term, start, end, y, args)
            return solver.step(term, start, end, y, args, state, False)[0]

        sizes = list(intermediates(jax.make_jaxpr(step)(y, args).jaxpr))
    assert len(sizes) > 500  # it did look inside loops
    assert max(sizes) <= most < (m * (d + 1)) ** 2 / 100
