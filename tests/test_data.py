"""Datasets: exact values, hyperplanes, validation, files."""

from __future__ import annotations

import pickle
from decimal import Decimal
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from flowsim import Dataset

EPS = float(np.finfo(float).eps)


# -- exact values -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("0.1", Fraction(1, 10)),
        (" -3/4 ", Fraction(-3, 4)),
        ("1e-3", Fraction(1, 1000)),
        (Decimal("0.1"), Fraction(1, 10)),
        (Fraction(1, 3), Fraction(1, 3)),
        (7, Fraction(7)),
        (2**53 + 1, Fraction(2**53 + 1)),
        (np.int64(2**62 + 1), Fraction(2**62 + 1)),
    ],
)
def test_exact_entries_are_rational_and_correctly_rounded(entry, value):
    data = Dataset([[entry]], [entry])
    assert data.rational
    assert data.X_exact == ((value,),)
    assert data.y_exact == (value,)
    assert type(data.y_exact[0].numerator) is int  # NumPy's integers wrap around
    assert data.X[0, 0] == data.y[0] == float(value)


@pytest.mark.parametrize("X", [[[0.1]], np.array([[0.1]]), [[np.float64(0.1)]]])
def test_a_float_means_its_binary_value(X):
    data = Dataset(X, ["1"])
    assert not data.rational
    assert data.X_exact == ((Fraction(0.1),),)
    assert data.X_exact[0][0] != Fraction(1, 10)


def test_one_float_among_strings_is_not_read_as_a_decimal():
    data = Dataset([["0.1", 0.1]], [1])
    assert data.X_exact == ((Fraction(1, 10), Fraction(0.1)),)
    assert not data.rational


@pytest.mark.parametrize(
    ("X", "y", "rational"), [([[1]], [1], True), ([[1.0]], [1], False), ([[1]], [1.0], False)]
)
def test_data_are_rational_if_neither_inputs_nor_targets_came_as_floats(X, y, rational):
    assert Dataset(X, y).rational is rational


def test_integer_arrays_are_rational_and_float32_is_converted_exactly():
    assert Dataset(np.array([[2, 3]]), np.array([1])).X_exact == ((2, 3),)
    single = np.array([[0.1]], dtype=np.float32)
    assert Dataset(single, [1]).X_exact == ((Fraction(float(single[0, 0])),),)


def test_univariate_appends_the_bias_and_keeps_exact_values():
    data = Dataset.univariate(["0.1", -2], ["1/3", 0], name="pair")
    assert data.X_exact == ((Fraction(1, 10), 1), (-2, 1))
    assert data.y_exact == (Fraction(1, 3), 0)
    assert data.rational
    assert not Dataset.univariate(np.array([0.1]), [1]).rational


def test_arrays_and_fields_cannot_be_changed():
    X = np.ones((1, 2))
    data = Dataset(X, [1.0], teacher=[1.0, 0.0])
    X[0, 0] = 5.0
    assert data.X[0, 0] == 1.0
    assert data.teacher is not None
    for array in (data.X, data.y, data.teacher, data.norms, data.normals, data.orientation):
        with pytest.raises(ValueError, match=r"read-only"):
            array.flat[0] = 2
    with pytest.raises(AttributeError):
        data.X = X  # type: ignore[misc]


def test_data_know_their_shape_and_survive_pickling():
    data = pickle.loads(pickle.dumps(Dataset([["1/3", 1, 2]], [1], name="one")))
    assert (data.n, data.d) == (1, 3)
    assert repr(data) == "Dataset(one: n=1, d=3)"
    assert data.X_exact == ((Fraction(1, 3), 1, 2),)


# -- hyperplanes ------------------------------------------------------------------------------


