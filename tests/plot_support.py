"""What the tests of alignment's pictures share."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

import flowsim as fs

#: Five points in general position in space, rational, some directions dead.
SPACE = fs.Dataset(
    [[1, 2, 1], [-1, 1, 1], [2, -1, 1], [-2, -1, 1], [0, 1, 1]], [1, -1, 2, -1, 1], name="space"
)


def settled(data: fs.Dataset, m: int = 24, slope: float = 0.0) -> fs.alignment.AlignmentFlow:
    net = fs.init.balanced(m, data.d, 1e-6, seed=0, negative_slope=slope)
    return fs.alignment.until(net, data)


def rendered(ax: Axes) -> Axes:
    """Draw the figure as a file would be, so that what only fails when drawn fails here."""
    figure = ax.figure
    assert isinstance(figure, Figure)
    figure.savefig(io.BytesIO(), format="png", dpi=50)
    return ax


def dots(ax: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Return positions (m, 2) and colours (m, 3) of the neurons."""
    (found,) = [item for item in ax.collections if isinstance(item, PathCollection)]
    return np.asarray(found.get_offsets()), np.asarray(found.get_facecolor())[:, :3]


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts if text.get_text()]


def legend(ax: Axes) -> list[str]:
    found = ax.get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]
