"""Taylor expansion of the gradient flow inside its cells, in multiprecision arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field

from first_root import NotGenericError
from flint import arb, arb_mat
from systems import System

OFF, SLIDE, ON = -1, 0, 1


@dataclass(frozen=True)
class Precision:
    """Working precision in bits, Taylor order and a factor on every step."""

    bits: int = 180
    order: int = 50
    step_factor: float = 1.0

    @property
    def tolerance(self) -> arb:
        """Relative size of the last Taylor terms that a step allows."""
        return arb(2) ** (20 - self.bits)

    @property
    def tie(self) -> arb:
        """Relative distance under which two numbers are called equal."""
        return arb(2) ** (-(2 * self.bits) // 3)


@dataclass
class State:
    """Where the flow is: t, the neurons, their cells, and what has happened."""

    t: arb
    a: list[arb]
    W: list[list[arb]]
    code: list[list[int]]
    events: list[tuple[arb, int, int, int, int]] = field(default_factory=list)
    sign_changes: list[tuple[arb, int]] = field(default_factory=list)
    # (neuron, sample) -> how often its event function vanishes at the current time
    fresh: dict[tuple[int, int], int] = field(default_factory=dict)
    steps: int = 0


def dot(u, v) -> arb:
    return sum((p * q for p, q in zip(u, v, strict=True)), arb(0))


def coefficient(u: list[arb], v: list[arb], i: int) -> arb:
    """Return coefficient i of the product of two series."""
    return sum((u[q] * v[i - q] for q in range(i + 1)), arb(0))


class Flow:
    """The field of one system in its cells."""

    def __init__(self, system: System, precision: Precision) -> None:
        self.precision = precision
        self.X = [[arb(v) for v in row] for row in system.X]
        self.y = [arb(v) for v in system.y]
        self.slope = arb(system.negative_slope)
        self.n, self.d, self.m = len(system.X), len(system.X[0]), len(system.a)
        self._linear: dict[tuple[int, ...], tuple] = {}

    def weight(self, code: int) -> arb:
        return arb(1) if code == ON else self.slope

    def linear(self, code: tuple[int, ...]):
        """Return B (d, n) and the slides' rows: D = B r and c_k r_k / n = rows[k] r."""
        if code not in self._linear:
            K = [k for k in range(self.n) if code[k] == SLIDE]
            B = [[arb(0)] * self.n for _ in range(self.d)]
            rows = {k: [arb(0)] * self.n for k in K}
            if K:
                gram = arb_mat([[dot(self.X[p], self.X[q]) for q in K] for p in K]).inv()
            for k in range(self.n):
                if code[k] == SLIDE:
                    continue
                column = [self.weight(code[k]) * v / self.n for v in self.X[k]]
                if K:
                    right = arb_mat([[dot(self.X[q], column)] for q in K])
                    for q, mu in zip(K, (gram * right).entries(), strict=True):
                        rows[q][k] = -mu.mid()
                        column = [c - mu * x for c, x in zip(column, self.X[q], strict=True)]
                for i in range(self.d):
                    B[i][k] = column[i].mid()
            self._linear[code] = (B, rows)
        return self._linear[code]

    def dead(self, code) -> bool:
        return bool(self.slope == 0) and ON not in code

    def residual(self, state: State) -> list[arb]:
        r = list(self.y)
        for a, w, code in zip(state.a, state.W, state.code, strict=True):
            for k in range(self.n):
                if code[k] != SLIDE:
                    r[k] = r[k] - self.weight(code[k]) * a * dot(w, self.X[k])
        return [v.mid() for v in r]

    def expand(self, state: State):
        """Return the series of a (m), W (m, d), w.x (m, n) and r (n) around the state."""
        order = self.precision.order
        live = [j for j in range(self.m) if not self.dead(state.code[j])]
        cells = {tuple(state.code[j]) for j in live}
        a = [[v] for v in state.a]
        W = [[[v] for v in w] for w in state.W]
        s = [[[dot(w, x).mid()] for x in self.X] for w in state.W]
        r = [[v] for v in self.residual(state)]
        D = {c: [[] for _ in range(self.d)] for c in cells}
        for i in range(order):
            for c in cells:
                B, _ = self.linear(c)
                for p in range(self.d):
                    D[c][p].append(dot(B[p], (series[i] for series in r)).mid())
            for j in live:
                Dj = D[tuple(state.code[j])]
                new = sum((coefficient(Dj[p], W[j][p], i) for p in range(self.d)), arb(0))
                for p in range(self.d):
                    W[j][p].append((coefficient(Dj[p], a[j], i) / (i + 1)).mid())
                a[j].append((new / (i + 1)).mid())
                for k in range(self.n):
                    row = (W[j][p][i + 1] for p in range(self.d))
                    s[j][k].append(dot(self.X[k], row).mid())
            for k in range(self.n):
                total = arb(0)
                for j in live:
                    if state.code[j][k] != SLIDE:
                        weight = self.weight(state.code[j][k])
                        total -= weight * coefficient(a[j], s[j][k], i + 1)
                r[k].append(total.mid())
        return live, a, W, s, r

    def step_size(self, live, a, W, r) -> arb:
        """Return a step over which the last two Taylor terms stay below the tolerance."""
        order, tolerance = self.precision.order, self.precision.tolerance
        groups = [(max(abs(v) for v in self.y), r)]
        groups += [(abs(a[j][0]) + sum(abs(c[0]) for c in W[j]), [a[j], *W[j]]) for j in live]
        step = None
        for scale, series in groups:
            for p in (order - 1, order):
                size = sum((abs(c[p]) for c in series), arb(0)).mid()
                if size > 0:
                    bound = ((tolerance * scale / size).log() / p).exp().mid()
                    step = bound if step is None or bound < step else step
        if step is None:
            raise NotGenericError("every neuron is dead")
        return step * arb(self.precision.step_factor)
