"""Initialisations: draw order, balance, scale, metadata."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flowsim import Dataset, init

EPS = float(np.finfo(float).eps)
ALL = pytest.mark.parametrize("kind", init.KINDS)


@pytest.mark.parametrize("scale", [1e-6, 0.3])
def test_balanced_draws_weights_then_signs(scale):
    net = init.balanced(50, 3, scale, seed=7)
    rng = np.random.default_rng(7)
    W = scale * rng.standard_normal((50, 3)) / math.sqrt(50)
    signs = rng.choice([-1.0, 1.0], 50)
    np.testing.assert_allclose(net.W, W, rtol=4 * EPS)
    np.testing.assert_allclose(net.a, signs * np.linalg.norm(W, axis=1), rtol=8 * EPS)
    assert set(np.sign(net.a)) == {-1.0, 1.0}


def test_dominated_draws_weights_signs_and_excess():
    net = init.dominated(50, 3, 1e-3, seed=7)
    rng = np.random.default_rng(7)
    W = 1e-3 * rng.standard_normal((50, 3)) / math.sqrt(50)
    signs = rng.choice([-1.0, 1.0], 50)
    b = 1e-3 * rng.standard_normal(50) / math.sqrt(50)
    np.testing.assert_allclose(net.W, W, rtol=4 * EPS)
    np.testing.assert_allclose(net.a, signs * np.sqrt(np.sum(W**2, axis=1) + b**2), rtol=8 * EPS)
    assert np.all(np.abs(net.a) > np.linalg.norm(net.W, axis=1))


def test_unbalanced_draws_both_layers_without_signs():
    net = init.unbalanced(50, 3, 1e-3, seed=7)
    rng = np.random.default_rng(7)
    np.testing.assert_allclose(
        net.W, 1e-3 * rng.standard_normal((50, 3)) / math.sqrt(50), rtol=4 * EPS
    )
    np.testing.assert_allclose(net.a, 1e-3 * rng.standard_normal(50) / math.sqrt(50), rtol=4 * EPS)


def test_mirrored_pairs_cancel_and_are_balanced():
    net = init.mirrored(6, 3, 1e-3, seed=7)
    W = 1e-3 * np.random.default_rng(7).standard_normal((3, 3)) / math.sqrt(6)
    np.testing.assert_allclose(net.W[::2], W, rtol=4 * EPS)
    np.testing.assert_array_equal(net.W[1::2], net.W[::2])
    np.testing.assert_array_equal(net.a[1::2], -net.a[::2])
    np.testing.assert_allclose(net.a[::2], np.linalg.norm(W, axis=1), rtol=8 * EPS)
    X = np.random.default_rng(1).standard_normal((20, 3))
    assert np.max(np.abs(net(X))) <= EPS * 1e-6


def test_arrays_are_kept_to_the_bit():
    net = init.from_arrays([0.1, -0.2], [[0.3], [0.7]], negative_slope=0.5)
    np.testing.assert_array_equal(net.a, [0.1, -0.2])
    np.testing.assert_array_equal(net.W, [[0.3], [0.7]])
    assert (net.negative_slope, dict(net.metadata)) == (0.5, {"kind": "arrays"})


@ALL
def test_the_scale_is_a_factor_on_every_weight(kind):
    small, unit = init.get(kind)(8, 3, 1e-9, 5), init.get(kind)(8, 3, 1.0, 5)
    np.testing.assert_allclose(small.a, 1e-9 * unit.a, rtol=2 * EPS)
    np.testing.assert_allclose(small.W, 1e-9 * unit.W, rtol=2 * EPS)


@ALL
def test_both_ways_to_give_the_scale_agree(kind):
    plain = init.get(kind)(8, 3, 1e-9, 5)
    log = init.get(kind)(8, 3, log10_scale=-9, seed=5)
    np.testing.assert_allclose(log.a, plain.a, rtol=4 * EPS)
    np.testing.assert_allclose(log.W, plain.W, rtol=4 * EPS)
    assert plain.metadata == {
        "kind": kind,
        "scale": 1e-9,
        "log10_scale": pytest.approx(-9, abs=1e-15),
        "seed": 5,
    }


@ALL
@pytest.mark.parametrize("log10_scale", [-200, -3000])
def test_scales_beyond_the_squares_of_float64_keep_directions_and_sizes(kind, log10_scale):
    tiny = init.get(kind)(8, 3, log10_scale=log10_scale, seed=5)
    unit = init.get(kind)(8, 3, 1.0, 5)
    np.testing.assert_allclose(tiny.direction, unit.direction, rtol=2 * EPS)
    size = abs(log10_scale) * math.log(10)
    np.testing.assert_allclose(tiny.log_norm + size, unit.log_norm, atol=4 * EPS * size)
    assert tiny.metadata["log10_scale"] == log10_scale
    assert tiny.metadata["scale"] == 10.0**log10_scale
    assert repr(tiny).endswith(f"scale=1e{log10_scale})")


@ALL
def test_the_seed_determines_the_network_and_is_kept_when_drawn(kind):
    draw = init.get(kind)
    first, other = draw(6, 2, 1.0), draw(6, 2, 1.0)
    assert first.metadata["seed"] != other.metadata["seed"]
    again = draw(6, 2, 1.0, first.metadata["seed"])
    np.testing.assert_array_equal(first.W, again.W)
    np.testing.assert_array_equal(first.a, again.a)
    assert np.any(first.W != other.W)


@ALL
def test_the_negative_slope_is_passed_on(kind):
    assert init.get(kind)(4, 2, 1.0, 0, negative_slope=0.2).negative_slope == 0.2
    assert init.get(kind)(4, 2, log10_scale=-999, negative_slope=0.2).negative_slope == 0.2


def test_weights_have_the_stated_variance():
    data = Dataset(np.eye(2), [0, 0])
    net = init.unbalanced(40_000, 2, 1.0, 0)
    # Σ_j w_ji² has mean 1 and standard deviation sqrt(2/m) = 0.007.
    np.testing.assert_allclose(np.sum(net.W**2, axis=0), 1, atol=0.03)
    np.testing.assert_allclose(np.sum(net.a**2), 1, atol=0.03)
    np.testing.assert_allclose(np.mean(net.pattern(data) > 0), 0.5, atol=0.01)


@ALL
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"m": 0}, ValueError, "`m` must be at least 1, but it is 0"),
        ({"d": -1}, ValueError, "`d` must be at least 1, but it is -1"),
        ({"m": 2.5}, TypeError, "`m` must be an integer, but it is 2.5"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0, but it is -1"),
        ({"seed": "a"}, TypeError, "`seed` must be an integer, but it is 'a'"),
        ({"scale": -1e-6}, ValueError, "`scale` must be positive and finite, but it is -1e-06"),
        ({"scale": 0}, ValueError, "`scale` must be positive and finite, but it is 0"),
        ({"scale": math.inf}, ValueError, "`scale` must be positive and finite, but it is inf"),
        ({"scale": math.nan}, ValueError, "`scale` must be positive and finite, but it is nan"),
        ({"scale": None}, ValueError, "`scale` must be given, or log10_scale, .* but neither is"),
        ({"log10_scale": -3}, ValueError, "`scale` must be given, or log10_scale, .* but both are"),
        ({"scale": None, "log10_scale": math.nan}, ValueError, "`log10_scale` must be finite"),
        ({"scale": None, "log10_scale": 400}, ValueError, "`log10_scale` must be at most 300"),
        ({"negative_slope": 1}, ValueError, r"`negative_slope` must be in \[0, 1\), but it is 1"),
    ],
)
def test_bad_arguments_get_one_sentence(kind, arguments, error, message):
    valid = {"m": 4, "d": 2, "scale": 1e-6, "seed": 0}
    with pytest.raises(error, match=f"^Argument {message}"):
        init.get(kind)(**(valid | arguments))


def test_mirrored_needs_an_even_number_of_neurons():
    with pytest.raises(ValueError, match=r"^Argument `m` must be even for mirrored pairs, but it"):
        init.mirrored(5, 2, 1.0, 0)


def test_unknown_kinds_are_answered_with_the_names_there_are():
    with pytest.raises(ValueError, match=r"^Argument `kind` must be one of balanced, .* 'he'"):
        init.get("he")
