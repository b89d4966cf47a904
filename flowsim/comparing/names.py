"""Names of descents that tell their options apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields

from flowsim.engines.descent.config import Descent

_DEFAULTS = {field.name: field.default for field in fields(Descent)}
#: Options of some optimizers only.
_OWN = {"momentum": ("momentum",), "nesterov": ("momentum",), "adam": ("b1", "b2", "eps")}


def names_of(engines: Sequence[Descent]) -> list[str]:
    """Return a name for each engine, the same for those that differ in the learning rate only.

    It is the optimizer, or "log_norm", with what is not the default: "gd float32", "gd batch 5",
    "momentum 0.5", "gd schedule". Others that still share it at one rate are numbered.
    """
    taken: Counter[tuple[str, str]] = Counter()
    names = []
    for engine in engines:
        name, rate = _name(engine), engine.learning_rate
        place = (name, "" if callable(rate) else str(rate))
        taken[place] += 1
        names.append(name if taken[place] == 1 else f"{name} #{taken[place]}")
    return names


def _name(engine: Descent) -> str:
    parts = ["log_norm" if engine.coordinates == "log_norm" else engine.name]
    for option in _OWN.get(engine.name, ()):
        value = getattr(engine, option)
        if value != _DEFAULTS[option]:
            parts.append(f"{value:g}" if option == "momentum" else f"{option} {value:g}")
    if engine.batch_size is not None:
        parts.append(f"batch {engine.batch_size}")
        if engine.seed != 0:
            parts.append(f"seed {engine.seed}")
    if engine.dtype != "float64":
        parts.append(engine.dtype)
    if callable(engine.learning_rate):
        parts.append("schedule")
    return " ".join(parts)
