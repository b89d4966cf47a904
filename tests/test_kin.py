"""Sums over the samples of groups in nearly the same cells, against plain sums."""

from __future__ import annotations

import numpy as np
import pytest

from flowsim.engines.piecewise.kin import LARGEST, WORTH, add_outputs, field_of, kin_of


def _codes(n: int, seed: int) -> np.ndarray:
    """Return activation codes (groups, n) of three clusters, slides among them."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(np.array([-1, 1], np.int8), (3, n))[rng.integers(0, 3, 20)]
    for code in codes:
        changed = rng.choice(n, rng.integers(0, n // 20), replace=False)
        code[changed] = rng.choice(np.array([-1, 0, 1], np.int8), len(changed))
    return codes


@pytest.mark.parametrize("slope", [0.0, 0.3])
@pytest.mark.parametrize("n", [WORTH // 2, 300])
def test_shared_sums_are_the_plain_ones(n: int, slope: float) -> None:
    d, rng = 4, np.random.default_rng(1)
    on = np.repeat(_codes(n, 2), 2, axis=0)  # only every other slot is active
    active = np.arange(0, len(on), 2)
    kin = kin_of(on, active, slope)
    c = (on[active] > 0) + slope * (on[active] < 0)
    T, V = rng.standard_normal((d, n)), rng.standard_normal((len(active), d))
    base = np.zeros((len(active), 2, d))
    for q in range(len(active)):
        field_of(q, slope, on, active, kin, T, 1, base)
    np.testing.assert_allclose(base[:, 1], c @ T.T, atol=1e-12)
    assert not np.any(base[:, 0])
    U = np.zeros((d, n))
    add_outputs(slope, on, active, kin, 0, len(active), V.copy(), U)
    np.testing.assert_allclose(U, V.T @ c, atol=1e-12)


def test_parents_come_before_and_differ_in_few_samples() -> None:
    on = _codes(300, 3)
    kin = kin_of(on, np.arange(len(on)), 0.0)
    children = np.flatnonzero(kin.parent >= 0)
    assert len(children) == len(on) - 3  # the first of each cluster has no parent
    assert np.all(kin.parent[children] < children)
    counts = np.diff(kin.first)
    assert np.all(counts[kin.parent < 0] == 0)
    for q in children:
        differ = np.flatnonzero(on[q] != on[kin.parent[q]])
        assert len(differ) <= 300 // LARGEST
        np.testing.assert_array_equal(kin.sample[kin.first[q] : kin.first[q + 1]], differ)


def test_few_samples_have_no_kin() -> None:
    on = _codes(WORTH - 1, 4)
    assert np.all(kin_of(on, np.arange(len(on)), 0.0).parent == -1)
