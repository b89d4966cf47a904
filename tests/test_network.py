"""Networks: parameters of any size, forward pass, loss, gradient, activation pattern."""

from __future__ import annotations

import math
import pickle
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import flowsim.network
from flowsim import Dataset, TwoLayerReLU

EPS = float(np.finfo(float).eps)


# -- oracle: the network in rational arithmetic -----------------------------------------------


def exact_loss(a, W, X, y, slope):
    """Return (1/2n) Σ r_k² in rational arithmetic; nothing is shared with flowsim."""
    total = Fraction(0)
    for x, target in zip(X, y, strict=True):
        output = Fraction(0)
        for weight, w in zip(a, W, strict=True):
            u = sum(p * q for p, q in zip(w, x, strict=True))
            output += weight * (u if u > 0 else slope * u)
        total += (target - output) ** 2
    return total / (2 * len(X))


def exact_gradient(a, W, X, y, slope, step=Fraction(1, 10**9)):
    """Return the gradient by central differences: exact, as L is quadratic in each parameter."""
    m, d = len(a), len(W[0])

    def shifted(j, i, change):
        a2, W2 = list(a), [list(w) for w in W]
        if i < 0:
            a2[j] += change
        else:
            W2[j][i] += change
        return exact_loss(a2, W2, X, y, slope)

    def slope_of(j, i):
        return (shifted(j, i, step) - shifted(j, i, -step)) / (2 * step)

    return [slope_of(j, -1) for j in range(m)], [
        [slope_of(j, i) for i in range(d)] for j in range(m)
    ]


