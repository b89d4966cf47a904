"""What the integrator goes on with beside a state, so that it takes the steps of the run.

Without it the lengths of steps are found again, and sums are rounded in another order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.cells import Cells
from flowsim.engines.groups import Groups
from flowsim.engines.piecewise.integrator import Integrator
from flowsim.engines.restore import restored, stored
from flowsim.solution import Restart

if TYPE_CHECKING:
    from flowsim.solution import States

_LONG = "long"


def integrator_at(
    states: States, row: int, cells: Cells, settings: dict[str, Any], *, every_event: bool
) -> Integrator:
    """Return an integrator in a stored state."""
    start = stored(states, row, cells)
    return Integrator(
        cells,
        restored(states, row, cells),
        float(settings["rtol"]),
        frozen=settings["residual"] == "frozen",
        every_event=every_event,
        time=start.time,
        tail=start.tail,
    )


def restart_of(integrator: Integrator) -> Restart:
    """Return what an integrator in the same state needs to take the same steps."""
    neuron, hyperplane = np.nonzero(integrator.state.fresh)
    slot, free = integrator.groups.arrangement()
    numbers = {n: x for n, x in vars(integrator.long_steps).items() if isinstance(x, int | float)}
    memory = {_LONG + name: float(x) for name, x in numbers.items()}
    return Restart(
        neuron.astype(np.int32), hyperplane.astype(np.int32), slot, free,
        {
            "outlook": float(integrator.outlook), "allowance": float(integrator.allowance),
            "radius": float(integrator.expander.radius), **memory,
        },
    )  # fmt: skip


def recall(integrator: Integrator, restart: Restart) -> None:
    """Let an integrator in the last state of a run be the one that the run has ended with."""
    state = integrator.state
    state.fresh[:] = False
    state.fresh[restart.neuron, restart.hyperplane] = True
    groups = Groups(integrator.cells, len(state.z))
    groups.arrange((restart.slot, restart.free), state.code, state.sign)
    integrator.switching.groups = groups
    memory = restart.memory
    integrator.outlook, integrator.allowance = memory["outlook"], memory["allowance"]
    integrator.expander.radius = memory["radius"]
    known = vars(integrator.long_steps)
    known.update({n: type(x)(memory[_LONG + n]) for n, x in known.items() if _LONG + n in memory})
