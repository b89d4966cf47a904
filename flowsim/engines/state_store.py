"""The states that a run stores for its dense output, chosen by a policy within a budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flowsim.cells import TOUCH, Cells
from flowsim.engines.record import Flow
from flowsim.state import State

#: States that "log" stores in a decade of time, while they fit into the budget.
A_DECADE = 32
#: States of which fewer than this fit into the budget are stored by "log", unless asked otherwise.
FEW = 64
#: A state of more bytes is only copied where it is stored.
SMALL = 2**20
#: The bin of t = 0; the others are not negative, so that they can all be joined.
_START = -1
_SMALLEST = -324  # log10 of the smallest positive time


@dataclass(frozen=True, eq=False)
class Stored:
    """What is kept of a state, in scaled units; its other parts do not change, or follow."""

    step: int
    time: float
    tail: float
    z: np.ndarray  # (m, d+1)
    exponent: np.ndarray  # (m,) int64
    sign: np.ndarray  # (m,) int8
    code: np.ndarray  # (m, G) int8
    fate: np.ndarray  # (m,) int8

    @classmethod
    def of(cls, step: int, flow: Flow) -> Stored:
        """Copy the present state of a run."""
        s = flow.whole()
        return cls(
            step, flow.time, flow.tail, s.z.copy(), s.exponent.copy(), s.sign.astype(np.int8),
            s.code.copy(), s.fate.astype(np.int8),
        )  # fmt: skip

    def state(self, gap: np.ndarray, gap_exponent: np.ndarray, cells: Cells) -> State:
        """Return a state to go on from, with the conserved gaps ``gap * 4**gap_exponent``."""
        # A state stored on a hyperplane has just been switched there.
        margin = np.abs(self.z[:, 1:] @ cells.normals.T)
        return State(
            z=self.z.copy(),
            exponent=self.exponent.copy(),
            sign=self.sign.astype(np.int64),
            balance=np.sign(gap).astype(np.int64),
            gap=gap.copy(),
            gap_exponent=gap_exponent.copy(),
            code=self.code.copy(),
            fate=self.fate.astype(np.int64),
            fresh=(margin <= TOUCH) & (self.code != 0),
        )


def policy_for(state: State, settings: dict[str, Any]) -> str:
    """Return the policy of a run that has been given none: "log" for states that fill memory."""
    return "log" if nbytes_of(state) * FEW > settings["state_bytes"] else "all"


def nbytes_of(state: State | Stored) -> int:
    """Return the bytes that a state takes where it is stored."""
    return state.z.nbytes + state.exponent.nbytes + state.code.nbytes + 2 * len(state.z)


class StateStore:
    """Stored states within a memory budget.

    Steps fall into bins, and the first state of a bin is kept. When the budget is full, bins
    are joined in pairs. The start is always kept; `ended` adds the end. `latest` is the last
    state that has been offered, or stored if states are large.

    Parameters
    ----------
    budget : int
        Bytes.
    policy : {"all", "log", "ends"}
        A bin is a step, 1/32 of a decade of time, or the run.
    """

    def __init__(self, budget: int, policy: str = "all") -> None:
        self.budget, self.policy = budget, policy
        self.halvings = 0
        self.rows: list[Stored] = []
        self.latest: Stored | None = None

    def offer(self, step: int, flow: Flow) -> None:
        """Keep the state of `step` if its turn has come; thin when the budget is full."""
        new = not self.rows or self._bin_of(step, flow.time) != self._bin_of_row(self.rows[-1])
        if not new and nbytes_of(self.rows[-1]) > SMALL:
            return
        self.latest = Stored.of(step, flow)
        if not new:
            return
        self.rows.append(self.latest)
        while len(self.rows) > 2 and len(self.rows) * nbytes_of(self.rows[0]) > self.budget:
            self.halvings += 1
            bins = [self._bin_of_row(row) for row in self.rows]
            pairs = zip(self.rows, [None, *bins], bins, strict=False)
            self.rows = [row for row, before, own in pairs if own != before]

    def ended(self, step: int, flow: Flow) -> list[Stored]:
        """Return all rows, the last one that of the present state."""
        return [*(row for row in self.rows if row.step < step), Stored.of(step, flow)]

    def _bin_of_row(self, row: Stored) -> int:
        return self._bin_of(row.step, row.time)

    def _bin_of(self, step: int, time: float) -> int:
        if self.policy == "all":
            return step >> self.halvings
        if self.policy == "ends" or time <= 0.0:
            return _START
        return int(A_DECADE * (np.log10(time) - _SMALLEST)) >> self.halvings
