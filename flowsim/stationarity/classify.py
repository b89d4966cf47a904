"""Verdict on a state: does the flow rest there, and what kind of point is it?

The limit of the loss is the least-squares value of the occupied cells. It is a
local minimum if every slide multiplier lies in its closed interval (the loss is
convex across a hyperplane that attracts), no living neuron lies on a hyperplane that
repels it, and no dead, resting or vanished neuron could lower the loss; it is spurious
if networks of enough width, or a better one of the same width, do better.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flowsim._distinct import distinct_rows
from flowsim._rows import norms, squares
from flowsim.cells import TOUCH, Cells, multiplier_map, projector
from flowsim.events import ALIVE, DEAD, ORIGIN, ZERO
from flowsim.stationarity.limits import attainable_range, feature_range, least_squares_residual

#: The residual is at its least-squares value within this part of ||y||.
RESIDUAL = 1e-6
#: Margins and multipliers this close to an end (relative) are at it.
STRICT = 1e-7
#: Losses that differ by less than this part of the data's mean square / 2 are equal.
SAME_LOSS = 1e-9
#: A shrinking neuron with less than this mass, aligned to within VANISHED_ANGLE, is gone.
VANISHED_MASS = 1e-14
VANISHED_ANGLE = 1e-6
#: A neuron with less than this part of the largest mass does not count as heavy.
LIGHT = 1e-3


@dataclass(frozen=True)
class Verdict:
    """What a state is; losses in the scaled units of `Cells`."""

    kind: str
    limit_loss: float
    floor_loss: float
    reason: str


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A state as the verdict needs it: (scaled) neurons, cells, fates and residual."""

    cells: Cells
    z: np.ndarray  # (m, d+1), norm in [1/2, 2)
    mass: np.ndarray  # (m,)
    sign: np.ndarray  # (m,)
    balanced: np.ndarray  # (m,) bool: |a| = ||w||
    code: np.ndarray  # (m, G)
    fate: np.ndarray  # (m,)
    r: np.ndarray  # (n,)

    def fields(self, r: np.ndarray) -> np.ndarray:
        """Return the minimal-norm field D (m, d) of each living neuron at residual r."""
        out = np.zeros((len(self.z), self.cells.d))
        live = np.flatnonzero(self.fate == ALIVE)
        if len(live) == 0:
            return out
        for members in self.by_cell(live):
            code = self.code[members[0]]
            p, _ = projector(self.cells.normals[code == 0])
            out[members] = p @ self.cells.field(r, code)
        return out

    def by_cell(self, neurons: np.ndarray) -> list[np.ndarray]:
        """Return the neurons of each cell."""
        first, cell = distinct_rows(self.code[neurons])
        by_cell = neurons[np.argsort(cell, kind="stable")]
        return np.split(by_cell, np.cumsum(np.bincount(cell, minlength=len(first)))[:-1])

    @cached_property
    def D(self) -> np.ndarray:
        """Return the fields (m, d) at the state's own residual."""
        return self.fields(self.r)

    @cached_property
    def gone(self) -> np.ndarray:
        """Mark balanced neurons that shrink along a fixed direction, beyond notice."""
        w, D = self.z[:, 1:], self.D
        sizes = norms(w) * norms(D)
        along = np.einsum("ij,ij->i", w, D)
        size = self.mass * np.max(self.cells.norms) ** 2
        aligned = np.abs(along) >= sizes * np.cos(VANISHED_ANGLE)
        return (
            (self.fate == ALIVE)
            & self.balanced
            & (self.sign * along < 0.0)
            & aligned
            & (size <= VANISHED_MASS)
        )

    @cached_property
    def counted(self) -> np.ndarray:
        """Mark the living neurons that have not vanished."""
        return (self.fate == ALIVE) & ~self.gone


def _loss(cells: Cells, r: np.ndarray) -> float:
    return 0.5 * cells.weight * float(r @ r)


