"""SciPy's solvers, stepped by hand: accuracy relative to units, work, and how steps end."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from scipy_problems import ARGS, FACTOR, START, Scalar, Spirals, integrate, unit_errors

from flowsim.engines.problem import Advance, Land
from flowsim.engines.scipy import METHODS, Scipy, ScipyStepper

EXPLICIT = ("DOP853", "RK45", "RK23")


def tolerances(method: str) -> tuple[float, ...]:
    """Return tolerances within the reach of a method's order."""
    return (1e-4, 1e-6, 1e-8) if method in ("RK23", "BDF", "Radau") else (1e-6, 1e-8, 1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_every_unit_is_accurate_relative_to_its_own_size(method):
    """Also one that is a billionth of another, and one that shrinks by six decades."""
    for rtol in tolerances(method):
        (answer,) = integrate(ScipyStepper(Scipy(method), rtol), Spirals(), START, ARGS, 5.0)
        errors = unit_errors(answer.y[-1], Spirals().exact(START, ARGS, 5.0))
        assert errors.max() < FACTOR[method] * rtol
        assert errors[1] < rtol  # the others' errors are not its own


@pytest.mark.parametrize("method", METHODS)
def test_the_error_falls_in_proportion_to_the_tolerance(method):
    rtols = tolerances(method)
    errors = [
        unit_errors(
            integrate(ScipyStepper(Scipy(method), rtol), Spirals(), START, ARGS, 5.0)[0].y[-1],
            Spirals().exact(START, ARGS, 5.0),
        )[0]
        for rtol in rtols
    ]
    slope = np.polyfit(np.log(rtols), np.log(errors), 1)[0]
    # Radau estimates its error of order 5 by one of order 3.
    assert slope == pytest.approx(1.3 if method == "Radau" else 1.0, abs=0.2)


@pytest.mark.parametrize("method", METHODS)
def test_the_tightest_errors_stay_near_rounding(method):
    rtol = 1e-12 if method in ("DOP853", "LSODA") else 1e-10
    (answer,) = integrate(ScipyStepper(Scipy(method), rtol), Spirals(), START, ARGS, 0.25)
    errors = unit_errors(answer.y[-1], Spirals().exact(START, ARGS, 0.25))
    assert errors.max() < FACTOR[method] * rtol


@pytest.mark.parametrize("method", METHODS)
def test_many_entries_do_not_dilute_the_error_of_one(method):
    """SciPy's mean over 400 entries at rest would allow the moving one 20 times the tolerance."""

    def error(idle: int) -> float:
        start = np.ones((1 + idle, 2))
        args = (np.zeros(1 + idle), np.arange(1 + idle) == 0)
        (answer,) = integrate(ScipyStepper(Scipy(method), 1e-6), Spirals(), start, args, 3.0)
        return unit_errors(answer.y[-1, :1], Spirals().exact(start[:1], args, 3.0))[0]

    assert error(199) < 1.5 * error(0)


@pytest.mark.parametrize("method", METHODS)
def test_states_come_with_their_velocities_observations_and_the_exact_span(method):
    span = 0.7 / 3.0
    answers = integrate(ScipyStepper(Scipy(method), 1e-5), Spirals(), START, ARGS, span, 4)
    assert sum(a.t[-1] for a in answers) == pytest.approx(span, rel=1e-15)
    for a in answers:
        assert 1 <= len(a.t) - 1 <= 4
        assert a.y.shape == (len(a.t), 3, 2)
        for y, f, s in zip(a.y, a.f, a.s, strict=True):
            assert (f == Spirals().field(0.0, y, ARGS)).all()
            assert (s == Spirals().field(0.0, f, ARGS)).all()
        assert a.observed["square"] == pytest.approx((a.y**2).sum(axis=(1, 2)), rel=1e-15)
        assert a.solver == method
        assert not a.left
    (answer,) = integrate(ScipyStepper(Scipy(method), 1e-5), Spirals(), START, ARGS, span)
    assert answer.t[-1] == span


@pytest.mark.parametrize("method", METHODS)
def test_requests_that_go_on_cost_what_one_long_one_does(method):
    stepper = lambda: ScipyStepper(Scipy(method), 1e-6)  # noqa: E731
    whole = integrate(stepper(), Spirals(), START, ARGS, 3.0)
    parts = integrate(stepper(), Spirals(), START, ARGS, 3.0, 5)
    assert len(parts) > 3 or method == "DOP853"
    assert sum(a.evaluations for a in parts) == whole[0].evaluations
    assert (parts[-1].y[-1] == whole[0].y[-1]).all()


@pytest.mark.parametrize("method", ["BDF", "LSODA"])
def test_multistep_methods_keep_their_history_over_the_end_of_a_span(method):
    whole = integrate(ScipyStepper(Scipy(method), 1e-8), Spirals(), START, ARGS, 3.0)
    stepper, y, evaluations = ScipyStepper(Scipy(method), 1e-8), START, 0
    for _ in range(3):
        (answer,) = integrate(stepper, Spirals(), y, ARGS, 1.0)
        assert answer.t[-1] == 1.0
        y, evaluations = answer.y[-1], evaluations + answer.evaluations
    assert evaluations < 1.3 * whole[0].evaluations
    errors = unit_errors(y, Spirals().exact(START, ARGS, 3.0))
    assert errors.max() < FACTOR[method] * 1e-8


@pytest.mark.parametrize("method", METHODS)
def test_other_arguments_or_another_state_start_anew(method):
    stepper = ScipyStepper(Scipy(method), 1e-6)
    first = stepper.advance(Advance(Spirals(), START, ARGS, 1.0, None, 10))
    slower = (ARGS[0], 0.5 * ARGS[1])
    for y, args in ((first.y[-1], slower), (START, slower), (2.0 * START, ARGS)):
        (answer,) = integrate(stepper, Spirals(), y, args, 1.0)
        errors = unit_errors(answer.y[-1], Spirals().exact(y, args, 1.0))
        assert errors.max() < FACTOR[method] * 1e-6


def test_equal_arguments_go_on():
    stepper = ScipyStepper(Scipy("BDF"), 1e-6)
    first = stepper.advance(Advance(Spirals(), START, ARGS, 1.0, None, 20))
    copies = tuple(a.copy() for a in ARGS)
    again = stepper.advance(Advance(Spirals(), first.y[-1], copies, 1.0, None, 1))
    assert again.t[1] > 0.3 * np.diff(first.t)[-1]
    assert again.evaluations < 10


@pytest.mark.parametrize("method", METHODS)
def test_the_first_step_that_leaves_is_the_last(method):
    y, args = np.array([[1.0, 0.0]]), (np.array([1.0]), np.array([0.0]))
    stepper = ScipyStepper(Scipy(method), 1e-4)
    answer = stepper.advance(Advance(Spirals(2.0), y, args, 5.0, None, 10**6))
    assert answer.left
    assert answer.y[-1, 0, 0] > 2.0 >= answer.y[-2, 0, 0]
    assert answer.t[-1] < 5.0


@pytest.mark.parametrize("method", METHODS)
def test_landing_inside_a_step_is_as_accurate_and_disturbs_nothing(method):
    rtol = 1e-7
    stepper, undisturbed = (ScipyStepper(Scipy(method), rtol) for _ in range(2))
    request = Advance(Spirals(), START, ARGS, 2.0, None, 12)
    answer = stepper.advance(request)
    y, tau = answer.y[-2], 0.37 * (answer.t[-1] - answer.t[-2])
    landed = stepper.land(Land(Spirals(), y, ARGS, tau))
    assert unit_errors(landed, Spirals().exact(y, ARGS, tau)).max() < rtol
    assert (stepper.land(Land(Spirals(), y, ARGS, 0.0)) == y).all()
    undisturbed.advance(request)
    rest = Advance(Spirals(), answer.y[-1], ARGS, 1.0, None, 12)
    with_landing, without = stepper.advance(rest), undisturbed.advance(rest)
    assert (with_landing.y == without.y).all()
    assert 0 < with_landing.evaluations - without.evaluations < 20  # those of the landing


@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_a_number_is_never_accepted(method):
    start = np.array([1.0])
    stepper = ScipyStepper(Scipy(method), 1e-6)
    problem = Scalar("undefined below a half")
    answer = stepper.advance(Advance(problem, start, None, 5.0, None, 10**4))
    assert answer.failure == "non_finite"
    assert answer.y[-1] == pytest.approx(0.5, rel=2e-3)
    assert (answer.y >= 0.5).all()
    assert np.isfinite(answer.f).all()
    answer = stepper.advance(Advance(Scalar("undefined"), start, None, 5.0, None, 10))
    assert (answer.failure, len(answer.t)) == ("non_finite", 1)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"RK23"}))
