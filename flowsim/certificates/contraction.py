"""Theorems A and B in balls: the flow keeps its cells and the loss contracts to its limit.

Notation and proof: docs/certificates.md. With ``ω = 1/n`` (2/n for the mean loss),
``B_j = diag(c_j) X P_j``, V the range of the core's, ``e = P_V r``, ``E = (ω e.e)^½``,
``K = ω Σ_core B̂_j (a_j² + w_j w_jᵀ) B̂_jᵀ``, ``μ = λ_min(K on V)``,
``τ_j = ω^½ (|K^-½ B_j| + Σ_open (1-s) |x_g| |K^-½ b_g|)`` and ``q = τ E₀ / μ^½``: if
``∫_0^Δ g² >= q`` for the kernel's bound ``K(t) >= g(Δ)² K(0)``, then neuron j turns by at most
``τ_j Δ / τ`` and ``L - L_∞`` decays like ``exp(-2 μ g(Δ)² t)``, or as slowly as neurons fade.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from flint import arb, arb_mat
from scipy.optimize import linprog

from flowsim.certificates import fading
from flowsim.certificates.balls import (
    NotProvedError,
    ball,
    column,
    dot,
    eigenvalue_bounds,
    identity,
    is_positive,
    largest_eigenvalue,
    lower,
    square,
    upper,
)
from flowsim.certificates.basis import Basis
from flowsim.certificates.claim import Cell, Claim, Neuron
from flowsim.certificates.forces import Forces
from flowsim.certificates.placed import Placed, place, projector, residual
from flowsim.certificates.planes import Data
from flowsim.certificates.sides import check_sides

#: Roles of neurons whose turning is bounded.
MOVING = ("core", "carried")


@dataclass(frozen=True, eq=False)
class Contraction:
    """What Theorem A says of a claim, all in balls.

    Attributes
    ----------
    basis : Basis
        Of V.
    placed : list of Placed
    r_star : list of n balls
        The residual's limit.
    loss, limit_loss : arb
    mu, tau, E0, q, turning, rate : arb
        As above; `mu` and `rate` are lower bounds, `tau`, `q` and `turning` upper ones.
    slack : arb
        The smallest sine of a margin less that of what it must exceed.
    """

    basis: Basis
    placed: list[Placed]
    r_star: list[arb]
    loss: arb
    limit_loss: arb
    mu: arb
    tau: arb
    E0: arb
    q: arb
    turning: arb
    rate: arb
    slack: arb


def contraction(claim: Claim) -> Contraction:
    """Prove Theorem A (B, if the core fits everything) for a claim.

    Raises
    ------
    NotProvedError
        With what does not hold.
    """
    data = claim.data
    _check_roles(claim)
    placed = place(claim)
    if not claim.having("core"):
        return _resting(claim, placed)
    basis = Basis.of(claim)
    r = residual(claim, placed)
    e, r_star = basis.split(r)[0], basis.split([ball(y) for y in data.y])[1]
    omega = ball(data.weight)
    kernel = _Kernel(claim, basis, placed)
    faded = fading.reach(data, placed)
    E0 = upper((omega * dot(e, e)).sqrt() + faded)
    tau_of = {cell: kernel.tau(cell) for cell in claim.cells(*MOVING)}
    tau = upper(_largest([tau_of[cell] for cell in claim.cells("core")]))
    q = upper(tau * E0 / kernel.mu.sqrt())
    turning = ball(claim.turning)
    worst = _check_turning(q, turning, [placed[j] for j in claim.having("core")])
    angle_of = {cell: upper(reach * turning / tau) for cell, reach in tau_of.items()}
    angles: list[arb | None] = [None] * len(placed)
    for j in claim.having(*MOVING):
        angles[j] = angle_of[claim.neurons[j].cell]
    still = arb(0)
    for j in claim.having("free", "dead", "fading"):
        angles[j] = still
    slack = check_sides(data, placed, angles)
    rate = 2 * kernel.mu * worst
    if not claim.everything:
        forces = Forces(data, basis, r_star, E0 / omega.sqrt(), faded / omega.sqrt())
        slack = slack.min(_check_forces(claim, placed, angles, forces))
        room, fades = fading.check(placed, forces)
        slack = slack.min(room)
        rate = rate if fades is None else rate.min(fades)
    half = omega / 2
    return Contraction(
        basis, placed, r_star, half * dot(r, r), half * dot(r_star, r_star),
        kernel.mu, tau, E0, q, turning, lower(rate), slack,
    )  # fmt: skip


def _resting(claim: Claim, placed: list[Placed]) -> Contraction:
    """Return what holds where no neuron moves: the outputs are zero, and stay so."""
    data = claim.data
    y, none = [ball(v) for v in data.y], arb(0)
    angles = [none if p.neuron.role == "dead" else None for p in placed]
    slack = check_sides(data, placed, angles)
    loss = ball(data.weight) / 2 * dot(y, y)
    return Contraction(
        Basis.empty(data.n), placed, y, loss, loss, none, none, none, none, none, none, slack
    )


def _largest(balls: Sequence[arb]) -> arb:
    top = balls[0]
    for x in balls[1:]:
        top = top.max(x)
    return top


def _check_forces(
    claim: Claim, placed: Sequence[Placed], angles: Sequence[arb | None], forces: Forces
) -> arb:
    """Check that slides and walls hold, once for all neurons of a cell; return the least slack."""
    slack, seen = arb(1), set()
    for kind in claim.kinds_of(*MOVING):
        neuron = claim.neurons[kind[0]]
        if not (neuron.slides or neuron.walls):
            continue
        for j in kind:
            _check_sign(j, placed[j], angles[j])
        if (neuron.cell, neuron.sign) not in seen:
            seen.add((neuron.cell, neuron.sign))
            slack = slack.min(forces.check(kind[0], neuron))
    return slack


def _check_sign(j: int, p: Placed, angle: arb | None) -> None:
    """Check that a neuron's a cannot vanish while it turns by `angle`."""
    assert angle is not None
    if not p.dominated and not square([p.a, *p.w]).sqrt() * angle.expm1() < abs(p.a):
        raise NotProvedError(f"a of neuron {j} may change its sign")


