"""What the limit says of slides in floating point: which hold, which are walls or open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from flowsim._distinct import distinct_rows
from flowsim.cells import Cells, multiplier_map, projector
from flowsim.certificates.proposal import NoClaimError, Proposal, View
from flowsim.stationarity.limits import feature_range, least_squares_residual

#: A condition of this relative size is not met.
STRICT = 1e-9
#: Columns within this part of their size of V lie in it.
IN_RANGE = 1e-8
#: So much of a column's square lies in V at least where the column does.
CLOSE = 1.0 - 1e-6
#: How often slides are looked at anew before it is given up.
ROUNDS = 6


def with_edges(view: View, p: Proposal) -> Proposal:
    """Return the proposal in which no slide's multiplier tends to an end.

    Where the core fits what a kink changes, r* does not push there: the hyperplane is open. Where
    the multiplier tends to 0 or 1 because other neurons hold r* orthogonal to the features of
    that side's cell, too, it is a wall.
    """
    cells = view.cells
    for _ in range(ROUNDS):
        code, walls = p.code.copy(), p.walls.copy()
        moving = np.isin(p.roles, ("core", "carried"))
        opened = (code == 0) & open_planes(cells, p.basis) & moving[:, None]
        if np.any(opened):
            p = _on_new_cells(view, replace(p, open=p.open | opened), np.where(opened, 1, code))
            continue
        for kinds, g, side, condition in _slide_conditions(view, p):
            value = p.sign[kinds[0]] * float(condition @ p.r_star)
            if abs(value) <= STRICT * field_scale(cells, p.r_star):
                code[kinds, g], walls[kinds, g] = side, True
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
    """Yield kinds, hyperplane, side and row: ``sign(a) row . r > 0`` keeps them off that side."""
    cells = view.cells
    moving = p.kinds("core", "carried")
    sliding = moving[np.any(p.code[moving] == 0, axis=1)]
    if len(sliding) == 0:
        return
    keys = np.column_stack([p.code[sliding], p.walls[sliding], p.sign[sliding]]).astype(np.int8)
    first, number = distinct_rows(keys)
    plus, minus = cells.side_coefficients
    moment = cells.weight * cells.orientation * cells.norms
    for i, kind in enumerate(sliding[first]):
        planes = np.flatnonzero(p.code[kind] == 0)
        normals = cells.normals[planes]
        if projector(normals)[1] < len(planes):
            raise NoClaimError("a neuron slides on linearly dependent hyperplanes")
        rows = (
            cells.weight * (multiplier_map(normals) @ cells.X.T) * cells.coefficients(p.code[kind])
        )
        for row, g in zip(rows, planes.tolist(), strict=True):
            here = np.where(cells.index == g, moment, 0.0)
            yield sliding[number == i], g, 1, row - here * plus
            yield sliding[number == i], g, -1, here * minus - row


def check_slides(view: View, p: Proposal, size: float) -> None:
    """Check that slides stay slides while ``|e| <= size``; walls are left to the proof."""
    if p.everything:
        return
    cells = view.cells
    for kinds, g, _, condition in _slide_conditions(view, p):
        j = p.first[kinds[0]]
        value = p.sign[kinds[0]] * float(condition @ p.r_star)
        need = float(np.linalg.norm(condition @ p.basis)) * size
        sample = int(np.flatnonzero(cells.index == g)[0])
        if value <= STRICT * field_scale(cells, p.r_star):
            raise NoClaimError(f"the slide of neuron {view.alive[j]} on sample {sample} will end")
        if value <= need:
            raise NoClaimError(
                f"the slide of neuron {view.alive[j]} on sample {sample} may end before the "
                "residual is small",
                float(np.log(max(need / value, 1.0) / 0.5)) / p.mu,
            )


def open_planes(cells: Cells, Q: np.ndarray) -> np.ndarray:
    """Mark hyperplanes (G,) whose kink lies in the span of Q."""
    size = np.bincount(cells.index, weights=cells.norms**2, minlength=cells.n_hyperplanes)
    within = np.zeros((cells.n_hyperplanes, Q.shape[1]))
    np.add.at(within, cells.index, cells.norms[:, None] * Q)
    # Few are close to the span, and only they are looked at closely.
    some = np.flatnonzero(np.sum(within**2, axis=1) >= CLOSE * size)
    kink = np.where(cells.index[:, None] == some, cells.norms[:, None], 0.0)
    rest = kink - Q @ (Q.T @ kink)
    out = np.zeros(cells.n_hyperplanes, dtype=bool)
    out[some] = np.linalg.norm(rest, axis=0) <= IN_RANGE * np.linalg.norm(kink, axis=0)
    return out


def field_scale(cells: Cells, r: np.ndarray) -> float:
    return cells.weight * float(np.sum((np.abs(r) + np.abs(cells.y)) * cells.norms))
