"""Looking for a claim in floating point: which neurons are the core, what they may reach.

What is found here is only a proposal: `flowsim.certificates.certificate.prove` proves it or not.
All in the scaled units of `Cells`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from flowsim.cells import Cells, null_basis
from flowsim.certificates.kernel import KAPPA, ROOM, Kernel, turning_bound
from flowsim.certificates.proposal import NoClaimError, Proposal, View, numbered
from flowsim.certificates.reach import loosened, near_planes
from flowsim.certificates.slides import (
    IN_RANGE,
    check_slides,
    with_edges,
)
from flowsim.stationarity.limits import feature_range, least_squares_residual

#: Where too much is in reach, the residual may have to shrink by so much.
SHRINK = 4.0
#: The residual's rounding, relative to the labels.
ROUNDING = 1e-13
#: Gaps between masses of neurons that are looked at for a core, in powers of ten.
GAP = 2.0
#: How many cores are tried.
MOST_CORES = 4
#: How often neurons are told what they may reach before it is given up.
ROUNDS = 6


def proposals(view: View, *, saddles: bool) -> Iterator[Proposal | NoClaimError]:
    """Yield what may be claimed, or why it may not, for one core after another.

    Parameters
    ----------
    saddles : bool
        Whether light neurons may be left out which the core does not follow.
    """
    if len(view.alive) == 0:
        yield _still(view)
        return
    for heavy in _cores(view):
        try:
            yield _propose(view, heavy, saddles=saddles)
        except NoClaimError as failure:
            yield failure


def _still(view: View) -> Proposal:
    """Return the proposal for a network of which no neuron moves: it stays what it is."""
    cells, none = view.cells, np.zeros(0, dtype=np.int64)
    nothing = np.zeros(view.codes.shape, dtype=bool)
    return Proposal(
        none, none, np.zeros(0, dtype=object), none, view.codes, nothing, nothing, nothing,
        False, 0.0, cells.y, np.zeros((cells.n, 0)), 0.0,
    )  # fmt: skip


def _cores(view: View) -> Iterator[np.ndarray]:
    """Yield masks of neurons above a mass: all, then the heavier ones where there is a gap."""
    size = np.log10(
        np.maximum(view.mass * np.sum(view.w**2 + view.a[:, None] ** 2, axis=1), 1e-300)
    )
    order = np.sort(size)
    jumps = np.flatnonzero(np.diff(order) > GAP)
    yield np.ones(len(size), dtype=bool)
    for i in jumps[::-1][: MOST_CORES - 1]:
        yield size > 0.5 * (order[i] + order[i + 1])


def _propose(view: View, heavy: np.ndarray, *, saddles: bool) -> Proposal:
    cells = view.cells
    first, number = numbered(view.cell, view.sign, heavy)
    code, core = view.codes[view.cell[first]], heavy[first]
    Q = feature_range(cells, code[core])
    everything = Q.shape[1] == cells.n
    if Q.shape[1] == 0:
        raise NoClaimError("the core fits nothing")
    r_star = np.zeros(cells.n) if everything else least_squares_residual(cells.y, Q)
    roles = np.where(core, "core", "free" if everything else "carried").astype(object)
    if not everything:
        roles[~core & ~_inside(cells, code, ~core, Q)] = "removed"
    nothing, slides = np.zeros(code.shape, dtype=bool), code == 0
    start = Proposal(
        number, first, roles, view.sign[first], code, nothing, nothing, slides, everything, 0.0,
        r_star, Q, 0.0,
    )  # fmt: skip
    if everything:
        # Nothing pushes back where every label is fitted: slides are open, too.
        opened = slides & core[:, None]
        return _settled(view, replace(start, open=opened, code=np.where(opened, 1, code)))
    start = _with_fading(view, start)
    if np.any(start.roles == "removed") and not saddles:
        raise NoClaimError("light neurons can fit what the heavy ones cannot")
    return _settled(view, with_edges(view, start))


def _with_fading(view: View, p: Proposal) -> Proposal:
    """Return the proposal in which those to be removed are fading that shrink on a ray to which
    their slides pin them."""
    pinned = (p.roles == "removed") & (np.sum(p.code == 0, axis=1) == view.cells.d - 1)
    fades = np.zeros(len(view.alive), dtype=bool)
    for j in np.flatnonzero(pinned[p.number] & view.balanced):
        rate = view.cells.field(p.r_star, p.code[p.number[j]]) @ view.w[j]
        fades[j] = view.sign[j] * rate < 0.0
    p = p.split(fades)
    p.roles[fades[p.first]] = "fading"
    return p


def _inside(cells: Cells, codes: np.ndarray, which: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """Mark those of some cells whose features lie in the span of Q."""
    inside = np.zeros(len(codes), dtype=bool)
    for i in np.flatnonzero(which):
        free = null_basis(cells.normals[codes[i] == 0])
        B = (cells.coefficients(codes[i])[:, None] * cells.X) @ free
        rest = B - Q @ (Q.T @ B)
        inside[i] = np.linalg.norm(rest) <= IN_RANGE * np.linalg.norm(B)
    return inside


def _settled(view: View, p: Proposal) -> Proposal:
    """Return the proposal in which every neuron has room to turn, or may reach what is near."""
    cells = view.cells
    E0 = np.sqrt(cells.weight) * float(np.linalg.norm(p.basis @ (p.basis.T @ view.r)))
    E0 += np.sqrt(cells.weight) * _faded(view, p)
    E0 += ROUNDING * np.sqrt(cells.weight) * float(np.linalg.norm(cells.y) + np.linalg.norm(view.r))
    mu = 0.0
    for _ in range(ROUNDS):
        try:
            kernel = Kernel(view, p)
        except NoClaimError as failure:
            if mu > 0.0:  # too much was in reach: it will not be once the residual is smaller
                raise NoClaimError(str(failure), np.log(SHRINK) / mu) from None
            raise
        mu = mu or kernel.mu
        moving = p.kinds("core", "carried")
        tau = kernel.reaches(moving)
        top = float(np.max(tau[p.roles[moving] == "core"]))
        q = top * E0 / np.sqrt(kernel.mu)
        turning = turning_bound(q, kernel.rho)
        if turning is None:
            wait = np.log(max(KAPPA * q, 1.0) / 0.5) / kernel.mu
            raise NoClaimError(f"the residual is too large for the core to contract it (κq = "
                        f"{KAPPA * q:.3g}, must be below 1)", wait)  # fmt: skip
        p = replace(p, turning=turning, mu=kernel.mu)
        angle = np.full(len(p.roles), np.nan)
        angle[moving] = (1.0 + ROOM) * tau * turning / top
        near = near_planes(view, p, angle)
        if near is None:
            check_slides(view, p, E0 / np.sqrt(view.cells.weight))
            return p
        p = loosened(view, p, near, angle)
    raise NoClaimError("neurons may reach ever more hyperplanes")


def _faded(view: View, p: Proposal) -> float:
    """Return what fading neurons add to the outputs, at most."""
    total = 0.0
    for j in p.having("fading").tolist():
        code = p.code[p.number[j]]
        outputs = view.cells.coefficients(code) * (view.cells.X @ view.w[j])
        total += float(view.mass[j] * abs(view.a[j]) * np.linalg.norm(outputs))
    return total
