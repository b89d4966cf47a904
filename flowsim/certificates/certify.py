"""certify(): from the state of a run to its certificate."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.cells import Cells
from flowsim.certificates.build import claim_of, exact_data, exact_planes
from flowsim.certificates.certificate import Certificate, prove
from flowsim.certificates.enclosed import enclosing
from flowsim.certificates.planes import Data
from flowsim.certificates.proposal import NoClaimError, Proposal, View
from flowsim.certificates.search import proposals
from flowsim.data import Dataset
from flowsim.engines.restore import restored
from flowsim.solution import Solution, States
from flowsim.state import State

if TYPE_CHECKING:
    from flowsim.engines.validated.result import EnclosedState


#: Predictions suppose that rates stay what they are: not many times as far ahead.
FORESEEN = 10.0


#: Proofs of more neurons would take longer than their runs.
LARGEST = 100_000
#: The remedy where none can be foreseen.
GO_ON = "it is too early: let the run go on, without t1 or by flowsim.resume"


def certify(run: Solution | str | os.PathLike[str]) -> Certificate:
    """Prove where the gradient flow goes from the final state of a run.

    The theorem and its proof are in docs/certificates.md: from that state on no neuron leaves
    its cell, and the loss tends to a least-squares value. Of a run of the engine Validated all
    states in its enclosure are looked at, else the final state in float64, and neurons that are
    balanced up to rounding count as balanced.

    Parameters
    ----------
    run : Solution, or path-like
        A run of a TwoLayerReLU, or its file.

    Returns
    -------
    Certificate
        With `proved` false and the reason where it cannot be proved; `Certificate.save` writes a
        file that `flowsim.verify` proves again.

    Raises
    ------
    TypeError, ValueError
        If it is no such run, or one with a frozen residual.
    OSError
        If the file cannot be read.
    """
    solution = run if isinstance(run, Solution) else _loaded(run)
    if not isinstance(solution.states, States):
        raise TypeError(
            "Argument `run` must be a gradient flow of a TwoLayerReLU to be certified, but is "
            "another run."
        )
    if solution.settings["residual"] == "frozen":
        raise ValueError(
            "Argument `run` must have its own residual to be certified, but it was kept frozen."
        )
    slope, loss = solution.initial.negative_slope, solution.settings["loss"]
    cells = Cells.of(solution.data, slope, loss, solution.initial(solution.data.X))
    state = restored(solution.states, -1, cells)
    r = np.ldexp(solution.final.network.residual(solution.data), -cells.y_exponent)
    enclosure = None if solution.enclosure is None else solution.enclosure.state
    return Certifier(solution.data, cells).certify(
        state, r, solution.t_end, saddles=True, enclosure=enclosure
    )


def _loaded(path: Any) -> Solution:
    from flowsim.files import load

    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            f"Argument `run` must be a Solution or its file, but is of type {type(path).__name__}."
        )
    return load(path)


@dataclass(frozen=True, eq=False)
class Certifier:
    """Certifies states of one run.

    Attributes
    ----------
    data : Dataset
    cells : Cells
    """

    data: Dataset
    cells: Cells

    @cached_property
    def exact(self) -> Data:
        """The data as fractions."""
        return exact_data(self.data, self.cells)

    def certify(
        self,
        state: State,
        r: np.ndarray,
        t: float,
        *,
        saddles: bool = False,
        enclosure: EnclosedState | None = None,
    ) -> Certificate:
        """Return the certificate of a state, proved or with what is missing.

        Parameters
        ----------
        state : State
            All neurons (scaled).
        r : (n,)
            Its residual (scaled).
        t : float
            Its time, in the user's units.
        saddles : bool
            Whether light neurons may be left out that the heavy ones do not follow: the flow
            leaves the point that is certified then.
        enclosure : EnclosedState, optional
            Balls around the state: the certificate is one of every state in them.
        """
        if len(state.z) > LARGEST:
            reason = f"proofs are tried for at most {LARGEST} neurons"
            return Certificate(False, "unknown", None, reason, t=t)
        view = View(self.cells, state, r)
        failed: Certificate | None = None
        for found in proposals(view, saddles=saddles):
            if isinstance(found, NoClaimError):
                certificate = self._failure(found, t)
            else:
                certificate = self._proved(view, found, t, enclosure)
                if certificate.proved:
                    return certificate
            failed = failed or certificate
        assert failed is not None
        return failed

    def _failure(self, failure: NoClaimError, t: float) -> Certificate:
        wait = float(np.ldexp(failure.wait, -self.cells.time_exponent))
        soon = np.isfinite(wait) and wait <= FORESEEN * t
        remedy = f"it needs at most about {wait:.3g} more time" if soon else GO_ON
        return Certificate(False, "unknown", None, str(failure), remedy, t=t, wait=wait)

    def _proved(
        self, view: View, found: Proposal, t: float, enclosure: EnclosedState | None
    ) -> Certificate:
        claim = claim_of(self.exact, view, found)
        if enclosure is not None:
            try:
                claim = enclosing(claim, enclosure, exact_planes(self.exact, self.cells))
            except NoClaimError as failure:
                return self._failure(failure, t)
        certificate = prove(claim, t)
        if certificate.kind != "saddle" or not np.any(found.roles == "removed"):
            return certificate
        return replace(certificate, escape_time=t + self._escape(view, found))

    def _escape(self, view: View, found: Proposal) -> float:
        """Return the time until light neurons have grown to order one."""
        cells = self.cells
        removed = found.having("removed")
        outputs = view.w[removed] @ cells.X.T
        features = np.where(outputs > 0.0, outputs, cells.slope * outputs)
        size = np.linalg.norm(view.w[removed], axis=1)
        growth = cells.weight * view.sign[removed] * (features @ found.r_star) / size
        log_size = 0.5 * np.log(np.maximum(view.mass[removed], 1e-300))
        grows = growth > 0.0
        if not np.any(grows):
            return float("nan")
        times = -log_size[grows] / growth[grows]
        return float(np.ldexp(np.min(times), -cells.time_exponent))
