"""Activation functions: values, derivatives, identity, arguments."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_support import FORMULAS, relu

from flowsim._jax import x64
from flowsim.models import ACTIVATIONS, Activation

RTOL = 1e-14
U = np.array([-30.0, -2.5, -1.0, -1e-3, 0.0, 1e-3, 0.7, 3.0, 30.0])


def test_every_activation_has_a_formula_here():
    assert set(FORMULAS) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_their_formulas(name):
    parameters, formula, _ = FORMULAS[name]
    with x64():
        values = Activation.of(name, **parameters)(jnp.asarray(U))
    # 1 + erf cancels in the formula where u is far below 0
    np.testing.assert_allclose(values, formula(U), rtol=RTOL, atol=1e-16 * np.max(np.abs(U)))


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if FORMULAS[name][2]])
def test_derivatives_are_theirs_and_at_kinks_those_of_the_negative_side(name):
    parameters, _, derivative = FORMULAS[name]
    with x64():
        values = jax.vmap(jax.grad(Activation.of(name, **parameters)))(jnp.asarray(U))
    np.testing.assert_allclose(values, derivative(U), rtol=4e-14, atol=1e-15)


def test_squared_relu_vanishes_to_second_order_at_zero():
    sigma = Activation.of("squared_relu")
    with x64():
        assert sigma(jnp.asarray(0.0)) == jax.grad(sigma)(0.0) == 0.0
        assert jax.grad(jax.grad(sigma))(1e-300) == 2.0
        assert jax.grad(jax.grad(sigma))(-1e-300) == 0.0


def test_sharp_softplus_tends_to_relu_like_ln2_over_beta():
    with x64():
        for beta in (1e2, 1e4, 1e8):
            sigma = Activation.of("softplus", beta=beta)
            gap = np.asarray(sigma(jnp.asarray(U))) - relu(U)
            np.testing.assert_allclose(np.max(gap), np.log(2) / beta, rtol=RTOL)


def test_gelu_keeps_relative_accuracy_in_its_tail():
    # u Φ(u) at −10 in 50 digits (mpmath)
    with x64():
        value = Activation.of("gelu")(jnp.asarray(-10.0))
    np.testing.assert_allclose(value, -7.619853024160526e-23, rtol=1e-13)


def test_equal_activations_are_equal_and_hash_equal():
    assert Activation.of("softplus") == Activation.of("softplus", beta=1)
    assert hash(Activation.of("softplus")) == hash(Activation.of("softplus", beta=1))
    assert Activation.of("softplus", beta=2.0) != Activation.of("softplus")
    assert Activation.of(Activation("tanh")) == Activation("tanh")
    assert str(Activation.of("softplus", beta=20)) == "softplus(beta=20)"


def test_only_relu_and_leaky_relu_have_cells():
    assert [name for name in ACTIVATIONS if Activation.of(name).piecewise_linear] == [
        "relu",
        "leaky_relu",
    ]
    assert Activation.of("relu").negative_slope == 0.0
    assert Activation.of("leaky_relu", negative_slope=0.3).negative_slope == 0.3
    assert Activation.of("softplus", beta=3.0).negative_slope is None


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"activation": "swish"}, ValueError, "`activation` must be one of relu, .* is 'swish'"),
        ({"activation": np.tanh}, TypeError, "`activation` must be the name .* type ufunc"),
        (
            {"activation": "tanh", "beta": 2.0},
            ValueError,
            r"`beta` must be left out with the activation tanh, but is 2\.0",
        ),
        (
            {"activation": Activation("leaky_relu", 0.1), "negative_slope": 0.2},
            ValueError,
            "`negative_slope` must be left out",
        ),
        (
            {"activation": "leaky_relu", "negative_slope": 1.0},
            ValueError,
            r"`negative_slope` must be in \[0, 1\), but is 1",
        ),
        ({"activation": "softplus", "beta": 0}, ValueError, "`beta` must be positive and finite"),
        ({"activation": "softplus", "beta": "2"}, TypeError, "`beta` must be a real number"),
    ],
)
def test_bad_activations_get_one_sentence(arguments, error, message):
    with pytest.raises(error, match=f"^Argument {message}"):
        Activation.of(**arguments)
