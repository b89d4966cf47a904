"""When a run is looked at for a proof of where it goes.

A try costs about as much as a few steps, so tries are spaced geometrically in time and in steps,
wait for as long as the last one has said, and for neurons to be quiet: steps and times decide,
never a clock, so that runs can be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from flowsim.certificates.certificate import Certificate
from flowsim.certificates.certify import Certifier
from flowsim.engines.record import Flow
from flowsim.events import ALIVE
from flowsim.state import State

#: Steps between two tries, and without a new event before one.
STEPS, QUIET = 8, 4
#: The next try is later by this part of the time at least, and at most by that.
SOONEST, LATEST = 0.1, 0.6
#: The part of the predicted time that is waited for.
PATIENCE = 0.7
#: Multiplications that a try on the way may cost; at the end of a run all are allowed.
WORK = 1e8


@dataclass(eq=False)
class EndWatch:
    """Tries to certify a run on its way.

    Attributes
    ----------
    certifier : Certifier
    tries : int
        How often it has been tried.
    """

    certifier: Certifier
    tries: int = 0
    _events: int = 0
    _quiet_since: int = 0
    _next_step: int = STEPS
    _next_time: float = 0.0
    last: Certificate | None = field(default=None)

    def proves(self, flow: Flow, r: np.ndarray, step: int, events: int) -> Certificate | None:
        """Return the certificate of the flow's state, if it is looked at and proved."""
        if events != self._events:
            self._events, self._quiet_since = events, step
        time = flow.time
        if step < self._next_step or time < self._next_time:
            return None
        if step < self._quiet_since + QUIET or not self._affordable(flow.state):
            return None
        self.tries += 1
        cells = self.certifier.cells
        t = float(np.ldexp(time, -cells.time_exponent))
        found = self.certifier.certify(flow.whole(), r, t)
        if found.proved:
            return found
        wait = np.ldexp(found.wait, cells.time_exponent) if np.isfinite(found.wait) else 0.0
        later = min(max(PATIENCE * wait, SOONEST * time), LATEST * time)
        self._next_time, self._next_step = time + later, step + STEPS
        return None

    def _affordable(self, state: State) -> bool:
        """Whether few enough cells are occupied for a try to cost no more than some steps."""
        cells = self.certifier.cells
        alive = state.code[state.fate == ALIVE]
        if len(alive) == 0:
            return False
        columns = min(len(np.unique(alive, axis=0)) * cells.d, 4 * cells.n)
        return cells.n * float(columns) ** 2 <= WORK
