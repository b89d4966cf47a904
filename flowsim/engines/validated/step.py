"""One step: the Taylor polynomials with remainders that are proved, and how errors grow.

Let ``z*`` be the exact solution in the present cells from the midpoints of the state. Its
Taylor polynomial of order p differs from it by at most ``||z_j|| (e^theta - 1) q^(p+1)/(1 - q)``
(Cauchy's estimate on the disc of `flowsim.engines.validated.majorant`, q = h/rho). The true
solution z starts within the state's errors from it. In fixed cells the flow is that of a smooth
loss, whose negative Hessian is

    J = -(weight) sum_k grad h_k grad h_k^T + blockdiag M(D_j),

symmetric, so that ``||z - z*||' <= max_j ||D_j|| ||z - z*||``: errors grow at most by
``exp(int max_j ||D_j|| dt)``, and not at all near the end, where D vanishes. Each neuron's own
error obeys ``e_j' <= ||D_j|| e_j + ||z*_j|| ||D_j(z) - D_j(z*)||``.
"""

from __future__ import annotations

from functools import cached_property

from flint import arb, arb_poly, ctx

from flowsim.engines.validated.balls import BOUND_BITS, ZERO, dot, size, widened
from flowsim.engines.validated.expansion import Expansion
from flowsim.engines.validated.majorant import Majorant
from flowsim.engines.validated.state import BallState, Box
from flowsim.engines.validated.system import Code, System
from flowsim.engines.validated.undecided import Undecided


class Step:
    """The flow over ``[0, h]`` from a state, in its cells.

    Parameters
    ----------
    system : System
    state : BallState
    expansion : Expansion
        Of the state's moving neurons.
    majorant : Majorant
    h : arb
        Exact, less than the majorant's radius.
    rigorous : bool
        Without, errors and remainders are left out.

    Attributes
    ----------
    spread : arb
        Bound of ``||z - z*||`` on the step.
    errors : dict
        Bounds of ``||z_j - z*_j||`` on the step.
    tails : dict
        Bounds of a neuron's remainder.
    """

    def __init__(
        self, system: System, state: BallState, expansion: Expansion, majorant: Majorant, h: arb,
        *, rigorous: bool = True,
    ) -> None:  # fmt: skip
        self.system, self.state, self.h = system, state, h
        self.majorant, self.rigorous = majorant, rigorous
        self.expansion, self.order = expansion, expansion.order
        groups = self.groups = expansion.groups
        self.group_of = {j: c for c, g in enumerate(groups) for j in g.neurons}
        self.place = {j: q for g in groups for q, j in enumerate(g.neurons)}
        self._polys: dict[tuple[int, int], arb_poly] = {}
        with ctx.workprec(BOUND_BITS):
            self._bound()

    def _bound(self) -> None:
        """Bound the remainders, and the errors that the state's own errors grow to."""
        system, state, groups = self.system, self.state, self.groups
        if not self.rigorous:
            self.tails = dict.fromkeys(self.group_of, ZERO)
            self.errors = dict.fromkeys(self.group_of, ZERO)
            self.r_tail = self.r_error = [ZERO] * system.n
            self.spread = ZERO
            return
        tail, h = self.majorant.tail(self.h, self.order), self.h
        sizes = {j: size(state.neurons[j].z) for j in self.group_of}
        self.tails = {
            j: (sizes[j] * self.majorant.rise[c] * tail).upper() for j, c in self.group_of.items()
        }
        self.r_tail = [(v * tail).upper() for v in self.majorant.drift]
        terms = [[size(series[i] for series in g.D) for i in range(self.order + 1)] for g in groups]
        D_tail = [(v * self.majorant.span.exp() * tail).upper() for v in self.majorant.d]
        turning = [(_integral(t, h) + h * v).upper() for t, v in zip(terms, D_tail, strict=True)]
        if not groups:
            self.errors, self.r_error, self.spread = {}, [ZERO] * system.n, state.error
            return
        together = [max(column) for column in zip(*terms, strict=True)]
        fastest = (_integral(together, h) + h * max(D_tail)).upper()
        whole = size(sizes[j] * turning[c].exp() for j, c in self.group_of.items())
        trial = (2 * state.error * fastest.exp()).upper()
        # |h_k(z* + e) - h_k(z*)| <= max_j ||G_jk|| (||z*|| ||e|| + ||e||^2 / 2)
        factor = ZERO if system.frozen else (whole * trial + trial * trial / 2).upper()
        self.r_error = [
            (max(g.cell.bound[k] for g in groups) * factor).upper() for k in range(system.n)
        ]
        weight = arb(system.weight)
        shift = [
            (weight * dot(g.cell.bound, self.r_error)).upper() for g in groups
        ]  # ||D_c(z) - D_c(z*)||
        self.spread = (state.error * (fastest + h * max(shift)).exp()).upper()
        if not (self.spread <= trial):
            raise Undecided("errors have grown too large", ZERO)
        self.errors = {}
        for j, c in self.group_of.items():
            growth = (turning[c] + h * shift[c]).exp()
            own = (growth * (state.neurons[j].error + h * sizes[j] * shift[c])).upper()
            self.errors[j] = min(own, self.spread)

    def poly(self, j: int, p: int) -> arb_poly:
        """Return the Taylor polynomial of component p of neuron j, (a, w)."""
        if (j, p) not in self._polys:
            group = self.groups[self.group_of[j]]
            series = group.z[self.place[j] * (self.system.d + 1) + p :: group.width]
            self._polys[j, p] = arb_poly(series)
        return self._polys[j, p]

    @cached_property
    def r_polys(self) -> list[arb_poly]:
        """Taylor polynomials of the residual."""
        return [arb_poly(series) for series in self.expansion.r]

    def star(self, j: int, tau: arb) -> list[arb]:
        """Return balls of ``z*_j`` at the times of the ball `tau`, in [0, h]."""
        return [widened(self.poly(j, p)(tau), self.tails[j]) for p in range(self.system.d + 1)]

    def true(self, j: int, tau: arb) -> list[arb]:
        """Return balls of the true ``z_j``."""
        return [widened(v, self.errors[j]) for v in self.star(j, tau)]

    def box(self, tau: arb) -> Box:
        """Return the true state at the times of `tau`, as balls."""
        codes: dict[int, Code] = {j: self.groups[c].cell.code for j, c in self.group_of.items()}
        return Box(self.system, {j: self.true(j, tau) for j in self.group_of}, codes)


def _integral(terms: list[arb], h: arb) -> arb:
    """Return ``sum_i terms_i h^(i+1)/(i+1)``."""
    total, power = ZERO, h
    for i, term in enumerate(terms):
        total, power = total + term * power / (i + 1), power * h
    return total.upper()
