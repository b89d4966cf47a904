"""Long steps through stiff tails: the residual's polynomial by collocation, L-stable.

Near its end the flow has fast directions that are at rest, and slow ones. A Taylor step is then
as short as the fast ones' stability asks. But neurons turn slowly there, whatever the residual
does; stiff is only its feedback. So take the residual as a polynomial through its values R at s
Radau nodes of the step, let neurons follow their (linear, not stiff) flow under it, and demand

    R_i = y - h(z(t_i; R)).

That is Radau IIA with s stages, order 2s - 1 (Hairer & Wanner 1996, IV.5), but for its stages:
neurons move by their Taylor series. It is solved by Newton's method with the kernel frozen,

    r' = -K r,   K = weight sum_q B_q (sum a^2 P_q + sum w w^T) B_q^T,   B_q = diag(c_q) X,

which falls into scalar equations, one an eigenvector of K: (1 + h lambda A) delta = rho, with A
the s x s matrix of the method.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial import legendre, polynomial

from flowsim.engines.piecewise import fading
from flowsim.engines.piecewise.expansion import recurrence
from flowsim.engines.piecewise.jit import allocating, compiled, summing
from flowsim.engines.piecewise.kin import add_output
from flowsim.engines.piecewise.motion import evaluate

if TYPE_CHECKING:
    from flowsim.engines.piecewise.expander import Expansion
    from flowsim.engines.piecewise.integrator import Integrator

#: Stages; polynomials of this degree are still evaluated to the last digit.
STAGES = 10
#: Newton iterations; each gains the factor by which neurons turn in the step.
ITERATIONS = 12
#: Newton's method may stall where what it still changes is below so many tolerances.
STALLED = 1.0
#: A neuron's own series may be cut off by so many tolerances.
TRUNCATED = 16.0
#: Changes beyond this many times the rounding of outputs are none of rounding.
ROUNDED = 64.0
#: Modes of the kernel that are faster than this part of the fastest are told apart.
RANK = 1e-15
#: Kernels of more groups times inputs, and samples, than this are left to Taylor steps.
LARGEST = 400


@dataclass(frozen=True, eq=False)
class Radau:
    """Radau's nodes on (0, 1], and what turns values there into coefficients and integrals."""

    nodes: np.ndarray  # (s,)
    integral: np.ndarray  # (s, s): of the polynomial through the values, from 0 to each node
    power: np.ndarray  # (s, s): its coefficients in powers
    top: np.ndarray  # (2, s): its two highest coefficients in Legendre's polynomials


@cache
def radau(stages: int) -> Radau:
    """Return the right Radau nodes and their matrices."""
    # The roots of P_s - P_{s-1} on [-1, 1], of which 1 is one.
    series = np.zeros(stages + 1)
    series[-2:] = -1.0, 1.0
    roots = np.sort(legendre.legroots(series).real)
    for _ in range(3):  # to the last digit
        roots -= legendre.legval(roots, series) / legendre.legval(roots, legendre.legder(series))
    roots[-1] = 1.0
    nodes = 0.5 * (roots + 1.0)
    values = legendre.legvander(roots, stages - 1)
    to_legendre = np.linalg.inv(values)
    antiderivatives = [
        legendre.legval(roots, legendre.legint(unit, lbnd=-1.0)) / 2.0 for unit in np.eye(stages)
    ]
    shifted = np.zeros((stages, stages))
    for k, unit in enumerate(np.eye(stages)):
        on_unit = legendre.leg2poly(unit[: k + 1])
        total = np.zeros(1)
        for c in on_unit[::-1]:  # Horner, in x of [0, 1]
            total = polynomial.polyadd(polynomial.polymul(total, [-1.0, 2.0]), [c])
        shifted[: len(total[: k + 1]), k] = total[: k + 1]
    return Radau(
        nodes, np.array(antiderivatives).T @ to_legendre, shifted @ to_legendre, to_legendre[-2:]
    )


@dataclass(frozen=True, eq=False)
class Modes:
    """Eigenvectors (n, M) and eigenvalues (M,) of the kernel."""

    U: np.ndarray
    rate: np.ndarray

    @classmethod
    def of(cls, flow: Integrator, e: Expansion) -> Modes:
        """Decompose the kernel of the present state."""
        cells = flow.cells
        U, sigma = left_singular(_factor(flow, e))
        rate = cells.weight * sigma**2
        kept = rate > RANK * np.max(rate, initial=0.0)
        return cls(U[:, kept], rate[kept])

    def slow(self, h: float, c: np.ndarray) -> np.ndarray:
        """Return what is left of an error c (..., n) of the residual after feedback over `h`."""
        gone = h * self.rate / (1.0 + h * self.rate)
        return c - ((c @ self.U) * gone) @ self.U.T


