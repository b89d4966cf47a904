"""What the integrator goes on with beside a state, so that it takes the steps of the run.

Without it the lengths of steps are found again, and sums are rounded in another order.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flowsim.cells import Cells
from flowsim.engines.groups import Groups
from flowsim.engines.piecewise.coalescence import Members
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
        coalesce=float(settings.get("coalesce", 0.0)),
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
        **_united(integrator),
        memory={
            "taken": float(integrator.taken),
            "outlook": float(integrator.outlook), "allowance": float(integrator.allowance),
            "radius": float(integrator.expander.radius), **memory,
        },
    )  # fmt: skip


def _united(integrator: Integrator) -> dict[str, np.ndarray]:
    """Return what the state of all neurons does not tell of those that go on as one."""
    members, state = integrator.members, integrator.state
    if members is None:
        state, leader, share = state.subset(slice(0)), np.zeros(0, np.int64), np.zeros(0)
        share_exponent = leader
    else:
        leader, share, share_exponent = members.leader, members.share, members.share_exponent
    return {
        "leader": leader.astype(np.int32), "share": share, "share_exponent": share_exponent,
        "leaders": state.z.copy(), "leader_exponent": state.exponent.copy(),
        "leader_gap": state.gap.copy(), "leader_gap_exponent": state.gap_exponent.copy(),
    }  # fmt: skip


def _unite_again(integrator: Integrator, restart: Restart) -> None:
    """Let those neurons go on as one that do so in `restart`."""
    whole = integrator.whole()
    if len(restart.leader) == 0:
        if len(integrator.groups.slot) != len(whole.z):
            integrator.go_on_as(whole, None)
        return
    leader, first = restart.leader.astype(np.int64), np.unique(restart.leader, return_index=True)[1]
    state = replace(
        whole.subset(first), z=restart.leaders.copy(), exponent=restart.leader_exponent.copy(),
        gap=restart.leader_gap.copy(), gap_exponent=restart.leader_gap_exponent.copy(),
        balance=np.sign(restart.leader_gap).astype(np.int64),
    )  # fmt: skip
    share, share_exponent = restart.share.copy(), restart.share_exponent.copy()
    members = Members(leader, share, share_exponent, whole.gap, whole.gap_exponent)
    integrator.go_on_as(state, members)


def recall(integrator: Integrator, restart: Restart) -> None:
    """Let an integrator in the last state of a run be the one that the run has ended with."""
    _unite_again(integrator, restart)
    state = integrator.state
    state.fresh[:] = False
    state.fresh[restart.neuron, restart.hyperplane] = True
    groups = Groups(integrator.cells, len(state.z))
    groups.arrange((restart.slot, restart.free), state.code, state.sign)
    integrator.switching.groups = groups
    memory = restart.memory
    integrator.taken = int(memory.get("taken", 0))
    integrator.outlook, integrator.allowance = memory["outlook"], memory["allowance"]
    integrator.expander.radius = memory["radius"]
    known = vars(integrator.long_steps)
    known.update({n: type(x)(memory[_LONG + n]) for n, x in known.items() if _LONG + n in memory})
