"""The arrangement of the data's hyperplanes: its cells and faces, visited or counted.

The hyperplanes ``{w : nu_g . w = 0}`` cut the sphere of directions into faces, each with one code
a hyperplane: +1, -1, or 0 on it. In general position, that is if any r of the normals are
independent in their span of dimension r, there are ``2 sum_{k<r} C(G-1, k)`` cells (Cover 1965,
Geometrical and statistical properties of systems of linear inequalities, theorem 1), and every
face is visited exactly once, without memory of the others, by the sweep of
`flowsim.alignment._sweep` in the following charts.

1. Faces on the positive side of hyperplane 0 lie in the chart ``nu_0 . w = 1``; their negatives
   are the faces on the negative side. Faces inside hyperplane 0 are those of the r - 1 dimensional
   arrangement that the others cut out there, and so on (a *stage* for each).
2. In a chart those bounded below along a generic h_1 have one lowest vertex each. The others
   reach infinity, ``nu_0 . w = 0``, with h_1 < 0: they correspond to the faces of the arrangement
   at infinity that meet the chart ``h_1 . w = -1``; and so on with h_2, ... (a *level* for each).

Data in special position (parallel samples and antipodal ones are not, they share a hyperplane) are
enumerated around the rays of the arrangement by `flowsim.alignment._faces`, at a higher cost; so
are nearly parallel floats, in exact arithmetic if rounding does not tell which of them meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, combinations, islice
from math import comb

import numpy as np

from flowsim._cores import available_cores
from flowsim.cells import RANK_TOLERANCE
from flowsim.data import Dataset

#: Work items of one thread at a time: about this many vertices.
_CHUNK = 200_000
_ATTEMPTS = 5


class DegenerateError(ArithmeticError):
    """Hyperplanes meet that do not in general position, or rounding cannot tell."""


def cell_count(hyperplanes: int, rank: int) -> int:
    """Return ``2 sum_{k<r} C(G-1, k)``, the number of cells in general position, else a bound."""
    return 2 * sum(comb(hyperplanes - 1, k) for k in range(rank))


def face_count(hyperplanes: int, rank: int) -> int:
    """Return the number of faces but the origin in general position, else a bound on it.

    A face of codimension k is a cell of the arrangement inside k of the hyperplanes; this is
    what `extremal_vectors` visits.
    """
    return sum(comb(hyperplanes, k) * cell_count(hyperplanes - k, rank - k) for k in range(rank))


def row_space(normals: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis (d, r) of the span of the rows (G, d)."""
    _, s, vt = np.linalg.svd(normals, full_matrices=False)
    return np.ascontiguousarray(vt[: int(np.sum(s > RANK_TOLERANCE * s[0]))].T)


def count(data: Dataset, *, exact: bool = False) -> int:
    """Count the cells of the data's hyperplanes by visiting them all.

    Parameters
    ----------
    data : Dataset
        Only its inputs matter.
    exact : bool
        Enumerate in exact arithmetic, as is done anyway for rational inputs in special position;
        float ones are in special position if they are up to rounding, and taken as their binary
        values if rounding does not tell.

    Raises
    ------
    TypeError
        If `data` is not a Dataset.
    """
    _check(data)
    if not exact:
        with suppress(DegenerateError):
            return Sweep(data.normals @ row_space(data.normals)).count()
    return len(cells(data, exact=exact))


def cells(data: Dataset, *, exact: bool = False) -> np.ndarray:
    """Return the codes (C, G) int8 of all cells, the sides of `data.normals` that they are on.

    Each cell comes once, in lexicographic order; arguments and errors as for `count`.
    """
    _check(data)
    if not exact:
        with suppress(DegenerateError):
            codes = Sweep(data.normals @ row_space(data.normals)).cells()
            return codes[np.lexsort(codes.T[::-1])]
    return np.array(sorted(_special_cells(data, exact or data.rational)), dtype=np.int8)


def _special_cells(data: Dataset, exact: bool) -> set[tuple[int, ...]]:
    from flowsim.alignment._exact_faces import ExactArrangement, integer_normals
    from flowsim.alignment._rounded_faces import InconsistentError, RoundedArrangement

    if not exact:
        with suppress(InconsistentError):
            return RoundedArrangement(data.normals).cells()
    return ExactArrangement(integer_normals(data)).cells()


def _check(data: Dataset) -> None:
    if not isinstance(data, Dataset):
        raise TypeError(
            f"Argument `data` must be a flowsim.Dataset, but it is a {type(data).__name__}."
        )


