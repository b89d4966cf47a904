"""A state as the search looks at it, and what it proposes to claim."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

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
        large = np.maximum(np.abs(z[:, 0]), np.linalg.norm(z[:, 1:], axis=1))
        for name, value in {
            "a": z[:, 0],
            "w": z[:, 1:],
            "code": self.state.code[self.alive],
            "sign": self.state.sign[self.alive],
            "mass": self.state.mass[self.alive],
            "sine": (z[:, 1:] @ self.cells.normals.T) / large[:, None],
            "dominated": self.state.balance[self.alive] >= 0,
            "balanced": self.state.balance[self.alive] == 0,
        }.items():
            object.__setattr__(self, name, value)

    a: np.ndarray = field(init=False)
    w: np.ndarray = field(init=False)
    code: np.ndarray = field(init=False)
    sign: np.ndarray = field(init=False)
    mass: np.ndarray = field(init=False)
    sine: np.ndarray = field(init=False)
    dominated: np.ndarray = field(init=False)
    balanced: np.ndarray = field(init=False)


@dataclass(frozen=True, eq=False)
class Proposal:
    """A claim in arrays over the living neurons; `roles` are those of `claim.ROLES`."""

    roles: np.ndarray
    code: np.ndarray
    walls: np.ndarray
    open: np.ndarray
    held: np.ndarray
    everything: bool
    turning: float
    r_star: np.ndarray
    basis: np.ndarray
    mu: float
