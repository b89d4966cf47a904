"""Pictures of a solution: functions that take `ax` and return matplotlib Axes."""

from __future__ import annotations

from flowsim.plot.directions import directions
from flowsim.plot.function import function, univariate
from flowsim.plot.timeline import timeline

__all__ = ["directions", "function", "timeline", "univariate"]
