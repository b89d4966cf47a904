"""From the kernel's log of hyperplanes to events and paths of samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flowsim.cells import Cells
from flowsim.events import Events, kind_code


def events_of(rows: np.ndarray, times: np.ndarray, cells: Cells) -> Events:
    """Return the table of events: one row a sample where a hyperplane's code has changed."""
    table = scaled_events(rows, times, cells)
    return replace(table, t=np.ldexp(table.t, -cells.time_exponent))


def scaled_events(rows: np.ndarray, times: np.ndarray, cells: Cells) -> Events:
    """Return the table of events in scaled time."""
    neuron, kind, plane, before, after = rows.T
    pattern = kind == kind_code("pattern")
    first, samples = cells.samples
    repeats = np.where(pattern, np.diff(first)[plane], 1)
    row = np.repeat(np.arange(len(rows)), repeats)
    within = np.arange(len(row)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    is_pattern = pattern[row]
    sample = np.where(is_pattern, samples[np.minimum(first[plane[row]] + within, cells.n - 1)], -1)
    side = np.where(is_pattern, cells.orientation[sample].astype(np.int64), 1)
    # The sort is stable, so causes precede effects.
    order = np.argsort(times[row], kind="stable")
    return Events(
        t=times[row][order],
        kind_code=kind[row][order].astype(np.int8),
        neuron=neuron[row][order].astype(np.int32),
        sample=sample[order].astype(np.int32),
        before=(before[row] * side)[order].astype(np.int8),
        after=(after[row] * side)[order].astype(np.int8),
    )


def path_of(rows: np.ndarray, times: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the times (k+1,) from which on one neuron's codes (k+1, G) hold.

    `rows` are the neuron's own; `last` (G,) is its code at the end.
    """
    codes, starts = [last], []
    changes = np.flatnonzero(rows[:, 1] == kind_code("pattern"))
    order = changes[np.argsort(times[changes], kind="stable")]
    for i in order[::-1]:
        _, _, plane, before, _ = rows[i]
        if not starts or times[i] != starts[-1]:
            starts.append(times[i])
            codes.append(codes[-1].copy())
        codes[-1][plane] = before
    return np.array([0.0, *starts[::-1]]), np.array(codes[::-1])
