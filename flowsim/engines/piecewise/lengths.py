"""How long a step may be, by what crossings inside it do to the neurons."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from flowsim.engines.piecewise.integrator import Integrator
    from flowsim.engines.piecewise.step import Step

#: Part of the tolerance that the predicted effect of crossings may use up.
SAFETY = 0.5
#: Part of it that crossings may have used up before a slide ends.
EXIT = 0.01
#: The predicted effect may change by this factor from step to step.
CHANGE = 4.0


def until_turned(
    flow: Integrator, t: np.ndarray, kink: np.ndarray, exits: np.ndarray, h: float
) -> float:
    """Return how far to go: until the crossings' effect is as large as it may be.

    t ascends; where `exits`, a slide ends.
    """
    if flow.every_event:
        return float(t[0])
    tau = where_turned(t, kink, flow.allowance, h)
    ends = t[exits & (t <= tau)]
    if len(ends) == 0:
        return tau
    # The error grows with the time.
    safe = bisect_right(ends, 1.0, key=lambda at: _exit_error(flow, t, kink, float(at)))
    # What has left a slide bends the residual, too: no kink tells of that, which is smooth.
    safe = min(safe, bisect_right(ends, float(ends[0]) + flow.rtol**0.5 * h))
    return float(t[t < ends[safe]][-1]) if safe < len(ends) else tau


def _exit_error(flow: Integrator, t: np.ndarray, kink: np.ndarray, at: float) -> float:
    """Return how far off, over what is allowed, neurons are `at` a slide's end.

    Fields, which tell when it is, may not be wrong by as much as can be corrected.
    """
    return turning(t, kink, at) / (EXIT * flow.rtol)


def is_off(flow: Integrator, step: Step, tau: float) -> bool:
    """Whether crossings before `tau` have made the step's residual wrong there."""
    known = step.kinks > 0.0
    ends = step.x[known] * step.e.unit
    return not flow.every_event and _exit_error(flow, ends, step.kinks[known], tau) > 1.0


def may_be_longer(flow: Integrator, step: Step, t: np.ndarray, kink: np.ndarray) -> float:
    """Return by which factor crossings might act for longer; less than 1 for too long."""
    assert step.walked is not None
    party, found = step.walked.party, step.walked.feedback
    if party is None or not party.summed:
        return 1.0
    exits = party.exits()
    exit_error = _exit_error(flow, t, kink, float(exits.max())) if len(exits) else 0.0
    large = np.inf
    # What neurons are turned by grows with the square of the time, its error faster.
    factor = min(
        np.sqrt(flow.largest_turn / found.turned) if found.turned > 0.0 else large,
        (flow.rtol / found.error) ** 0.25 if found.error > 0.0 else large,
        1.0 / np.sqrt(exit_error) if exit_error > 0.0 else large,
    )
    return float(factor)


def next_allowance(flow: Integrator, step: Step) -> float:
    """Return which effect the next step's crossings may have, for about the error allowed."""
    assert step.walked is not None
    party, found = step.walked.party, step.walked.feedback
    if party is None or not party.summed:
        return flow.allowance
    if not step.shortened and step.effect < flow.allowance / CHANGE:
        return flow.allowance
    used = max(found.error / flow.rtol, found.turned / flow.largest_turn)
    # Errors grow with the fourth power of the time, effects with the second.
    factor = np.sqrt(SAFETY / used) if used > 0.0 else CHANGE
    wanted = step.effect * min(max(factor, 1.0 / CHANGE), CHANGE)
    return max(float(wanted), SAFETY * flow.rtol)


def turning(t: np.ndarray, kink: np.ndarray, at: float) -> float:
    """Return ``1/2 sum_{t_j < at} kink_j (at - t_j)^2``, whatever else is in t."""
    before = t < at
    return 0.5 * float(np.sum(kink[before] * (at - t[before]) ** 2))


def where_turned(t: np.ndarray, kink: np.ndarray, effect: float, h: float) -> float:
    """Return when `turning` reaches `effect`, at most `h`; t ascends, and is not empty.

    Summed from one time to the next, so that near coincidences cost no digits.
    """
    gap, slope = np.empty(len(t) + 1), np.empty(len(t) + 1)
    gap[0], gap[-1], slope[0] = t[0], h - t[-1], 0.0
    np.subtract(t[1:], t[:-1], out=gap[1:-1])
    np.cumsum(kink, out=slope[1:])  # the rate at which fields go wrong
    gained = slope * gap
    speed = np.cumsum(gained) - gained
    turned = np.cumsum(gap * (speed + 0.5 * gained))
    beyond = turned > effect
    i = int(np.argmax(beyond))
    if not beyond[i]:
        return h
    before = float(turned[i - 1]) if i > 0 else 0.0
    start = float(t[i - 1]) if i > 0 else 0.0
    left = effect - before
    # The stable root of slope/2 s^2 + speed s = left.
    s = 2.0 * left / (speed[i] + np.sqrt(speed[i] ** 2 + 2.0 * slope[i] * left))
    return min(start + float(s), h)
