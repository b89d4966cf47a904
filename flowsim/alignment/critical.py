"""The critical direction of ``G(w) = w . D(w)`` in one face, decided up to rounding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from math import comb

import numpy as np

from flowsim.alignment.roles import Role, role
from flowsim.alignment.vectors import ExtremalVector
from flowsim.cells import RANK_TOLERANCE, TOUCH, Cells

#: Margins of unit vectors that a computed direction may have where it should lie on hyperplanes.
_NEAR = 1e-9
#: The role along dependent hyperplanes is decided on up to so many subsets of them.
MAX_SUBSETS = 200_000
#: So many at a time.
_BLOCK = 4096


def extremal_at(
    cells: Cells, w: np.ndarray, code: np.ndarray | None = None
) -> ExtremalVector | None:
    """Return the extremal vector at a direction, or None if there is none with D != 0.

    Parameters
    ----------
    cells : Cells
        The data's cells.
    w : (d,)
        The direction; only its face counts, which must be the one that D lies in.
    code : (G,), optional
        The face of w; by default the signs of ``nu_g . w``, where those below rounding are 0, or
        else those below 1e-9.

    Notes
    -----
    Velocities ``nu_g . D`` below `Cells.tie` are zero: then D lies on hyperplane g as well, and
    the face inside it, with its multiplier at an end of its interval, is returned.

    Where k dependent hyperplanes of rank r meet in w, the role follows from the rays around w,
    one for each r - 1 of them. If those are more than `MAX_SUBSETS`, or rounding tells none of
    the rays, the role is left open: `Role(0, None)`, as for a saddle.
    """
    if code is None:
        margins = cells.normals @ (w / np.linalg.norm(w))
        # A direction that was computed may have lost digits: what it nearly lies on comes next.
        for touch in (TOUCH, _NEAR):
            code = np.where(np.abs(margins) <= touch, 0, np.sign(margins)).astype(np.int8)
            if vector := extremal_at(cells, w, code):
                return vector
        return None
    tie = cells.tie(cells.y)
    tau = 0
    for _ in range(cells.d + 1):
        local = _Local.of(cells, code)
        D = local.D
        velocity = cells.normals @ D
        touching = np.abs(velocity) <= tie
        if np.all(touching | (code == 0)):
            return None
        tau = 1 if float(w @ D) > 0 else -1
        if np.any((tau * velocity * code < 0) & ~touching):
            return None
        if not np.any(touching & (code != 0)):
            zeta = local.multipliers(tie)
            return None if zeta is None else _vector(cells, code, local, zeta, tau)
        code = np.where(touching, 0, code).astype(np.int8)
    return None


def plain_vector(cells: Cells, w: np.ndarray, code: np.ndarray | None = None) -> ExtremalVector:
    """Describe a direction that need not be critical: D is the projected field of its face.

    Arguments as for `extremal_at`; without `code`, margins below rounding are 0. Multipliers are
    nan, and the role is that of a saddle.
    """
    w = w / np.linalg.norm(w)
    if code is None:
        margins = cells.normals @ w
        code = np.where(np.abs(margins) <= TOUCH, 0, np.sign(margins))
    code = np.asarray(code, dtype=np.int8)
    exponent = cells.x_exponent + cells.y_exponent
    D = _Local.of(cells, code).D
    return ExtremalVector(
        D=np.ldexp(D, exponent),
        direction=w,
        norm=float(np.ldexp(np.linalg.norm(D), exponent)),
        G=float(np.ldexp(w @ D, exponent)),
        pattern=cells.sample_codes(code),
        code=code,
        multipliers=np.full(cells.n, np.nan),
        role=Role(0, None),
    )


def _vector(
    cells: Cells, code: np.ndarray, local: _Local, zeta: np.ndarray, tau: int
) -> ExtremalVector:
    on = local.on
    jump = local.plus - local.minus
    s = np.full(cells.n_hyperplanes, 0.5)
    jumps = jump != 0.0
    ratio = (zeta - local.minus)[jumps] / jump[jumps]
    s[on[jumps]] = ratio.clip(0.0, 1.0) + 0.0  # -0 is 0
    eta = np.where(cells.orientation > 0, s[cells.index], 1.0 - s[cells.index])
    pattern = cells.sample_codes(code)
    D = np.ldexp(local.D, cells.x_exponent + cells.y_exponent)
    # Scaled back last: the norm of D in the user's units may leave the range where squares exist.
    norm = float(np.ldexp(np.linalg.norm(local.D), cells.x_exponent + cells.y_exponent))
    return ExtremalVector(
        D=D,
        direction=tau * local.D / np.linalg.norm(local.D),
        norm=norm,
        G=tau * norm,
        pattern=pattern,
        code=code,
        multipliers=np.where(pattern == 0, eta, np.nan),
        role=local.role(zeta, tau, cells),
    )


@dataclass(frozen=True, eq=False)
class _Local:
    """The hyperplanes `on` through a direction, and the projected field there (scaled)."""

    on: np.ndarray
    normals: np.ndarray  # (k, d)
    plus: np.ndarray
    minus: np.ndarray
    base: np.ndarray  # (d,) the field without them
    D: np.ndarray  # (d,) its projection
    rank: int
    smallest: float  # singular value of the normals

    @classmethod
    def of(cls, cells: Cells, code: np.ndarray) -> _Local:
        on = np.flatnonzero(code == 0)
        base = cells.field(cells.y, code)
        plus, minus = cells.sides(cells.y)
        normals = cells.normals[on]
        D, rank, smallest = base, 0, 1.0
        if len(on):
            _, s, vt = np.linalg.svd(normals, full_matrices=False)
            rank = int(np.sum(s > RANK_TOLERANCE * s[0]))
            smallest = float(s[rank - 1])
            for _ in range(2):
                D = D - vt[:rank].T @ (vt[:rank] @ D)
        return cls(on, normals, plus[on], minus[on], base, D, rank, smallest)

    @property
    def independent(self) -> bool:
        return self.rank == len(self.on)

    def error(self, tie: float) -> float:
        """Return the error of the multipliers for one of `tie` in the field."""
        return tie / self.smallest

    def multipliers(self, tie: float) -> np.ndarray | None:
        """Return zeta in its box with ``base + sum zeta nu = D``, None if there is none."""
        low, high = np.minimum(self.plus, self.minus), np.maximum(self.plus, self.minus)
        rest = self.D - self.base
        if self.independent:
            zeta = np.linalg.lstsq(self.normals.T, rest, rcond=None)[0] if len(self.on) else low
            slack = self.error(tie)
            if np.any((zeta < low - slack) | (zeta > high + slack)):
                return None
            return np.where(zeta <= low + slack, low, np.where(zeta >= high - slack, high, zeta))
        from scipy.optimize import lsq_linear

        free = high > low
        zeta = low.copy()
        held = rest - low[~free] @ self.normals[~free]
        if np.any(free):
            bounds = (low[free], high[free])
            zeta[free] = lsq_linear(self.normals[free].T, held, bounds, "bvls", tol=1e-15).x
        off = np.linalg.norm(zeta @ self.normals - rest)
        return zeta if off <= 4 * len(self.on) * self.error(tie) else None

    def role(self, zeta: np.ndarray, tau: int, cells: Cells) -> Role:
        tie = self.error(cells.tie(cells.y))
        changes = self.changes(zeta, tie)
        if changes is None:
            return Role(0, None)
        return role(changes.tolist(), tau, cells.d - self.rank, tie)

    def changes(self, zeta: np.ndarray, tie: float) -> np.ndarray | None:
        """Return the first-order changes of G along unit rays around the direction.

        For dependent normals the smallest and the largest one are enough, or any two that have
        both signs; None if they are not known.
        """
        up, down = self.plus - zeta, self.minus - zeta
        if self.independent:
            return np.concatenate([up, -down])
        if comb(len(self.on), self.rank - 1) > MAX_SUBSETS:
            return None
        low, high = np.inf, -np.inf
        for margins in _local_rays(self.normals, self.rank):
            changes = np.sum(np.where(margins > 0, up, down) * margins, axis=1)
            low, high = min(low, changes.min()), max(high, changes.max())
            if low < -tie and high > tie:
                break
        return np.array([low, high]) if low <= high else None


def _local_rays(normals: np.ndarray, rank: int) -> Iterator[np.ndarray]:
    """Yield blocks (rays, k) of ``nu_g . v`` along the rays of dependent normals' arrangement."""
    inside = np.linalg.svd(normals, full_matrices=False)[2][:rank].T  # (d, rank)
    rows = normals @ inside
    subsets = combinations(range(len(rows)), rank - 1)
    while block := list(islice(subsets, _BLOCK)):
        chosen = np.array(block, dtype=np.int64).reshape(len(block), rank - 1)
        if rank == 1:
            v = np.ones((1, 1))
        else:
            _, s, vt = np.linalg.svd(rows[chosen], full_matrices=True)
            v = vt[s[:, -1] > RANK_TOLERANCE, -1]
        if len(v):
            margins = v @ rows.T
            margins[np.abs(margins) <= RANK_TOLERANCE] = 0.0
            yield np.concatenate([margins, -margins])
