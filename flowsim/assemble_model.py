"""From the record of a model's run to its Solution."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from flowsim._jax import x64
from flowsim.alignment.end import Alignment
from flowsim.assemble import message
from flowsim.engines._vectors import Layout
from flowsim.engines.hermite import coefficients
from flowsim.engines.smooth_record import SmoothRecord
from flowsim.events import Events
from flowsim.model_trajectory import compiled_loss
from flowsim.models.objective import Objective
from flowsim.provenance import provenance
from flowsim.solution import Final, History, ModelStates, Solution

#: Points of the Gauss rule that integrates the squared speed of a quintic exactly.
_GAUSS = 5


def solution_of_model(
    model: Any, objective: Objective, settings: dict[str, Any], record: SmoothRecord
) -> Solution:
    """Return the Solution of a run that has ended.

    Parameters
    ----------
    model : Any
        As `simulate` has been given it.
    objective : Objective
        What has been made of it.
    settings : dict
        The options of `simulate`.
    record : SmoothRecord
    """
    states = ModelStates(
        step=record.step,
        t=record.state_t,
        parameters=record.parameters,
        velocity=record.velocity,
        acceleration=record.acceleration,
    )
    final = _final(objective, record)
    frozen = settings["residual"] == "frozen"
    return Solution(
        data=objective.data,
        initial=model,
        settings={**settings, **record.work.summary()},
        status=record.status,
        message=message(record.status, settings, final),
        events=Events.from_rows(record.rows),
        history=History(
            t=record.t,
            loss=_losses(objective, record),
            speed=record.speed,
            rate=record.rate,
            alive=np.full(len(record.t), -1, dtype=np.int64),
        ),
        states=states,
        alignment=_alignment(objective, settings, record),
        final=final,
        audit={} if frozen else _audit(objective, record),
        provenance=provenance(),
    )


def _losses(objective: Objective, record: SmoothRecord) -> np.ndarray:
    """Return the losses at the steps: where the residual is frozen, of that residual."""
    if not getattr(objective.functional, "frozen", False):
        return record.loss
    y, weight = np.asarray(objective.args.y), float(objective.args.weight)
    return np.full(len(record.loss), 0.5 * weight * float(np.sum(y**2)))


def _final(objective: Objective, record: SmoothRecord) -> Final:
    verdict, spectrum = record.verdict, record.spectrum
    nan = float("nan")
    theta = Layout.of(objective.parameters).unflatten(record.parameters[-1])
    return Final(
        t=float(record.t[-1]),
        network=objective.model(theta),
        loss=float(_losses(objective, record)[-1]),
        gradient_norm=float(np.sqrt(record.speed[-1])),
        kind=verdict.kind,
        limit_loss=float(verdict.limit_loss),
        floor_loss=float(verdict.floor_loss),
        reason=verdict.reason,
        fate=np.zeros(0, dtype=np.int8),
        code=np.zeros((0, 0), dtype=np.int8),
        lowest_curvature=nan if spectrum is None else float(spectrum.lowest),
        highest_curvature=nan if spectrum is None else float(spectrum.highest),
    )


def _alignment(objective: Objective, settings: dict[str, Any], record: SmoothRecord) -> Alignment:
    d = 0 if objective.data is None else objective.data.d
    return replace(no_alignment(settings, d), end_time=float(record.alignment_time))


def no_alignment(settings: dict[str, Any], d: int) -> Alignment:
    """Return a phase that has not ended: general models have no extremal vectors of neurons."""
    nan = float("nan")
    return Alignment(
        end_time=nan,
        definition=settings["alignment"],
        threshold=settings["alignment_threshold"],
        epsilon=settings["alignment_epsilon"],
        predicted_time=nan,
        rate=nan,
        alive=np.zeros(0, dtype=bool),
        extremal=np.zeros(0, dtype=np.int64),
        angle=np.zeros(0),
        frozen_angle=np.zeros(0),
        D=np.zeros((0, d)),
        norm=np.zeros(0),
        direction=np.zeros((0, d)),
        code=np.zeros((0, 0), dtype=np.int8),
        _cells=None,
    )


def _audit(objective: Objective, record: SmoothRecord) -> dict[str, float]:
    """Measure what every exact run of the full flow satisfies, relatively."""
    top = max(float(np.max(np.abs(record.loss))), 1e-300)
    rises = np.diff(record.loss)
    audit = {"loss_increase": float(rises.max(initial=0.0)) / top}
    if record.dense:
        audit["dissipation"] = _imbalance(record) / top
    theta = Layout.of(objective.parameters).unflatten(record.parameters[-1])
    with x64():
        again = float(compiled_loss(objective.functional, theta, objective.args))
    audit["loss_recomputed"] = abs(again - float(record.loss[-1])) / top
    return {name: float(value) for name, value in audit.items()}


def _imbalance(record: SmoothRecord) -> float:
    """Return the largest mismatch over a step of the loss's fall and ``∫ ||theta'||^2 dt``.

    The integral is the interpolant's, so this audits steps and dense output together.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_GAUSS)
    nodes, weights = 0.5 * (nodes + 1.0), 0.5 * weights
    # d/dx of sum_i c_i x^i at the nodes
    powers = np.array([i * nodes ** max(i - 1, 0) for i in range(6)])
    worst = 0.0
    for k in range(len(record.state_t) - 1):
        h = float(record.state_t[k + 1] - record.state_t[k])
        before, after = (
            (record.parameters[i], record.velocity[i], record.acceleration[i]) for i in (k, k + 1)
        )
        slope = np.tensordot(powers, coefficients(before, after, h), axes=(0, 0))
        fallen = float(weights @ np.sum(slope**2, axis=1)) / h
        worst = max(worst, abs(record.loss[k + 1] - record.loss[k] + fallen))
    return worst