def test_parallel_and_antipodal_samples_share_the_hyperplane_of_the_first():
    data = Dataset([[3, 4], [0, 1], [-6, -8], ["0.3", "0.4"], [0, -2]], [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(data.hyperplane, [0, 1, 0, 0, 1])
    np.testing.assert_array_equal(data.orientation, [1, 1, -1, 1, -1])
    np.testing.assert_allclose(data.normals, [[0.6, 0.8], [0, 1]], rtol=EPS)
    np.testing.assert_allclose(data.norms, [5, 1, 10, 0.5, 2], rtol=EPS)


def test_the_normal_is_the_direction_of_the_first_sample_even_if_it_points_down():
    data = Dataset([[0, -2], [0, 3]], [1, 1])
    np.testing.assert_array_equal(data.normals, [[0, -1]])
    np.testing.assert_array_equal(data.orientation, [1, -1])


def test_rational_samples_are_compared_exactly():
    tiny = Fraction(1, 10**30)
    distinct = Dataset([[1, 1], [1, 1 + tiny]], [1, 1])
    assert distinct.X[0, 1] == distinct.X[1, 1]
    np.testing.assert_array_equal(distinct.hyperplane, [0, 1])
    third, seventh = Fraction(1, 3), Fraction(1, 7)
    parallel = Dataset([[third, seventh], [-7 * third, -1]], [1, 1])
    np.testing.assert_array_equal(parallel.hyperplane, [0, 0])
    np.testing.assert_array_equal(parallel.orientation, [1, -1])


def test_targets_given_as_floats_leave_the_comparison_exact():
    data = Dataset([[1, 1], [1, Fraction(10**30 + 1, 10**30)]], [0.5, 0.5])
    np.testing.assert_array_equal(data.hyperplane, [0, 1])


@pytest.mark.parametrize(("shift", "hyperplanes"), [(4 * EPS, 1), (1e-13, 2)])
def test_rounded_samples_are_parallel_up_to_rounding(shift, hyperplanes):
    data = Dataset(np.array([[1.0, 1.0], [1.0, 1.0 + shift]]), [1, 1])
    assert len(data.normals) == hyperplanes


@given(
    d=st.integers(1, 6),
    factors=st.lists(st.floats(0.01, 100).flatmap(lambda c: st.sampled_from([c, -c])), max_size=12),
    seed=st.integers(0, 99),
)
def test_rounded_multiples_share_a_hyperplane_and_others_do_not(d, factors, seed):
    rng = np.random.default_rng(seed)
    lines = rng.standard_normal((4, d))
    which = np.concatenate([np.arange(4), rng.integers(0, 4, len(factors))])
    factor = np.concatenate([np.ones(4), factors])
    data = Dataset(factor[:, None] * lines[which], np.zeros(len(which)))
    if d == 1:  # every sample is a multiple of every other
        which, factor = 0 * which, factor * np.sign(lines[which, 0] * lines[0, 0])
    np.testing.assert_array_equal(data.hyperplane, which)
    np.testing.assert_array_equal(data.orientation, np.sign(factor))


def test_lines_that_the_probe_cannot_tell_apart_are_told_apart():
    # The probe is the p of group_rounded: a line and its reflection in p have the same |p·ν|.
    p = np.random.default_rng(0).standard_normal(2)
    p /= np.linalg.norm(p)
    x = np.array([0.3, 0.8])
    mirrored = 2 * (p @ x) * p - x
    data = Dataset(np.array([x, mirrored, -x, -2 * mirrored, x]), np.zeros(5))
    np.testing.assert_array_equal(data.hyperplane, [0, 1, 0, 1, 0])
    np.testing.assert_array_equal(data.orientation, [1, 1, -1, -1, 1])
    np.testing.assert_array_equal(Dataset(data.X[:2], np.zeros(2)).hyperplane, [0, 1])


def test_rounded_and_exact_comparison_agree_on_a_lattice():
    grid = np.arange(-6, 7)
    lattice = np.array([(i, j) for i in grid for j in grid if (i, j) != (0, 0)])
    rounded = Dataset(lattice.astype(float), np.zeros(len(lattice)))
    exact = Dataset(lattice, np.zeros(len(lattice)))
    assert exact.rational is False
    np.testing.assert_array_equal(rounded.hyperplane, exact.hyperplane)
    np.testing.assert_array_equal(rounded.orientation, exact.orientation)


entries = st.integers(-3, 3)


@given(
    st.integers(1, 4).flatmap(
        lambda d: st.lists(
            st.lists(entries, min_size=d, max_size=d).filter(any), min_size=1, max_size=15
        )
    ),
    st.booleans(),
)
def test_samples_are_their_orientation_times_norm_times_normal(rows, rational):
    data = Dataset(rows if rational else np.array(rows, dtype=float), np.zeros(len(rows)))
    rebuilt = (data.orientation * data.norms)[:, None] * data.normals[data.hyperplane]
    np.testing.assert_allclose(rebuilt, data.X, rtol=4 * EPS, atol=0)
    np.testing.assert_allclose(np.linalg.norm(data.normals, axis=1), 1, rtol=2 * EPS)
    _, first = np.unique(data.hyperplane, return_index=True)
    assert np.all(np.diff(first) > 0)  # numbered by first appearance
    assert np.all(data.orientation[first] == 1)


# -- validation -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ([[1, 2], [3, float("nan")]], [1, 2], r"`X` must hold finite .* X\[1, 1\] is nan\."),
        (np.array([[1.0], [np.inf]]), [1, 2], r"`X` must hold finite .* X\[1, 0\] is inf\."),
        ([[1]], [float("inf")], r"`y` must hold finite .* y\[0\] is inf\."),
        ([["1", "abc"]], [1], r"`X` must hold real numbers, but X\[0, 1\] is 'abc'\."),
        ([["1/0"]], [1], r"`X` must hold real numbers, but X\[0, 0\] is '1/0'\."),
        ([[""]], [1], r"`X` must hold real numbers, but X\[0, 0\] is ''\."),
        ([["1e999999999"]], [1], r"`X` must hold finite .* X\[0, 0\] is 1e999999999\."),
        ([["1", "1e-999999999"]], [1], r"`X` must hold finite .* X\[0, 1\] is 1e-999999999\."),
        ([[Fraction(1, 10**400)]], [1], r"`X` must hold finite .* X\[0, 0\] is 1/1"),
        ([[10**400]], [1], r"`X` must hold finite .* X\[0, 0\] is 1"),
        ([[1, 2], [3]], [1, 2], r"`X` must have rows of one length"),
        ([[1], [3, 4]], [1, 2], r"`X` must have rows of one length"),
        ([1, 2], [1, 2], r"`X` must be a 2-d array, but it has 1 axis\."),
        (None, [1], r"`X` must be a 2-d array, but it has no axis\."),
        ([[1]], [[[1]]], r"`y` must be a 1-d or 2-d array, but it has 3 axes\."),
        ([[1], [2]], [1], r"`y` must have one entry for each of the 2 rows of X, but it has 1\."),
        (np.empty((0, 2)), [], r"`X` must have at least one row"),
        (np.empty((2, 0)), [1, 2], r"`X` must have at least one row and one column"),
        ([[1, 0], [0, 0]], [1, 2], r"`X` must have no zero rows, but X\[1\] is zero"),
        ([[1, 0], [1e-160, 0]], [1, 2], r"`X` must have rows .* X\[1\] has entries up to 1e-160\."),
        ([[1e200]], [1], r"`X` must have rows .* X\[0\] has entries up to 1e\+200\."),
        ([[1]], [1e-170], r"`y` must have squares .* go up to 1e-170\."),
        ([[1]], [-1e160], r"`y` must have squares .* go up to 1e\+160\."),
    ],
)
def test_bad_values_get_one_sentence(X, y, message):
    with pytest.raises(ValueError, match=f"^Argument {message}") as caught:
        Dataset(X, y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entry", [1j, None, object(), [1]])
def test_wrong_types_raise_a_type_error(entry):
    y = np.empty(2, dtype=object)
    y[0], y[1] = 1, entry
    with pytest.raises(TypeError, match=r"^Argument `y` must hold real numbers, but y\[1\] is "):
        Dataset([[1], [1]], y)


@pytest.mark.parametrize(
    ("details", "message"),
    [
        ({"teacher": [1.0]}, "`teacher` must have one entry for each of the 2 input"),
        ({"teacher": [np.nan, 1]}, "`teacher` must hold finite"),
        ({"noise": -0.5}, r"`noise` must be finite and at least 0, but it is -0\.5\."),
        ({"noise": float("nan")}, "`noise` must be finite and at least 0, but it is nan"),
        (
            {"inputs": "cauchy"},
            "`inputs` must be one of gaussian, symmetric, sphere, uniform, or None, but",
        ),
    ],
)
def test_bad_details_get_one_sentence(details, message):
    with pytest.raises(ValueError, match=f"^Argument {message}"):
        Dataset([[1, 2]], [1], **details)


def test_zero_targets_are_allowed():
    assert Dataset([[1]], [0]).y[0] == 0.0


# -- files ------------------------------------------------------------------------------------


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_decimals_are_kept_exactly(tmp_path):
    path = write(tmp_path / "my.csv", "x1, x2, y\n# a comment\n0.1, 1/3, -2\n\n1e-2,4,0.7\n")
    data = Dataset.from_csv(path)
    assert data.name == "my"
    assert data.rational
    assert data.X_exact == ((Fraction(1, 10), Fraction(1, 3)), (Fraction(1, 100), 4))
    assert data.y_exact == (-2, Fraction(7, 10))


def test_csv_files_of_spreadsheets_start_with_a_byte_order_mark(tmp_path):
    assert Dataset.from_csv(write(tmp_path / "t.csv", "\ufeff1,2\n")).X_exact == ((1,),)


@pytest.mark.parametrize("target", [None, "c", 2, -1])
def test_csv_target_is_the_last_column_by_default(tmp_path, target):
    data = Dataset.from_csv(write(tmp_path / "t.csv", "a,b,c\n1,2,3\n4,5,6\n"), target=target)
    assert data.X_exact == ((1, 2), (4, 5))
    assert data.y_exact == (3, 6)


@pytest.mark.parametrize("target", ["b", 1, -2])
def test_csv_target_may_be_any_column_by_name_or_index(tmp_path, target):
    data = Dataset.from_csv(write(tmp_path / "t.csv", "a,b,c\n1,2,3\n4,5,6\n"), target=target)
    assert data.X_exact == ((1, 3), (4, 6))
    assert data.y_exact == (2, 5)


def test_csv_bias_is_appended_as_the_last_input(tmp_path):
    data = Dataset.from_csv(write(tmp_path / "t.csv", "0.5,2\n4,5\n"), bias=True)
    assert data.X_exact == ((Fraction(1, 2), 1), (4, 1))


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("", None, "must name a table with rows, but .*t.csv has none"),
        ("x,y\n", None, "must name a table with rows, but .*t.csv has none"),
        ("1,2\n3,abc\n", None, "of finite numbers, but line 2, column 2 of .*t.csv is 'abc'"),
        ("x,y\n\n1,2\n3,\n", None, "of finite numbers, but line 4, column 2 of .*t.csv is ''"),
        ("1,abc\n3,4\n", None, "of finite numbers, but line 1, column 2 of .*t.csv is 'abc'"),
        ("1,2\nnan,4\n", None, "of finite numbers, but line 2, column 1 of .*t.csv is 'nan'"),
        ("inf,nan\n3,4\n", None, "of finite numbers, but line 1, column 1 of .*t.csv is 'inf'"),
        ("1,2\n3\n", None, "rows of one length, but line 2 of .*t.csv has 1 cells instead of 2"),
        ("1\n2\n", None, "with inputs and a target, but .*t.csv has 1 column"),
        ("1,2\n", "y", "must name a column of .*t.csv, but it is 'y' .* no header"),
        ("a,b\n1,2\n", "y", "must name a column of .*t.csv, but it is 'y' .* a, b"),
        ("1,2\n", 2, "must index one of 2 columns of .*t.csv, but it is 2"),
        ("1,2\n0,1\n", None, r"`X` must have no zero rows, but X\[1\] is zero"),
    ],
)
def test_bad_csv_files_get_one_sentence_with_file_and_line(tmp_path, text, target, message):
    with pytest.raises(ValueError, match=rf"^Argument .*{message}") as caught:
        Dataset.from_csv(write(tmp_path / "t.csv", text), target=target)
    assert "\n" not in str(caught.value)


