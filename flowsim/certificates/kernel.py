"""The core's kernel in floating point, and how far neurons may turn."""

from __future__ import annotations

import numpy as np

from flowsim._distinct import distinct_rows
from flowsim.cells import projector
from flowsim.certificates.proposal import NoClaimError, Proposal, View

#: |d log K| <= KAPPA |D|.
KAPPA = 3.0 / np.sqrt(2.0)
#: Neurons whose |a| is smaller against their norm are not looked at.
LARGEST_RHO = 1e8
#: Room that is left above what a bound needs, for rounding.
ROOM = 1e-6


class Kernel:
    """K on V, with its cells."""

    def __init__(self, view: View, p: Proposal) -> None:
        self.view, self.p = view, p
        K = np.zeros((p.basis.shape[1],) * 2)
        for kind, members in self._cells():
            loose = p.walls[kind] | p.open[kind]
            F = self._features(p.code[kind], (p.code[kind] == 0) | loose)
            K += view.cells.weight * F @ self._moment(members, bool(np.any(loose))) @ F.T
        values = np.linalg.eigvalsh(K)
        self.mu = float(values[0])
        if not self.mu > 1e-13 * values[-1]:
            raise NoClaimError("the core's kernel is singular to rounding")
        self.inverse = np.linalg.inv(K)
        rho, core = None, p.having("core")
        if not np.all(view.dominated[core]):
            z = np.sum(view.w[core] ** 2, axis=1) + view.a[core] ** 2
            rho = float(np.max(np.sqrt(z) / np.maximum(np.abs(view.a[core]), 1e-300)))
            if rho > LARGEST_RHO:
                raise NoClaimError("a neuron's a is about zero")
        self.rho = rho

    def _cells(self) -> list[tuple[int, np.ndarray]]:
        """Return a kind of each of the core's cells, and the cell's neurons."""
        kinds = self.p.kinds("core")
        first, number = distinct_rows(self.p.cells[kinds])
        cell = np.full(len(self.p.roles), -1)
        cell[kinds] = number
        cell = cell[self.p.number]
        return [(int(kinds[k]), np.flatnonzero(cell == i)) for i, k in enumerate(first)]

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

    def reaches(self, kinds: np.ndarray) -> np.ndarray:
        """Return ``τ_j`` of the neurons of some kinds."""
        first, number = distinct_rows(self.p.cells[kinds])
        return np.array([self._reach(int(k)) for k in kinds[first]])[number]

    def _reach(self, kind: int) -> float:
        cells, p = self.view.cells, self.p
        F = self._features(p.code[kind], p.code[kind] == 0)
        reach = np.sqrt(max(np.linalg.eigvalsh(F.T @ self.inverse @ F)[-1], 0.0))
        for g in np.flatnonzero(p.open[kind]):
            b = np.where(cells.index == g, cells.norms, 0.0) @ p.basis
            reach += (1.0 - cells.slope) * np.sqrt(b @ self.inverse @ b)
        return float(np.sqrt(cells.weight) * reach)


def turning_bound(q: float, rho: float | None) -> float | None:
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
