"""Neurons that nothing feels shrink along a line in closed form, however long the step is."""

import numpy as np
import pytest

import flowsim as fs

#: The first sample's neuron is soon at rest; the second one's shrinks at |D| = 1/2 for ever.
DATA = fs.Dataset(np.array([[30.0], [-1.0]]), np.array([1.0, -1.0]))
NET = fs.TwoLayerReLU(np.array([1.0, 1e-9]), np.array([[1.0], [-1e-9]]))
T1 = 2000.0


@pytest.fixture(scope="module")
def run():
    return fs.simulate(NET, DATA, t1=T1, stationary_rtol=0.0)


def expected(t):
    return np.log(np.sqrt(2.0) * 1e-9) - 0.5 * t


def test_steps_do_not_wait_for_a_neuron_that_fades(run):
    assert run.steps < 200  # T1 |D| / 2 = 500 is what its series would take


def test_its_size_is_that_of_the_closed_form(run):
    assert abs(run.final.network.log_norm[1] - expected(T1)) < 1e-11 * T1
    assert run.audit["invariant_drift"] < 1e-14


@pytest.mark.parametrize("t", [3.0, 700.0, 1999.0])
def test_it_fades_inside_steps_too(run, t):
    assert abs(run.network(t).log_norm[1] - expected(t)) < 1e-11 * T1


def test_it_grows_again_when_the_labels_ask_for_it(run):
    end = run.final.network
    turned = fs.Dataset(DATA.X, np.array([1.0, 1.0]))
    again = fs.simulate(end, turned, t1=T1 - 100.0, stationary_rtol=0.0)
    assert abs(again.final.network.log_norm[1] - expected(100.0)) < 1e-11 * T1
