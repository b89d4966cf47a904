"""Changes of patterns that the compiled loop has noted, as events."""

from __future__ import annotations

import numpy as np

from flowsim.engines.descent.loop import Changes
from flowsim.events import Events, kind_code

_PATTERN, _DEATH, _SIGN = (kind_code(kind) for kind in ("pattern", "death", "sign_change"))


class ChangeReader:
    """Turn changes into events; knows which neurons are on for no sample any more.

    Parameters
    ----------
    codes : (m, n+1) bool
        Before the first change: on, and in the last column a > 0.
    slope : float
        Of the activation's negative side; only where it is 0 neurons die.
    """

    def __init__(self, codes: np.ndarray, slope: float) -> None:
        self.width = codes.shape[1]
        self.slope = slope
        self.on = np.sum(codes[:, :-1], axis=1) if codes.size else np.zeros(0, np.int64)

    def read(self, changes: Changes) -> Events:
        """Return the events of some changes, in their order; deaths after their patterns."""
        count = int(changes.count)
        place = np.asarray(changes.place)[:count]
        step, t, after = (
            np.asarray(c)[:count] for c in (changes.step, changes.time, changes.after)
        )
        neuron, sample = np.divmod(place, max(self.width, 1))
        flips = sample == self.width - 1
        events = Events(
            t=t,
            kind_code=np.where(flips, _SIGN, _PATTERN).astype(np.int8),
            neuron=neuron.astype(np.int32),
            sample=np.where(flips, -1, sample).astype(np.int32),
            before=np.where(after, -1, 1).astype(np.int8),
            after=np.where(after, 1, -1).astype(np.int8),
        )
        dead = self._deaths(neuron, step, np.where(flips, 0, np.where(after, 1, -1)))
        if len(dead) == 0:
            return events
        deaths = Events(
            t=t[dead],
            kind_code=np.full(len(dead), _DEATH, np.int8),
            neuron=neuron[dead].astype(np.int32),
            **{
                name: np.full(len(dead), -1, dtype)
                for name, dtype in (("sample", np.int32), ("before", np.int8), ("after", np.int8))
            },
        )
        return _merged(events, deaths, dead)

    def _deaths(self, neuron: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
        """Return after which changes a neuron is on for no sample, where it has been before."""
        order = np.lexsort((np.arange(len(step)), step, neuron))
        j, s, c = neuron[order], step[order], change[order]
        total = np.cumsum(c)
        first = np.flatnonzero(np.append(True, j[1:] != j[:-1])[: len(j)])
        before = np.repeat(total[first] - c[first], np.diff(np.append(first, len(j))))
        count = self.on[j] + total - before
        ends = np.append((j[1:] != j[:-1]) | (s[1:] != s[:-1]), True)[: len(j)]
        last = np.append(j[1:] != j[:-1], True)[: len(j)]
        self.on[j[last]] = count[last]
        if self.slope != 0.0:
            return np.zeros(0, np.int64)
        return np.sort(order[ends & (count == 0) & (c != 0)])


def _merged(events: Events, more: Events, after: np.ndarray) -> Events:
    """Return both, with each of `more` behind the one of `events` that it comes `after`."""
    place = np.concatenate([np.arange(len(events)), after + 0.5])
    order = np.argsort(place, kind="stable")
    return Events(
        **{
            name: np.concatenate([value, getattr(more, name)])[order]
            for name, value in vars(events).items()
        }
    )
