"""The smooth flow with softplus of growing sharpness tends to the ReLU flow, events and all."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import flowsim as fs

#: A run to t = 2 of each of these has no separatrix near it; the seed, and what happens.
SYSTEMS = {"crossing": 17, "slide": 31, "death": 51}
SHARPNESS = (1e2, 1e3, 1e4)
T1 = 2.0


def system(what: str) -> tuple[fs.TwoLayerReLU, fs.Dataset]:
    rng = np.random.default_rng(SYSTEMS[what])
    X = rng.standard_normal((4, 2))
    data = fs.Dataset(X, 2.0 * rng.standard_normal(4))
    return fs.init.unbalanced(3, 2, 1.5, seed=SYSTEMS[what]), data


@cache
def relu(what: str) -> fs.Solution:
    return fs.simulate(*system(what), t1=T1)


@cache
def softplus(what: str, beta: float) -> fs.Solution:
    net, data = system(what)
    model = fs.models.TwoLayer.of(net, "softplus", beta=beta)
    return fs.simulate(model, data, engine=fs.engines.Scipy("DOP853"), rtol=1e-9, t1=T1)


def parameters(sol: fs.Solution) -> np.ndarray:
    net = sol.final.network
    return np.column_stack([net.a, net.W])


def distances(what: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest distances of the functions at the data in time, and of the end states."""
    times = np.linspace(0.0, T1, 17)
    functions, ends = [], []
    for beta in SHARPNESS:
        sol, limit = softplus(what, beta), relu(what)
        functions.append(np.max(np.abs(sol.residual(times) - limit.residual(times))))
        ends.append(np.linalg.norm(parameters(sol) - parameters(limit)))
    return np.array(functions), np.array(ends)


def test_the_systems_do_what_their_names_say():
    assert len(relu("crossing").events.where("pattern")) > 0
    assert np.any(relu("slide").pattern(T1) == 0)
    assert len(relu("death").events.where("death")) == 1


@pytest.mark.parametrize("what", ["crossing", "slide"])
def test_functions_and_states_converge_at_first_order_in_the_width_of_the_kink(what: str):
    # A crossing takes the time 1/(beta v), in which the speed v of the margin changes; on a
    # slide the margin is ln(odds)/beta instead of 0.
    for distance in distances(what):
        rates = np.log10(distance[:-1] / distance[1:])
        assert rates[-1] == pytest.approx(1.0, abs=0.1)
        assert distance[-1] < 1e-3


def test_a_dead_neuron_drifts_off_by_a_logarithm_over_the_sharpness_and_the_function_keeps():
    # Its margin u < 0 moves like u' = -c exp(beta u): u = -ln(c beta t) / beta.
    functions, ends = distances("death")
    expected = np.log(SHARPNESS) / np.array(SHARPNESS)
    assert np.all(np.diff(np.log10(ends)) < -0.8)
    assert 0.7 < (ends[-2] / ends[-1]) / (expected[-2] / expected[-1]) < 1.4
    assert functions[-1] < 1e-2 * ends[-1]


def test_a_sliding_sample_is_active_in_the_limit_with_the_weight_of_the_slide():
    # sigma'(w.x) of softplus is the multiplier that keeps the ReLU neuron on its hyperplane.
    _, data = system("slide")
    code = relu("slide").pattern(T1)
    j, k = np.argwhere(code == 0)[0]
    weights = []
    for beta in SHARPNESS:
        W = softplus("slide", beta).final.network.W
        weights.append(1.0 / (1.0 + np.exp(-beta * float(W[j] @ data.X[k]))))
    end = relu("slide").final.network
    r = end.residual(data)
    others = (code[j] == 1) * r @ data.X @ data.X[k]
    eta = -others / (r[k] * data.X[k] @ data.X[k])
    assert 0.0 < eta < 1.0
    assert abs(weights[-1] - eta) < 1e-3
