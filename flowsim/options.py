"""The options of a run, checked: what `simulate` accepts beside a network, data and an engine."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowsim._arguments import one_of, real
from flowsim._event_rows import EVENT_BYTES
from flowsim.alignment.end import DEFINITIONS, EPSILON
from flowsim.network import LOSSES

#: Default memory for stored states; denser runs are thinned and replayed between.
STATE_BYTES = 32 * 2**20
#: Default number of steps to give a run up after.
MAX_STEPS = 1_000_000
RESIDUALS = ("full", "frozen")
#: Which states are stored; None leaves it to their size.
STATES = ("all", "log", "ends")
#: What ends a run: a proof of where it goes, or that it has come to rest.
ENDS = ("certificate", "rest")
_RANGES = {
    "rtol": (1e-15, 1e-2),
    "stationary_rtol": (0.0, 1e-2),
    "alignment_threshold": (1e-12, 1.0),
}


def checked(
    *,
    t1: Any = float("inf"),
    rtol: Any = 1e-12,
    residual: Any = "full",
    loss: Any = "half_mean",
    stationary_rtol: Any = 1e-11,
    end: Any = None,
    alignment: Any = "residual",
    alignment_threshold: Any = 1e-3,
    alignment_epsilon: Any = None,
    max_steps: Any = MAX_STEPS,
    max_seconds: Any = float("inf"),
    state_bytes: Any = STATE_BYTES,
    states: Any = None,
    event_bytes: Any = EVENT_BYTES,
) -> dict[str, Any]:
    """Return the settings of a run, plain numbers and words; see `flowsim.simulate`.

    Raises
    ------
    ValueError, TypeError
        One sentence about the first argument that makes no sense.
    """
    settings = {
        "rtol": real("rtol", rtol),
        "residual": one_of("residual", residual, RESIDUALS),
        "loss": one_of("loss", loss, LOSSES),
        "t1": real("t1", t1),
        "stationary_rtol": real("stationary_rtol", stationary_rtol),
        "end": None if end is None else one_of("end", end, ENDS),
        "alignment": one_of("alignment", alignment, DEFINITIONS),
        "alignment_threshold": real("alignment_threshold", alignment_threshold),
        "alignment_epsilon": _epsilon(alignment, alignment_epsilon),
        "max_steps": _whole("max_steps", max_steps),
        "max_seconds": real("max_seconds", max_seconds),
        "state_bytes": _whole("state_bytes", state_bytes),
        "states": None if states is None else one_of("states", states, STATES),
        "event_bytes": _whole("event_bytes", event_bytes),
    }
    for name in ("t1", "max_steps", "max_seconds", "state_bytes", "event_bytes"):
        if not settings[name] > 0:
            raise ValueError(f"Argument `{name}` must be positive, but is {settings[name]}.")
    if settings["residual"] == "frozen" and not np.isfinite(settings["t1"]):
        raise ValueError(
            'Argument `t1` must be finite with residual="frozen", which never comes to rest, '
            "but is infinite."
        )
    for name, (low, high) in _RANGES.items():
        if not low <= settings[name] <= high:
            raise ValueError(
                f"Argument `{name}` must lie between {low:g} and {high:g}, but is {settings[name]}."
            )
    if settings["end"] is None:
        # Who asks for a time, or for no end at rest, wants the flow until then.
        asked = np.isfinite(settings["t1"]) or settings["stationary_rtol"] == 0.0
        settings["end"] = "rest" if asked else "certificate"
    return settings


def _epsilon(alignment: str, epsilon: Any) -> float:
    value = EPSILON[alignment] if epsilon is None else real("alignment_epsilon", epsilon)
    if not 0.0 < value <= 1.0:
        raise ValueError(f"Argument `alignment_epsilon` must lie between 0 and 1, but is {value}.")
    return value


def _whole(name: str, value: Any) -> int:
    number = real(name, value)
    if not number == np.floor(number) or np.isinf(number):
        raise ValueError(f"Argument `{name}` must be a whole number, but is {value}.")
    return int(number)
