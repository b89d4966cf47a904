"""Integrate small gradient flows of two-layer (leaky) ReLU networks to 40 digits.

An oracle for the tests. It shares no code with flowsim: it integrates

    a_j' = w_j.D_j,   w_j' = a_j D_j,   D_j = (1/n) sum_k c_jk r_k x_k,

with Taylor series of fixed high order in multiprecision arithmetic (python-flint, its balls
used as plain numbers), restarts at every event, and follows Filippov slides with the
minimal-norm field.  It is slow, and refuses whatever is not generic (parallel samples, ties,
repulsive hyperplanes, w = 0) by raising `NotGenericError`.

    python tests/reference/high_precision.py [FOLDER [NAME ...]]

writes a JSON file for every (named) system of `SYSTEMS` into FOLDER (default: where this lies).
"""

from __future__ import annotations

import itertools
import json
import random
import sys
from dataclasses import replace
from pathlib import Path

from first_root import NotGenericError, first_root, value
from flint import arb, arb_mat, ctx
from systems import SYSTEMS, System
from taylor_flow import OFF, ON, SLIDE, Flow, Precision, State, dot

DIGITS = 40


def slide_exits(flow: Flow, row: list[arb], r, k: int, h: arb) -> list[tuple[arb, int]]:
    """Return (tau, side) for the multiplier of sample k reaching either end of its range."""
    bits, order = flow.precision.bits, len(r[0])
    load = [(flow.n * dot(row, (series[i] for series in r))).mid() for i in range(order)]
    exits = []
    for side in (OFF, ON):
        gap = [(p - flow.weight(side) * q).mid() for p, q in zip(load, r[k], strict=True)]
        tau = first_root(gap, h, 0, bits)
        if tau is not None:
            exits.append((tau, side))
    return exits


def candidates(flow: Flow, state: State, live, a, W, s, r, h: arb):
    """Yield (tau, neuron, sample, new code) for the first root of each event function."""
    bits = flow.precision.bits
    shared: dict[tuple, list] = {}
    for j in live:
        code = tuple(state.code[j])
        _, rows = flow.linear(code)
        w = [c[0] for c in W[j]]
        if a[j][0] ** 2 < dot(w, w):
            tau = first_root(a[j], h, state.fresh.get((j, -1), 0), bits)
            if tau is not None:
                yield tau, j, -1, SLIDE
        for k in range(flow.n):
            if code[k] != SLIDE:
                check_fresh(s[j][k], code[k], state.fresh.get((j, k), 0))
                tau = first_root(s[j][k], h, state.fresh.get((j, k), 0), bits)
                if tau is not None:
                    yield tau, j, k, -code[k]
                continue
            if (code, k) not in shared:
                shared[code, k] = slide_exits(flow, rows[k], r, k, h)
            for tau, side in shared[code, k]:
                yield tau, j, k, side


def check_fresh(margin: list[arb], code: int, zeros: int) -> None:
    """Refuse a neuron that has just left a hyperplane for the side it does not move to."""
    if not code * margin[zeros] > 0:
        raise NotGenericError("a neuron does not leave the hyperplane it was to leave")


def selection(flow: Flow, state: State, j: int, code: list[int], kinks: list[int]) -> list[int]:
    """Return the codes on the hyperplanes `kinks` (all with a r < 0) of the least-norm field."""
    a, r, tie = state.a[j], flow.residual(state), flow.precision.tie
    found = []
    for choice in itertools.product((OFF, SLIDE, ON), repeat=len(kinks)):
        trial = list(code)
        for k, c in zip(kinks, choice, strict=True):
            trial[k] = c
        if flow.dead(trial):
            return [OFF] * flow.n
        B, rows = flow.linear(tuple(trial))
        D = [dot(row, r) for row in B]
        good = True
        for k in kinks:
            if trial[k] == SLIDE:
                eta = flow.n * dot(rows[k], r) / r[k]
                good = good and flow.slope + tie < eta and eta < 1 - tie
            else:
                good = good and trial[k] * a * dot(flow.X[k], D) > tie * abs(a)
        if good:
            found.append(trial)
    if len(found) != 1:
        raise NotGenericError(f"{len(found)} fields fit at t = {state.t}")
    return found[0]


def switch(flow: Flow, state: State, j: int, k: int, new: int) -> None:
    """Let neuron j react to its event (k, new) and record what changes."""
    old, r = list(state.code[j]), flow.residual(state)
    code = list(old)
    if k < 0:
        if SLIDE in old:
            raise NotGenericError("a changes sign on a slide")
        state.sign_changes.append((state.t, j))
        state.fresh[j, -1] = 1
        return
    if old[k] == SLIDE:
        code[k] = new
        state.fresh[j, k] = 2
    else:
        kinks = [q for q in range(flow.n) if old[q] == SLIDE]
        if state.a[j] * r[k] < 0:
            code = selection(flow, state, j, code, [*kinks, k])
        else:
            code[k] = new
            code = selection(flow, state, j, code, kinks) if kinks else code
        state.fresh.update({(j, q): 1 for q in [*kinks, k] if code[q] != SLIDE})
    state.code[j] = code
    state.W[j] = snap(flow, state.W[j], code)
    state.events += [(state.t, j, q, old[q], code[q]) for q in range(flow.n) if old[q] != code[q]]


