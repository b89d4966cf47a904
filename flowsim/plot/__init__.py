"""Pictures of runs and alignment flows: functions that take `ax` and return matplotlib Axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowsim.network import TwoLayerReLU
from flowsim.plot.alignment import alignment, alignment_figure
from flowsim.plot.animate import animate
from flowsim.plot.approach import approach
from flowsim.plot.comparison import comparison
from flowsim.plot.directions import directions
from flowsim.plot.function import drawable, function
from flowsim.plot.timeline import timeline
from flowsim.solution import States

if TYPE_CHECKING:
    from flowsim.solution import Solution

__all__ = [
    "alignment",
    "alignment_figure",
    "animate",
    "approach",
    "comparison",
    "directions",
    "function",
    "possible",
    "timeline",
]


def possible(solution: Solution) -> tuple[str, ...]:
    """Return the names of the pictures that can be drawn of a solution."""
    names = ["timeline"]
    if not isinstance(solution.initial, TwoLayerReLU):
        return tuple(names)
    if isinstance(solution.states, States) and solution.data.d <= 2:
        names.append("directions")
    if drawable(solution):
        names.append("function")
    return tuple(names)
