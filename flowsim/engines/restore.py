"""A stored state of a run as a state to go on from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowsim.cells import TOUCH, Cells
from flowsim.state import State

if TYPE_CHECKING:
    from flowsim.solution import States


def restored(states: States, row: int, cells: Cells) -> State:
    """Return the state of one row, in the scaled units of `cells`."""
    shift = cells.size_exponent
    state = State(
        z=np.array(states.neurons[row]),
        exponent=states.exponent[row] + shift,
        sign=states.sign[row].astype(np.int64),
        balance=np.sign(states.gap).astype(np.int64),
        gap=np.array(states.gap),
        gap_exponent=states.gap_exponent + shift,
        code=np.array(states.code[row]),
        fate=states.fate[row].astype(np.int64),
        fresh=np.zeros(states.code[row].shape, dtype=np.bool_),
    )
    # A state stored on a hyperplane has just been switched there.
    margin = np.abs(state.z[:, 1:] @ cells.normals.T)
    state.fresh[:] = (margin <= TOUCH) & (state.code != 0)
    return state
