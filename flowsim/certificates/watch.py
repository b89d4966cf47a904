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
from flowsim.certificates.certificate import Certificate
from flowsim.certificates.certify import LARGEST, Certifier
from flowsim.engines.record import Flow
from flowsim.events import ALIVE
from flowsim.state import State

#: Tries in every doubling of the time.
TRIES = 1
#: The first try is not before so many times the reciprocal of the largest initial rate.
SOONEST = 8.0
#: Multiplications that a try on the way may cost; at the end of a run all are allowed.
WORK = 1e8


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
        if not self._affordable(flow.state):
            return None
        t = float(np.ldexp(flow.time, -self.certifier.cells.time_exponent))
        found = self.certifier.certify(flow.whole(), r, t)
        return found if found.proved else None

    def _affordable(self, state: State) -> bool:
        """Whether few enough cells are occupied for a try to cost no more than some steps."""
        cells = self.certifier.cells
        alive = state.code[state.fate == ALIVE]
        if len(alive) == 0 or len(state.z) > LARGEST:
            return False
        columns = min(len(distinct_rows(alive)[0]) * cells.d, 4 * cells.n)
        return cells.n * float(columns) ** 2 <= WORK


def _place(time: float) -> tuple[int, int]:
    """Return in which part of which doubling a time is."""
    mantissa, exponent = frexp(time)
    return exponent, int(TRIES * (2.0 * mantissa - 1.0))
