"""Named systems against figures known of them, and the generators against their draw order."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from flowsim import Dataset, datasets


def field_at_zero(data: Dataset, on: str) -> np.ndarray:
    """Return D = (1/n) Σ y_k x_k over the samples marked 1 in the pattern `on`."""
    mask = np.array([mark == "1" for mark in on])
    return (data.y[mask] @ data.X[mask]) / data.n


def half_mean_loss_of_fit(data: Dataset) -> tuple[np.ndarray, float]:
    """Return the least-squares fit linear in x and its loss (1/2n) Σ r²."""
    beta = np.linalg.lstsq(data.X, data.y, rcond=None)[0]
    return beta, float(np.mean((data.y - data.X @ beta) ** 2) / 2)


# -- named systems ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["three-points", "orthogonal-pair", "five-points", "one-sample", "xor"]
)
def test_systems_of_the_literature_are_rational(name):
    data = datasets.get(name)()
    assert data.rational
    assert data.name == name.replace("-", "_")


def test_three_points_have_the_affine_fit_of_loss_256_over_2925():
    data = datasets.three_points()
    beta, loss = half_mean_loss_of_fit(data)
    np.testing.assert_allclose(beta, [-4 / 65, 251 / 390], rtol=1e-14)
    assert loss == pytest.approx(256 / 2925, rel=1e-14)
    assert np.mean(data.y**2) == pytest.approx(0.62, rel=1e-15)
    np.testing.assert_allclose(
        field_at_zero(data, "111"), [-0.2583333333, 0.6666666667], atol=1e-10
    )
    assert data.y_exact == (Fraction(11, 10), Fraction(1, 10), Fraction(4, 5))


def test_the_orthogonal_pair_is_orthogonal():
    data = datasets.orthogonal_pair()
    first, second = data.X_exact
    assert sum(p * q for p, q in zip(first, second, strict=True)) == 0
    np.testing.assert_array_equal(field_at_zero(data, "01"), [1, 0.5])
    np.testing.assert_array_equal(field_at_zero(data, "10"), [0.25, -0.5])


@pytest.mark.parametrize(
    ("pattern", "D"),
    [
        ("00111", (0.1, 0.06)),
        ("11111", (-0.05, 0.14)),
        ("11110", (-0.13, 0.1)),
        ("11100", (-0.15, 0.02)),
    ],
)
def test_five_points_have_their_extremal_vectors(pattern, D):
    np.testing.assert_allclose(field_at_zero(datasets.five_points(), pattern), D, rtol=1e-14)


def test_stewart_has_its_affine_fit_and_its_extremal_vector():
    data = datasets.stewart()
    assert (data.n, data.d) == (40, 2)
    beta, loss = half_mean_loss_of_fit(data)
    np.testing.assert_allclose(beta, [0.0734249723, 0.4189393503], atol=5e-11)
    assert loss == pytest.approx(0.024852682035, abs=5e-13)
    np.testing.assert_allclose(
        field_at_zero(data, "1" * 40), [0.0860210214, 0.4299090662], atol=5e-11
    )


def test_stewart_leaves_the_global_generator_alone():
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr] # noqa: NPY002
    datasets.stewart()
    after = np.random.get_state()[1]  # type: ignore[index] # noqa: NPY002
    np.testing.assert_array_equal(before, after)


def test_one_sample_is_three_four_with_target_two():
    data = datasets.one_sample()
    assert data.X_exact == ((3, 4),)
    assert data.y_exact == (2,)


def test_symmetric_linear_data_are_antipodal_and_linear():
    data = datasets.symmetric_linear()
    np.testing.assert_array_equal(data.X[2:], -data.X[:2])
    np.testing.assert_array_equal(data.y, data.X[:, 0])
    assert {tuple(x) for x in data.X} == {(1, 1), (1, -1), (-1, -1), (-1, 1)}
    assert len(data.normals) == 2


def test_xor_is_the_product_of_the_coordinates():
    data = datasets.xor()
    np.testing.assert_array_equal(data.y, data.X[:, 0] * data.X[:, 1])
    assert {tuple(x) for x in data.X} == {(1, 1), (1, -1), (-1, -1), (-1, 1)}
    for pair in ([0], [1], [2], [3]):
        # a neuron along x is off at −x and on the boundary of the other two
        on = "".join("1" if k in pair else "0" for k in range(4))
        assert np.linalg.norm(field_at_zero(data, on)) == pytest.approx(math.sqrt(2) / 4, rel=1e-15)


# -- generators -------------------------------------------------------------------------------


def test_half_spaces_have_their_two_fits_and_the_loss_they_leave():
    data = datasets.half_spaces()
    assert (data.n, data.d, len(data.normals)) == (40, 2, 20)
    np.testing.assert_array_equal(data.X[20:], -data.X[:20])
    fits = [
        np.linalg.lstsq(data.X[s], data.y[s], rcond=None)[0] for s in np.split(np.arange(40), 2)
    ]
    np.testing.assert_allclose(fits[0], [0.9225739361, -0.1090347240], atol=5e-11)
    np.testing.assert_allclose(fits[1], [0.9954466730, -0.0599831488], atol=5e-11)
    residual = data.y - np.concatenate([data.X[:20] @ fits[0], data.X[20:] @ fits[1]])
    assert np.mean(residual**2) / 2 == pytest.approx(0.025979557845, abs=5e-13)


def test_half_spaces_take_their_size_noise_and_seed():
    data = datasets.half_spaces(q=3, seed=4, noise=0.5)
    noise = (data.y - data.X[:, 0]) / 0.5
    np.testing.assert_allclose(noise, np.random.default_rng(4).standard_normal(6), atol=1e-14)
    assert data.noise == 0.5


def test_linear_teacher_draws_inputs_then_noise():
    data = datasets.linear_teacher(7, 3, noise=0.2, seed=5)
    rng = np.random.default_rng(5)
    X = rng.standard_normal((7, 3))
    np.testing.assert_array_equal(data.X, X)
    np.testing.assert_allclose(data.y, X[:, 0] + 0.2 * rng.standard_normal(7), rtol=1e-14)
    assert data.teacher is not None
    np.testing.assert_array_equal(data.teacher, [1, 0, 0])
    assert (data.noise, data.inputs) == (0.2, "gaussian")


def test_symmetric_inputs_are_a_half_and_its_negative_with_independent_noise():
    data = datasets.linear_teacher(6, 2, noise=0.2, seed=5, inputs="symmetric", teacher=[1, -2])
    rng = np.random.default_rng(5)
    half = rng.standard_normal((3, 2))
    noise = rng.standard_normal(6)
    np.testing.assert_array_equal(data.X, np.concatenate([half, -half]))
    np.testing.assert_allclose(data.y, data.X @ [1.0, -2.0] + 0.2 * noise, rtol=1e-13)
    assert data.inputs == "symmetric"
    np.testing.assert_array_equal(data.hyperplane, [0, 1, 2, 0, 1, 2])


def test_noise_does_not_change_the_inputs():
    quiet, loud = (datasets.linear_teacher(5, 2, noise=s, seed=1) for s in (0.0, 9.0))
    np.testing.assert_array_equal(quiet.X, loud.X)
    np.testing.assert_array_equal(quiet.y, quiet.X[:, 0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 0}, ValueError, "`n` must be at least 1, but it is 0"),
        ({"d": 0}, ValueError, "`d` must be at least 1, but it is 0"),
        ({"n": 2.0}, TypeError, r"`n` must be an integer, but it is 2\.0"),
        ({"n": 5, "inputs": "symmetric"}, ValueError, "`n` must be even for symmetric inputs"),
        (
            {"inputs": "cauchy"},
            ValueError,
            "`inputs` must be one of gaussian, symmetric, sphere, uniform, but",
        ),
        ({"teacher": [1.0]}, ValueError, r"`teacher` must have shape \(2,\), but it has \(1,\)"),
        ({"noise": -1.0}, ValueError, r"`noise` must be finite and at least 0, but it is -1\.0"),
        ({"noise": math.nan}, ValueError, "`noise` must be finite and at least 0, but it is nan"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0, but it is -1"),
        ({"seed": 0.5}, TypeError, r"`seed` must be an integer, but it is 0\.5"),
    ],
)
def test_bad_arguments_of_the_teacher_get_one_sentence(arguments, error, message):
    with pytest.raises(error, match=f"^Argument {message}"):
        datasets.linear_teacher(**({"n": 4, "d": 2} | arguments))


def test_bad_arguments_of_half_spaces_get_one_sentence():
    with pytest.raises(ValueError, match=r"^Argument `q` must be at least 1, but it is 0"):
        datasets.half_spaces(q=0)
    with pytest.raises(ValueError, match=r"^Argument `noise` must be finite and at least 0"):
        datasets.half_spaces(noise=-1.0)


# -- names ------------------------------------------------------------------------------------


def test_names_are_those_of_the_functions():
    for name, function in datasets.NAMES.items():
        assert name == function.__name__.replace("_", "-")
        assert datasets.get(name) is datasets.get(function.__name__) is function


def test_unknown_names_are_answered_with_the_names_there_are():
    with pytest.raises(
        ValueError, match=r"^Argument `name` must be one of three-points, .* 'four'"
    ):
        datasets.get("four")
