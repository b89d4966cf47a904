"""Scales of a run's units, and the sizes that errors are relative to."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np

from flowsim.engines._vectors import Layout
from flowsim.engines.problem import Tree
from flowsim.engines.smooth_problem import SmoothArguments
from flowsim.models.objective import Objective

#: Exponents of scales stay within this, so that 1/scale and scale**2 * (1/scale) are finite.
LARGEST_EXPONENT = 1000
#: Units that have moved by more than this factor are rescaled.
DRIFT = 4.0
#: What a size does not fall below in any case.
SMALLEST = 2.0**-1000


@dataclass(frozen=True, eq=False)
class Frame:
    """The variables that states are given in: arguments, and the scale (P,) of each entry."""

    args: SmoothArguments
    scale: np.ndarray


class Scaling:
    """The units' scales in the course of a run, and the arguments that they make.

    A unit's error counts relative to its norm. A unit that is zero at the start has none yet:
    its size is at least the initial scale of the run, λ. Nor can an error be smaller than what
    rounding does: `tolerate` lifts the floor of a part, a unit's entries in one leaf, to that,
    such as a bias that tends to 0 while the terms of its velocity, which cancel, do not.
    """

    def __init__(self, objective: Objective, layout: Layout) -> None:
        self.objective = objective
        self.units = layout.flatten(objective.units, np)
        sizes = self._norms(layout.flatten(objective.parameters, np))
        self.zero = sizes == 0.0
        with np.errstate(divide="ignore"):
            self.start = np.where(self.zero, np.inf, np.log(sizes))
        self.exponent = _exponents(np.where(self.zero, objective.initial_scale, sizes))
        #: The unit of each part.
        self._parts = Layout.of(objective.units)
        self._unit = self._parts.flatten(objective.units, np)
        self._rounding = np.zeros(len(self._unit))
        self._renew()

    def _norms(self, flat: np.ndarray) -> np.ndarray:
        count = self.objective.n_units
        largest = np.zeros(count)
        np.maximum.at(largest, self.units, np.abs(flat))
        safe = np.where(largest > 0.0, largest, 1.0)
        squares = np.bincount(self.units, (flat / safe[self.units]) ** 2, minlength=count)
        return np.where(largest > 0.0, safe * np.sqrt(squares), 0.0)

    def _renew(self) -> None:
        scale = np.ldexp(1.0, self.exponent)
        lowest = np.where(self.zero, self.objective.initial_scale / scale, SMALLEST)
        floor = np.maximum(lowest[self._unit], self._rounding)
        args = SmoothArguments(
            objective=self.objective.args,
            scale=jax.tree.map(lambda unit: scale[unit], self.objective.units),
            units=self.objective.units,
            floor=self._parts.unflatten(floor),
            start=self.start - np.log(2.0) * self.exponent,
        )
        self.frame = Frame(args, scale[self.units])

    def rescale(self, y: np.ndarray) -> np.ndarray:
        """Return the flat variables, rescaled where units have moved by more than `DRIFT`."""
        sizes = self._norms(y)
        moved = (sizes > DRIFT) | ((sizes > 0.0) & (sizes < 1.0 / DRIFT))
        by = np.where(moved, _exponents(np.where(moved, sizes, 1.0)), 0)
        by = np.clip(self.exponent + by, -LARGEST_EXPONENT, LARGEST_EXPONENT) - self.exponent
        if not np.any(by):
            return y
        self.exponent = self.exponent + by
        self._rounding = np.ldexp(self._rounding, -by[self._unit])
        self._renew()
        return np.ldexp(y, -by[self.units])

    def tolerate(self, y: np.ndarray, error: Tree) -> None:
        """Let sizes not fall below `error`, like the units, in the variables y, where y does.

        By powers of two, and only where the floor is far off: new arguments make a multistep
        solver start anew.
        """
        least = self._parts.flatten(error, np)
        bites = least > self._norms(y)[self._unit] / DRIFT
        floor = np.where(bites, np.ldexp(1.0, _exponents(np.where(bites, least, 1.0))), 0.0)
        off = (floor > DRIFT * self._rounding) | (DRIFT * floor < self._rounding)
        if np.any(off):
            self._rounding = np.where(off, floor, self._rounding)
            self._renew()


def _exponents(sizes: np.ndarray) -> np.ndarray:
    """Return the exponents of the nearest powers of two, within the range allowed."""
    exponent = np.rint(np.log2(sizes)).astype(np.int64)
    return np.clip(exponent, -LARGEST_EXPONENT, LARGEST_EXPONENT)
