"""Looking for a claim in floating point: which neurons are the core, what they may reach.

What is found here is only a proposal: `flowsim.certificates.certificate.prove` proves it or not.
All in the scaled units of `Cells`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from flowsim._distinct import distinct_rows
from flowsim.cells import TOUCH, null_basis
from flowsim.certificates.kernel import KAPPA, ROOM, Kernel, turning_bound
from flowsim.certificates.proposal import NoClaimError, Proposal, View
from flowsim.certificates.slides import (
    IN_RANGE,
    STRICT,
    check_slides,
    field_scale,
    open_planes,
    with_edges,
)
from flowsim.stationarity.limits import feature_range, least_squares_residual

#: Where too much is in reach, the residual may have to shrink by so much.
SHRINK = 4.0
#: The residual's rounding, relative to the labels.
ROUNDING = 1e-13
#: Neurons below this part of the largest mass need not belong to the core.
LIGHT = 1e-3
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
    cells = view.cells
    nothing = np.zeros(view.code.shape, dtype=bool)
    return Proposal(
        np.zeros(0, dtype=object), view.code, nothing, nothing, nothing, False, 0.0, cells.y,
        np.zeros((cells.n, 0)), 0.0,
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
    Q = feature_range(cells, view.code[heavy])
    everything = Q.shape[1] == cells.n
    if Q.shape[1] == 0:
        raise NoClaimError("the core fits nothing")
    roles = np.where(heavy, "core", "free" if everything else "carried").astype(object)
    if not everything:
        outside = ~heavy & ~_inside(view, ~heavy, Q)
        roles[outside] = "removed"
    r_star = np.zeros(cells.n) if everything else least_squares_residual(cells.y, Q)
    if not everything:
        roles[outside & _fade(view, r_star, outside)] = "fading"
        if np.any(roles == "removed") and not saddles:
            raise NoClaimError("light neurons can fit what the heavy ones cannot")
    nothing = np.zeros(view.code.shape, dtype=bool)
    start = Proposal(
        roles, view.code.copy(), nothing, nothing, nothing.copy(), everything, 0.0, r_star, Q, 0.0
    )
    start.held[view.code == 0] = True
    if everything:
        # Nothing pushes back where every label is fitted: slides are open, too.
        slides = (view.code == 0) & heavy[:, None]
        start = replace(start, open=slides, code=np.where(slides, 1, view.code))
    else:
        start = with_edges(view, start)
    return _settled(view, start, start.basis @ (start.basis.T @ view.r))


def _fade(view: View, r_star: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Mark those of some neurons that shrink on a ray to which their slides pin them."""
    cells = view.cells
    out = np.zeros(len(view.alive), dtype=bool)
    for j in np.flatnonzero(
        which & view.balanced & (np.sum(view.code == 0, axis=1) == cells.d - 1)
    ):
        rate = cells.field(r_star, view.code[j]) @ view.w[j]
        out[j] = view.sign[j] * rate < 0.0
    return out


def _inside(view: View, which: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """Mark those of some neurons whose features lie in the span of Q."""
    out = np.zeros(len(view.alive), dtype=bool)
    members = np.flatnonzero(which)
    if len(members) == 0:
        return out
    first, number = distinct_rows(view.code[members])
    inside = np.empty(len(first), dtype=bool)
    for i, j in enumerate(first):
        code = view.code[members[j]]
        B = (view.cells.coefficients(code)[:, None] * view.cells.X) @ null_basis(
            view.cells.normals[code == 0]
        )
        rest = B - Q @ (Q.T @ B)
        inside[i] = np.linalg.norm(rest) <= IN_RANGE * np.linalg.norm(B)
    out[members] = inside[number]
    return out


def _settled(view: View, p: Proposal, e: np.ndarray) -> Proposal:
    """Return the proposal in which every neuron has room to turn, or may reach what is near."""
    cells = view.cells
    E0 = np.sqrt(cells.weight) * float(np.linalg.norm(e))
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
        moving = np.flatnonzero((p.roles == "core") | (p.roles == "carried"))
        tau = kernel.reaches(moving)
        top = float(np.max(tau[p.roles[moving] == "core"]))
        q = top * E0 / np.sqrt(kernel.mu)
        turning = turning_bound(q, kernel.rho)
        if turning is None:
            wait = np.log(max(KAPPA * q, 1.0) / 0.5) / kernel.mu
            raise NoClaimError(f"the residual is too large for the core to contract it (κq = "
                        f"{KAPPA * q:.3g}, must be below 1)", wait)  # fmt: skip
        p = replace(p, turning=turning, mu=kernel.mu)
        angle = np.zeros(len(view.alive))
        angle[moving] = (1.0 + ROOM) * tau * turning / top
        near = _near(view, p, angle)
        if not np.any(near):
            check_slides(view, p, E0 / np.sqrt(view.cells.weight))
            return p
        p = _loosened(view, p, near, angle)
    raise NoClaimError("neurons may reach ever more hyperplanes")


def _faded(view: View, p: Proposal) -> float:
    """Return what fading neurons add to the outputs, at most."""
    total = 0.0
    for j in np.flatnonzero(p.roles == "fading"):
        outputs = view.cells.coefficients(view.code[j]) * (view.cells.X @ view.w[j])
        total += view.mass[j] * abs(view.a[j]) * float(np.linalg.norm(outputs))
    return total


def _near(view: View, p: Proposal, angle: np.ndarray) -> np.ndarray:
    """Mark hyperplanes (alive, G) that a neuron may reach and is not yet said to."""
    moving = (p.roles == "core") | (p.roles == "carried")
    sine = np.where(angle < 1.5, np.sin(np.minimum(angle, 1.5)), 1.0)
    fixed = (p.code == 0) | p.walls | p.open
    return moving[:, None] & ~fixed & (np.abs(view.sine) <= sine[:, None] + TOUCH)


def _loosened(view: View, p: Proposal, near: np.ndarray, angle: np.ndarray) -> Proposal:
    """Return the proposal in which hyperplanes that are `near` are open or walls."""
    cells = view.cells
    p = replace(p, roles=p.roles.copy(), walls=p.walls.copy(), open=p.open.copy(),
                held=p.held.copy())  # fmt: skip
    touching = near & (np.abs(view.sine) <= TOUCH)
    if p.everything:
        light = view.mass < LIGHT * np.max(view.mass)
        let_go = np.any(near, axis=1) & light
        if np.all(let_go[p.roles == "core"]):
            let_go[:] = False
        p.roles[let_go] = "free"
        p.open[near & ~let_go[:, None]] = True
    else:
        loose = open_planes(cells, p.basis)
        pull = cells.sides(p.r_star)
        jump = view.sign[:, None] * (pull[0] - pull[1])[None, :]
        attracts = jump < -STRICT * field_scale(cells, p.r_star)
        opened = near & loose[None, :]
        walled = near & ~opened & attracts
        if np.any(left := near & ~opened & ~walled):
            j, g = np.argwhere(left)[0]
            reach = abs(float(view.sine[j, g]))
            wait = float(np.log(max(angle[j] / max(reach, 1e-12), 2.0))) / p.mu
            sample = int(np.flatnonzero(cells.index == g)[0])
            raise NoClaimError(
                f"neuron {view.alive[j]} may cross the hyperplane of sample {sample}", wait
            )
        p.open[opened], p.walls[walled] = True, True
    p.held[touching & (p.open | p.walls)] = True
    return p
