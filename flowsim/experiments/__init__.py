"""Studies of many runs: sweeps over grids, and the optimization threshold of linear data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowsim._lazy import attach

if TYPE_CHECKING:
    from flowsim.experiments.baselines import (
        HalfSpaces,
        KernelInterpolator,
        ordinary_least_squares,
    )
    from flowsim.experiments.measures import excess_loss
    from flowsim.experiments.points import Point
    from flowsim.experiments.result import Sweep
    from flowsim.experiments.sweep import StudyProgress, sweep
    from flowsim.experiments.threshold import Threshold, threshold

__all__ = [
    "HalfSpaces",
    "KernelInterpolator",
    "Point",
    "StudyProgress",
    "Sweep",
    "Threshold",
    "excess_loss",
    "ordinary_least_squares",
    "sweep",
    "threshold",
]

__getattr__ = attach(
    __name__,
    {
        "HalfSpaces": "flowsim.experiments.baselines",
        "KernelInterpolator": "flowsim.experiments.baselines",
        "Point": "flowsim.experiments.points",
        "StudyProgress": "flowsim.experiments.sweep",
        "Sweep": "flowsim.experiments.result",
        "Threshold": "flowsim.experiments.threshold",
        "excess_loss": "flowsim.experiments.measures",
        "ordinary_least_squares": "flowsim.experiments.baselines",
        "sweep": "flowsim.experiments.sweep",
        "threshold": "flowsim.experiments.threshold",
    },
)


def __dir__() -> list[str]:
    return __all__
