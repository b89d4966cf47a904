"""Runs of discrete descent, of two-layer ReLU networks and of any other model."""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from flowsim._arguments import system
from flowsim.alignment.ahead import Ahead
from flowsim.alignment.end import EndRule
from flowsim.alignment.phase import end_rule
from flowsim.assemble_descent import solution_of_descent
from flowsim.cells import Cells
from flowsim.data import Dataset
from flowsim.engines.descent.config import Descent
from flowsim.engines.descent.driver import DescentRecord, Plan, descend
from flowsim.engines.descent.machine import Machine
from flowsim.engines.descent.measure import LOST, Seen, seen_of_model, seen_of_network, snapshot_of
from flowsim.engines.descent.problem import Start, network_at, start_of
from flowsim.engines.descent.trajectory import packed_of
from flowsim.engines.problem import Driver
from flowsim.engines.record import Progress
from flowsim.network import TwoLayerReLU
from flowsim.runs.run import Run
from flowsim.runs.saving import Saving
from flowsim.solution import DescentStates, Solution
from flowsim.stationarity.classify import at_rest


def prepare_descent(
    net: Any,
    data: Dataset | None,
    settings: dict[str, Any],
    engine: Descent,
    report: Callable[[Progress], None] | None,
    saving: Saving | None = None,
    earlier: Solution | None = None,
) -> Run:
    """Return the descent of `net` on `data`; it may go on from where `earlier` has ended."""
    relu = isinstance(net, TwoLayerReLU)
    if relu:
        system(net, data)
    settings = {**engine.settings(), **settings, "states": settings["states"] or "log"}
    start = start_of(net, data, settings)
    _check_finite(net, data, start)
    _check_batches(engine, start)
    machine = Machine(start, engine)
    if earlier is not None:
        _check_goes_on(machine, earlier)
    ahead = None
    if relu:
        assert data is not None
        ahead = Ahead(net, data, settings["loss"])
    plan = _plan(net, data, settings, engine, start)
    rule = _rule(net, data, settings, ahead)
    record = DescentRecord() if earlier is None else _record(earlier)

    def finish(record: DescentRecord) -> Solution:
        return solution_of_descent(net, data, settings, engine, machine, record, ahead)

    save = None if saving is None else _Saver(saving, finish)

    def go() -> Driver:
        try:
            found = descend(machine, plan, rule, record, report, save)
        except KeyboardInterrupt:
            if save is not None:
                save.now(record)
            raise
        return found
        yield

    def finish_and_save(record: DescentRecord) -> Solution:
        solution = finish(record)
        if saving is not None:
            solution.save(saving.path)
        return solution

    return Run(go, None, finish_and_save)


def _check_finite(net: Any, data: Dataset | None, start: Start) -> None:
    if isinstance(net, TwoLayerReLU):
        assert data is not None
        with np.errstate(over="ignore", invalid="ignore"):
            loss = net.loss(data)
    else:
        loss = seen_of_model(start, start.params).loss
    if not np.isfinite(loss):
        raise ValueError(
            f"Argument `net` must have a finite loss at the start of a descent, but it is {loss}."
        )


def _check_batches(engine: Descent, start: Start) -> None:
    n = 0 if start.args.X is None else len(start.args.X)
    if engine.batch_size is not None and engine.batch_size > n:
        raise ValueError(
            f"Argument `batch_size` must be at most the number of samples, {n}, but is "
            f"{engine.batch_size}."
        )


def _check_goes_on(machine: Machine, earlier: Solution) -> None:
    """Check what settings do not tell of an optax optimizer: its memory, and its time."""
    states = earlier.states
    assert isinstance(states, DescentStates)
    first = machine.packed(machine.first)
    if first.memory.shape != states.memory[-1].shape:
        raise ValueError(
            "Argument `engine` must be that of the run, whose optimizer remembers "
            f"{states.memory.shape[1]} numbers, but is one that remembers {first.memory.size}."
        )
    t = machine.time_after(int(states.iteration[-1]))
    if t is not None and abs(t - states.t[-1]) > 1e-12 * t:
        raise ValueError(
            "Argument `engine` must be that of the run, whose time after "
            f"{states.iteration[-1]} steps is {states.t[-1]:g}, but is one whose time is {t:g}."
        )


def _plan(net: Any, data: Any, settings: dict[str, Any], engine: Descent, start: Start) -> Plan:
    budget = settings["max_steps"]
    steps = budget if engine.steps is None else min(engine.steps, budget)
    asked = engine.steps is not None and engine.steps <= budget
    see, rests = (
        _of_network(net, data, settings, start)
        if isinstance(net, TwoLayerReLU)
        else _of_model(settings, start)
    )
    units = net.m if start.objective is None else start.objective.n_units
    return Plan(
        steps, asked, settings["t1"], settings["max_seconds"], see, rests,
        settings["states"], settings["state_bytes"], units,
    )  # fmt: skip


