"""The SciPy engine: steps of `scipy.integrate`'s solver classes, taken one by one.

SciPy sees one vector. Errors are relative to `Problem.size`, and so to the unit that an entry
belongs to: the absolute tolerances of a living solver follow the sizes from step to step, so
that a unit that grows or shrinks neither loses accuracy nor makes the solver start anew.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import numpy as np

from flowsim._arguments import one_of, real
from flowsim.engines._vectors import System, Vectors, is_traceable
from flowsim.engines.problem import Advance, Land, Problem, Steps, Tree

METHODS = ("Radau", "BDF", "LSODA", "DOP853", "RK45", "RK23")
JACOBIANS = ("auto", "analytic", "jax", "finite")

#: Methods that use a Jacobian, and keep dense matrices.
_IMPLICIT = ("Radau", "BDF", "LSODA")
#: Methods with a history, which start at first order with a step of their own choice.
_MULTISTEP = ("BDF", "LSODA")
#: Dense P x P matrices of float64 that Radau holds at once, the greediest, which also lands for
#: the others: J, 1, a real and a complex factorisation, and what is being factored.
_DENSE_MATRICES = 7
#: Bytes that these matrices may take.
MEMORY_LIMIT = 2 * 2**30
#: Evaluations that an attempt of a step costs, where it is always the same.
_STAGES = {"RK23": 3, "RK45": 6, "DOP853": 12}
#: Who lands inside the step of a multistep method; the first of two gives up after some steps.
_LANDING = {"BDF": ("Radau",), "LSODA": ("DOP853", "Radau")}
_LANDING_STEPS = 32
#: Time ahead beyond which the end of a span is not told to a solver.
_FAR = 1e300
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Scipy:
    """Integrate with one of SciPy's solvers.

    Parameters
    ----------
    method : {"DOP853", "RK45", "RK23", "Radau", "BDF", "LSODA"}
        `scipy.integrate`'s name of the solver. Radau, BDF and LSODA are for stiff systems; they
        need dense matrices of P x P numbers for P parameters, which must fit into 2 GiB.
    rtol : float, optional
        Relative tolerance of a step, instead of the one that the run has.
    jacobian : {"auto", "analytic", "jax", "finite"}
        Of the stiff methods: the problem's own formula, JAX's forward mode, or SciPy's finite
        differences; "auto" takes the first of these that there is.

    Raises
    ------
    TypeError
        If `rtol` is no number.
    ValueError
        If a name is unknown or `rtol` is outside [1e-15, 1e-2].
    """

    method: Literal["DOP853", "RK45", "RK23", "Radau", "BDF", "LSODA"] = "DOP853"
    rtol: float | None = None
    jacobian: Literal["auto", "analytic", "jax", "finite"] = "auto"

    def __post_init__(self) -> None:
        one_of("method", self.method, METHODS)
        one_of("jacobian", self.jacobian, JACOBIANS)
        if self.rtol is not None:
            object.__setattr__(self, "rtol", _tolerance(self.rtol))


class ScipyStepper:
    """Answer requests with a SciPy solver (see `flowsim.engines.problem.Stepper`).

    A request that starts where the last answer ended, with the same problem and arguments, goes
    on with the living solver: a multistep method keeps its order and its history, and every
    method its own step (a request's `h` is for one-step methods that start anew). Arguments are
    compared by identity, then by value: they must not be changed in place.

    Tolerances. Runge-Kutta methods, Radau and BDF accept a step if the root mean square of
    err_i / (atol_i + rtol' |v_i|) is below 1, LSODA if the largest is. Of P entries one alone
    can be sqrt(P) times the root mean square. So with q = rtol / sqrt(P) (LSODA: q = rtol),
    atol_i = 0.9 q size_i and rtol' = 0.1 q, the estimated error of a step is at most rtol
    relative to the unit in every entry; in the former methods even as the Euclidean norm over
    all entries. SciPy needs some rtol', of 100 eps at least; neither it nor q is less. Sizes are
    those at the start of a step: a unit that shrinks to its c-th part within one keeps rtol / c.

    Parameters
    ----------
    config : Scipy
    rtol : float
        Relative tolerance; that of `config` comes first.
    """

    def __init__(self, config: Scipy, rtol: float) -> None:
        self.config = config
        self.rtol = _tolerance(rtol) if config.rtol is None else config.rtol
        self._system: System | None = None
        self._living: _Integration | None = None
        self._reported = 0

    def advance(self, request: Advance) -> Steps:
        """Take accepted steps until the span, `max_steps`, a step that leaves, or a failure.

        Evaluations are those of the field by the solver, with finite differences for Jacobians
        and landings since the last answer; the jets at the ends of steps come on top. Rejected
        attempts are known of the Runge-Kutta methods only.

        Raises
        ------
        ValueError
            If the method's dense matrices do not fit, or there is no such Jacobian.
        """
        with _surroundings(request.problem, self.config.method):
            system = self._system_of(request)
            v = system.flatten(request.y)
            living = self._living
            if living is not None and living.ends_at(v):
                living.resume(request.span)
            else:
                living = self._integration(system, self.config.method)
                living.begin(v, request.span, request.h)
            self._living = living
            steps = _take(living, request, self._reported)
            self._reported = system.evaluations
            return steps

    def land(self, request: Land) -> Tree:
        """Return the state after `tau`, with the accuracy of the steps.

        One-step methods land themselves, normally in one step; for BDF Radau does, for LSODA
        DOP853 or, where that takes many steps because the system is stiff, Radau.

        Raises
        ------
        FloatingPointError
            If no solver gets there.
        """
        methods = _LANDING.get(self.config.method, (self.config.method,))
        with _surroundings(request.problem, methods[-1]):
            system = self._system_of(request)
            for method in methods:
                landing = self._integration(system, method)
                landing.begin(system.flatten(request.y), request.tau, request.tau)
                if landing.reach(None if method == methods[-1] else _LANDING_STEPS):
                    return system.layout.unflatten(landing.state.v)
        raise FloatingPointError(
            f"The state at a time inside a step must be computable, but {methods[-1]} fails."
        )

    def _integration(self, system: System, method: str) -> _Integration:
        return _Integration(system, method, self.config.jacobian, self.rtol)

    def _system_of(self, request: Advance | Land) -> System:
        """Return the request's system: the last one if it is the same."""
        last = self._system
        if last is not None and last.describes(request.problem, request.y, request.args):
            return last
        evaluations = 0 if last is None else last.evaluations
        self._living = None
        self._system = System(request.problem, request.y, request.args, evaluations)
        return self._system


class _Integration:
    """A solver on its way: steps one by one, and starts anew only where it must.

    The solver's clock starts at 0 with the solver, `t` with the request.
    """

    def __init__(self, system: System, method: str, jacobian: str, rtol: float) -> None:
        self.system, self.method = system, method
        self.t = self.h = 0.0
        self.rejected = 0
        self.state: Vectors
        P = system.layout.size
        self._tolerance = max(rtol if method == "LSODA" else rtol / P**0.5, 100 * _EPS)
        self._options: dict[str, Any] = {"rtol": max(0.1 * self._tolerance, 100 * _EPS)}
        if method in _IMPLICIT:
            _check_memory(method, P)
            self._options["jac"] = system.jacobian(jacobian)
        self._solver: Any = None
        self._atol: np.ndarray
        self._span = self._origin = 0.0
        self._first: float | None = None

    def begin(self, v: np.ndarray, span: float, h: float | None) -> None:
        """Start at a state."""
        self.state = self.system.describe(v)
        self._span = span
        if h is not None and self.method not in _MULTISTEP:
            self._first = h

    def ends_at(self, v: np.ndarray) -> bool:
        """Return whether a state is the present one."""
        return np.array_equal(self.state.v, v)

    def resume(self, span: float) -> None:
        """Begin a request at the present state with the solver as it is."""
        self.t, self.rejected, self._span = 0.0, 0, span
        if self._solver is None:
            return
        self._origin = self._solver.t
        bound = self._origin + min(span, _FAR)
        clock = np.spacing(bound)
        if span <= 1e3 * clock:
            self._solver = None  # its clock is too coarse
            return
        running = self._solver.status == "running"
        if running and abs(bound - self._solver.t_bound) <= 8 * clock:
            return  # a driver's remaining time is subject to rounding
        self._solver.t_bound, self._solver.status = bound, "running"
        if self.method == "LSODA":  # as its constructor does: ODEPACK's critical time
            self._solver._lsoda_solver._integrator.rwork[0] = bound

    def step(self) -> str:
        """Take one step; return "" or why none can be taken."""
        if not self.state.finite:
            return "non_finite"
        fresh = self._solver is None or self._solver.status == "finished"
        if fresh:
            self._start()
        failure = self._attempt()
        if failure and not fresh:
            # A history may be at fault, or the resolution of the solver's clock.
            self._start()
            failure = self._attempt()
        if failure:
            self._solver = None
        return failure

    def reach(self, max_steps: int | None) -> bool:
        """Step to the end of the span; return whether it has been reached."""
        for taken in count():
            if self.t >= self._span:
                return True
            if taken == max_steps or self.step():
                return False
        raise AssertionError

    def _start(self) -> None:
        """Make a new solver for the present state."""
        from scipy import integrate

        self._origin = -self.t
        # At rest steps grow without bound, and Radau hangs once they overflow.
        left = min(self._span - self.t, _FAR)
        # A solver keeps this very array: changed in place, it changes the solver's tolerances.
        self._atol = 0.9 * self._tolerance * self.state.size
        first = None if self._first is None or self._first <= 0.0 else min(self._first, left)
        self._first = None
        self._solver = getattr(integrate, self.method)(
            self.system.field, 0.0, self.state.v.copy(), left,
            atol=self._atol, first_step=first, **self._options,
        )  # fmt: skip

    def _attempt(self) -> str:
        """Let the solver take a step; return "" or why it cannot, or its step does not count."""
        solver, planned, evaluations = self._solver, self._proposal(), self._solver.nfev
        self.system.finite = True
        try:
            solver.step()
        except ValueError as error:  # of the factorisation of a matrix that overflows
            if "infs or NaNs" not in str(error):
                raise
            return "non_finite"
        underflow = "step_underflow" if self.system.finite else "non_finite"
        if solver.status == "failed":
            return underflow
        state = self.system.describe(np.array(solver.y))
        if not state.finite:
            return "non_finite"
        finished = solver.status == "finished" and self._span < _FAR
        t = self._span if finished else min(solver.t - self._origin, self._span)
        if t <= self.t:
            return underflow
        if self.method in _STAGES:
            self.rejected += (solver.nfev - evaluations) // _STAGES[self.method] - 1
        # The step that ends at the span is short for no other reason.
        self.h = max(self._proposal(), planned) if finished else self._proposal()
        self.t, self.state = t, state
        self._atol[:] = 0.9 * self._tolerance * state.size
        return ""

    def _proposal(self) -> float:
        """Return the solver's next step; of LSODA, which does not tell, the last one."""
        if self.method == "LSODA":
            return float(self._solver.step_size or 0.0)
        return float(self._solver.h_abs)


def _take(living: _Integration, request: Advance, reported: int) -> Steps:
    """Step through one request and collect what was seen."""
    times, states = [0.0], [living.state]
    left, failure = False, ""
    while len(times) <= request.max_steps and times[-1] < request.span and not left:
        failure = living.step()
        if failure:
            break
        left = living.system.leaves(states[-1], living.state, living.t - times[-1])
        times.append(living.t)
        states.append(living.state)
    tree = living.system.layout.unflatten
    return Steps(
        t=np.array(times),
        y=tree(np.stack([state.v for state in states])),
        f=tree(np.stack([state.f for state in states])),
        s=tree(np.stack([state.s for state in states])),
        observed={
            name: np.array([state.observed[name] for state in states])
            for name in states[0].observed
        },
        left=left,
        h=living.h or request.h or 0.0,
        solver=living.method,
        rejected=living.rejected,
        evaluations=living.system.evaluations - reported,
        failure=failure,
    )


def _check_memory(method: str, P: int) -> None:
    needed = _DENSE_MATRICES * 8 * P * P
    if needed > MEMORY_LIMIT:
        raise ValueError(
            f"Argument `engine` must fit its dense matrices into {MEMORY_LIMIT / 2**30:g} GiB, but "
            f"{method} would need a dense Jacobian of {8e-9 * P * P:.2g} GB and in all "
            f'{1e-9 * needed:.2g} GB for {P} parameters; use Diffrax("Kvaerno5").'
        )


def _tolerance(rtol: Any) -> float:
    value = real("rtol", rtol)
    if not 1e-15 <= value <= 1e-2:
        raise ValueError(f"Argument `rtol` must lie in [1e-15, 1e-2], but is {value}.")
    return value


@contextmanager
def _surroundings(problem: Problem, method: str) -> Iterator[None]:
    """Set NumPy's, SciPy's and JAX's modes: trial steps may overflow, and silently so."""
    with ExitStack() as stack:
        stack.enter_context(np.errstate(all="ignore"))
        if method in _IMPLICIT:
            from scipy.linalg import LinAlgWarning

            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", "lsoda: ", UserWarning)
            warnings.filterwarnings("ignore", category=LinAlgWarning)
        if is_traceable(problem):
            from flowsim._jax import x64

            stack.enter_context(x64())
        yield
