"""The field of a two-layer ReLU network with all activation patterns frozen.

In one cell of every neuron (slides included) the flow is a smooth, polynomial system,

    a_j' = w_j.D_j,   w_j' = a_j D_j,   D_j = P_j weight sum_k c_jk r_k x_k,

with P_j the projector orthogonal to the normals of j's slides. Stepping engines integrate
this field, never the discontinuous one, and leave it where `FrozenProblem.leaves` says that
one of its margins may change sign.

Everything here is written once for NumPy and JAX arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from flowsim.cells import TOUCH, Cells
from flowsim.engines.groups import Groups
from flowsim.engines.hermite import bernstein
from flowsim.engines.problem import Knot
from flowsim.events import ALIVE
from flowsim.state import State

#: Up to this dimension there is room for all slides that there can be as soon as there is one.
FEW = 4
#: Neurons beyond these norms get a new unit: errors off their constants have grown, or squares
#: would overflow.
SMALL, LARGE = 2.0**-6, 2.0**200


class FrozenCell(NamedTuple):
    """One cell of all m neurons, with slides padded to s a neuron; a pytree for JAX."""

    X: Any  # (n, d)
    y: Any  # (n,)
    weight: Any  # () of L = weight/2 sum r^2
    coef: Any  # (m, n) slope of the activation; 0 on slides
    slides: Any  # (m, s, d) orthonormal rows that span the normals of the slides, or 0
    mass: Any  # (m,) square of the unit that a neuron is counted in
    alive: Any  # (m,) 1.0 or 0.0
    feels: Any  # () 1.0, or 0.0 with the residual frozen at y
    pull: Any  # (m,) mass that the residual feels: 0 where it is frozen, whatever overflows
    normals: Any  # (G, d)
    side: Any  # (m, G) side of every neuron, 0 where nothing is watched
    signs: Any  # (m,) sign of a where it may change, else 0
    multipliers: Any  # (m, s, d): the slides' multipliers are multipliers @ D without slides
    watched: Any  # (m, s) sign of a for slides whose multipliers are watched, else 0
    plane: Any  # (m, s) hyperplanes of the slides
    sides: Any  # (2, G, n): a hyperplane's contributions on its two sides are sides @ r
    norms: Any  # (n,) of the samples
    tie: Any  # () factor of sum (|r| + |y|) |x|: what a multiplier is known up to

    @classmethod
    def of(cls, cells: Cells, state: State, groups: Groups, *, frozen: bool) -> FrozenCell:
        """Describe the present cells of `state`."""
        alive = (state.fate == ALIVE) & (groups.slot >= 0)
        slot = np.where(alive, groups.slot, 0)
        slides, multipliers, plane, watched = _slides(cells, state, groups, alive)
        mass = np.where(alive, state.mass, 0.0)
        return cls(
            X=cells.X,
            y=cells.y,
            weight=np.float64(cells.weight),
            coef=groups.coefficients(slot) * alive[:, None],
            slides=slides,
            mass=mass,
            alive=alive.astype(np.float64),
            feels=np.float64(not frozen),
            pull=np.zeros_like(mass) if frozen else mass,
            normals=cells.normals,
            side=(state.code * alive[:, None]).astype(np.float64),
            signs=np.where(alive & (state.balance < 0), state.sign, 0).astype(np.float64),
            multipliers=multipliers,
            watched=watched,
            plane=plane,
            sides=_sides(cells),
            norms=cells.norms,
            tie=np.float64(cells.tie_factor),
        )


def _slides(
    cells: Cells, state: State, groups: Groups, alive: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return slide bases, multiplier maps, hyperplanes and watched signs, padded alike."""
    m, d = len(state.z), cells.d
    sliding = np.flatnonzero(alive & groups.projected[np.where(alive, groups.slot, 0)])
    bases = {slot: _basis(groups.projector[slot]) for slot in np.unique(groups.slot[sliding])}
    widest = max((len(basis) for basis in bases.values()), default=0)
    s = _width(widest, d)
    slides, multipliers = np.zeros((m, s, d)), np.zeros((m, s, d))
    plane, watched = np.zeros((m, s), dtype=np.int64), np.zeros((m, s))
    for j in sliding:
        slot = groups.slot[j]
        basis, count = bases[slot], groups.slide_count[slot]
        slides[j, : len(basis)] = basis
        multipliers[j, :count] = groups.multipliers[slot, :count]
        plane[j, :count] = groups.slides[slot, :count]
        watched[j, :count] = state.sign[j]
    return slides, multipliers, plane, watched


