"""Filippov selection: the cell in which a neuron on hyperplanes goes on.

The gradient flow follows the element of minimal norm of the Clarke subdifferential
(Davis, Drusvyatskiy, Kakade & Lee 2020, Stochastic subgradient method converges on tame
functions; Bolte & Pauwels 2021, Conservative set valued fields): a neuron crosses a
hyperplane, or slides on it where the velocities of both sides point at it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from flowsim.cells import Cells, multiplier_map, projector
from flowsim.events import ALIVE, DEAD, ORIGIN

#: More undecided sides than this at one point are settled by following the local flow.
MAX_ENUMERATED = 8


@dataclass(frozen=True, eq=False)
class Selection:
    """The cell in which the flow goes on."""

    code: np.ndarray
    fate: int
    ambiguous: bool = False


def select(
    cells: Cells,
    r: np.ndarray,
    code: np.ndarray,
    touched: np.ndarray,
    sign: float,
    *,
    at_origin: bool = False,
) -> Selection:
    """Choose the cell in which a neuron's gradient flow continues.

    Parameters
    ----------
    r : (n,)
        Residual.
    code : (G,) int8
        The cell so far: for a touched hyperplane the side that the neuron came
        from, or 0 if it slid there or starts there.
    touched : (k,) int
        Hyperplanes that ``w`` lies on, slides included.
    sign : float
        Sign of ``a``.
    at_origin : bool
        Whether ``w = 0``.

    Notes
    -----
    Transversal motion crosses; where the velocities on the two sides point at
    each other the neuron slides, ties included. Where the zero field of the
    all-off cell is among the neighbours it is the minimal-norm element and the
    neuron stays for ever: dead, or at the origin. On a *repulsive* hyperplane the
    flow is not unique; a neuron that did not arrive through one of its sides goes
    to the off side (``sigma'(0) = 0``), or on a hyperplane shared by antipodal
    samples to the side where the loss falls faster; this is reported.
    """
    new = code.copy()
    new[touched] = 0
    base = cells.field(r, new)
    if cells.slope == 0.0 and _all_off_is_neighbour(cells, new, touched):
        if at_origin:
            return Selection(new, ORIGIN)
        new[touched] = -cells.single[touched]
        return Selection(new, DEAD)
    local = _Local.build(cells, r, base, touched, sign)
    came = code[touched]
    if len(touched) == 1:
        side, ambiguous = _select_one(local, int(came[0]))
        sides = np.array([side], dtype=np.int8)
    elif local.independent:
        sides, ambiguous = _select_independent(local, came)
    else:
        sides, ambiguous = _select_dependent(local)
    new[touched] = sides
    return Selection(new, ALIVE, ambiguous)


def _all_off_is_neighbour(cells: Cells, code: np.ndarray, touched: np.ndarray) -> bool:
    """Whether no sample is on beside the touched ones, and these can all be off."""
    if np.any(cells.coefficients(code) > 0.0) or np.any(cells.single[touched] == 0.0):
        return False
    outward = cells.single[touched, None] * cells.normals[touched]
    if projector(outward)[1] == len(touched):
        return True
    from scipy.optimize import nnls

    # Gordan: {outward w < 0} is empty iff a convex combination of the rows vanishes.
    rows = np.vstack([outward.T, np.ones(len(touched))])
    return nnls(rows, np.append(np.zeros(cells.d), 1.0))[1] > 1e-10


@dataclass(frozen=True, eq=False)
class _Local:
    """The piecewise constant field around a point on the `k` touched hyperplanes."""

    normals: np.ndarray  # (k, d)
    base: np.ndarray  # (d,)
    plus: np.ndarray  # (k,)
    minus: np.ndarray  # (k,)
    off: np.ndarray  # (k,) side on which the samples are off, 0 if there is none
    sign: float
    tie: float

    @classmethod
    def build(
        cls, cells: Cells, r: np.ndarray, base: np.ndarray, touched: np.ndarray, sign: float
    ) -> _Local:
        plus, minus = cells.sides(r)
        return cls(
            cells.normals[touched],
            base,
            plus[touched],
            minus[touched],
            -cells.single[touched],
            sign,
            cells.tie(r),
        )

    @property
    def independent(self) -> bool:
        return projector(self.normals)[1] == len(self.normals)

    @property
    def jump(self) -> np.ndarray:
        """Velocity on the + side less that on the - side; negative attracts."""
        return self.sign * (self.plus - self.minus)

    def field(self, sides: np.ndarray) -> np.ndarray:
        """D with every hyperplane on a side (nonzero codes only)."""
        return self.base + np.where(sides > 0, self.plus, self.minus) @ self.normals


def _select_one(local: _Local, came: int) -> tuple[int, bool]:
    normal_velocity = local.sign * float(local.normals[0] @ local.base)
    plus = normal_velocity + local.sign * float(local.plus[0])
    minus = normal_velocity + local.sign * float(local.minus[0])
    tie = local.tie
    if plus < minus - tie:  # attracting
        if minus < -tie:
            return -1, False
        return (1, False) if plus > tie else (0, False)
    if minus > tie:
        return 1, False
    if plus < -tie:
        return -1, False
    if came < 0:  # grazing arrival goes on; a rounded bounce turns back
        return (1, False) if minus >= -tie and plus > tie else (-1, False)
    if came > 0:
        return (-1, False) if plus <= tie and minus < -tie else (1, False)
    if local.off[0] != 0:
        return int(local.off[0]), True
    on_plus, on_minus = (np.linalg.norm(local.field(np.array([s]))) for s in (1, -1))
    return (1 if on_plus > on_minus else -1), True


def _box_least_squares(
    normals: np.ndarray, base: np.ndarray, ends: tuple[np.ndarray, np.ndarray], tie: float
) -> np.ndarray:
    """Return the element of ``base + sum zeta_g nu_g``, zeta in a box, of minimal norm.

    Block principal pivoting (Judice & Pires 1994) ends at the exact active set, however
    small one of the intervals is; a general bounded solver stops at its tolerance, which
    is larger than intervals that have nearly closed.
    """
    low, high = np.minimum(*ends), np.maximum(*ends)
    place = np.zeros(len(normals), dtype=np.int8)  # -1 at low, 0 inside, 1 at high
    fewest, patience = len(normals) + 1, 3
    best = base
    for _ in range(100 * (len(normals) + 1)):
        inside = place == 0
        zeta = np.where(place < 0, low, high)
        held = base + zeta[~inside] @ normals[~inside]
        zeta[inside] = multiplier_map(normals[inside]) @ held if np.any(inside) else 0.0
        best = held + zeta[inside] @ normals[inside]
        slope = normals @ best
        below, above = inside & (zeta < low - tie), inside & (zeta > high + tie)
        leave = ((place < 0) & (slope < -tie)) | ((place > 0) & (slope > tie))
        wrong = np.flatnonzero(below | above | leave)
        if len(wrong) == 0:
            break
        if len(wrong) < fewest:
            fewest, patience = len(wrong), 3
        elif patience > 0:
            patience -= 1
        else:
            wrong = wrong[-1:]  # Murty's rule: one at a time cannot cycle
        place[wrong] = np.where(below[wrong], -1, np.where(above[wrong], 1, 0))
    return best


def _select_independent(local: _Local, came: np.ndarray) -> tuple[np.ndarray, bool]:
    """Find sides, each confirmed by its own velocity; attracting ones may slide.

    Where all hyperplanes attract, the loss is convex around the point and the
    minimal-norm element is the only answer. Others must be crossed: their sides
    are tried, those that continue the motion first.
    """
    attracting = local.jump < -local.tie
    others = np.flatnonzero(~attracting)
    if len(others) > MAX_ENUMERATED:
        return _select_dependent(local)
    # Where the field does not jump, a neuron that nothing drives stays on its side.
    flat = local.jump[others] <= local.tie
    orders = [
        (-1, 1) if (came[g] > 0) != (still and came[g] != 0) else (1, -1)
        for g, still in zip(others, flat, strict=True)
    ]
    found: list[np.ndarray] = []
    for trial in product(*orders):
        held = np.where(np.array(trial) > 0, local.plus[others], local.minus[others])
        base = local.base + held @ local.normals[others]
        ends = (local.minus[attracting], local.plus[attracting])
        best = _box_least_squares(local.normals[attracting], base, ends, local.tie)
        velocity = local.sign * (local.normals @ best)
        if np.all(velocity[others] * np.array(trial) >= -local.tie):
            sides = np.where(velocity > local.tie, 1, np.where(velocity < -local.tie, -1, 0))
            sides[others] = trial
            found.append(sides.astype(np.int8))
    if not found:
        return _select_dependent(local)
    return found[0], len(found) > 1 and bool(np.any(local.jump[others] > local.tie))


def _select_dependent(local: _Local) -> tuple[np.ndarray, bool]:
    """Follow the minimal-norm element over the hull of the actual neighbouring cells."""
    best = minimal_norm(local.normals, local.base, local.plus, local.minus, local.sign)
    tie = max(local.tie, 1e-9 * float(np.linalg.norm(best)))
    velocity = local.sign * (local.normals @ best)
    if np.linalg.norm(best) <= 1e-9 * _field_size(local) or np.all(np.abs(velocity) <= tie):
        return np.zeros(len(velocity), dtype=np.int8), bool(np.any(local.jump > local.tie))
    sides = _follow(local, velocity, tie)
    return sides, bool(np.any(local.jump > local.tie))


def _field_size(local: _Local) -> float:
    return float(
        np.linalg.norm(local.base) + np.sum(np.maximum(np.abs(local.plus), np.abs(local.minus)))
    )


def minimal_norm(
    normals: np.ndarray, base: np.ndarray, plus: np.ndarray, minus: np.ndarray, sign: float
) -> np.ndarray:
    """Minimise ``||D||`` over the convex hull of the fields of the neighbouring cells.

    A cell that really exists is the one that a direction points into, so the
    candidates come from ``D`` at the direction of the present minimiser (Wolfe's
    conjugate-subgradient method): finite, and for a convex local loss exact. Else
    it stops at a direction in which the loss falls, or at the zero element.
    """
    from scipy.optimize import nnls

    def at(direction: np.ndarray) -> np.ndarray:
        side = sign * (normals @ direction)
        return base + np.where(side >= 0, plus, minus) @ normals

    size = np.linalg.norm(base) + np.sum(np.maximum(np.abs(plus), np.abs(minus)))
    if size == 0.0:
        return np.zeros_like(base)
    bundle = [at(base if np.any(base) else normals.sum(axis=0))]
    point = bundle[0]
    for _ in range(50 * (len(normals) + 1)):
        candidate = at(point)
        if candidate @ point >= point @ point - 1e-13 * size * np.linalg.norm(point):
            break
        if any(np.array_equal(candidate, old) for old in bundle):
            break
        bundle.append(candidate)
        # min ||sum mu_i D_i|| over the simplex as non-negative least squares.
        columns = np.array(bundle).T / size
        system = np.vstack([columns, np.ones(len(bundle))])
        weights = nnls(system, np.append(np.zeros(len(base)), 1.0))[0]
        weights /= weights.sum()
        point = size * (columns @ weights)
        if np.linalg.norm(point) <= 1e-12 * size:
            return np.zeros_like(base)
    return point


def _follow(local: _Local, start: np.ndarray, tie: float) -> np.ndarray:
    """Follow the local, piecewise constant flow until it crosses nothing more.

    Close to the point the field does not change in time, so the motion is a
    polygon whose last, unbounded edge is the way out at every scale.
    """
    margin = np.where(np.abs(start) <= tie, 0.0, start)
    sides = np.sign(margin)
    # Only attracting hyperplanes can hold w; on the others a side must be chosen.
    undecided = (sides == 0.0) & (local.jump >= -local.tie)
    sides[undecided] = np.where(local.off[undecided] != 0.0, local.off[undecided], 1.0)
    for _ in range(20 * (len(margin) + 1)):
        attracting = (margin == 0.0) & (local.jump < -local.tie)
        fixed = ~attracting
        held = np.where(sides[fixed] > 0, local.plus[fixed], local.minus[fixed])
        base = local.base + held @ local.normals[fixed]
        ends = (local.minus[attracting], local.plus[attracting])
        best = _box_least_squares(local.normals[attracting], base, ends, local.tie)
        velocity = local.sign * (local.normals @ best)
        velocity[np.abs(velocity) <= tie] = 0.0
        on_plane = margin == 0.0
        chosen = np.where(on_plane & (attracting | (velocity != 0.0)), np.sign(velocity), sides)
        if np.any(chosen[fixed] != sides[fixed]):
            sides = chosen  # crossed a hyperplane that does not attract: its field changes
            continue
        sides = chosen
        ahead = (margin != 0.0) & (margin * velocity < 0.0)
        if not np.any(ahead):
            return sides.astype(np.int8)
        times = np.full(len(margin), np.inf)
        times[ahead] = -margin[ahead] / velocity[ahead]
        step = times.min()
        margin = margin + step * velocity
        margin[times <= step * (1 + 1e-12)] = 0.0
    return sides.astype(np.int8)
