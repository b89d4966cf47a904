"""flowsim's engines, and other packages' solvers used raw, behind one function each.

A solver prepares a system and returns a function of the tolerance and a budget in seconds. The
others get what a careful user gives them: the field written by hand, JAX's Jacobian where the
method wants one, and atol = rtol times the median norm of a unit at the start.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from engine_fields import of_heyoka, of_jax, of_numpy, of_torch
from engine_systems import System

import flowsim as fs
from flowsim._jax import x64
from flowsim.engines import Diffrax, Piecewise, Scipy

#: Methods that flowsim runs and that are run raw.
DIFFRAX: Final = ("Tsit5", "Dopri8", "Kvaerno5")
SCIPY: Final = ("DOP853", "Radau", "LSODA")
#: Steps of a compiled diffrax loop between two looks at the clock, explicit and implicit.
CHUNKS: Final = (500, 50)
#: Seconds that the first call of flowsim's engines may take longer, since it compiles.
COMPILING: Final = {"Diffrax": 30.0, "Scipy": 10.0}
#: By how much of its norm a neuron is put beyond a kink, lest the event is found again.
NUDGE = 1e-15


@dataclass(frozen=True)
class Run:
    """What a solver has come to.

    Attributes
    ----------
    theta : (P,) or None
        The parameters at t1; None if it has not got there.
    work : int
    note : str
        "timed out", or why it failed.
    unit : str
        What `work` counts: evaluations of the field, or steps where these are not known.
    """

    theta: np.ndarray | None
    work: int
    note: str = ""
    unit: str = "evaluations"


Runner = Callable[[float, float], Run]


@dataclass(frozen=True)
class Solver:
    """A solver of a package.

    Attributes
    ----------
    module : str
        What has to be installed.
    recompiles : bool
        It may compile at each tolerance, not only at the first.
    allowance : float
        Seconds that a first call may take longer, where its clock runs while it compiles.
    applies : callable
        Whether it can run a system.
    """

    package: str
    method: str
    prepare: Callable[[System], Runner]
    module: str = "flowsim"
    recompiles: bool = False
    allowance: float = 0.0
    applies: Callable[[System], bool] = lambda system: True

    @property
    def name(self) -> str:
        """Package and method."""
        return f"{self.package} {self.method}"

    @property
    def installed(self) -> bool:
        """Whether it can be used."""
        return find_spec(self.module) is not None


class OutOfTimeError(Exception):
    """Raised inside a right-hand side to stop a solver."""


class Counted:
    """A field that counts its calls, and stops once the budget is spent."""

    def __init__(self, field: Callable[[Any], Any], budget: float) -> None:
        self.field, self.calls = field, 0
        self.ends = time.perf_counter() + budget

    def __call__(self, _: Any, theta: Any) -> Any:
        self.calls += 1
        if time.perf_counter() > self.ends:
            raise OutOfTimeError
        return self.field(theta)


def guarded(call: Callable[[Counted], Any], counted: Counted) -> Run:
    """Return the run of a solver that calls a Python function."""
    try:
        with np.errstate(all="ignore"):
            theta = np.asarray(call(counted))
    except OutOfTimeError:
        return Run(None, counted.calls, "timed out")
    except (ValueError, AssertionError, RuntimeError) as error:  # what solvers fail with
        return Run(None, counted.calls, f"failed: {str(error).splitlines()[0]}")
    return finished(theta, counted.calls)


def finished(theta: np.ndarray, work: int, unit: str = "evaluations") -> Run:
    """Return a run that has reached t1, unless its end is not finite."""
    if np.all(np.isfinite(theta)):
        return Run(theta, work, "", unit)
    return Run(None, work, "failed: not finite", unit)


def flowsim_engine(engine: Any) -> Callable[[System], Runner]:
    """Return the solver that an engine of flowsim is."""

    def prepare(system: System) -> Runner:
        def run(rtol: float, budget: float) -> Run:
            sol = fs.simulate(
                system.model, system.data, engine=engine, t1=system.t1, rtol=rtol,
                stationary_rtol=0.0, max_seconds=budget,
            )  # fmt: skip
            work, unit = effort(sol)
            if sol.status == "t1":
                return finished(system.read(sol.final.network), work, unit)
            note = "timed out" if sol.status == "max_seconds" else f"failed: {sol.status}"
            return Run(None, work, note, unit)

        return run

    return prepare


def effort(sol: fs.Solution) -> tuple[int, str]:
    """Return the evaluations of a run; steps if some are Taylor's or an implicit diffrax one's."""
    evaluations = int(sol.settings.get("evaluations", 0))
    if evaluations and "Kvaerno5" not in sol.settings.get("solvers", ""):
        return evaluations, "evaluations"
    return sol.steps, "steps"


def jacobian(system: System) -> Callable[[np.ndarray], np.ndarray]:
    """Return the compiled Jacobian (P, P) of a field."""
    jax: Any = import_module("jax")
    with x64():
        compiled = jax.jit(jax.jacfwd(system.field(of_jax())))

    def evaluate(theta: np.ndarray) -> np.ndarray:
        with x64():
            return np.asarray(compiled(theta))

    return evaluate


def raw_scipy(method: str, system: System) -> Runner:
    """Prepare `scipy.integrate.solve_ivp`."""
    from scipy.integrate import solve_ivp

    field, options = system.field(of_numpy()), {}
    if method in ("Radau", "LSODA"):
        evaluate = jacobian(system)
        options["jac"] = lambda _, theta: evaluate(theta)

    def run(rtol: float, budget: float) -> Run:
        def call(counted: Counted) -> np.ndarray:
            out = solve_ivp(
                counted, (0.0, system.t1), system.start, method=method,
                rtol=rtol, atol=rtol * system.size, **options,
            )  # fmt: skip
            if not out.success:
                raise RuntimeError(out.message)
            return out.y[:, -1]

        return guarded(call, Counted(field, budget))

    return run


def raw_cvode(method: str, system: System) -> Runner:
    """Prepare SUNDIALS' CVODE through scikit-sundae.

    Newton's method with GMRES: with dense matrices, even with JAX's Jacobian, it is as fast for
    the smallest of the systems, and several times slower for the others.
    """
    cvode: Any = import_module("sksundae.cvode")
    field = system.field(of_numpy())

    def run(rtol: float, budget: float) -> Run:
        def call(counted: Counted) -> np.ndarray:
            def right(t: float, theta: np.ndarray, rate: np.ndarray) -> None:
                rate[:] = counted(t, theta)

            solver = cvode.CVODE(
                right, linsolver="gmres", method=method, rtol=rtol, atol=rtol * system.size,
                max_num_steps=10**9,
            )  # fmt: skip
            out = solver.solve(np.array([0.0, system.t1]), system.start)
            if not out.success:
                raise RuntimeError(str(out.message))
            return out.y[-1]

        return guarded(call, Counted(field, budget))

    return run


def raw_torchdiffeq(method: str, system: System) -> Runner:
    """Prepare `torchdiffeq.odeint` in float64, on one thread, which is faster for small arrays."""
    torch: Any = import_module("torch")
    torch.set_num_threads(1)
    odeint = import_module("torchdiffeq").odeint
    field = system.field(of_torch())
    times = torch.tensor([0.0, system.t1], dtype=torch.float64)
    start = torch.tensor(system.start, dtype=torch.float64)

    def run(rtol: float, budget: float) -> Run:
        def call(counted: Counted) -> Any:
            with torch.no_grad():
                atol = rtol * system.size
                return odeint(counted, start, times, rtol=rtol, atol=atol, method=method)[-1]

        return guarded(call, Counted(field, budget))

    return run


def raw_diffrax(method: str, system: System) -> Runner:
    """Prepare `diffrax.diffeqsolve`, compiled, in float64 with a PIDController.

    It starts anew after some hundred steps, since nothing can stop it in between.
    """
    jax: Any = import_module("jax")
    dx: Any = import_module("diffrax")
    solver = getattr(dx, method)()
    implicit = isinstance(solver, dx.AbstractImplicitSolver)
    # diffrax's documentation has these coefficients for stiff systems.
    control = {"pcoeff": 0.3, "icoeff": 0.4} if implicit else {}
    with x64():
        field = system.field(of_jax())
        term = dx.ODETerm(lambda t, theta, args: field(theta))

    @jax.jit
    def chunk(t: Any, theta: Any, rtol: Any) -> Any:
        controller = dx.PIDController(rtol=rtol, atol=rtol * system.size, **control)
        out = dx.diffeqsolve(
            term, solver, t, system.t1, None, theta, stepsize_controller=controller,
            max_steps=CHUNKS[implicit], throw=False, saveat=dx.SaveAt(t1=True),
            adjoint=dx.ForwardMode(),
        )  # fmt: skip
        return out.ts[-1], out.ys[-1], out.stats["num_steps"]

    if implicit:
        stages, unit = 1, "steps"
    else:
        stages, unit = solver.tableau.num_stages - bool(solver.tableau.fsal), "evaluations"

    def run(rtol: float, budget: float) -> Run:
        t, theta, steps, ends = 0.0, system.start, 0, np.inf
        with x64():
            while t < system.t1 and np.all(np.isfinite(theta)):
                if time.perf_counter() > ends:
                    return Run(None, steps * stages, "timed out", unit)
                t, theta, taken = map(np.asarray, chunk(np.float64(t), theta, np.float64(rtol)))
                if steps == 0:  # the first chunk may compile
                    ends = time.perf_counter() + budget
                steps += int(taken)
        return finished(theta, steps * stages, unit)

    return run


def switcher(X: np.ndarray, m: int, clock: list[float]) -> Callable[[int, Any, int], bool]:
    """Return what heyoka's terminal events call: they switch patterns while there is time."""

    def switch(i: int, integrator: Any, direction: int) -> bool:
        """Switch neuron i % m at sample i // m, and put it just beyond the kink."""
        x, j = X[i // m], i % m
        w = integrator.state[j * len(x) : (j + 1) * len(x)]
        w += direction * NUDGE * np.linalg.norm(w) / np.linalg.norm(x) * x
        integrator.pars[i] = float(direction > 0)
        return time.perf_counter() < clock[0]

    return switch


def raw_heyoka(system: System) -> Runner:
    """Prepare heyoka's Taylor integrator; with kinks, it stops at them and switches patterns.

    The patterns are then parameters, sample by sample, and heyoka has a terminal event for each.
    """
    hy: Any = import_module("heyoka")
    hy.set_logger_level_critical()  # it warns at every event of a chattering solution
    theta = np.array([hy.expression(f"x{i:06d}") for i in range(len(system.start))], dtype=object)
    X, start, clock = system.data.X, system.start, [0.0]
    inside: list[Any] = []  # the preactivations

    def patterns(U: np.ndarray) -> np.ndarray:
        inside.extend(U.ravel())
        return np.array([hy.par[i] for i in range(U.size)], dtype=object).reshape(U.shape)

    field = system.field(of_heyoka(patterns if system.kinks else None))(theta)
    m = len(inside) // len(X)
    switch = switcher(X, m, clock)
    events = [hy.t_event(u, callback=partial(switch, i)) for i, u in enumerate(inside)]
    options = {"compact_mode": True} | ({"t_events": events} if events else {})
    made: dict[float, Any] = {}

    def run(rtol: float, budget: float) -> Run:
        if rtol not in made:  # the tolerance is compiled in
            equations = list(zip(theta, field, strict=True))
            made[rtol] = hy.taylor_adaptive(equations, start, tol=rtol, **options)
        integrator = made[rtol]
        integrator.time, integrator.state[:] = 0.0, start
        if events:
            integrator.reset_cooldowns()
            integrator.pars[:] = np.ravel(X @ start[: m * X.shape[1]].reshape(m, -1).T > 0.0)
        clock[0] = time.perf_counter() + budget
        goes_on = lambda _: time.perf_counter() < clock[0]  # noqa: E731
        out = integrator.propagate_until(system.t1, callback=goes_on)
        if integrator.time < system.t1:
            return Run(None, int(out[3]), "timed out", "steps")
        return finished(np.array(integrator.state), int(out[3]), "steps")

    return run


def solvers() -> list[Solver]:
    """Return all solvers, flowsim's engines first."""

    def here(method: str, engine: Any) -> Solver:
        allowance = COMPILING[type(engine).__name__]
        return Solver("flowsim", method, flowsim_engine(engine), "flowsim", True, allowance)

    def raw(package: str, module: str, prepare: Any, *methods: str) -> list[Solver]:
        return [Solver(package, name, partial(prepare, name), module) for name in methods]

    return [
        Solver("flowsim", "Piecewise", flowsim_engine(Piecewise()), applies=lambda s: s.relu),
        *(here(f"Diffrax {name}", Diffrax(name)) for name in ("auto", *DIFFRAX)),
        *(here(f"Scipy {name}", Scipy(name)) for name in SCIPY),
        *raw("diffrax", "diffrax", raw_diffrax, *DIFFRAX),
        *raw("SciPy", "scipy", raw_scipy, *SCIPY),
        *raw("CVODE", "sksundae", raw_cvode, "BDF", "Adams"),
        *raw("torchdiffeq", "torchdiffeq", raw_torchdiffeq, "dopri5", "dopri8"),
        Solver("heyoka", "Taylor", raw_heyoka, "heyoka", recompiles=True),
    ]
