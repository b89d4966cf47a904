"""The Diffrax engine's stepper: adaptive Runge--Kutta methods, compiled, many runs at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim import _arguments
from flowsim._jax import x64
from flowsim.engines.problem import Advance, Land, Steps, Tree

if TYPE_CHECKING:
    from flowsim.engines._diffrax_methods import Method
    from flowsim.engines._stiffness import Stiffness

EXPLICIT = ("Tsit5", "Dopri5", "Dopri8")
IMPLICIT = ("Kvaerno3", "Kvaerno4", "Kvaerno5", "KenCarp3", "KenCarp4", "KenCarp5")
LINEAR_SOLVERS = ("auto", "dense", "structured", "krylov")
#: The pair that "auto" changes between.
AUTO = ("Dopri8", "Kvaerno5")
#: Most accepted steps a compiled call, and what their states, velocities and accelerations take.
MOST_STEPS, MOST_BYTES = 64, 32 * 2**20
#: A step to land on is halved so often if the implicit solves fail.
HALVINGS = 10


@dataclass(frozen=True)
class Diffrax:
    """Integrate with diffrax's adaptive Runge--Kutta methods.

    Parameters
    ----------
    solver : str or diffrax solver
        "auto": Dopri8, and Kvaerno5 where stability holds Dopri8 back (see Notes); a name
        out of Tsit5, Dopri5, Dopri8, Kvaerno3, Kvaerno4, Kvaerno5, KenCarp3, KenCarp4,
        KenCarp5; or any adaptive Runge--Kutta solver of diffrax, such as
        ``diffrax.Kvaerno5(root_find_max_steps=20)``.
    rtol : float, optional
        Error of a step relative to each unit's size; by default that of the run.
    pcoeff, icoeff, dcoeff : float
        Of the step-size controller, `diffrax.PIDController`. The defaults are Hairer &
        Wanner's stabilised controller (Solving Ordinary Differential Equations II, IV.2),
        which damps the alternation of growth and rejection where stability limits steps.
    chunk : int, optional
        Most accepted steps a compiled call; by default 64, fewer where their states,
        velocities and accelerations would take more than 32 MiB.
    linear_solver : str
        What solves the implicit stages, see `flowsim.engines.structured`: "dense",
        "structured" (for two-layer networks, never forming the Jacobian), "krylov" (GMRES),
        or "auto", the cheapest by the sizes. A solver with a root finder of its own keeps it.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Notes
    -----
    "auto" looks at the Jacobian's spectral radius rho (power iterations) every 16 accepted
    steps. With beta the length of Dopri8's real stability interval, it tries Kvaerno5 for 8
    steps after 128 whose proposed successors h have h rho >= beta / 4, keeps it if then
    h rho >= 4 beta (an implicit step costs some explicit ones) and returns where
    h rho < 2 beta. Failed tries are repeated after 256, 512, 1024 such steps.
    """

    solver: Any = "auto"
    rtol: float | None = None
    pcoeff: float = 0.2
    icoeff: float = 0.65
    dcoeff: float = 0.0
    chunk: int | None = None
    linear_solver: str = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.solver, str):
            _arguments.one_of("solver", self.solver, ("auto", *EXPLICIT, *IMPLICIT))
        else:
            _check_solver(self.solver)
        if self.rtol is not None:
            object.__setattr__(self, "rtol", _tolerance(self.rtol))
        for name in ("pcoeff", "icoeff", "dcoeff"):
            object.__setattr__(self, name, _coefficient(name, getattr(self, name)))
        if not self.pcoeff + self.icoeff + self.dcoeff > 0:
            raise ValueError(
                "Argument `icoeff` must make pcoeff + icoeff + dcoeff positive, but does not."
            )
        if self.chunk is not None:
            object.__setattr__(self, "chunk", _arguments.whole("chunk", self.chunk, 1))
        _arguments.one_of("linear_solver", self.linear_solver, LINEAR_SOLVERS)


class DiffraxStepper:
    """Take the steps of a run, or of many independent runs together.

    Parameters
    ----------
    config : Diffrax
    rtol : float
        The run's tolerance, used unless `config` has its own.
    """

    def __init__(self, config: Diffrax, rtol: float) -> None:
        from flowsim.engines._diffrax_methods import is_implicit, real_stability
        from flowsim.engines._stiffness import Stiffness

        self._config = config
        self._rtol = config.rtol if config.rtol is not None else _tolerance(rtol)
        names = AUTO if config.solver == "auto" else (config.solver,)
        self._methods = [self._method(name) for name in names]
        self._implicit = [is_implicit(method.kind) for method in self._methods]
        auto = config.solver == "auto"
        self._stiffness: Stiffness | None = (
            Stiffness(real_stability(self._methods[0].kind)) if auto else None
        )
        #: Width of the calls for requests of the same problem and shapes.
        self._widths: dict[Any, int] = {}

    def advance(self, request: Advance) -> Steps:
        """Take accepted steps until the span, a step that leaves, a failure, or enough of them.

        At most ``request.max_steps`` and at most one compiled call's (`Diffrax.chunk`):
        that there are fewer says nothing. `Steps.evaluations` counts the stages of explicit
        methods and the choice of a first step; `Problem.jet` at the steps comes on top.
        """
        return self._answer([request], None)[0]

    def advance_batch(self, requests: Sequence[Advance]) -> list[Steps]:
        """Answer requests of independent runs together, in one compiled call.

        Each run has its own step and its own end. All must have one problem and equal
        shapes. Calls are padded to the largest number of runs with this problem and these
        shapes so far, so that runs which have ended compile nothing anew.

        Raises
        ------
        ValueError
            If the problems differ.
        """
        if not requests:
            return []
        if any(request.problem != requests[0].problem for request in requests):
            raise ValueError("Argument `requests` must have one problem, but has several.")
        key = (requests[0].problem, _shapes((requests[0].y, requests[0].args)))
        width = self._widths[key] = max(self._widths.get(key, 0), len(requests))
        return self._answer(list(requests), width)

    def land(self, request: Land) -> Tree:
        """Return the state after ``request.tau``, by one step of the present method.

        Raises
        ------
        FloatingPointError
            If even the smallest pieces of the step fail.
        """
        import jax

        from flowsim.engines._diffrax_loop import land

        tau = np.float64(request.tau)
        if tau == 0.0:
            return request.y
        for halvings in range(HALVINGS + 1):
            with x64():
                y, fine = land(
                    request.problem,
                    self._present,
                    self._rtol,
                    request.y,
                    request.args,
                    tau,
                    2**halvings,
                )
                if bool(fine):
                    return jax.tree.map(np.array, y)
        raise FloatingPointError(f"no state could be found {tau:g} after the step's start")

    @property
    def _present(self) -> Method:
        later = self._stiffness is not None and self._stiffness.implicit
        return self._methods[1 if later else 0]

    def _method(self, solver: Any) -> Method:
        from flowsim.engines._diffrax_methods import Method

        c = self._config
        return Method(solver, c.pcoeff, c.icoeff, c.dcoeff, c.linear_solver)

    def _answer(self, requests: list[Advance], width: int | None) -> list[Steps]:
        answers = self._call(requests, width)
        if self._stiffness is None:
            return answers
        if self._stiffness.implicit and any(answer.failure for answer in answers):
            # The explicit method has the last word on whether there is no further step.
            self._stiffness.give_up()
            again = [i for i, answer in enumerate(answers) if len(answer.t) == 1 and answer.failure]
            answers = [replace(answer, failure="") for answer in answers]
            if again:
                retries = [replace(requests[i], h=None) for i in again]
                for i, answer in zip(again, self._call(retries, width), strict=True):
                    answers[i] = answer
            return answers
        return self._look(requests, answers, width)

    def _look(
        self, requests: list[Advance], answers: list[Steps], width: int | None
    ) -> list[Steps]:
        """Let the stiffness choose the next method."""
        rule = self._stiffness
        assert rule is not None
        if not rule.due(int(np.median([len(answer.t) - 1 for answer in answers]))):
            return answers
        import jax

        last = [jax.tree.map(lambda x: x[-1], answer.y) for answer in answers]
        args = [request.args for request in requests]
        with x64():
            rho = rule.radius(requests[0].problem, _stack(last, width), _stack(args, width))
        rho, was = rho[: len(answers)], rule.implicit
        rule.decide(np.array([answer.h for answer in answers]), rho)
        if was and not rule.implicit:
            pairs = zip(answers, rho, strict=True)
            return [replace(a, h=rule.stable(a.h, float(r))) for a, r in pairs]
        return answers

    def _call(self, requests: list[Advance], width: int | None) -> list[Steps]:
        """Make one compiled call and bring its answers to the host."""
        import jax

        from flowsim.engines._diffrax_loop import advance

        method = self._present
        batched = width is not None
        chunk = self._chunk(requests[0].y, width or 1)
        most = (self._stiffness.limit if self._stiffness else None) or chunk
        h = [np.nan if request.h is None else request.h for request in requests]
        span = [request.span for request in requests]
        limit = [min(request.max_steps, most) for request in requests]
        columns = [np.array(h, float), np.array(span, float), np.array(limit, np.int64)]
        if batched:
            y = _stack([request.y for request in requests], width)
            args = _stack([request.args for request in requests], width)
            columns = [_pad(column, width) for column in columns]
        else:
            y, args = requests[0].y, requests[0].args
            columns = [column[0] for column in columns]
        h, span, limit = columns
        with x64():
            run, buffers = advance(
                requests[0].problem, method, chunk, batched, self._rtol, y, args, span, h, limit
            )
            # Only what is reported comes to the host.
            run = jax.tree.map(np.asarray, run._replace(knot=(), inner=(), control=()))
            buffers = jax.tree.map(np.asarray, buffers)
        if not batched:
            return [self._steps(run, buffers, method)]
        answers = []
        for i in range(len(requests)):
            own_run, own_buffers = jax.tree.map(lambda x, i=i: x[i], (run, buffers))
            answers.append(self._steps(own_run, own_buffers, method))
        return answers

    def _steps(self, run: Any, buffers: dict[str, Any], method: Method) -> Steps:
        """Return the steps of one run, as copies: the buffers are longer."""
        import jax

        from flowsim.engines._diffrax_loop import FAILURES

        kept = jax.tree.map(lambda x: x[: int(run.count) + 1].copy(), buffers)
        implicit = self._implicit[self._methods.index(method)]
        return Steps(
            **kept,
            left=bool(run.left),
            h=float(run.h),
            solver=method.name,
            rejected=int(run.rejected),
            evaluations=-1 if implicit else int(run.evaluations),
            failure=FAILURES[int(run.failure)],
        )

    def _chunk(self, y: Tree, count: int) -> int:
        import jax

        if self._config.chunk is not None:
            return self._config.chunk
        step = 3 * count * sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(y))
        return min(max(MOST_BYTES // max(step, 1), 1), MOST_STEPS)


def _stack(trees: list[Tree], width: int | None) -> Tree:
    """Stack trees on a new first axis, padded to `width`."""
    import jax

    return jax.tree.map(lambda *leaves: _pad(np.stack(leaves), width), *trees)


def _pad(array: np.ndarray, width: int | None) -> np.ndarray:
    # Copies of a run do what it does, so that they make no call longer.
    missing = max((width or 0) - len(array), 0)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])


def _shapes(tree: Tree) -> Any:
    import jax

    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple(np.shape(leaf) for leaf in leaves)


def _tolerance(value: Any) -> float:
    rtol = _arguments.real("rtol", value)
    if not 0.0 < rtol < 1.0:
        raise ValueError(f"Argument `rtol` must be between 0 and 1, but is {rtol:g}.")
    return rtol


def _coefficient(name: str, value: Any) -> float:
    number = _arguments.real(name, value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"Argument `{name}` must be between 0 and 1, but is {number:g}.")
    return number


def _check_solver(solver: Any) -> None:
    """Check that a solver is an adaptive Runge--Kutta one of diffrax, and can be compared."""
    import diffrax

    if not isinstance(solver, diffrax.AbstractRungeKutta):
        raise TypeError(
            f"Argument `solver` must be one of {', '.join(('auto', *EXPLICIT, *IMPLICIT))} or an "
            f"adaptive Runge-Kutta solver of diffrax, but is {solver!r}."
        )
    try:
        hash(solver)
    except TypeError:
        raise TypeError(
            "Argument `solver` must be hashable, but has arrays among its fields."
        ) from None
