"""Arrangements of float hyperplanes; those that meet up to rounding are taken to meet."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from flowsim.alignment._faces import Faces, Ray
from flowsim.cells import RANK_TOLERANCE

EPS = np.finfo(np.float64).eps


class RoundedArrangement(Faces):
    """The central arrangement of unit normals (G, d), no two of them parallel."""

    def __init__(self, normals: np.ndarray) -> None:
        self.normals = normals
        _, s, vt = np.linalg.svd(normals, full_matrices=False)
        self.size, self.rank = len(normals), int(np.sum(s > RANK_TOLERANCE * s[0]))
        self._basis = vt[: self.rank]
        self._local = {}

    def rays(self) -> Iterator[Ray]:
        N = self.normals @ self._basis.T
        seen: set[tuple[int, ...]] = set()
        for rows in combinations(range(self.size), self.rank - 1):
            smallest, v = 1.0, np.ones(1)
            if self.rank > 1:
                _, s, vt = np.linalg.svd(N[list(rows)])
                smallest, v = float(s[-1]), vt[-1]
            if smallest <= RANK_TOLERANCE:
                continue
            values = N @ v
            values[np.abs(values) <= max(RANK_TOLERANCE, 64 * EPS / smallest)] = 0.0
            on = tuple(np.flatnonzero(values == 0.0).tolist())
            if len(on) > self.rank - 1:
                if on in seen:
                    continue
                seen.add(on)
            yield Ray(tuple((v @ self._basis).tolist()), tuple(values.tolist()), on)

    def restricted(self, on: tuple[int, ...]) -> RoundedArrangement:
        return RoundedArrangement(self.normals[list(on)])
