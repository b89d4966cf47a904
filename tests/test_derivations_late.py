"""The code against the derivations of limits, closed runs, saddles and Euler's method."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import flowsim as fs
from derivations import certificate, euler_error, half_space_ols, saddle_escape
from derivations.one_sample import q as exact_q
from derivations.symmetric_linear import loss as exact_loss
from tests.support import gap, half_mean_loss, neuron, scaled_times, simulate

# -- one sample -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "size", "y", "scale"),
    [((3, 4), 5, 2.0, 0.005), ((2, 3, 6), 7, 0.7, 1e-6), ((-8, 9, 12), 17, 40.0, 1e-60)],
)
def test_one_sample_follows_the_logistic_law_at_all_times(x, size, y, scale):
    scale = 2.0 ** round(math.log2(scale))
    start = neuron(size * scale, np.array(x) * scale)  # exactly balanced and aligned
    rate = 2 * y * size
    t1 = 1.5 * math.log(y / size / (size * scale) ** 2) / rate
    sol = simulate(start, fs.Dataset([x], [y]), t1=t1, rtol=1e-14, stationary_rtol=0.0)
    for t in np.linspace(0.0, t1, 23):
        net = sol.network(t)
        exact = exact_q(t, Fraction(size * scale) ** 2, x, y)
        found = float(net.a[0]) * float(np.linalg.norm(net.W[0]))
        assert abs(found / float(exact) - 1) <= 1e-12


# -- symmetric linear data --------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-3, 0.5, 1e-40])
def test_the_corners_follow_their_logistic_loss_and_no_neuron_leaves_its_cell(scale):
    start = fs.TwoLayerReLU([scale, -scale], [[scale, 0.0], [-scale, 0.0]])
    t1 = 2 * math.log(1 / scale) + 10
    sol = simulate(start, fs.datasets.symmetric_linear(), t1=t1, rtol=1e-14)
    for t in np.linspace(0.0, t1, 25):
        assert abs(sol.loss(t) - float(exact_loss(t, scale))) <= 2e-13
    assert len(sol.events.where("pattern").t) == 0


@pytest.mark.parametrize(("q", "d", "seed"), [(5, 2, 0), (9, 4, 1)])
def test_noiseless_antipodal_data_have_one_field_for_all_cells(q, d, seed):
    rng = np.random.default_rng(seed)
    U, beta = rng.standard_normal((q, d)), rng.standard_normal(d)
    X = np.concatenate([U, -U])
    a, W = rng.standard_normal(200), rng.standard_normal((200, d))
    # Mirrored copies output nothing: the residual is y.
    net = fs.TwoLayerReLU(np.concatenate([a, -a]), np.concatenate([W, W]))
    data = fs.Dataset(X, X @ beta)
    assert len(np.unique(net.pattern(data), axis=0)) >= 2 * q  # many cells
    D = -net.gradient(data)[1] / net.a[:, None]
    expected = X.T @ X @ beta / (4 * q)
    error = np.linalg.norm(D - expected, axis=1)
    assert np.max(error) <= 1e-13 * np.linalg.norm(expected)


# -- least squares on half-spaces -------------------------------------------------------------


def halves_network(plus, minus, split: float = 0.3) -> fs.TwoLayerReLU:
    """Return balanced neurons, two a half, that output (plus.x)+ - (-minus.x)+."""
    plus, minus = np.array(plus, dtype=float), np.array(minus, dtype=float)
    W = np.array([split * plus, (1 - split) * plus, -split * minus, -(1 - split) * minus])
    sizes = np.sqrt(np.linalg.norm(W, axis=1))
    return fs.TwoLayerReLU(sizes * [1, 1, -1, -1], W / sizes[:, None])


def test_half_space_fits_are_those_of_the_listed_case():
    data = fs.datasets.half_spaces(q=20, seed=0)
    plus, minus, loss = half_space_ols.ols_halves(data.X, data.y, (1, 0))
    np.testing.assert_allclose(np.array(plus, float), [0.9225739361, -0.1090347240], atol=5e-11)
    np.testing.assert_allclose(np.array(minus, float), [0.9954466730, -0.0599831488], atol=5e-11)
    assert abs(float(loss) - 0.025979557845) <= 5e-13
    floor = half_space_ols.floor_antipodal(data.X[:20], data.y[:20], data.y[20:])
    assert abs(float(floor) - 0.0127750579) <= 5e-11


@pytest.mark.parametrize("seed", range(4))
def test_half_space_fits_have_no_gradient_and_no_better_neighbours(seed):
    data = fs.datasets.half_spaces(q=12, seed=seed)
    plus, minus, loss = half_space_ols.ols_halves(data.X, data.y, (1, 0))
    net = halves_network(plus, minus)
    assert np.array_equal(net.pattern(data) > 0, np.outer([1, 1, -1, -1], data.X[:, 0]) > 0)
    assert max(np.max(np.abs(g)) for g in net.gradient(data)) <= 1e-15
    assert abs(net.loss(data) - float(loss)) <= 1e-15
    rng = np.random.default_rng(seed)
    losses = [
        fs.TwoLayerReLU(
            net.a + 1e-2 * rng.standard_normal(4), net.W + 1e-2 * rng.standard_normal((4, 2))
        ).loss(data)
        for _ in range(200)
    ]
    assert min(losses) >= float(loss) + 1e-9
    # Leaving least squares on one half by 1e-4 gives a gradient: the test above can fail.
    moved = halves_network(np.array(plus, float) * (1 + 1e-4), minus)
    assert np.max(np.abs(moved.gradient(data)[1])) >= 1e-6


def test_the_flow_ends_at_the_half_space_fits():
    data = fs.datasets.half_spaces(q=20, seed=0)
    plus, minus, loss = half_space_ols.ols_halves(data.X, data.y, (1, 0))
    sol = simulate(fs.init.balanced(m=100, d=2, scale=1e-4, seed=0), data)
    final = sol.final
    assert sol.status == "stationary"
    assert final.kind == "spurious_local_minimum"
    assert abs(final.loss / float(loss) - 1) <= 1e-10
    assert abs(final.limit_loss / float(loss) - 1) <= 1e-12
    floor = half_space_ols.floor_antipodal(data.X[:20], data.y[:20], data.y[20:])
    assert abs(final.floor_loss / float(floor) - 1) <= 1e-12
    expected = halves_network(plus, minus)(data.X)
    assert np.max(np.abs(final.network(data.X) - expected)) <= 1e-9


def test_the_rational_example_is_called_what_it_is():
    X, y = half_space_ols.EXAMPLE_INPUTS, half_space_ols.EXAMPLE_LABELS
    data = fs.Dataset(X, y)
    plus, minus, loss = half_space_ols.ols_halves(X, y, (1, 0))
    sol = simulate(halves_network(plus, minus), data)
    assert sol.final.limit_loss_exact == str(loss)
    floor = half_space_ols.floor_antipodal(X[:3], y[:3], y[3:])
    assert abs(sol.final.floor_loss - float(floor)) <= 1e-15


# -- the end-point certificate ----------------------------------------------------------------


def boosted(a: float, w: np.ndarray, D: np.ndarray, t: float) -> tuple[float, np.ndarray]:
    """Return (a, w) after a' = w.D, w' = a D for a constant unit D."""
    along = float(w @ D)
    moved = a * math.cosh(t) + along * math.sinh(t)
    return moved, w + (a * math.sinh(t) + along * (math.cosh(t) - 1)) * D


def kernel_form(a: float, w: np.ndarray, v: np.ndarray) -> float:
    return a * a * float(v @ v) + float(w @ v) ** 2


def random_neuron(rng: np.random.Generator, d: int, balanced: bool):
    """Return a, w, v, D with |a| >= ||w|| and a unit D."""
    w, v, D = rng.standard_normal((3, d))
    size = np.linalg.norm(w) * (1.0 if balanced else 1 + rng.exponential(0.3))
    return float(size * rng.choice([-1.0, 1.0])), w, v, D / np.linalg.norm(D)


def test_the_kernel_changes_at_most_at_its_sharp_rate():
    rng = np.random.default_rng(0)
    rates = [
        abs(certificate.kernel_rate(*random_neuron(rng, 2 + i % 3 * (i % 2), i % 2 == 0)))
        for i in range(40_000)
    ]
    sharp = certificate.KERNEL_CONSTANT
    assert abs(sharp - 3 / math.sqrt(2)) <= 1e-15
    assert sharp - 1e-3 <= max(rates) <= sharp * (1 + 1e-12)


def test_the_kernel_rate_is_that_of_the_flow():
    rng = np.random.default_rng(1)
    for i in range(200):
        a, w, v, D = random_neuron(rng, 2 + i % 3, i % 2 == 0)
        ends = [math.log(kernel_form(*boosted(a, w, D, t), v)) for t in (-1e-5, 1e-5)]
        slope = (ends[1] - ends[0]) / 2e-5
        assert abs(certificate.kernel_rate(a, w, v, D) - slope) <= 1e-8
        # and over a finite time the form stays within e^{κt}
        change = math.log(kernel_form(*boosted(a, w, D, 0.7), v) / kernel_form(a, w, v))
        assert abs(change) <= certificate.KERNEL_CONSTANT * 0.7 * (1 + 1e-12)


def constants(net: fs.TwoLayerReLU, data: fs.Dataset) -> tuple[float, float, float, float]:
    """Return mu, tau, E0 and the limit of the loss; all neurons alive, none slides."""
    X, n = data.X, data.n
    on = net.pattern(data) > 0
    B = on[:, :, None] * X[None]
    K = np.zeros((n, n))
    for a, w, b in zip(net.a, net.W, B, strict=True):
        K += b @ (a * a * np.eye(net.d) + np.outer(w, w)) @ b.T / n
    features = np.concatenate(list(np.unique(B, axis=0)), axis=1)
    u, s, _ = np.linalg.svd(features, full_matrices=False)
    V = u[:, s > 1e-9 * s[0]]
    values, vectors = np.linalg.eigh(V.T @ K @ V)
    root = (V @ vectors) / np.sqrt(values)
    tau = max(np.linalg.norm(root.T @ b, 2) for b in B) / math.sqrt(n)
    star = data.y - V @ (V.T @ data.y)
    E0 = float(np.linalg.norm(net.residual(data) - star)) / math.sqrt(n)
    return float(values[0]), float(tau), E0, float(star @ star) / (2 * n)


@pytest.mark.parametrize("seed", [0, 3])
def test_once_certified_the_loss_decays_and_neurons_turn_as_bounded(seed):
    data = fs.datasets.half_spaces(q=10, seed=seed)
    sol = simulate(fs.init.balanced(m=30, d=2, scale=1e-3, seed=seed), data)
    last = sol.events.where("pattern").t.max(initial=0.0)
    starts = [t for t in sol.history.t if t > last]
    for start in starts:
        mu, tau, E0, limit = constants(sol.network(start), data)
        bound, rate = certificate.turning_bound(mu, tau, E0), certificate.rate(mu, tau, E0)
        if bound < 1.0:
            break
    else:
        pytest.fail("the state is never certified")
    excess = sol.loss(start) - limit
    assert rate > 0.0
    assert abs(excess - E0**2 / 2) <= 1e-12
    first = sol.network(start)
    angles = [0.0]
    for t in scaled_times(sol, 40):
        if t <= start:
            continue
        assert sol.loss(t) - limit <= excess * math.exp(-rate * (t - start)) * (1 + 1e-9) + 1e-15
        u, v = first.direction[:, 1:] * math.sqrt(2), sol.network(t).direction[:, 1:] * math.sqrt(2)
        angles.append(float(np.max(2 * np.arcsin(np.linalg.norm(u - v, axis=1) / 2))))
    assert 1e-3 * bound < max(angles) <= bound
    # The rate is sharp at the end.
    times = [t for t in sol.history.t if 1e-12 <= (sol.loss(t) - limit) / limit <= 1e-9]
    fall = math.log((sol.loss(times[0]) - limit) / (sol.loss(times[-1]) - limit))
    late = certificate.rate(*constants(sol.network(times[0]), data)[:3])
    assert 1 - 1e-3 <= fall / (times[-1] - times[0]) / late <= 1.05


def test_the_turning_bound_holds_on_one_sample_and_is_sharp_to_first_order():
    q1, X = 0.3, 5.0
    for rho in (1.9, 1.5, 1.1, 1.001, 1 + 1e-6):
        bound = certificate.turning_bound(2 * q1 * X**2, (2 * q1) ** -0.5, q1 * X * (rho - 1))
        exact = math.log(rho) / 2
        assert exact <= bound
        if rho <= 1.001:
            second = 0.5 + certificate.KERNEL_CONSTANT / 4
            assert abs((bound / exact - 1) / (rho - 1) / second - 1) <= 1e-3
    assert math.isinf(certificate.turning_bound(2 * q1 * X**2, (2 * q1) ** -0.5, q1 * X))
    assert certificate.rate(2 * q1 * X**2, (2 * q1) ** -0.5, q1 * X) == 0.0


# -- escape from a saddle ---------------------------------------------------------------------


def first_time(sol: fs.Solution, value, level: float) -> float:
    """Return when value(network) first exceeds the level, by bisection."""
    t = sol.history.t
    i = int(np.argmax([value(sol.network(s)) > level for s in t]))
    low, high = float(t[i - 1]), float(t[i])
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if value(sol.network(middle)) < level else (low, middle)
    return high


OBTUSE = fs.Dataset([[1, 0], [-0.6, 0.8]], [1.5, 3.0])


def heavy_and_tiny(size: float, turn: float = 0.0) -> fs.TwoLayerReLU:
    """Fit the first sample of OBTUSE; turn the tiny neuron from the second by an angle."""
    heavy = math.sqrt(1.5)
    phi = math.atan2(0.8, -0.6) + turn
    tiny = [size * math.cos(phi), size * math.sin(phi)]
    return fs.TwoLayerReLU([heavy, size], [[heavy, 0.0], tiny])


@pytest.mark.parametrize("size", [1e-2, 1e-6, 1e-50])
def test_an_aligned_neuron_leaves_the_saddle_when_the_closed_form_says(size):
    exact = saddle_escape.half_time((-0.6, 0.8), 3.0, size, 2)
    sol = simulate(heavy_and_tiny(size), OBTUSE, t1=2 * exact, rtol=1e-14)
    seen = first_time(sol, lambda net: net.a[1] * np.linalg.norm(net.W[1]), 1.5)
    assert abs(seen / exact - 1) <= 1e-12
    # ln(1/λ)/γ + ln(y/X)/(2γ), γ = y X/n; times are known to their last bits
    expected = (math.log(1 / size) + math.log(3.0) / 2) / 1.5
    assert abs(seen - expected) <= size**2 + 2 * math.ulp(expected)


@pytest.mark.parametrize("turn", [0.5, -0.6, 0.9])
def test_a_turned_neuron_grows_as_predicted_up_to_its_own_effect(turn):
    size, target = 1e-12, 1e-4
    predicted = saddle_escape.escape_time(1.5, size, turn, target)
    sol = simulate(heavy_and_tiny(size, turn), OBTUSE, t1=2 * predicted, rtol=1e-14)
    seen = first_time(sol, lambda net: net.a[1], target)
    assert abs(seen - predicted) <= target**2
    assert abs(seen - saddle_escape.escape_time(1.5, size, 0.0, target)) >= 0.02


def test_the_escape_takes_log_size_over_rate_up_to_one():
    # The heavy neuron's least-squares fit leaves a residual; the tiny one is on at three samples.
    X = np.array([[1, 0], [1, 0.25], [0.75, -0.25], [-0.5, 1], [-1, 0.75], [-1, 1]])
    y = np.array([1.0, 0.5, 1.25, 0.5, 1.0, 0.25])
    data = fs.Dataset(X, y)
    v = np.linalg.lstsq(X[:3], y[:3], rcond=None)[0]
    D = y[3:] @ X[3:] / 6  # what the tiny neuron feels
    assert np.all(X[:3] @ v > 0)
    assert np.all(X[3:] @ v < 0)
    assert np.all(X[3:] @ D > 0)
    assert np.all(X[:3] @ D < 0)
    gamma, root = float(np.linalg.norm(D)), math.sqrt(np.linalg.norm(v))
    scaled, size = [], (1e-4, 1e-8, 1e-32)
    for s in size:
        net = fs.TwoLayerReLU([root, s], [v / root, s * D / gamma])
        predicted = saddle_escape.escape_time(gamma, s)
        sol = simulate(net, data, t1=3 * predicted, rtol=1e-14)
        seen = first_time(sol, lambda net: net.a[1], 0.5)
        scaled.append(gamma * seen - math.log(1 / s))
        assert abs(scaled[-1]) <= 1.0
        assert simulate(net, data, t1=0.5 * predicted).final.kind == "saddle"
    assert np.ptp(scaled[1:]) <= 1e-9  # the correction does not depend on the size
    assert abs(scaled[0] - scaled[1]) <= 1e-6


# -- Euler's method ---------------------------------------------------------------------------


def euler(a, W, X, y, h: float, frozen: bool = False):
    """Return all neurons after one step of gradient descent, in plain NumPy."""
    s = X @ W.T
    r = y - (0.0 if frozen else np.maximum(s, 0.0) @ a)
    D = (s > 0).T @ (r[:, None] * X) / len(y)
    return a + h * np.sum(W * D, axis=1), W + h * a[:, None] * D, D


@pytest.mark.parametrize("seed", range(3))
def test_an_euler_step_changes_the_gap_exactly_as_derived(seed):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((7, 3)), rng.standard_normal(7)
    net = fs.init.dominated(m=50, d=3, scale=1.0, seed=seed)
    a, W, D = euler(net.a, net.W, X, y, 0.25)
    grad_a, grad_W = net.gradient(fs.Dataset(X, y))
    np.testing.assert_allclose(net.a - 0.25 * grad_a, a, rtol=1e-13)
    np.testing.assert_allclose(net.W - 0.25 * grad_W, W, rtol=1e-12, atol=1e-16)
    for j in range(50):
        change = gap(a[j], W[j]) - gap(net.a[j], net.W[j])
        exact = euler_error.gap_change(net.a[j], net.W[j], D[j], 0.25)
        assert exact <= 0
        assert abs(change - exact) <= 2e-15 * net.a[j] ** 2
        if np.any(D[j]):
            assert abs(exact) >= 1e-6 * net.a[j] ** 2  # far above the tolerance


def test_the_gap_that_euler_leaves_is_of_order_h():
    data = fs.datasets.three_points()
    start = fs.init.balanced(m=20, d=2, scale=0.5, seed=0)
    worst = []
    for h in (1 / 64, 1 / 128):
        a, W = start.a, start.W
        for _ in range(round(4 / h)):
            a, W, _ = euler(a, W, data.X, data.y, h)
        worst.append(np.max(np.abs(a**2 - np.sum(W**2, axis=1))))
    assert 1.9 <= worst[0] / worst[1] <= 2.1
    drift = simulate(start, data, t1=4.0).audit["invariant_drift"]
    assert drift <= 1e-14 < 1e-6 <= worst[1]


def test_euler_flips_the_sign_that_the_flow_keeps():
    X, y = np.array(euler_error.FLIP_INPUTS, float), np.array(euler_error.FLIP_LABELS, float)
    data = fs.Dataset(X, y)
    first = neuron(1.0, [12 / 13, 5 / 13])
    for h, steps in ((0.5, 4), (0.25, 9), (0.125, 21)):
        a, W = first.a, first.W
        for _ in range(steps):
            a, W, _ = euler(a, W, X, y, h, frozen=True)
        exact_a, exact_w = euler_error.flip_path(Fraction(h), steps)[-1]
        assert a[0] < 0.0
        np.testing.assert_allclose(
            [a[0], *W[0]], [float(v) for v in (exact_a, *exact_w)], atol=1e-15
        )
    sol = simulate(first, data, residual="frozen", t1=10.0)
    for t in (3.0, 6.0, 10.0):
        net = sol.network(t)
        assert net.W[0, 1] == 0.0
        assert abs(net.a[0] * math.exp(t - 3.0) / sol.network(3.0).a[0] - 1) <= 1e-11
        assert abs(net.a[0] / net.W[0, 0] - 1) <= 1e-14


def test_euler_ends_at_another_limit_than_the_flow():
    X, y = np.array(euler_error.FLIP_INPUTS, float), np.array(euler_error.FLIP_LABELS, float)
    first = neuron(1.0, [12 / 13, 5 / 13])
    a, W = first.a, first.W
    for _ in range(400):
        a, W, _ = euler(a, W, X, y, 0.25)
    assert a[0] < 0.0
    assert abs(half_mean_loss(fs.TwoLayerReLU(a, W), X, y) - 1.0) <= 1e-12  # label 1 is fitted
    sol = simulate(first, fs.Dataset(X, y), t1=40.0)
    assert sol.final.network.a[0] > 0.0
    assert abs(sol.final.loss - 2.0) <= 1e-12  # h = 0
