"""What a system is called in titles and reports."""

from __future__ import annotations

from typing import Any

from flowsim.data import Dataset
from flowsim.network import TwoLayerReLU

#: Longer descriptions of models are cut down to their names.
_LONGEST = 80


def system_label(data: Dataset, net: TwoLayerReLU, *, frozen: bool = False) -> str:
    """Return the data and the initialisation, as in a title."""
    known = net.metadata
    parts = [f"{data.name} (n = {data.n}, d = {data.d})", f"m = {net.m}"]
    if "kind" in known:
        parts.append(str(known["kind"]))
    if known.get("log10_scale") is not None:
        parts.append(f"λ = {_power(float(known['log10_scale']))}")
    if known.get("seed") is not None:
        parts.append(f"seed {known['seed']}")
    if net.negative_slope:
        parts.append(f"leaky ReLU with slope {net.negative_slope:g}")
    if frozen:
        parts.append("residual frozen at y")
    return ", ".join(parts)


def model_label(data: Dataset | None, model: Any, *, frozen: bool = False) -> str:
    """Return the data and a model that is no TwoLayerReLU, or a loss function, as in a title."""
    if isinstance(model, tuple):
        return f"loss function {getattr(model[0], '__name__', type(model[0]).__name__)}"
    text = repr(model)
    name = type(model).__name__ if "\n" in text or len(text) > _LONGEST else text
    parts = [name] if data is None else [f"{data.name} (n = {data.n}, d = {data.d})", name]
    return ", ".join([*parts, "residual frozen at y"] if frozen else parts)


def _power(log10: float) -> str:
    """Format 10**log10, below the range of float64 too: "1e-6", "10^-3000"."""
    if abs(log10) > 300:
        return f"10^{log10:.8g}"
    return f"{10.0**log10:.3g}".replace("e-0", "e-")
