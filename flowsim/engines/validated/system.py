"""The data and the cells of a flow in exact rational arithmetic, and as balls.

In the cell with the codes ``c`` the field of a neuron is linear in the residual,

    D = B r,   B = weight * P X^T diag(c),

with P the projector orthogonal to the hyperplanes that it slides on. The force that holds it
on such a hyperplane, ``zeta_g nu_g`` with ``nu_g . (D_0 + sum zeta_h nu_h) = 0``, is linear in r as
well, and so is its distance ``zeta_g - q_g^(+-)`` from what the samples exert on either side.
Whether such a row vanishes identically is decided exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from flint import arb, fmpq, fmpq_mat

from flowsim._hyperplanes import group_exactly
from flowsim.data import Dataset
from flowsim.engines.validated.balls import dot, norm, size

#: Codes of one neuron: +1 or -1 a hyperplane, 0 where it slides.
Code = tuple[int, ...]


def rational(value: Fraction) -> fmpq:
    """Return a Fraction as flint's."""
    return fmpq(value.numerator, value.denominator)


@dataclass(frozen=True, eq=False)
class Cell:
    """One cell: the field and the slides' conditions as rows over the residual.

    Attributes
    ----------
    G : list (d) of lists (n)
        Columns ``c_k P x_k``: ``h(x_k)`` is the sum of ``a w . G[:, k]``.
    B : list (d) of lists (n)
        ``weight * G``: ``D = B r``.
    bound : list (n)
        Upper bounds of ``||G[:, k]||``.
    gaps : dict
        For a slide g and a side s the row of ``zeta_g - q_g^s``; None where it is zero.
    exits : list of lists of (g, s)
        Ends of the slides; those whose rows are positive multiples of each other, reached at one
        time, together.
    P : list (d) of lists (d), or None
        The projector, where the cell slides.
    dead : bool
        No sample is on, and the slope is 0.
    """

    code: Code
    slides: tuple[int, ...]
    G: list[list[arb]]
    B: list[list[arb]]
    bound: list[arb]
    gaps: dict[tuple[int, int], list[arb] | None]
    exits: list[list[tuple[int, int]]]
    P: list[list[arb]] | None
    dead: bool
    exact_B: fmpq_mat


