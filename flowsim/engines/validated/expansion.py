"""Taylor coefficients of the flow inside its cells, by recurrence.

With ``V_c`` the sum of ``a_j w_j`` over the neurons of a cell c,

    r_i = [i = 0] y - sum_c G_c^T (V_c)_i,     D_c,i = B_c r_i,
    (i + 1) a_(i+1) = sum_l D_l . w_(i-l),     (i + 1) w_(i+1) = sum_l D_l a_(i-l).

The convolutions are matrix products: one for all neurons of a cell.
"""

from __future__ import annotations

from dataclasses import dataclass

from flint import arb, arb_mat

from flowsim.engines.validated.balls import ZERO, dot
from flowsim.engines.validated.system import Cell, System

Series = list[arb]


@dataclass(eq=False)
class Group:
    """The moving neurons of one cell, with their series.

    ``z`` has one row an order, the rows one after another: ``a_1, w_1, a_2, w_2, ...``.
    """

    cell: Cell
    neurons: list[int]
    z: list[arb]
    a_reversed: list[arb]  # rows a_1, a_2, ... of the latest order first
    w: list[arb]  # rows w_1 of all orders ..., for the product with a_reversed
    D: list[Series]  # (d) series
    D_reversed: list[Series]

    @classmethod
    def of(cls, cell: Cell, neurons: list[int], z0: list[list[arb]]) -> Group:
        """Begin the series of a group with the neurons' states (a, w)."""
        d = len(cell.B)
        group = cls(cell, neurons, [], [], [], [[] for _ in range(d)], [[] for _ in range(d)])
        group.append([v for z in z0 for v in z])
        return group

    @property
    def width(self) -> int:
        """Entries of a row: (d + 1) a neuron."""
        return len(self.neurons) * (len(self.D) + 1)

    def append(self, row: list[arb]) -> None:
        """Add the coefficients of the next order."""
        step = len(self.D) + 1
        self.z += row
        self.a_reversed[:0] = row[::step]
        for q in range(0, len(row), step):
            self.w += row[q + 1 : q + step]

    def product(self, i: int) -> list[arb]:
        """Return the coefficient i of the sum of ``a_j w_j`` over the neurons (d)."""
        length = (i + 1) * len(self.neurons)
        left = arb_mat(1, length, self.a_reversed)
        return (left * arb_mat(length, len(self.D), self.w)).entries()

    def push(self, D: list[arb]) -> None:
        """Add the coefficients of D of the next order."""
        for series, backward, value in zip(self.D, self.D_reversed, D, strict=True):
            series.append(value)
            backward.insert(0, value)

    def advance(self, i: int) -> None:
        """Add the coefficients i + 1 of the neurons."""
        d, step = len(self.D), len(self.D) + 1
        left = arb_mat(d, i + 1, [v for series in self.D_reversed for v in series])
        table = (left * arb_mat(i + 1, self.width, self.z)).entries()
        row: list[arb] = []
        for q in range(0, self.width, step):
            total = table[q + 1]
            for p in range(1, d):
                total = total + table[p * self.width + q + 1 + p]
            row.append(total / (i + 1))
            row += [table[p * self.width + q] / (i + 1) for p in range(d)]
        self.append(row)

    def series(self, index: int) -> list[Series]:
        """Return the (d + 1) series of the neuron at place `index` of the group."""
        step = len(self.D) + 1
        return [self.z[index * step + p :: self.width] for p in range(step)]


@dataclass(frozen=True, eq=False)
class Expansion:
    """Coefficients 0 to `order` of the groups, and of the residual."""

    groups: list[Group]
    r: list[Series]  # (n) series
    order: int


def expand(system: System, groups: list[Group], order: int) -> Expansion:
    """Compute the Taylor coefficients of all groups up to `order`."""
    r: list[Series] = [[] for _ in range(system.n)]
    for i in range(order + 1):
        new = list(system.y) if i == 0 else [ZERO] * system.n
        if not system.frozen:
            for group in groups:
                V = group.product(i)
                for k in range(system.n):
                    new[k] = new[k] - dot(V, (row[k] for row in group.cell.G))
        for series, value in zip(r, new, strict=True):
            series.append(value)
        for group in groups:
            group.push([dot(row, new) for row in group.cell.B])
            if i < order:
                group.advance(i)
    return Expansion(groups, r, order)
