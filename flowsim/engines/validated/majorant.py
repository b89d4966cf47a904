"""An a-priori bound of the flow on a complex disc of times: where it is analytic, and how large.

Let ``delta_c`` be a bound of ``||D_c||`` and ``M_c`` the sum of ``||z_j||^2`` over the neurons of
a cell c at the start. From ``z_j' = M(D_j) z_j``, ``||M(D)|| = ||D||`` and

    D_c' = -sum_j A_cj (w_j w_j^T + a_j^2 I) D_j,     A_cc' = B_c G_c'^T,

on every ray of complex time

    delta_c' <= sum_c' ||A_cc'|| M_c' e^(2 int delta_c') delta_c'.

So if ``d_c >= ||D_c(0)||`` and, with ``theta_c = d_c (e^(mu rho) - 1)/mu``,

    sum_c' ||A_cc'|| M_c' e^(2 theta_c') d_c' < mu d_c     for all c,

then ``||D_c(tau)|| <= d_c e^(mu |tau|)`` and ``||z_j(tau)|| <= ||z_j(0)|| e^theta_c`` for
``|tau| <= rho``: the strict inequality keeps the solution from being the first to reach the bound.
The solution is therefore analytic on that disc, and Cauchy's estimate bounds every Taylor
coefficient.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, expm1, inf, log

import numpy as np
from flint import arb, ctx

from flowsim.engines.validated.balls import BOUND_BITS, ZERO, size, to_float
from flowsim.engines.validated.expansion import Group
from flowsim.engines.validated.system import System
from flowsim.engines.validated.undecided import Undecided

#: Values of mu rho that are tried.
SPANS = (0.02, 0.3, 1.0, 2.5, 6.0, 12.0, 24.0)
#: Larger exponents are no bounds worth having.
LARGEST_THETA = 200.0
#: The inequality is made strict by this factor.
STRICT = 1.02


@dataclass(frozen=True, eq=False)
class Majorant:
    """A proved bound on ``|tau| <= rho``; all numbers are exact.

    Attributes
    ----------
    d : list (C)
        ``||D_c|| <= d_c e^span``.
    rise : list (C)
        Bounds of ``e^theta_c - 1``; not of ``e^theta_c``, whose rounding would hide small ones.
    drift : list (n)
        Bounds of ``|r_k(tau) - r_k(0)|``.
    """

    rho: arb
    span: arb
    d: list[arb]
    rise: list[arb]
    drift: list[arb]

    def tail(self, h: arb, order: int) -> arb:
        """Return ``q^(order+1)/(1 - q)``, q = h/rho: what remains of a function bounded by 1."""
        q = (h / self.rho).upper()
        return (q ** (order + 1) / (1 - q)).upper()


@dataclass(eq=False)
class Search:
    """Finds the disc that allows the longest step; remembers the last one as a first guess."""

    rho: float = 0.0
    place: int = 2

    def find(
        self, system: System, groups: list[Group], order: int, bits: float
    ) -> tuple[Majorant, float]:
        """Return a proved majorant and the step that makes the remainder ``2**-bits``."""
        problem = _Problem(system, groups)
        slope = exp(-bits * log(2.0) / (order + 1))
        if not self.rho > 0.0:
            self.rho = 1.0 / max(float(np.max(problem.d0)), 1e-300)
        best = (0.0, self.place, self.rho, problem.d0)
        places = range(max(self.place - 1, 0), min(self.place + 2, len(SPANS)))
        for place in places:
            best = max(best, self._climb(problem, place, slope, order), key=lambda b: b[0])
        h, self.place, self.rho, d = best
        return problem.proved(self.rho, SPANS[self.place], d), h

    def _climb(
        self, problem: _Problem, place: int, slope: float, order: int
    ) -> tuple[float, int, float, np.ndarray]:
        """Move rho by factors until the step is longest."""

        def step(rho: float) -> tuple[float, np.ndarray]:
            d, theta = problem.settle(rho, SPANS[place])
            if d is None:
                return 0.0, problem.d0
            # The remainder is e^theta - 1 times what the step makes of it.
            return rho * slope * expm1(max(theta, 1e-300)) ** (-1.0 / (order + 1)), d

        rho = self.rho
        h, d = step(rho)
        while h == 0.0:
            if rho < 1e-300:
                raise Undecided("no step is short enough to be bounded", ZERO)
            rho *= 0.5
            h, d = step(rho)
        for factor in (1.3, 1 / 1.3):
            while True:
                longer, other = step(rho * factor)
                if not longer > h:
                    break
                h, d, rho = longer, other, rho * factor
                if rho > 1e30:
                    return h, place, rho, d
        return h, place, rho, d


class _Problem:
    """The inequality of one state, in floats and in balls."""

    def __init__(self, system: System, groups: list[Group]) -> None:
        self.system, self.groups = system, groups
        self.d0_exact = [size(series[0] for series in g.D) for g in groups]
        self.mass_exact = [(size(g.z[: g.width]) ** 2).upper() for g in groups]
        self.coupling = [[system.coupling(p.cell, q.cell) for q in groups] for p in groups]
        self.alpha = np.array([[to_float(v) for v in row] for row in self.coupling])
        if system.frozen:
            self.alpha[:] = 0.0
        self.mass = np.array([to_float(v) for v in self.mass_exact])
        d0 = np.array([to_float(v) for v in self.d0_exact]) * (1.0 + 1e-12)
        self.d0 = np.maximum(d0, 1e-30 * max(float(d0.max()), 1e-250))

    def settle(self, rho: float, span: float) -> tuple[np.ndarray | None, float]:
        """Return d that satisfies the inequality, and the largest theta; None if none is found."""
        factor = rho * expm1(span) / span
        d = self.d0
        for _ in range(40):
            theta = factor * d
            top = float(theta.max())
            if top > LARGEST_THETA:
                break
            need = self.alpha @ (self.mass * np.exp(2.0 * theta) * d) * (rho / span)
            if np.all(need * STRICT**0.5 <= d):
                return d, top
            d = np.maximum(self.d0, np.maximum(d, STRICT * need))
        return None, inf

    def proved(self, rho: float, span: float, d: np.ndarray) -> Majorant:
        """Return the bound, its inequality checked in balls.

        Raises
        ------
        Undecided
            If it does not hold: the floats were too coarse.
        """
        with ctx.workprec(BOUND_BITS):
            s, radius = arb(span), arb(rho)
            exact_d = [arb(float(v)) for v in d]
            theta = [(v * radius * s.expm1() / s).upper() for v in exact_d]
            rise = [v.expm1().upper() for v in theta]
            loads = [
                m * (1 + u) ** 2 * v for m, u, v in zip(self.mass_exact, rise, exact_d, strict=True)
            ]
            holds = all(v >= d0 for v, d0 in zip(exact_d, self.d0_exact, strict=True))
            drift = [ZERO] * self.system.n
            if not self.system.frozen:
                for row, v in zip(self.coupling, exact_d, strict=True):
                    total = sum((x * load for x, load in zip(row, loads, strict=True)), ZERO)
                    holds = holds and bool(total * radius < s * v)
                for group, load in zip(self.groups, loads, strict=True):
                    lasting = load * radius * s.expm1() / s
                    drift = [
                        (u + b * lasting).upper()
                        for u, b in zip(drift, group.cell.bound, strict=True)
                    ]
            if not holds:
                raise Undecided("the bound of the next step does not hold", ZERO)
            return Majorant(radius, s, exact_d, rise, drift)
