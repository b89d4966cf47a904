"""The contract between drivers, which own a run, and steppers, which take its steps.

A driver is a generator of requests: `Advance` asks for accepted steps, `Land` for the state
at a time inside a step; a `Stepper` answers them. So any driver runs on any stepper, and the
requests of independent runs can be answered together.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

#: A pytree of arrays.
Tree = Any


class Problem(Protocol):
    """An autonomous system ``y' = f(y; args)`` in variables of order one.

    Instances are hashable, and equal ones hash equal, so that nothing is compiled twice;
    whatever is numeric is in `args`, a pytree of arrays.
    """

    def field(self, t: Any, y: Tree, args: Tree) -> Tree:
        """Return f(y)."""
        ...

    def jet(self, y: Tree, args: Tree) -> tuple[Tree, Tree]:
        """Return the velocity ``y' = f(y)`` and the acceleration ``y'' = f'(y) f(y)``."""
        ...

    def size(self, y: Tree, args: Tree) -> Tree:
        """Return what an error in each entry of y is relative to: broadcasts against y, > 0."""
        ...

    def observe(self, y: Tree, f: Tree, args: Tree) -> dict[str, Any]:
        """Return scalars to record at a state."""
        ...

    def leaves(self, before: Knot, after: Knot, h: Any, args: Tree) -> Any:
        """Return whether something inside the step of length `h` may end it (a bool scalar)."""
        ...


@dataclass(frozen=True)
class Knot:
    """A state with its velocity and acceleration: what an interpolant is made of."""

    y: Tree
    f: Tree
    s: Tree


@dataclass(frozen=True, eq=False)
class Advance:
    """Ask for accepted steps from `y`, at most `max_steps`, over at most the time `span`.

    Attributes
    ----------
    h : float or None
        The first step to try; None lets the stepper choose.
    """

    problem: Problem
    y: Tree
    args: Tree
    span: float
    h: float | None
    max_steps: int


@dataclass(frozen=True, eq=False)
class Land:
    """Ask for the state at the time `tau` after `y`, which lies inside an accepted step."""

    problem: Problem
    y: Tree
    args: Tree
    tau: float


@dataclass(frozen=True, eq=False)
class Steps:
    """Accepted steps, on the host; entry 0 is the start.

    Attributes
    ----------
    t : (K+1,)
        Times from the start; ``t[-1]`` is exactly the span if it was reached.
    y, f, s : pytrees of arrays (K+1, ...)
        States, velocities, accelerations.
    observed : dict of (K+1,) arrays
    left : bool
        The last step is one that `Problem.leaves`.
    h : float
        The step to try next.
    solver : str
        Who took the steps.
    rejected, evaluations : int
        Work: rejected attempts; evaluations of f, -1 where unknown.
    failure : str
        "", "step_underflow" or "non_finite": why no further step is possible.
    """

    t: np.ndarray
    y: Tree
    f: Tree
    s: Tree
    observed: dict[str, np.ndarray]
    left: bool
    h: float
    solver: str = ""
    rejected: int = 0
    evaluations: int = -1
    failure: str = ""


Request = Advance | Land
#: A driver: requests out, answers in, the finished record at the end.
Driver = Generator[Request, Any, Any]


class Stepper(Protocol):
    """Answer requests; one stepper serves one run from its start to its end."""

    def advance(self, request: Advance) -> Steps:
        """Take accepted steps until the span, `max_steps`, a step that leaves, or a failure."""
        ...

    def land(self, request: Land) -> Tree:
        """Return the state after `tau`, with the accuracy of the steps."""
        ...


@dataclass(eq=False)
class Work:
    """What a run has cost so far."""

    steps: int = 0
    rejected: int = 0
    evaluations: int = 0
    solvers: dict[str, int] = field(default_factory=dict)

    def add(self, steps: Steps) -> None:
        """Count the steps of one answer."""
        taken = len(steps.t) - 1
        self.steps += taken
        self.rejected += steps.rejected
        self.evaluations += max(steps.evaluations, 0)
        self.solvers[steps.solver] = self.solvers.get(steps.solver, 0) + taken

    def summary(self) -> dict[str, Any]:
        """Return the counts as a run's settings hold them."""
        return {
            "solvers": ", ".join(f"{name} {count}" for name, count in self.solvers.items()),
            "rejected": self.rejected,
            "evaluations": self.evaluations,
        }


def drive(driver: Driver, stepper: Stepper) -> Any:
    """Run one driver on one stepper and return what it returns."""
    answer = None
    while True:
        try:
            request = driver.send(answer)
        except StopIteration as stop:
            return stop.value
        answer = stepper.advance(request) if isinstance(request, Advance) else stepper.land(request)
