"""Runs of models other than two-layer ReLU networks: any differentiable one, or a loss function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flowsim.assemble_model import solution_of_model
from flowsim.engines.record import Progress
from flowsim.engines.smooth import run_smooth
from flowsim.engines.smooth_record import SmoothSettings
from flowsim.engines.user_events import UserEvents
from flowsim.models.objective import Objective
from flowsim.runs.run import Run

_SHARED = (
    "t1",
    "rtol",
    "stationary_rtol",
    "max_steps",
    "max_seconds",
    "state_bytes",
    "alignment",
    "alignment_threshold",
    "alignment_epsilon",
)


def prepare_model(
    model: Any,
    data: Any,
    settings: dict[str, Any],
    stepper: Callable[[float], Any],
    user: UserEvents,
    report: Callable[[Progress], None] | None,
) -> Run:
    """Return the run of a model on `data`, or of a loss function."""
    objective = _objective(model, data, settings)
    options = SmoothSettings(**{name: settings[name] for name in _SHARED})
    return Run(
        lambda: run_smooth(objective, options, user.functions, report),
        lambda: stepper(settings["rtol"]),
        lambda record: solution_of_model(model, objective, settings, record),
    )


def _objective(model: Any, data: Any, settings: dict[str, Any]) -> Objective:
    """Return what is minimised; errors name the argument as `simulate` does."""
    try:
        return Objective.of(model, data, loss=settings["loss"], residual=settings["residual"])
    except (TypeError, ValueError) as error:
        text = str(error).replace("Argument `model`", "Argument `net`")
        text = text.replace(
            "must be a model of flowsim", "must be a TwoLayerReLU, a model of flowsim"
        )
        raise type(error)(text) from None
