"""Structured linear solves of implicit steps: what the dense Jacobian gives, in any shape."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from structured_support import (
    ACTIVATIONS,
    Frozen,
    Opaque,
    Smooth,
    Undeclared,
    cell,
    flat,
    gelu,
    jacobian,
    largest,
    like,
    network,
    one_neuron,
)

from flowsim._jax import x64
from flowsim.engines import structured_blocks
from flowsim.engines.structured import Sizes, cheapest, measure, structured_root_finder
from flowsim.engines.structured_inverse import invert
from flowsim.engines.structured_solve import Dense, Krylov, MatrixFree, Woodbury


def systems():
    frozen: list[dict[str, Any]] = [{}, {"s": 0}, {"feels": 0.0}, {"leak": 0.1}, {"n": 40}]
    for seed, options in enumerate(frozen):
        yield pytest.param(Frozen(), *cell(seed, **options), id=f"frozen-{options}")
    for phi in ACTIVATIONS:
        yield pytest.param(Smooth(phi), *network(7), id=f"smooth-{phi.__name__}")
    smooth: list[dict[str, Any]] = [
        {"p": 3},
        {"p": 1},
        {"d": 15},
        {"d": 15, "p": 2},
        {"tiny": True},
    ]
    for options in smooth:
        yield pytest.param(Smooth(gelu), *network(8, **options), id=f"smooth-{options}")
    yield pytest.param(Smooth(jnp.tanh, 0.0), *network(9, p=2), id="smooth-frozen-residual")


SYSTEMS = tuple(systems())


@functools.partial(jax.jit, static_argnums=(0, 1))
def solve(way, problem, y, s, args, b):
    return way.solve(problem, y, s, args, way.factor(problem, y, s, args), b)


# -- solves -------------------------------------------------------------------------------------


def check_solve(way, problem, y, s, args, tolerance):
    """Assert that a way solves ``(I - sJ) x = b`` as the matrix from jacfwd does in NumPy."""
    b = like(y, 1)
    J = np.asarray(jacobian(problem, y, args))
    matrix = np.eye(len(J)) - s * J
    assert np.linalg.cond(matrix) < 1e5
    exact = np.linalg.solve(matrix, flat(b))
    x, reliable = solve(way, problem, y, s, args, b)
    assert reliable
    assert jax.tree.structure(x) == jax.tree.structure(y)
    assert largest(flat(x) - exact) < tolerance * largest(exact)


@pytest.mark.parametrize(("problem", "y", "args"), SYSTEMS)
def test_blocks_and_outputs_solve_as_the_dense_jacobian_does(problem, y, args):
    with x64():
        for s in (0.17, -0.05, 3.0):
            check_solve(Woodbury(), problem, y, s, args, 1e-12)


@pytest.mark.parametrize("which", [0, 5, 10])
def test_other_ways_solve_as_the_dense_jacobian_does(which):
    problem, y, args = SYSTEMS[which].values
    with x64():
        for s in (0.17, 3.0):
            check_solve(Dense(), problem, y, s, args, 1e-12)
            check_solve(Krylov(), problem, y, s, args, 1e-8)


def test_products_with_the_jacobian_alone_solve_any_problem():
    y, args = network(3)
    with x64():
        problem = Opaque(Smooth(gelu))
        b = like(y, 2)
        x, reliable = solve(MatrixFree(), problem, y, 0.8, args, b)
        back = flat(x) - 0.8 * jacobian(problem, y, args) @ flat(x)
        assert reliable
        assert largest(back - flat(b)) < 1e-9 * largest(flat(b))


@pytest.mark.parametrize("kind", ["frozen", "smooth"])
def test_chunks_of_neurons_sum_to_the_whole(kind, monkeypatch):
    y, args = cell(1) if kind == "frozen" else network(1)
    problem = Frozen() if kind == "frozen" else Smooth(gelu)
    with x64():

        def total(y, args):
            view = problem.two_layer(y, args)
            return view.capacitance(view.factor(0.3))

        whole = jax.jit(total)(y, args)
        for numbers in (1, 540):  # one neuron at a time, and several that leave a rest
            monkeypatch.setattr(structured_blocks, "CHUNK", numbers)
            parts = jax.jit(lambda y, args: total(y, args))(y, args)
            assert largest(parts - whole) < 1e-13 * largest(whole)


@pytest.mark.parametrize("k", [1, 3, 16, 17, 33, 70])
def test_inverses_are_as_good_as_lapacks(k):
    matrices = np.random.default_rng(k).standard_normal((5, k, k))
    matrices[0] = np.eye(k)[::-1]  # every pivot lies elsewhere
    with x64():
        found = np.asarray(jax.jit(invert)(matrices))
    exact = np.linalg.inv(matrices)
    bound = 1e-15 * k * np.linalg.cond(matrices) * np.abs(exact).max(axis=(1, 2))
    assert np.all(np.abs(found - exact).max(axis=(1, 2)) <= bound)
    with x64():
        assert not np.isfinite(np.asarray(jax.jit(invert)(np.zeros((5, k, k))))).any()


def test_a_singular_block_is_reported_and_its_neighbourhood_is_solved():
    y, args = one_neuron()
    with x64():
        assert not solve(Woodbury(), Frozen(), y, 1.0, args, y)[1]
        assert not solve(Dense(), Frozen(), y, 1.0, args, y)[1]
        assert not solve(Krylov(), Frozen(), y, 1.0, args, y)[1]
        for s in (1.0 - 1e-4, 1.0 + 1e-4, 30.0):
            x, reliable = solve(Woodbury(), Frozen(), y, s, args, y)
            back = flat(x) - s * jacobian(Frozen(), y, args) @ flat(x)
            assert reliable
            assert largest(back - flat(y)) < 1e-11


# -- choice ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "way"),
    [
        (Sizes(404_000, outputs=200, neurons=4000, samples=200, slides=2), "woodbury"),
        (Sizes(404_000, outputs=200, neurons=4000, width=101, samples=200), "woodbury"),
        (Sizes(30, outputs=1000, neurons=10, samples=1000), "dense"),
        (Sizes(30, outputs=9000, neurons=10, samples=9000), "dense"),
        (Sizes(30, outputs=5, neurons=10, samples=5), "woodbury"),
        (Sizes(60_000, outputs=9000, neurons=10_000, samples=9000), "krylov"),
        (Sizes(10**7, outputs=100, neurons=10**5, width=100, samples=1000), "matrix_free"),
        (Sizes(5000), "dense"),
        (Sizes(5001), "matrix_free"),
    ],
)
def test_the_cheapest_way_within_memory_is_chosen(sizes, way):
    assert cheapest(sizes) == way


def test_sizes_are_read_from_shapes():
    with x64():
        assert measure(Frozen(), *cell(0)) == Sizes(45, 11, 9, 0, 11, 2)
        assert measure(Smooth(gelu), *network(0, d=15, p=2)) == Sizes(119, 18, 7, 11, 9)
        assert measure(Undeclared(Smooth(gelu)), *network(0)) == Sizes(35)


def test_kinds_that_do_not_fit_are_refused():
    assert structured_root_finder(Opaque(Frozen()), 1e-8, "structured") is None
    with pytest.raises(ValueError, match="Argument `kind` must be one of"):
        structured_root_finder(Frozen(), 1e-8, "sparse")