def rational_system(seed, m=4, d=3, n=5):
    """Draw a, W, X, y with denominators 64, far from all kinks."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        odd = 2 * rng.integers(-60, 60, shape) + 1
        return np.vectorize(lambda v: Fraction(int(v), 64), otypes=[object])(odd)

    return draw(m), draw(m, d), draw(n, d), draw(n)


@pytest.mark.parametrize("slope", [Fraction(0), Fraction(1, 4)])
@pytest.mark.parametrize("seed", range(3))
def test_loss_and_gradient_are_those_of_rational_arithmetic(seed, slope):
    a, W, X, y = rational_system(seed)
    data = Dataset(X, y)
    net = TwoLayerReLU(a.astype(float), W.astype(float), float(slope))
    expected = exact_loss(a, W, X, y, slope)
    assert net.loss(data) == pytest.approx(float(expected), rel=8 * EPS)
    assert net.loss(data, "mean") == pytest.approx(float(2 * expected), rel=8 * EPS)
    ga, gW = exact_gradient(a, W, X, y, slope)
    for loss, factor in (("half_mean", 1), ("mean", 2)):
        computed = net.gradient(data, loss)
        scale = float(np.max(np.abs(computed[1])))
        np.testing.assert_allclose(computed[0], factor * np.array(ga, float), atol=50 * EPS * scale)
        np.testing.assert_allclose(computed[1], factor * np.array(gW, float), atol=50 * EPS * scale)


# -- forward pass -----------------------------------------------------------------------------


def test_outputs_of_relu_and_leaky_relu_written_out():
    X = [[1.0, 0.0], [0.0, 1.0], [-1.0, 2.0]]
    a, W = [2.0, -3.0], [[1.0, 1.0], [1.0, -1.0]]
    # inputs of the neurons: (1, 1, 1) and (1, -1, -3)
    np.testing.assert_array_equal(TwoLayerReLU(a, W)(X), [-1.0, 2.0, 2.0])
    np.testing.assert_array_equal(TwoLayerReLU(a, W, 0.5)(X), [-1.0, 3.5, 6.5])


def test_outputs_do_not_depend_on_the_blocks_they_are_computed_in(monkeypatch):
    rng = np.random.default_rng(0)
    net = TwoLayerReLU(rng.standard_normal(7), rng.standard_normal((7, 3)), 0.1)
    X = rng.standard_normal((50, 3))
    whole = net(X)
    for entries in (1, 21, 7 * 49):
        monkeypatch.setattr(flowsim.network, "_BLOCK_ENTRIES", entries)
        np.testing.assert_allclose(net(X), whole, rtol=1e-13)
    assert net(X[:0]).shape == (0,)


def test_the_residual_is_target_minus_output():
    data = Dataset([[1.0], [-1.0]], [3.0, 5.0])
    np.testing.assert_array_equal(TwoLayerReLU([2.0], [[0.5]]).residual(data), [2.0, 5.0])


@given(
    st.integers(0, 50),
    st.floats(0.1, 10),
    st.sampled_from([0.0, 0.3]),
)
def test_rescaling_between_layers_leaves_the_function_unchanged(seed, factor, slope):
    rng = np.random.default_rng(seed)
    a, W, X = rng.standard_normal(6), rng.standard_normal((6, 3)), rng.standard_normal((8, 3))
    size = np.abs(a) @ np.linalg.norm(W, axis=1) * np.linalg.norm(X)
    np.testing.assert_allclose(
        TwoLayerReLU(a / factor, W * factor, slope)(X),
        TwoLayerReLU(a, W, slope)(X),
        atol=20 * EPS * size,
    )


# -- the kink ---------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_at_the_kink_the_derivative_is_that_of_the_negative_side(slope):
    # h(0, 1) = 0 on the boundary: w' = -gW = a r c x with c = slope.
    net = TwoLayerReLU([2.0], [[1.0, 0.0]], slope)
    ga, gW = net.gradient(Dataset([[0, 1]], [3]))
    np.testing.assert_array_equal(ga, [0.0])
    np.testing.assert_array_equal(gW, [[0.0, -6.0 * slope]])


# -- scale ------------------------------------------------------------------------------------


def test_direction_and_log_norm_are_the_polar_form():
    net = TwoLayerReLU([3.0, 0.0, 0.0], [[0.0, -4.0], [0.0, 0.0], [5.0, 12.0]])
    np.testing.assert_allclose(
        net.direction, [[0.6, 0, -0.8], [0, 0, 0], [0, 5 / 13, 12 / 13]], rtol=2 * EPS
    )
    np.testing.assert_allclose(net.log_norm, [math.log(5), -np.inf, math.log(13)], rtol=2 * EPS)


@pytest.mark.parametrize("power", [-300, -200, 200, 300])
def test_squares_that_leave_the_range_do_not_harm_the_polar_form(power):
    net = TwoLayerReLU([3.0 * 10.0**power], [[0.0, 4.0 * 10.0**power]])
    np.testing.assert_allclose(net.direction, [[0.6, 0, 0.8]], rtol=4 * EPS)
    assert net.log_norm[0] == pytest.approx(math.log(5) + power * math.log(10), rel=4 * EPS)


def test_log_scale_multiplies_each_neuron():
    a, W = np.array([1.0, -2.0]), np.array([[3.0, 4.0], [0.5, 0.0]])
    net = TwoLayerReLU(a, W, log_scale=[math.log(10), -math.log(4)])
    np.testing.assert_allclose(net.a, [10, -0.5], rtol=8 * EPS)
    np.testing.assert_allclose(net.W, [[30, 40], [0.125, 0]], rtol=8 * EPS)
    common = TwoLayerReLU(a, W, log_scale=math.log(2))
    np.testing.assert_allclose(common.W, 2 * W, rtol=8 * EPS)


def test_a_network_far_below_float64_keeps_its_direction_and_underflows_to_zero():
    log_scale = -3000 * math.log(10)
    net = TwoLayerReLU([3.0], [[0.0, 4.0]], log_scale=log_scale)
    np.testing.assert_allclose(net.direction, [[0.6, 0, 0.8]], rtol=2 * EPS)
    assert net.log_norm[0] == pytest.approx(math.log(5) + log_scale, rel=EPS)
    assert net.a[0] == 0.0
    assert not net.W.any()
    assert repr(net) == "TwoLayerReLU(m=1, d=2, norm=5e-3000)"


def test_a_large_neuron_is_not_lost_to_an_underflowing_factor():
    net = TwoLayerReLU([1e300], [[0.0]], log_scale=-400 * math.log(10))
    assert net.a[0] == pytest.approx(1e-100, rel=1e-12)


def test_log_scale_minus_infinity_is_the_zero_neuron():
    net = TwoLayerReLU([1.0, 1.0], [[1.0], [1.0]], log_scale=[-np.inf, 0.0])
    np.testing.assert_array_equal(net.direction[0], [0.0, 0.0])
    assert net.log_norm[0] == -np.inf
    assert net.a[0] == net.W[0, 0] == 0.0
    np.testing.assert_array_equal(net.pattern(Dataset([[1]], [1])), [[0], [1]])


# -- activation pattern -----------------------------------------------------------------------


def test_patterns_are_signs_whatever_the_size():
    X = [[1, 1], [1, -1], [-1, -1], [0, 2]]
    for log_scale in (0.0, -7000.0):
        net = TwoLayerReLU(
            [1.0, 1.0, 1.0], [[1.0, 1.0], [0.0, 0.0], [2.0, -3.0]], log_scale=log_scale
        )
        pattern = net.pattern(Dataset(X, [0, 0, 0, 0]))
        assert pattern.dtype == np.int8
        np.testing.assert_array_equal(pattern, [[1, 0, -1, 1], [0, 0, 0, 0], [-1, 1, 1, -1]])


def test_samples_of_one_hyperplane_never_disagree():
    rng = np.random.default_rng(1)
    x = rng.standard_normal(5)
    factors = np.array([1.0, -3.0, 0.7, -0.1])
    # w almost orthogonal to x, where the sign is rounding
    W = rng.standard_normal((200, 5))
    W -= np.outer(W @ x, x) / (x @ x)
    pattern = TwoLayerReLU(np.ones(200), W).pattern(Dataset(factors[:, None] * x, np.zeros(4)))
    np.testing.assert_array_equal(pattern, pattern[:, :1] * np.sign(factors))


# -- the object -------------------------------------------------------------------------------


def test_networks_cannot_be_changed_and_copy_their_arguments():
    W = np.ones((1, 2))
    metadata = {"kind": "mine"}
    net = TwoLayerReLU([1.0], W, metadata=metadata)
    W[0, 0] = metadata["kind"] = 5.0  # type: ignore[assignment]
    assert net.W[0, 0] == 1.0
    assert net.metadata == {"kind": "mine"}
    for array in (net.a, net.W, net.direction, net.log_norm):
        with pytest.raises(ValueError, match=r"read-only"):
            array.flat[0] = 2.0
    with pytest.raises(TypeError):
        net.metadata["kind"] = "other"  # type: ignore[index]
    with pytest.raises(AttributeError):
        net.a = W  # type: ignore[misc]


def test_networks_survive_pickling():
    net = TwoLayerReLU([1.0], [[2.0]], 0.1, log_scale=-5000.0, metadata={"seed": 3})
    back = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(back.log_norm, net.log_norm)
    assert (back.negative_slope, dict(back.metadata)) == (0.1, {"seed": 3})


@pytest.mark.parametrize(
    ("net", "text"),
    [
        (TwoLayerReLU([3.0], [[4.0]]), "TwoLayerReLU(m=1, d=1, norm=5)"),
        (TwoLayerReLU([0.0], [[0.0]]), "TwoLayerReLU(m=1, d=1, norm=0)"),
        (TwoLayerReLU([3.0, 0.0], [[0.0], [4.0]], log_scale=-3000 * math.log(10)), "norm=5e-3000)"),
        (TwoLayerReLU([1.0], [[0.0]], metadata={"log10_scale": -6.0}), "d=1, scale=1e-06)"),
        (TwoLayerReLU([1.0], [[0.0]], metadata={"log10_scale": -3000}), "d=1, scale=1e-3000)"),
        (TwoLayerReLU([1.0], [[0.0]], metadata={"log10_scale": -400.5}), "scale=3.16e-401)"),
        (TwoLayerReLU([1.0], [[0.0]], metadata={"log10_scale": -400.0001}), "scale=1e-400)"),
    ],
)
def test_the_representation_states_shape_and_scale(net, text):
    assert repr(net).endswith(text)


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        (([1, 2], [[1]]), {}, "`a` must have one entry for each of the 1 rows of W, but it has 2"),
        (([], np.empty((0, 2))), {}, "`W` must have at least one row"),
        (([1], np.empty((1, 0))), {}, "`W` must have at least one row and one column"),
        (([[1]], [[1]]), {}, r"`a` must be a 1-d array, but its shape is \(1, 1\)"),
        (([1], [1]), {}, r"`W` must be a 2-d array, but its shape is \(1,\)"),
        (([np.nan], [[1]]), {}, r"`a` must hold finite numbers, but a\[0\] is nan"),
        (([1], [[1, np.inf]]), {}, r"`W` must hold finite numbers, but W\[0, 1\] is inf"),
        ((["x"], [[1]]), {}, "`a` must be a 1-d array of numbers, but it is none"),
        (([1], [[1], [1, 2]]), {}, "`W` must be a 2-d array of numbers, but it is none"),
        (([1], [[1]], 1.0), {}, r"`negative_slope` must be in \[0, 1\), but it is 1\.0"),
        (([1], [[1]], -0.1), {}, r"`negative_slope` must be in \[0, 1\), but it is -0\.1"),
        (([1], [[1]], np.nan), {}, r"`negative_slope` must be in \[0, 1\), but it is nan"),
        (([1], [[1]]), {"log_scale": [0, 0]}, r"`log_scale` must be a number or have shape \(1,\)"),
        (([1], [[1]]), {"log_scale": np.nan}, "`log_scale` must be finite or −inf"),
        (([1], [[1]]), {"log_scale": np.inf}, "`log_scale` must be finite or −inf"),
    ],
)
def test_bad_networks_get_one_sentence(arguments, keywords, message):
    with pytest.raises(ValueError, match=f"^Argument {message}") as caught:
        TwoLayerReLU(*arguments, **keywords)
    assert "\n" not in str(caught.value)


def test_wrong_types_and_dimensions_get_one_sentence():
    net = TwoLayerReLU([1.0], [[1.0, 2.0]])
    data = Dataset([[1]], [1])
    with pytest.raises(TypeError, match=r"^Argument `a` must hold real numbers, but it does not"):
        TwoLayerReLU([object()], [[1.0]])  # type: ignore[arg-type]
    for call in (net.loss, net.residual, net.gradient):
        with pytest.raises(
            ValueError, match=r"^Argument `X` must have inputs of dimension 2, .* 1"
        ):
            call(data)
    with pytest.raises(ValueError, match=r"^Argument `data` must have inputs of dimension 2, .* 1"):
        net.pattern(data)
    with pytest.raises(ValueError, match=r"^Argument `X` must be a 2-d array, but its shape is"):
        net([1.0, 2.0])
    with pytest.raises(ValueError, match=r"^Argument `loss` must be one of half_mean, mean, but"):
        net.loss(Dataset([[1, 2]], [1]), "sum")


def test_neurons_beyond_the_float_range_keep_their_directions_and_norms():
    net = TwoLayerReLU([3.0, -3.0], [[4.0, 0.0], [0.0, 4.0]], log_scale=[800.0, -800.0])
    np.testing.assert_allclose(net.log_norm, np.log(5) + np.array([800, -800]), rtol=1e-15)
    np.testing.assert_allclose(net.direction, [[0.6, 0.8, 0.0], [-0.6, 0.0, 0.8]], rtol=1e-15)
    assert net.a.tolist() == [np.inf, 0.0]
    assert net.W.tolist() == [[np.inf, 0.0], [0.0, 0.0]]
