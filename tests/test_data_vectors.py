"""Datasets whose targets are vectors."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import flowsim as fs
from flowsim import Dataset


def test_targets_may_be_vectors_kept_exactly():
    data = Dataset([[1], [2]], [["1/3", 0, "0.1"], [1, 2, 3]], name="three")
    assert (data.y.shape, data.p) == ((2, 3), 3)
    assert data.y_exact == ((Fraction(1, 3), 0, Fraction(1, 10)), (1, 2, 3))
    assert data.rational
    assert repr(data) == "Dataset(three: n=2, d=1, p=3)"
    assert Dataset.univariate([1, 2], data.y).p == 3
    with pytest.raises(ValueError, match=r"read-only"):
        data.y[0, 0] = 1.0


def test_one_column_of_targets_stays_a_column():
    assert Dataset([[1], [2]], [[1], [2]]).y.shape == (2, 1)
    assert Dataset([[1], [2]], [1, 2]).y.shape == (2,)
    assert Dataset([[1], [2]], [1, 2]).p == Dataset([[1], [2]], [[1], [2]]).p == 1


def test_vector_targets_load_from_plain_arrays(tmp_path):
    y = np.array([[0.5, 1.0], [2.0, 3.0]])
    np.savez(tmp_path / "plain.npz", X=np.array([[1.0], [2.0]]), y=y)
    np.testing.assert_array_equal(Dataset.from_npz(tmp_path / "plain.npz").y, y)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("run", [fs.simulate, fs.alignment.until], ids=["flow", "alignment"])
def test_relu_networks_refuse_vector_targets_in_one_sentence(run, p):
    data = Dataset([[1], [2]], np.ones((2, p)))
    message = (
        "^Argument `data` must have scalar labels for two-layer ReLU networks, but has "
        rf"p={p}, y of shape \(2, {p}\)\.$"
    )
    with pytest.raises(ValueError, match=message):
        run(fs.init.balanced(2, 1, 0.1, seed=0), data)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (1, r"must be a 1-d or 2-d array, but it has no axis\."),
        ([[1], [2, 3]], r"must have rows of one length, but they differ\."),
        ([[1, 2]], r"must have one entry for each of the 2 rows of X, but it has 1\."),
        (np.empty((2, 0)), r"must have at least one column, but its shape is \(2, 0\)\."),
        ([[1, 2], [3, np.nan]], r"must hold finite float64 numbers, but y\[1, 1\] is nan\."),
    ],
)
def test_bad_targets_get_one_sentence(y, message):
    with pytest.raises(ValueError, match=f"^Argument `y` {message}$"):
        Dataset([[1], [2]], y)


@pytest.mark.parametrize(
    "y", [[["1/3", "0.1"], [2, 3]], np.array([[0.1, 0.2], [0.3, 0.4]]), [[1], ["1/7"]]]
)
def test_saved_vector_targets_come_back_exactly(tmp_path, y):
    data = Dataset([[1], [2]], y)
    data.save(tmp_path / "data.npz")
    back = Dataset.from_file(tmp_path / "data.npz")
    assert (back.y_exact, back.rational) == (data.y_exact, data.rational)
    np.testing.assert_array_equal(back.y, data.y)
