"""Expectations over inputs, least-squares fits and kernel interpolators, against quadrature."""

from __future__ import annotations

import numpy as np
import pytest

from flowsim import Dataset, TwoLayerReLU, datasets
from flowsim.experiments import HalfSpaces, KernelInterpolator, excess_loss, population
from flowsim.experiments.baselines import ordinary_least_squares
from flowsim.experiments.measures import direction_count, half_space_fields, linear_map
from flowsim.inputs import DISTRIBUTIONS, ROTATION_INVARIANT
from flowsim.models import TwoLayer


def over_the_plane(f) -> float:
    """Return E[f(x)] over standard normal x in the plane, f homogeneous of degree 2.

    Then it is ``E|x|^2 = 2`` times the mean over the circle, summed by its periodic rule.
    """
    angle = 2.0 * np.pi * (np.arange(400_000) + 0.5) / 400_000
    return 2.0 * float(np.mean(f(np.column_stack([np.cos(angle), np.sin(angle)]))))


@pytest.fixture
def nets() -> list[TwoLayerReLU]:
    rng = np.random.default_rng(3)
    return [
        TwoLayerReLU(rng.standard_normal(7), rng.standard_normal((7, 2)), slope)
        for slope in (0.0, 0.3)
    ]


def test_the_mean_square_of_a_network_is_its_integral(nets: list[TwoLayerReLU]) -> None:
    for net in nets:
        exact = over_the_plane(lambda x, net=net: np.square(net(x)))
        assert population.mean_square(net.a, net.W, net.negative_slope) == pytest.approx(
            exact, rel=1e-8
        )


def test_derivative_kernels_are_integrals() -> None:
    u, v = np.array([1.0, 2.0]), np.array([-0.5, 1.0])
    for s in (0.0, 0.4):

        def slopes(x: np.ndarray, s: float = s) -> np.ndarray:
            return np.where(x @ u > 0.0, 1.0, s) * np.where(x @ v > 0.0, 1.0, s)

        exact = over_the_plane(slopes) / 2.0  # of degree 0
        assert population.derivative_kernel(u[None], v[None], s)[0, 0] == pytest.approx(
            exact, abs=2e-5
        )


def test_a_linear_function_is_a_network_of_two_neurons() -> None:
    b, x = np.array([1.0, -3.0]), np.random.default_rng(0).standard_normal((9, 2))
    for s in (0.0, 0.25):
        assert population.linear_network(b, s)(x) == pytest.approx(x @ b, rel=1e-14)


@pytest.mark.parametrize("inputs", sorted(DISTRIBUTIONS))
def test_excess_losses_are_means_over_many_inputs(inputs: str, nets: list[TwoLayerReLU]) -> None:
    teacher = np.array([0.6, -0.8])
    data = datasets.linear_teacher(4, 2, 0.1, 0, inputs, teacher)
    x = DISTRIBUTIONS[inputs](np.random.default_rng(77), 2**20, 2)
    for net in nets:
        many = 0.5 * np.square(net(x) - x @ teacher)
        error = 5.0 * many.std() / 2**10 * (1.0 if inputs in ROTATION_INVARIANT else 4.0)
        assert excess_loss(net, data) == pytest.approx(float(many.mean()), abs=error)


def test_the_teacher_itself_has_no_excess_loss() -> None:
    data = datasets.linear_teacher(10, 3, seed=1)
    assert data.teacher is not None
    exact = TwoLayerReLU([1.0, -1.0], np.stack([data.teacher, -data.teacher]))
    assert excess_loss(exact, data) < 1e-15
    # sum of two unit neurons that nearly cancel: the rest is |0.1 e|^2 / 4
    nearly = TwoLayerReLU([1.0, -1.0], [1.1 * data.teacher, -data.teacher])
    assert excess_loss(nearly, data) == pytest.approx(0.01 / 4, rel=1e-12)


def test_neurons_below_rounding_are_left_out_without_a_trace(nets: list[TwoLayerReLU]) -> None:
    net = nets[0]
    a = np.concatenate([net.a, np.full(500, 1e-12)])
    W = np.concatenate([net.W, np.full((500, 2), 1e-12)])
    assert population.mean_square(a, W) == pytest.approx(population.mean_square(net.a, net.W))
    assert population.mean_square(np.zeros(2), np.ones((2, 2))) == 0.0


