"""Independent runs together: what several drivers ask for is answered by one compiled call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from flowsim.engines.problem import Advance, Driver, Request, Stepper, Steps, Tree

#: States of fewer bytes cost less to integrate in vain than a number of them to compile.
SMALL_BYTES = 2**16


class BatchStepper(Stepper, Protocol):
    """A stepper that answers several runs in one call, each with its own step."""

    def advance_batch(self, requests: Sequence[Advance]) -> list[Steps]:
        """Answer requests of one problem and of equal shapes."""
        ...


def drive_batch(drivers: Sequence[Driver], stepper: BatchStepper) -> list[Any]:
    """Run all drivers on one stepper; return what each returns.

    Landings inside steps are answered one by one, advances together with all that have the
    same problem and the same shapes.
    """
    results: list[Any] = [None] * len(drivers)
    waiting: dict[int, Advance] = {}

    def go_on(i: int, answer: Any) -> None:
        """Send an answer; go on until the run asks for steps, or ends."""
        try:
            request: Request = drivers[i].send(answer)
            while not isinstance(request, Advance):
                request = drivers[i].send(stepper.land(request))
            waiting[i] = request
        except StopIteration as stop:
            waiting.pop(i, None)
            results[i] = stop.value

    for i in range(len(drivers)):
        go_on(i, None)
    while waiting:
        for members in _alike(waiting):
            requests = _padded([waiting[i] for i in members], len(drivers))
            answers = stepper.advance_batch(requests)[: len(members)]
            for i, answer in zip(members, answers, strict=True):
                go_on(i, answer)
    return results


def _alike(waiting: dict[int, Advance]) -> list[list[int]]:
    """Return the runs grouped by problem and shapes."""
    groups: dict[Any, list[int]] = {}
    for i, request in waiting.items():
        groups.setdefault((request.problem, _shapes((request.y, request.args))), []).append(i)
    return list(groups.values())


def _padded(requests: list[Advance], runs: int) -> list[Advance]:
    """Return the requests with copies of the last: of few numbers, so that little is compiled.

    Runs come and go, since slides change shapes. Up to SMALL_BYTES a state it is as quick to take
    steps of all `runs`; above, the next power of two is enough.
    """
    import jax

    count = len(requests)
    size = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(requests[0].y))
    width = runs if size <= SMALL_BYTES else min(1 << (count - 1).bit_length(), runs)
    return requests + requests[-1:] * (width - count)


def _shapes(tree: Tree) -> tuple[Any, ...]:
    import jax

    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple(np.shape(leaf) for leaf in leaves)
