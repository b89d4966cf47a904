"""Helpers of the tests; what they compute is independent of flowsim."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

import flowsim as fs

REFERENCE = Path(__file__).parent / "reference"
EPS = float(np.finfo(float).eps)


def simulate(net: fs.TwoLayerReLU, data: fs.Dataset, **settings: Any) -> fs.Solution:
    """Run flowsim with a budget that no test here should need: chatter fails fast."""
    settings.setdefault("max_steps", 20_000)
    settings.setdefault("end", "rest")
    return fs.simulate(net, data, **settings)


# -- networks and data ------------------------------------------------------------------------


def neuron(a: float, w, negative_slope: float = 0.0) -> fs.TwoLayerReLU:
    """Return the network of one neuron."""
    return fs.TwoLayerReLU(np.array([a]), np.array([w], dtype=float), negative_slope)


def balanced_neuron(angle: float, sign: float = 1.0, size: float = 1.0) -> fs.TwoLayerReLU:
    """Return one neuron with |a| = ||w|| = size whose w lies at `angle` degrees."""
    phi = math.radians(angle)
    return neuron(sign * size, [size * math.cos(phi), size * math.sin(phi)])


def angle(net: fs.TwoLayerReLU, j: int = 0) -> float:
    """Return the angle of w_j in degrees, in [0, 360)."""
    w = net.direction[j, 1:]
    return math.degrees(math.atan2(w[1], w[0])) % 360.0


def forward(net: fs.TwoLayerReLU, X) -> np.ndarray:
    """Return h at the rows of X."""
    s = np.asarray(X, dtype=float) @ net.W.T
    return np.where(s > 0, s, net.negative_slope * s) @ net.a


def half_mean_loss(net: fs.TwoLayerReLU, X, y) -> float:
    """Return L = (1/2n) sum r_k^2."""
    r = np.asarray(y, dtype=float) - forward(net, X)
    return 0.5 * float(np.mean(r * r))


def loss_is(loss: float, exact: float, y, relative: float = 1e-10) -> bool:
    """Whether a loss is the exact one, relative to the larger of it and mean(y^2)/2."""
    scale = max(exact, 0.5 * float(np.mean(np.square(np.asarray(y, dtype=float)))))
    return abs(loss - exact) <= relative * scale


def pythagorean(m: int, d: int, scale: float, seed: int) -> fs.TwoLayerReLU:
    """Return a network with |a_j| = ||w_j|| exactly, of size about `scale`, in d = 2 or 3."""
    rows = {
        2: [(3, 4, 5), (5, 12, 13), (8, 15, 17), (7, 24, 25), (20, 21, 29), (28, 45, 53)],
        3: [(1, 2, 2, 3), (2, 3, 6, 7), (1, 4, 8, 9), (4, 4, 7, 9), (2, 6, 9, 11), (6, 6, 7, 11)],
    }[d]
    rng = np.random.default_rng(seed)
    picked = np.array(rows, dtype=float)[rng.integers(len(rows), size=m)]
    picked *= np.exp2(np.round(np.log2(scale / picked[:, -1])))[:, None]
    W = rng.permuted(picked[:, :-1], axis=1) * rng.choice([-1.0, 1.0], (m, d))
    return fs.TwoLayerReLU(picked[:, -1] * rng.choice([-1.0, 1.0], m), W)


def gap(a: float, w) -> Fraction:
    """Return a^2 - ||w||^2 exactly."""
    return Fraction(float(a)) ** 2 - sum(Fraction(float(v)) ** 2 for v in w)


def scaled_times(sol: fs.Solution, count: int) -> np.ndarray:
    """Return `count` of the times of the run's own steps, evenly spread, both ends included."""
    t = sol.history.t
    return t[np.unique(np.linspace(0, len(t) - 1, count).astype(int))]


# -- events -----------------------------------------------------------------------------------


def pattern_rows(sol: fs.Solution) -> list[tuple[float, int, int, int, int]]:
    """Return the changes of activation codes: (t, neuron, sample, before, after)."""
    events = sol.events.where("pattern")
    columns = (events.t, events.neuron, events.sample, events.before, events.after)
    return [tuple(v.item() for v in row) for row in zip(*columns, strict=True)]


