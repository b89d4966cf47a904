"""Two runs of one system, compared: events, times, losses, states, verdicts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

import flowsim as fs
from flowsim.engines import Piecewise

#: Kinds of events whose times are those of the flow, not of an engine's steps.
KINDS = ("pattern", "death", "origin", "sign_change", "ambiguous", "alignment_end", "user")
#: Events closer than this, relative to their time, are simultaneous: they may swap.
SIMULTANEOUS = 1e-6


@dataclass(frozen=True)
class Comparison:
    """How far apart two runs are.

    Attributes
    ----------
    events : int
        Number of events of the first run.
    same_events : bool
        Both have the same events, in the same order but for simultaneous ones.
    time : float
        Largest relative difference of an event's time; nan unless `same_events`.
    loss : float
        Largest difference of the dense losses, relative to the loss at the start.
    state : float
        Largest difference of a neuron at the last common time, relative to its norm.
    end : float
        Difference of the final networks, relative to the norm of the first.
    same_kind, same_limit : bool
        Verdicts, and exact limits of the loss.
    """

    events: int
    same_events: bool
    time: float
    loss: float
    state: float
    end: float
    same_kind: bool
    same_limit: bool

    def agrees(self) -> bool:
        """Whether the runs agree to what flowsim promises at its default tolerance."""
        return (
            self.same_events
            and self.time <= 1e-6
            and self.loss <= 1e-8
            and max(self.state, self.end) <= 1e-7
            and self.same_kind
            and self.same_limit
        )


def compare_runs(a: fs.Solution, b: fs.Solution, samples: int = 100) -> Comparison:
    """Compare two runs of one system; losses at `samples` times and at steps of both."""
    first, second = events_by_row(a), events_by_row(b)
    same = [row for row, _ in first] == [row for row, _ in second]
    times = np.array([[t for _, t in first], [t for _, t in second]]) if same else np.zeros((2, 0))
    same = same and _in_order(times)
    apart = np.abs(times[1] - times[0]) / np.maximum(times[0], np.finfo(float).tiny)
    stop = min(a.t_end, b.t_end)
    inside = _times(a, stop, samples) + _times(b, stop, samples)
    return Comparison(
        events=len(first),
        same_events=same,
        time=float(np.max(apart, initial=0.0)) if same else float("nan"),
        loss=float(np.max(np.abs(a.loss(inside) - b.loss(inside))) / a.history.loss[0]),
        state=_neuronwise(a.network(stop), b.network(stop)),
        end=_together(a.final.network, b.final.network),
        same_kind=a.final.kind == b.final.kind,
        same_limit=a.final.limit_loss_exact == b.final.limit_loss_exact,
    )


def events_by_row(sol: fs.Solution) -> list[tuple[tuple, float]]:
    """Return (kind, neuron, sample, before, after) and time, sorted: repeated rows by time."""
    e = sol.events
    columns = (e.kind, e.neuron, e.sample, e.before, e.after)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    pairs = zip(rows, e.t.tolist(), strict=True)
    return sorted(pair for pair in pairs if pair[0][0] in KINDS)


def _in_order(times: np.ndarray) -> bool:
    """Whether the second run's times rise where the first one's do, by more than rounding."""
    latest = np.maximum.accumulate(times[1][np.argsort(times[0], kind="stable")])
    return bool(np.all(np.sort(times[1]) >= latest * (1.0 - SIMULTANEOUS)))


def _times(sol: fs.Solution, stop: float, samples: int) -> list[float]:
    """Return half of the times between the run's steps, where interpolants err most, half even."""
    t = sol.history.t[sol.history.t <= stop]
    middles = 0.5 * (t[:-1] + t[1:])
    picked = np.unique(np.linspace(0, len(middles) - 1, samples // 2).astype(int))
    return [*middles[picked].tolist(), *np.linspace(0.0, stop, samples // 2).tolist()]


def _neuronwise(a: fs.TwoLayerReLU, b: fs.TwoLayerReLU) -> float:
    live = np.isfinite(a.log_norm)
    ratio = np.exp(b.log_norm[live] - a.log_norm[live])
    difference = a.direction[live] - ratio[:, None] * b.direction[live]
    return float(np.max(np.linalg.norm(difference, axis=1), initial=0.0))


def _together(a: fs.TwoLayerReLU, b: fs.TwoLayerReLU) -> float:
    za, zb = (np.column_stack([net.a, net.W]) for net in (a, b))
    return float(np.linalg.norm(za - zb) / (np.linalg.norm(za) or 1.0))


def nudged(net: fs.TwoLayerReLU, size: float = 1e-9, seed: int = 0) -> fs.TwoLayerReLU:
    """Return the network with each w_j moved by `size` of its norm; ``|a_j| / ||w_j||`` stays."""
    step = np.random.default_rng(seed).standard_normal(net.W.shape)
    norm = np.linalg.norm(net.W, axis=1)
    W = net.W + size * norm[:, None] * step / np.linalg.norm(step, axis=1, keepdims=True)
    now = np.linalg.norm(W, axis=1)
    balanced = np.abs(np.abs(net.a) - norm) <= 4e-16 * norm
    ratio = np.divide(np.abs(net.a), norm, out=np.ones_like(norm), where=norm > 0.0)
    a = np.copysign(np.where(balanced, now, ratio * now), net.a)
    return fs.TwoLayerReLU(a, W, net.negative_slope)


# -- random systems ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class System:
    """A network, its data, and what to run them with."""

    name: str
    net: fs.TwoLayerReLU
    data: fs.Dataset
    t1: float

    def run(self, **options) -> fs.Solution:
        """Simulate it to `t1`, or to rest."""
        return fs.simulate(self.net, self.data, t1=self.t1, end="rest", **options)

    def sensitivity(self, run: fs.Solution) -> float:
        """Return how much event times move, relative, if the start moves by 1e-9; inf if others.

        `run` is the piecewise run. A system near a separatrix has other events then.
        """
        moved = fs.simulate(nudged(self.net), self.data, t1=self.t1, end="rest")
        found = compare_runs(run, moved)
        return found.time if found.same_events and found.same_kind else float("inf")


INITS = ("balanced", "dominated", "unbalanced")


def random_system(seed: int, shape: tuple[int, int, int] | None = None) -> System:
    """Draw data, initialisation and scale (1e-8 to 1e-3); mixed labels, which make slides.

    Parameters
    ----------
    seed : int
        Every third system has a bias, every fourth a leaky ReLU, initialisations in turn.
    shape : (n, d, m), optional
        Else n in [4, 30], d in [2, 4], m in [4, 40].
    """
    rng = np.random.default_rng([4, seed])
    drawn = (int(rng.integers(4, 31)), int(rng.integers(2, 5)), int(rng.integers(4, 41)))
    n, d, m = shape or drawn
    X = rng.standard_normal((n, d))
    if seed % 3 == 2:
        X[:, -1] = 1.0
    noise = rng.uniform(0.0, 1.0)
    y = X @ rng.standard_normal(d) + noise * rng.standard_normal(n)
    scale = 10.0 ** rng.uniform(-8.0, -3.0)
    slope = 0.1 if seed % 4 == 3 else 0.0
    kind = INITS[seed % 3]
    net = fs.init.get(kind)(m, d, scale, seed=seed, negative_slope=slope)
    name = f"{seed}: {kind}, n={n}, d={d}, m={m}, λ={scale:.0e}"
    name += ", bias" * (seed % 3 == 2) + f", slope {slope:g}" * (slope > 0.0)
    return System(name, net, fs.Dataset(X, y), float("inf"))


def within(system: System, steps: int) -> tuple[System, fs.Solution]:
    """Cut a system short where Taylor steps to every event would be more; return both."""
    run = system.run(max_steps=steps, engine=Piecewise(every_event=True))
    if run.status == "stationary":
        return system, run
    digit = 10.0 ** (math.floor(math.log10(run.t_end)) - 1)
    t1 = math.floor(run.t_end / digit) * digit
    shorter = System(system.name, system.net, system.data, t1)
    return shorter, shorter.run()
