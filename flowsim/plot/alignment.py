"""Where the neurons of an alignment flow point, among the cells and the extremal vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowsim.plot import _snapshot
from flowsim.plot._scene import Scene, axes_for, vectors_of, view_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from flowsim.alignment.extremal import ExtremalVectors
    from flowsim.alignment.flow import AlignmentFlow


def alignment(
    flow: AlignmentFlow, ax: Axes | None = None, *, vectors: ExtremalVectors | None = None
) -> Axes:
    """Draw the directions of the neurons at the flow's time, the cells, and the extremal vectors.

    For d = 2 the unit circle: each neuron is a dot at the angle of w_j, outside the circle by
    the logarithm of its growth, or inside if it has shrunk; extremal vectors are arrows along
    their direction w, as long as D. For d = 3 the sphere as two discs in equal-area projection.
    Colour is the sign of a_j; at most 400 neurons are drawn. Percentages say how
    many of all have come within 10 degrees of an extremal vector that attracts their sign of a.

    Parameters
    ----------
    flow : AlignmentFlow
        Of `flowsim.alignment.flow` or `until`, with inputs of dimension 2 or 3.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure, ``ax.figure``, unknown to pyplot.
    vectors : ExtremalVectors, optional
        Those of the data, if they are known already.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If the inputs have neither two nor three dimensions.
    TypeError
        If it is no AlignmentFlow.
    """
    from flowsim.alignment.flow import AlignmentFlow
    from flowsim.labels import system_label

    if not isinstance(flow, AlignmentFlow):
        raise TypeError(
            "Argument `flow` must be an AlignmentFlow, of flowsim.alignment.flow or until, but is "
            f"of type {type(flow).__name__}."
        )
    slope = flow.initial.negative_slope
    view = view_of(flow.data, slope, "flow")
    vectors = vectors_of(flow.data, slope, flow.loss) if vectors is None else vectors
    ax = axes_for(view, ax)
    now = _snapshot.of_flow(flow, _snapshot.chosen(flow.network.m))
    scene = Scene(ax, view, vectors, now.largest, trail=0)
    scene.show(now, _snapshot.of_flow(flow, np.arange(flow.network.m)))
    scene.legend(now)
    scene.title(f"Early alignment at t = {flow.t:.4g}", system_label(flow.data, flow.initial))
    return ax


def alignment_figure(flow: AlignmentFlow) -> Figure:
    """Draw the directions, where they can be drawn, beside the angles to the limits over time.

    Parameters
    ----------
    flow : AlignmentFlow

    Returns
    -------
    matplotlib Figure
        Unknown to pyplot.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from flowsim.plot.approach import approach

    if flow.data.d not in (2, 3):
        figure = Figure(figsize=(9.0, 5.4), dpi=120, layout="constrained")
        approach(flow, figure.add_subplot())
        return figure
    flat = flow.data.d == 2
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15)
    figure = Figure(figsize=(13.0, 7.4) if flat else (11.0, 11.0), dpi=120, layout=layout)
    one, two = figure.subplots(
        1 if flat else 2, 2 if flat else 1,
        gridspec_kw={"width_ratios": (1.0, 1.0)} if flat else {"height_ratios": (1.4, 1.0)},
    )  # fmt: skip
    alignment(flow, one)
    approach(flow, two)
    return figure
