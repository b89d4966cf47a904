"""One accepted step in a cell as a function of time, and the first event inside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from flowsim.cells import TOUCH
from flowsim.engines.frozen import FrozenCell, Series, margins, series, slide_margins, tie
from flowsim.engines.hermite import bernstein, coefficients, evaluate
from flowsim.engines.piecewise.roots import binomials, first_exit

_TABLE = 5  # degree of the interpolant


class Found(NamedTuple):
    """An event inside a step, at the time `tau` from its start.

    `column` of ``margins`` (``what`` "margin", or "sign" in the last column) or of
    ``slide_margins`` ("slide"). It falls to `level`: 0, or what is clearly on the wrong side
    where it starts at 0, as `flowsim.engines.piecewise.roots.first_exit` has it.
    """

    tau: float
    what: str
    neuron: int
    column: int
    level: float


@dataclass(frozen=True, eq=False)
class Stretch:
    """The interpolant of a step of length `h` between the states `z` and `z_end` of a cell."""

    cell: FrozenCell
    z: np.ndarray
    z_end: np.ndarray
    h: float

    @cached_property
    def before(self) -> Series:
        """Derivatives at the start."""
        return series(self.z, self.cell, np)

    @cached_property
    def after(self) -> Series:
        """Derivatives at the end."""
        return series(self.z_end, self.cell, np)

    @cached_property
    def _neurons(self) -> np.ndarray:
        return coefficients(self.before.z, self.after.z, self.h)

    @cached_property
    def _residual(self) -> np.ndarray:
        return coefficients(self.before.r, self.after.r, self.h)

    def at(self, tau: float) -> np.ndarray:
        """Return z(tau) (m, d+1)."""
        return evaluate(self._neurons, tau / self.h)

    def residual(self, tau: float) -> np.ndarray:
        """Return r(tau) (n,)."""
        return evaluate(self._residual, tau / self.h)

    def rates(self) -> np.ndarray:
        """Return ``||D_j||`` (m,) at the start, 0 for neurons that do not move."""
        return self.cell.alive * np.linalg.norm(self.before.D, axis=1)

    def first_event(self) -> Found | None:
        """Return the earliest margin, sign or multiplier that falls to zero, if one does."""
        ends = [margins(*state.z, self.cell) for state in (self.before, self.after)]
        best = self._earliest(ends, TOUCH, "margin", None)
        if best is not None and best.column == self.cell.side.shape[1]:
            best = best._replace(what="sign")
        if np.any(self.cell.watched):
            ends = [slide_margins(state, self.cell, np) for state in (self.before, self.after)]
            best = self._earliest(ends, tie(self.before.r[0], self.cell, np), "slide", best)
        return best

    def _earliest(
        self, ends: list[tuple[np.ndarray, ...]], touch: float, what: str, best: Found | None
    ) -> Found | None:
        """Return the earliest of `best` and the first roots of all columns that may have one."""
        lift = np.where(np.abs(ends[0][0]) <= touch, 2.0 * touch, 0.0)
        low = np.min([b + lift for b in bernstein(ends[0], ends[1], self.h)], axis=0)
        table = binomials(_TABLE)
        for j, column in np.argwhere(low <= 0.0):
            first, last = ([x[j, column] for x in end] for end in ends)
            c = coefficients(first, last, self.h)
            x = first_exit(c, 1.0, touch, table)
            if x >= 0.0 and (best is None or x * self.h < best.tau):
                value = float(evaluate(c, x))
                level = value if abs(first[0]) <= touch and value < -touch else 0.0
                best = Found(x * self.h, what, int(j), int(column), level)
        return best

    def excess(self, found: Found, z: np.ndarray) -> tuple[float, float]:
        """Return how far what `found` is about is above its level at a state, and its slope."""
        state = series(z, self.cell, np)
        if found.what == "slide":
            value, slope, _ = slide_margins(state, self.cell, np)
        else:
            value, slope, _ = margins(*state.z, self.cell)
        at = found.neuron, found.column
        return float(value[at]) - found.level, float(slope[at])


@dataclass(frozen=True, eq=False)
class Split:
    """A step with a state landed on inside it, near which the interpolant has no error left."""

    first: Stretch
    second: Stretch

    @classmethod
    def of(cls, e: Stretch, tau: float, z: np.ndarray) -> Split:
        """Split the step `e` at `tau`, where its state is `z`."""
        return cls(Stretch(e.cell, e.z, z, tau), Stretch(e.cell, z, e.z_end, e.h - tau))

    def at(self, tau: float) -> np.ndarray:
        """Return z(tau) (m, d+1)."""
        h = self.first.h
        return self.first.at(tau) if tau <= h else self.second.at(tau - h)

    def residual(self, tau: float) -> np.ndarray:
        """Return r(tau) (n,)."""
        h = self.first.h
        return self.first.residual(tau) if tau <= h else self.second.residual(tau - h)

    def rates(self) -> np.ndarray:
        """Return ``||D_j||`` (m,) at the start."""
        return self.first.rates()
