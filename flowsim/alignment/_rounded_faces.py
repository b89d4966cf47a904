"""Arrangements of float hyperplanes; those that meet up to rounding are taken to meet.

Which ones meet must make sense as a whole: the normals have a rank that rounding cannot change,
hyperplanes through a ray have rank r - 1, and any r - 1 independent ones of them lie in no other
ray. Nearly parallel hyperplanes may break this, for the closer they are, the less is known of
where they meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from flowsim.alignment._faces import Faces, Ray
from flowsim.cells import RANK_TOLERANCE

EPS = np.finfo(np.float64).eps
#: Singular values from here to `RANK_TOLERANCE` (relative) are small, but not by rounding.
_ROUNDING = 64 * EPS


class InconsistentError(ArithmeticError):
    """Rounding does not tell which hyperplanes meet."""


class RoundedArrangement(Faces):
    """The central arrangement of unit normals (G, d), no two of them parallel.

    Raises
    ------
    InconsistentError
        Here if rounding does not tell the rank, and by all visits if what meets up to rounding is
        no arrangement.
    """

    def __init__(self, normals: np.ndarray) -> None:
        self.normals = normals
        _, s, vt = np.linalg.svd(normals, full_matrices=False)
        self.size, self.rank = len(normals), int(np.sum(s > RANK_TOLERANCE * s[0]))
        if np.any((s > _ROUNDING * s[0]) & (s <= RANK_TOLERANCE * s[0])):
            raise InconsistentError("Rounding does not tell the rank of the normals.")
        self._basis = vt[: self.rank]
        self._local = {}

    def rays(self) -> Iterator[Ray]:
        N = self.normals @ self._basis.T
        # The ray that r - 1 hyperplanes meet in.
        ray_of: dict[tuple[int, ...], tuple[int, ...]] = {}
        seen: set[tuple[int, ...]] = set()
        for rows in combinations(range(self.size), self.rank - 1):
            smallest, v = 1.0, np.ones(1)
            if self.rank > 1:
                _, s, vt = np.linalg.svd(N[list(rows)])
                smallest, v = float(s[-1]), vt[-1]
            if smallest <= RANK_TOLERANCE:
                continue
            values = N @ v
            values[np.abs(values) <= max(RANK_TOLERANCE, _ROUNDING / smallest)] = 0.0
            on = tuple(np.flatnonzero(values == 0.0).tolist())
            if not set(rows) <= set(on) or ray_of.setdefault(rows, on) != on:
                raise InconsistentError("Hyperplanes that meet in one ray meet in another one too.")
            if len(on) > self.rank - 1:
                if on in seen:
                    continue
                self.restricted(on)
                seen.add(on)
                for some in combinations(on, self.rank - 1):
                    if ray_of.setdefault(some, on) != on and _independent(N[list(some)]):
                        raise InconsistentError("Independent hyperplanes meet in two rays.")
            yield Ray(tuple((v @ self._basis).tolist()), tuple(values.tolist()), on)

    def restricted(self, on: tuple[int, ...]) -> RoundedArrangement:
        arrangement = RoundedArrangement(self.normals[list(on)])
        if arrangement.rank != self.rank - 1:
            raise InconsistentError(
                f"Hyperplanes through a ray have rank {arrangement.rank}, not {self.rank - 1}."
            )
        return arrangement


def _independent(rows: np.ndarray) -> bool:
    return float(np.linalg.svd(rows, compute_uv=False)[-1]) > RANK_TOLERANCE
