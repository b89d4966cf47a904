"""A step of the integrator that is not yet taken, and what crossings are predicted to do in it."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from flowsim.engines.piecewise.expander import Expansion
from flowsim.engines.piecewise.feedback import Feedback
from flowsim.engines.piecewise.walkers import Party
from flowsim.engines.switching import Cause
from flowsim.events import Events
from flowsim.state import State

NO_FEEDBACK = Feedback()


@dataclass(frozen=True, eq=False)
class Walked:
    """The neurons that change cells in a part of a step, and what that does to the others."""

    walks: np.ndarray  # (m,)
    party: Party | None = None
    feedback: Feedback = NO_FEEDBACK
    others: Future[tuple[State, float]] | None = None  # those that do not, moved meanwhile

    def wait(self) -> None:
        """Wait until no thread reads the expansion any more."""
        if self.others is not None:
            self.others.result()


@dataclass(frozen=True, eq=False)
class Moved:
    """Where neurons are after a part of a step; in `state` those that walk are in old cells."""

    state: State
    party: Party | None = None
    drift: float = 0.0


@dataclass(eq=False)
class Step:
    """A step from the present state, not yet taken.

    x (m,) is where each neuron's first event is, in units; infinite if it has none within the
    longest step. `tau` is the step's length, `cause` what else ends it.
    """

    e: Expansion
    tau: float
    x: np.ndarray
    what: np.ndarray
    where: np.ndarray
    side: np.ndarray
    kinks: np.ndarray  # (m,) of these events, see `detection.kink`
    cause: Cause | None = None
    effect: float = 0.0  # what crossings are predicted to turn other neurons by
    shortened: bool = False  # because that was wrong by too much
    walked: Walked | None = None
    moved: Moved | None = None  # where it ends
    rate: float | None = None  # a bound on |D| in all cells, where neurons change them
    events: Events | None = None  # what happens in a step in closed form

    def residual(self, tau: float) -> np.ndarray:
        """Return r(tau) (n,)."""
        return self.e.residual(tau)

    def rates(self) -> np.ndarray:
        """Return the minimal-norm ``||D||`` of each group at the start, or a bound on all."""
        rates = self.e.rates()
        return rates if self.rate is None else np.append(rates, self.rate)

    @property
    def still(self) -> bool:
        """Whether nothing moves and nothing ever will."""
        return bool(np.isinf(self.tau))
