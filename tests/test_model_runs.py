"""Solutions of models other than TwoLayerReLU: their dense output, statuses, verdicts, audits."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from model_runs import (
    MODELS,
    SCIPY,
    TARGET,
    H,
    diagonal,
    diagonal_data,
    labelled,
    run,
    two_layer,
)

import flowsim as fs
from flowsim.models import MLP, DeepLinear, TwoLayer
from flowsim.report import plateaus


def leaves(model: Any) -> np.ndarray:
    parts = [np.ravel(leaf) for leaf in jax.tree.leaves(model) if hasattr(leaf, "dtype")]
    return np.concatenate([part for part in parts if part.dtype == np.float64])


# -- the Solution ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MODELS if name != "loss"])
def test_dense_output_has_the_shape_of_the_labels_and_the_values_of_the_model(name: str):
    sol = run(name)
    data, times = sol.data, np.array([0.0, 0.3, 0.71]) * sol.t_end
    assert sol.residual(times[1]).shape == data.y.shape
    assert sol.residual(times).shape == (3, *data.y.shape)
    assert sol.residual(times[None]).shape == (1, 3, *data.y.shape)
    losses = sol.loss(times)
    assert losses.shape == (3,)
    for t, loss in zip(times, losses, strict=True):
        model = sol.network(t)
        outputs = np.array([np.asarray(model(x), np.float64) for x in data.X])
        residual = data.y - outputs.reshape(data.y.shape)
        # An equinox module on its own computes in float32.
        close = 1e-14 if isinstance(model, fs.models.base.Model) else 1e-5
        np.testing.assert_allclose(residual, sol.residual(t), rtol=0, atol=close)
        assert loss == pytest.approx(0.5 * np.sum(sol.residual(t) ** 2) / data.n, rel=1e-14)


@pytest.mark.parametrize("name", list(MODELS))
def test_dense_output_meets_the_history_and_lies_on_the_flow_between(name: str):
    sol = run(name)
    t, loss = sol.history.t, sol.history.loss
    picked = np.linspace(0, sol.steps, 7).astype(int)
    top = np.max(np.abs(loss))
    np.testing.assert_allclose(sol.loss(t[picked]), loss[picked], rtol=0, atol=1e-13 * top)
    middle = 0.5 * (t[:-1] + t[1:])[picked[:-1]]
    inside = sol.loss(middle)
    assert np.all(inside <= loss[picked[:-1]] + 1e-9 * top)
    assert np.all(inside >= loss[picked[:-1] + 1] - 1e-9 * top)
    np.testing.assert_array_equal(leaves(sol.network(sol.t_end)), leaves(sol.final.network))


@pytest.mark.parametrize("name", list(MODELS))
def test_the_audit_is_small(name: str):
    audit = run(name).audit
    assert set(audit) == {"loss_increase", "dissipation", "loss_recomputed"}
    assert audit["loss_increase"] <= 1e-14
    assert audit["loss_recomputed"] <= 1e-13
    assert audit["dissipation"] <= 2e-9


def test_a_start_in_float32_is_taken_exactly_and_the_model_comes_back_in_float64():
    start, sol = MODELS["equinox"]()[0], run("equinox")
    first = sol.network(0.0)
    assert type(first) is type(start)
    for given, found in zip(start.layers, first.layers, strict=True):
        assert given.weight.dtype == np.float32
        assert isinstance(found.weight, np.ndarray)
        assert found.weight.dtype == np.float64
        np.testing.assert_array_equal(found.weight, np.asarray(given.weight, np.float64))


def test_a_loss_function_has_parameters_in_the_place_of_a_network_and_no_residual():
    sol = run("loss")
    np.testing.assert_array_equal(sol.network(0.0)["x"], [1e-9, 0.3])
    assert np.allclose(sol.final.network["x"], [1.0, 0.0], rtol=0, atol=1e-9)
    with pytest.raises(TypeError, match="residual must be that of data"):
        sol.residual(0.0)
    assert sol.summary().startswith("loss function wells\nloss L(θ), rtol 1e-12, engine scipy")


def test_there_are_no_activation_patterns():
    with pytest.raises(TypeError, match=r"Patterns must be those of a TwoLayerReLU"):
        run("tanh").pattern(0.0)


def test_thinned_states_have_no_dense_output_between_them():
    model, data, _ = MODELS["diagonal"]()
    sol = fs.simulate(model, data, engine=SCIPY, state_bytes=96 * 20)
    assert len(sol.states.t) < len(sol.history.t)
    assert sol.loss(sol.states.t[1]) == pytest.approx(sol.history.loss[sol.states.step[1]])
    with pytest.raises(ValueError, match="raise state_bytes"):
        sol.loss(0.5 * (sol.states.t[0] + sol.states.t[1]))


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("softplus-2", fs.engines.Diffrax("Kvaerno5", linear_solver="structured")),
        ("equinox", fs.engines.Diffrax("Dopri8")),
    ],
)
def test_diffrax_and_scipy_find_the_same_flow(name: str, engine: Any):
    one, other = run(name), run(name, engine)
    assert other.settings["solver"] == engine.solver
    times = np.linspace(0.0, one.t_end, 7)
    for t in times:
        size = np.linalg.norm(leaves(one.network(t)))
        apart = leaves(one.network(t)) - leaves(other.network(t))
        assert np.linalg.norm(apart) <= 1e-8 * size
    np.testing.assert_allclose(one.loss(times), other.loss(times), rtol=0, atol=1e-9)
    assert one.alignment.end_time == pytest.approx(other.alignment.end_time, rel=1e-9)


# -- options -----------------------------------------------------------------------------------


def test_the_mean_loss_is_twice_as_large_and_its_flow_twice_as_fast():
    half = run("diagonal")
    model, data, _ = MODELS["diagonal"]()
    mean = fs.simulate(model, data, engine=SCIPY, loss="mean")
    for t in (0.1, 0.4, 0.8) * np.array(half.t_end):
        np.testing.assert_allclose(
            leaves(mean.network(0.5 * t)), leaves(half.network(t)), rtol=1e-8
        )
        assert mean.loss(0.5 * t) == pytest.approx(2.0 * half.loss(t), rel=1e-8)
    assert mean.history.loss[0] == pytest.approx(7.0, rel=1e-15)
    assert half.history.loss[0] == pytest.approx(3.5, rel=1e-15)
    assert mean.alignment.end_time == pytest.approx(0.5 * half.alignment.end_time, rel=1e-10)


def test_a_frozen_residual_makes_a_diagonal_network_grow_like_cosh_and_sinh():
    model, data, _ = MODELS["diagonal"]()
    sol = fs.simulate(model, data, engine=SCIPY, residual="frozen", t1=10.0)
    rate = data.X.T @ data.y / data.n
    for t in (0.0, 3.0, 10.0):
        there = sol.network(t)
        np.testing.assert_allclose(there.u, model.u * np.cosh(rate * t), rtol=3e-9)
        np.testing.assert_allclose(there.v, model.u * np.sinh(rate * t), rtol=3e-9)
        np.testing.assert_array_equal(sol.residual(t), data.y)
    np.testing.assert_allclose(sol.history.loss, 3.5, rtol=1e-15)
    assert sol.final.loss == sol.history.loss[-1] == pytest.approx(sol.loss(10.0), rel=1e-15)
    assert sol.message == "The run has reached t1 = 10 with the residual frozen at y."
    assert sol.audit == {}


def test_a_run_says_why_it_stopped():
    model, data, _ = MODELS["diagonal"]()

    def half(t: float, model: Any) -> float:
        return float(model.u[0] * model.v[0]) - 1.0

    half.terminal = True  # pyright: ignore
    cases = [
        ({"t1": 3.0}, "t1", "The run has reached t1 = 3; there the state is not stationary"),
        ({"max_steps": 5}, "max_steps", "The run has used max_steps = 5 steps"),
        ({"max_seconds": 1e-9}, "max_seconds", "The run has used max_seconds = 1e-09"),
        ({"events": [half]}, "event", "The run has been ended by a terminal event at t = 7."),
        ({}, "stationary", "The flow has come to rest: interpolation (the model fits every label)"),
    ]
    for options, status, message in cases:
        sol = fs.simulate(model, data, engine=SCIPY, **options)
        assert sol.status == status
        assert sol.message.startswith(message)
        assert sol.failed == status.startswith("max")
    with pytest.raises(fs.RunError, match="max_steps = 5") as raised:
        fs.simulate(model, data, engine=SCIPY, max_steps=5, throw=True)
    assert raised.value.solution.steps == 5


# -- known flows -------------------------------------------------------------------------------


def test_a_diagonal_network_passes_its_saddle_at_the_known_times():
    def below(value: float):
        def g(t: float, model: Any) -> float:
            gap = model.u * model.v - TARGET
            return float(0.5 * gap @ H @ gap) - value

        return g

    drops = [below(0.5 * (3.5 + 0.375)), below(0.5 * 0.375)]
    sol = fs.simulate(diagonal(1e-16), diagonal_data(), engine=SCIPY, events=drops)
    scaled = sol.events.where("user").t / np.log(1e16)
    assert np.allclose(scaled, [0.404, 0.649], rtol=0, atol=5e-4)
    (plateau,) = plateaus(sol)
    assert plateau.loss == pytest.approx(0.375, abs=1e-4)
    there = sol.network(plateau.t)
    assert np.allclose(there.u * there.v, [2.5, 0.0], rtol=0, atol=1e-3)
    assert (sol.status, sol.final.kind) == ("stationary", "interpolation")
    assert np.allclose(sol.final.network.vector, TARGET, rtol=0, atol=1e-9)


def test_a_deep_linear_network_finds_the_least_squares_fit():
    sol = run("deep-linear-2")
    best = np.linalg.lstsq(sol.data.X, sol.data.y, rcond=None)[0].T
    assert sol.status == "stationary"
    assert sol.final.kind == "local_minimum"
    assert np.allclose(sol.final.network.matrix, best, rtol=0, atol=1e-9)
    left = 0.5 * np.sum((sol.data.y - sol.data.X @ best.T) ** 2) / sol.data.n
    assert sol.final.limit_loss == pytest.approx(left, rel=1e-12)
    assert abs(sol.final.lowest_curvature) < 1e-6 * sol.final.highest_curvature  # flat


def test_the_start_at_zero_is_a_saddle_of_two_layers_and_undecided_for_three():
    data = diagonal_data()
    rate = np.linalg.norm(data.X.T @ data.y / data.n)
    two = fs.simulate(DeepLinear([np.zeros((2, 2)), np.zeros((1, 2))]), data, engine=SCIPY)
    assert (two.status, two.final.kind, two.steps) == ("stationary", "saddle", 0)
    assert two.final.lowest_curvature == pytest.approx(-rate, rel=1e-12)
    assert two.summary().splitlines()[3] == "The flow is at a saddle with L½ = 3.5."
    factors = [np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((1, 2))]
    three = fs.simulate(DeepLinear(factors), data, engine=SCIPY)
    assert (three.final.kind, three.final.reason) == ("unknown", "the Hessian is zero")


@pytest.mark.parametrize("name", ["diagonal", "deep-linear-2"])
def test_alignment_ends_where_the_residual_has_left_the_labels_by_the_threshold(name: str):
    sol = run(name)
    end, y = sol.alignment.end_time, sol.data.y
    assert np.linalg.norm(sol.residual(end) - y) == pytest.approx(
        1e-3 * np.linalg.norm(y), rel=1e-8
    )
    assert sol.events.where("alignment_end").t.tolist() == [end]
    assert (sol.alignment.definition, sol.alignment.threshold) == ("residual", 1e-3)
    assert np.isnan(sol.alignment.predicted_time)
    assert np.isnan(run("loss").alignment.end_time)


# -- batches -----------------------------------------------------------------------------------


def test_a_batch_of_models_takes_the_steps_that_single_runs_take():
    data, engine = diagonal_data(), fs.engines.Diffrax("Dopri8")
    models = [diagonal(alpha) for alpha in (1e-4, 1e-8, 1e-16)]
    together = fs.simulate_batch(models, data, engine=engine)
    for model, batched in zip(models, together, strict=True):
        single = fs.simulate(model, data, engine=engine)
        assert abs(batched.steps - single.steps) <= 1
        assert batched.status == single.status == "stationary"
        for kind in ("alignment_end", "plateau"):
            np.testing.assert_allclose(
                batched.events.where(kind).t, single.events.where(kind).t, rtol=1e-9
            )
        for t in (0.2, 0.5, 0.9) * np.array(single.t_end):
            np.testing.assert_allclose(
                leaves(batched.network(t)), leaves(single.network(t)), rtol=1e-9
            )
        assert batched.audit["dissipation"] < 2e-9
    assert fs.simulate_batch([], data) == []


def test_a_batch_is_one_of_diffrax():
    with pytest.raises(TypeError, match=r"`engine` must be a Diffrax for a batch"):
        fs.simulate_batch([diagonal(1e-4)], diagonal_data(), engine=SCIPY)  # pyright: ignore


# -- what fits together ------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("engine", [None, SCIPY, fs.engines.Diffrax("Dopri8")])
def test_a_piecewise_linear_two_layer_network_belongs_to_the_exact_switching(
    activation: str, engine: Any
):
    net = two_layer(activation)
    with pytest.raises(ValueError, match=r"^Argument `net` must be a TwoLayerReLU") as raised:
        fs.simulate(net, labelled(None), engine=engine)
    remedy = str(raised.value).split("use ")[1].removesuffix(".")
    again = eval(remedy, {"flowsim": fs, "net": net})
    assert again.negative_slope == (0.01 if activation == "leaky_relu" else 0.0)
    np.testing.assert_allclose(again(labelled(None).X), net(labelled(None).X), rtol=1e-13)


def test_squared_relu_and_deeper_or_vector_valued_relu_networks_are_integrated_as_they_are():
    sol = fs.simulate(two_layer("squared_relu"), labelled(None), engine=SCIPY, t1=2.0)
    assert sol.status == "t1"
    vector = fs.simulate(two_layer("relu", 2), labelled(2), engine=SCIPY, t1=0.5, rtol=1e-6)
    deep = MLP.init([2, 3, 3, 1], 0.5, 0)
    assert vector.status == "t1"
    assert fs.simulate(deep, labelled(None), engine=SCIPY, t1=0.5, rtol=1e-6).status == "t1"


def test_what_does_not_fit_together_is_one_sentence():
    cases: list[tuple[type[Exception], str, Any, Any, dict[str, Any]]] = [
        (TypeError, "with the engine Piecewise", two_layer("tanh"), labelled(None),
         {"engine": fs.engines.Piecewise()}),
        (TypeError, "Diffrax, Scipy, Descent or Validated", two_layer("tanh"), labelled(None),
         {"engine": "scipy"}),
        (TypeError, "`events` must be a sequence", two_layer("tanh"), labelled(None),
         {"events": 3}),
        (TypeError, "`net` must be a TwoLayerReLU, a model of flowsim", "net", labelled(None), {}),
        (TypeError, "`data` must be a Dataset", two_layer("tanh"), None, {}),
        (TypeError, "`data` must be None", MODELS["loss"]()[0], labelled(None), {}),
        (ValueError, "`net` must return", two_layer("tanh"), labelled(2), {}),
        (ValueError, "`net` must have the data's input dimension 3", two_layer("tanh"),
         fs.datasets.linear_teacher(4, 3), {}),
        (ValueError, "`t1` must be finite", two_layer("tanh"), labelled(None),
         {"residual": "frozen"}),
        (ValueError, "`alignment` must be", two_layer("tanh"), labelled(None),
         {"alignment": "theory", "engine": SCIPY}),
    ]  # fmt: skip
    for error, text, net, data, options in cases:
        with pytest.raises(error, match=rf"^Argument .*{text}.*\.$"):
            fs.simulate(net, data, **options)


def test_a_model_of_one_output_takes_labels_of_either_shape():
    flat, column = labelled(None), labelled(1)
    one = fs.simulate(TwoLayer([0.1], [[0.1, 0.2]], "tanh"), flat, engine=SCIPY, t1=1.0)
    two = fs.simulate(TwoLayer([[0.1]], [[0.1, 0.2]], "tanh"), column, engine=SCIPY, t1=1.0)
    assert one.residual(1.0).shape == (5,)
    assert two.residual(1.0).shape == (5, 1)


def test_a_blow_up_in_finite_time_ends_where_time_cannot_resolve_it() -> None:
    start = np.array([1.0, 2.0])
    sol = fs.simulate((lambda p: -(p[0] ** 4), start), engine=fs.engines.Scipy())
    assert sol.status == "step_underflow"
    # p' = 4 p^3 from 1 reaches infinity at t = 1/8
    assert abs(sol.t_end - 0.125) < 1e-9
    assert np.all(np.diff(sol.history.t) > 0.0)


def test_a_flat_minimum_of_a_loss_function_is_not_called_one() -> None:
    sol = fs.simulate((lambda p: p[0] ** 3, np.array([1.0, 2.0])), engine=fs.engines.Scipy())
    assert sol.final.kind == "unknown"
