"""certify(): from the state of a run to its certificate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from flowsim.cells import Cells
from flowsim.certificates.build import claim_of, exact_data
from flowsim.certificates.certificate import Certificate, prove
from flowsim.certificates.planes import Data
from flowsim.certificates.search import NoClaimError, Proposal, View, proposals
from flowsim.data import Dataset
from flowsim.state import State


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
        self, state: State, r: np.ndarray, t: float, *, saddles: bool = False
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
        """
        view = View(self.cells, state, r)
        failed: Certificate | None = None
        for found in proposals(view, saddles=saddles):
            if isinstance(found, NoClaimError):
                certificate = self._failure(found, t)
            else:
                certificate = self._proved(view, found, t)
                if certificate.proved:
                    return certificate
            failed = failed or certificate
        assert failed is not None
        return failed

    def _failure(self, failure: NoClaimError, t: float) -> Certificate:
        wait = float(np.ldexp(failure.wait, -self.cells.time_exponent))
        remedy = f"it needs about {wait:.3g} more time" if np.isfinite(wait) else ""
        return Certificate(False, "unknown", None, str(failure), remedy, t=t, wait=wait)

    def _proved(self, view: View, found: Proposal, t: float) -> Certificate:
        claim = claim_of(self.exact, view, found)
        certificate = prove(claim, t)
        if certificate.kind != "saddle" or not np.any(found.roles == "removed"):
            return certificate
        return replace(certificate, escape_time=t + self._escape(view, found))

    def _escape(self, view: View, found: Proposal) -> float:
        """Return the time until light neurons have grown to order one."""
        cells = self.cells
        removed = found.roles == "removed"
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
