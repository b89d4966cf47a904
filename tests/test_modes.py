"""The modes of the kernel that steps by collocation are solved in."""

from __future__ import annotations

import numpy as np
import pytest

from flowsim.engines.piecewise.collocation import left_singular


@pytest.mark.parametrize("decades", [0, 4, 7])
@pytest.mark.parametrize("shape", [(60, 7), (60, 40), (8, 20)])
def test_they_are_left_singular_vectors(shape: tuple[int, int], decades: int) -> None:
    rng = np.random.default_rng([11, decades, *shape])
    F = rng.standard_normal(shape) * np.logspace(0, -decades, shape[1])
    U, sigma = left_singular(F)
    known, values, _ = np.linalg.svd(F, full_matrices=False)
    np.testing.assert_allclose(sigma, values, rtol=1e-9)
    np.testing.assert_allclose(np.abs(np.sum(U * known, axis=0)), 1.0, rtol=1e-9)
    np.testing.assert_allclose(U.T @ U, np.eye(U.shape[1]), atol=1e-8)


def test_dependent_and_empty_columns_have_none() -> None:
    rng = np.random.default_rng(12)
    F = rng.standard_normal((30, 5))
    U, sigma = left_singular(np.column_stack([F, F @ rng.standard_normal((5, 2)), np.zeros(30)]))
    np.testing.assert_allclose(sigma[5:], 0.0, atol=1e-13)
    np.testing.assert_allclose(U[:, :5] @ (U[:, :5].T @ F), F, atol=1e-13)
