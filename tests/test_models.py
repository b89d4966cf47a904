"""Built-in models: forward passes, units, immutability, float64 without side effects."""

from __future__ import annotations

import pickle
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_support import FORMULAS, two_layer

import flowsim as fs
import flowsim.models
from flowsim._jax import x64
from flowsim.models import ACTIVATIONS, MLP, Activation, DeepLinear, DiagonalLinear, TwoLayer

RTOL = 1e-14


MODELS = [
    two_layer("relu"),
    two_layer("softplus", p=2),
    MLP.init([3, 4, 1], 1.0, 0, bias=True, activation="tanh"),
    MLP.init([3, 4, 2], 1.0, 0),
    DiagonalLinear([1.0, 2.0, 3.0], [0.5, 0.0, -1.0]),
    DeepLinear.init([3, 2, 2], 1.0, 0),
]
each_model = pytest.mark.parametrize("model", MODELS, ids=repr)


# -- forward passes ---------------------------------------------------------------------------


@pytest.mark.parametrize("p", [None, 1, 3])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_two_layer_outputs_are_the_formula(name, p):
    model = two_layer(name, p)
    X = np.random.default_rng(1).standard_normal((4, 3))
    expected = FORMULAS[name][1](X @ model.W.T) @ model.a
    outputs = model(X)
    assert (type(outputs), outputs.dtype) == (np.ndarray, np.float64)
    np.testing.assert_allclose(outputs, expected, rtol=1e-13, atol=1e-14)
    assert np.shape(model(X[0])) == expected.shape[1:]
    np.testing.assert_allclose(model(X[0]), expected[0], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_two_layer_of_a_relu_network_is_that_network(slope):
    net = fs.init.unbalanced(6, 3, 0.5, seed=0, negative_slope=slope)
    X = np.random.default_rng(1).standard_normal((8, 3))
    model = TwoLayer.of(net)
    assert model.activation.negative_slope == slope
    np.testing.assert_allclose(model(X), net(X), rtol=RTOL, atol=1e-15)
    assert TwoLayer.of(net, "softplus", beta=9.0).activation == Activation("softplus", 9.0)
    assert TwoLayer.of(net, "leaky_relu").activation.negative_slope == (slope or 0.01)


@pytest.mark.parametrize("power", [-400, 290])
def test_networks_outside_float64_are_refused_in_one_sentence(power):
    net = fs.init.balanced(2, 2, seed=0, log10_scale=power)
    if power > 0:
        net = fs.TwoLayerReLU(net.a, net.W, log_scale=100.0)
    with pytest.raises(ValueError, match=r"`net` must have neurons whose norms fit into float64"):
        TwoLayer.of(net)
    with pytest.raises(TypeError, match=r"`net` must be a TwoLayerReLU, but is of type tuple"):
        TwoLayer.of((1, 2))  # type: ignore[arg-type]


def test_two_layer_of_a_network_with_a_zero_neuron_keeps_it():
    assert TwoLayer.of(fs.TwoLayerReLU([0.0, 1.0], [[0.0], [1.0]])).m == 2


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_mlp_outputs_are_the_formula(bias, outputs):
    rng = np.random.default_rng(2)
    weights = [rng.standard_normal(shape) for shape in ((4, 3), (5, 4), (outputs, 5))]
    biases = [rng.standard_normal(len(W)) if bias else np.zeros(len(W)) for W in weights]
    X = rng.standard_normal((6, 3))
    z = X
    for W, b in zip(weights[:-1], biases[:-1], strict=True):
        z = np.tanh(z @ W.T + b)
    expected = z @ weights[-1].T + biases[-1]
    expected = expected[:, 0] if outputs == 1 else expected
    model = MLP(weights, biases if bias else None, "tanh")
    np.testing.assert_allclose(model(X), expected, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(model(X[2]), expected[2], rtol=1e-13, atol=1e-14)


def test_a_bias_may_be_missing_in_some_layers():
    model = MLP([[[1.0]], [[2.0]]], [None, [3.0]], "identity")
    assert model(np.array([5.0])) == 13.0
    assert model.units().biases[0] is None


def test_linear_models_are_products():
    X = np.random.default_rng(0).standard_normal((4, 3))
    diagonal = DiagonalLinear([1.0, 2.0, 3.0], [0.5, 0.0, -1.0])
    np.testing.assert_allclose(diagonal(X), X @ [0.5, 0.0, -3.0], rtol=RTOL, atol=1e-15)
    np.testing.assert_array_equal(diagonal.vector, [0.5, 0.0, -3.0])
    deep = DeepLinear.init([3, 5, 4, 2], 1.0, 0)
    product = deep.factors[2] @ deep.factors[1] @ deep.factors[0]
    np.testing.assert_allclose(deep(X), X @ product.T, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(deep.matrix, product, rtol=1e-13, atol=1e-14)
    assert DeepLinear.init([3, 5, 1], 1.0, 0)(X).shape == (4,)


def test_initialisations_draw_layer_by_layer_with_variance_one_over_columns():
    rng = np.random.default_rng(7)
    drawn = [rng.standard_normal((4, 3)), rng.standard_normal((2, 4))]
    expected = [0.1 / np.sqrt(3) * drawn[0], 0.1 / np.sqrt(4) * drawn[1]]
    for model in (MLP.init([3, 4, 2], 0.1, 7), MLP.init([3, 4, 2], 0.1, 7, bias=True)):
        for W, wanted in zip(model.weights, expected, strict=True):
            np.testing.assert_allclose(W, wanted, rtol=RTOL)
    assert all(not np.any(b) for b in MLP.init([3, 4, 2], 0.1, 7, bias=True).biases)
    for W, wanted in zip(DeepLinear.init([3, 4, 2], 0.1, 7).factors, expected, strict=True):
        np.testing.assert_allclose(W, wanted, rtol=RTOL)


@each_model
def test_one_input_gives_a_row_of_the_batch(model):
    X = np.random.default_rng(3).standard_normal((5, 3))
    for x, output in zip(X, model(X), strict=True):
        np.testing.assert_allclose(model(x), output, rtol=1e-13, atol=1e-15)


@each_model
def test_inputs_of_another_dimension_are_refused_in_one_sentence(model):
    for shape in ((2,), (4, 2), (), (1, 1, 3)):
        with pytest.raises(ValueError, match=r"^Argument `x` must have shape \(3,\) or \(n, 3\)"):
            model(np.ones(shape))


# -- pytrees ----------------------------------------------------------------------------------


@each_model
def test_models_are_pytrees_of_read_only_float64_arrays(model):
    leaves, structure = jax.tree.flatten(model)
    assert leaves
    for leaf in leaves:
        assert (type(leaf), leaf.dtype) == (np.ndarray, np.float64)
        with pytest.raises(ValueError, match=r"read-only"):
            leaf.flat[0] = 1.0
    again = jax.tree.unflatten(structure, leaves)
    assert eqx.tree_equal(model, again)
    assert eqx.tree_equal(model, pickle.loads(pickle.dumps(model)))
    doubled = jax.tree.map(lambda leaf: 2 * leaf, model)
    assert type(doubled) is type(model)
    with pytest.raises(AttributeError):
        model.d = 4  # type: ignore[misc]


@each_model
def test_models_do_not_share_memory_with_their_arguments(model):
    assert all(leaf.base is None for leaf in jax.tree.leaves(model))


@each_model
def test_units_are_consecutive_numbers_that_broadcast(model):
    units = model.units()
    assert jax.tree.structure(units) == jax.tree.structure(model)
    numbers = set()
    for leaf, unit in zip(jax.tree.leaves(model), jax.tree.leaves(units), strict=True):
        assert np.issubdtype(unit.dtype, np.integer)
        assert unit.ndim == leaf.ndim
        assert np.broadcast_shapes(unit.shape, leaf.shape) == leaf.shape
        numbers |= set(unit.ravel().tolist())
    assert numbers == set(range(len(numbers)))


def test_units_are_neurons_and_coordinates():
    for p in (None, 2):
        units = two_layer("tanh", p).units()
        np.testing.assert_array_equal(units.a.ravel(), range(4))
        np.testing.assert_array_equal(units.W, np.arange(4)[:, None])
    mlp = MLP.init([3, 4, 2], 1.0, 0, bias=True).units()
    np.testing.assert_array_equal(mlp.weights[1], [[4], [5]])
    np.testing.assert_array_equal(mlp.biases[1], [4, 5])
    diagonal = DiagonalLinear([1, 2], [3, 4]).units()
    np.testing.assert_array_equal(diagonal.u, [0, 1])
    np.testing.assert_array_equal(diagonal.v, [0, 1])
    deep = DeepLinear.init([3, 2, 2], 1.0, 0).units()
    np.testing.assert_array_equal(deep.factors[1], [[2], [3]])


def test_reprs_say_sizes_and_activation():
    assert repr(two_layer("softplus", 2)) == (
        "TwoLayer(m=4, d=3, p=2, activation=softplus(beta=5))"
    )
    assert repr(MLP.init([3, 4, 1], 1.0, 0, bias=True)) == (
        "MLP(3-4-1, with biases, activation=relu)"
    )
    assert repr(DiagonalLinear([1, 2], [3, 4])) == "DiagonalLinear(d=2)"
    assert repr(DeepLinear.init([3, 2, 1], 1.0, 0)) == "DeepLinear(3-2-1)"


@each_model
def test_reprs_exist_for_pytrees_of_other_leaves(model):
    assert type(model).__name__ in repr(jax.tree.map(lambda _: None, model))
    assert type(model).__name__ in repr(jax.tree.map(lambda leaf: leaf[None], model))


# -- arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TwoLayer([1, 2], [[1.0]]), "`a` must have one entry for each of the 1 rows of W"),
        (lambda: TwoLayer(1, [[1.0]]), r"`a` must be a 1-d or 2-d array .* shape is \(\)"),
        (lambda: TwoLayer([1], [1]), r"`W` must be a 2-d array that is not empty"),
        (lambda: TwoLayer([np.nan], [[1]]), "`a` must hold finite numbers"),
        (lambda: TwoLayer([1], [[1], [1, 2]]), "`W` must be an array of numbers"),
        (
            lambda: TwoLayer([], np.empty((0, 2))),
            "`a` must be a 1-d or 2-d array that is not empty",
        ),
        (lambda: MLP([]), "`weights` must hold at least one matrix"),
        (
            lambda: MLP(np.eye(2)),  # type: ignore[arg-type]
            "`weights` must be a list of matrices, but is one array",
        ),
        (
            lambda: MLP([np.ones((2, 3)), np.ones((1, 3))]),
            r"`weights` must .* but weights\[1\] has 3 columns after 2 rows of weights\[0\]",
        ),
        (lambda: MLP([np.eye(2)], []), "`biases` must have one entry for each of the 1 layers"),
        (
            lambda: MLP([np.eye(2)], [[1.0]]),
            r"`biases\[0\]` must have one entry for each of the 2 rows of weights\[0\], but has 1",
        ),
        (lambda: DiagonalLinear([1, 2], [1]), "`v` must have one entry for each of the 2 of u"),
        (lambda: DeepLinear([[1, 2]]), r"`factors\[0\]` must be a 2-d array"),
        (lambda: DeepLinear.init([2], 1.0, 0), "`widths` must hold the dimensions of inputs and"),
        (lambda: DeepLinear.init([2, 0], 1.0, 0), r"`widths\[1\]` must be at least 1, but is 0"),
        (lambda: MLP.init([2, 1], 0.0, 0), "`scale` must be positive and finite, but is 0"),
        (lambda: MLP.init([2, 1], 1.0, -1), "`seed` must be at least 0, but is -1"),
    ],
)
def test_bad_values_get_one_sentence(build, message):
    with pytest.raises(ValueError, match=f"^Argument {message}") as caught:
        build()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TwoLayer([1j], [[1]]), "`a` must hold real numbers"),
        (
            lambda: MLP.init(3, 1.0, 0),  # type: ignore[arg-type]
            "`widths` must be a list of integers, but is 3",
        ),
        (
            lambda: MLP.init([2.0, 1], 1.0, 0),  # type: ignore[arg-type]
            r"`widths\[0\]` must be an integer",
        ),
        (
            lambda: MLP.init([2, 1], 1.0, 0.5),  # type: ignore[arg-type]
            "`seed` must be an integer",
        ),
        (
            lambda: MLP.init([2, 1], 1.0, 0, bias=1),  # type: ignore[arg-type]
            "`bias` must be True or False",
        ),
    ],
)
def test_wrong_types_raise_a_type_error(build, message):
    with pytest.raises(TypeError, match=f"^Argument {message}"):
        build()