def snap(flow: Flow, w: list[arb], code: list[int]) -> list[arb]:
    """Return w projected onto the hyperplanes it slides on (rounding only)."""
    K = [k for k in range(flow.n) if code[k] == SLIDE]
    if not K:
        return w
    gram = arb_mat([[dot(flow.X[p], flow.X[q]) for q in K] for p in K]).inv()
    mu = (gram * arb_mat([[dot(flow.X[k], w)] for k in K])).entries()
    return [
        (w[p] - sum(m * flow.X[k][p] for m, k in zip(mu, K, strict=True))).mid()
        for p in range(flow.d)
    ]


# -- integration ------------------------------------------------------------------------------


def integrate(system: System, precision: Precision) -> tuple[State, arb]:
    """Return the state of `system` at its t1, with all events, and the loss there."""
    ctx.prec = precision.bits
    flow = Flow(system, precision)
    state = State(arb(0), [arb(v) for v in system.a], [[arb(v) for v in w] for w in system.W], [])
    state.code = [[ON if dot(w, x) > 0 else OFF for x in flow.X] for w in state.W]
    t1 = arb(system.t1)
    while state.t < t1:
        live, a, W, s, r = flow.expand(state)
        h = flow.step_size(live, a, W, r)
        last = bool(h >= t1 - state.t)
        h = (t1 - state.t).mid() if last else h
        events = sorted(candidates(flow, state, live, a, W, s, r, h), key=lambda e: float(e[0] / h))
        if events:
            h, last = first_time(events), False
            events = [e for e in events if abs(e[0] - h) < precision.tie * h]
            if len({e[1] for e in events}) < len(events):
                raise NotGenericError("a neuron has two events at once")
        state.t = t1 if last else (state.t + h).mid()
        state.a = [value(series, h) for series in a]
        state.W = [[value(series, h) for series in w] for w in W]
        state.W = [snap(flow, w, c) for w, c in zip(state.W, state.code, strict=True)]
        state.fresh = {}
        state.steps += 1
        for _, j, k, new in events:
            switch(flow, state, j, k, new)
    r = flow.residual(state)
    return state, (dot(r, r) / (2 * flow.n)).mid()


def first_time(events) -> arb:
    first = events[0][0]
    for event in events:
        first = event[0] if event[0] < first else first
    return first


# -- files ------------------------------------------------------------------------------------


def text(v: arb) -> str:
    return v.mid().str(DIGITS, radius=False)


def relative_difference(p: list[arb], q: list[arb]) -> arb:
    """Return max |p - q| / |q| (0 where both vanish)."""
    worst = arb(0)
    for u, v in zip(p, q, strict=True):
        if u != v:
            here = (abs(u - v) / abs(v)).mid()
            worst = here if here > worst else worst
    return worst


def sequence(state: State) -> list[tuple[int, int, int, int]]:
    return [event[1:] for event in state.events]


def perturbed(system: System, size: float, seed: int) -> System:
    """Return the system with every number of its start moved by about `size`, relatively."""
    draw = random.Random(seed)

    def move(v: float) -> float:
        return v * (1 + size * draw.gauss(0, 1))

    return replace(
        system, a=[move(v) for v in system.a], W=[[move(v) for v in w] for w in system.W]
    )


def response(system: System, size: float = 1e-9) -> float:
    """Return how far, relatively, event times move when the start does; all events must stay."""
    quick = Precision(bits=90, order=24)
    base, _ = integrate(system, quick)
    worst = 0.0
    for seed in range(3):
        other, _ = integrate(perturbed(system, size, seed), quick)
        if sequence(base) != sequence(other):
            raise NotGenericError("moving the start by 1e-9 changes the events")
        times = [[event[0] for event in state.events] for state in (other, base)]
        worst = max(worst, float(relative_difference(*times)))
    return worst


def record(system: System, precision: Precision) -> dict:
    """Integrate twice, the second time with half the step, and describe the outcome."""
    state, loss = integrate(system, precision)
    halved = Precision(precision.bits, precision.order, precision.step_factor / 2)
    again, _ = integrate(system, halved)
    if sequence(state) != sequence(again):
        raise NotGenericError("halving the step changes the events")
    times = [[e[0] for e in s.events + s.sign_changes] for s in (state, again)]
    ends = [s.a + [v for w in s.W for v in w] for s in (state, again)]
    return {
        "name": system.name,
        "about": system.about,
        "n": len(system.X),
        "t1": system.t1,
        "negative_slope": system.negative_slope,
        "X": system.X,
        "y": system.y,
        "a": system.a,
        "W": system.W,
        "loss_half_mean": text(loss),
        "a_end": [text(v) for v in state.a],
        "W_end": [[text(v) for v in w] for w in state.W],
        "code_end": state.code,
        "step_halving_relative_difference": {
            "event_times": float(relative_difference(*times)),
            "end_state": float(relative_difference(*ends)),
        },
        "event_time_change_if_start_moves_1e-9": response(system),
        "sign_changes": [{"t": text(t), "neuron": j} for t, j in state.sign_changes],
        "events": [
            {"t": text(t), "neuron": j, "sample": k, "before": before, "after": after}
            for t, j, k, before, after in state.events
        ],
    }


def main(arguments: list[str]) -> None:
    folder = Path(arguments[0]) if arguments else Path(__file__).parent
    names = arguments[1:] or [system.name for system in SYSTEMS]
    for system in SYSTEMS:
        if system.name in names:
            path = folder / f"precise_{system.name}.json"
            path.write_text(json.dumps(record(system, Precision()), indent=1) + "\n")
            print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
