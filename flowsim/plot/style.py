"""What the pictures share: colours, axes, titles, the axis of time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from flowsim.network import TwoLayerReLU
from flowsim.report import system_label, verdict
from flowsim.solution import States

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flowsim.alignment.roles import Role
    from flowsim.data import Dataset
    from flowsim.solution import Solution

# Okabe & Ito's palette, which colour-blind readers can tell apart.
BLACK, GREY, LIGHT = "#000000", "#666666", "#D9D9D9"
ORANGE, SKY, GREEN = "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"

#: Time to the left of this part of all events, and of 1/300 of the alignment, is cut off.
_EARLY_EVENTS = 0.02
_EARLY_ALIGNMENT = 1 / 300


def new_axes(ax: Axes | None) -> Axes:
    """Return `ax`, or the axes of a new figure that pyplot does not know of."""
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(9.0, 5.4), dpi=120, layout="constrained").add_subplot()


def set_title(ax: Axes, solution: Solution) -> None:
    """Say which system this is and how it ended."""
    ax.set_title(f"{verdict(solution)}\n", loc="left", fontsize=12, fontweight="bold")
    ax.text(
        0.0, 1.02, system_label(solution), transform=ax.transAxes, fontsize=10, color=GREY
    )  # fmt: skip


def plane_name(data: Dataset, plane: int) -> str:
    """Return the name of an activation boundary: the univariate input, or the samples."""
    if data.d == 1:
        return "w = 0"
    samples = np.flatnonzero(data.hyperplane == plane)
    if data.d == 2 and np.all(data.X[:, 1] == 1.0):
        return f"x = {data.X[samples[0], 0]:.4g}".replace("-", "−")
    return "sample " + ", ".join(str(k) for k in samples)


def last_shown_time(solution: Solution) -> float:
    """Return where an axis of time should end: 1 for a flow that rests from the start."""
    return solution.t_end or 1.0


def first_shown_time(solution: Solution) -> float:
    """Return where a logarithmic axis of time should begin.

    Late enough to leave out the long first decades in which nothing happens, early
    enough for nearly all events.
    """
    end = last_shown_time(solution)
    times = solution.events.t[(solution.events.t > 0.0) & (solution.events.t < end)]
    candidates = [float(np.quantile(times, _EARLY_EVENTS))] if len(times) else []
    if 0.0 < solution.alignment.end_time < np.inf:  # 0 where the start is large
        candidates.append(solution.alignment.end_time * _EARLY_ALIGNMENT)
    start = max(candidates, default=end * 1e-3)
    if len(times):
        start = min(start, float(np.median(times)))
    return _round_down(min(start, end / 10.0))


def neuron_states(solution: Solution) -> States:
    """Return the stored states of a run of a TwoLayerReLU, whose neurons can be drawn.

    Raises
    ------
    TypeError
        If it is a run of another model, or a discrete descent, which keeps no fates of neurons.
    """
    states = solution.states
    check_network(solution)
    if not isinstance(states, States):
        raise TypeError(
            "Argument `solution` must be a run that follows the flow for this picture, but is a "
            "discrete descent."
        )
    return states


def check_network(solution: Solution) -> None:
    """Check that a run is one of a TwoLayerReLU, by the flow or by descent.

    Raises
    ------
    TypeError
        If it is a run of another model.
    """
    if not isinstance(solution.initial, TwoLayerReLU):
        raise TypeError(
            "Argument `solution` must be a run of a TwoLayerReLU for this picture, but is one of "
            f"a {type(solution.initial).__name__}."
        )


def time_axis(ax: Axes, solution: Solution) -> float:
    """Make the x axis logarithmic time and return its left end."""
    left, end = first_shown_time(solution), last_shown_time(solution)
    ax.set_xscale("log")
    ax.set_xlim(left, end)
    ax.set_xlabel("time t of the gradient flow (logarithmic)")
    _plain_ticks(ax, np.log10(end / left))
    return left


def shade_alignment(ax: Axes, solution: Solution) -> None:
    """Shade the early alignment phase and mark its end."""
    end, left = solution.alignment.end_time, ax.get_xlim()[0]
    if not (np.isfinite(end) and end > left):
        return
    ax.axvspan(left, end, color=SKY, alpha=0.13, linewidth=0, zorder=0)
    ax.axvline(end, color=GREY, linestyle=(0, (5, 3)), linewidth=1.2, zorder=1)


def _plain_ticks(ax: Axes, decades: float) -> None:
    """Label a logarithmic axis of a few decades 0.1, 1, 10, and 2 and 5 if there is room."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    plain = FuncFormatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    if decades < 6:
        ax.xaxis.set_major_formatter(plain)
    if decades < 2.5:
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))


def _round_down(t: float) -> float:
    """Return the largest of 1, 2, 5 times a power of ten that is at most `t`."""
    power = 10.0 ** np.floor(np.log10(t))
    return float(power * max(digit for digit in (1, 2, 5) if digit <= t / power * (1 + 1e-9)))


class VectorLook(NamedTuple):
    """How an extremal vector is drawn: its colour, shaft, and whether its head is filled."""

    color: str
    line: Literal["-", "--", ":"]
    filled: bool


def halo() -> list:
    """Return path effects that keep a text legible on what it covers."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.5, foreground="white")]


def sign_color(sign: int) -> str:
    """Return the colour of neurons with this sign of a."""
    return BLUE if sign > 0 else VERMILION if sign < 0 else PURPLE


def vector_look(role: Role) -> VectorLook:
    """Return how an extremal vector of this role is drawn."""
    if role.attracts == 0:
        return VectorLook(BLACK, ":", True)
    return VectorLook(sign_color(role.attracts), "-" if role.grows else "--", bool(role.grows))


def role_text(role: Role) -> str:
    """Return what an extremal vector of this role does."""
    if role.attracts == 0:
        return "a saddle"
    sign, change = ">" if role.attracts > 0 else "<", "grow" if role.grows else "shrink"
    return f"attracts a {sign} 0, which {change}"


def vector_marker(role: Role) -> str:
    """Return the marker of an extremal vector of this role, where it is no arrow."""
    return "D" if role.attracts == 0 else "*" if role.grows else "o"
