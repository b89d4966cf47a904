"""Hypothesis H5 in balls: slides stay slides, and no neuron passes through its walls.

While ``|e| <= |e0|``, for every set T of walls that a neuron may touch, the field that keeps it on
its slides S and on T is ``D + Σ ζ_g x_g`` with ``x_h . (D + Σ ζ_g x_g) = 0``. Each condition is
linear in ``r = r* + e``, so it holds if its value at r* exceeds ``|P_V row| |e0|``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

from flint import arb, arb_mat

from flowsim.certificates.balls import NotProvedError, arb_column, ball, dot, matrix, norm
from flowsim.certificates.basis import Basis
from flowsim.certificates.claim import Neuron
from flowsim.certificates.placed import gram_inverse
from flowsim.certificates.planes import Data

#: A neuron with more walls is not looked at: all their subsets are.
MOST_WALLS = 8


@dataclass(frozen=True, eq=False)
class Forces:
    """The conditions at one limit: r*, and the size of e."""

    data: Data
    basis: Basis
    r_star: Sequence[arb]
    size: arb  # |e0|
    faded: arb  # bound of the part of r - r* outside of V

    def check(self, j: int, neuron: Neuron) -> arb:
        """Check H5 for a neuron; return the least slack, relative to what it must exceed.

        Raises
        ------
        NotProvedError
            With the sample.
        """
        slack = arb(1)
        for g, what, row, blur in self._conditions(neuron):
            where = f"{what} of neuron {j} on sample {self.data.leader[g]}"
            slack = slack.min(self.positive([neuron.sign * x for x in row], blur, where))
        return slack

    def positive(self, row: Sequence[arb], blur: arb, what: str) -> arb:
        """Check that ``row . r > 0`` for all r that may come; return the slack.

        Raises
        ------
        NotProvedError
            With `what`.
        """
        value, need = self.range(row, blur)
        if not value > need:
            raise NotProvedError(
                f"{what}: its condition is {float(value.mid()):.3g}, and must exceed "
                f"{float(need.mid()):.3g}"
            )
        return (value - need) / value

    def range(self, row: Sequence[arb], blur: arb) -> tuple[arb, arb]:
        """Return ``row . r*``, and by how much ``row . r`` may differ from it."""
        reach = (self.basis.length(list(row)) + blur) * self.size + norm(row) * self.faded
        return dot(row, self.r_star), reach

    def _conditions(self, neuron: Neuron) -> Iterator[tuple[int, str, list[arb], arb]]:
        """Yield hyperplane, name, row and blur: ``sign a · row . r`` must be positive."""
        slides, walls = neuron.slides, neuron.walls
        if len(walls) > MOST_WALLS:
            raise NotProvedError(f"a neuron has more than {MOST_WALLS} walls")
        none = arb(0)
        for g in (*slides, *walls):
            yield g, "the attraction", [-x for x in self._kink(g)], none
        every = chain.from_iterable(combinations(walls, k) for k in range(len(walls) + 1))
        for touched in every:
            yield from self._held(neuron, slides, touched)

    def _held(
        self, neuron: Neuron, slides: tuple[int, ...], touched: tuple[int, ...]
    ) -> Iterator[tuple[int, str, list[arb], arb]]:
        planes = (*slides, *touched)
        if not planes:
            return
        if not self.data.independent(planes):
            if not touched:
                raise NotProvedError("a neuron slides on linearly dependent hyperplanes")
            return  # multipliers of independent ones suffice (Carathéodory)
        N = matrix([self.data.normal[g] for g in planes])
        pull = gram_inverse(N) * N
        rows = self._rows(pull, neuron)
        blurs = self._blurs(pull, neuron)
        for g, row, blur in zip(planes, rows, blurs, strict=True):
            plus, minus = self._side(g, 1), self._side(g, -1)
            if g in slides:
                yield g, "the slide", [z - p for z, p in zip(row, plus, strict=True)], blur
                yield g, "the slide", [q - z for z, q in zip(row, minus, strict=True)], blur
            else:
                jump = [q - p for p, q in zip(plus, minus, strict=True)]
                own = neuron.code[g]
                yield g, "the wall", [b - own * z for b, z in zip(jump, row, strict=True)], blur

    def _rows(self, pull: arb_mat, neuron: Neuron) -> list[list[arb]]:
        """Return the multipliers ζ as rows: ``ζ_g = row_g . r``."""
        omega = ball(self.data.weight)
        c = [-omega * x for x in self.data.factors(neuron.code)]
        reach = (pull * self.data.x.transpose()).tolist()
        return [[ck * x for ck, x in zip(c, row, strict=True)] for row in reach]

    def _blurs(self, pull: arb_mat, neuron: Neuron) -> list[arb]:
        """Return how much ζ may change, over ``|e|``, as open hyperplanes are crossed."""
        out = [arb(0)] * pull.nrows()
        for o in neuron.open:
            moved = (pull * arb_column(self.data.normal[o])).entries()
            size = self.basis.length(self._kink(o))
            out = [b + abs(x) * size for b, x in zip(out, moved, strict=True)]
        return out

    def _side(self, g: int, side: int) -> list[arb]:
        """Return the row of ``u±``, what hyperplane g adds to the field in units of ``x_g``."""
        row = [arb(0)] * self.data.n
        for k in self.data.members[g]:
            s = self.data.scale[k]
            on = (s > 0) == (side > 0)
            row[k] = ball(self.data.weight * s * (1 if on else self.data.slope))
        return row

    def _kink(self, g: int) -> list[arb]:
        """Return the row of ``u⁺ - u⁻``."""
        factor = self.data.weight * (1 - self.data.slope)
        row = [arb(0)] * self.data.n
        for k, size in self.data.kink(g):
            row[k] = ball(factor * size)
        return row