def _factor(flow: Integrator, e: Expansion) -> np.ndarray:
    """Return F (n, groups d) with ``K = weight F F^T``."""
    cells, groups, d = flow.cells, flow.groups, flow.cells.d
    blocks = np.empty((len(e.active), d, d))
    second_moments(
        e.active, e.start, e.members, flow.state.z, e.mass, groups.projected, groups.projector,
        blocks,
    )  # fmt: skip
    values, vectors = np.linalg.eigh(blocks)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None]
    return ((cells.X @ root) * _slopes(flow, e)[:, :, None]).transpose(1, 0, 2).reshape(cells.n, -1)


def _slopes(flow: Integrator, e: Expansion) -> np.ndarray:
    """Return the slopes of sigma at the samples in the groups' cells (groups, n)."""
    on = flow.groups.on[e.active]
    return np.where(on > 0, 1.0, np.where(on < 0, flow.cells.slope, 0.0))


def left_singular(F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the left singular vectors of F (n, p), and its singular values, descending.

    Not by LAPACK, whose many small steps wait for the threads of BLAS where other work keeps cores
    busy. Vectors of values near `RANK` may be orthogonal to some digits only, others left out.
    """
    if F.shape[1] > F.shape[0]:
        U, sigma, _ = np.linalg.svd(F, full_matrices=False)
        return U, sigma
    squares = np.sum(F**2, axis=0)
    # Columns that add nothing above `RANK`: most, where most groups are of light neurons.
    F = F[:, squares * len(squares) > RANK * np.max(squares, initial=0.0)]
    Q, R, U = np.ascontiguousarray(F.T), np.zeros((F.shape[1],) * 2), np.zeros(F.shape[::-1])
    orthonormalise(Q, R)
    rotation, sigma, _ = np.linalg.svd(R)
    combine(rotation, Q, U)
    return U.T, sigma


@summing
def orthonormalise(Q, R):  # pragma: no cover - compiled
    """Replace the rows of Q (p, n) by orthonormal ones, ``Q_before^T = Q^T R``; R comes zero.

    By the modified method of Gram and Schmidt, which takes each row out of all later ones.
    """
    p, n = Q.shape
    for i in range(p):
        s = 0.0
        for k in range(n):
            s += Q[i, k] * Q[i, k]
        R[i, i] = np.sqrt(s)
        f = 1.0 / R[i, i] if s > 0.0 else 0.0
        for k in range(n):
            Q[i, k] *= f
        for j in range(i + 1, p):
            s = 0.0
            for k in range(n):
                s += Q[i, k] * Q[j, k]
            R[i, j] = s
            for k in range(n):
                Q[j, k] -= s * Q[i, k]


@summing
def combine(rotation, Q, out):  # pragma: no cover - compiled
    """Add ``rotation^T Q`` to out (p, n)."""
    for i in range(out.shape[0]):
        for j in range(Q.shape[0]):
            f = rotation[j, i]
            for k in range(out.shape[1]):
                out[i, k] += f * Q[j, k]


@compiled
def second_moments(  # pragma: no cover - compiled
    active, start, members, z, mass, projected, projector, out
):
    """Write ``sum a^2 P + sum w w^T`` (d, d) of each group, P its projector onto its slides."""
    d = out.shape[1]
    for q in range(active.shape[0]):
        out[q], aa, g = 0.0, 0.0, active[q]
        for u in range(start[q], start[q + 1]):
            j = members[u]
            aa += mass[j] * z[j, 0] ** 2
            for i in range(d):
                f = mass[j] * z[j, 1 + i]
                for s in range(d):
                    out[q, i, s] += f * z[j, 1 + s]
        for i in range(d):
            for s in range(d):
                unprojected = 1.0 if i == s else 0.0
                out[q, i, s] += aa * (projector[g, i, s] if projected[g] else unprojected)


@compiled
def follow(order, unit, groups, first, fades, D, A, W):  # pragma: no cover - compiled
    """Write the coefficients of all columns under given fields; of those that fade, as if none."""
    for q in range(groups):
        for c in range(first[q], first[q + 1]):
            if fades[q]:
                A[c, 1:], W[c, 1:] = 0.0, 0.0
                continue
            for i in range(order):
                recurrence(i, unit, D[q], A[c], W[c])


@allocating
def outputs_at(  # pragma: no cover - compiled
    x, slope, on, active, start, members, mass, first, wide, A, W, Q, U
):
    """Add the outputs of all groups at `x` (in units) to U (d, n)."""
    d = W.shape[2]
    z = np.empty((d + 1, d + 1))
    v = np.empty(d)
    for q in range(active.shape[0]):
        c0, c1 = first[q], first[q + 1]
        for c in range(c0, c1):
            evaluate(x, A[c], W[c], z[c - c0])
        v[:] = 0.0
        if start[q + 1] - start[q] <= d + 1:
            for b in range(c1 - c0):
                f = mass[members[start[q] + b]] * z[b, 0]
                for i in range(d):
                    v[i] += f * z[b, 1 + i]
        else:
            for b in range(d + 1):
                f = 0.0
                for c in range(d + 1):
                    f += z[c, 0] * Q[wide[q], c, b]
                for i in range(d):
                    v[i] += f * z[b, 1 + i]
        add_output(slope, on[active[q]], v, U)


def collocate(flow: Integrator, e: Expansion, h: float, modes: Modes) -> float:
    """Make `e` the expansion over a step `h`; return its error over the tolerance.

    `modes` are those of the state.

    That is the largest turning of a neuron that the polynomial's two highest terms make, after
    feedback, or that of the neurons' own series. Infinite if Newton's method does not converge.
    """
    cells, method = flow.cells, radau(min(STAGES, flow.order - 2))
    s = len(method.nodes)
    at_nodes = np.vander(method.nodes, s, increasing=True)
    inverse = np.linalg.inv(np.eye(s) + h * modes.rate[:, None, None] * method.integral)
    floor = 8.0 * np.finfo(float).eps * (np.abs(e.r[0]).max() + np.abs(cells.y).max())
    e.unit, e.r[1:], e.fades = h, 0.0, fading.find(flow, e, h)
    before = np.inf
    for _ in range(ITERATIONS):
        _follow(flow, e)
        # What the polynomial is, not what values it was made of: so no digits are lost to powers.
        now = np.array([_outputs(flow, e, x) for x in method.nodes])
        rho = cells.y - now - at_nodes @ e.r[:s]
        if not np.all(np.isfinite(rho)):
            return np.inf
        along = rho @ modes.U
        solved = np.einsum("mij,jm->im", inverse, along)
        delta = rho + (solved - along) @ modes.U.T
        change = float(np.abs(delta).max())
        if change <= floor:
            break
        if not change < before:  # rounding, which may matter to no neuron
            small = change <= ROUNDED * floor
            if small and _turning(flow, e, h, delta[-1:]) <= STALLED * _allowed(flow, e, h):
                break
            return np.inf
        before = change
        e.r[:s] += method.power @ delta
    else:
        return np.inf
    R = at_nodes @ e.r[:s]
    return _error(flow, e, h, modes.slow(h, method.top @ (R - R[-1])))


def _follow(flow: Integrator, e: Expansion) -> None:
    """Let the columns follow the fields of the residual's polynomial."""
    for i in range(flow.order + 1):
        flow.expander.write_fields(i, e, flow.groups)
    follow(flow.order, e.unit, len(e.active), e.first, e.fades, e.D, e.A, e.W)


def _outputs(flow: Integrator, e: Expansion, x: float) -> np.ndarray:
    U = np.zeros_like(flow.X)
    outputs_at(
        x, flow.cells.slope, flow.groups.on, e.active, e.start, e.members, e.mass, e.first,
        flow.expander.wide, e.A, e.W, flow.expander.moments, U,
    )  # fmt: skip
    return np.einsum("dn,dn->n", flow.X, U)


def _allowed(flow: Integrator, e: Expansion, h: float) -> float:
    """Return what a neuron may be turned by over `h`: the tolerance, or what rounding does."""
    return max(flow.rtol, h * flow.cells.rounding(e.r[0]) / 16.0)


def _turning(flow: Integrator, e: Expansion, h: float, rows: np.ndarray) -> float:
    """Return what terms of the residual, the `rows` (k, n), turn a group by over `h` at most.

    By their signed sums, in which rounding does not add up.
    """
    slopes = _slopes(flow, e)
    fields = flow.cells.weight * np.array([(slopes * row) @ flow.cells.X for row in rows])
    return h * float(np.max(np.sum(np.linalg.norm(fields, axis=2), axis=0)))


def _error(flow: Integrator, e: Expansion, h: float, top: np.ndarray) -> float:
    """Return the step's error over the tolerance; `top` (2, n) are the residual's last terms."""
    columns, allowed = int(e.first[-1]), _allowed(flow, e, h)
    turning = _turning(flow, e, h, top)
    last = max(
        np.sqrt(np.max(e.A[:columns, -i] ** 2 + np.sum(e.W[:columns, -i] ** 2, axis=1)))
        for i in (1, 2)
    )
    if not fading.keep_fading(e):
        return np.inf
    D = np.sum(np.abs(e.D[~e.fades]), axis=1)
    turn = h * float(np.max(np.linalg.norm(D, axis=1), initial=0.0))
    # |D| h <= 2, as in a Taylor step; the powers make errors of the order of the method.
    # Beside what rounding of the field turns neurons by, errors need not be smaller than that.
    truncated = last / min(allowed, TRUNCATED * flow.rtol)
    return max(turning / allowed, truncated, (turn / 2.0) ** len(e.r))
