"""When a run is looked at for a proof of where it goes.

A try costs about as much as a few steps, so tries are spaced geometrically in the time since early
alignment has ended. Times of steps decide, never a clock or earlier tries, so that a run that is
gone on with ends where the whole run does.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import frexp

import numpy as np

from flowsim._distinct import distinct_rows
from flowsim.cells import Cells
from flowsim.certificates.certificate import Certificate
from flowsim.certificates.certify import LARGEST, Certifier
from flowsim.engines.record import Flow
from flowsim.events import ALIVE
from flowsim.state import State

#: Tries in every doubling of the time.
TRIES = 1
#: The first try is not before so many times the reciprocal of the largest initial rate.
SOONEST = 8.0
#: Multiplications that a try on the way may cost, and one at the end of a run.
WORK, WORK_AT_END = 1e8, 2e9


@dataclass(frozen=True, eq=False)
class EndWatch:
    """Tries to certify a run on its way."""

    certifier: Certifier

    def proves(
        self, flow: Flow, r: np.ndarray, before: float, aligned: float
    ) -> Certificate | None:
        """Return the certificate of the flow's state, if it is looked at and proved.

        Parameters
        ----------
        flow : Flow
        r : (n,)
            Its residual.
        before, aligned : float
            When the last step began, and when early alignment has ended; nan if not on the way.
        """
        start = 0.0 if np.isnan(aligned) else aligned
        unit = SOONEST / self.certifier.cells.rate_scale
        if flow.time - start < unit or _place(before - start) == _place(flow.time - start):
            return None
        moving = bool(np.any(flow.state.fate == ALIVE))  # else the run is at rest
        if not moving or not work_of(flow.state, self.certifier.cells) <= WORK:
            return None
        t = float(np.ldexp(flow.time, -self.certifier.cells.time_exponent))
        found = self.certifier.certify(flow.whole(), r, t)
        return found if found.proved else None


def work_of(state: State, cells: Cells) -> float:
    """Return about how many multiplications it takes to look at a state: infinite for too many.

    Those of the singular values of the features of all cells that are occupied.
    """
    if len(state.z) > LARGEST:
        return float("inf")
    occupied = len(distinct_rows(state.code[state.fate == ALIVE])[0])
    return cells.n * float(min(occupied * cells.d, 4 * cells.n)) ** 2


def _place(time: float) -> tuple[int, int]:
    """Return in which part of which doubling a time is."""
    mantissa, exponent = frexp(time)
    return exponent, int(TRIES * (2.0 * mantissa - 1.0))