def at_rest(state: Snapshot, tolerance: float) -> bool:
    """Whether every living neuron's ``||D_j||`` and the residual are at their limits.

    ``||D_j|| <= tolerance * max_k |y_k| ||x_k||`` (in the loss's normalisation), and
    ``||r - r*|| <= RESIDUAL ||y||`` with r* the least-squares residual of the cells.
    Rates do not depend on a neuron's size: near the origin they are of order one.
    """
    cells = state.cells
    rates = norms(state.D[state.counted])
    if np.any(rates > tolerance * cells.rate_scale * cells.weight * cells.n):
        return False
    limit = least_squares_residual(cells.y, feature_range(cells, state.code[state.counted]))
    size = np.linalg.norm(cells.y) or np.sqrt(cells.n)  # zero labels: the initial output
    return bool(np.linalg.norm(state.r - limit) <= max(RESIDUAL, tolerance) * size)


def floor_loss(cells: Cells) -> float:
    """Return the infimum of the (scaled) loss over networks of any width."""
    return _loss(cells, least_squares_residual(cells.y, attainable_range(cells)))


def classify(state: Snapshot, *, stationary: bool) -> Verdict:
    """Return the verdict on `state`; `stationary` says that `at_rest` holds."""
    cells = state.cells
    floor = floor_loss(cells)
    if not stationary:
        return _classify_moving(state, floor)
    basis = feature_range(cells, state.code[state.counted])
    limit_r = least_squares_residual(cells.y, basis)
    limit = _loss(cells, limit_r)
    scale = max(_loss(cells, cells.y), limit)

    def verdict(kind: str, reason: str) -> Verdict:
        return Verdict(kind, limit, floor, reason)

    if limit <= SAME_LOSS**2 * scale:
        return verdict("interpolation", "the occupied cells fit every label")
    if limit <= floor + SAME_LOSS * scale:
        return verdict("global_minimum", "no network of any width has a smaller loss")
    if np.any(state.gone):
        gone = np.sum(state.gone)
        return verdict("saddle", f"{gone} neuron(s) shrink to zero, where others may grow")
    obstacle = _obstacle(state, limit_r)
    if obstacle is not None:
        return verdict(*obstacle)
    if _better_exists(cells, floor, limit, scale, len(state.z)):
        return verdict(
            "spurious_local_minimum",
            "no neuron can lower the loss from here, and better networks exist",
        )
    return verdict("local_minimum", "no neuron can lower the loss from here")


def _classify_moving(state: Snapshot, floor: float) -> Verdict:
    """A moving state is near a saddle if its heavy neurons rest while light ones grow."""
    cells, D = state.cells, state.D
    live = state.fate == ALIVE
    mass = np.where(live, state.mass * squares(state.z), 0.0)
    heavy = live & (mass >= LIGHT * mass.max(initial=0.0))
    rates = norms(D)
    growth = state.sign * np.einsum("ij,ij->i", state.z[:, 1:], D)
    scale = cells.rate_scale * cells.weight * cells.n
    growing = live & ~heavy & (growth > LIGHT * scale * squares(state.z))
    size = float(np.sum(mass[growing])) * np.max(cells.norms) ** 2
    if np.any(heavy) and np.any(growing) and size <= LIGHT:
        limit_r = least_squares_residual(cells.y, feature_range(cells, state.code[heavy]))
        close = np.linalg.norm(state.r - limit_r) <= 1e-2 * np.linalg.norm(cells.y)
        if close and np.all(rates[heavy] <= LIGHT * scale):
            return Verdict(
                "saddle",
                _loss(cells, limit_r),
                floor,
                f"the heavy neurons are at rest while {np.sum(growing)} light one(s) grow",
            )
    return Verdict("not_stationary", float("nan"), floor, "neurons are still moving")


