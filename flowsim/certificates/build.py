"""From a proposal to the exact claim that is proved: data, neurons, what may be exhibited."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from flint import arb

from flowsim.cells import TOUCH, Cells
from flowsim.certificates.balls import dyadic
from flowsim.certificates.claim import Claim, Network, Neuron
from flowsim.certificates.planes import Data
from flowsim.certificates.proposal import Proposal, View
from flowsim.data import Dataset
from flowsim.events import DEAD, ORIGIN, ZERO
from flowsim.state import State

#: Random networks that are looked at for a better one.
TRIALS = 100
#: A better network's loss is below this part of the limit.
BETTER = 1.0 - 1e-9


def exact_data(data: Dataset, cells: Cells) -> Data:
    """Return the data as fractions: floats mean their binary values."""
    return Data(
        data.X_exact, data.y_exact, Fraction(cells.slope),
        Fraction(round(cells.weight * cells.n), cells.n),
    )  # fmt: skip


def claim_of(data: Data, view: View, p: Proposal) -> Claim:
    """Return the claim of a proposal."""
    cells, state = view.cells, view.state
    names: dict[int, tuple] = {}
    for i, j in enumerate(view.alive.tolist()):
        loose = (np.flatnonzero(x[i]) for x in (p.walls, p.open, p.held))
        names[j] = (p.roles[i], p.code[i], *loose)
    planes = exact_planes(data, cells)
    neurons = []
    for j in range(len(state.z)):
        if j in names:
            role, code, walls, loose, held = names[j]
        else:
            role, code, walls, loose, held = _still(cells, state, j)
        exact = (_among(planes, x) for x in (walls, loose, held))
        neurons.append(_neuron(cells, state, j, role, code[planes], *exact))
    ways = _ways(view, p)
    better = None if ways or np.any(p.roles == "removed") else _better(view, p)
    return Claim(data, tuple(neurons), p.everything, float(p.turning), better, ways)


def exact_planes(data: Data, cells: Cells) -> np.ndarray:
    """Return the cells' hyperplane of each exact one; rounded ones may be several exact ones."""
    return cells.index[np.array(data.leader)]


_ZERO_IN_THE_LIMIT: tuple = ("fading", None, None, None, np.zeros(0, dtype=np.int64))


def _among(planes: np.ndarray, rounded: np.ndarray) -> tuple[int, ...]:
    """Return the exact hyperplanes of some rounded ones."""
    return tuple(np.flatnonzero(np.isin(planes, rounded)).tolist()) if len(rounded) else ()


def _still(cells: Cells, state: State, j: int) -> tuple:
    """Return role, code, walls, open and held hyperplanes of a neuron that does not move."""
    none = np.zeros(0, dtype=np.int64)
    fate, code = state.fate[j], state.code[j]
    if fate in (ORIGIN, ZERO):
        return ("zero" if fate == ZERO else "origin"), code, none, none, none
    assert fate == DEAD
    w = state.z[j, 1:]
    on = np.abs(cells.normals @ w) <= TOUCH * max(abs(state.z[j, 0]), np.linalg.norm(w))
    return "dead", code, none, none, np.flatnonzero(on)


def _neuron(
    cells: Cells, state: State, j: int, role: str, code: np.ndarray, walls: tuple[int, ...],
    loose: tuple[int, ...], held: tuple[int, ...],
) -> Neuron:  # fmt: skip
    shift = int(state.exponent[j]) - cells.size_exponent
    at_rest = role in ("origin", "zero")
    w = tuple(_scaled(0.0 if at_rest else x, shift) for x in state.z[j, 1:])
    if role == "origin":
        gap = _scaled(state.z[j, 0], shift) * _scaled(state.z[j, 0], shift)
    elif role == "zero" or state.balance[j] == 0:
        gap = arb(0)
    else:
        gap = _scaled(state.gap[j], 2 * (int(state.gap_exponent[j]) - cells.size_exponent))
    return Neuron(role, int(state.sign[j]), w, gap, tuple(int(s) for s in code), walls, loose, held)


def _scaled(x: float, shift: int) -> arb:
    """Return ``x * 2**shift`` exactly, of whatever size it is."""
    mantissa, denominator = float(x).as_integer_ratio()
    return dyadic(mantissa, shift - (denominator.bit_length() - 1))


def _ways(view: View, p: Proposal) -> tuple[tuple[int, tuple[float, ...]], ...]:
    """Return in which direction each neuron that does not move lowers the limit's loss most."""
    cells, state = view.cells, view.state
    if p.everything:
        return ()
    directions = np.concatenate([cells.normals, -cells.normals])
    outputs = np.maximum(directions @ cells.X.T, 0.0) + cells.slope * np.minimum(
        directions @ cells.X.T, 0.0
    )
    out = []
    fading = view.alive[p.roles == "fading"].tolist()
    for j in [*np.flatnonzero(np.isin(state.fate, (DEAD, ORIGIN, ZERO))).tolist(), *fading]:
        role, _, _, _, held = _still(cells, state, j) if j not in fading else _ZERO_IN_THE_LIMIT
        counted = np.isin(cells.index, held) if role == "dead" else np.ones(cells.n, dtype=bool)
        gain = outputs[:, counted] @ p.r_star[counted]
        gain = np.abs(gain) if role in ("zero", "fading") else state.sign[j] * gain
        if len(gain) and np.max(gain) > 1e-9 * float(np.sum(np.abs(cells.y) * cells.norms)):
            out.append((j, tuple(directions[int(np.argmax(gain))].tolist())))
    return tuple(out)


def _better(view: View, p: Proposal) -> Network | None:
    """Return a network of at most m neurons whose loss is below the limit's, if one is found.

    Random hidden directions, output weights by least squares.
    """
    cells = view.cells
    limit = float(p.r_star @ p.r_star)
    if p.everything or limit == 0.0:
        return None
    m = len(view.state.z)
    size = min(m, cells.n + cells.d)
    rng = np.random.default_rng(0)
    for _ in range(TRIALS):
        W = rng.standard_normal((size, cells.d))
        outputs = cells.X @ W.T
        features = np.where(outputs > 0.0, outputs, cells.slope * outputs)
        a = np.linalg.lstsq(features, cells.y, rcond=1e-10)[0]
        rest = cells.y - features @ a
        if float(rest @ rest) < BETTER * limit:
            unit = np.ldexp(1.0, cells.y_exponent - cells.x_exponent)
            return Network(tuple((unit * a).tolist()), tuple(map(tuple, W.tolist())))
    return None
