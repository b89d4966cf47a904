"""A stored state of a run as a state to go on from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowsim.cells import Cells
from flowsim.engines.state_store import Stored
from flowsim.state import State

if TYPE_CHECKING:
    from flowsim.solution import States


def stored(states: States, row: int, cells: Cells) -> Stored:
    """Return one row, in the scaled units of `cells`."""
    return Stored(
        step=int(states.step[row]),
        time=float(np.ldexp(states.t[row], cells.time_exponent)),
        tail=float(np.ldexp(states.t_tail[row], cells.time_exponent)),
        z=np.array(states.neurons[row]),
        exponent=states.exponent[row] + cells.size_exponent,
        sign=np.array(states.sign[row]),
        code=np.array(states.code[row]),
        fate=np.array(states.fate[row]),
    )


def restored(states: States, row: int, cells: Cells) -> State:
    """Return the state of one row, in the scaled units of `cells`."""
    gap_exponent = states.gap_exponent + cells.size_exponent
    return stored(states, row, cells).state(states.gap, gap_exponent, cells)
