"""Runs of the piecewise engine: from the start or from where another has ended, saved or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowsim._cores import blas_on_one_core
from flowsim.cells import Cells
from flowsim.engines.piecewise import Integrator, integrate
from flowsim.engines.piecewise.checkpoint import Checkpoint
from flowsim.engines.problem import Driver
from flowsim.engines.record import Record
from flowsim.engines.state_store import StateStore
from flowsim.events import EventLog
from flowsim.runs.run import Run
from flowsim.runs.saving import Saving
from flowsim.solution import Solution
from flowsim.state import State

if TYPE_CHECKING:
    from flowsim.certificates.watch import EndWatch


@dataclass(frozen=True, eq=False)
class Going:
    """Where a run is; `begun` says that the cells of its state have been chosen."""

    integrator: Integrator
    record: Record
    store: StateStore
    begun: bool

    @staticmethod
    def at_start(
        state: State, cells: Cells, settings: dict[str, Any], *, every_event: bool
    ) -> Going:
        """Return a run that begins in `state`."""
        integrator = Integrator(
            cells, state, settings["rtol"], settings["residual"] == "frozen",
            every_event, coalesce=settings["coalesce"],
        )  # fmt: skip
        record = Record(rows=EventLog(settings["event_bytes"]))
        store = StateStore(settings["state_bytes"], settings["states"])
        return Going(integrator, record, store, begun=False)


def piecewise_run(
    going: Going, conditions: tuple[Any, ...], finish: Callable[[Record], Solution],
    saving: Saving | None, end: EndWatch | None,
) -> Run:  # fmt: skip
    """Return a run; with `saving`, it is saved on the way and at its end.

    Parameters
    ----------
    going : Going
    conditions : tuple
        What `integrate` takes between a run and its checkpoint.
    finish : callable
        Makes the Solution of the record, be it complete or not.
    saving : Saving, optional
    end : EndWatch, optional
        Looks for a proof of where the run goes.
    """
    integrator, record, store = going.integrator, going.record, going.store
    finish = blas_on_one_core()(finish)  # the kernels are on the others

    @blas_on_one_core()
    def follow(checkpoint: Checkpoint | None) -> Record:
        if not going.begun:
            record.rows.extend(integrator.start())
        return integrate(integrator, record, store, *conditions, checkpoint=checkpoint, proofs=end)

    if saving is None:
        return Run(lambda: _at_once(lambda: follow(None)), None, finish)
    path = saving.path
    checkpoint = Checkpoint(
        integrator, record, store, saving.seconds, lambda: finish(record).save(path)
    )

    def follow_safely() -> Record:
        with checkpoint.rescuing():
            return follow(checkpoint)

    def finish_safely(record: Record) -> Solution:
        with checkpoint.rescuing():
            solution = finish(record)
        solution.save(path)
        return solution

    return Run(lambda: _at_once(follow_safely), None, finish_safely)


def _at_once(run: Callable[[], Any]) -> Driver:
    """Return a driver that makes no requests."""
    return run()
    yield
