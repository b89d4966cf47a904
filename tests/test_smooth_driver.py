"""Runs of smooth models: known times and losses, rest, saddles, events, tiny scales."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import flowsim as fs
from flowsim.engines import hermite
from flowsim.engines.diffrax import Diffrax, DiffraxStepper
from flowsim.engines.problem import drive
from flowsim.engines.scipy import Scipy, ScipyStepper
from flowsim.engines.smooth import run_smooth
from flowsim.engines.smooth_record import Clock, SmoothRecord, SmoothSettings
from flowsim.engines.smooth_steps import Knot
from flowsim.engines.smooth_watch import Rest
from flowsim.models import MLP, DiagonalLinear, Objective, TwoLayer
from flowsim.plateaus import plateau_indices

H = np.array([[1.0, 0.5], [0.5, 1.0]])
BETA = np.array([2.0, 1.0])


def diagonal_data() -> fs.Dataset:
    """Data for which ``L = 1/2 (β - β*)ᵀ H (β - β*)``: XᵀX = n H with n = 2."""
    X = np.linalg.cholesky(2.0 * H).T
    return fs.Dataset(X, X @ BETA)


def diagonal(alpha: float) -> DiagonalLinear:
    return DiagonalLinear(np.full(2, np.sqrt(2.0) * alpha), np.zeros(2))


def go(model: Any, data: Any = None, events: Any = (), stepper: Any = None, **settings: Any):
    objective = Objective.of(model, data, residual=settings.pop("residual", "full"))
    options: dict[str, Any] = {"max_steps": 20_000, **settings}
    chosen = SmoothSettings(**options)
    stepper = stepper or ScipyStepper(Scipy("DOP853"), chosen.rtol)
    record: SmoothRecord = drive(run_smooth(objective, chosen, events), stepper)
    return record


def times(record: SmoothRecord, kind: str) -> list[float]:
    return [row.t for row in record.rows if row.kind == kind]


class BelowLoss:
    """The loss minus a value, as a user's event."""

    direction = -1.0

    def __init__(self, value: float, terminal: bool = False) -> None:
        self.value, self.terminal = value, terminal

    def __call__(self, t: float, model: DiagonalLinear) -> float:
        gap = np.asarray(model.u) * np.asarray(model.v) - BETA
        return float(0.5 * gap @ H @ gap) - self.value


def half_drops(alpha: float, stepper: Any = None) -> tuple[np.ndarray, SmoothRecord]:
    """Return when the loss is halfway from 3.5 to 0.375, and from there to 0, over ln(1/α)."""
    events = [BelowLoss(0.5 * (3.5 + 0.375)), BelowLoss(0.5 * 0.375)]
    stepper = stepper or DiffraxStepper(Diffrax("Dopri8"), 1e-12)
    record = go(diagonal(alpha), diagonal_data(), events, stepper)
    return np.array(times(record, "user")) / np.log(1.0 / alpha), record


def test_a_diagonal_network_goes_from_saddle_to_saddle_at_the_known_times():
    drops, record = half_drops(1e-16)
    assert np.allclose(drops, [0.404, 0.649], rtol=0, atol=5e-4)
    assert record.status == "stationary"
    assert record.verdict.kind == "interpolation"
    assert np.allclose(record.plateau_loss, [0.375], rtol=0, atol=1e-5)
    at = int(np.searchsorted(record.t, times(record, "plateau")[0]))
    u, v = record.parameters[at].reshape(2, 2)
    assert np.allclose(u * v, [2.5, 0.0], rtol=0, atol=1e-3)
    assert np.all(np.diff(record.loss) <= 1e-15)


def test_its_times_tend_to_their_limits_as_the_scale_tends_to_zero():
    gaps = np.array([np.abs(half_drops(a)[0] - [0.4, 2 / 3]) for a in (1e-8, 1e-32, 1e-128)])
    # The distance falls like 1 / ln(1/α): by 4 for a power of 4.
    assert np.allclose(gaps[:-1] / gaps[1:], 4.0, rtol=0.05)


def test_two_engines_agree_on_times_losses_and_end_states():
    drops, one = half_drops(1e-16)
    again, two = half_drops(1e-16, ScipyStepper(Scipy("DOP853"), 1e-12))
    assert np.allclose(drops, again, rtol=1e-10, atol=0)
    assert np.isclose(one.alignment_time, two.alignment_time, rtol=1e-10)
    assert np.allclose(one.parameters[-1], two.parameters[-1], rtol=1e-9, atol=0)


