"""Neurons on their walk, their log, and working memory, as arrays for the compiled kernels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flowsim.alignment import switching

#: How a neuron's walk stands: under way; `flowsim.selection` must choose its cell; its next
#: event is later than asked for; it has no further event; the log is full; events pile up
#: without progress in time.
GOING, ASKS, EARLY, SETTLED, FULL, STUCK = range(6)
#: Columns of `Neurons.real` and `Neurons.whole`, rows of the scratch arrays, columns of a log.
GAP, TIME = range(2)
SIGN, BALANCE, EXPONENT, GAP_EXPONENT, FATE, STATUS, PLANE, IDLE, CHANGES = range(9)
SIDE, MARGIN, SLOPE, SPARE = range(4)
HELD, FIELD = range(2)
LOG_COLUMNS = ("neuron", "kind", "plane", "before", "after")


class Neurons(NamedTuple):
    """The neurons of one chunk; neuron j is ``2**exponent * (sign * a, w)``."""

    z: np.ndarray  # (m, d+1): a >= 0, w
    real: np.ndarray  # (m, 2): a^2 - |w|^2 = GAP * 4**GAP_EXPONENT; TIME of the last event
    whole: np.ndarray  # (m, 9) int64; BALANCE is the sign of GAP, PLANE what was reached last
    code: np.ndarray  # (m, G) int8


class Log(NamedTuple):
    """What happened, in the order of each neuron; `count` rows are filled."""

    rows: np.ndarray  # (R, 5) int32
    time: np.ndarray  # (R,)
    count: np.ndarray  # (1,) int64


class Scratch(NamedTuple):
    """Working memory of one thread.

    For the sign of a, D without what slides add is vectors[HELD], with it vectors[FIELD];
    nu_g . D, of the hyperplanes that are listed, is lines[SLOPE]; lines[SPARE] is for anything.
    """

    lines: np.ndarray  # (4, G), filled as far as the list
    vectors: np.ndarray  # (2, d)
    peak: np.ndarray  # (1,) the largest |D|, or change of it, since it was computed afresh
    slides: np.ndarray  # (G,) int64
    sides: np.ndarray  # (G+1,) int64
    counts: np.ndarray  # (2,) int64: slides, samples that are on
    choice: switching.Scratch


def scratch(d: int, planes: int) -> Scratch:
    """Allocate the working memory of one thread."""
    whole = lambda k: np.zeros(k, dtype=np.int64)  # noqa: E731
    return Scratch(
        np.zeros((4, planes)), np.zeros((2, d)), np.zeros(1), whole(planes), whole(planes + 1),
        whole(2), switching.scratch(d, planes),
    )  # fmt: skip


def log(rows: int) -> Log:
    """Allocate a log of so many rows."""
    return Log(np.empty((rows, len(LOG_COLUMNS)), np.int32), np.empty(rows), np.zeros(1, np.int64))
