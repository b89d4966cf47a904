"""Shares of random initialisations, and extremal vectors found by sampling alone."""

from __future__ import annotations

import numpy as np
import pytest

import flowsim as fs
from flowsim.alignment.shares import Ends, with_shares


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
    assert vectors.dead_share == vectors.other_share == 0.0


@pytest.mark.parametrize("seed", range(25))
def test_shares_are_those_of_the_attracting_vectors_and_sum_to_one(seed):
    """Two computations that share nothing: faces and roles here, walks of neurons there."""
    vectors = fs.extremal_vectors(random_data(seed), samples=500, seed=seed)
    assert vectors.complete
    assert sum(v.share for v in vectors) + vectors.dead_share == pytest.approx(1.0, abs=1e-12)
    assert vectors.other_share == 0.0
    assert "elsewhere" not in repr(vectors)
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


@pytest.mark.parametrize("apart", [1e-9, 1e-10, 1e-11, 1e-12])
@pytest.mark.parametrize("method", ["auto", "exact", "sample"])
def test_all_neurons_are_counted_where_rounding_decides_ties(apart, method):
    others = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((3, 4))
        X = np.vstack([X, X + apart * rng.standard_normal(X.shape)])
        data = fs.Dataset(X, rng.standard_normal(6) * 10.0 ** rng.integers(-6, 6, 6))
        exact = method == "exact"
        vectors = fs.extremal_vectors(
            data, exact=exact, method="auto" if exact else method, samples=500, seed=seed
        )
        parts = [v.share for v in vectors] + [vectors.dead_share, vectors.other_share]
        assert sum(parts) == pytest.approx(1.0, abs=1e-12)
        assert ("end elsewhere" in repr(vectors)) == (vectors.other_share > 0)
        others.append(vectors.other_share)
    assert min(others) >= 0.0


def test_ends_in_no_vector_are_the_other_share():
    vectors = fs.extremal_vectors(fs.datasets.three_points(), samples=0)
    w = vectors[0].direction
    ends = Ends(10, np.array([w, -w]), np.array([4, 3]), 2)  # and one that tends nowhere
    found = with_shares(vectors, ends)
    assert (found[0].share, found.dead_share, found.other_share) == (0.4, 0.2, 0.4)
    assert "; 0.2000 of random neurons die or rest; 0.4000 end elsewhere" in repr(found)


def test_without_labels_all_neurons_rest():
    vectors = fs.extremal_vectors(fs.Dataset(np.eye(2), [0, 0]))
    assert (len(vectors), vectors.dead_share, vectors.other_share) == (0, 1.0, 0.0)


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
    assert np.isnan(vectors.other_share)
    assert all(np.isnan(v.share) for v in vectors)