@dataclass(frozen=True, eq=False)
class _Level:
    """A chart of an m-dimensional space; see `flowsim.alignment._sweep.sweep_lines`."""

    active: np.ndarray
    A: np.ndarray
    f: np.ndarray
    h: np.ndarray
    chart: int
    zeros: np.ndarray

    @property
    def m(self) -> int:
        return self.A.shape[1]

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield the lines, m - 2 rows of A each, in arrays of bounded size."""
        size = max(1, _CHUNK // len(self.A))
        lines = combinations(range(len(self.A)), self.m - 2)
        while chunk := list(islice(lines, size)):
            yield np.array(chunk, dtype=np.int64).reshape(len(chunk), self.m - 2)


@dataclass(frozen=True, eq=False)
class Sweep:
    """Visits of all faces of a simple arrangement; threads share the work.

    Parameters
    ----------
    N : (G, r)
        Unit normals of full rank r.
    plus, minus : (G,)
        What each hyperplane contributes to D along its normal on its two sides, see
        `flowsim.cells`; zero by default.

    Raises
    ------
    DegenerateError
        By all methods, if the arrangement is not simple or rounding cannot tell.
    """

    N: np.ndarray
    plus: np.ndarray | None = None
    minus: np.ndarray | None = None

    def count(self) -> int:
        """Return the number of cells."""
        from flowsim.alignment import _sweep

        return sum(n for n, _, _ in self._run(_sweep.COUNT, stages=1))

    def cells(self) -> np.ndarray:
        """Return the codes (C, G) of all cells."""
        from flowsim.alignment import _sweep

        return np.concatenate([codes for _, codes, _ in self._run(_sweep.CELLS, stages=1)])

    def extremal(self, tol: float) -> tuple[np.ndarray, np.ndarray]:
        """Propose critical directions of ``w . D(w)``, and the cells whose D is zero.

        Returns
        -------
        codes : (p, G)
            Faces that contain ``+-D`` of their own up to `tol`, with multipliers in their
            intervals.
        directions : (p, r)
            The field D of the face, turned into the face; zero for a cell with D = 0.
        """
        from flowsim.alignment import _sweep

        found = self._run(_sweep.EXTREMAL, stages=self.N.shape[1], tol=tol)
        codes, directions = zip(*[(codes, points) for _, codes, points in found], strict=True)
        return np.concatenate(codes), np.concatenate(directions)

    def farthest(self, target: np.ndarray) -> tuple[np.ndarray, int]:
        """Return the D of a cell that is farthest from `target`, and the number of cells."""
        from flowsim.alignment import _sweep

        found = self._run(_sweep.FARTHEST, stages=1, target=target)
        best = max((p[0] for _, _, p in found), key=lambda D: float(np.sum((D - target) ** 2)))
        return best, sum(n for n, _, _ in found)

    def _run(
        self, mode: int, stages: int, target: np.ndarray | None = None, tol: float = 0.0
    ) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """Sweep all charts, again along other heights if one of them was unlucky."""
        for attempt in range(_ATTEMPTS):
            with ThreadPoolExecutor(available_cores()) as pool:
                levels = list(self._levels(stages, attempt))
                jobs = chain.from_iterable(
                    ((level, lines) for lines in level.chunks()) if level.m > 1 else [(level, None)]
                    for level in levels
                )
                results = list(
                    pool.map(lambda job: self._visit(job[0], job[1], mode, target, tol), jobs)
                )
            if all(result is not None for result in results):
                return [result for result in results if result is not None]
        raise DegenerateError("No generic height was found.")

    def _levels(self, stages: int, seed: int) -> Iterator[_Level]:
        rng = np.random.default_rng(seed)
        G, r = self.N.shape
        for i in range(stages):
            if np.linalg.svd(self.N[: i + 1])[1][-1] < RANK_TOLERANCE:
                raise DegenerateError("The first normals are dependent.")
            inside = np.linalg.svd(self.N[:i])[2][i:].T if i else np.eye(r)
            rank = r - i
            heights = np.vstack([self.N[i] @ inside, rng.standard_normal((rank, rank))])
            flag = np.linalg.qr(heights[:rank].T)[0]
            for m in range(rank, 0, -1):
                basis = inside @ flag[:, rank - m :]
                sign = 1.0 if m == rank else -1.0
                f, h = (heights[rank - m + j] @ flag[:, rank - m :] for j in (0, 1))
                active = np.arange(i + 1, G)
                if len(active) >= m - 1:
                    A = np.ascontiguousarray(self.N[active] @ basis)
                    yield _Level(active, A, sign * f, h, i, np.arange(i))

    def _visit(
        self, level: _Level, lines: np.ndarray | None, mode: int, target: np.ndarray | None,
        tol: float,
    ) -> tuple[int, np.ndarray, np.ndarray] | None:  # fmt: skip
        """Return (count, codes, points), or None if the height was unlucky."""
        from flowsim.alignment import _sweep

        G, r = self.N.shape
        plus = np.zeros(G) if self.plus is None else self.plus
        minus = np.zeros(G) if self.minus is None else self.minus
        goal = np.zeros(r) if target is None else target
        capacity = 16 if mode == _sweep.EXTREMAL else 0
        while True:
            codes = np.empty((capacity, G), np.int8)
            points = np.array([goal, goal]) if mode == _sweep.FARTHEST else np.empty((capacity, r))
            where = (level.chart, level.zeros, self.N, plus, minus, goal, tol, codes, points)
            if lines is None:
                status, n = _sweep.visit_point(mode, level.active, level.A, level.f, *where)
            else:
                status, n = _sweep.sweep_lines(
                    mode, lines, level.active, level.A, level.f, level.h, *where
                )
            if status == _sweep.DEGENERATE:
                raise DegenerateError("Hyperplanes meet that do not in general position.")
            if status == _sweep.UNLUCKY:
                return None
            if mode in (_sweep.COUNT, _sweep.FARTHEST) or n <= capacity:
                stored = n if mode in (_sweep.CELLS, _sweep.EXTREMAL) else len(points)
                return n, codes[:n], points[:stored]
            capacity = n
