"""The Diffrax stepper: orders, tolerances, failures, stiffness, batches."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from stepper_systems import (
    TRACES,
    Blind,
    Counted,
    Crowded,
    Explosion,
    Fenced,
    Linear,
    Logistic,
    ReLUCell,
    Slaved,
    Walled,
    follow,
    once,
    relu_cell,
)

from flowsim._jax import x64
from flowsim.engines._diffrax_methods import real_stability
from flowsim.engines._stiffness import spectral_radius
from flowsim.engines.diffrax import EXPLICIT, IMPLICIT, Diffrax, DiffraxStepper
from flowsim.engines.problem import Advance, Land

ORDERS: dict[str, int] = dict(zip((*EXPLICIT, *IMPLICIT), (5, 5, 8, 3, 4, 5, 3, 4, 5), strict=True))


# --- configuration ---


def test_a_configuration_is_inert_and_picklable() -> None:
    code = (
        "import sys, pickle; from flowsim.engines.diffrax import Diffrax; "
        "c = Diffrax('Kvaerno5', rtol=1e-9); assert pickle.loads(pickle.dumps(c)) == c; "
        "assert not {'jax', 'diffrax', 'equinox'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_solver_instance_survives_pickling_and_integrates() -> None:
    config = pickle.loads(pickle.dumps(Diffrax(diffrax.Kvaerno3(root_find_max_steps=20))))
    stepper = DiffraxStepper(config, 1e-6)
    y, work = follow(stepper, Logistic(), np.array([0.2]), np.float64(1.0), 1.0)
    assert work.steps < 40
    np.testing.assert_allclose(y, Logistic.exact(0.2, 1.0), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"solver": "RK45"}, ValueError, "one of auto, Tsit5, Dopri5, Dopri8, Kvaerno3"),
        ({"solver": diffrax.Heun}, TypeError, "adaptive Runge-Kutta solver"),
        ({"solver": diffrax.SemiImplicitEuler()}, TypeError, "adaptive Runge-Kutta solver"),
        ({"rtol": 0.0}, ValueError, "between 0 and 1"),
        ({"chunk": 0}, ValueError, "at least 1"),
        ({"icoeff": -1.0}, ValueError, "between 0 and 1"),
        ({"pcoeff": 0.0, "icoeff": 0.0}, ValueError, "positive"),
        ({"linear_solver": "lu"}, ValueError, "auto, dense, structured, krylov"),
    ],
)
def test_a_bad_argument_gives_one_sentence(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        Diffrax(**arguments)
    assert str(caught.value).startswith("Argument `")


# --- accuracy ---


@pytest.mark.parametrize("name", ORDERS)
def test_every_solver_converges_with_its_order_in_acell(name: str) -> None:
    z, args = relu_cell()
    z *= 0.1  # growing, since decay would hide early errors
    field = lambda t, y: np.ravel(ReLUCell().field(t, y.reshape(z.shape), args))  # noqa: E731
    with x64():
        exact = solve_ivp(field, (0.0, 4.0), z.ravel(), "DOP853", rtol=3e-14, atol=1e-15).y[:, -1]
    stepper = DiffraxStepper(Diffrax(name), 1e-13)
    counts = {3: (16, 32, 64), 4: (16, 32, 64), 5: (8, 16, 32), 8: (2, 3, 4)}[ORDERS[name]]
    errors = []
    for count in counts:
        y = z
        for _ in range(count):
            y = stepper.land(Land(ReLUCell(), y, args, 4.0 / count))
        errors.append(np.max(np.abs(np.ravel(y) - exact)))
    assert errors[-1] > 2e-13
    order = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert order == pytest.approx(ORDERS[name], abs=0.2)


@pytest.mark.parametrize("name", ["Tsit5", "Dopri8", "Kvaerno5", "KenCarp4"])
def test_the_error_is_that_of_the_tolerance(name: str) -> None:
    A = np.array([[-1.0, 2.0, 0.0], [-2.0, -1.0, 0.5], [0.0, -0.5, -3.0]])
    y, exact = np.array([1.0, 0.5, -1.0]), expm(3.0 * A) @ [1.0, 0.5, -1.0]
    for rtol in (1e-6, 1e-9):
        end, _ = follow(DiffraxStepper(Diffrax(name), rtol), Linear(), y, A, 3.0)
        error = np.linalg.norm(end - exact) / np.linalg.norm(exact)
        assert 1e-3 * rtol < error < 30 * rtol


@pytest.mark.parametrize("name", ["Dopri8", "Kvaerno5", "KenCarp5"])
def test_a_tiny_unit_keeps_its_relative_accuracy(name: str) -> None:
    """Units of 1e-9 and 1e-200, the fastest, are as accurate: errors and solves are by units."""
    capacity, rate = np.array([1.0, 1e-9, 1e-200]), np.array([0.1, 3.0, 2.0])
    y = capacity * np.array([0.3, 0.1, 0.2])
    end, work = follow(DiffraxStepper(Diffrax(name), 1e-9), Crowded(), y, (rate, capacity), 2.0)
    exact = capacity * Logistic.exact(y / capacity, 2.0, rate)
    np.testing.assert_allclose(end, exact, rtol=5e-9)
    assert work.steps < 100


def test_an_implicit_step_is_not_rejected_because_two_iterations_do_not_do() -> None:
    """diffrax 0.7.2's own rule rejects 45 of 98 here."""
    stepper = DiffraxStepper(Diffrax("Kvaerno5"), 1e-6)
    _, work = follow(stepper, Logistic(), np.array([0.1, 0.2]), np.float64(1.0), 3.0)
    assert work.rejected <= 1
    assert work.steps <= 12


