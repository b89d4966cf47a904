"""What a certificate claims: exact data, a state, and the role and cell of every neuron."""

from __future__ import annotations

from dataclasses import dataclass

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
class Neuron:
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
    code : tuple of G ints
        Side of each hyperplane; 0 where it slides for good, the own side on walls.
    walls, open : tuple of ints
        Hyperplanes that it may reach but not cross, and those that it may cross.
    held : tuple of ints
        Hyperplanes that w lies on exactly: slides, and walls that it touches.
    """

    role: str
    sign: int
    w: tuple[arb, ...]
    gap: arb
    code: Code
    walls: tuple[int, ...] = ()
    open: tuple[int, ...] = ()
    held: tuple[int, ...] = ()

    @property
    def slides(self) -> tuple[int, ...]:
        """Hyperplanes that it slides on for good."""
        return tuple(g for g, side in enumerate(self.code) if side == 0)

    @property
    def cell(self) -> tuple[Code, tuple[int, ...], tuple[int, ...]]:
        """What decides on its features: code, walls and open hyperplanes."""
        return self.code, self.walls, self.open


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

    def having(self, *roles: str) -> list[int]:
        """Return the neurons of some roles."""
        return [j for j, neuron in enumerate(self.neurons) if neuron.role in roles]
