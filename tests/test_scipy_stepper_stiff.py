"""Stiff systems and Jacobians on SciPy's solvers, with NumPy and with JAX."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy_problems import (
    ARGS,
    FACTOR,
    START,
    STIFF_ARGS,
    STIFF_START,
    Scalar,
    Spirals,
    Stiff,
    StiffWithFormula,
    integrate,
)

from flowsim.engines.problem import Advance, Land
from flowsim.engines.scipy import Scipy, ScipyStepper


def test_lsoda_lands_in_a_stiff_step():
    problem = Stiff(traceable=False)
    stepper = ScipyStepper(Scipy("LSODA"), 1e-6)
    landed = stepper.land(Land(problem, STIFF_START, STIFF_ARGS, 0.1))
    assert landed["slow"] == pytest.approx(np.exp(-0.1) * STIFF_START["slow"], rel=1e-6)
    assert landed["fast"] == pytest.approx(np.exp(-0.1) * STIFF_START["fast"], rel=1e-6)
    answer = stepper.advance(Advance(problem, STIFF_START, STIFF_ARGS, 1e-9, None, 1))
    assert answer.evaluations < 1000  # DOP853 alone would need a million


@pytest.mark.parametrize("traceable", [False, True])
@pytest.mark.parametrize("method", ["Radau", "BDF", "LSODA"])
def test_stiff_pytrees_are_solved_with_few_steps_in_numpy_and_jax(method, traceable):
    problem = Stiff(traceable)
    answers = integrate(
        ScipyStepper(Scipy(method), 1e-6), problem, STIFF_START, STIFF_ARGS, 2.0, 32
    )
    assert sum(len(a.t) - 1 for a in answers) < 300
    for name, start in STIFF_START.items():
        y = answers[-1].y[name]
        assert y.dtype == np.float64
        assert y.shape == (len(answers[-1].t), len(start))
        error = np.linalg.norm(y[-1] - np.exp(-2.0) * start)
        assert error < FACTOR[method] * 1e-6 * np.linalg.norm(np.exp(-2.0) * start)
    assert answers[-1].observed["slow"] == pytest.approx(answers[-1].y["slow"].sum(axis=1))


@pytest.mark.parametrize("traceable", [False, True])
@pytest.mark.parametrize("method", ["Radau", "BDF", "LSODA"])
def test_jacobians_save_the_evaluations_of_finite_differences(method, traceable):
    def evaluations(kind: Any) -> int:
        stepper = ScipyStepper(Scipy(method, jacobian=kind), 1e-6)
        answers = integrate(stepper, problem, STIFF_START, STIFF_ARGS, 2.0)
        return sum(a.evaluations for a in answers)

    problem = StiffWithFormula(traceable)
    finite = evaluations("finite")
    assert not problem.calls
    analytic = evaluations("analytic")
    assert analytic < finite - 4
    assert problem.calls
    assert evaluations("auto") == analytic
    if traceable:
        assert evaluations("jax") == pytest.approx(analytic, rel=0.1)


def test_a_jacobian_that_does_not_exist_is_refused():
    stepper = ScipyStepper(Scipy("Radau", jacobian="jax"), 1e-6)
    with pytest.raises(ValueError, match=r"^Argument `jacobian` must be one of auto, finite for"):
        stepper.advance(Advance(Spirals(), START, ARGS, 1.0, None, 1))


def test_equal_traceable_problems_are_compiled_once():
    from flowsim.engines import _vectors

    _vectors._compiled.cache_clear()
    for _ in range(3):
        stepper = ScipyStepper(Scipy("RK45"), 1e-3)
        stepper.advance(Advance(Stiff(), STIFF_START, STIFF_ARGS, 1.0, None, 1))
    assert _vectors._compiled.cache_info().misses == 1


def test_jax_stays_in_the_precision_that_the_user_has():
    import jax

    ScipyStepper(Scipy("RK45"), 1e-3).advance(
        Advance(Stiff(), STIFF_START, STIFF_ARGS, 1.0, None, 1)
    )
    assert jax.numpy.ones(1).dtype == np.float32


@pytest.mark.parametrize("method", ["Radau", "BDF", "LSODA"])
def test_dense_matrices_beyond_the_memory_are_refused(method):
    request = Advance(Scalar("decay"), np.ones(20_000), None, 1.0, None, 1)
    with pytest.raises(ValueError) as info:
        ScipyStepper(Scipy(method), 1e-6).advance(request)
    assert str(info.value) == (
        f"Argument `engine` must fit its dense matrices into 2 GiB, but {method} would need a "
        "dense Jacobian of 3.2 GB and in all 22 GB for 20000 parameters; "
        'use Diffrax("Kvaerno5").'
    )
    assert ScipyStepper(Scipy("RK45"), 1e-3).advance(request).failure == ""