def _obstacle(state: Snapshot, r: np.ndarray) -> tuple[str, str] | None:
    """Return what keeps the limit from being a local minimum, if anything does."""
    cells, counted = state.cells, state.counted
    tie = STRICT * cells.weight * float(np.sum((np.abs(r) + np.abs(cells.y)) * cells.norms))
    plus, minus = cells.sides(r)
    margin = np.abs(state.z[:, 1:] @ cells.normals.T)
    larger = np.maximum(np.abs(state.z[:, 0]), norms(state.z[:, 1:]))
    touching = (state.code != 0) & (margin < STRICT * larger[:, None]) & counted[:, None]
    if np.any(touching & (state.sign[:, None] * (plus - minus)[None, :] > tie)):
        return "unknown", "a living neuron lies on a hyperplane that repels it"
    living = np.column_stack(
        [state.code[counted], state.sign[counted].astype(np.int8), state.z[counted, 0] == 0.0]
    )
    for *code, sign, unsigned in living[distinct_rows(living)[0]].tolist():
        row = np.array(code, dtype=np.int8)
        planes = np.flatnonzero(row == 0)
        if len(planes) in (0, len(row)):  # none, or w = 0: see _free_neurons
            continue
        normals = cells.normals[planes]
        if projector(normals)[1] < len(planes):
            return "unknown", "a neuron slides on linearly dependent hyperplanes"
        zeta = multiplier_map(normals) @ cells.field(r, row)
        low, high = sign * (zeta - plus[planes]), sign * (zeta - minus[planes])
        if unsigned and max(np.max(np.abs(low)), np.max(np.abs(high))) > tie:
            return "saddle", "a sliding neuron with a = 0 could take the sign that leaves its slide"
        if np.any(low < -tie) or np.any(high > tie):
            return "unknown", "a slide is about to end"
    dead = np.flatnonzero(state.fate == DEAD)
    if len(dead):
        on_boundary = margin[dead] <= TOUCH
        on_side = np.where(cells.single > 0, plus, np.where(cells.single < 0, -minus, 0.0))
        pull = state.sign[dead, None] * on_side[None, :]
        # Where a = 0 it may take either sign.
        pull = np.where(state.z[dead, :1] == 0.0, np.abs(pull), pull)
        if np.any(on_boundary & (pull > tie)):
            return "saddle", "a dead neuron on its last hyperplane could lower the loss again"
    return _free_neurons(state, r, tie)


def _free_neurons(state: Snapshot, r: np.ndarray, tie: float) -> tuple[str, str] | None:
    """Neurons at w = 0 (or z = 0) may leave in any direction u: the sign of psi*(u) decides."""
    cells = state.cells
    resting = np.flatnonzero((state.fate == ORIGIN) | (state.fate == ZERO))
    at_zero = np.flatnonzero((state.fate == ALIVE) & ~np.any(state.code, axis=1))
    resting = np.append(resting, at_zero)
    if len(resting) == 0:
        return None
    directions = np.concatenate([cells.normals, -cells.normals])
    outputs = directions @ cells.X.T
    features = np.where(outputs > 0.0, outputs, cells.slope * outputs)
    psi = cells.weight * (features @ r)
    for j in resting:
        gain = np.abs(psi) if state.fate[j] == ZERO else state.sign[j] * psi
        if np.any(gain > tie):
            return "saddle", "a neuron at the origin could grow and lower the loss"
        if state.fate[j] == ZERO or np.any(state.sign[j] * r > STRICT * np.max(np.abs(cells.y))):
            return "unknown", "a neuron at the origin may have a way down"
    return None


def _better_exists(cells: Cells, floor: float, limit: float, scale: float, m: int) -> bool:
    """Whether some network with m neurons has a smaller loss than `limit`.

    With m >= n (even the rank of the attainable range) the floor is attained. Below
    that, networks are exhibited: random hidden directions, output weights by least
    squares.
    """
    if m >= attainable_range(cells).shape[1]:
        return limit > floor + SAME_LOSS * scale
    rng = np.random.default_rng(0)
    for _ in range(2000):
        outputs = cells.X @ rng.standard_normal((cells.d, m))
        features = np.where(outputs > 0.0, outputs, cells.slope * outputs)
        weights = np.linalg.lstsq(features, cells.y, rcond=None)[0]
        if _loss(cells, cells.y - features @ weights) < limit - SAME_LOSS * scale:
            return True
    return False
