"""What the closed-form walk needs to know of the data, as plain arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowsim.cells import Cells

#: A Gram matrix of more bytes than this is not stored; its rows are computed when needed.
GRAM_BYTES = 2**28


class Plan(NamedTuple):
    """Data of the frozen flow, r = y, for the compiled kernels.

    On its sides -1 and +1 hyperplane g adds ``q[0, g] nu_g`` and ``q[1, g] nu_g`` to D, so
    that D changes by one normal at each crossing, and every ``nu_h . D`` by an entry of the
    Gram matrix.
    """

    normals: np.ndarray  # (d, G), a row a coordinate
    gram: np.ndarray  # (G, G), or (0, 0) where that is too large
    q: np.ndarray  # (2, G)
    on: np.ndarray  # (2, G) int64, samples that are on at each side
    single: np.ndarray  # (G,) int64, side at which all samples are on, 0 if there is none
    tie: float  # velocities below this are zero, up to rounding
    dies: bool  # a neuron off on every sample stands still (ReLU)


def plan_of(cells: Cells) -> Plan:
    """Return the plan of the flow frozen at r = y."""
    normals = np.ascontiguousarray(cells.normals.T)
    planes = cells.n_hyperplanes
    small = 8 * planes**2 <= GRAM_BYTES
    plus, minus = cells.sides(cells.y)
    positive = cells.orientation > 0
    on = [np.bincount(cells.index[who], minlength=planes) for who in (~positive, positive)]
    return Plan(
        normals=normals,
        gram=normals.T @ normals if small else np.empty((0, 0)),
        q=np.array([minus, plus]),
        on=np.array(on, dtype=np.int64),
        single=cells.single.astype(np.int64),
        tie=cells.tie(cells.y),
        dies=cells.slope == 0.0,
    )
