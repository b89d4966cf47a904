"""From a proposal to the exact claim that is proved: data, neurons, what may be exhibited."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from flint import arb

from flowsim._distinct import distinct_rows
from flowsim.cells import TOUCH, Cells
from flowsim.certificates.balls import dyadic
from flowsim.certificates.claim import Cell, Claim, Network, Neuron
from flowsim.certificates.planes import Data
from flowsim.certificates.proposal import Proposal, View, numbered
from flowsim.data import Dataset
from flowsim.events import ALIVE, DEAD, ORIGIN, ZERO
from flowsim.state import State

#: Random networks that are looked at for a better one.
TRIALS = 100
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


@dataclass(frozen=True, eq=False)
class _Kinds:
    """All neurons, those alike together.

    Attributes
    ----------
    number : (m,) int
        Which kind each is of.
    roles : (K,) object
    sign : (K,) int
    code, walls, open, held : (K, G)
    """

    number: np.ndarray
    roles: np.ndarray
    sign: np.ndarray
    code: np.ndarray
    walls: np.ndarray
    open: np.ndarray
    held: np.ndarray

    @classmethod
    def of(cls, view: View, p: Proposal) -> _Kinds:
        """Return the kinds of a proposal, and those of the neurons that do not move."""
        state = view.state
        rest = np.flatnonzero(state.fate != ALIVE)
        code, held = state.code[rest], np.zeros((len(rest), view.cells.n_hyperplanes), dtype=bool)
        dead = state.fate[rest] == DEAD
        z = state.z[rest[dead]]
        large = np.maximum(np.abs(z[:, 0]), np.linalg.norm(z[:, 1:], axis=1))
        held[dead] = np.abs(z[:, 1:] @ view.cells.normals.T) <= TOUCH * large[:, None]
        first, kind = numbered(
            state.fate[rest], state.sign[rest], distinct_rows(code)[1],
            distinct_rows(held.view(np.int8))[1],
        )  # fmt: skip
        number = np.empty(len(state.z), dtype=np.int64)
        number[view.alive], number[rest] = p.number, len(p.roles) + kind
        roles = np.array([_AT_REST[f] for f in state.fate[rest[first]].tolist()], dtype=object)
        nothing = np.zeros((len(first), view.cells.n_hyperplanes), dtype=bool)
        parts = {
            "roles": (p.roles, roles),
            "sign": (p.sign, state.sign[rest[first]]),
            "code": (p.code, code[first]),
            "walls": (p.walls, nothing),
            "open": (p.open, nothing),
            "held": (p.held, held[first]),
        }
        return cls(number, **{name: np.concatenate(x) for name, x in parts.items()})

    def cells(self, planes: np.ndarray) -> list[Cell]:
        """Return each kind's cell, with its hyperplanes in some order; alike ones are one."""
        sides = (self.code[:, planes], self.walls[:, planes], self.open[:, planes])
        known: dict[Cell, Cell] = {}
        out = []
        for code, walls, loose in zip(*sides, strict=True):
            cell = Cell(tuple(code.tolist()), _where(walls), _where(loose))
            out.append(known.setdefault(cell, cell))
        return out


def claim_of(data: Data, view: View, p: Proposal) -> Claim:
    """Return the claim of a proposal."""
    planes = exact_planes(data, view.cells)
    kinds = _Kinds.of(view, p)
    cells = kinds.cells(planes)
    held = [_where(row) for row in kinds.held[:, planes]]
    roles, signs = kinds.roles.tolist(), kinds.sign.tolist()
    weights, gaps = _exact_weights(view.cells, view.state)
    neurons = tuple(
        Neuron(roles[k], signs[k], w, gap, cells[k], held[k])
        for k, w, gap in zip(kinds.number.tolist(), weights, gaps, strict=True)
    )
    ways = _ways(view, p, kinds)
    better = None if ways or np.any(p.roles == "removed") else _better(view, p)
    return Claim(data, neurons, p.everything, float(p.turning), better, ways)


def exact_planes(data: Data, cells: Cells) -> np.ndarray:
    """Return the cells' hyperplane of each exact one; rounded ones may be several exact ones."""
    return cells.index[np.array(data.leader)]


def _where(row: np.ndarray) -> tuple[int, ...]:
    return tuple(np.flatnonzero(row).tolist())


def _exact_weights(cells: Cells, state: State) -> tuple[list[tuple[arb, ...]], list[arb]]:
    """Return w and ``a^2 - |w|^2`` of every neuron, exactly, in the user's units."""
    power = state.exponent - cells.size_exponent
    nothing = arb(0)
    weights, gaps = _scaled(state.z[:, 1:], power), [nothing] * len(power)
    for j in np.flatnonzero((state.balance != 0) & ~np.isin(state.fate, (ORIGIN, ZERO))).tolist():
        gaps[j] = _gap(cells, state, j)
    for j in np.flatnonzero(np.isin(state.fate, (ORIGIN, ZERO))).tolist():
        weights[j] = (nothing,) * cells.d
        if state.fate[j] == ORIGIN:  # exactly: no ball's product
            mantissa, denominator = float(state.z[j, 0]).as_integer_ratio()
            shift = int(power[j]) - (denominator.bit_length() - 1)
            gaps[j] = dyadic(mantissa**2, 2 * shift)
    return weights, gaps


def _scaled(w: np.ndarray, power: np.ndarray) -> list[tuple[arb, ...]]:
    """Return ``2**power`` times each row, exactly: floats where they hold that."""
    some = np.clip(power, -2000, 2000)[:, None].astype(np.int32)
    near = np.ldexp(w, some)
    held = np.all((np.ldexp(near, -some) == w), axis=1) & (np.abs(power) < 2000)
    out = [tuple(map(arb, row)) for row in near.tolist()]
    for j in np.flatnonzero(~held).tolist():
        ratios = [x.as_integer_ratio() for x in w[j].tolist()]
        out[j] = tuple(dyadic(p, int(power[j]) - (q.bit_length() - 1)) for p, q in ratios)
    return out


def _gap(cells: Cells, state: State, j: int) -> arb:
    mantissa, denominator = float(state.gap[j]).as_integer_ratio()
    shift = 2 * (int(state.gap_exponent[j]) - cells.size_exponent)
    return dyadic(mantissa, shift - (denominator.bit_length() - 1))


def _ways(view: View, p: Proposal, kinds: _Kinds) -> tuple[tuple[int, tuple[float, ...]], ...]:
    """Return in which direction each neuron that does not move lowers the limit's loss most."""
    cells = view.cells
    if p.everything:
        return ()
    directions = _directions(cells, p.r_star)
    outputs = _activated(cells, directions @ cells.X.T)
    least = WAY * float(np.sum(np.abs(cells.y) * cells.norms))
    anywhere = outputs @ p.r_star
    best = np.full(len(kinds.roles), -1)
    for k, (role, sign, held) in enumerate(zip(kinds.roles, kinds.sign, kinds.held, strict=True)):
        if role == "dead" and np.any(held):
            counted = held[cells.index]
            gain = sign * (outputs[:, counted] @ p.r_star[counted])
        elif role == "origin":
            gain = sign * anywhere
        elif role in ("zero", "fading"):
            gain = np.abs(anywhere)
        else:
            continue
        if np.max(gain) > least:
            best[k] = np.argmax(gain)
    found = np.flatnonzero(best[kinds.number] >= 0)[:MOST_WAYS]
    return tuple((j, tuple(directions[best[kinds.number[j]]].tolist())) for j in found.tolist())


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
