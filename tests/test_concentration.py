"""Distances of all fields from the population's, against a plain search over the cells."""

from __future__ import annotations

import numpy as np
import pytest

import flowsim as fs
from flowsim.alignment import arrangement
from flowsim.alignment.concentration import concentration, deviation, fitted_exponent


def teacher(data: fs.Dataset) -> np.ndarray:
    assert data.teacher is not None
    return data.teacher


def plain(data: fs.Dataset, slope: float = 0.0, covariance=None) -> float:
    """The largest distance over all cells, each field summed sample by sample."""
    target = (1 + slope) / 2 * (teacher(data) if covariance is None else covariance @ teacher(data))
    codes = arrangement.cells(data)[:, data.hyperplane] * data.orientation
    c = np.where(codes > 0, 1.0, slope)
    return float(np.max(np.linalg.norm((c * data.y) @ data.X / data.n - target, axis=1)))


def on_the_circle(data: fs.Dataset) -> float:
    """The same for d = 2, at the middles of all arcs between the 2n rays."""
    rays = np.arctan2(data.X[:, 1], data.X[:, 0]) + np.pi / 2
    rays = np.sort(np.concatenate([rays, rays + np.pi]) % (2 * np.pi))
    middles = rays + np.diff(rays, append=rays[0] + 2 * np.pi) / 2
    w = np.column_stack([np.cos(middles), np.sin(middles)])
    D = ((w @ data.X.T > 0) * data.y) @ data.X / data.n
    return float(np.max(np.linalg.norm(D - teacher(data) / 2, axis=1)))


@pytest.mark.parametrize(("n", "d"), [(5, 1), (7, 2), (12, 3), (9, 4), (8, 5), (3, 4)])
@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_the_sup_is_that_over_all_cells(n, d, slope):
    data = fs.datasets.linear_teacher(n, d, seed=n)
    found = deviation(data, negative_slope=slope)
    assert found.complete
    assert found.lower == found.upper == pytest.approx(plain(data, slope), rel=1e-13)
    assert np.linalg.norm(found.D - found.population) == pytest.approx(found.lower, rel=1e-13)


@pytest.mark.parametrize("inputs", ["gaussian", "symmetric"])
@pytest.mark.parametrize("seed", range(5))
def test_in_the_plane_many_samples_are_searched_exactly(inputs, seed):
    data = fs.datasets.linear_teacher(600, 2, seed=seed, inputs=inputs)
    assert deviation(data).lower == pytest.approx(on_the_circle(data), rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(40, 2), (12, 3), (9, 4), (8, 5)])
def test_bounds_meet_where_cones_reach_single_cells(n, d):
    data = fs.datasets.linear_teacher(n, d, seed=2)
    bounded = deviation(data, method="bound")
    assert not bounded.complete
    assert bounded.lower == pytest.approx(plain(data), rel=1e-12)
    assert bounded.upper == pytest.approx(plain(data), rel=1e-12)


@pytest.mark.parametrize(("n", "d", "budget"), [(60, 3, 0), (60, 3, 100), (30, 4, 300), (14, 6, 1)])
def test_bounds_enclose_the_sup_however_early_they_stop(n, d, budget):
    data = fs.datasets.linear_teacher(n, d, seed=n + d)
    exact, bounded = (
        deviation(data, method="enumerate"),
        deviation(data, method="bound", budget=budget),
    )
    assert bounded.lower <= exact.lower * (1 + 1e-12)
    assert bounded.upper >= exact.lower * (1 - 1e-12)
    assert bounded.upper > bounded.lower
    assert bounded.lower > 0.8 * exact.lower


def test_inputs_in_special_position_are_enumerated_too():
    X = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]]
    covariance = np.diag([1.0, 2.0, 3.0])
    data = fs.Dataset(X, [1, -2, 0, 3, 1, 1, -1], teacher=[1, 2, -1])
    found = deviation(data, covariance=covariance)
    assert found.complete
    assert found.lower == pytest.approx(plain(data, covariance=covariance), rel=1e-13)