# -- JAX --------------------------------------------------------------------------------------


def test_float64_ends_with_the_block_even_after_an_error():
    with x64():
        assert jnp.ones(1).dtype == np.float64
    with pytest.raises(ZeroDivisionError), x64():
        _ = 1 / 0
    assert jnp.ones(1).dtype == np.float32


@each_model
def test_evaluating_a_model_leaves_jax_in_float32(model):
    assert np.asarray(model(np.ones(3))).dtype == np.float64
    assert jnp.ones(1).dtype == np.float32


def test_models_work_inside_the_users_own_jit_and_precision():
    model = two_layer("relu")
    outputs = jax.jit(lambda X: model(X))(jnp.ones((2, 3)))
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, model(np.ones((2, 3))), rtol=1e-5)


def test_naming_the_models_does_not_import_jax_and_using_them_does():
    code = (
        "import sys, flowsim.models, flowsim._jax, flowsim.models.activations as act;"
        "flowsim.models.Activation.of('tanh');"
        "print([name for name in ('jax', 'equinox', 'numpy') if name in sys.modules]);"
        "flowsim.models.TwoLayer([1.0], [[1.0]]);"
        "print('jax' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert result.stdout.split("\n")[1] == "True"
    assert "jax" not in result.stdout.split("\n")[0]
    assert "equinox" not in result.stdout.split("\n")[0]


@pytest.mark.parametrize("name", fs.models.__all__)
def test_every_public_name_exists(name):
    assert getattr(fs.models, name) is not None
    assert name in dir(fs.models)
