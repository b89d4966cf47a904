"""The state of a rigorous run: exact midpoints with bounds of their errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from flint import arb

from flowsim.engines.validated.balls import ZERO, dot, widened
from flowsim.engines.validated.expansion import Group
from flowsim.engines.validated.system import Cell, Code, System, rational
from flowsim.events import ALIVE, DEAD
from flowsim.events import ZERO as VANISHED
from flowsim.network import TwoLayerReLU


@dataclass(eq=False)
class Neuron:
    """One neuron: the true ``(a, w)`` is within `error` (Euclidean) of the exact `z`.

    Attributes
    ----------
    gap : Fraction
        The conserved ``a^2 - ||w||^2``, exactly.
    fresh : dict
        Hyperplanes on which w lies exactly although its code is not 0, with how many derivatives
        of the margin vanish there, itself included; -1 stands for ``a = 0``.
    twin : int
        The first neuron of which this one is a positive multiple.
    """

    z: list[arb]
    error: arb
    sign: int
    gap: Fraction
    code: Code
    fate: int
    twin: int
    fresh: dict[int, int] = field(default_factory=dict)

    @property
    def ball(self) -> list[arb]:
        """Balls that contain ``(a, w)``."""
        return [widened(v, self.error) for v in self.z]


@dataclass(eq=False)
class BallState:
    """All neurons at a time: the true state is within `error` (Euclidean) of the midpoints.

    The time is a ball, too: that of an event is known up to its enclosure, and the flow is
    autonomous, so that the state *at the event* is what goes on.
    """

    t: arb
    neurons: list[Neuron]
    error: arb = ZERO

    def groups(self, system: System) -> list[Group]:
        """Return the moving neurons by their cells."""
        members: dict[Code, list[int]] = {}
        for j, neuron in enumerate(self.neurons):
            if neuron.fate == ALIVE:
                members.setdefault(neuron.code, []).append(j)
        return [
            Group.of(known_cell(system, code), js, [self.neurons[j].z for j in js])
            for code, js in members.items()
        ]


def known_cell(system: System, code: Code) -> Cell:
    """Return a cell that a neuron is in, whose slides are therefore independent."""
    cell = system.cell(code)
    assert cell is not None
    return cell


def initial_state(system: System, net: TwoLayerReLU) -> BallState:
    """Return the exact initial state; hyperplanes that w lies on have the code 0."""
    rows = [[Fraction(float(v)) for v in (a, *w)] for a, w in zip(net.a, net.W, strict=True)]
    X = [[Fraction(int(v.p), int(v.q)) for v in nu] for nu in system.normals]
    neurons = []
    for j, row in enumerate(rows):
        margins = [sum((p * q for p, q in zip(nu, row[1:], strict=True)), Fraction(0)) for nu in X]
        code = tuple((m > 0) - (m < 0) for m in margins)
        dead = system.is_dead(code)
        neurons.append(
            Neuron(
                z=[arb(rational(v)) for v in row],
                error=ZERO,
                sign=1 if row[0] >= 0 else -1,
                gap=row[0] ** 2 - sum(v**2 for v in row[1:]),
                code=code,
                fate=VANISHED if not any(row) else DEAD if dead else ALIVE,
                twin=next(i for i in range(j + 1) if _parallel(rows[i], row)),
            )
        )
    return BallState(ZERO, neurons)


def _parallel(u: list[Fraction], v: list[Fraction]) -> bool:
    """Whether v is a positive multiple of u, or u itself."""
    if not (any(u) and any(v)):
        return u is v or u == v
    i = next(i for i, x in enumerate(u) if x)
    factor = v[i] / u[i]
    return factor > 0 and all(y == factor * x for x, y in zip(u, v, strict=True))


class Box:
    """What balls around the neurons make of the residual, the fields and their derivatives.

    Parameters
    ----------
    system : System
    z : dict
        Balls ``(a, w)`` of the moving neurons.
    codes : dict
        Their codes.
    """

    def __init__(self, system: System, z: dict[int, list[arb]], codes: dict[int, Code]) -> None:
        self.system, self.z, self.codes = system, z, codes
        self.r = list(system.y)
        if not system.frozen:
            for j, (a, *w) in z.items():
                G = known_cell(system, codes[j]).G
                for k in range(system.n):
                    self.r[k] = self.r[k] - a * dot(w, (row[k] for row in G))
        self._field: dict[Code, list[arb]] = {}
        self._rate: list[arb] | None = None

    def field(self, code: Code) -> list[arb]:
        """Return D of a cell."""
        if code not in self._field:
            self._field[code] = [dot(row, self.r) for row in known_cell(self.system, code).B]
        return self._field[code]

    def rate(self) -> list[arb]:
        """Return r'."""
        if self._rate is None:
            self._rate = [ZERO] * self.system.n
            if not self.system.frozen:
                for j, (a, *w) in self.z.items():
                    D = self.field(self.codes[j])
                    along = dot(w, D)
                    V = [along * wi + a * a * Di for wi, Di in zip(w, D, strict=True)]
                    G = known_cell(self.system, self.codes[j]).G
                    for k in range(self.system.n):
                        self._rate[k] = self._rate[k] - dot(V, (row[k] for row in G))
        return self._rate

    def margin_rate(self, j: int, plane: int) -> arb:
        """Return ``nu . w_j'``."""
        return self.z[j][0] * dot(self.system.ball_normals[plane], self.field(self.codes[j]))

    def margin_acceleration(self, j: int, plane: int) -> arb:
        """Return ``nu . w_j'' = (w . D)(nu . D) + a nu . D'``."""
        nu, (a, *w) = self.system.ball_normals[plane], self.z[j]
        D = self.field(self.codes[j])
        rate = self.rate()
        turning = [dot(row, rate) for row in known_cell(self.system, self.codes[j]).B]
        return dot(w, D) * dot(nu, D) + a * dot(nu, turning)

    def sign_rate(self, j: int) -> arb:
        """Return ``a_j'``."""
        return dot(self.z[j][1:], self.field(self.codes[j]))
