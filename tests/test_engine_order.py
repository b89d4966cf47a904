"""Methods keep their order across an event: on its time, and on the state beyond it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from support import pattern_rows

import flowsim as fs
from flowsim._jax import x64
from flowsim.alignment.end import EndRule
from flowsim.cells import Cells
from flowsim.engines.cell_flow import CellFlow
from flowsim.engines.diffrax import Diffrax, DiffraxStepper
from flowsim.engines.frozen import FrozenProblem
from flowsim.engines.problem import Advance, Knot, Land, Steps, drive
from flowsim.engines.record import Limits
from flowsim.engines.relu import run_cells
from flowsim.engines.state_store import StateStore
from flowsim.state import State

ORDERS = {
    "Tsit5": 5, "Dopri8": 8, "Kvaerno3": 3, "Kvaerno4": 4, "Kvaerno5": 5, "KenCarp3": 3,
    "KenCarp4": 4, "KenCarp5": 5,
}  # fmt: skip
#: Steps before and after the event.
COUNTS = dict.fromkeys(ORDERS, (32, 45, 63)) | {"Dopri8": (8, 12, 16), "Tsit5": (16, 24, 32)}
#: Seeds of systems whose errors are asymptotic with so many steps.
SEED = dict.fromkeys(ORDERS, 6) | {"Tsit5": 56, "Kvaerno4": 56}
AFTER = 1.2


class FixedSteps:
    """A stepper of fixed steps, one length in the first cells and another in all later ones."""

    def __init__(self, solver: str, first: float, later: float) -> None:
        self.stepper = DiffraxStepper(Diffrax(solver), 1e-14)
        self.first, self.later = first, later
        self.coef = np.zeros(0)

    def advance(self, request: Advance) -> Steps:
        """Take steps until the span, or one that leaves."""
        problem, args = FrozenProblem(False), request.args
        self.coef = self.coef if self.coef.size else args.coef
        fixed = self.first if np.array_equal(args.coef, self.coef) else self.later
        knots, times, left = [Knot(request.y, *problem.jet(request.y, args))], [0.0], False
        while times[-1] < request.span and not left and len(times) <= request.max_steps:
            rest = request.span - times[-1]
            h = rest if rest < 1.001 * fixed else fixed
            y = self.land(Land(request.problem, knots[-1].y, args, h))
            knots.append(Knot(y, *problem.jet(y, args)))
            left = bool(problem.leaves(knots[-2], knots[-1], h, args))
            times.append(request.span if h == rest else times[-1] + h)
        observed = [problem.observe(knot.y, knot.f, args) for knot in knots]
        y, f, s = (np.stack([getattr(knot, name) for knot in knots]) for name in "yfs")
        seen = {name: np.array([float(x[name]) for x in observed]) for name in observed[0]}
        return Steps(np.array(times), y, f, s, seen, left, fixed)

    def land(self, request: Land) -> Any:
        """Take one step."""
        return self.stepper.land(request)


def _system(seed: int) -> tuple[fs.TwoLayerReLU, fs.Dataset]:
    rng = np.random.default_rng(seed)
    X, y = np.round(rng.standard_normal((4, 2)), 2), np.round(2 * rng.standard_normal(4), 2)
    return fs.init.balanced(3, 2, 0.2, seed=seed), fs.Dataset(X, y)


@cache
def _exact(seed: int) -> tuple[float, float, np.ndarray]:
    """Return the time of the event, the end, and the state there, by the piecewise engine."""
    net, data = _system(seed)
    t, *_, before, after = pattern_rows(fs.simulate(net, data, t1=8.0, rtol=1e-15))[0]
    assert before == -after
    end = fs.simulate(net, data, t1=t + AFTER, rtol=1e-15).final.network
    return t, t + AFTER, np.column_stack([end.a, end.W])


def _errors(solver: str, count: int) -> tuple[float, float]:
    """Return the errors of the event's time and of the end state with steps of fixed lengths."""
    (net, data), (event, end, exact) = _system(SEED[solver]), _exact(SEED[solver])
    cells = Cells.of(data, 0.0, "half_mean", net(data.X), 1e-15)
    flow = CellFlow(cells, State.of(net, cells))
    unit = 2.0**cells.time_exponent
    # The event is in the middle of a step, whatever their number.
    stepper = FixedSteps(solver, unit * event / (count - 0.5), unit * AFTER / count)
    limits = Limits(unit * end, 0.0, 10_000, float("inf"))
    rule, store = EndRule("theory", 0.0, 0.0, float("inf")), StateStore(2**20)
    record = drive(run_cells(flow, FrozenProblem(True), limits, rule, store), stepper)
    assert record.status == "t1"
    [t] = record.rows.table().where("pattern").t
    found = flow.state.network(net, cells)
    error = np.max(np.abs(np.column_stack([found.a, found.W]) - exact))
    return abs(t / unit - event), float(error)


@pytest.mark.parametrize("solver", ORDERS)
def test_a_method_keeps_its_order_across_a_crossing(solver: str) -> None:
    counts = COUNTS[solver]
    with x64():
        errors = np.array([_errors(solver, count) for count in counts])
    assert np.all(errors[-1] > 5e-13)
    for column in errors.T:
        slope = -np.polyfit(np.log(np.array(counts) - 0.5), np.log(column), 1)[0]
        assert slope == pytest.approx(ORDERS[solver], abs=0.2), (counts, column)
