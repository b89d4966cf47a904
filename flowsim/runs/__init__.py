"""Runs: a network, data, an engine and options put together, and taken to their Solution.

`cells` has those of two-layer ReLU networks, `models` those of all other models.
"""

from __future__ import annotations

from flowsim.runs.prepare import prepare as prepare
from flowsim.runs.run import Run as Run
from flowsim.runs.run import run_alone as run_alone
from flowsim.runs.run import run_together as run_together