def codes(sol: fs.Solution, t: float = math.inf) -> np.ndarray:
    """Return the codes (m, n) just after time t: the initial ones and the table of events.

    A neuron that starts on a hyperplane must not be asked for.
    """
    code = np.sign(np.asarray(sol.initial.direction[:, 1:]) @ np.asarray(sol.data.X).T).astype(int)
    for time, j, k, before, after in pattern_rows(sol):
        if time > t:
            break
        assert code[j, k] == before, f"neuron {j}, sample {k}: a gap in the table at t = {time}"
        code[j, k] = after
    return code


def first_time_below(sol: fs.Solution, level: float) -> float:
    """Return when the loss passes `level`, by bisection in the dense output."""
    i = int(np.argmax(sol.history.loss < level))
    assert i > 0, "the loss never passes the level"
    low, high = sol.history.t[i - 1], sol.history.t[i]
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if sol.loss(middle) < level else (middle, high)
    return float(0.5 * (low + high))


def slowest(sol: fs.Solution, start: float, stop: float) -> tuple[float, float]:
    """Return time and loss where ||theta'||^2 is least within [start, stop]."""
    inside = np.flatnonzero((sol.history.t >= start) & (sol.history.t <= stop))
    i = inside[np.argmin(sol.history.speed[inside])]
    return float(sol.history.t[i]), float(sol.history.loss[i])


# -- reference files --------------------------------------------------------------------------


class Reference:
    """A system of tests/reference with its own answers."""

    def __init__(self, name: str) -> None:
        raw = json.loads((REFERENCE / f"{name}.json").read_text())
        self.name, self.raw, self.t1 = name, raw, float(raw["t1"])
        self.data = fs.Dataset(raw["X"], raw["y"])
        slope = raw.get("negative_slope", 0.0)
        self.start = fs.TwoLayerReLU(np.array(raw["a"]), np.array(raw["W"]), slope)
        self.loss = float(raw["loss_half_mean"])
        self.a_end = np.array(raw["a_end"], dtype=float)
        self.W_end = np.array(raw["W_end"], dtype=float)
        self.events = [
            (float(e["t"]), e["neuron"], e["sample"], e["before"], e["after"])
            for e in raw["events"]
        ]
        self.sign_changes = [(float(e["t"]), e["neuron"]) for e in raw.get("sign_changes", [])]

    def run(self, **settings: Any) -> fs.Solution:
        return simulate(self.start, self.data, t1=self.t1, **settings)

    def to_digits(self, digits: int, t1: float | None = None) -> fs.Solution:
        """Run to many digits, by Taylor series in multiprecision arithmetic."""
        engine = fs.engines.Validated(rigorous=False, digits=digits)
        return simulate(self.start, self.data, engine=engine, t1=self.t1 if t1 is None else t1)

    def time_error(self, sol: fs.Solution) -> float:
        """Return max |t - t_exact| / t_exact over all events, which must be the same ones."""

        def by_row(events):
            return sorted(events, key=lambda e: (e[1:], e[0]))

        expected, found = by_row(self.events), by_row(pattern_rows(sol))
        assert [e[1:] for e in found] == [e[1:] for e in expected]
        errors = [abs(p[0] - q[0]) / q[0] for p, q in zip(found, expected, strict=True)]
        signs = sol.events.where("sign_change")
        assert signs.neuron.tolist() == [j for _, j in self.sign_changes]
        errors += [
            abs(t - q) / q for t, (q, _) in zip(signs.t.tolist(), self.sign_changes, strict=True)
        ]
        return max(errors)

    def end_error(self, sol: fs.Solution) -> float:
        """Return max over neurons of ||(a, w) - exact|| / ||exact|| at t1."""
        assert sol.t_end == self.t1
        net = sol.final.network
        exact = np.column_stack([self.a_end, self.W_end])
        error = np.column_stack([net.a, net.W]) - exact
        return float(np.max(np.linalg.norm(error, axis=1) / np.linalg.norm(exact, axis=1)))


TABLES = ("random_d2_n8_bias", "random_d3_n10_dominated", "random_d3_n12", "random_d4_n15")
PRECISE = tuple(sorted(path.stem for path in REFERENCE.glob("precise_*.json")))
