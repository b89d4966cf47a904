"""resume(): go on with a run from where it has ended, or from its last checkpoint."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from typing import Any

from flowsim.engines.piecewise.config import Piecewise
from flowsim.engines.record import Progress
from flowsim.options import checked
from flowsim.runs import prepare, run_alone
from flowsim.runs.saving import CHECKPOINT_SECONDS, Saving
from flowsim.solution import RunError, Solution

#: The statuses of runs that can go on.
OPEN = ("running", "t1", "max_steps", "max_seconds", "event")


def resume(
    run: Solution | str | os.PathLike[str],
    *,
    t1: float | None = None,
    max_steps: int | None = None,
    max_seconds: float | None = None,
    stationary_rtol: float | None = None,
    events: Sequence[Callable[[float, Any], Any]] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    progress: Callable[[Progress], None] | None = None,
    throw: bool = False,
) -> Solution:
    """Go on with a run of a TwoLayerReLU by the piecewise engine.

    The result is that of a run that has not been interrupted: its events, history, stored states
    and audit are those of the whole run. A run that was cut short between two steps takes the
    same steps, up to rounding; one that ended at its `t1` has a step that ends there.

    Parameters
    ----------
    run : Solution, or path-like
        A solution or its file, with the status "running" (a checkpoint), "t1", "max_steps",
        "max_seconds" or "event".
    t1, max_steps, max_seconds, stationary_rtol : optional
        As of `flowsim.simulate`; by default those of the run. All others are the run's. `t1` and
        `max_steps` count from the start of the run, `max_seconds` anew.
    events : sequence of functions
        The user's functions, which are not in a solution: give them again. What they count,
        counts anew.
    checkpoint, checkpoint_seconds, progress, throw
        As of `flowsim.simulate`; `checkpoint` may be the file of the run.

    Returns
    -------
    Solution

    Raises
    ------
    ValueError, TypeError
        If the run cannot go on, or not with these limits.
    OSError
        If the file cannot be read, or the checkpoint cannot be written.
    RunError
        With ``throw=True``.
    """
    saving = Saving.of(checkpoint, checkpoint_seconds)
    solution = run if isinstance(run, Solution) else _loaded(run)
    _check_open(solution)
    limits = {
        "t1": t1, "max_steps": max_steps, "max_seconds": max_seconds,
        "stationary_rtol": stationary_rtol,
    }  # fmt: skip
    settings = _settings(solution, {name: x for name, x in limits.items() if x is not None})
    engine = Piecewise(
        every_event=bool(solution.settings.get("every_event", False)),
        coalesce=float(solution.settings.get("coalesce", 0.0)),
    )
    going = prepare(
        solution.initial, solution.data, engine, settings, events, progress, saving, solution
    )
    result = run_alone(going)
    if throw and result.failed:
        raise RunError(result)
    return result


def _loaded(run: Any) -> Solution:
    from flowsim.files import load

    if not isinstance(run, str | os.PathLike):
        raise TypeError(
            f"Argument `run` must be a Solution or its file, but is of type {type(run).__name__}."
        )
    return load(run)


def _check_open(solution: Solution) -> None:
    engine = solution.settings.get("engine", "piecewise")
    if engine != "piecewise":
        raise ValueError(
            f"Argument `run` must be a run of the piecewise engine, but is one of {engine}."
        )
    if solution.status not in OPEN:
        raise ValueError(
            f"Argument `run` must be a run that can go on, of status {', '.join(OPEN)}, but is "
            f"{solution.status}."
        )


def _settings(solution: Solution, limits: dict[str, Any]) -> dict[str, Any]:
    """Return the run's settings with new limits, which must let it go on."""
    names = inspect.signature(checked).parameters
    own = {name: x for name, x in solution.settings.items() if name in names}
    settings = checked(**{**own, **limits})
    for name, reached in (("t1", solution.t_end), ("max_steps", solution.steps)):
        if settings[name] <= reached:
            raise ValueError(
                f"Argument `{name}` must be more than the run has reached, {reached:g}, but is "
                f"{settings[name]:g}."
            )
    return settings