def _check_roles(claim: Claim) -> None:
    """Check what the roles allow, before anything is computed."""
    if not claim.having("core") and (
        claim.everything or claim.having("carried", "free", "fading", "removed")
    ):
        raise NotProvedError("there is no core, but neurons move")
    for kind in claim.kinds:
        _check_role(claim, kind[0], claim.neurons[kind[0]])
    for j in claim.having("fading"):
        if not claim.neurons[j].gap == 0:
            raise NotProvedError(f"neuron {j} is not one that fades")
    for dead in claim.cells("dead").values():
        _check_off(claim.data, dead[0], claim.neurons[dead[0]])
    for j in claim.having("origin")[:1]:  # its data decide
        _check_origin(claim.data, j)


def _check_role(claim: Claim, j: int, neuron: Neuron) -> None:
    """Check what a neuron's role allows of its cell, and of the hyperplanes that it is held on."""
    data, everything = claim.data, claim.everything
    slides, loose = set(neuron.slides), {*neuron.walls, *neuron.open}
    if set(neuron.walls) & set(neuron.open) or slides & loose:
        raise NotProvedError(f"neuron {j} has a hyperplane of two kinds")
    if neuron.role in MOVING and not slides <= set(neuron.held) <= slides | loose:
        raise NotProvedError(f"neuron {j} is held on a hyperplane that it may leave")
    if everything and (neuron.role == "carried" or (neuron.role == "core" and slides)):
        raise NotProvedError("where the core fits every label, all hyperplanes are open")
    if neuron.role == "fading":
        fading.check_role(data, j, neuron, everything=everything)
    if everything and neuron.walls:
        raise NotProvedError("where the core fits every label, all hyperplanes are open")
    if not everything and neuron.role == "free":
        raise NotProvedError(f"neuron {j} may go anywhere, but the core does not fit every label")


def _check_off(data: Data, j: int, neuron: Neuron) -> None:
    """A dead neuron has every sample off, and no slope that keeps it alive."""
    if data.slope:
        raise NotProvedError(f"neuron {j} cannot be dead: the slope is not zero")
    for g, side in enumerate(neuron.code):
        if side == 0 or any(side * data.scale[k] > 0 for k in data.members[g]):
            raise NotProvedError(f"neuron {j} is not off on sample {data.leader[g]}")


def _check_origin(data: Data, j: int) -> None:
    """A neuron with w = 0 stays there if some direction has every sample off."""
    if data.slope:
        raise NotProvedError(f"neuron {j} cannot rest at the origin: the slope is not zero")
    X = np.array([[float(x / max(map(abs, row))) for x in row] for row in data.X])
    X /= np.linalg.norm(X, axis=1)[:, None]
    ends = [(-1.0, 1.0)] * data.d + [(None, 1.0)]
    found = linprog(
        np.append(np.zeros(data.d), -1.0), np.column_stack([X, np.ones(data.n)]),
        np.zeros(data.n), bounds=ends,
    )  # fmt: skip
    u = [] if found.x is None else [Fraction(x) for x in found.x[:-1].tolist()]
    if not u or any(sum(x * v for x, v in zip(row, u, strict=True)) >= 0 for row in data.X):
        raise NotProvedError(f"neuron {j} may leave the origin: no direction has all samples off")


