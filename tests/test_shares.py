"""Shares of random initialisations, and extremal vectors found by sampling alone."""

from __future__ import annotations

import numpy as np
import pytest

import flowsim as fs


def random_data(seed: int) -> fs.Dataset:
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 12)), int(rng.integers(2, 5))
    return fs.Dataset(rng.standard_normal((n, d)), rng.standard_normal(n))


def test_one_sample_has_the_exact_shares():
    """A quarter grows (a > 0, on); a < 0 dies if it is on, and all that are off are dead."""
    vectors = fs.extremal_vectors(fs.datasets.one_sample(), samples=40_000)
    (vector,) = vectors
    assert abs(vector.share - 0.25) < 4 * vector.share_error
    assert vector.share_error == pytest.approx(np.sqrt(3 / 16 / 40_000), rel=0.02)
    assert vector.share + vectors.dead_share == pytest.approx(1.0, abs=1e-15)


def test_antipodal_data_share_by_the_sign():
    vectors = fs.extremal_vectors(fs.datasets.symmetric_linear(), samples=40_000)
    for vector in vectors:
        assert abs(vector.share - 0.5) < 4 * vector.share_error
    assert vectors.dead_share == 0.0


@pytest.mark.parametrize("seed", range(25))
def test_shares_are_those_of_the_attracting_vectors_and_sum_to_one(seed):
    """Two computations that share nothing: faces and roles here, walks of neurons there."""
    vectors = fs.extremal_vectors(random_data(seed), samples=500, seed=seed)
    assert vectors.complete
    assert sum(v.share for v in vectors) + vectors.dead_share == pytest.approx(1.0, abs=1e-12)
    for vector in vectors:
        assert vector.share == 0.0 or vector.role.attracts != 0


@pytest.mark.parametrize("seed", range(10))
def test_sampling_finds_attracting_vectors_of_the_enumeration_and_none_else(seed):
    data = random_data(seed)
    found = fs.extremal_vectors(data, method="sample", samples=500, seed=seed)
    known = fs.extremal_vectors(data, samples=500, seed=seed)
    assert (found.complete, found.method, found.visited) == (False, "sample", 500)
    reached = [v for v in known if v.share]
    assert len(found) == len(reached)
    for vector, other in zip(found, reached, strict=True):
        np.testing.assert_allclose(vector.D, other.D, rtol=0, atol=1e-13)
        assert (vector.role, vector.share) == (other.role, other.share)
        np.testing.assert_array_equal(vector.pattern, other.pattern)


def test_too_many_faces_are_sampled():
    data = fs.datasets.linear_teacher(100, 20, seed=0)
    vectors = fs.extremal_vectors(data, samples=200)
    assert not vectors.complete
    assert "others may exist" in repr(vectors)
    with pytest.raises(ValueError, match="`max_faces` must be at least"):
        fs.extremal_vectors(data, samples=0)


@pytest.mark.parametrize(
    ("samples", "match"),
    [(-1, "`samples` must be at least 0"), (1.5, "`samples` must be an integer")],
)
def test_bad_numbers_of_samples_are_named(samples, match):
    with pytest.raises((TypeError, ValueError), match=match):
        fs.extremal_vectors(fs.datasets.xor(), samples=samples)


def test_no_samples_no_shares():
    vectors = fs.extremal_vectors(fs.datasets.xor(), samples=0)
    assert np.isnan(vectors.dead_share)
    assert all(np.isnan(v.share) for v in vectors)