@pytest.mark.parametrize("start", [1e-8, 1e-30])
def test_a_flow_on_the_stable_manifold_of_a_saddle_stops_there(start: float):
    record = go(DiagonalLinear([start, 0.0], [0.0, 0.0]), diagonal_data())
    assert record.status == "stationary"
    assert record.verdict.kind == "saddle"
    assert "-0.75" in record.verdict.reason
    assert abs(record.loss[-1] - 0.375) < 1e-14
    assert record.work.steps < 1000


def test_a_start_that_does_not_move_is_judged_at_once():
    record = go(DiagonalLinear([0.0, 0.0], [0.0, 0.0]), diagonal_data())
    assert (record.status, record.verdict.kind, len(record.t)) == ("stationary", "saddle", 1)


@pytest.mark.parametrize("scale", [1e-8, 1e-30])
def test_a_tiny_start_is_not_at_rest(scale: float):
    data = fs.datasets.three_points()
    net = fs.init.balanced(m=4, d=2, scale=scale, seed=0)
    for activation in ("tanh", "softplus"):  # softplus moves at once: its value at 0 is not 0
        record = go(TwoLayer.of(net, activation), data, t1=40.0 - np.log(scale))
        assert record.status == "t1"
        assert record.loss[-1] < 0.9 * record.loss[0]


def test_a_run_at_a_saddle_on_its_way_says_so_when_it_is_cut_short():
    middle = 0.5 * np.log(1e30)  # between 0.4 and 2/3
    record = go(diagonal(1e-30), diagonal_data(), t1=middle)
    assert record.status == "t1"
    assert record.t[-1] == middle
    assert record.verdict.kind == "saddle"
    moving = go(diagonal(1e-16), diagonal_data(), t1=10.0)
    assert moving.verdict.kind == "not_stationary"


def test_the_scale_costs_nothing_but_the_time_it_takes():
    steps = [len(half_drops(a)[1].t) / np.log(1.0 / a) for a in (1e-30, 1e-200)]
    assert steps[1] < 1.2 * steps[0]


def test_alignment_ends_where_the_outputs_reach_the_threshold():
    objective = Objective.of(diagonal(1e-16), diagonal_data())
    record = go(diagonal(1e-16), diagonal_data())
    X, y = objective.data.X, objective.data.y  # pyright: ignore
    u, v = record.alignment_parameters.reshape(2, 2)  # pyright: ignore
    assert np.isclose(np.linalg.norm(X @ (u * v)) / np.linalg.norm(y), 1e-3, rtol=1e-12)
    assert times(record, "alignment_end") == [record.alignment_time]


def test_alignment_by_growth_ends_when_a_unit_has_grown_by_a_power_of_the_scale():
    scale = 1e-8
    record = go(
        diagonal(scale), diagonal_data(), alignment="growth", alignment_epsilon=0.5, t1=20.0
    )
    u, v = record.alignment_parameters.reshape(2, 2)  # pyright: ignore
    growth = np.max(np.hypot(u, v)) / (np.sqrt(2.0) * scale)
    # The objective's own scale is the root mean square: α.
    assert np.isclose(growth, scale**-0.5, rtol=1e-11)


def test_other_definitions_of_alignment_are_refused():
    with pytest.raises(ValueError, match=r"residual.*growth"):
        go(diagonal(1e-8), diagonal_data(), alignment="theory")


def test_a_terminal_event_ends_the_run_in_its_state():
    record = go(diagonal(1e-16), diagonal_data(), [BelowLoss(1.0, terminal=True)])
    assert record.status == "event"
    assert abs(record.loss[-1] - 1.0) < 1e-13
    assert times(record, "user") == [record.t[-1]]
    row = record.rows[-1]
    assert (row.neuron, row.sample, row.before, row.after) == (0, 0, 1, -1)


def test_a_loss_function_runs_to_its_minimum_without_an_alignment_phase():
    record = go((_wells, {"x": np.array([1e-9, 0.3])}))
    assert record.status == "stationary"
    assert record.verdict.kind == "local_minimum"
    assert np.allclose(record.parameters[-1], [1.0, 0.0], rtol=0, atol=1e-9)
    assert np.isnan(record.alignment_time)


def _wells(parts: Any) -> Any:
    x, y = parts["x"]
    return jnp.square(x**2 - 1.0) / 4 + y**2 / 2 - 3.0


def test_a_bias_that_stays_zero_by_symmetry_does_not_stop_the_steps():
    x = np.array([[0.3], [0.8], [1.5]])
    data = fs.Dataset(np.vstack([x, -x]), np.concatenate([np.tanh(x), -np.tanh(x)])[:, 0])
    model = MLP.init([1, 3, 1], scale=1e-9, seed=0, bias=True, activation="tanh")
    stepper = DiffraxStepper(Diffrax("Dopri8"), 1e-12)
    record = go(model, data, stepper=stepper, t1=300.0)
    assert record.status in ("t1", "stationary")
    assert record.loss[-1] < 1e-3 * record.loss[0]
    assert record.work.steps < 3000


