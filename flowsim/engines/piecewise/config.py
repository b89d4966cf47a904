"""The piecewise engine as an option of a run."""

from __future__ import annotations

from dataclasses import dataclass

from flowsim._arguments import flag, real

#: Neurons that are multiples of each other are within this angle, as rounding leaves them.
PARALLEL = 2.0**-51
#: Beyond this angle neurons are not parallel.
LARGEST_ANGLE = 0.01


@dataclass(frozen=True)
class Piecewise:
    """Integrate with the event-driven Taylor engine, for two-layer (leaky) ReLU networks.

    The default for these: every event is a root of a Taylor polynomial, see docs/engine.md.

    Parameters
    ----------
    every_event : bool
        Restart the whole system at every event, instead of only where crossings would turn other
        neurons by more than the tolerance: far slower with many neurons, and within the
        tolerance the same. No step is in closed form then, so that steps grow like ln(1/λ).
    coalesce : float
        Neurons of one cell go on as one, in their mean direction, when the directions of their
        ``(a_j, w_j)`` are within this angle (radians, at most 0.01) of each other. Outputs change
        by its square; what is said of a single neuron, its direction and its events, may be off by
        as much as the flow turns two neurons apart that were so close, 100 times it where they
        come near a hyperplane slowly. They never part again: where the flow would later part them,
        at a saddle, the run goes elsewhere, and outputs may be off by any amount. By default two
        units in the last place: neurons that are positive multiples of each other, which they stay
        for ever. 0 keeps all apart.
    """

    every_event: bool = False
    coalesce: float = PARALLEL

    def __post_init__(self) -> None:
        flag("every_event", self.every_event)
        angle = real("coalesce", self.coalesce)
        if not 0.0 <= angle <= LARGEST_ANGLE:
            raise ValueError(
                f"Argument `coalesce` must be in [0, {LARGEST_ANGLE}], but is {angle}."
            )