def test_landing_inside_a_step_is_as_accurate_as_the_step() -> None:
    stepper = DiffraxStepper(Diffrax("Dopri8"), 1e-10)
    y, one = np.array([0.2]), np.float64(1.0)
    steps = stepper.advance(Advance(Logistic(), y, one, 5.0, None, 4))
    tau = 0.37 * (steps.t[3] - steps.t[2])
    there = stepper.land(Land(Logistic(), steps.y[2], one, tau))
    np.testing.assert_allclose(there, Logistic.exact(0.2, steps.t[2] + tau), rtol=1e-10)
    assert stepper.land(Land(Logistic(), y, one, 0.0)) is y


# --- the loop ---


def test_steps_end_exactly_at_the_span_without_a_sliver() -> None:
    for span in (1e-3, 1.0000001, *np.linspace(0.1, 7.3, 30)):
        steps = once("Tsit5", Advance(Logistic(), np.array([0.1]), np.float64(1.0), span, None, 99))
        assert steps.t[0] == 0.0
        assert steps.t[-1] == span
        h = np.diff(steps.t)
        assert np.all(h > 0.0)
        assert h[-1] > 0.45 * h[:-1].max(initial=0.0)


def test_the_record_is_consistent_and_in_float64() -> None:
    y = {"a": np.array([0.1, 0.2]), "b": np.array(0.3)}
    steps = once("Dopri5", Advance(Logistic(), y, np.float64(2.0), 1.0, None, 3))
    assert len(steps.t) == 4
    for leaf, f, s in zip(*map(jax.tree.leaves, (steps.y, steps.f, steps.s)), strict=True):
        assert leaf.dtype == np.float64
        np.testing.assert_allclose(f, 2 * leaf * (1 - leaf), rtol=1e-14)
        np.testing.assert_allclose(s, 2 * (1 - 2 * leaf) * f, rtol=1e-13)
    total = steps.y["a"].sum(axis=1) + steps.y["b"]
    np.testing.assert_allclose(steps.observed["sum"], total, rtol=1e-14)


def test_the_next_step_is_not_the_one_cut_at_the_span() -> None:
    request = Advance(Logistic(), np.array([0.1]), np.float64(1.0), 1e-6, 0.03, 9)
    steps = once("Dopri5", request)
    assert len(steps.t) == 2
    assert steps.h >= 0.03


def test_the_first_step_does_not_depend_on_the_unit_of_time() -> None:
    one, tiny = (
        once("Dopri8", Advance(Logistic(), np.array([0.1]), np.float64(rate), 9 / rate, None, 1))
        for rate in (1.0, 1e-50)
    )
    assert one.t[1] == pytest.approx(1e-50 * tiny.t[1], rel=1e-12)
    assert 0.02 < one.t[1] < 2.0
    assert one.rejected == tiny.rejected == 0


def test_evaluations_count_a_shared_stage_once() -> None:
    steps = once("Dopri8", Advance(Logistic(), np.array([0.1]), np.float64(1.0), 9.0, 0.05, 5))
    assert (len(steps.t), steps.rejected, steps.evaluations) == (6, 0, 14 + 4 * 13)
    assert (
        once(
            "Kvaerno3", Advance(Logistic(), np.array([0.1]), np.float64(1.0), 9.0, 0.05, 1)
        ).evaluations
        == -1
    )


def test_the_loop_stops_at_the_first_step_that_leaves() -> None:
    steps = once("Tsit5", Advance(Fenced(), np.array([0.1]), np.float64(1.0), 99.0, None, 50))
    assert steps.left
    assert steps.y[-1, 0] > 0.5 >= steps.y[-2, 0]


# --- failures ---


