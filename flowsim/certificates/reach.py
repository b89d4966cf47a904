"""Which hyperplanes neurons may reach while they turn, and what they are to them then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowsim._distinct import distinct_rows
from flowsim.cells import TOUCH
from flowsim.certificates.proposal import NoClaimError, Proposal, View
from flowsim.certificates.slides import STRICT, field_scale, open_planes

#: Neurons below this part of the largest mass need not belong to the core.
LIGHT = 1e-3
#: Neurons that are looked at together.
CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Near:
    """Hyperplanes that neurons may reach and are not yet said to.

    Attributes
    ----------
    neurons : (k,) int
        Those that may reach some, in order.
    planes, touching : (k, G) bool
        Which, and which of those they lie on.
    """

    neurons: np.ndarray
    planes: np.ndarray
    touching: np.ndarray


def near_planes(view: View, p: Proposal, angle: np.ndarray) -> Near | None:
    """Return what neurons may reach that turn by `angle`, given for each kind; None for nothing."""
    bound = np.where(angle < 1.5, np.sin(np.minimum(angle, 1.5)), 1.0) + TOUCH
    free = ~((p.code == 0) | p.walls | p.open)
    moving = p.having("core", "carried")
    found = []
    for first in range(0, len(moving), CHUNK):
        some = moving[first : first + CHUNK]
        kind = p.number[some]
        sine = np.abs(view.sine(some))
        planes = sine <= bound[kind][:, None]
        planes &= free[kind]
        rows = np.flatnonzero(np.any(planes, axis=1))
        found.append((some[rows], planes[rows], planes[rows] & (sine[rows] <= TOUCH)))
    near = Near(*(np.concatenate(x) for x in zip(*found, strict=True)))
    return near if len(near.neurons) else None


def loosened(view: View, p: Proposal, near: Near, angle: np.ndarray) -> Proposal:
    """Return the proposal in which hyperplanes that are near are open or walls.

    Raises
    ------
    NoClaimError
        If they may be neither.
    """
    let_go = _let_go(view, p, near)
    if p.everything:
        opened, walled = near.planes & ~let_go[:, None], np.zeros_like(near.planes)
    else:
        opened, walled = _opened_and_walls(view, p, near, angle)
    touched = near.touching & (opened | walled)
    table = np.concatenate([opened, walled, touched, let_go[:, None]], axis=1)
    mark, row = np.zeros((2, len(view.alive)), dtype=np.int64)
    mark[near.neurons] = 1 + distinct_rows(table.astype(np.int8))[1]
    row[near.neurons] = np.arange(len(near.neurons))
    p = p.split(mark)
    kinds = np.flatnonzero(mark[p.first])
    at = row[p.first[kinds]]
    p.open[kinds] |= opened[at]
    p.walls[kinds] |= walled[at]
    p.held[kinds] |= touched[at]
    p.roles[kinds[let_go[at]]] = "free"
    return p


def _let_go(view: View, p: Proposal, near: Near) -> np.ndarray:
    """Mark those of the neurons that need not be watched: light ones, where all labels fit."""
    out = np.zeros(len(view.alive), dtype=bool)
    if p.everything:
        out[near.neurons] = view.mass[near.neurons] < LIGHT * np.max(view.mass)
        if np.all(out[p.having("core")]):
            out[:] = False
    return out[near.neurons]


def _opened_and_walls(
    view: View, p: Proposal, near: Near, angle: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mark (k, G) what the core can follow a crossing of, and what neurons do not pass."""
    cells = view.cells
    kind = p.number[near.neurons]
    pull = cells.sides(p.r_star)
    jump = p.sign[kind][:, None] * (pull[0] - pull[1])[None, :]
    attracts = jump < -STRICT * field_scale(cells, p.r_star)
    opened = near.planes & open_planes(cells, p.basis)[None, :]
    walled = near.planes & ~opened & attracts
    if np.any(left := near.planes & ~opened & ~walled):
        i, g = np.argwhere(left)[0]
        reach = abs(float(view.sine(near.neurons[i : i + 1])[0, g]))
        wait = float(np.log(max(angle[kind[i]] / max(reach, 1e-12), 2.0))) / p.mu
        sample = int(np.flatnonzero(cells.index == g)[0])
        raise NoClaimError(
            f"neuron {view.alive[near.neurons[i]]} may cross the hyperplane of sample {sample}",
            wait,
        )
    return opened, walled
