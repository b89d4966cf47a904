"""The events of two runs, one by one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowsim.events import Events


class Matched(NamedTuple):
    """Pattern changes of two runs that are the same ones.

    Attributes
    ----------
    difference : (M,)
        Time in the first run minus that in the second.
    fraction : float
        Of the events of the second run that the first one has too; nan if there are none.
    """

    difference: np.ndarray
    fraction: float


def matched(one: Events, other: Events) -> Matched:
    """Match the i-th change of each neuron at each sample in both runs, if they agree."""
    a, b = (_numbered(events.where("pattern")) for events in (one, other))
    keys, rows, columns = np.intersect1d(a[0], b[0], return_indices=True)
    fraction = len(keys) / len(b[0]) if len(b[0]) else float("nan")
    return Matched(a[1][rows] - b[1][columns], fraction)


def _numbered(events: Events) -> tuple[np.ndarray, np.ndarray]:
    """Return keys (neuron, sample, number of the change, what it is now), and times."""
    order = np.lexsort((events.t, events.sample, events.neuron))
    e = events.select(order)
    new = np.append(True, (np.diff(e.neuron) != 0) | (np.diff(e.sample) != 0))[: len(e)]
    first = np.maximum.accumulate(np.where(new, np.arange(len(e)), 0))
    key = np.zeros(len(e), dtype="i8,i8,i8,i8")
    columns = (e.neuron, e.sample, np.arange(len(e)) - first, e.after)
    for name, column in zip(key.dtype.names or (), columns, strict=True):
        key[name] = column
    return key, e.t
