"""The piecewise engine as an option of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Piecewise:
    """Integrate with the event-driven Taylor engine, for two-layer (leaky) ReLU networks.

    The default for these: every event is a root of a Taylor polynomial, see docs/engine.md.
    """
