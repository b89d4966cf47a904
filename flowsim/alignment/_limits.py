"""Where walked neurons tend: the fields of their cells and the distinct limits."""

from __future__ import annotations

import numpy as np

from flowsim._rows import squares
from flowsim.alignment import _chunks, motion, neurons
from flowsim.cells import Cells, projector

#: Directions closer than this (in radians) are one limit.
SAME_DIRECTION = 1e-9


def fields_of(cells: Cells, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return D (C, d) of each cell or slide, projected, and the rank (C,) of its slides."""
    # One cell at a time: a product of all codes and inputs would round differently.
    fields = np.array([cells.field(cells.y, code) for code in codes]).reshape(-1, cells.d)
    rank = np.zeros(len(codes), dtype=np.int64)
    for c in np.flatnonzero(np.any(codes == 0, axis=1)):
        P, rank[c] = projector(cells.normals[codes[c] == 0])
        # Twice: where little is left, the first leaves as much off the slides by rounding.
        fields[c] = P @ (P @ fields[c])
    return fields, rank


def limits_of(
    walked: _chunks.Walked, tends: np.ndarray, fields: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return each neuron's limit, and the distinct directions, their D (scaled) and cells."""
    limit = np.full(len(tends), -1, dtype=np.int64)
    going = np.flatnonzero(tends != motion.NOWHERE)
    d = fields.shape[1]
    side = walked.whole[:, neurons.SIGN] * np.where(tends == motion.GROWS, 1, -1)
    key = 2 * walked.cell[going] + (side[going] > 0)
    present = np.bincount(key, minlength=2 * len(walked.codes)) > 0
    found: list[np.ndarray] = []
    first: list[int] = []
    row = np.empty(len(present), dtype=np.int64)
    for i in np.flatnonzero(present).tolist():
        cell = i // 2
        D = fields[cell]
        w = (1 if i % 2 else -1) * D / np.linalg.norm(D)
        near = np.linalg.norm(np.array(found).reshape(-1, d) - w, axis=1) <= SAME_DIRECTION
        row[i] = np.argmax(near) if near.any() else len(found)
        if not near.any():
            found.append(w)
            first.append(cell)
    limit[going] = row[key]
    return limit, np.array(found).reshape(-1, d), fields[first], walked.codes[first]


def invariant_drift(walked: _chunks.Walked) -> float:
    """Return max_j |a^2 - |w|^2 - const_j| / (a^2 + |w|^2)."""
    whole = walked.whole
    shift = np.clip(2 * (whole[:, neurons.GAP_EXPONENT] - whole[:, neurons.EXPONENT]), -2000, 1000)
    constant = np.ldexp(walked.real[:, neurons.GAP], shift.astype(np.int32))
    size = squares(walked.z)
    gap = walked.z[:, 0] ** 2 - squares(walked.z[:, 1:]) - constant
    return float(np.max(np.abs(gap[size > 0]) / size[size > 0], initial=0.0))
