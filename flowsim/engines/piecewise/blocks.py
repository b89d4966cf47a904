"""Work on the groups of neurons in blocks, on all cores where there is enough of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from flowsim._cores import available_cores
from flowsim.engines.piecewise.expansion import outputs
from flowsim.engines.piecewise.kin import BLOCK

#: Numbers (groups times samples times inputs) from which on threads are worth their start.
WORTH = 2**17
#: Members of a block, if samples times inputs are few; and the numbers that they make else.
MEMBERS, NUMBERS = 2**14, 2**23
#: Members from which on it is worth a thread to move them.
BESIDE = 2**11


def pool() -> ThreadPoolExecutor:
    """Return the threads of this process."""
    return _pool(os.getpid())  # those of a parent do not survive a fork


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(available_cores(), thread_name_prefix="flowsim")


class Blocks:
    """Blocks of groups, and the working memory to expand them.

    Parameters
    ----------
    X : (d, n)
        Inputs.
    """

    def __init__(self, X: np.ndarray) -> None:
        self.X = X
        self.T, self.U = np.empty_like(X), np.empty_like(X)

    def many(self, groups: int) -> bool:
        """Whether threads are worth their start."""
        return groups > BLOCK and groups * self.X.size >= WORTH and available_cores() > 1

    def each(
        self, groups: int, kernel: Callable[..., Any], arguments: Callable[[int, int], tuple]
    ) -> list[Any]:
        """Return what `kernel` returns for all blocks; it writes to places of its own."""
        if not self.many(groups):
            return [kernel(*arguments(0, groups))]
        starts = range(0, groups, BLOCK)
        return list(pool().map(lambda q: kernel(*arguments(q, min(q + BLOCK, groups))), starts))

    def each_member(
        self, members: int, kernel: Callable[..., Any], arguments: Callable[[int, int], tuple],
        *, looks: bool = False,
    ) -> list[Any]:  # fmt: skip
        """Do the same for blocks of members; those of one that looks at all data are smaller."""
        block = int(np.clip(NUMBERS // self.X.size, BLOCK, MEMBERS)) if looks else MEMBERS
        if members <= 2 * block or available_cores() == 1:
            return [kernel(*arguments(0, members))] if members else []
        # No more blocks than cores where these are not large: each has to be handed to a thread.
        block = max(block, min(MEMBERS, -(-members // available_cores())))
        starts = range(0, members, block)
        return list(pool().map(lambda u: kernel(*arguments(u, min(u + block, members))), starts))

    def alone(self, members: int) -> bool:
        """Whether so many are one block's work, but worth a thread of its own."""
        return BESIDE <= members <= 2 * MEMBERS

    def each_group(
        self, start: np.ndarray, kernel: Callable[..., Any],
        arguments: Callable[[int, int], tuple],
    ) -> list[Any]:  # fmt: skip
        """Do the same for blocks of whole groups that have so many members, or one."""
        groups, members = len(start) - 1, int(start[-1])
        if members <= 2 * MEMBERS or available_cores() == 1:
            return [kernel(*arguments(0, groups))] if groups else []
        ends = np.unique(np.searchsorted(start[:-1], np.arange(0, members + MEMBERS, MEMBERS)))
        blocks = pairwise(ends.tolist())  # from 0 to all groups
        return list(pool().map(lambda block: kernel(*arguments(*block)), blocks))

    def outputs(
        self, groups: int, kernel: Callable[..., Any], *before: Any, after: Sequence[Any] = ()
    ) -> np.ndarray:
        """Return the outputs (n,) that `kernel` adds up in blocks."""
        h = np.empty(self.X.shape[1])
        outputs(self.X, self.summed(groups, len(self.X), kernel, *before, after=after), h)
        return h

    def summed(
        self, groups: int, rows: int, kernel: Callable[..., Any], *before: Any,
        after: Sequence[Any] = (),
    ) -> np.ndarray:  # fmt: skip
        """Return what `kernel` adds to (rows, n) in blocks, summed in the order of the blocks."""
        shape = rows, self.X.shape[1]

        def part(q: int) -> np.ndarray:
            U = np.zeros(shape)
            kernel(*before, q, min(q + BLOCK, groups), *after, U)
            return U

        starts = range(0, groups, BLOCK)
        if len(starts) == 1:
            return part(0)
        parts = pool().map(part, starts) if self.many(groups) else map(part, starts)
        total = np.zeros(shape)
        for U in parts:
            total += U
        return total
