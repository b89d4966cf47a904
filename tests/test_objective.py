"""Objectives: losses and gradients, and what is trained."""

from __future__ import annotations

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_support import Masked, eqx_mlp, loss_of, samples, two_layer

import flowsim as fs
from flowsim._jax import x64
from flowsim.models import (
    ACTIVATIONS,
    MLP,
    DeepLinear,
    DiagonalLinear,
    Objective,
    TwoLayer,
)


def gradient_of(objective):
    with x64():
        gradient = jax.grad(objective.loss)(objective.parameters, objective.args)
        return jax.tree.map(np.asarray, gradient)


def differences(objective, step=1e-6):
    """Return the gradient by central differences, as one vector."""
    leaves, structure = jax.tree.flatten(objective.parameters)
    entries = np.concatenate([leaf.ravel() for leaf in leaves])
    bounds = np.cumsum([leaf.size for leaf in leaves])[:-1]

    def at(vector):
        pieces = jnp.split(vector, bounds)
        arrays = [piece.reshape(leaf.shape) for piece, leaf in zip(pieces, leaves, strict=True)]
        return objective.loss(jax.tree.unflatten(structure, arrays), objective.args)

    shifts = step * np.eye(len(entries))
    with x64():
        up, down = (jax.vmap(at)(entries + sign * shifts) for sign in (1, -1))
        return np.asarray((up - down) / (2 * step))


MODELS = {
    "two_layer": (two_layer("gelu"), None),
    "two_layer_vector": (two_layer("tanh", 2), 2),
    "mlp": (MLP.init([3, 4, 3, 1], 1.0, 0, bias=True, activation="softplus"), None),
    "mlp_vector": (MLP.init([3, 4, 2], 1.0, 0, activation="squared_relu"), 2),
    "diagonal": (DiagonalLinear([1.0, 0.3, -0.4], [0.1, 2.0, 0.2]), None),
    "deep_linear": (DeepLinear.init([3, 3, 1], 1.0, 0), None),
    "deep_linear_vector": (DeepLinear.init([3, 3, 2], 1.0, 0), 2),
    "equinox": (eqx_mlp(), None),
    "equinox_vector": (eqx_mlp(2), 2),
}
each_model = pytest.mark.parametrize(("model", "p"), MODELS.values(), ids=list(MODELS))


# -- losses and gradients ---------------------------------------------------------------------


@each_model
@pytest.mark.parametrize(("loss", "c"), [("half_mean", 0.5), ("mean", 1.0)])
def test_the_loss_is_the_mean_square_of_the_residual(model, p, loss, c):
    data = samples(p=p)
    objective = Objective.of(model, data, loss=loss)
    trained = objective.model(objective.parameters)
    with x64():
        outputs = np.asarray(objective.outputs(objective.parameters, objective.args))
        one_by_one = np.array([trained(x) for x in data.X]).reshape(data.y.shape)
    assert outputs.shape == data.y.shape
    np.testing.assert_allclose(outputs, one_by_one, rtol=1e-12, atol=1e-14)
    expected = c * np.sum((data.y - one_by_one) ** 2) / data.n
    np.testing.assert_allclose(loss_of(objective), expected, rtol=1e-13)


@each_model
@pytest.mark.parametrize("residual", ["full", "frozen"])
def test_gradients_are_central_differences(model, p, residual):
    objective = Objective.of(model, samples(p=p), residual=residual)
    gradient = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradient_of(objective))])
    scale = np.max(np.abs(gradient))
    np.testing.assert_allclose(gradient, differences(objective), rtol=0, atol=1e-8 * scale)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradients_are_central_differences_for_every_activation(name):
    objective = Objective.of(two_layer(name), samples())
    gradient = gradient_of(objective)
    found = np.concatenate([gradient.a, gradient.W.ravel()])
    scale = np.max(np.abs(found))
    np.testing.assert_allclose(found, differences(objective), rtol=0, atol=1e-8 * scale)