def _width(widest: int, d: int) -> int:
    """Return how many slides to make room for: of few widths, so that little is compiled anew."""
    if widest == 0:
        return 0
    return d if d <= FEW else min(1 << (widest - 1).bit_length(), d)


def _basis(projector: np.ndarray) -> np.ndarray:
    """Return orthonormal rows that span what a projector takes away."""
    values, vectors = np.linalg.eigh(projector)
    return vectors[:, values < 0.5].T


def _sides(cells: Cells) -> np.ndarray:
    """Return (2, G, n): what each hyperplane adds to D along its normal on its two sides."""
    out = np.zeros((2, cells.n_hyperplanes, cells.n))
    moment = cells.weight * cells.orientation * cells.norms
    for end, coefficient in enumerate(cells.side_coefficients):
        out[end, cells.index, np.arange(cells.n)] = coefficient * moment
    return out


class Series(NamedTuple):
    """Derivatives of order 0, 1 and 2 in time of what moves in a cell."""

    z: tuple[Any, Any, Any]
    r: tuple[Any, Any, Any]
    base: tuple[Any, Any, Any]  # (m, d), D without its projection
    D: Any  # (m, d)


def series(z: Any, cell: FrozenCell, xp: Any) -> Series:
    """Return the first derivatives of neurons, residual and fields, by the product rule."""
    a, w = z[:, 0], z[:, 1:]
    u = cell.coef * (w @ cell.X.T)
    r = cell.y - (cell.pull * a) @ u
    base = _base(r, cell)
    D = _project(base, cell, xp)
    a1, w1 = cell.alive * xp.sum(w * D, axis=1), (cell.alive * a)[:, None] * D
    u1 = cell.coef * (w1 @ cell.X.T)
    r1 = -(cell.pull * a1) @ u - (cell.pull * a) @ u1
    base1 = _base(r1, cell)
    D1 = _project(base1, cell, xp)
    a2 = cell.alive * xp.sum(w1 * D + w * D1, axis=1)
    w2 = cell.alive[:, None] * (a1[:, None] * D + a[:, None] * D1)
    u2 = cell.coef * (w2 @ cell.X.T)
    r2 = -(cell.pull * a2) @ u - 2.0 * ((cell.pull * a1) @ u1) - (cell.pull * a) @ u2
    join = lambda first, rest: xp.concatenate([first[:, None], rest], axis=1)  # noqa: E731
    return Series((z, join(a1, w1), join(a2, w2)), (r, r1, r2), (base, base1, _base(r2, cell)), D)


def _base(r: Any, cell: FrozenCell) -> Any:
    return cell.weight * ((cell.coef * r) @ cell.X)


def _project(D: Any, cell: FrozenCell, xp: Any) -> Any:
    if cell.slides.shape[1] == 0:
        return D
    along = xp.einsum("msd,md->ms", cell.slides, D)
    return D - xp.einsum("msd,ms->md", cell.slides, along)


