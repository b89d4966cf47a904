"""The alignment phase of one run: its end rule before it, and what came of it after."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowsim.alignment.ahead import Ahead
from flowsim.alignment.end import (
    Alignment,
    EndRule,
    angles,
    growth_rate,
    log_scale,
    predicted_time,
)
from flowsim.cells import Cells
from flowsim.events import ALIVE
from flowsim.state import State


def end_rule(ahead: Ahead, settings: dict[str, Any], cells: Cells) -> EndRule:
    """Return the rule of a run's `settings` in scaled time.

    Parameters
    ----------
    ahead : Ahead
        The closed form of the run's initialisation.
    settings : dict
        Of `simulate`: alignment, alignment_threshold, alignment_epsilon.

    Raises
    ------
    ValueError
        If the definition needs λ < 1 and it is not.
    """
    definition, epsilon = settings["alignment"], settings["alignment_epsilon"]
    log_inverse = -log_scale(ahead.initial)
    if definition != "residual" and not log_inverse > 0.0:
        raise ValueError(
            f'Argument `alignment` must be "residual" for a scale of 1 or more, but is '
            f"{definition!r}."
        )
    predicted = float("nan")
    if definition == "theory":  # else nothing has to be walked beforehand
        predicted = predicted_time(ahead.initial, growth_rate(ahead.end), epsilon)
    return EndRule(
        definition,
        settings["alignment_threshold"],
        epsilon * log_inverse,
        float(np.ldexp(predicted, cells.time_exponent)),
    )


def alignment_of(
    ahead: Ahead, settings: dict[str, Any], end_time: float, state: State | None
) -> Alignment:
    """Return the phase's end: `state` at `end_time` beside the closed form's, if it gets there."""
    net, m = ahead.initial, ahead.initial.m
    there = None
    if state is not None and end_time <= ahead.latest_time:
        there = ahead.direction(end_time)
    ends = ahead.end  # goes on from there
    nothing = np.full(m, np.nan)
    alive, angle, frozen_angle = np.zeros(m, dtype=bool), nothing, nothing
    if state is not None and there is not None:
        alive, w = state.fate == ALIVE, state.z[:, 1:]
        frozen_angle = np.where(alive, angles(w, there), np.nan)
        target = np.full((m, net.d), np.nan)
        target[ends.limit >= 0] = ends.limit_direction[ends.limit[ends.limit >= 0]]
        angle = np.where(alive, angles(w, target), np.nan)
    rate, epsilon = growth_rate(ends), settings["alignment_epsilon"]
    return Alignment(
        end_time=end_time,
        definition=settings["alignment"],
        threshold=settings["alignment_threshold"],
        epsilon=epsilon,
        predicted_time=predicted_time(net, rate, epsilon),
        rate=rate,
        alive=alive,
        extremal=ends.limit,
        angle=angle,
        frozen_angle=frozen_angle,
        D=ends.limit_D,
        norm=ends.limit_norm,
        direction=ends.limit_direction,
        code=ends.limit_code,
        _cells=ends._cells,
    )