@pytest.mark.parametrize(
    ("name", "problem"), [("Dopri8", Blind()), ("Kvaerno5", Walled()), ("auto", Walled())]
)
def test_nothing_that_is_no_number_is_accepted(name: str, problem: Any) -> None:
    steps = once(name, Advance(problem, np.array([0.5]), None, 2.0, None, 400), chunk=400)
    assert steps.failure == "non_finite"
    assert all(np.all(np.isfinite(x)) for x in (steps.t, steps.y, steps.f, steps.s))
    assert steps.t[-1] == pytest.approx(0.5, abs=1e-12)


def test_a_start_that_is_no_number_fails_atonce() -> None:
    steps = once("Tsit5", Advance(Walled(), np.array([2.0]), None, 2.0, None, 64))
    assert (len(steps.t), steps.failure) == (1, "non_finite")


def test_steps_that_do_not_move_the_time_are_an_underflow() -> None:
    request = Advance(Explosion(), np.array([1.0]), None, 2.0, None, 2000)
    steps = once("Tsit5", request, chunk=2000)
    assert steps.failure == "step_underflow"
    assert steps.t[-1] == pytest.approx(1.0, rel=1e-6)
    assert np.all(np.isfinite(steps.y))


def test_stages_that_are_never_solved_are_an_underflow() -> None:
    solver = diffrax.Kvaerno5(root_find_max_steps=1)
    steps = once(solver, Advance(Logistic(), np.array([0.1]), np.float64(1.0), 1.0, None, 9))
    assert (len(steps.t), steps.failure) == (1, "step_underflow")
    stepper = DiffraxStepper(Diffrax(solver), 1e-8)
    with pytest.raises(FloatingPointError):
        stepper.land(Land(Logistic(), np.array([0.1]), np.float64(1.0), 0.5))


# --- stiffness ---


@pytest.mark.parametrize("name", EXPLICIT)
def test_the_stability_interval_is_where_decay_ends(name: str) -> None:
    stepper = DiffraxStepper(Diffrax(name), 1e-8)
    beta = real_stability(getattr(diffrax, name))
    for factor, decays in ((0.999, True), (1.001, False)):
        A = np.array([[-factor * beta]])
        assert (abs(stepper.land(Land(Linear(), np.ones(1), A, 1.0))[0]) < 1.0) == decays


def test_power_iterations_find_the_spectral_radius() -> None:
    A = np.diag([-1.0, -50.0, 3.0]) + 0.1
    with x64():
        start = np.array([[1.0, 0.3, -0.7]])
        rho, _ = spectral_radius(Linear(), np.ones((1, 3)), A[None], start, 12)
    assert float(rho[0]) == pytest.approx(np.abs(np.linalg.eigvalsh(A)).max(), rel=1e-9)


def test_auto_turns_implicit_on_a_stiff_system_and_saves_steps() -> None:
    y, rates = np.array([0.1, 0.3, 0.2]), np.array([1e3, 2e4])
    ends, works = zip(
        *(
            follow(DiffraxStepper(Diffrax(name), 1e-8), Slaved(), y, rates, 5.0)
            for name in ("auto", "Dopri8")
        ),
        strict=True,
    )
    assert works[0].solvers["Kvaerno5"] > 0
    assert works[0].steps < 0.02 * works[1].steps
    assert works[0].rejected < 30
    assert ends[0][0] == pytest.approx(Logistic.exact(0.1, 5.0), rel=1e-7)
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-6)


def test_auto_stays_explicit_on_a_system_that_is_not_stiff() -> None:
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    _, work = follow(DiffraxStepper(Diffrax(), 1e-12), Linear(), np.array([1.0, 0.0]), turn, 99.0)
    assert work.steps > 300
    assert set(work.solvers) == {"Dopri8"}


def test_auto_returns_to_the_explicit_method_where_nothing_is_stiff_any_more() -> None:
    stepper = DiffraxStepper(Diffrax(), 1e-10)
    y = np.array([0.1, 0.3, 0.2])
    _, stiff = follow(stepper, Slaved(), y, np.array([1e3, 2e4]), 3.0)
    _, smooth = follow(stepper, Slaved(), 0.1 * y, np.array([0.5, 1.0]), 10.0)
    assert list(stiff.solvers) == ["Dopri8", "Kvaerno5"]
    assert list(smooth.solvers) == ["Kvaerno5", "Dopri8"]


def test_auto_fails_only_where_the_explicit_method_does() -> None:
    stepper = DiffraxStepper(Diffrax(chunk=400), 1e-8)
    assert stepper._stiffness is not None
    stepper._stiffness.implicit = True
    first = stepper.advance(Advance(Walled(), np.array([0.5]), None, 2.0, None, 400))
    assert (first.solver, first.failure) == ("Kvaerno5", "")
    assert first.t[-1] == pytest.approx(0.5, abs=1e-12)
    stepper._stiffness.implicit = True
    second = stepper.advance(Advance(Walled(), np.array([2.0]), None, 2.0, first.h, 400))
    assert (second.solver, second.failure) == ("Dopri8", "non_finite")


