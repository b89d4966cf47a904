"""A state as the search looks at it, and what it proposes to claim.

Neurons are many and cells few: whatever depends on cells only is held and found once for each
*kind* of neurons, those of one sign, role and cell.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from flowsim._distinct import distinct_rows
from flowsim.cells import Cells
from flowsim.events import ALIVE
from flowsim.state import State


class NoClaimError(Exception):
    """No claim: why, how much more time is predicted to be needed, and which neuron moves."""

    def __init__(self, reason: str, wait: float = float("nan")) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True, eq=False)
class View:
    """The living neurons of a state, and the residual."""

    cells: Cells
    state: State
    r: np.ndarray
    alive: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "alive", np.flatnonzero(self.state.fate == ALIVE))
        z = self.state.z[self.alive]
        for name, value in {
            "a": z[:, 0],
            "w": z[:, 1:],
            "sign": self.state.sign[self.alive],
            "mass": self.state.mass[self.alive],
            "dominated": self.state.balance[self.alive] >= 0,
            "balanced": self.state.balance[self.alive] == 0,
        }.items():
            object.__setattr__(self, name, value)

    a: np.ndarray = field(init=False)
    w: np.ndarray = field(init=False)
    sign: np.ndarray = field(init=False)
    mass: np.ndarray = field(init=False)
    dominated: np.ndarray = field(init=False)
    balanced: np.ndarray = field(init=False)

    @cached_property
    def _cells(self) -> tuple[np.ndarray, np.ndarray]:
        code = self.state.code
        if len(self.alive) < len(code):
            code = code[self.alive]
        first, number = distinct_rows(code)
        return code[first], number

    @property
    def codes(self) -> np.ndarray:
        """Occupied cells (C, G), in the order in which they come."""
        return self._cells[0]

    @property
    def cell(self) -> np.ndarray:
        """Which of them (alive,) each neuron is in."""
        return self._cells[1]

    def sine(self, some: slice | np.ndarray) -> np.ndarray:
        """Return sines (some, G) of how far some neurons are from the hyperplanes."""
        large = np.maximum(np.abs(self.a[some]), np.linalg.norm(self.w[some], axis=1))
        return (self.w[some] @ self.cells.normals.T) / large[:, None]


@dataclass(frozen=True, eq=False)
class Proposal:
    """A claim in arrays over kinds of living neurons; `roles` are those of `claim.ROLES`.

    Attributes
    ----------
    number : (alive,) int
        Which kind each neuron is of; kinds are in the order in which they come.
    first : (K,) int
        The first neuron of each kind.
    roles : (K,) object
    sign : (K,) int
    code, walls, open, held : (K, G)
    """

    number: np.ndarray
    first: np.ndarray
    roles: np.ndarray
    sign: np.ndarray
    code: np.ndarray
    walls: np.ndarray
    open: np.ndarray
    held: np.ndarray
    everything: bool
    turning: float
    r_star: np.ndarray
    basis: np.ndarray
    mu: float

    def kinds(self, *roles: str) -> np.ndarray:
        """Return the kinds of some roles."""
        return np.flatnonzero(np.isin(self.roles, roles))

    def having(self, *roles: str) -> np.ndarray:
        """Return the neurons of some roles."""
        return np.flatnonzero(np.isin(self.roles, roles)[self.number])

    @cached_property
    def cells(self) -> np.ndarray:
        """Codes, walls and open hyperplanes (K, 3G), side by side."""
        return np.concatenate([self.code, self.walls, self.open], axis=1).astype(np.int8)

    def split(self, mark: np.ndarray) -> Proposal:
        """Return the proposal in which the neurons of a kind have the same integer `mark`."""
        first, number = numbered(self.number, mark)
        old = self.number[first]
        rows: dict[str, Any] = {
            name: getattr(self, name)[old]
            for name in ("roles", "sign", "code", "walls", "open", "held")
        }
        return replace(self, number=number, first=first, **rows)


def numbered(*keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the distinct tuples of integers (m,) in the order in which they come.

    Returns where each comes first, and the number of every tuple.
    """
    table = np.column_stack([key.astype(np.int64) for key in keys])
    return distinct_rows(np.ascontiguousarray(table).view(np.int8))
