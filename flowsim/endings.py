"""The end of a two-layer ReLU network's run: its state, its verdict and the proof of it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from flowsim.cells import Cells
from flowsim.data import Dataset
from flowsim.engines.record import Flow, Record, snapshot
from flowsim.network import TwoLayerReLU
from flowsim.solution import Final, History
from flowsim.stationarity.classify import Snapshot, Verdict, classify, floor_loss
from flowsim.stationarity.exact import exact_limit_loss

if TYPE_CHECKING:
    from flowsim.certificates.certificate import Certificate


def final_of(
    net: TwoLayerReLU, data: Dataset, flow: Flow, record: Record, history: History
) -> Final:
    """Return the final state of a run, with what is proved of where the flow goes from there."""
    cells, state = flow.cells, flow.whole()
    certificate = _certificate(data, flow, record, float(history.t[-1]))
    verdict, exact = _verdict(data, flow, record, certificate)
    return Final(
        t=float(history.t[-1]),
        network=state.network(net, cells),
        loss=float(history.loss[-1]),
        gradient_norm=float(np.sqrt(history.speed[-1])),
        kind=verdict.kind,
        limit_loss=verdict.limit_loss,
        floor_loss=verdict.floor_loss,
        reason=verdict.reason,
        fate=state.fate.astype(np.int8),
        code=state.code.copy(),
        limit_loss_exact=exact,
        certificate=certificate,
    )


def _certificate(data: Dataset, flow: Flow, record: Record, t: float) -> Certificate | None:
    """Return the certificate that has ended the run, or that of its last state."""
    if flow.frozen or record.status in ("", "non_finite"):
        return None
    if record.certificate is not None:
        return record.certificate
    record.certificate = _tried(data, flow, t)
    return record.certificate


def _tried(data: Dataset, flow: Flow, t: float) -> Certificate:
    """Return the certificate of a run's last state, unless its neurons are in very many cells."""
    from flowsim.certificates.certificate import Certificate
    from flowsim.certificates.certify import LARGEST, Certifier
    from flowsim.certificates.watch import WORK_AT_END, work_of

    state = flow.whole()
    if len(state.z) <= LARGEST and work_of(state, flow.cells) > WORK_AT_END:
        reason = "the neurons are in too many cells for a proof that nobody has asked for"
        return Certificate(False, "unknown", None, reason, "flowsim.certify tries it", t=t)
    return Certifier(data, flow.cells).certify(state, flow.residual(), t, saddles=True)


def _verdict(
    data: Dataset, flow: Flow, record: Record, certificate: Certificate | None
) -> tuple[Verdict, str]:
    """Return the verdict, losses in the user's units, and the limit as a fraction."""
    cells, nan = flow.cells, float("nan")
    if record.status == "non_finite":
        return Verdict("unknown", nan, nan, "the state is not finite"), ""
    if record.status == "":
        return Verdict("not_stationary", nan, nan, "the run goes on"), ""
    if certificate is not None and certificate.proved:
        return _proved(cells, certificate)
    view = snapshot(flow, flow.residual())
    verdict = classify(view, stationary=record.status == "stationary")
    exact = _exact_limit(data, view, verdict)
    if flow.frozen:
        reason = "the residual was kept frozen"
        verdict, exact = Verdict("not_stationary", nan, verdict.floor_loss, reason), ""
    unit = 2 * cells.y_exponent
    limit, floor = (float(np.ldexp(x, unit)) for x in (verdict.limit_loss, verdict.floor_loss))
    if certificate is not None:
        verdict = _doubted(verdict, certificate)
    return Verdict(verdict.kind, limit, floor, verdict.reason), exact


def _doubted(verdict: Verdict, certificate: Certificate) -> Verdict:
    """Return the verdict of floating point as what it is without a proof."""
    why = f"not proved: {certificate.reason}"
    if certificate.remedy:
        why += f"; {certificate.remedy}"
    if verdict.kind in ("unknown", "not_stationary"):
        return replace(verdict, reason=f"{verdict.reason}; {why}")
    words = verdict.kind.replace("_", " ")
    said = f"it looks like a {words} ({verdict.reason}), but that is {why}"
    return replace(verdict, kind="unknown", reason=said)


def _proved(cells: Cells, certificate: Certificate) -> tuple[Verdict, str]:
    from flowsim.certificates.certificate import limit_value

    limit = certificate.limit_loss
    exact = str(limit) if isinstance(limit, Fraction) else ""
    floor = float(np.ldexp(floor_loss(cells), 2 * cells.y_exponent))
    return Verdict(certificate.kind, limit_value(limit), floor, certificate.reason), exact


def _exact_limit(data: Dataset, view: Snapshot, verdict: Verdict) -> str:
    if not np.isfinite(verdict.limit_loss):
        return ""
    exact = exact_limit_loss(data, view.cells, view.code[view.counted])
    return "" if exact is None else str(exact)
