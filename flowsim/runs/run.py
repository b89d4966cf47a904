"""One run, ready to go: on its own, or together with others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowsim._jax import make_room
from flowsim.engines.problem import Driver, Stepper, drive
from flowsim.solution import Solution


@dataclass(frozen=True, eq=False)
class Run:
    """A run that has been checked and prepared.

    Attributes
    ----------
    start : callable
        Returns the driver, which returns a record.
    stepper : callable or None
        Returns the stepper that the driver's requests are for; None if it makes none.
    finish : callable
        Makes the Solution of the record.
    """

    start: Callable[[], Driver]
    stepper: Callable[[], Any] | None
    finish: Callable[[Any], Solution]


def run_alone(run: Run) -> Solution:
    """Take a run to its Solution."""
    make_room()
    # What overflows is found by its infinities and ends the run with a status.
    with np.errstate(over="ignore", invalid="ignore"):
        stepper: Stepper = _Nobody() if run.stepper is None else run.stepper()
        return run.finish(drive(run.start(), stepper))


def run_together(runs: Sequence[Run]) -> list[Solution]:
    """Take runs of one engine to their Solutions, their steps taken together."""
    from flowsim.engines.batch import drive_batch

    if not runs:
        return []
    make_room()
    with np.errstate(over="ignore", invalid="ignore"):
        make = runs[0].stepper
        assert make is not None  # the engine of a batch makes requests
        records = drive_batch([run.start() for run in runs], make())
        return [run.finish(record) for run, record in zip(runs, records, strict=True)]


class _Nobody:
    """Stands for the stepper where nothing is asked for."""

    def advance(self, request: Any) -> Any:
        """Never called."""
        raise AssertionError("this driver makes no requests")

    land = advance