def test_extremal_vectors_and_the_dead_cell_are_no_farther_than_the_sup():
    for seed in range(8):
        data = fs.datasets.linear_teacher(10, 3, seed=seed)
        found = deviation(data)
        vectors = fs.alignment.extremal_vectors(data)
        distances = [np.linalg.norm(v.D - teacher(data) / 2) for v in vectors]
        assert found.extremal == pytest.approx(max(distances), rel=1e-13)
        assert found.extremal <= found.lower * (1 + 1e-13)
        assert (found.zero == 0.5) if len(vectors.zero) else np.isnan(found.zero)
    data = fs.datasets.linear_teacher(3, 3, seed=0)  # independent inputs: all can be off
    assert deviation(data).zero == 0.5


def test_deviations_scale_with_the_data():
    data = fs.datasets.linear_teacher(15, 3, seed=4)
    scaled = fs.Dataset(data.X * 2.0**-300, data.y, teacher=teacher(data) * 2.0**300)
    found = deviation(scaled, covariance=np.eye(3) * 2.0**-600, extremal=False)
    assert found.lower * 2.0**300 == pytest.approx(deviation(data).lower, rel=1e-13)


@pytest.mark.parametrize(("p", "q"), [(-330, -330), (330, 330), (-500, 400), (400, -100), (0, 7)])
@pytest.mark.parametrize("method", ["auto", "bound"])
def test_powers_of_two_scale_all_distances_exactly(p, q, method):
    rng = np.random.default_rng(3)
    X, beta = rng.standard_normal((12, 3)), np.array([1.0, -0.5, 2.0])
    y = X @ beta + rng.standard_normal(12)
    sigma = np.diag([1.0, 2.0, 0.5])
    scaled = fs.Dataset(np.ldexp(X, p), np.ldexp(y, q), teacher=np.ldexp(beta, q - p))
    expected = deviation(fs.Dataset(X, y, teacher=beta), covariance=sigma, method=method)
    found = deviation(scaled, covariance=np.ldexp(sigma, 2 * p), method=method)
    for name in ("lower", "upper", "extremal", "zero", "D", "population"):
        before, after = getattr(expected, name), getattr(found, name)
        assert np.array_equal(np.ldexp(before, p + q), after, equal_nan=True)


@pytest.mark.parametrize("method", ["auto", "bound"])
def test_of_fields_and_teachers_of_other_scales_the_larger_one_is_the_distance(method):
    rng = np.random.default_rng(0)
    X, beta = rng.standard_normal((12, 3)), np.array([1.0, 0.0, 0.0])
    y = X @ beta + rng.standard_normal(12)
    for size, strength in ((1e-100, 1.0), (1e-100, 1e-190), (1e-150, 1e200)):
        data = fs.Dataset(X * size, y * size, teacher=beta * strength, inputs="gaussian")
        found = deviation(data, method=method)
        assert found.lower == pytest.approx(0.5 * strength, rel=1e-9)
        assert found.upper == pytest.approx(0.5 * strength, rel=1e-9)
        assert found.extremal == pytest.approx(0.5 * strength, rel=1e-9)
    one = deviation(fs.Dataset(X, y, teacher=beta * 1e-200, inputs="gaussian"), method=method)
    assert one.lower > one.extremal > 0.1
    for strength in (1.0, 1e-300):
        data = fs.Dataset(X * 1e100, y * 1e100, teacher=beta * strength, inputs="gaussian")
        found = deviation(data, method=method)
        assert found.lower == pytest.approx(one.lower * 1e200, rel=1e-12)
        assert found.extremal == pytest.approx(one.extremal * 1e200, rel=1e-12)


def test_without_labels_the_distance_is_the_population():
    data = fs.Dataset(np.eye(3) + 0.1, np.zeros(3), teacher=[3e-200, 4e-200, 0], inputs="gaussian")
    found = deviation(data)
    assert found.lower == found.upper == pytest.approx(2.5e-200, rel=1e-15)


def test_nearly_parallel_inputs_are_visited_too():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3, 4))
    X = np.vstack([X, X + 1e-9 * rng.standard_normal(X.shape)])
    data = fs.Dataset(X, rng.standard_normal(6), teacher=np.ones(4), inputs="gaussian")
    found = deviation(data)
    assert (found.complete, found.cells) == (True, arrangement.cell_count(6, 4))
    assert found.lower == pytest.approx(plain(data), rel=1e-12)


