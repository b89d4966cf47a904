"""Looking for a claim in floating point: which neurons are the core, what they may reach.

What is found here is only a proposal: `flowsim.certificates.certificate.prove` proves it or not.
All in the scaled units of `Cells`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from flowsim._distinct import distinct_rows
from flowsim.cells import TOUCH, Cells, multiplier_map, null_basis, projector
from flowsim.events import ALIVE
from flowsim.state import State
from flowsim.stationarity.limits import feature_range, least_squares_residual

#: |d log K| <= KAPPA |D|.
KAPPA = 3.0 / np.sqrt(2.0)
#: Columns within this part of their size of V lie in it.
IN_RANGE = 1e-8
#: A condition of this relative size is not met.
STRICT = 1e-9
#: Room that is left above what a bound needs, for rounding.
ROOM = 1e-6
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


class NoClaimError(Exception):
    """No claim: why, how much more time is predicted to be needed, and which neuron moves."""

    def __init__(self, reason: str, wait: float = float("nan")) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True, eq=False)
class View:
    """The living neurons of a state, and the residual."""

    cells: Cells
    state: State
    r: np.ndarray
    alive: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "alive", np.flatnonzero(self.state.fate == ALIVE))
        z = self.state.z[self.alive]
        large = np.maximum(np.abs(z[:, 0]), np.linalg.norm(z[:, 1:], axis=1))
        for name, value in {
            "a": z[:, 0],
            "w": z[:, 1:],
            "code": self.state.code[self.alive],
            "sign": self.state.sign[self.alive],
            "mass": self.state.mass[self.alive],
            "sine": (z[:, 1:] @ self.cells.normals.T) / large[:, None],
            "dominated": self.state.balance[self.alive] >= 0,
        }.items():
            object.__setattr__(self, name, value)

    a: np.ndarray = field(init=False)
    w: np.ndarray = field(init=False)
    code: np.ndarray = field(init=False)
    sign: np.ndarray = field(init=False)
    mass: np.ndarray = field(init=False)
    sine: np.ndarray = field(init=False)
    dominated: np.ndarray = field(init=False)


@dataclass(frozen=True, eq=False)
class Proposal:
    """A claim in arrays over the living neurons; `roles` are those of `claim.ROLES`."""

    roles: np.ndarray
    code: np.ndarray
    walls: np.ndarray
    open: np.ndarray
    held: np.ndarray
    everything: bool
    turning: float
    r_star: np.ndarray
    basis: np.ndarray
    mu: float


def proposals(view: View, *, saddles: bool) -> Iterator[Proposal | NoClaimError]:
    """Yield what may be claimed, or why it may not, for one core after another.

    Parameters
    ----------
    saddles : bool
        Whether light neurons may be left out which the core does not follow.
    """
    if len(view.alive) == 0:
        yield NoClaimError("no neuron is alive")
        return
    for heavy in _cores(view):
        try:
            yield _propose(view, heavy, saddles=saddles)
        except NoClaimError as failure:
            yield failure


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
        if np.any(outside) and not saddles:
            raise NoClaimError("light neurons can fit what the heavy ones cannot")
    r_star = np.zeros(cells.n) if everything else least_squares_residual(cells.y, Q)
    start = Proposal(
        roles, view.code.copy(), *(np.zeros(view.code.shape, dtype=bool) for _ in range(3)),
        everything, 0.0, r_star, Q, 0.0,
    )  # fmt: skip
    start.held[view.code == 0] = True
    if everything:
        # Nothing pushes back where every label is fitted: slides are open, too.
        slides = (view.code == 0) & heavy[:, None]
        start = replace(start, open=slides, code=np.where(slides, 1, view.code))
    else:
        start = _with_edges(view, start)
    return _settled(view, start, start.basis @ (start.basis.T @ view.r))


def _with_edges(view: View, p: Proposal) -> Proposal:
    """Return the proposal in which no slide's multiplier tends to an end.

    Where the core fits what a kink changes, r* does not push there: the hyperplane is open. Where
    the multiplier tends to 0 or 1 because other neurons hold r* orthogonal to the features of
    that side's cell, too, it is a wall.
    """
    cells = view.cells
    for _ in range(ROUNDS):
        code, walls = p.code.copy(), p.walls.copy()
        opened = (code == 0) & _open_planes(cells, p.basis) & (p.roles != "removed")[:, None]
        if np.any(opened):
            p = _on_new_cells(view, replace(p, open=p.open | opened), np.where(opened, 1, code))
            continue
        for members, g, side, condition in _slide_conditions(view, p):
            value = view.sign[members[0]] * float(condition @ p.r_star)
            if abs(value) <= STRICT * _scale(cells, p.r_star):
                code[members, g], walls[members, g] = side, True
        if np.array_equal(code, p.code):
            return p
        p = _on_new_cells(view, replace(p, walls=walls), code)
    raise NoClaimError("ever more slides will end")


def _on_new_cells(view: View, p: Proposal, code: np.ndarray) -> Proposal:
    """Return the proposal with other cells: what the core fits grows with the cells."""
    cells = view.cells
    Q = feature_range(cells, code[p.roles == "core"])
    if Q.shape[1] == cells.n:
        raise NoClaimError("a slide will end, and the core will fit every label")
    return replace(p, code=code, basis=Q, r_star=least_squares_residual(cells.y, Q))


def _slide_conditions(view: View, p: Proposal) -> Iterator[tuple[np.ndarray, int, int, np.ndarray]]:
    """Yield neurons, hyperplane, side and row: ``sign(a) row . r > 0`` keeps them off that side."""
    cells = view.cells
    moving = np.flatnonzero((p.roles == "core") | (p.roles == "carried"))
    sliding = moving[np.any(p.code[moving] == 0, axis=1)]
    if len(sliding) == 0:
        return
    keys = np.column_stack([p.code[sliding], p.walls[sliding], view.sign[sliding]]).astype(np.int8)
    first, number = distinct_rows(keys)
    plus, minus = cells.side_coefficients
    moment = cells.weight * cells.orientation * cells.norms
    for i, j in enumerate(sliding[first]):
        planes = np.flatnonzero(p.code[j] == 0)
        normals = cells.normals[planes]
        if projector(normals)[1] < len(planes):
            raise NoClaimError("a neuron slides on linearly dependent hyperplanes")
        rows = cells.weight * (multiplier_map(normals) @ cells.X.T) * cells.coefficients(p.code[j])
        for row, g in zip(rows, planes.tolist(), strict=True):
            here = np.where(cells.index == g, moment, 0.0)
            yield sliding[number == i], g, 1, row - here * plus
            yield sliding[number == i], g, -1, here * minus - row


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
    E0 += ROUNDING * np.sqrt(cells.weight) * float(np.linalg.norm(cells.y) + np.linalg.norm(view.r))
    mu = 0.0
    for _ in range(ROUNDS):
        try:
            kernel = _Kernel(view, p)
        except NoClaimError as failure:
            if mu > 0.0:  # too much was in reach: it will not be once the residual is smaller
                raise NoClaimError(str(failure), np.log(SHRINK) / mu) from None
            raise
        mu = mu or kernel.mu
        moving = np.flatnonzero((p.roles == "core") | (p.roles == "carried"))
        tau = kernel.reaches(moving)
        top = float(np.max(tau[p.roles[moving] == "core"]))
        q = top * E0 / np.sqrt(kernel.mu)
        turning = _turning(q, kernel.rho)
        if turning is None:
            wait = np.log(max(KAPPA * q, 1.0) / 0.5) / kernel.mu
            raise NoClaimError(f"the residual is too large for the core to contract it (κq = "
                        f"{KAPPA * q:.3g}, must be below 1)", wait)  # fmt: skip
        p = replace(p, turning=turning, mu=kernel.mu)
        angle = np.zeros(len(view.alive))
        angle[moving] = (1.0 + ROOM) * tau * turning / top
        near = _near(view, p, angle)
        if not np.any(near):
            _check_slides(view, p, E0 / np.sqrt(view.cells.weight))
            return p
        p = _loosened(view, p, near, angle)
    raise NoClaimError("neurons may reach ever more hyperplanes")


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
        loose = _open_planes(cells, p.basis)
        pull = cells.sides(p.r_star)
        jump = view.sign[:, None] * (pull[0] - pull[1])[None, :]
        attracts = jump < -STRICT * _scale(cells, p.r_star)
        opened = near & loose[None, :]
        walled = near & ~opened & attracts
        if np.any(left := near & ~opened & ~walled):
            j, g = np.argwhere(left)[0]
            reach = abs(float(view.sine[j, g]))
            wait = np.log(max(angle[j] / max(reach, 1e-12), 2.0)) / p.mu
            sample = int(np.flatnonzero(cells.index == g)[0])
            raise NoClaimError(
                f"neuron {view.alive[j]} may cross the hyperplane of sample {sample}", wait
            )
        p.open[opened], p.walls[walled] = True, True
    p.held[touching & (p.open | p.walls)] = True
    return p


def _open_planes(cells: Cells, Q: np.ndarray) -> np.ndarray:
    """Mark hyperplanes (G,) whose kink lies in the span of Q."""
    kink = np.zeros((cells.n, cells.n_hyperplanes))
    kink[np.arange(cells.n), cells.index] = cells.norms
    rest = kink - Q @ (Q.T @ kink)
    return np.linalg.norm(rest, axis=0) <= IN_RANGE * np.linalg.norm(kink, axis=0)


def _scale(cells: Cells, r: np.ndarray) -> float:
    return cells.weight * float(np.sum((np.abs(r) + np.abs(cells.y)) * cells.norms))


def _turning(q: float, rho: float | None) -> float | None:
    """Return Δ with a little more than q below it, or None; `rho` where some ``|a| < |w|``."""
    if rho is None:
        worst = 1.0 - KAPPA * q * (1.0 + ROOM)
        return -np.log(worst) / KAPPA * (1.0 + ROOM) if worst > 0.0 else None
    end = np.log1p(1.0 / rho)
    grid = np.linspace(0.0, 1.0, 4097)[1:-1] * end
    grid = np.concatenate([grid[0] * np.logspace(-16, 0, 400)[:-1], grid])
    top = 1.0 + rho
    room = top**2 * grid - 2.0 * rho * top * np.expm1(grid) + rho**2 * np.expm1(2.0 * grid) / 2.0
    enough = np.flatnonzero(room > q * (1.0 + ROOM))
    return float(grid[enough[0]]) if len(enough) else None


class _Kernel:
    """K on V, with its cells."""

    def __init__(self, view: View, p: Proposal) -> None:
        self.view, self.p = view, p
        core = np.flatnonzero(p.roles == "core")
        keys = np.concatenate([p.code, p.walls, p.open], axis=1).astype(np.int8)
        first, number = distinct_rows(keys[core])
        K = np.zeros((p.basis.shape[1],) * 2)
        for i, j in enumerate(core[first]):
            members = core[number == i]
            loose = p.walls[j] | p.open[j]
            F = self._features(p.code[j], (p.code[j] == 0) | loose)
            K += view.cells.weight * F @ self._moment(members, bool(np.any(loose))) @ F.T
        values = np.linalg.eigvalsh(K)
        self.mu = float(values[0])
        if not self.mu > 1e-13 * values[-1]:
            raise NoClaimError("the core's kernel is singular to rounding")
        self.inverse = np.linalg.inv(K)
        self.keys = keys
        rho = None
        if not np.all(view.dominated[core]):
            z = np.sum(view.w[core] ** 2, axis=1) + view.a[core] ** 2
            rho = float(np.max(np.sqrt(z) / np.maximum(np.abs(view.a[core]), 1e-300)))
        self.rho = rho

    def _features(self, code: np.ndarray, held: np.ndarray) -> np.ndarray:
        P = projector(self.view.cells.normals[held])[0] if np.any(held) else np.eye(len(
            self.view.cells.normals[0]))  # fmt: skip
        B = self.view.cells.coefficients(code)[:, None] * self.view.cells.X
        return (self.p.basis.T @ B) @ P

    def _moment(self, members: np.ndarray, loose: bool) -> np.ndarray:
        view = self.view
        a, w, mass = view.a[members], view.w[members], view.mass[members]
        moment = float(np.sum(mass * a**2)) * np.eye(w.shape[1])
        return moment if loose else moment + (w * mass[:, None]).T @ w

    def reaches(self, neurons: np.ndarray) -> np.ndarray:
        """Return ``τ_j`` of some neurons."""
        first, number = distinct_rows(self.keys[neurons])
        return np.array([self._reach(int(j)) for j in neurons[first]])[number]

    def _reach(self, j: int) -> float:
        cells, p = self.view.cells, self.p
        F = self._features(p.code[j], p.code[j] == 0)
        reach = np.sqrt(max(np.linalg.eigvalsh(F.T @ self.inverse @ F)[-1], 0.0))
        for g in np.flatnonzero(p.open[j]):
            b = np.where(cells.index == g, cells.norms, 0.0) @ p.basis
            reach += (1.0 - cells.slope) * np.sqrt(b @ self.inverse @ b)
        return float(np.sqrt(cells.weight) * reach)


def _check_slides(view: View, p: Proposal, size: float) -> None:
    """Check that slides stay slides while ``|e| <= size``; walls are left to the proof."""
    if p.everything:
        return
    cells = view.cells
    for members, g, _, condition in _slide_conditions(view, p):
        j = members[0]
        value = view.sign[j] * float(condition @ p.r_star)
        need = float(np.linalg.norm(condition @ p.basis)) * size
        sample = int(np.flatnonzero(cells.index == g)[0])
        if value <= STRICT * _scale(cells, p.r_star):
            raise NoClaimError(f"the slide of neuron {view.alive[j]} on sample {sample} will end")
        if value <= need:
            raise NoClaimError(
                f"the slide of neuron {view.alive[j]} on sample {sample} may end before the "
                "residual is small",
                np.log(max(need / value, 1.0) / 0.5) / p.mu,
            )
