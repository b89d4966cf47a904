"""Codes are compared a run at once, and what is left of the last one by one."""

import numpy as np
import pytest

from flowsim.engines.piecewise.codes import RUN, differences, list_differences, list_zeros

SIZES = [1, RUN - 1, RUN, RUN + 1, 3 * RUN + 7]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("changes", [0, 1, 5, 1000])
def test_differences_are_listed_in_order_and_counted_up_to_a_limit(size: int, changes: int) -> None:
    rng = np.random.default_rng(size)
    a = rng.integers(-1, 2, size).astype(np.int8)
    b = a.copy()
    b[rng.integers(0, size, changes)] -= 3
    expected = np.flatnonzero(a != b)
    out = np.full(size + 1, -1)
    assert list_differences(a, b, out) == len(expected)
    assert np.array_equal(out[: len(expected)], expected)
    for limit in (1, 3, size + 1):
        assert differences(a, b, limit) == min(len(expected), limit)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("share", [0.0, 0.02, 1.0])
def test_zeros_are_listed_in_order(size: int, share: float) -> None:
    rng = np.random.default_rng(size)
    code = np.where(rng.random(size) < share, 0, rng.choice([-1, 1], size)).astype(np.int8)
    expected = np.flatnonzero(code == 0)
    out = np.full(size + 1, -1)
    assert list_zeros(code, out) == len(expected)
    assert np.array_equal(out[: len(expected)], expected)