def test_the_deviation_falls_like_the_root_of_n():
    found = concentration((100, 400, 1600, 6400), d=2, seeds=range(12), extremal=False)
    assert found.lower.shape == (4, 12)
    assert np.array_equal(found.lower, found.upper)
    assert -0.6 < found.exponent < -0.4
    assert found.exponent_error < 0.1
    table = found.to_xarray()
    assert table.lower.dims == ("n", "seed")
    one = deviation(fs.datasets.linear_teacher(400, 2, seed=5), extremal=False)
    assert float(table.lower.sel(n=400, seed=5)) == one.lower


def test_the_exponent_of_a_power_law_is_found():
    n = [10, 20, 40, 100]
    slope, error = fitted_exponent(n, 3.0 * np.array(n) ** -0.7)
    assert slope == pytest.approx(-0.7, rel=1e-12)
    assert error < 1e-12
    noisy = np.log(np.array(n, dtype=float))
    slope, error = fitted_exponent(n, np.exp(-0.5 * noisy + [0.1, -0.1, 0.05, 0.02]))
    fit, covariance = np.polyfit(noisy, -0.5 * noisy + [0.1, -0.1, 0.05, 0.02], 1, cov=True)
    assert slope == pytest.approx(fit[0], rel=1e-12)
    assert error == pytest.approx(np.sqrt(covariance[0, 0]), rel=1e-10)


def test_bad_arguments_are_named():
    linear = fs.datasets.linear_teacher(10, 3)
    cases = [
        (
            lambda: deviation(fs.datasets.three_points()),
            "Argument `data` must have a linear teacher",
        ),
        (lambda: deviation(fs.datasets.half_spaces()), "Argument `covariance` must be given"),
        (lambda: deviation(linear, covariance=np.eye(2)), "Argument `covariance` must have shape"),
        (lambda: deviation(linear, method="guess"), "Argument `method` must be one of"),
        (
            lambda: deviation(linear, method="enumerate", max_cells=5),
            "Argument `max_cells` must be",
        ),
        (lambda: deviation(linear, negative_slope=-1.0), "Argument `negative_slope` must be in"),
        (lambda: concentration(()), "Argument `ns` must have at least one entry"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="Argument `data` must be"):
        deviation(np.eye(2))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negative_slope": "x"}, "`negative_slope` must be a real number, but"),
        ({"negative_slope": None}, "`negative_slope` must be a real number, but"),
        ({"method": ["auto"]}, "`method` must be one of auto, enumerate, bound, but"),
        ({"max_cells": "a"}, "`max_cells` must be a real number, but"),
        ({"budget": "a"}, "`budget` must be an integer, but"),
        ({"budget": -5}, "`budget` must be at least 0, but"),
        ({"seed": -1}, "`seed` must be at least 0, but"),
        ({"seed": "a"}, "`seed` must be an integer, but"),
        ({"extremal": "no"}, "`extremal` must be True or False, but"),
        ({"covariance": "a"}, "`covariance` must be a 2-d array, but"),
        ({"covariance": [[1.0], [1.0, 2.0]]}, "`covariance` must have rows of one length, but"),
        ({"covariance": [[1, 0, 0], [0, 1, 0], [0, 0, np.nan]]}, "`covariance` must hold finite"),
        ({"covariance": np.eye(3) * 1j}, "`covariance` must hold real numbers, but"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises((TypeError, ValueError), match=f"Argument {message}"):
        deviation(fs.datasets.linear_teacher(10, 3), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ns": 10}, "`ns` must be an iterable of integers, but is 10"),
        ({"seeds": 3}, "`seeds` must be an iterable of integers, but is 3"),
        ({"seeds": []}, "`seeds` must have at least one entry, but"),
        ({"ns": ["a"]}, r"`ns\[0\]` must be an integer, but is 'a'"),
        ({"ns": [10, 1.7]}, r"`ns\[1\]` must be an integer, but is 1.7"),
        ({"ns": [0]}, r"`ns\[0\]` must be at least 1, but is 0"),
        ({"seeds": [0.5]}, r"`seeds\[0\]` must be an integer, but is 0.5"),
    ],
)
def test_bad_sizes_and_seeds_are_named(options, message):
    with pytest.raises((TypeError, ValueError), match=f"Argument {message}"):
        concentration(**options)
