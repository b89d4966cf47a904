"""What a certificate claims: exact data, a state, and the role and cell of every neuron."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np
from flint import arb

from flowsim.certificates.planes import Code, Data

#: What neurons are in a proof.
ROLES = (
    "core",  # its kernel contracts the residual
    "carried",  # moves, within what the core can fit
    "fading",  # pinned to a ray by its slides, on which it shrinks to zero
    "free",  # may go anywhere: the core fits every label
    "removed",  # too small to matter, and growing: the saddle is that of the others
    "dead",  # off on every sample; on `held` its margin is zero, and it stays there
    "origin",  # w = 0, a != 0, and the zero field among its neighbours: it stays there
    "zero",  # a = 0 and w = 0
)


@dataclass(frozen=True, eq=False)
class Cell:
    """What decides on a neuron's features, one object for many neurons.

    Codes may be long and neurons many: what follows from a code is found once, and cells that are
    one object are equal without a look at it.

    Attributes
    ----------
    code : tuple of G ints
        Side of each hyperplane; 0 where a neuron slides for good, the own side on walls.
    walls, open : tuple of ints
        Hyperplanes that a neuron may reach but not cross, and those that it may cross.
    """

    code: Code
    walls: tuple[int, ...] = ()
    open: tuple[int, ...] = ()

    @cached_property
    def slides(self) -> tuple[int, ...]:
        """Hyperplanes that a neuron slides on for good."""
        return tuple(g for g, side in enumerate(self.code) if side == 0)

    @cached_property
    def sides(self) -> np.ndarray:
        """The code as an array."""
        return np.array(self.code, dtype=np.int8)

    @cached_property
    def features(self) -> tuple[Code, tuple[int, ...]]:
        """Code and slides: what decides on what its neurons can fit."""
        return self.code, self.slides

    @cached_property
    def _whole(self) -> tuple[Code, tuple[int, ...], tuple[int, ...]]:
        return self.code, self.walls, self.open

    @cached_property
    def _hash(self) -> int:
        return hash(self._whole)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Cell) and self._hash == other._hash and self._whole == other._whole
        )


class Neuron(NamedTuple):
    """A neuron of a claim.

    Attributes
    ----------
    role : str
        One of `ROLES`.
    sign : int
        Sign of a.
    w : tuple of d balls
        Hidden weights, before they are put onto the hyperplanes `held`.
    gap : arb
        ``a^2 - |w|^2``, exact: a follows from w.
    cell : Cell
    held : tuple of ints
        Hyperplanes that w lies on exactly: slides, and walls that it touches.
    """

    role: str
    sign: int
    w: tuple[arb, ...]
    gap: arb
    cell: Cell
    held: tuple[int, ...] = ()

    @property
    def code(self) -> Code:
        """Side of each hyperplane."""
        return self.cell.code

    @property
    def walls(self) -> tuple[int, ...]:
        """Hyperplanes that it may reach, but not cross."""
        return self.cell.walls

    @property
    def open(self) -> tuple[int, ...]:
        """Hyperplanes that it may cross."""
        return self.cell.open

    @property
    def slides(self) -> tuple[int, ...]:
        """Hyperplanes that it slides on for good."""
        return self.cell.slides


@dataclass(frozen=True, eq=False)
class Network:
    """A network that is exhibited, to be evaluated exactly: floats."""

    a: tuple[float, ...]
    W: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, eq=False)
class Claim:
    """What is to be proved.

    Attributes
    ----------
    data : Data
    neurons : tuple of Neuron
    everything : bool
        Whether the core fits every label: V = Rⁿ.
    turning : float
        Bound Δ of the angle that a neuron of the core turns by.
    better : Network, optional
        A network of at most as many neurons with a smaller loss.
    ways : tuple of (neuron, direction)
        Directions u of w in which a neuron that does not move, or has been removed, lowers the
        loss: floats.
    """

    data: Data
    neurons: tuple[Neuron, ...]
    everything: bool
    turning: float
    better: Network | None = None
    ways: tuple[tuple[int, tuple[float, ...]], ...] = ()

    @cached_property
    def kinds(self) -> tuple[list[int], ...]:
        """Neurons of the same role, sign, cell and hyperplanes that they are held on, together.

        What a proof asks of these only is asked once a kind, of the first of its neurons; kinds
        are in the order in which these come.
        """
        found: dict[tuple[str, int, int, tuple[int, ...]], list[int]] = {}
        for j, x in enumerate(self.neurons):
            found.setdefault((x.role, x.sign, id(x.cell), x.held), []).append(j)
        return tuple(found.values())

    def kinds_of(self, *roles: str) -> list[list[int]]:
        """Return the kinds of some roles."""
        return [kind for kind in self.kinds if self.neurons[kind[0]].role in roles]

    def having(self, *roles: str) -> list[int]:
        """Return the neurons of some roles."""
        return sorted(chain.from_iterable(self.kinds_of(*roles)))

    def cells(self, *roles: str) -> dict[Cell, list[int]]:
        """Return the cells of the neurons of some roles, as they come, with these neurons."""
        found: dict[Cell, list[int]] = {}
        for kind in self.kinds_of(*roles):
            found.setdefault(self.neurons[kind[0]].cell, []).extend(kind)
        return found
