"""From a proposal to the exact claim that is proved: data, neurons, what may be exhibited."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from flint import arb

from flowsim.cells import TOUCH, Cells
from flowsim.certificates.balls import dyadic
from flowsim.certificates.claim import Claim, Network, Neuron
from flowsim.certificates.planes import Code, Data
from flowsim.certificates.proposal import Proposal, View
from flowsim.data import Dataset
from flowsim.events import DEAD, ORIGIN, ZERO
from flowsim.state import State

#: Random networks that are looked at for a better one.
TRIALS = 100
#: Mantissas of float64.
_BITS = 53
_AT_REST = {DEAD: "dead", ORIGIN: "origin", ZERO: "zero"}
#: A way down gains at least this part of what the labels could.
WAY = 1e-9
#: Random directions that are looked at for a way down.
RANDOM = 64
#: One proves that there is a way down; some more are kept.
MOST_WAYS = 8
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
    planes = exact_planes(data, view.cells)
    roles, code, *sets = _of_all(view, p)
    code = np.ascontiguousarray(code[:, planes])
    loose = [_tuples(x[:, planes]) for x in sets]
    known: dict[bytes, Code] = {}
    codes = [known.setdefault(row.tobytes(), tuple(row.tolist())) for row in code.astype(np.int8)]
    weights, gaps = _exact_weights(view.cells, view.state, roles)
    signs = view.state.sign.tolist()
    neurons = tuple(
        Neuron(*row) for row in zip(roles, signs, weights, gaps, codes, *loose, strict=True)
    )
    ways = _ways(view, p, roles, sets[2])
    better = None if ways or np.any(p.roles == "removed") else _better(view, p)
    return Claim(data, neurons, p.everything, float(p.turning), better, ways)


def exact_planes(data: Data, cells: Cells) -> np.ndarray:
    """Return the cells' hyperplane of each exact one; rounded ones may be several exact ones."""
    return cells.index[np.array(data.leader)]


def _of_all(
    view: View, p: Proposal
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return role, code, walls, open and held hyperplanes of every neuron."""
    state, cells = view.state, view.cells
    roles = [_AT_REST.get(fate, "") for fate in state.fate.tolist()]
    for j, role in zip(view.alive.tolist(), p.roles.tolist(), strict=True):
        roles[j] = role
    shape = state.code.shape
    walls, loose, held = (np.zeros(shape, dtype=bool) for _ in range(3))
    code = state.code.copy()
    code[view.alive], walls[view.alive] = p.code, p.walls
    loose[view.alive], held[view.alive] = p.open, p.held
    dead = np.flatnonzero(state.fate == DEAD)
    z = state.z[dead]
    large = np.maximum(np.abs(z[:, 0]), np.linalg.norm(z[:, 1:], axis=1))
    held[dead] = np.abs(z[:, 1:] @ cells.normals.T) <= TOUCH * large[:, None]
    return roles, code, walls, loose, held


def _tuples(rows: np.ndarray) -> list[tuple[int, ...]]:
    """Return where each row is true."""
    out: list[tuple[int, ...]] = [()] * len(rows)
    for j in np.flatnonzero(np.any(rows, axis=1)).tolist():
        out[j] = tuple(np.flatnonzero(rows[j]).tolist())
    return out


def _exact_weights(
    cells: Cells, state: State, roles: list[str]
) -> tuple[list[tuple[arb, ...]], list[arb]]:
    """Return w and ``a^2 - |w|^2`` of every neuron, exactly, in the user's units."""
    mantissa, exponent = np.frexp(state.z)
    whole = np.ldexp(mantissa, _BITS).astype(np.int64).tolist()
    shift = state.exponent - cells.size_exponent
    powers = (exponent + shift[:, None] - _BITS).tolist()
    nothing = arb(0)
    weights, gaps = [], []
    for j, role in enumerate(roles):
        if role in ("origin", "zero"):
            square = dyadic(whole[j][0] ** 2, 2 * powers[j][0])  # exactly: no ball's product
            weights.append((nothing,) * cells.d)
            gaps.append(square if role == "origin" else nothing)
            continue
        weights.append(tuple(map(dyadic, whole[j][1:], powers[j][1:])))
        gaps.append(nothing if state.balance[j] == 0 else _gap(cells, state, j))
    return weights, gaps


def _gap(cells: Cells, state: State, j: int) -> arb:
    mantissa, denominator = float(state.gap[j]).as_integer_ratio()
    shift = 2 * (int(state.gap_exponent[j]) - cells.size_exponent)
    return dyadic(mantissa, shift - (denominator.bit_length() - 1))


def _ways(
    view: View, p: Proposal, roles: list[str], held: np.ndarray
) -> tuple[tuple[int, tuple[float, ...]], ...]:
    """Return in which direction each neuron that does not move lowers the limit's loss most."""
    cells, state = view.cells, view.state
    if p.everything:
        return ()
    directions = _directions(cells, p.r_star)
    outputs = _activated(cells, directions @ cells.X.T)
    least = WAY * float(np.sum(np.abs(cells.y) * cells.norms))
    anywhere = outputs @ p.r_star
    out = []
    for j, role in enumerate(roles):
        if role == "dead" and np.any(held[j]):
            counted = held[j][cells.index]
            gain = state.sign[j] * (outputs[:, counted] @ p.r_star[counted])
        elif role == "origin":
            gain = state.sign[j] * anywhere
        elif role in ("zero", "fading"):
            gain = np.abs(anywhere)
        else:
            continue
        if np.max(gain) > least:
            out.append((j, tuple(directions[int(np.argmax(gain))].tolist())))
            if len(out) == MOST_WAYS:
                break
    return tuple(out)


def _activated(cells: Cells, s: np.ndarray) -> np.ndarray:
    return np.maximum(s, 0.0) + cells.slope * np.minimum(s, 0.0)


def _directions(cells: Cells, r: np.ndarray) -> np.ndarray:
    """Return directions in which neurons may gain: normals, random ones, and their fields."""
    some = np.random.default_rng(0).standard_normal((RANDOM, cells.d))
    tried = np.concatenate([cells.normals, -cells.normals, some])
    side = np.where(tried @ cells.X.T > 0.0, 1.0, cells.slope)
    fields = (side * r) @ cells.X
    every = np.concatenate([tried, fields, -fields])
    size = np.linalg.norm(every, axis=1)
    kept = size > 1e-12 * np.max(size)
    return every[kept] / size[kept, None]


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