# --- batches ---


def _requests(spans: tuple[float, ...], problem: Any) -> list[Advance]:
    starts = np.linspace(0.1, 0.7, len(spans))
    return [
        Advance(problem, np.array([start]), np.float64(1.0 + start), span, None, 64)
        for start, span in zip(starts, spans, strict=True)
    ]


def test_a_batch_is_the_same_runs_alone() -> None:
    requests = _requests((0.5, 8.0, 1e-3), Logistic())
    stepper = DiffraxStepper(Diffrax("Dopri5"), 1e-8)
    for request, steps in zip(requests, stepper.advance_batch(requests), strict=True):
        alone = stepper.advance(request)
        assert steps.t[-1] == request.span
        assert (len(steps.t), steps.rejected) == (len(alone.t), alone.rejected)
        np.testing.assert_allclose(steps.t, alone.t, rtol=1e-9)
        np.testing.assert_allclose(steps.y, alone.y, rtol=1e-13)
        np.testing.assert_allclose(steps.h, alone.h, rtol=1e-6)


def test_a_batch_of_several_problems_is_refused() -> None:
    requests = [*_requests((1.0,), Logistic()), *_requests((1.0,), Fenced())]
    with pytest.raises(ValueError, match="Argument `requests` must have one problem"):
        DiffraxStepper(Diffrax("Dopri5"), 1e-8).advance_batch(requests)


def test_runs_failing_in_a_batch_do_not_disturb_others() -> None:
    stepper = DiffraxStepper(Diffrax("Dopri5", chunk=400), 1e-8)
    starts = (0.5, 2.0, -8.0)
    answers = stepper.advance_batch(
        [Advance(Walled(), np.array([y]), None, 1.0, None, 400) for y in starts]
    )
    assert [steps.failure for steps in answers] == ["non_finite", "non_finite", ""]
    assert answers[2].t[-1] == 1.0


def test_a_stiff_batch_turns_implicit_and_stays_accurate() -> None:
    stepper = DiffraxStepper(Diffrax(), 1e-8)
    starts = np.array([0.1, 0.2, 0.4])
    states, times, h = [np.array([u, u * u, u * u]) for u in starts], np.zeros(3), [None] * 3
    for _ in range(4):
        requests = [
            Advance(Slaved(), y, np.array([1e3, 1e5]), 9.0, step, 64)
            for y, step in zip(states, h, strict=True)
        ]
        answers = stepper.advance_batch(requests)
        states, h = [steps.y[-1] for steps in answers], [steps.h for steps in answers]
        times += [steps.t[-1] for steps in answers]
    assert {steps.solver for steps in answers} == {"Kvaerno5"}
    assert np.all(times > 0.1)
    np.testing.assert_allclose([y[0] for y in states], Logistic.exact(starts, times), rtol=1e-7)


# --- compilation and precision ---


def test_nothing_is_compiled_twice() -> None:
    stepper = DiffraxStepper(Diffrax("Dopri5"), 1e-8)
    stepper.advance(Advance(Counted(), np.array([0.1]), np.float64(1.0), 1.0, None, 9))
    first = TRACES["Counted"]
    for span, h, most in ((2.0, 0.1, 9), (0.3, None, 1), (1e-3, 1e-5, 64)):
        stepper.advance(Advance(Counted(), np.array([0.2]), np.float64(2.0), span, h, most))
        DiffraxStepper(Diffrax("Dopri5"), 1e-8).advance(
            Advance(Counted(), np.array([0.2]), np.float64(2.0), span, h, most)
        )
    assert TRACES["Counted"] == first
    stepper.advance_batch(_requests((1.0, 2.0, 3.0, 4.0), Counted()))
    batch = TRACES["Counted"]
    for count in (3, 1, 4):
        assert len(stepper.advance_batch(_requests((1.0,) * count, Counted()))) == count
    assert TRACES["Counted"] == batch


def test_large_states_take_few_steps_a_call() -> None:
    y = np.full(300_000, 0.1)
    steps = once("Tsit5", Advance(Logistic(), y, np.float64(1.0), 9.0, None, 64))
    assert len(steps.t) - 1 == 4


def test_double_precision_does_not_leak() -> None:
    once("Dopri5", Advance(Logistic(), np.array([0.1]), np.float64(1.0), 1.0, None, 9))
    assert jnp.result_type(float) == jnp.float32
    assert jnp.zeros(1).dtype == jnp.float32
