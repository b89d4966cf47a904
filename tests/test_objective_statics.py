"""Objectives: what decides a compilation, and bad arguments."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_support import Masked, eqx_mlp, loss_of, samples, two_layer

import flowsim as fs
from flowsim._jax import x64
from flowsim.models import MLP, DeepLinear, DiagonalLinear, Objective, TwoLayer

# -- compilation ------------------------------------------------------------------------------


def traces(objectives):
    """Return how often a jitted loss is traced, the functional being a static argument."""
    count = 0

    @partial(jax.jit, static_argnums=0)
    def loss(functional, parameters, args):
        nonlocal count
        count += 1
        return functional.loss(parameters, args)

    with x64():
        values = [loss(o.functional, o.parameters, o.args) for o in objectives]
    assert len({float(value) for value in values}) == len(values)
    return count


@pytest.mark.parametrize(
    "build",
    [
        lambda seed: two_layer("softplus", seed=seed),
        lambda seed: MLP.init([3, 4, 1], 1.0, seed, bias=True),
        lambda seed: DeepLinear.init([3, 4, 1], 1.0, seed),
        lambda seed: DiagonalLinear(*np.random.default_rng(seed).standard_normal((2, 3))),
        lambda seed: eqx_mlp(seed=seed),
    ],
    ids=["two_layer", "mlp", "deep_linear", "diagonal", "equinox"],
)
def test_models_that_differ_in_numbers_only_are_traced_once(build):
    first, second = (
        Objective.of(build(seed), samples(seed=seed), loss=loss)
        for seed, loss in ((1, "half_mean"), (2, "mean"))
    )
    assert first.static == second.static
    assert first.functional == second.functional
    assert hash(first.functional) == hash(second.functional)
    assert traces([first, second]) == 1


def test_other_activations_slopes_and_residuals_are_other_functionals():
    model, data = two_layer("softplus"), samples()
    sharp = TwoLayer(model.a, model.W, "softplus", beta=3.0)
    functionals = [
        Objective.of(model, data).functional,
        Objective.of(sharp, data).functional,
        Objective.of(two_layer("tanh"), data).functional,
        Objective.of(model, data, residual="frozen").functional,
        Objective.of(eqx_mlp(), data).functional,
        Objective.of(eqx_mlp(activation=jax.nn.relu), data).functional,
    ]
    assert len(set(functionals)) == len(functionals)


def test_floats_inside_equinox_modules_are_static_in_a_loss_function_too():
    objective = Objective.of((lambda m: m(jnp.ones(3)), Masked(np.ones(1), 0, 2.0, jnp.sin)))
    assert [leaf.shape for leaf in jax.tree.leaves(objective.parameters)] == [(1,)]


def test_loss_functions_are_told_apart_by_identity():
    parameters = np.ones(2)
    first, second = (jax.tree_util.Partial(jnp.sum), jax.tree_util.Partial(jnp.prod))
    assert Objective.of((jnp.sum, parameters)).functional == (
        Objective.of((jnp.sum, 2 * parameters)).functional
    )
    assert Objective.of((first, parameters)).functional != (
        Objective.of((second, parameters)).functional
    )


def test_a_batch_of_models_is_one_vmapped_call():
    data = samples()
    objectives = [Objective.of(two_layer("tanh", seed=seed), data) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *[o.parameters for o in objectives])
    functional, args = objectives[0].functional, objectives[0].args
    with x64():
        batch = np.asarray(jax.vmap(functional.loss, in_axes=(0, None))(stacked, args))
    np.testing.assert_allclose(batch, [loss_of(o) for o in objectives], rtol=1e-14)


def test_losses_are_never_computed_in_float32():
    objective = Objective.of(two_layer(), samples())
    with pytest.raises(RuntimeError, match=r"evaluated in float64"):
        objective.loss(objective.parameters, objective.args)
    assert jnp.ones(1).dtype == np.float32


def test_objectives_say_what_they_are_and_built_in_ones_can_be_pickled():
    objective = Objective.of(two_layer(), samples())
    assert repr(objective) == "Objective(16 parameters, 4 units, Dataset(custom: n=6, d=3))"
    with pytest.raises(AttributeError):
        objective.n_units = 1  # type: ignore[misc]
    model = pickle.loads(pickle.dumps(objective.model(objective.parameters)))
    assert loss_of(Objective.of(model, samples())) == loss_of(objective)


# -- arguments --------------------------------------------------------------------------------


class Returning(eqx.Module):
    """A model that returns what it is told to."""

    w: Any
    function: Any

    def __call__(self, x):
        return self.function(self.w, x)


def returning(function):
    return Returning(np.ones(3), function)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((two_layer(d=2), samples()), "`model` must have the data's input dimension 3, but has 2"),
        (
            (two_layer(p=2), samples()),
            r"`model` must return a number for each .* returns float64 of shape \(2,\)\.",
        ),
        (
            (two_layer(), samples(p=2)),
            r"`model` must return an array of shape \(2,\) .* returns float64 of shape \(\)\.",
        ),
        (
            (eqx_mlp(3), samples(p=2)),
            r"`model` must return an array of shape \(2,\) .* returns float64 of shape \(3,\)\.",
        ),
        ((eqx_mlp(), samples(d=2)), "`model` must be written with JAX and take .* but fails: "),
        ((returning(lambda w, x: (w, x)), samples()), "`model` must return a number .* a tuple"),
        (
            (returning(lambda w, x: jnp.sum(w * x).astype("float32")), samples()),
            "`model` must compute in float64, but returns float32",
        ),
        (
            (returning(lambda w, x: float(jnp.sum(w * x))), samples()),
            "`model` must be written with JAX",
        ),
        ((eqx.nn.Identity(), samples()), "`model` must have floating-point arrays as parameters"),
        (((jnp.sum, np.array([1.0, np.inf])),), "`model` must have finite parameters"),
        (((jnp.sum, np.array([1])),), "`model` must have floating-point arrays as parameters"),
        (
            ((lambda w: w, np.ones(2)),),
            r"`model` must have a loss .* float64 of shape \(2,",
        ),
        (((jnp.sum, np.ones(2)), None, "mean"), "`loss` must be left out for a loss function"),
        ((two_layer(), samples(), "sum"), "`loss` must be one of half_mean, mean, but is 'sum'"),
        ((two_layer(), samples(), "mean", "y"), "`residual` must be one of full, frozen, but is"),
    ],
)
def test_bad_values_get_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=f"^Argument {message}") as caught:
        Objective.of(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((lambda x: x, samples()), "`model` must be a model of flowsim, .* is of type function"),
        ((fs.init.balanced(2, 3, 1.0, 0), samples()), "`model` must be .* type TwoLayerReLU"),
        ((two_layer(), None), "`data` must be a Dataset, but is of type NoneType"),
        ((two_layer(), np.ones((2, 3))), "`data` must be a Dataset, but is of type ndarray"),
        (((jnp.sum, np.ones(2)), samples()), "`data` must be None for a loss function"),
        (((jnp.sum, np.ones(2)), None, "half_mean", "frozen"), "`residual` must be 'full'"),
        (((jnp.sum, np.ones(2) * 1j),), "`model` must have real parameters, but some are complex"),
        (
            (Returning(np.ones(3), {1, 2}), samples()),
            "`model` must have static parts that can be hashed",
        ),
    ],
)
def test_wrong_types_raise_a_type_error(arguments, message):
    with pytest.raises(TypeError, match=f"^Argument {message}"):
        Objective.of(*arguments)
