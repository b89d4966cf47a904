"""Extreme eigenvalues of Hessians, and the verdicts that follow from them."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import flowsim as fs
from flowsim.models import DiagonalLinear, Objective
from flowsim.stationarity import hessian
from flowsim.stationarity.hessian import classify, limit_loss, spectrum

H = np.array([[1.0, 0.5], [0.5, 1.0]])
BETA = np.array([2.0, 1.0])


def diagonal(u: Any, v: Any) -> Objective:
    """``L = 1/2 (β - β*)ᵀ H (β - β*)`` with β = u ⊙ v."""
    X = np.linalg.cholesky(2.0 * H).T
    return Objective.of(DiagonalLinear(u, v), fs.Dataset(X, X @ BETA))


def quadratic(values: np.ndarray, shift: float = 0.0) -> tuple[Objective, np.ndarray]:
    """A quadratic form with these eigenvalues, and its eigenvectors as columns."""
    Q = np.linalg.qr(np.random.default_rng(1).standard_normal((len(values), len(values))))[0]
    A = (Q * values) @ Q.T

    def loss(parts: Any) -> Any:
        x = jnp.concatenate([parts["a"], parts["b"].ravel()])
        return 0.5 * x @ (jnp.asarray(A) @ x) + shift

    half = len(values) // 2
    start = {"a": np.zeros(half), "b": np.zeros((len(values) - half, 1))}
    return Objective.of((loss, start)), Q


def ends(objective: Objective) -> hessian.Spectrum:
    return spectrum(objective.functional, objective.parameters, objective.args)


def verdict(objective: Objective, stationary: bool = True) -> Any:
    return classify(
        objective.functional,
        objective.parameters,
        objective.args,
        stationary=stationary,
        initial_loss=1.0,
    )


def test_a_small_hessian_is_diagonalised():
    u, v = np.array([2.5, 0.0]), np.array([1.0, 0.0])
    # With g = H (β - β*): blocks of v_i v_j H_ij, u_i u_j H_ij, u_i v_j H_ij + g_i δ_ij.
    g = H @ (u * v - BETA)
    full = np.block(
        [
            [np.outer(v, v) * H, np.outer(v, u) * H + np.diag(g)],
            [np.outer(u, v) * H + np.diag(g), np.outer(u, u) * H],
        ]
    )
    values = np.linalg.eigvalsh(full)
    found = ends(diagonal(u, v))
    assert np.allclose([found.lowest, found.highest], values[[0, -1]], rtol=1e-13, atol=0)
    assert abs(found.lowest + 0.75) < 1e-14
    assert np.allclose(full @ found.vector, found.lowest * found.vector, rtol=0, atol=1e-14)
    assert found.products == 4


@pytest.mark.parametrize("lowest", [-3.0, -1e-3, 0.0, 0.5])
def test_lanczos_finds_the_ends_of_a_large_spectrum(lowest: float):
    values = np.linspace(1.0, 10.0, 400)
    values[0] = lowest
    objective, Q = quadratic(values)
    found = ends(objective)
    assert found.error <= 1e-7 * 10.0
    assert abs(found.lowest - lowest) <= 1e-12 * 10.0
    assert 0.999 * 10.0 <= found.highest <= 10.0 + 1e-14  # it only gives the scale
    assert abs(abs(found.vector @ Q[:, 0]) - 1.0) <= 1e-12
    assert found.products < 400
    assert ends(objective).lowest == found.lowest  # the same start


def test_lanczos_ends_in_an_invariant_subspace():
    values = np.zeros(300)
    values[:3] = [-1.0, 2.0, 5.0]
    found = ends(quadratic(values)[0])
    assert abs(found.lowest + 1.0) < 1e-12
    assert abs(found.highest - 5.0) < 1e-12
    assert found.flat == -1
    for scale in (1e-200, 1e200):
        scaled = ends(quadratic(scale * values)[0])
        assert abs(scaled.lowest / scale + 1.0) < 1e-12
    assert ends(quadratic(np.zeros(300))[0]).largest == 0.0


def test_verdicts_name_the_kind_of_rest_point():
    saddle = verdict(diagonal([2.5, 0.0], [1.0, 0.0]))
    assert saddle.kind == "saddle"
    assert "-0.75" in saddle.reason
    assert "exp(0.75 t)" in saddle.reason
    assert abs(saddle.limit_loss - 0.375) < 1e-15
    assert verdict(diagonal([2.0, 1.0], [1.0, 1.0])).kind == "interpolation"
    assert verdict(diagonal([2.0, 1.0], [1.0, 1.0]), stationary=False).kind == "not_stationary"
    # A loss function has no labels to fit, and its zero is no better than another value.
    for shift in (0.0, 7.0):
        found = verdict(quadratic(np.linspace(0.1, 1.0, 20), shift)[0])
        assert found.kind == "local_minimum"
        assert found.limit_loss == shift
    flat = verdict(quadratic(np.array([0.0, 0.0, 1.0]))[0])
    # What no symmetry makes flat may go down at a higher order.
    assert flat.kind == "unknown"
    assert "2 flat direction(s)" in flat.reason
    assert verdict(quadratic(np.zeros(3))[0]).kind == "unknown"


def test_a_loss_that_is_about_to_vanish_is_an_interpolation():
    near = diagonal([2.0 + 1e-7, 1.0 - 1e-7], [1.0, 1.0])
    loss = 0.5 * 1e-14
    assert 0.3 * loss < 0.5 * 1e-14 * (H[0, 0] + H[1, 1] - 2 * H[0, 1])
    assert limit_loss(near.functional, near.parameters, near.args) < 1e-6 * loss
    assert verdict(near).kind == "interpolation"
    far = diagonal([2.1, 0.9], [1.0, 1.0])
    assert verdict(far).kind != "interpolation"


def test_newtons_limit_agrees_for_small_and_large_hessians():
    for count in (50, 300):
        values = np.concatenate([np.zeros(10), np.linspace(1.0, 3.0, count - 10)])
        objective, Q = quadratic(values, shift=2.0)
        x = Q[:, 15:].sum(axis=1)
        parameters = {"a": x[: count // 2], "b": x[count // 2 :, None]}
        assert abs(limit_loss(objective.functional, parameters, objective.args) - 2.0) < 1e-9


def test_a_badly_known_eigenvalue_gives_no_verdict(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hessian, "DEPTHS", (8,))
    values = np.geomspace(1e-9, 1.0, 300)
    found = verdict(quadratic(values)[0])
    assert found.kind == "unknown"
    assert "known to" in found.reason
