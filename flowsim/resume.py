"""resume(): go on with a run from where it has ended, or from its last checkpoint."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flowsim._arguments import one_of
from flowsim.engines.piecewise.config import Piecewise
from flowsim.engines.record import Progress
from flowsim.options import ENDS, checked
from flowsim.runs import prepare, run_alone
from flowsim.runs.saving import CHECKPOINT_SECONDS, Saving
from flowsim.solution import DescentStates, RunError, Solution

if TYPE_CHECKING:
    from flowsim.engines.descent.config import Descent

#: The statuses of runs that can go on.
OPEN = ("running", "certified", "t1", "steps", "max_steps", "max_seconds", "event")
#: Engines whose runs can go on.
ENGINES = ("piecewise", "descent")


def resume(
    run: Solution | str | os.PathLike[str],
    *,
    engine: Descent | None = None,
    t1: float | None = None,
    max_steps: int | None = None,
    max_seconds: float | None = None,
    stationary_rtol: float | None = None,
    end: str | None = None,
    events: Sequence[Callable[[float, Any], Any]] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    progress: Callable[[Progress], None] | None = None,
    throw: bool = False,
) -> Solution:
    """Go on with a run of a TwoLayerReLU by the piecewise engine, or with a discrete descent.

    The result is that of a run that has not been interrupted: its events, history, stored states
    and audit are those of the whole run. A run that was cut short between two steps takes the
    same steps, up to rounding; one that ended at its `t1` has a step that ends there.

    Parameters
    ----------
    run : Solution, or path-like
        A solution or its file, with the status "running" (a checkpoint), "t1", "max_steps",
        "steps", "max_seconds", "event" or "certified" (with ``end="rest"``: proved, but not yet at
        rest).
    engine : Descent, optional
        The run's, for a descent by an optax optimizer or with a schedule, of which files do not
        hold the code. Only its `steps` may be others; for another step size start a new run from
        the `final.network` of this one.
    t1, max_steps, max_seconds, stationary_rtol, end : optional
        As of `flowsim.simulate`; by default those of the run, but that one which is certified goes
        to rest. All others are the run's. `t1` and
        `max_steps` count from the start of the run, `max_seconds` anew. `max_steps` goes for a
        descent's number of steps as well, unless `engine` has one: then the smaller ends it.
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
        "stationary_rtol": stationary_rtol, "end": end,
    }  # fmt: skip
    going_on = _engine(solution, engine, max_steps)
    settings = _settings(solution, {name: x for name, x in limits.items() if x is not None})
    if max_steps is None and (steps := getattr(going_on, "steps", None)) is not None:
        settings["max_steps"] = max(settings["max_steps"], steps)
    going = prepare(
        solution.initial,
        solution.data,
        going_on,
        settings,
        events,
        progress,
        saving,
        solution,
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


def _engine(solution: Solution, engine: Descent | None, steps: int | None) -> Any:
    """Return the engine that goes on."""
    settings, states = solution.settings, solution.states
    if not isinstance(states, DescentStates):
        if engine is not None:
            raise TypeError("Argument `engine` must be None but for a descent, but is given.")
        return Piecewise(
            every_event=bool(settings.get("every_event", False)),
            coalesce=float(settings.get("coalesce", 0.0)),
        )
    from flowsim.engines.descent.config import Descent

    going: Descent
    if engine is None:
        going = states.engine or Descent.of(settings)
        if steps is not None and going.steps is not None:
            going = replace(going, steps=steps)
    else:
        _check_same(solution, engine)
        going = engine
    if going.steps is not None and going.steps <= solution.steps and steps is None:
        given = "engine" if engine is not None else "max_steps"
        raise ValueError(
            f"Argument `{given}` must let the run take more steps than the {solution.steps} that "
            f"it has taken, but {'allows ' + str(going.steps) if engine else 'is None'}."
        )
    return going


def _check_same(solution: Solution, engine: Any) -> None:
    """Check that an engine is that of a descent: its time and its memory go on."""
    from flowsim.engines.descent.config import Descent

    if not isinstance(engine, Descent):
        raise TypeError(
            f"Argument `engine` must be a Descent to go on with one, but is of type "
            f"{type(engine).__name__}."
        )
    for name, value in engine.settings().items():
        own = solution.settings[name]
        if name != "steps" and value != own:
            shown = [None if x == -1 else x for x in (own, value)]
            option = "optimizer" if name == "solver" else name
            raise ValueError(
                f"Argument `engine` must be that of the run, with {option} = {shown[0]!r}, but has "
                f"{option} = {shown[1]!r}; start a new run from `run.final.network` to change it."
            )


def _check_open(solution: Solution) -> None:
    engine = solution.settings.get("engine", "piecewise")
    if engine not in ENGINES:
        raise ValueError(
            "Argument `run` must be a run of the engine Piecewise or Descent, but is one of "
            f"{engine}."
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
    if solution.status == "certified":
        if one_of("end", limits.get("end", "rest"), ENDS) == "certificate":
            raise ValueError(
                'Argument `end` must be "rest" to go on with a run that is certified, but is '
                '"certificate".'
            )
        limits = {**limits, "end": "rest"}
    settings = checked(**{**own, **limits})
    asked = {"max_steps"} & limits.keys() or not isinstance(solution.states, DescentStates)
    reached = {"t1": solution.t_end, **({"max_steps": solution.steps} if asked else {})}
    for name, value in reached.items():
        if settings[name] <= value:
            raise ValueError(
                f"Argument `{name}` must be more than the run has reached, {value:g}, but is "
                f"{settings[name]:g}."
            )
    return settings