@pytest.mark.parametrize("loss", ["half_mean", "mean"])
@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_relu_networks_have_the_loss_and_gradient_of_two_layer_relu(slope, loss):
    net = fs.init.unbalanced(20, 3, 1.0, seed=0, negative_slope=slope)
    data = samples()
    objective = Objective.of(TwoLayer.of(net), data, loss=loss)
    np.testing.assert_allclose(loss_of(objective), net.loss(data, loss), rtol=1e-13)
    gradient = gradient_of(objective)
    for found, expected in zip((gradient.a, gradient.W), net.gradient(data, loss), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


def test_a_neuron_on_a_hyperplane_has_the_gradient_of_the_negative_side():
    net = fs.TwoLayerReLU([1.0], [[0.0, 1.0]], negative_slope=0.25)
    data = fs.Dataset([[1, 0], [1, 2]], [1, 1])
    gradient = gradient_of(Objective.of(TwoLayer.of(net), data))
    for found, expected in zip((gradient.a, gradient.W), net.gradient(data), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-15)


def test_diagonal_linear_networks_have_their_known_gradient():
    # With H = XᵀX/n and y = Xβ*: ∂L/∂u = v ⊙ H(u⊙v − β*), ∂L/∂v = u ⊙ H(u⊙v − β*).
    data = samples()
    H = data.X.T @ data.X / data.n
    target = np.array([2.0, 1.0, -1.0])
    u, v = np.array([1.0, 0.3, -0.4]), np.array([0.1, 2.0, 0.2])
    gradient = gradient_of(Objective.of(DiagonalLinear(u, v), fs.Dataset(data.X, data.X @ target)))
    force = H @ (u * v - target)
    np.testing.assert_allclose(gradient.u, v * force, rtol=1e-13)
    np.testing.assert_allclose(gradient.v, u * force, rtol=1e-13)


@pytest.mark.parametrize(("loss", "c"), [("half_mean", 0.5), ("mean", 1.0)])
def test_a_frozen_residual_is_y(loss, c):
    data, model = samples(), two_layer("relu")
    gradient = gradient_of(Objective.of(model, data, loss=loss, residual="frozen"))
    D = ((data.X @ model.W.T > 0) * data.y[:, None]).T @ data.X * (2 * c / data.n)
    np.testing.assert_allclose(gradient.a, -np.sum(model.W * D, axis=1), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(gradient.W, -model.a[:, None] * D, rtol=1e-13, atol=1e-15)


def test_the_frozen_gradient_is_the_full_one_where_the_outputs_vanish():
    data, tiny = samples(), two_layer("relu")
    tiny = jax.tree.map(lambda leaf: 1e-200 * leaf, tiny)
    full = gradient_of(Objective.of(tiny, data))
    frozen = gradient_of(Objective.of(tiny, data, residual="frozen"))
    np.testing.assert_allclose(full.W, frozen.W, rtol=1e-13)
    np.testing.assert_allclose(full.a, frozen.a, rtol=1e-13)


def test_one_column_of_labels_and_labels_without_it_are_the_same_problem():
    data = samples()
    column = fs.Dataset(data.X, data.y[:, None])
    for model in (two_layer("tanh"), eqx_mlp(1), eqx_mlp("scalar"), two_layer("tanh", 1)):
        losses = [loss_of(Objective.of(model, labels)) for labels in (data, column)]
        np.testing.assert_allclose(losses[0], losses[1], rtol=1e-14)


# -- what is trained --------------------------------------------------------------------------


@each_model
def test_parameters_are_read_only_float64_copies_that_give_the_model_back(model, p):
    objective = Objective.of(model, samples(p=p))
    for leaf in jax.tree.leaves(objective.parameters):
        assert (type(leaf), leaf.dtype) == (np.ndarray, np.float64)
        assert not leaf.flags.writeable
    back = objective.model(objective.parameters)
    assert type(back) is type(model)
    assert jax.tree.structure(back) == jax.tree.structure(model)
    for before, after in zip(jax.tree.leaves(model), jax.tree.leaves(back), strict=True):
        if eqx.is_array_like(after):
            np.testing.assert_array_equal(before, after)


def test_float32_leaves_are_converted_exactly_and_trained_in_float64():
    model = eqx_mlp()
    assert model.layers[0].weight.dtype == np.float32
    objective = Objective.of(model, samples())
    back = objective.model(objective.parameters)
    np.testing.assert_array_equal(back.layers[0].weight, np.asarray(model.layers[0].weight))
    hidden = np.tanh(samples().X @ back.layers[0].weight.T + back.layers[0].bias)
    expected = hidden @ back.layers[1].weight[0] + back.layers[1].bias[0]
    with x64():
        outputs = np.asarray(objective.outputs(objective.parameters, objective.args))
    np.testing.assert_allclose(outputs, expected, rtol=1e-13, atol=1e-15)
    assert gradient_of(objective).layers[0].weight.dtype == np.float64


def test_integer_arrays_are_constants_and_other_leaves_static():
    picked = np.array([2, 0])
    model = Masked(np.array([1.0, 2.0]), picked, 2.0, jnp.sin)
    objective = Objective.of(model, samples())
    assert [leaf.shape for leaf in jax.tree.leaves(objective.parameters)] == [(2,)]
    np.testing.assert_array_equal(jax.tree.leaves(objective.args.constants)[0], picked)
    with x64():
        outputs = np.asarray(objective.outputs(objective.parameters, objective.args))
    np.testing.assert_allclose(outputs, np.sin((samples().X[:, picked] @ [1, 2]) ** 2), rtol=1e-13)
    back = objective.model(objective.parameters)
    assert (back.power, back.function) == (2.0, jnp.sin)
    np.testing.assert_array_equal(back.picked, picked)


@each_model
def test_units_broadcast_against_the_parameters_and_are_numbered_through(model, p):
    objective = Objective.of(model, samples(p=p))
    leaves = jax.tree.leaves(objective.parameters)
    units = jax.tree.leaves(objective.units)
    assert jax.tree.structure(objective.units) == jax.tree.structure(objective.parameters)
    numbers = np.unique(np.concatenate([unit.ravel() for unit in units]))
    np.testing.assert_array_equal(numbers, range(objective.n_units))
    for leaf, unit in zip(leaves, units, strict=True):
        assert unit.ndim == leaf.ndim
        assert np.broadcast_shapes(unit.shape, leaf.shape) == leaf.shape


def test_units_of_other_pytrees_are_rows_and_whole_vectors():
    parameters = {"A": np.ones((2, 3, 4)), "b": np.ones(3), "c": 1.5}
    objective = Objective.of((lambda tree: tree["c"] * jnp.sum(tree["A"]), parameters))
    np.testing.assert_array_equal(objective.units["A"], [[[0]], [[1]]])
    np.testing.assert_array_equal(objective.units["b"], [2])
    np.testing.assert_array_equal(objective.units["c"], 3)
    assert objective.n_units == 4


def test_the_initial_scale_is_the_root_mean_square_at_any_size():
    model = DiagonalLinear([3.0, 0.0], [0.0, 4.0])
    for size in (1.0, 1e-300, 1e300):
        sized = jax.tree.map(partial(np.multiply, size), model)
        objective = Objective.of(sized, samples(d=2))
        np.testing.assert_allclose(objective.initial_scale, 2.5 * size, rtol=1e-15)
    assert Objective.of(DiagonalLinear([0.0], [0.0]), samples(d=1)).initial_scale == 1.0


def test_loss_functions_take_any_pytree():
    parameters = {"u": [np.float32(0.1), 2.0], "v": np.array([3.0]), "k": np.array(2), "n": 4}

    def function(tree):
        return tree["n"] * (tree["u"][0] + tree["u"][1]) * tree["v"][0] ** tree["k"]

    objective = Objective.of((function, parameters))
    assert objective.data is objective.args.X is objective.args.y is objective.args.weight is None
    u0 = float(np.float32(0.1))
    np.testing.assert_allclose(loss_of(objective), 4 * (u0 + 2) * 9, rtol=1e-15)
    gradient = gradient_of(objective)
    np.testing.assert_allclose(gradient["u"], [36, 36], rtol=1e-15)
    np.testing.assert_allclose(gradient["v"], [24 * (u0 + 2)], rtol=1e-15)
    assert gradient["k"] is gradient["n"] is None
    back = objective.model(objective.parameters)
    assert (back["n"], back["k"]) == (4, 2)
    with pytest.raises(TypeError, match=r"must be a model to have outputs, but is a loss function"):
        objective.outputs(objective.parameters, objective.args)