def test_losses_of_smooth_models_are_sampled(nets: list[TwoLayerReLU]) -> None:
    data = datasets.linear_teacher(4, 2, 0.1, 0)
    model = TwoLayer.of(nets[0], "softplus", beta=1e4)  # nearly relu
    assert excess_loss(model, data) == pytest.approx(excess_loss(nets[0], data), rel=0.03)
    gradient = linear_map(model, np.array([0.3, 1.0]))
    assert gradient == pytest.approx(linear_map(nets[0], np.array([0.3, 1.0])), rel=1e-6)


def test_data_without_teacher_have_no_excess_loss() -> None:
    assert np.isnan(excess_loss(TwoLayerReLU([1], [[1.0]]), Dataset([[1.0]], [1.0])))


def test_half_spaces_are_fitted_as_published() -> None:
    """The values of the half-space theorem's system: q = 20, seed 0, noise 0.3."""
    data = datasets.half_spaces(20, 0, 0.3)
    halves = HalfSpaces.of(data)
    assert halves.plus == pytest.approx([0.9225739361, -0.1090347240], abs=1e-9)
    assert halves.minus == pytest.approx([0.9954466730, -0.0599831488], abs=1e-9)
    assert halves.network.loss(data) == pytest.approx(0.025979557845, abs=1e-11)


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_the_network_of_half_spaces_is_both_fits(slope: float) -> None:
    data = datasets.half_spaces(8, 1, 0.1)
    halves = HalfSpaces.of(data, slope)
    sides = data.X[:, 0] > 0.0
    expected = np.where(sides, data.X @ halves.plus, data.X @ halves.minus)
    assert halves.network(data.X) == pytest.approx(expected, rel=1e-12)
    fields = half_space_fields(halves.network, data, slope)
    assert fields["ols_distance"] < 1e-14
    assert max(fields["plus_ols_error"], fields["minus_ols_error"]) < 1e-14


def test_a_half_space_of_few_samples_is_fitted_by_the_smallest_map() -> None:
    data = Dataset([[1.0, 1.0]], [2.0], teacher=[1.0, 0.0])
    halves = HalfSpaces.of(data)
    assert halves.plus == pytest.approx([1.0, 1.0])
    assert halves.minus.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("kind", ["ntk", "random_features"])
@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_kernel_interpolators_interpolate(kind: str, slope: float) -> None:
    data = datasets.linear_teacher(25, 3, seed=2)
    fitted = KernelInterpolator.of(data, kind, "balanced", slope)
    assert fitted(data.X) == pytest.approx(data.y, abs=1e-8)


def test_the_tangent_kernel_is_that_of_wide_networks() -> None:
    """K(x, x') / m tends to the sum over neurons of their gradients' products."""
    from flowsim import init

    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((2, 3))
    weights = {"balanced": 3.0, "dominated": 4.0, "unbalanced": 1.0}
    for kind, c in weights.items():
        net = init.get(kind)(400_000, 3, 1.0, 1)
        on_x, on_z = net.W @ x, net.W @ z
        relu = np.maximum(on_x, 0.0) @ np.maximum(on_z, 0.0)
        slopes = np.square(net.a) @ ((on_x > 0.0) & (on_z > 0.0)) * (x @ z)
        expected = population.kernel(x[None], z[None]) + c * (x @ z) * population.derivative_kernel(
            x[None], z[None]
        )
        assert relu + slopes == pytest.approx(expected[0, 0], rel=0.01)
        data = Dataset([x], [1.0])
        fitted = KernelInterpolator.of(data, "ntk", kind)
        assert fitted.c == c


def test_least_squares_on_all_samples() -> None:
    data = datasets.linear_teacher(30, 2, 0.0, 5, teacher=[2.0, -1.0])
    assert ordinary_least_squares(data) == pytest.approx([2.0, -1.0], rel=1e-12)


def test_directions_are_counted_by_sign_angle_and_size() -> None:
    angle = np.array([0.0, 5e-4, 1e-3, 0.1, 0.1, 2.0])
    W = np.column_stack([np.cos(angle), np.sin(angle)])
    a = np.array([1.0, 2.0, 1.0, 1.0, -1.0, 1e-9])
    # One chain, one more direction, the same one with another sign; the last is too small.
    assert direction_count(TwoLayerReLU(a, W)) == 3
    assert direction_count(TwoLayerReLU([0.0], [[1.0, 0.0]])) == 0