@dataclass(frozen=True)
class FrozenProblem:
    """The frozen field as a `flowsim.engines.problem.Problem`: y is z (m, d+1).

    Parameters
    ----------
    traceable : bool
        Whether the arrays are JAX's.
    """

    traceable: bool

    @property
    def _xp(self) -> Any:
        if not self.traceable:
            return np
        import jax.numpy as jnp

        return jnp

    def field(self, t: Any, y: Any, args: FrozenCell) -> Any:
        """Return z'."""
        xp = self._xp
        a, w = y[:, 0], y[:, 1:]
        r = args.y - (args.pull * a) @ (args.coef * (w @ args.X.T))
        D = _project(_base(r, args), args, xp)
        return (
            xp.concatenate([xp.sum(w * D, axis=1)[:, None], a[:, None] * D], axis=1)
            * (args.alive[:, None])
        )

    def jet(self, y: Any, args: FrozenCell) -> tuple[Any, Any]:
        """Return z' and z''."""
        _, f, s = series(y, args, self._xp).z
        return f, s

    def size(self, y: Any, args: FrozenCell) -> Any:
        """Return the norm of each neuron, (m, 1); 1 for those that do not move."""
        xp = self._xp
        norm = xp.sqrt(xp.sum(y * y, axis=1, keepdims=True))
        return xp.where(norm > 0.0, norm, 1.0)

    def observe(self, y: Any, f: Any, args: FrozenCell) -> dict[str, Any]:
        """Return loss, speed ``||theta'||^2``, the largest rate ``||D_j||``, and dL/dt.

        ``slope`` is dL/dt by the chain rule through the residual, which minus the speed must
        equal, and ``noise`` the sizes of the terms that cancel in both.
        """
        xp, a = self._xp, y[:, 0]
        u, u1 = (args.coef * (x[:, 1:] @ args.X.T) for x in (y, f))
        r = args.y - (args.pull * a) @ u
        r1 = -(args.pull * f[:, 0]) @ u - (args.pull * a) @ u1
        base = _base(r, args)
        D = _project(base, args, xp)
        speed = xp.sum(args.mass[:, None] * f * f)
        pressed = xp.max(args.alive * xp.sqrt(xp.sum(base * base, axis=1)))
        size = xp.sum(args.mass * xp.sum(y * y, axis=1))
        return {
            "loss": 0.5 * args.weight * xp.sum(r * r),
            "speed": speed,
            "rate": xp.max(args.alive * xp.sqrt(xp.sum(D * D, axis=1))),
            "slope": args.weight * xp.sum(r * r1),
            "noise": args.weight * xp.sum(xp.abs(r * r1)) + pressed * xp.sqrt(speed * size),
        }

    def leaves(self, before: Knot, after: Knot, h: Any, args: FrozenCell) -> Any:
        """Return whether the smallest of all margins may fall to zero inside the step.

        Or whether a neuron has become so large or small that it needs another unit.
        """
        xp = self._xp
        size = xp.where(args.alive > 0.0, self.size(after.y, args)[:, 0], 1.0)
        far = (xp.max(size) > LARGE) | (xp.min(size) < SMALL)
        first, last = (margins(k.y, k.f, k.s, args) for k in (before, after))
        low = smallest(xp, first, last, h, TOUCH)
        if args.slides.shape[1]:
            begin, end = (series(k.y, args, xp) for k in (before, after))
            first, last = (slide_margins(x, args, xp) for x in (begin, end))
            low = xp.minimum(low, smallest(xp, first, last, h, tie(begin.r[0], args, xp)))
        return far | (low <= 0.0)

    def two_layer(self, y: Any, args: FrozenCell) -> Any:
        """Return the network as `flowsim.engines.structured` solves implicit steps of."""
        from flowsim.engines.structured_blocks import FrozenTwoLayer

        return FrozenTwoLayer(
            a=y[:, 0], W=y[:, 1:], X=args.X, labels=args.y, weight=args.weight, coef=args.coef,
            mass=args.pull, alive=args.alive, slides=args.slides, feels=args.feels,
        )  # fmt: skip

    def jacobian(self, y: np.ndarray, args: FrozenCell) -> np.ndarray:
        """Return f'(y), (m (d+1), m (d+1)): a block a neuron, and the coupling by r.

        With the samples' features ``v_jk = c_jk (w_j.x_k, a_j x_k)`` it is
        ``blockdiag(M(D_j)) - weight P v mass v^T``.
        """
        m, width = y.shape
        a, w = y[:, 0], y[:, 1:]
        u = args.coef * (w @ args.X.T)
        r = args.y - (args.pull * a) @ u
        D = args.alive[:, None] * _project(_base(r, args), args, np)
        J = np.zeros((m, width, m, width))
        rows = np.arange(m)
        J[rows, 0, rows, 1:] = D
        J[rows, 1:, rows, 0] = D
        inputs = args.coef[:, :, None] * args.X
        if args.slides.shape[1]:
            along = np.einsum("msd,mnd->mns", args.slides, inputs)
            projected = inputs - np.einsum("mns,msd->mnd", along, args.slides)
        else:
            projected = inputs
        feel = np.concatenate([u[:, :, None], a[:, None, None] * inputs], axis=2)
        push = np.concatenate(
            [np.einsum("md,mnd->mn", w, projected)[:, :, None], a[:, None, None] * projected], 2
        )
        push = args.weight * args.alive[:, None, None] * push
        J -= np.einsum("mnp,lnq->mplq", push, args.pull[:, None, None] * feel, optimize=True)
        return J.reshape(m * width, m * width)