def _of_network(
    net: TwoLayerReLU, data: Dataset, settings: dict[str, Any], start: Start
) -> tuple[Callable[[Any], Seen], Callable[[Any, Seen, bool], bool]]:
    cells = Cells.of(data, net.negative_slope, settings["loss"], net(data.X), settings["rtol"])
    tolerance, frozen = settings["stationary_rtol"], settings["residual"] == "frozen"
    scale = float(np.max(np.abs(data.y) * np.linalg.norm(data.X, axis=1), initial=0.0))
    factor = 2.0 if settings["loss"] == "mean" else 1.0

    def see(params: Any) -> Seen:
        if not all(np.all(np.isfinite(x)) for x in params):
            return LOST
        with np.errstate(over="ignore", invalid="ignore"):  # what it gives is looked at
            return seen_of_network(network_at(start, params, net), data, settings)

    def rests(params: Any, seen: Seen, close: bool) -> bool:
        if frozen or tolerance == 0.0 or not (close or seen.rate <= tolerance * scale * factor):
            return False
        return at_rest(snapshot_of(network_at(start, params, net), data, cells), tolerance)

    return see, rests


def _of_model(
    settings: dict[str, Any], start: Start
) -> tuple[Callable[[Any], Seen], Callable[[Any, Seen, bool], bool]]:
    largest = [0.0]

    def rests(params: Any, seen: Seen, close: bool) -> bool:
        if not np.isfinite(seen.rate):  # it overflows before the loss does
            return False
        largest[0] = max(largest[0], seen.rate)
        tolerance = settings["stationary_rtol"]
        return tolerance > 0.0 and seen.rate <= tolerance * largest[0]

    return lambda params: seen_of_model(start, params), rests


def _rule(net: Any, data: Any, settings: dict[str, Any], ahead: Ahead | None) -> EndRule | None:
    """Return what ends the alignment phase, in the user's time; None if nothing ever does."""
    if data is None or not np.any(data.y):
        return None
    if settings["residual"] == "frozen" and settings["alignment"] == "residual":
        return None
    if ahead is not None:
        cells = Cells.of(data, net.negative_slope, settings["loss"], net(data.X))
        rule = end_rule(ahead, settings, cells)
        return replace(rule, time=float(np.ldexp(rule.time, -cells.time_exponent)))
    if settings["alignment"] != "residual":
        raise ValueError(
            'Argument `alignment` must be "residual" for the descent of a model that is no '
            f"TwoLayerReLU, but is {settings['alignment']!r}."
        )
    return EndRule("residual", settings["alignment_threshold"], 0.0, 0.0)


def _record(earlier: Solution) -> DescentRecord:
    """Return the record of a run up to its last state."""
    states, history = earlier.states, earlier.history
    assert isinstance(states, DescentStates)
    count, end = int(states.step[-1]) + 1, float(states.t[-1])
    aligned = float(earlier.alignment.end_time)
    record = DescentRecord(
        iteration=states.history_iteration[:count].tolist(),
        time=history.t[:count].tolist(),
        seen=[
            Seen(float(loss), float(speed), float(rate), int(alive))
            for loss, speed, rate, alive in zip(
                history.loss[:count],
                history.speed[:count],
                history.rate[:count],
                history.alive[:count],
                strict=True,
            )
        ],
        states=[(int(row), packed_of(states, i)) for i, row in enumerate(states.step)],
        alignment_time=aligned if aligned <= end else float("nan"),
        alignment=earlier.alignment if aligned <= end else None,
    )
    late = np.isin(earlier.events.kind, ["plateau", "stationary"])
    kept = earlier.events.select(~late & (earlier.events.t <= end))
    record.rows.extend(kept)
    return record


class _Saver:
    """Save the run every so many seconds."""

    def __init__(self, saving: Saving, finish: Callable[[DescentRecord], Solution]) -> None:
        self.saving, self.finish = saving, finish
        self._saved = float("-inf")

    def __call__(self, record: DescentRecord) -> None:
        if clock.monotonic() - self._saved < self.saving.seconds:
            return
        self.now(record)

    def now(self, record: DescentRecord) -> None:
        """Save the run as far as it has been recorded."""
        if record.states:
            self.finish(record).save(self.saving.path)
        self._saved = clock.monotonic()