def test_a_blow_up_ends_as_a_step_underflow(method):
    stepper = ScipyStepper(Scipy(method), 1e-8)
    answer = stepper.advance(Advance(Scalar("square"), np.array([1.0]), None, 5.0, None, 10**4))
    assert answer.failure == "step_underflow"
    assert answer.t[-1] == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_an_infinite_span_ends_with_the_steps(method):
    stepper = ScipyStepper(Scipy(method), 1e-6)
    y = np.array([1.0, 0.5])
    for _ in range(3):
        answer = stepper.advance(Advance(Scalar("decay"), y, None, np.inf, None, 7))
        assert len(answer.t) == 8
        y = answer.y[-1]
    assert y[1] == pytest.approx(0.5 * y[0], rel=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_rest_is_followed_for_ever(method):
    """Steps grow to 1e300, where Radau's own loop would never end."""
    stepper = ScipyStepper(Scipy(method), 1e-6)
    request = Advance(Scalar("rest"), np.array([1.0]), None, np.inf, None, 1000)
    answer = stepper.advance(request)
    assert answer.t[-1] >= 1e300
    assert (answer.y == 1.0).all()


@pytest.mark.parametrize("method", METHODS)
def test_overflow_in_trial_steps_is_silent(method):
    """Warnings are errors in these tests."""
    for h in (None, 1e300):
        request = Advance(Scalar("too fast"), np.array([1.0]), None, 1e301, h, 20)
        answer = ScipyStepper(Scipy(method), 1e-6).advance(request)
        assert (np.abs(answer.y) < 1e200).all()
        assert len(answer.t) == 21 or answer.failure


def test_a_refusal_of_odepack_is_a_failure_without_a_warning(monkeypatch):
    from scipy import integrate

    class Refusing(integrate.LSODA):
        def _step_impl(self):
            warnings.warn("lsoda: Repeated convergence failures.", stacklevel=2)
            return False, "Unexpected istate in LSODA."

    monkeypatch.setattr(integrate, "LSODA", Refusing)
    request = Advance(Spirals(), START, ARGS, 1.0, None, 10)
    answer = ScipyStepper(Scipy("LSODA"), 1e-6).advance(request)
    assert (answer.failure, len(answer.t)) == ("step_underflow", 1)


@pytest.mark.parametrize("method", [*EXPLICIT, "Radau"])
def test_one_step_methods_try_the_step_that_they_are_given(method):
    request = Advance(Spirals(), START, ARGS, 1.0, 1e-3, 3)
    answer = ScipyStepper(Scipy(method), 1e-4).advance(request)
    assert answer.t[1] == 1e-3
    assert answer.h > 1e-3


def test_rejected_attempts_of_explicit_methods_are_counted():
    method: Any
    for method, stages in (("RK23", 3), ("RK45", 6), ("DOP853", 12)):
        request = Advance(Spirals(), START, ARGS, 1.0, 1.0, 10**4)
        answer = ScipyStepper(Scipy(method), 1e-9).advance(request)
        assert answer.rejected >= 1
        assert answer.evaluations == 1 + stages * (len(answer.t) - 1 + answer.rejected)


@pytest.mark.parametrize("method", METHODS)
def test_the_step_cut_by_the_span_is_not_the_next_one(method):
    stepper = ScipyStepper(Scipy(method), 1e-6)
    before = stepper.advance(Advance(Spirals(), START, ARGS, 9.0, None, 30))
    cut = stepper.advance(Advance(Spirals(), before.y[-1], ARGS, 1e-3 * before.h, None, 30))
    assert len(cut.t) == 2
    assert cut.h >= 0.99 * before.h


def test_the_configuration_is_checked_and_inert():
    config = Scipy("BDF", rtol=1e-5, jacobian="finite")
    assert pickle.loads(pickle.dumps(config)) == config
    assert ScipyStepper(config, 1e-9).rtol == 1e-5
    assert ScipyStepper(Scipy("BDF"), 1e-9).rtol == 1e-9
    names = "Radau, BDF, LSODA, DOP853, RK45, RK23"
    make: Any = Scipy
    for arguments, error in [
        ({"method": "Euler"}, f"Argument `method` must be one of {names}, but is 'Euler'."),
        (
            {"jacobian": "guess"},
            "Argument `jacobian` must be one of auto, analytic, jax, finite, but is 'guess'.",
        ),
        ({"rtol": 0.5}, "Argument `rtol` must lie in [1e-15, 1e-2], but is 0.5."),
    ]:
        with pytest.raises(ValueError) as info:
            make(**arguments)
        assert str(info.value) == error
    with pytest.raises(TypeError, match=r"^Argument `rtol` must be a real number, but is of type"):
        make(rtol="small")


def test_importing_and_configuring_loads_neither_scipy_nor_jax():
    code = (
        "import sys; import flowsim.engines.scipy as s; s.ScipyStepper(s.Scipy('Radau'), 1e-6); "
        "print([m for m in ('scipy.integrate', 'scipy', 'jax', 'diffrax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_numpy_arrays_take_no_jax():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import scipy_problems as t; "
        "from flowsim.engines.scipy import Scipy; s = t.ScipyStepper(Scipy('Radau'), 1e-6); "
        "s.advance(t.Advance(t.Spirals(), t.START, t.ARGS, 1.0, None, 5)); "
        "print('jax' in sys.modules)"
    )
    here = __file__.rpartition("/")[0]
    done = subprocess.run(
        [sys.executable, "-c", code, here], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
