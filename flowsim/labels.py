"""What a system is called in titles and reports."""

from __future__ import annotations

from flowsim.data import Dataset
from flowsim.network import TwoLayerReLU


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


def _power(log10: float) -> str:
    """Format 10**log10, below the range of float64 too: "1e-6", "10^-3000"."""
    if abs(log10) > 300:
        return f"10^{log10:.8g}"
    return f"{10.0**log10:.3g}".replace("e-0", "e-")