def test_binary_files_are_not_csv(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ValueError, match=r"must name a CSV file in UTF-8, but .*t.csv is not one"):
        Dataset.from_csv(tmp_path / "t.csv")


def test_csv_target_must_be_an_index_or_a_name(tmp_path):
    with pytest.raises(TypeError, match=r"`target` must be an index or a name, but it is 1.5"):
        Dataset.from_csv(write(tmp_path / "t.csv", "1,2\n"), target=1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_missing_files_and_folders_are_reported_in_one_sentence(tmp_path, suffix):
    path = tmp_path / f"none{suffix}"
    with pytest.raises(
        FileNotFoundError, match=r"^Argument `path` must name a readable file, but .*none"
    ):
        Dataset.from_file(path)
    path.mkdir()
    with pytest.raises(OSError, match=r"^Argument `path` must name a readable file, but .*none"):
        Dataset.from_file(path)


@pytest.mark.parametrize(
    "data",
    [
        Dataset([["1/3", "0.1"], [2, 3]], ["1/7", 1], name="a", teacher=[1, 0], noise=0.5),
        Dataset(np.array([[0.1, 0.2]]), ["0.1"], inputs="symmetric"),
        Dataset([["1/3"]], [0.1]),
    ],
    ids=["rational", "float inputs", "float targets"],
)
def test_saved_data_come_back_exactly(tmp_path, data):
    path = tmp_path / "data.npz"
    data.save(path)
    back = Dataset.from_file(path)
    for field in ("X_exact", "y_exact", "rational", "name", "noise", "inputs"):
        assert getattr(back, field) == getattr(data, field)
    np.testing.assert_array_equal(back.X, data.X)
    np.testing.assert_array_equal(back.y, data.y)
    np.testing.assert_array_equal(back.hyperplane, data.hyperplane)
    assert (back.teacher is None) == (data.teacher is None)


def test_npz_with_plain_or_univariate_arrays(tmp_path):
    np.savez(tmp_path / "plain.npz", X=np.array([[1, 2]]), y=np.array([0.5]))
    plain = Dataset.from_npz(tmp_path / "plain.npz")
    assert (plain.name, plain.n, plain.d) == ("plain", 1, 2)
    np.savez(tmp_path / "line.npz", x=np.array([0.5, 2.0]), y=np.array([1.0, 2.0]))
    np.testing.assert_array_equal(Dataset.from_npz(tmp_path / "line.npz").X, [[0.5, 1], [2, 1]])


def test_bad_npz_files_get_one_sentence(tmp_path):
    path = tmp_path / "t.npz"
    np.savez(path, X=np.ones((1, 1)), z=np.ones(1))
    with pytest.raises(ValueError, match=r"arrays X and y, or x and y, but .*t.npz has: X, z\."):
        Dataset.from_npz(path)
    np.savez(path, X=np.array([[object()]]), y=np.ones(1))
    with pytest.raises(ValueError, match=r"an NPZ file of plain arrays, but .*t.npz is not one"):
        Dataset.from_npz(path)
    for content in (b"", b"not a zip file", b"PK\x03\x04broken"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"an NPZ file of plain arrays, but .*t.npz is not"):
            Dataset.from_npz(path)
    with open(path, "wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(ValueError, match=r"an NPZ file of plain arrays, but .*t.npz is not one"):
        Dataset.from_npz(path)


def test_other_suffixes_are_refused():
    with pytest.raises(ValueError, match=r"`path` must end in \.csv or \.npz, but it is x\.txt\."):
        Dataset.from_file("x.txt")