class _Kernel:
    """K on V in the coordinates of a basis, and how far its cells' fields reach."""

    def __init__(self, claim: Claim, basis: Basis, placed: Sequence[Placed]) -> None:
        self.data, self.basis = claim.data, basis
        self.omega = ball(claim.data.weight)
        K = arb_mat(basis.size, basis.size)
        for cell, members in claim.cells("core").items():
            F = self._features(cell, free=True)
            moment = self._moment(cell, [placed[j] for j in members])
            K += self.omega * (F * moment * F.transpose())
        self.mu = self._least(K)
        self.inverse = K.inv()

    def _least(self, K: arb_mat) -> arb:
        """Return a lower bound of the eigenvalues of K on V, which must be positive."""
        low = eigenvalue_bounds(K)[0]
        if not is_positive(low):
            raise NotProvedError("the core's kernel is singular to rounding")
        return lower(low / self.basis.gram_top)

    def _moment(self, cell: Cell, members: Sequence[Placed]) -> arb_mat:
        """Return ``Σ a² + w wᵀ`` of a cell, without the second where neurons may leave it."""
        moment = square([p.a for p in members]) * identity(self.data.d)
        if cell.walls or cell.open:
            return moment
        W = arb_mat([p.w for p in members])
        return moment + W.transpose() * W

    def _features(self, cell: Cell, *, free: bool) -> arb_mat:
        """Return ``Qᵀ diag(c) X P``, P orthogonal to the slides, and if `free` to loose planes."""
        slides = list(cell.slides)
        held = sorted({*slides, *cell.walls, *cell.open}) if free else slides
        if len(held) >= self.data.d:  # nothing is left, if they are independent
            held = self._independent(held)
        c = self.data.factors(cell.code)
        rows = [[ck * x for x in row] for ck, row in zip(c, self.data.x.tolist(), strict=True)]
        return self.basis.coordinates(arb_mat(rows)) * projector(self.data, held)

    def _independent(self, planes: list[int]) -> list[int]:
        """Return the first hyperplanes of a list that are independent: they span the rest or not,
        a projector orthogonal to fewer of them would not do."""
        kept: list[int] = []
        for g in planes:
            try:
                projector(self.data, [*kept, g])
            except NotProvedError:
                continue
            kept.append(g)
        if len(kept) < self.data.d and len(kept) < len(planes):
            raise NotProvedError("a neuron is near linearly dependent hyperplanes")
        return kept

    def tau(self, cell: Cell) -> arb:
        """Return an upper bound of ``τ_j`` of a cell's neurons."""
        F = self._features(cell, free=False)
        reach = largest_eigenvalue(F.transpose() * self.inverse * F).sqrt()
        jump = 1 - ball(self.data.slope)
        for g in cell.open:
            b = self.basis.coordinates(column(self._kink(g)))
            length = upper((b.transpose() * self.inverse * b)[0, 0]).sqrt()
            reach += jump * self.data.normal_size[g] * length
        return upper(self.omega.sqrt() * reach)

    def _kink(self, g: int) -> list[arb]:
        column = [arb(0)] * self.data.n
        for k, size in self.data.kink(g):
            column[k] = ball(size)
        return column


def _check_turning(q: arb, turning: arb, core: Sequence[Placed]) -> arb:
    """Check that ``∫_0^Δ g² > q``; return ``g(Δ)²``, by which the kernel may shrink.

    ``g² = exp(-κΔ)``, κ = 3/√2, for ``|a| >= |w|``; else ``g = 1 - ρ(e^Δ - 1)`` with ρ the
    largest ``|(a, w)| / |a|``.
    """
    if not is_positive(turning):
        raise NotProvedError("the bound of the turning is not positive")
    if all(p.dominated for p in core):
        kappa = 3 / arb(2).sqrt()
        worst = (-kappa * turning).exp()
        room = (1 - worst) / kappa
    else:
        rho = upper(_largest([square([p.a, *p.w]).sqrt() / abs(p.a) for p in core]))
        shrunk = 1 - rho * turning.expm1()
        if not is_positive(shrunk):
            raise NotProvedError("neurons may turn so far that the kernel vanishes")
        worst = shrunk * shrunk
        top = 1 + rho
        room = (
            top * top * turning
            - 2 * rho * top * turning.expm1()
            + rho * rho * (2 * turning).expm1() / 2
        )
    if not room > q:
        raise NotProvedError(
            f"the residual is too large for the core to contract it: q = {float(q.mid()):.3g}"
        )
    return worst
