"""Taylor expansions of the whole system: their arrays, their order, and the kernels' calls."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from flowsim.cells import Cells
from flowsim.engines.groups import Groups
from flowsim.engines.piecewise import blocks, expansion
from flowsim.engines.piecewise.blocks import Blocks
from flowsim.engines.piecewise.kin import Kin, kin_of
from flowsim.state import State

#: The lowest order of an expansion.
LOWEST = 4


def taylor_order(rtol: float) -> int:
    """Return the order that minimises work a unit of time (Jorba & Zou 2005, eq. 3.9)."""
    return max(LOWEST, int(np.ceil(1.0 - 0.5 * np.log(rtol))))


@dataclass(eq=False)
class Expansion:
    """Taylor coefficients at the present state; the time is relative to it."""

    active: np.ndarray
    start: np.ndarray
    members: np.ndarray
    kin: Kin
    mass: np.ndarray  # (m,)
    r: np.ndarray  # (order+1, n)
    base: np.ndarray  # (groups, order+1, d)
    D: np.ndarray  # (groups, order+1, d)
    A: np.ndarray  # (columns, order+1)
    W: np.ndarray  # (columns, order+1, d)
    AQ: np.ndarray  # (columns, order+1), sums of mass a z over members
    first: np.ndarray  # (groups+1,)
    ends: np.ndarray  # (2, G, order+1), what the sides of hyperplanes add to D
    tie: float = 0.0
    size: float = 0.0  # sum_j |z_j|^2, with the masses
    spread: float = 0.0  # weight sum_k |x_k|^2 times that: at most so fast the residual moves D
    unit: float = 1.0  # coefficients are those of powers of time / unit
    step: float = np.inf  # the longest step within the tolerance; infinite where nothing moves
    fades: np.ndarray = field(default_factory=lambda: np.zeros(0, np.bool_))  # see `fading`

    @property
    def order(self) -> int:
        """Degree of the polynomials."""
        return len(self.r) - 1

    def residual(self, tau: float) -> np.ndarray:
        """Return r(tau) (n,)."""
        value, x = self.r[-1], tau / self.unit
        for c in self.r[-2::-1]:
            value = value * x + c
        return value

    def rates(self) -> np.ndarray:
        """Return the minimal-norm ``||D||`` of each group."""
        return np.linalg.norm(self.D[:, 0], axis=1)


class Expander:
    """Expand the states of m neurons.

    Parameters
    ----------
    cells : Cells
    m : int
    rtol : float
        What the last terms of an expansion may be over a step.
    frozen : bool
        Keep the residual.

    Attributes
    ----------
    order : int
        The highest order, that of steps which nothing but the expansion ends.
    radius : float
        Time in which terms of the last expansion grow by the tolerance's order-th root: what
        tells which order another step needs.
    """

    def __init__(self, cells: Cells, m: int, rtol: float, frozen: bool) -> None:
        self.cells, self.rtol, self.frozen = cells, rtol, frozen
        self.order = taylor_order(rtol)
        self.radius = 0.0
        self.X = np.ascontiguousarray(cells.X.T)
        self.blocks = Blocks(self.X)
        n, d, p = cells.n, cells.d, self.order + 1
        self._flat = [
            np.empty(size) for size in (p * n, m * p * d, m * p * d, m * p, m * p * d, m * p,
                                        2 * p * cells.n_hyperplanes)
        ]  # fmt: skip
        self.mass, self.sizes = np.empty(m), np.empty(m + 1)
        most = m // (d + 2) + 1  # groups of more than d+1
        self.moments = np.empty((most, d + 1, d + 1))
        self._parts = np.empty((most + m // blocks.MEMBERS + 1, d + 1, d + 1))
        self._first = np.zeros(m + 1, dtype=np.int64)
        self.wide = np.zeros(m + 1, dtype=np.int64)
        self._kin: tuple[np.ndarray, Kin] | None = None
        plus, minus = cells.side_coefficients
        moment = cells.weight * cells.orientation * cells.norms
        self._sides = (minus * moment, plus * moment)

    def residual(self, state: State, groups: Groups) -> np.ndarray:
        """Return the residual of a state, or y where it is frozen."""
        if self.frozen:
            return self.cells.y.copy()
        return self.cells.y - self._outputs(state.z, state.mass, groups)

    def _outputs(self, z: np.ndarray, mass: np.ndarray, groups: Groups) -> np.ndarray:
        """Return h (n,) of neurons in the present cells."""
        active, start, members = groups.ordered()
        return self.blocks.outputs(
            len(active), expansion.sum_of_products, self.cells.slope,
            groups.on, active, self._kin_of(active, groups), start, members, z, mass,
        )  # fmt: skip

    def order_for(self, h: float) -> int:
        """Return the order whose last terms are within the tolerance for a step `h`."""
        growth = h / self.radius if self.radius > 0.0 else np.inf
        if not growth < 1.0:
            return self.order
        needed = math.log(self.rtol) / math.log(growth) if growth > 0.0 else 0.0
        return min(self.order, max(LOWEST, math.ceil(needed) + 1))

    def expand(self, state: State, groups: Groups, outlook: float = np.inf) -> Expansion:
        """Return the Taylor coefficients of a state (views, valid until the next).

        They are of the order that a step of the length `outlook` is expected to need.
        """
        e, cells = self._views(state, groups, self.order_for(outlook)), self.cells
        self._load(state, e)
        e.r[0] = cells.y
        if not self.frozen:
            e.r[0] -= self.blocks.outputs(
                len(e.active), expansion.sum_of_columns, cells.slope, groups.on, e.active,
                e.kin, after=(e.AQ, e.W, e.first),
            )  # fmt: skip
        self.write_fields(0, e, groups)
        fastest = float(np.max(np.abs(e.D[:, 0]), initial=0.0))
        # The residual changes by at most |x_k| sum_j |z_j|^2 |D_j|.
        e.spread = cells.weight * float(np.sum(self.X**2)) * e.size
        bound = fastest if self.frozen else max(fastest, e.spread)
        e.tie = cells.tie(e.r[0])
        e.unit = expansion.time_unit(bound) if fastest > 0.0 else 1.0
        self._fill(e, groups)
        # The bound may be far off, where its fast directions are at rest. Only coefficients
        # that had underflowed grow past the tolerance with the unit, so none overflows.
        slowest = expansion.time_unit(fastest)
        while e.step > expansion.FAR * e.unit and e.unit < slowest:
            e.unit = min(expansion.FAR * e.unit, slowest)
            self._fill(e, groups)
        self.radius = e.step * self.rtol ** (-1.0 / e.order) if np.isfinite(e.step) else 0.0
        self.write_sides(e.r, e.ends)
        return e

    def _kin_of(self, active: np.ndarray, groups: Groups) -> Kin:
        """Return which of the active groups are in nearly the same cells."""
        if self._kin is None or self._kin[0] is not active:  # they stay so until a neuron moves on
            self._kin = active, kin_of(groups.on, active, self.cells.slope)
        return self._kin[1]

    def _views(self, state: State, groups: Groups, order: int) -> Expansion:
        """Return an empty expansion in the arrays of all."""
        active, start, members = groups.ordered()
        count, p, d, m = len(active), order + 1, self.cells.d, len(state.z)
        shapes = [
            (p, self.cells.n), (count, p, d), (count, p, d), (m, p), (m, p, d), (m, p),
            (2, self.cells.n_hyperplanes, p),
        ]  # fmt: skip
        r, base, D, A, W, AQ, ends = (
            flat[: math.prod(shape)].reshape(shape)
            for flat, shape in zip(self._flat, shapes, strict=True)
        )
        r[1:] = 0.0
        first = self._first[: count + 1]
        return Expansion(
            active, start, members, self._kin_of(active, groups), self.mass, r, base, D, A, W, AQ,
            first, ends,
            fades=np.zeros(count, np.bool_),
        )  # fmt: skip

    def _load(self, state: State, e: Expansion) -> None:
        """Set masses, the zeroth coefficients of all columns, and the moments of large groups."""
        sizes, most = np.diff(e.start), self.cells.d + 1
        e.first[0] = 0
        np.cumsum(np.minimum(sizes, most), out=e.first[1:])
        wide = self.wide[: len(sizes)]
        np.cumsum(sizes > most, out=wide)
        wide -= sizes > most  # how many come before
        z, block, parts, sizes = state.z, blocks.MEMBERS, self._parts, self.sizes
        self.blocks.each_member(
            len(e.members), expansion.weigh,
            lambda u0, u1: (
                e.start, e.members, z, state.exponent, e.mass, wide, block, parts, u0, u1,
            ),
        )  # fmt: skip
        self.blocks.each_group(
            e.start, expansion.load_columns,
            lambda q0, q1: (
                e.start, e.members, z, e.mass, e.A, e.W, e.AQ, self.moments, e.first, wide, block,
                parts, sizes, q0, q1,
            ),
        )  # fmt: skip
        e.size = float(np.sum(sizes[: len(e.active)]))

    def speed(self, state: State, e: Expansion) -> float:
        """Return ``||theta'||^2`` (scaled)."""
        return expansion.speed(e.start, e.members, state.z, e.mass, self.moments, self.wide, e.D)

    def write_sides(self, r: np.ndarray, ends: np.ndarray) -> None:
        """Write what the sides of hyperplanes add to the fields of r (k, n): ends (2, G, k)."""
        expansion.sides(self.cells.index, *self._sides, r, ends)

    def write_fields(self, i: int, e: Expansion, groups: Groups) -> None:
        """Write coefficient i of the groups' fields."""
        self.fields_of(e.r[i], i, e.active, groups, e.base, e.D)

    def fields_of(
        self, r: np.ndarray, i: int, active: np.ndarray, groups: Groups, base: np.ndarray,
        D: np.ndarray,
    ) -> None:  # fmt: skip
        """Write the fields that r (n,) gives groups to base[:, i] and, projected, to D[:, i]."""
        slope, T, kin = self.cells.slope, self.blocks.T, self._kin_of(active, groups)
        expansion.moments_of(self.X, self.cells.weight, r, T)
        self.blocks.each(
            len(active), expansion.fields,
            lambda q0, q1: (
                slope, groups.on, kin, T, groups.projected, groups.projector, active, q0, q1, i,
                base, D,
            ),
        )  # fmt: skip

    def _fill(self, e: Expansion, groups: Groups) -> None:
        """Write the coefficients in the expansion's unit of time, and its step."""
        cells = self.cells
        if not self.blocks.many(len(e.active)):
            expansion.expand(
                e.order, e.unit, self.X, cells.weight, cells.slope, self.frozen, groups.on,
                e.kin, groups.projected, groups.projector, e.active, e.start, e.members, e.mass,
                e.r, e.base, e.D, e.A, e.W, e.AQ, self.moments, e.first, self.wide,
                self.blocks.T, self.blocks.U,
            )  # fmt: skip
        else:
            self._fill_in_blocks(e, groups)
        e.step = e.unit * expansion.step_size(
            e.order, e.unit, self.rtol, e.first, len(e.active), e.A, e.W, e.D, e.r, self.frozen
        )

    def _fill_in_blocks(self, e: Expansion, groups: Groups) -> None:
        """Do what `expansion.expand` does, on all cores."""
        for i in range(e.order + 1):
            if i > 0 and self.frozen:
                e.base[:, i] = e.D[:, i] = 0.0
            elif i > 0:
                self.write_fields(i, e, groups)
            if i < e.order:
                e.r[i + 1] = -self.next_outputs(i, e, groups)

    def next_outputs(self, i: int, e: Expansion, groups: Groups) -> np.ndarray:
        """Write coefficient i+1 of all columns; return that of the outputs (n,)."""
        return self.blocks.outputs(
            len(e.active), expansion.next_order, i, e.unit, self.cells.slope, self.frozen,
            groups.on, e.active, e.kin, e.start, e.members, e.mass,
            after=(e.D, e.A, e.W, e.AQ, self.moments, e.first, self.wide),
        )  # fmt: skip
