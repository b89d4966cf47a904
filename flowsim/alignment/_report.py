"""What an alignment flow says about itself in words: who goes where, how fast, until when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowsim.alignment import _extremal_table
from flowsim.alignment.end import growth_rate, predicted_time
from flowsim.events import DEAD, FATES
from flowsim.labels import system_label

if TYPE_CHECKING:
    from flowsim.alignment.flow import AlignmentFlow

#: Rows of the table, and dimensions of D, that are written out.
_ROWS, _ENTRIES = 20, 3
_HEADER: tuple[str, ...] = (
    "pattern",
    "D",
    "‖D‖",
    "angle",
    "a",
    "neurons",
    "share",
    "rate",
    "ln growth",
)
#: Columns that hold numbers, which are aligned at the right.
_NUMBERS = ("‖D‖", "angle", "neurons", "share", "rate", "ln growth")


def summary(flow: AlignmentFlow) -> str:
    """Return a report of an alignment flow to print.

    Parameters
    ----------
    flow : AlignmentFlow

    Returns
    -------
    str
        The system; the table of the limits with how many neurons go there, their share, the
        rate ``sign(a) w . D`` at which they grow in the end, and the median of the logarithm
        of their growth so far; who is dead or undecided; the last event; and, for a known
        scale, ``ln(1/lambda) / |D|max``, when the fastest of them are of size 1.
    """
    sections = [[_system(flow), flow.message], _destinations(flow), _times(flow)]
    return "\n\n".join("\n".join(lines) for lines in sections)


def _system(flow: AlignmentFlow) -> str:
    factor = "1/n" if flow.loss == "mean" else "1/2n"
    return f"{system_label(flow.data, flow.initial)}\nresidual frozen at y, loss ({factor}) Σ r²"


def _destinations(flow: AlignmentFlow) -> list[str]:
    counts = np.bincount(flow.limit[flow.limit >= 0], minlength=len(flow.limit_D))
    order = np.argsort(-counts, kind="stable")
    table = [dict(zip(_HEADER, _limit_row(flow, v), strict=True)) for v in order[:_ROWS]]
    table += [_other_row(flow, name, who) for name, who in _others(flow)]
    names = [name for name in _HEADER if any(row.get(name) for row in table)]
    widths = {name: max(len(name), *(len(row.get(name, "")) for row in table)) for name in names}
    lines = [_line({name: name for name in names}, widths)]
    lines += [_line(row, widths) for row in table]
    if len(counts) > _ROWS:
        rest = order[_ROWS:]
        lines.append(f"  and {counts[rest].sum()} neurons to {len(rest)} more limits")
    return [f"Where the neurons go, at t = {flow.t:.8g}", *lines]


def _line(row: dict[str, str], widths: dict[str, int]) -> str:
    cells = [
        f"{row.get(name, ''):>{width}}" if name in _NUMBERS else f"{row.get(name, ''):<{width}}"
        for name, width in widths.items()
    ]
    return "  " + "  ".join(cells).rstrip()


def _limit_row(flow: AlignmentFlow, v: int) -> list[str]:
    who = flow.limit == v
    D, w = flow.limit_D[v], flow.limit_direction[v]
    signs = set(np.sign(flow.network.direction[who, 0]).astype(int)) - {0}
    rates = _rates(flow)[who]
    growth = flow.log_growth[who]
    return [
        _extremal_table.pattern(flow._cells.sample_codes(flow.limit_code[v])),
        f"({', '.join(f'{x:.6g}' for x in D)})" if len(D) <= _ENTRIES else "",
        f"{flow.limit_norm[v]:.8g}",
        f"{np.degrees(np.arctan2(w[1], w[0])) % 360.0:.4f}°" if len(w) == 2 else "",
        {(1,): "> 0", (-1,): "< 0"}.get(tuple(signs), "both"),
        str(who.sum()),
        f"{np.mean(who):.1%}",
        f"{np.median(rates):+.6g}",
        f"{np.median(growth):+.4g}",
    ]


def _others(flow: AlignmentFlow) -> list[tuple[str, np.ndarray]]:
    """Return neurons without a limit, by the reason why they have none."""
    none = flow.limit < 0
    groups = [("dead", flow.fate == DEAD)]
    groups += [
        (f"at rest ({FATES[fate]})", flow.fate == fate) for fate in range(DEAD + 1, len(FATES))
    ]
    alive = none & (flow.fate < DEAD)
    groups += [("at rest, D = 0", alive & flow.settled), ("undecided", alive & ~flow.settled)]
    return [(name, who) for name, who in groups if who.any()]


def _other_row(flow: AlignmentFlow, name: str, who: np.ndarray) -> dict[str, str]:
    growth = flow.log_growth[who & np.isfinite(flow.log_growth)]
    return {
        "pattern": name,
        "neurons": str(who.sum()),
        "share": f"{np.mean(who):.1%}",
        "ln growth": f"{np.median(growth):+.4g}" if len(growth) else "",
    }


def _times(flow: AlignmentFlow) -> list[str]:
    lines = [
        f"Activation changes  {int(flow.changes.sum())}",
        f"Last event          t = {flow.last_event.max():.8g}",
    ]
    rate = growth_rate(flow)
    if np.isfinite(rate):
        lines.append(f"‖D‖max              {rate:.8g}, the fastest growth among these limits")
    end = predicted_time(flow.initial, rate, epsilon=1.0)
    if np.isfinite(end):
        lines.append(f"ln(1/λ)/‖D‖max      t = {end:.6g}, when growth from λ at that rate is over")
        if flow.settled.all() and flow.last_event.max() > end:
            lines.append(
                "                    before the last event: the full flow leaves r = y first"
            )
    return lines


def _rates(flow: AlignmentFlow) -> np.ndarray:
    """Return (m,) ``sign(a_j) w . D`` in each neuron's limit; 0 without one."""
    if not len(flow.limit_D):
        return np.zeros(flow.network.m)
    rates = np.where(flow.grows, 1.0, -1.0) * flow.limit_norm[flow.limit]
    return np.where(flow.limit >= 0, rates, 0.0)
