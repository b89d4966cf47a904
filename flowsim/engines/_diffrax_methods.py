"""Diffrax's Runge--Kutta methods, prepared for problems whose errors are relative to units."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx

from flowsim.engines._diffrax_roots import patient
from flowsim.engines.problem import Problem, Tree
from flowsim.engines.structured import StructuredChord, structured_root_finder


@dataclass(frozen=True)
class Method:
    """What a compiled loop depends on: hashable, so that equal methods compile once.

    Attributes
    ----------
    solver : str or diffrax.AbstractRungeKutta
    """

    solver: Any
    pcoeff: float
    icoeff: float
    dcoeff: float
    linear_solver: str

    @property
    def name(self) -> str:
        """The name of the solver's class."""
        return self.solver if isinstance(self.solver, str) else type(self.solver).__name__

    @property
    def kind(self) -> type:
        """The solver's class."""
        if isinstance(self.solver, str):
            return getattr(diffrax, self.solver)
        return type(self.solver)

    def controller(self, rtol: Any) -> diffrax.PIDController:
        """Return the step-size controller, for an error that is a scalar relative to units."""
        return diffrax.PIDController(
            rtol=0.0,
            atol=rtol,
            pcoeff=self.pcoeff,
            icoeff=self.icoeff,
            dcoeff=self.dcoeff,
            norm=optx.max_norm,
        )


def tableaus(kind: type) -> tuple[diffrax.ButcherTableau, ...]:
    """Return the Butcher tableaus of a Runge--Kutta class, one a term."""
    tableau: Any = getattr(kind, "tableau")  # noqa: B009 (diffrax declares it on subclasses only)
    return (tableau,) if isinstance(tableau, diffrax.ButcherTableau) else tuple(tableau.tableaus)


def is_implicit(kind: type) -> bool:
    """Return whether some stage needs an implicit solve."""
    return any(tableau.implicit for tableau in tableaus(kind))


def is_fsal(kind: type) -> bool:
    """Return whether a step's last stage is the next step's first."""
    return all(tableau.fsal for tableau in tableaus(kind))


@lru_cache(maxsize=64)
def real_stability(kind: type) -> float:
    """Return the length of the real stability interval of an explicit method.

    It is the largest x for which |R| <= 1 on [-x, 0], where
    R(z) = 1 + z b.(I + z A + z^2 A^2 + ...) 1 is the stability function (Hairer & Wanner,
    Solving Ordinary Differential Equations II, IV.2).
    """
    (tableau,) = tableaus(kind)
    size = tableau.num_stages
    A = np.zeros((size, size))
    for row, entries in enumerate(tableau.a_lower, start=1):
        A[row, :row] = entries
    coefficients, power = [1.0], np.ones(size)
    for _ in range(size):
        coefficients.append(float(tableau.b_sol @ power))
        power = A @ power
    R = np.polynomial.Polynomial(coefficients)
    x = np.linspace(0.0, 4.0 * size, 40_001)[1:]
    first = int(np.argmax(np.abs(R(-x)) > 1 + 1e-12))
    low, high = x[first] - x[0], x[first]
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if abs(R(-middle)) > 1 else (middle, high)
    return float(low)


def terms(problem: Problem, kind: type) -> Any:
    """Return the problem as diffrax's terms.

    Implicit--explicit methods get the whole field as their implicit term, and nothing to do
    explicitly.
    """
    field = diffrax.ODETerm(problem.field)
    several = tableaus(kind)
    if len(several) == 1:
        return field
    nothing = diffrax.ODETerm(lambda t, y, args: jax.tree.map(jnp.zeros_like, y))
    return diffrax.MultiTerm(*(field if tableau.implicit else nothing for tableau in several))


def prepare(method: Method, problem: Problem, rtol: Any) -> Any:
    """Return the method's solver, with the root finder that suits the problem if it needs one."""
    kind = method.kind
    solver = kind() if isinstance(method.solver, str) else method.solver
    if is_implicit(kind) and _is_default(solver.root_finder):
        finder = structured_root_finder(problem, rtol, method.linear_solver)
        if finder is not None:
            solver = eqx.tree_at(lambda s: s.root_finder, solver, finder)
    # Nothing here is differentiated in reverse, so no stage needs a checkpoint.
    return eqx.tree_at(lambda s: s.scan_kind, solver, "lax", is_leaf=lambda x: x is None)


def with_tolerance(solver: Any, rtol: Any, size: Tree, h: Any) -> Any:
    """Return the solver with its root finder's tolerances relative to the units at this step."""
    if not is_implicit(type(solver)):
        return solver
    finder = solver.root_finder
    if isinstance(finder, StructuredChord):
        finder = patient(finder, 1.0, size, rtol)
    elif _lacks_tolerance(finder) and isinstance(finder, diffrax.VeryChord):
        # Where a step's last stage is the next one's first, iterates are velocities, and
        # an error in a velocity moves the state by h times as much; else they are increments.
        finder = patient(finder, h if is_fsal(type(solver)) else 1.0, size, rtol)
    elif _lacks_tolerance(finder):
        where = lambda f: (f.rtol, f.atol, f.norm)  # noqa: E731
        finder = eqx.tree_at(where, finder, (rtol, rtol, optx.max_norm))
    return eqx.tree_at(lambda s: s.root_finder, solver, finder)


def _lacks_tolerance(finder: Any) -> bool:
    """Return whether a root finder waits for the step-size controller's tolerances."""
    return not isinstance(getattr(finder, "rtol", 0.0), float | int | jax.Array | np.ndarray)


def _is_default(finder: Any) -> bool:
    # Someone who chose a root finder, or its linear solver, keeps it.
    return (
        type(finder) is diffrax.VeryChord
        and _lacks_tolerance(finder)
        and finder.linear_solver == lx.AutoLinearSolver(well_posed=None)
    )