def margins(z: Any, f: Any, s: Any, cell: FrozenCell) -> tuple[Any, Any, Any]:
    """Return what stays positive in the cell, (m, G+1), and its first two derivatives.

    The margins at the hyperplanes times their sides, and ``|a|`` where a may change sign;
    1 where nothing is watched.
    """

    def of(x: Any, order: int) -> Any:
        xp = _module(x)
        value = xp.concatenate(
            [cell.side * (x[:, 1:] @ cell.normals.T), (cell.signs * x[:, 0])[:, None]], axis=1
        )
        if order > 0:
            return value
        idle = xp.concatenate([cell.side == 0.0, (cell.signs == 0.0)[:, None]], axis=1)
        return xp.where(idle, 1.0, value)

    return of(z, 0), of(f, 1), of(s, 2)


def slide_margins(state: Series, cell: FrozenCell, xp: Any) -> tuple[Any, Any, Any]:
    """Return the distances (m, 2s) of slide multipliers from the ends of their intervals.

    They stay positive while the slides hold. An interval that has closed has no inside to
    leave; 1 there, and where nothing is watched.
    """
    out = []
    closed: Any = None
    for order in range(3):
        zeta = xp.einsum("msd,md->ms", cell.multipliers, state.base[order])
        plus, minus = ((cell.sides[end] @ state.r[order])[cell.plane] for end in range(2))
        ends = xp.concatenate([zeta - plus, minus - zeta], axis=1)
        if order == 0:
            ends_apart = xp.maximum(xp.abs(zeta - plus), xp.abs(zeta - minus))
            wide = ends_apart > tie(state.r[0], cell, xp)
            closed = xp.concatenate([wide & (cell.watched != 0.0)] * 2, axis=1)
        value = xp.concatenate([cell.watched] * 2, axis=1) * ends
        out.append(xp.where(closed, value, 1.0 if order == 0 else 0.0))
    return out[0], out[1], out[2]


def tie(r: Any, cell: FrozenCell, xp: Any) -> Any:
    """Return what a multiplier cannot be told from zero by, as `Cells.tie` does."""
    return cell.tie * xp.sum((xp.abs(r) + xp.abs(cell.y)) * cell.norms)


def smallest(xp: Any, before: Any, after: Any, h: Any, touch: Any) -> Any:
    """Return the least Bernstein coefficient of what starts, or may come, above zero.

    What starts within `touch` of zero has been dealt with: it has left when it is `touch`
    on the wrong side, as in `flowsim.engines.piecewise.roots.first_exit`.
    """
    lift = xp.where(xp.abs(before[0]) <= touch, 2.0 * touch, 0.0)
    return xp.min(xp.stack([xp.min(b + lift) for b in bernstein(before, after, h)]))


def _module(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return np
    import jax.numpy as jnp

    return jnp