class System:
    """The exact data of a flow; cells are made when they are first met, at the present precision.

    Parameters
    ----------
    data : Dataset
    slope : float
        The negative slope; the float's exact value is meant.
    loss : {"half_mean", "mean"}
    frozen : bool
        Whether the residual stays y.
    """

    def __init__(self, data: Dataset, slope: float, loss: str, *, frozen: bool) -> None:
        self.data, self.frozen = data, frozen
        self.n, self.d = data.n, data.d
        self.X = [[rational(v) for v in row] for row in data.X_exact]
        self.y = [arb(rational(v)) for v in data.y_exact]
        self.slope = rational(Fraction(slope))
        self.weight = fmpq(2 if loss == "mean" else 1, data.n)
        planes = exact_hyperplanes(data)
        self.plane = planes.index.tolist()
        self.side = planes.orientation.astype(int).tolist()
        first = [self.plane.index(g) for g in range(len(planes.normals))]
        self.normals = [self.X[k] for k in first]
        self.ball_normals = [[arb(v) for v in nu] for nu in self.normals]
        self.normal_size = [norm(nu).upper() for nu in self.ball_normals]
        # x_k = ratio_k * nu of its hyperplane
        self.ratio = [_ratio(self.X[k], self.normals[g]) for k, g in enumerate(self.plane)]
        self._cells: dict[Code, Cell | None] = {}
        self._coupling: dict[tuple[Code, Code], arb] = {}

    @property
    def n_planes(self) -> int:
        return len(self.normals)

    def samples(self, plane: int) -> list[int]:
        """Return the samples of a hyperplane."""
        return [k for k in range(self.n) if self.plane[k] == plane]

    def cell(self, code: Code) -> Cell | None:
        """Return the cell of some codes; None where the hyperplanes of its slides depend."""
        if code not in self._cells:
            self._cells[code] = self._make(code)
        return self._cells[code]

    def moves(self, cell: Cell, plane: int) -> bool:
        """Whether the field of a cell can move w across a hyperplane: ``nu . B`` is not zero."""
        row = fmpq_mat([self.normals[plane]]) * cell.exact_B
        return any(v != 0 for v in row.entries())

    def coupling(self, p: Cell, q: Cell) -> arb:
        """Return an upper bound of the norm of ``B_p G_q^T``."""
        key = (p.code, q.code)
        if key not in self._coupling:
            self._coupling[key] = size(dot(b, g) for b in p.B for g in q.G)
        return self._coupling[key]

    def coefficients(self, code: Code) -> list[fmpq]:
        """Return sigma' at every sample (0 on slides, where ``w . x_k = 0``)."""
        values = {1: fmpq(1), -1: self.slope, 0: fmpq(0)}
        return [values[code[self.plane[k]] * self.side[k]] for k in range(self.n)]

    def is_dead(self, code: Code) -> bool:
        """Whether no sample is on, and none slides, at slope 0."""
        return self.slope == 0 and 0 not in code and not any(self.coefficients(code))

    def _make(self, code: Code) -> Cell | None:
        slides = tuple(g for g, c in enumerate(code) if c == 0)
        force = _force(self.normals, slides)
        if slides and force is None:
            return None
        c = self.coefficients(code)
        G = fmpq_mat([[c[k] * self.X[k][i] for k in range(self.n)] for i in range(self.d)])
        exact_gaps: dict[tuple[int, int], list[fmpq]] = {}
        P = None
        if force is not None:
            N = fmpq_mat([self.normals[g] for g in slides])
            zeta = force * G * self.weight
            for row, g in enumerate(slides):
                for s in (-1, 1):
                    exact_gaps[g, s] = self._gap([zeta[row, k] for k in range(self.n)], g, s)
            projector = _identity(self.d) + N.transpose() * force
            G = projector * G
            P = _balls(projector)
        B = G * self.weight
        balls = _balls(G)
        return Cell(
            code, slides, balls, _balls(B),
            [norm([row[k] for row in balls]).upper() for k in range(self.n)],
            {end: [arb(v) for v in row] if any(row) else None for end, row in exact_gaps.items()},
            _together(exact_gaps), P, self.slope == 0 and not any(c), B,
        )  # fmt: skip

    def _gap(self, zeta: list[fmpq], plane: int, side: int) -> list[fmpq]:
        """Return the row of ``zeta - q^side``."""
        row = list(zeta)
        for k in self.samples(plane):
            on = side * self.side[k] > 0
            row[k] -= self.weight * self.ratio[k] * (fmpq(1) if on else self.slope)
        return row


def exact_hyperplanes(data: Dataset):
    """Return the hyperplanes of the samples, told exactly.

    Raises
    ------
    ValueError
        If floats made samples parallel up to rounding, but not exactly.
    """
    planes = group_exactly(data.X, data.norms, data.X_exact)
    if len(planes.normals) != len(data.normals) or np.any(planes.index != data.hyperplane):
        raise ValueError(
            "Argument `data` must have samples that are parallel exactly or not at all, but some "
            "are parallel up to rounding only; give them as fractions or decimal strings."
        )
    return planes


def _ratio(x: list[fmpq], nu: list[fmpq]) -> fmpq:
    i = next(i for i, v in enumerate(nu) if v != 0)
    return x[i] / nu[i]


def _force(normals: list[list[fmpq]], slides: tuple[int, ...]) -> fmpq_mat | None:
    """Return ``-(N N^T)^{-1} N``; None where the rows of N depend, or there are none."""
    if not slides:
        return None
    N = fmpq_mat([normals[g] for g in slides])
    gram = N * N.transpose()
    return None if gram.det() == 0 else -(gram.inv() * N)


def _together(gaps: dict[tuple[int, int], list[fmpq]]) -> list[list[tuple[int, int]]]:
    """Return the ends by the ray that ``s (zeta_g - q_g^s)`` lies on, without those that vanish."""
    found: dict[tuple[fmpq, ...], list[tuple[int, int]]] = {}
    for (g, s), row in gaps.items():
        lead = next((v for v in row if v), None)
        if lead is not None:
            scale = abs(lead) * s  # the distance from the end is s times the row
            found.setdefault(tuple(v / scale for v in row), []).append((g, s))
    return list(found.values())


def _identity(d: int) -> fmpq_mat:
    return fmpq_mat([[int(i == j) for j in range(d)] for i in range(d)])


def _balls(matrix: fmpq_mat) -> list[list[arb]]:
    return [[arb(v) for v in row] for row in matrix.tolist()]
