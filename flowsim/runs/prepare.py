"""Which run a network and an engine make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flowsim.engines.piecewise.config import Piecewise
from flowsim.engines.record import Progress
from flowsim.engines.user_events import UserEvents
from flowsim.engines.validated.config import Validated
from flowsim.network import TwoLayerReLU
from flowsim.runs.run import Run
from flowsim.runs.saving import Saving
from flowsim.solution import Solution

#: Errors of a step keep the rates of explicit methods, at the limit of their stability, above
#: one to three times the tolerance.
RESOLVED = 8.0


def prepare(
    net: Any,
    data: Any,
    engine: Any,
    settings: dict[str, Any],
    events: Sequence[Callable[[float, Any], Any]],
    report: Callable[[Progress], None] | None,
    saving: Saving | None = None,
    earlier: Solution | None = None,
) -> Run:
    """Return the run of `net` on `data` by `engine`; see `flowsim.simulate`.

    With `earlier` it goes on from where that run of the piecewise engine has ended.

    Raises
    ------
    ValueError, TypeError
        If they do not fit together.
    """
    user = UserEvents(_functions(events))
    if isinstance(engine, Validated):
        return _validated(net, data, engine, settings, user, report, saving)
    if _descends(engine):
        return _descent(net, data, engine, settings, user, report, saving, earlier)
    stepper = None if engine is None or isinstance(engine, Piecewise) else _stepper(engine)
    if saving is not None and (stepper is not None or not isinstance(net, TwoLayerReLU)):
        raise ValueError(
            "Argument `checkpoint` must be None but for a TwoLayerReLU with the engine Piecewise, "
            f"whose runs alone can be resumed, but is {str(saving.path)!r}."
        )
    if isinstance(net, TwoLayerReLU):
        from flowsim.runs.cells import prepare_cells

        settings = {**_engine_settings(engine or Piecewise()), **settings, **_own_rtol(engine)}
        settings |= {} if stepper is None else _rest(settings)
        return prepare_cells(net, data, settings, stepper, user, report, saving, earlier)
    if isinstance(engine, Piecewise):
        raise TypeError(
            "Argument `net` must be a TwoLayerReLU with the engine Piecewise, but is of type "
            f"{type(net).__name__}."
        )
    if settings["states"] not in (None, "all"):
        raise ValueError(
            'Argument `states` must be "all" but for a TwoLayerReLU, since dense output of other '
            f"models needs every step, but is {settings['states']!r}."
        )
    _check_smooth(net)
    from flowsim.runs.models import prepare_model

    if engine is None:
        from flowsim.engines.diffrax import Diffrax

        engine, stepper = Diffrax(), _stepper(Diffrax())
    settings = {**_engine_settings(engine), **settings, "states": "all", **_own_rtol(engine)}
    settings |= _rest(settings)
    assert stepper is not None
    return prepare_model(net, data, settings, stepper, user, report)


def _descends(engine: Any) -> bool:
    """Whether an engine takes discrete steps; none else is asked to load JAX."""
    from flowsim.engines.descent.config import Descent

    return isinstance(engine, Descent)


def _descent(
    net: Any, data: Any, engine: Any, settings: dict[str, Any], user: UserEvents, report: Any,
    saving: Saving | None, earlier: Solution | None,
) -> Run:  # fmt: skip
    from flowsim.runs.descent import prepare_descent

    if user:
        raise ValueError(
            "Argument `events` must be empty with the engine Descent, whose steps are no path that "
            "functions cross zero on, but is not."
        )
    if not isinstance(net, TwoLayerReLU):
        _check_smooth(net)
    return prepare_descent(net, data, settings, engine, report, saving, earlier)


def _validated(
    net: Any, data: Any, engine: Validated, settings: dict[str, Any], user: UserEvents, report: Any,
    saving: Saving | None,
) -> Run:  # fmt: skip
    from flowsim.runs.validated import prepare_validated

    if user:
        raise ValueError(
            "Argument `events` must be empty with the engine Validated, which cannot enclose the "
            "zeros of arbitrary functions, but is not."
        )
    if saving is not None:
        raise ValueError(
            "Argument `checkpoint` must be None with the engine Validated, whose runs cannot be "
            f"resumed, but is {str(saving.path)!r}."
        )
    return prepare_validated(net, data, settings, engine, report)


def _check_smooth(model: Any) -> None:
    """Check that a model does not belong to `TwoLayerReLU`, which is followed cell by cell.

    Steps of an engine that took a piecewise linear network for a smooth one would be rejected
    at every kink, and would not see slides.
    """
    from flowsim.models import TwoLayer

    if isinstance(model, TwoLayer) and model.activation.piecewise_linear and model.a.ndim == 1:
        slope = model.activation.negative_slope
        raise ValueError(
            "Argument `net` must be a TwoLayerReLU if it is a two-layer network with relu or "
            f"leaky_relu, but is a TwoLayer; use flowsim.TwoLayerReLU(net.a, net.W, {slope:g})."
        )


def _functions(events: Any) -> Sequence[Callable[[float, Any], Any]]:
    if callable(events):  # SciPy takes a single function too
        return [events]
    if not isinstance(events, Sequence):
        raise TypeError(
            "Argument `events` must be a sequence of functions, but is of type "
            f"{type(events).__name__}."
        )
    return events


def _stepper(engine: Any) -> Callable[[float], Any]:
    """Return what makes the engine's stepper for a tolerance."""
    from flowsim.engines.diffrax import Diffrax, DiffraxStepper
    from flowsim.engines.scipy import Scipy, ScipyStepper

    if isinstance(engine, Diffrax):
        return lambda rtol: DiffraxStepper(engine, rtol)
    if isinstance(engine, Scipy):
        return lambda rtol: ScipyStepper(engine, rtol)
    raise TypeError(
        "Argument `engine` must be a Piecewise, Diffrax, Scipy, Descent or Validated of "
        f"flowsim.engines, but is {engine!r}."
    )


def _engine_settings(engine: Any) -> dict[str, Any]:
    """Return how an engine is named in a run's settings."""
    if isinstance(engine, Piecewise):
        return {
            "engine": "piecewise", "solver": "taylor", "every_event": int(engine.every_event),
            "coalesce": float(engine.coalesce),
        }  # fmt: skip
    name = type(engine).__name__.lower()
    solver = getattr(engine, "solver", getattr(engine, "method", ""))
    return {"engine": name, "solver": solver if isinstance(solver, str) else type(solver).__name__}


def _own_rtol(engine: Any) -> dict[str, float]:
    own = getattr(engine, "rtol", None)
    return {} if own is None else {"rtol": float(own)}


def _rest(settings: dict[str, Any]) -> dict[str, float]:
    """Return the rest tolerance that the steps' errors allow: rates do not fall below those."""
    asked = settings["stationary_rtol"]
    return {"stationary_rtol": max(asked, RESOLVED * settings["rtol"]) if asked > 0.0 else 0.0}
