"""Who uses the cores: linear algebra keeps to one while the engine's kernels are on the others."""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from flowsim._cores import blas_on_one_core
from flowsim.engines.piecewise.jit import borrowed, compiled


def _threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_linear_algebra_gets_its_threads_back() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = _threads()
        with blas_on_one_core():
            with blas_on_one_core():
                pass
            assert set(_threads()) == {1}
        assert _threads() == before
        with pytest.raises(KeyboardInterrupt), blas_on_one_core():
            raise KeyboardInterrupt
        assert _threads() == before


class _Pair(NamedTuple):
    weights: np.ndarray
    sums: np.ndarray


@compiled
def _weighted(pair, rows):
    pair, rows = borrowed(pair), borrowed(rows)
    total = 0.0
    for i in range(rows.shape[0]):
        row = rows[i]
        total += pair.weights[i] * row[0]
        pair.sums[i] = total
    return total


def test_borrowed_arrays_are_the_same_and_keep_their_references() -> None:
    rng = np.random.default_rng(0)
    pair, rows = _Pair(rng.standard_normal(50), np.zeros(50)), rng.standard_normal((50, 3))
    held = [sys.getrefcount(x) for x in (pair.weights, pair.sums, rows)]
    total = [_weighted(pair, rows) for _ in range(100)][-1]
    expected = np.cumsum(pair.weights * rows[:, 0])
    np.testing.assert_allclose(pair.sums, expected, rtol=1e-12, atol=1e-13)
    assert total == pair.sums[-1]
    assert [sys.getrefcount(x) for x in (pair.weights, pair.sums, rows)] == held