def test_a_frozen_residual_runs_to_its_end_and_has_no_verdict():
    record = go(
        TwoLayer([1e-3], [[1e-3, 1e-3]], "tanh"), fs.datasets.three_points(), t1=3.0,
        residual="frozen",
    )  # fmt: skip
    assert (record.status, record.verdict.kind) == ("t1", "not_stationary")
    assert record.t[-1] == 3.0


def test_stored_states_are_thinned_within_their_bytes():
    full = go(diagonal(1e-8), diagonal_data())
    assert full.dense
    assert len(full.state_t) == len(full.t)
    thin = go(diagonal(1e-8), diagonal_data(), state_bytes=96 * 20)
    assert not thin.dense
    assert len(thin.state_t) <= 22
    assert thin.state_t[-1] == thin.t[-1] == full.t[-1]
    assert np.array_equal(thin.parameters[-1], full.parameters[-1])
    assert np.array_equal(thin.t[thin.step], thin.state_t)


def test_stored_derivatives_are_those_of_the_flow():
    record = go(diagonal(1e-8), diagonal_data(), t1=20.0)
    i = len(record.t) // 2
    before, after = (
        (record.parameters[j], record.velocity[j], record.acceleration[j]) for j in (i, i + 1)
    )
    h = record.t[i + 1] - record.t[i]
    middle = hermite.evaluate(hermite.coefficients(before, after, h), 0.5)
    event = go(diagonal(1e-8), diagonal_data(), t1=record.t[i] + 0.5 * h)
    assert np.allclose(middle, event.parameters[-1], rtol=1e-6, atol=0)


def test_a_start_that_overflows_is_refused():
    with pytest.raises(ValueError, match="finite"):
        go(DiagonalLinear([1e200, 1.0], [1e200, 1.0]), diagonal_data())


def test_budgets_end_a_run_with_their_names():
    assert go(diagonal(1e-8), diagonal_data(), max_steps=100).status == "max_steps"
    assert len(go(diagonal(1e-8), diagonal_data(), max_steps=100).t) == 101
    assert go(diagonal(1e-8), diagonal_data(), max_seconds=1e-9).status == "max_seconds"


def test_progress_is_reported_at_the_end():
    seen: list[Any] = []
    objective = Objective.of(diagonal(1e-8), diagonal_data())
    driver = run_smooth(objective, SmoothSettings(), (), seen.append)
    record = drive(driver, ScipyStepper(Scipy("DOP853"), 1e-12))
    assert seen[-1].t == record.t[-1]
    assert seen[-1].phase == "descent"


def test_plateaus_need_depth_on_both_sides_and_values_above_noise():
    assert plateau_indices([1, 1e-1, 1e-3, 1e-2, 1]) == [2]
    assert plateau_indices([1, 1e-1, 0.02, 1, 10]) == []
    assert plateau_indices([1, 1e-3, 1e-4]) == []
    assert plateau_indices([1, 0, 1]) == []
    assert plateau_indices([1, 1e-3, 1, 1e-4, 1]) == [1, 3]


def test_the_clock_keeps_what_single_sums_lose():
    clock = Clock()
    clock.add(1e10)
    for _ in range(1000):
        clock.add(1e-8)
    assert clock.after(0.0) == 1e10 + 1e-5


def test_rest_is_measured_by_the_largest_rate_and_by_the_largest_curvature():
    def knot(t: float, rate: float) -> Knot:
        nothing = np.zeros(0)
        frame: Any = None
        return Knot(t, nothing, nothing, nothing, {"rate": rate}, frame)

    rest = Rest(1e-3)
    assert not rest.suspects(knot(0.0, 1e-30))  # tiny, but the largest so far
    assert not rest.suspects(knot(1.0, 1e30))
    assert rest.suspects(knot(2.0, 1e20))
    assert not rest.against(knot(2.0, 1e20), 1.0)  # the Hessian is of order one
    assert not rest.suspects(knot(3.0, 1e-2))
    assert rest.suspects(knot(4.0, 1e-4))
    assert rest.against(knot(4.0, 1e-4), 1.0)
    rest.dismiss(knot(4.0, 1e-4), 0.5)  # a saddle that rounding leaves in 100 / 0.5
    assert not rest.suspects(knot(203.0, 1e-4))
    assert rest.suspects(knot(205.0, 1e-4))
