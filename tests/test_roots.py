"""The first root of a polynomial on an interval is found, whatever lies behind it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsim.engines.piecewise.roots import binomials, first_exit, first_root

TABLE = binomials(24)


def with_roots(roots: list[float]) -> np.ndarray:
    """Coefficients of a polynomial with these roots, positive at 0."""
    c = np.poly(roots)[::-1].copy()
    return c * np.sign(c[0])


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.integers(-15, 15).filter(bool), min_size=1, max_size=8, unique=True))
def test_the_smallest_root_in_the_interval_is_found(tenths):
    roots = [t / 10 + 0.03 for t in tenths]
    inside = sorted(r for r in roots if 0 < r <= 1)
    found = first_root(with_roots(roots), TABLE)
    assert found == pytest.approx(inside[0] if inside else -1.0, abs=1e-9)


@pytest.mark.parametrize("gap", [1e-1, 1e-3, 1e-5, 1e-6])
def test_a_double_crossing_does_not_hide(gap):
    """Both ends of the interval are positive; only the pair of roots inside tells."""
    c = with_roots([0.4, 0.4 + gap, 3.0, -2.0])
    assert c @ np.ones(5) > 0
    assert first_root(c, TABLE) == pytest.approx(0.4, abs=1e-9 / gap)


def test_a_polynomial_that_stays_positive_has_no_root():
    assert first_root(np.array([1.0, -1.99, 1.0]), TABLE) == -1.0  # minimum 0.0099
    assert first_root(np.array([1e-3, 0.0, 0.0]), TABLE) == -1.0


def test_a_touch_counts_as_a_root():
    assert first_root(np.array([0.25, -1.0, 1.0]), TABLE) == pytest.approx(0.5, abs=1e-6)


def test_a_root_at_the_start_that_opens_is_not_found_again():
    """After an event the margin is zero up to rounding; only its return is an event."""
    for start in (0.0, 1e-17, -1e-17):
        opening = np.array([start, 1.0, 0.0])
        assert first_exit(opening, 1, 1e-14, TABLE) == -1.0
        returning = np.array([start, 0.3, -1.0])  # zero again at 0.3
        assert first_exit(returning, 1, 1e-14, TABLE) == pytest.approx(0.3, abs=1e-15)


def test_a_margin_on_the_wrong_side_has_left_at_once():
    assert first_exit(np.array([-1e-3, 1.0]), 1, 1e-14, TABLE) == 0.0
    assert first_exit(np.array([1e-3, 1.0]), -1, 1e-14, TABLE) == 0.0


def test_a_quantity_that_decays_to_zero_never_leaves():
    """Coefficients of 1e-15 exp(-3x) and of rounding noise: no event, at any order."""
    factorial = np.cumprod(np.append(1.0, np.arange(1, 16)))
    decay = 4e-15 * (-3.0) ** np.arange(16) / factorial
    assert first_exit(decay, 1, 5e-15, TABLE) == -1.0
    noise = 1e-16 * np.cos(np.arange(16.0))
    assert first_exit(noise, 1, 5e-15, TABLE) == -1.0
