"""Every neuron's first event in a step, in arrays that are used again by the next."""

from __future__ import annotations

import numpy as np

from flowsim.engines.piecewise.detection import NOTHING


class FirstEvents:
    """What m neurons meet first; the arrays are valid until the next step looks.

    Attributes
    ----------
    x : (m,)
        Where, in units; infinite for neurons that meet nothing.
    what, where, side : (m,) int64
        See `detection`; of the others they mean nothing.
    kinks : (m,)
        See `detection.kink`; 0 where there is none.
    """

    def __init__(self, m: int) -> None:
        self.x, self.kinks = np.full(m, np.inf), np.zeros(m)
        self.what, self.where = np.full(m, NOTHING), np.full(m, -1)
        self.side = np.zeros(m, np.int64)

    def forget(self) -> None:
        """Let no neuron meet anything: few did, so the arrays are not filled anew."""
        found = np.flatnonzero(self.x < np.inf)
        self.x[found], self.what[found], self.kinks[found] = np.inf, NOTHING, 0.0

    def until(self, x: float) -> np.ndarray:
        """Return the neurons that meet something by `x`, by time."""
        coming = np.flatnonzero(self.x <= x) if x < np.inf else np.flatnonzero(self.x < np.inf)
        return coming[np.argsort(self.x[coming], kind="stable")]
