"""Derivations hold, their texts are current, and the numerical code computes what they say."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy
from support import balanced_neuron, neuron, pattern_rows, simulate

import flowsim as fs
from derivations import NAMES, __main__
from derivations._derivation import Derivation, DerivationError
from derivations.crossing_times import crossing_time, sign_change_time
from derivations.directional_dynamics import angle
from derivations.growth_and_death import death_of_case_2
from derivations.linear_flow import exponential, flow
from derivations.sliding_field import minimal_norm
from flowsim.cells import Cells, projector
from flowsim.selection import select

# -- the derivations themselves ---------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_derivation_holds_and_its_stored_text_is_current(name):
    assert __main__.check(name) == 0


@pytest.mark.parametrize("of", [lambda x: x, lambda x: sympy.Matrix([1, x])])
def test_a_wrong_identity_raises(of):
    x = sympy.Symbol("x", positive=True)
    Derivation().equal("x", of(x), of(sympy.sqrt(x**2)))
    with pytest.raises(DerivationError):
        Derivation().equal("x", of(x), of(x + sympy.Rational(1, 10**30)))


@pytest.mark.parametrize("undecided", [False, None, sympy.Symbol("x") > 0, 1])
def test_a_claim_that_is_not_decided_to_be_true_raises(undecided):
    with pytest.raises(DerivationError):
        Derivation().holds("claim", undecided)


def test_a_stored_text_that_differs_fails_the_check(tmp_path, monkeypatch, capsys):
    text = (__main__.STORED / "conservation.txt").read_text(encoding="utf-8")
    monkeypatch.setattr(__main__, "STORED", tmp_path)
    assert __main__.main(["--check", "conservation"]) == 1  # none is stored
    (tmp_path / "conservation.txt").write_text(text.replace(" = 0 ", " = 1 "), encoding="utf-8")
    assert __main__.main(["--check", "conservation"]) == 1
    assert "on the flow, this = 1" in capsys.readouterr().out
    assert __main__.main(["--write", "conservation"]) == 0
    assert (tmp_path / "conservation.txt").read_text(encoding="utf-8") == text
    assert __main__.main(["--check", "conservation"]) == 0


# -- numerical oracles against each other -----------------------------------------------------


def mp_norm(vector) -> Any:
    return mpmath.sqrt(mpmath.fdot(vector, vector))


@pytest.mark.parametrize("seed", range(10))
def test_the_exponential_is_the_flow_and_a_boost(seed):
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 6))
    D, z, t = rng.standard_normal(d), rng.standard_normal(d + 1), float(rng.uniform(-1, 1))
    matrix = exponential(D, t)
    exact = np.array(flow(z, D, t), dtype=float)
    assert matrix @ z == pytest.approx(exact, abs=4e-14 * math.exp(np.linalg.norm(D) * abs(t)))
    J = np.diag([1.0] + [-1.0] * d)
    assert matrix.T @ J @ matrix == pytest.approx(J, abs=1e-13 * float(np.max(np.abs(matrix))) ** 2)
    assert exponential(0 * D, t) == pytest.approx(np.eye(d + 1), abs=0)
    assert [float(x) for x in flow(z, 0 * D, t)] == z.tolist()


@pytest.mark.parametrize("seed", range(20))
def test_a_crossing_time_is_the_first_zero_of_the_margin(seed):
    """Any a, unbalanced neurons too; no sign change before it on a fine grid."""
    rng = np.random.default_rng(seed)
    d = int(rng.integers(2, 5))
    a, w, D, nu = float(rng.standard_normal()), *rng.standard_normal((3, d))
    t = crossing_time(a, w, D, nu)

    def margin(time):
        return mpmath.fdot(flow([a, *w], D, time)[1:], [mpmath.mpf(x) for x in nu])

    # None: the margin tends to a limit, or grows, without a zero.
    horizon = float(t) if t is not None else 40.0 / float(np.linalg.norm(D))
    grid = [float(margin(s)) for s in np.linspace(0.0, horizon, 400)[:-1]]
    assert np.all(np.sign(grid) == np.sign(grid[0]))
    if t is not None:
        with mpmath.workdps(60):
            assert abs(margin(t)) < mpmath.mpf(10) ** -50


def test_a_start_on_the_hyperplane_is_no_crossing_but_a_return_to_it_is():
    """a = 1/2, w = (-1, 1), D = (1, 0): p falls in size until a = 0, then p turns back."""
    assert crossing_time(1, [0, 1], [1, 0], [1, 0]) is None
    back = crossing_time(0.5, [-1, 1], [1, 0], [1, 1])
    assert back == pytest.approx(
        2 * float(sign_change_time(0.5, [-1, 1], [1, 0])), rel=1e-15, abs=0
    )
    assert float(back) == pytest.approx(math.log(3.0), rel=1e-15, abs=0)
    assert sign_change_time(1, [0, 1], [1, 0]) is None
    assert crossing_time(1, [1, 1], [0, 0], [1, 0]) is None
    # p* = 0 is not reached by the balanced neuron that shrinks towards it for ever.
    assert crossing_time(1, [-1, 0], [1, 0], [1, 0]) is None


def test_of_two_crossings_around_a_change_of_sign_the_first_is_found():
    """As above, the margin p + 9/10: p rises from -1 to -sqrt(3)/2 and falls again."""
    first = crossing_time(0.5, [-1, 1], [1, 0], ["1", "0.9"])
    turn = sign_change_time(0.5, [-1, 1], [1, 0])
    z = flow([0.5, -1, 1], [1, 0], first)
    assert float(first) == pytest.approx(math.log((0.9 - math.sqrt(0.06)) / 0.5), rel=1e-14, abs=0)
    assert 0 < first < turn
    again = crossing_time(z[0], ["-0.9", 1], [1, 0], ["1", "0.9"])
    assert float(again) == pytest.approx(2 * float(turn - first), rel=1e-14, abs=0)


@pytest.mark.parametrize("seed", range(5))
def test_hyperplanes_are_met_in_the_order_of_dp(seed):
    """A dominated neuron reaches those with dp = -margin/(nu.e) > 0, and no others."""
    rng = np.random.default_rng(seed)
    w, D = rng.standard_normal((2, 4))
    a, normals = 1.1 * float(np.linalg.norm(w)), rng.standard_normal((30, 4))
    dp = -(normals @ w) / (normals @ D)
    times = [crossing_time(a, w, D, nu) for nu in normals]
    assert [t is not None for t in times] == (dp > 0).tolist()
    reached = sorted((float(t), k) for k, t in enumerate(times) if t is not None)
    assert [k for _, k in reached] == [k for k in np.argsort(dp).tolist() if dp[k] > 0]


@pytest.mark.parametrize("seed", range(10))
def test_the_law_of_the_angle_is_that_of_the_flow(seed):
    rng = np.random.default_rng(seed)
    D, w = rng.standard_normal((2, 2))
    ratio, t = float(rng.uniform(1.0, 3.0)), float(rng.uniform(0, 4))
    sign = float(rng.choice([-1.0, 1.0]))
    with mpmath.workdps(60):
        target = mpmath.atan2(sign * D[1], sign * D[0])
        start = mpmath.atan2(w[1], w[0]) - target
        a = ratio * mp_norm([mpmath.mpf(x) for x in w])
        end = flow([sign * a, *w], D, t)
        turned = angle(start, mp_norm([mpmath.mpf(x) for x in D]), t, ratio)
        difference = mpmath.atan2(end[2], end[1]) - target - turned
        assert abs(mpmath.sin(difference / 2)) < mpmath.mpf(10) ** -45


# -- the selection on hyperplanes -------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_selection_follows_the_exact_minimal_norm_on_attracting_hyperplanes(seed):
    """Independent hyperplanes: the same field to 1e-13, and the same set of slides and sides."""
    rng = np.random.default_rng(seed)
    d = int(rng.integers(2, 6))
    k = int(rng.integers(1, d))
    sign = float(rng.choice([-1, 1]))
    X, y = rng.standard_normal((9, d)), rng.standard_normal(9)
    y[:k] = -sign * np.abs(y[:k])
    data = fs.Dataset(X, y)
    cells = Cells.of(data, 0.0, "half_mean", np.zeros(data.n))
    w = rng.standard_normal(d - k) @ np.linalg.svd(X[:k])[2][k:]
    code = np.sign(cells.normals @ w).astype(np.int8)
    code[:k], code[-1] = 0, 1
    plus, minus = (side[:k] for side in cells.sides(cells.y))
    low, high = np.minimum(plus, minus), np.maximum(plus, minus)

    field, zeta = minimal_norm(cells.field(cells.y, code), cells.normals[:k], low, high)
    # Where a multiplier has reached q+ the + side takes over, where q- the - side.
    ends = [-1 if z == Fraction(q) else 1 for z, q in zip(zeta, minus, strict=True)]
    slides = [Fraction(lo) < z < Fraction(hi) for z, lo, hi in zip(zeta, low, high, strict=True)]
    chosen = select(cells, cells.y, code, np.arange(k), sign).code
    assert chosen[:k].tolist() == [0 if s else e for s, e in zip(slides, ends, strict=True)]
    onto, _ = projector(cells.normals[chosen == 0])
    found = onto @ cells.field(cells.y, chosen)
    scale = float(np.sum(np.abs(cells.y) * cells.norms)) / data.n
    assert found == pytest.approx([float(x) for x in field], abs=1e-13 * scale)


def test_the_exact_minimal_norm_beats_every_point_of_a_grid_on_dependent_rows():
    rows = [[1, 0, 1], [0, 1, 1], [1, 1, 2], [2, 0, 2]]
    low, high = [-1, -2, Fraction(-1, 3), 0], [1, 0, 0, Fraction(1, 7)]
    base = [Fraction(1), Fraction(3, 2), Fraction(-1, 5)]
    field, zeta = minimal_norm(base, rows, low, high)
    assert field == [b + sum(z * r[i] for z, r in zip(zeta, rows, strict=True))
                     for i, b in enumerate(base)]  # fmt: skip
    least = math.sqrt(sum(float(x) ** 2 for x in field))
    axes = [np.linspace(float(lo), float(hi), 9) for lo, hi in zip(low, high, strict=True)]
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*axes)], axis=1)
    norms = np.linalg.norm(np.array(base, dtype=float) + grid @ np.array(rows, dtype=float), axis=1)
    assert 0.0 < least <= np.min(norms) * (1 + 1e-14)
    assert np.min(norms) < 1.3 * least  # the grid is near enough to notice a minimum missed
    with pytest.raises(ValueError, match="low"):
        minimal_norm([1], [[1]], [1], [0])


# -- the engine with frozen residual ----------------------------------------------------------


def exact_field(data: fs.Dataset, w) -> list:
    """Return D of the open cell that w lies in, in 60 digits, with r = y."""
    X, y = data.X.tolist(), data.y.tolist()
    on = [k for k in range(data.n) if mpmath.fdot(map(mpmath.mpf, X[k]), w) > 0]
    return [mpmath.fsum(mpmath.mpf(y[k]) * X[k][i] for k in on) / data.n for i in range(data.d)]


def first_hit(data: fs.Dataset, z, D, left: int = -1) -> tuple:
    """Return (time, sample) of the first hyperplane that a neuron reaches, (inf, -1) if none.

    In one cell a margin is monotone while a keeps its sign: one just `left` is not met again.
    """
    hits = [
        (crossing_time(z[0], z[1:], D, x), k) for k, x in enumerate(data.X.tolist()) if k != left
    ]
    return min(((t, k) for t, k in hits if t is not None), default=(mpmath.inf, -1))


def gaussian_data(rng: np.random.Generator, n: int, d: int) -> fs.Dataset:
    return fs.Dataset(rng.standard_normal((n, d)), rng.standard_normal(n))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["balanced", "dominated", "unbalanced"])
def test_a_frozen_run_is_the_exponential_until_its_first_crossing(kind, seed):
    """The state, and the time of the crossing or of the change of sign, to 1e-12 relative."""
    rng = np.random.default_rng(seed)
    d = int(rng.integers(2, 5))
    data = gaussian_data(rng, 6, d)
    net = getattr(fs.init, kind)(1, d, 1e-3, seed=seed)
    z = [float(net.a[0]), *net.W[0].tolist()]
    with mpmath.workdps(60):
        D = exact_field(data, z[1:])
        rate = float(mp_norm(D))
        hit, sample = first_hit(data, z, D)
        turn = sign_change_time(z[0], z[1:], D)
    first = float(min(hit, mpmath.inf if turn is None else turn))
    end = min(first, 5.0 / rate)
    sol = simulate(net, data, residual="frozen", t1=2.0 * end, rtol=1e-14)
    for t in (0.3 * end, 0.999 * end):
        exact = np.array(flow(z, D, t), dtype=float)
        found = np.array([sol.network(t).a[0], *sol.network(t).W[0]])
        assert found == pytest.approx(exact, abs=1e-12 * float(np.linalg.norm(exact)))
    boost = exponential(np.array(D, dtype=float), 0.5 * end) @ z
    half = sol.network(0.5 * end)
    assert np.append(half.a, half.W) == pytest.approx(
        boost, abs=1e-12 * float(np.linalg.norm(boost))
    )
    if turn is not None and turn < hit:
        assert sol.events.where("sign_change").t[0] == pytest.approx(first, rel=1e-12, abs=0)
    elif end == first:
        t, _, k, *_ = pattern_rows(sol)[0]
        assert k == sample
        assert t == pytest.approx(first, rel=1e-12, abs=0)


def walk(data: fs.Dataset, z, t1: float) -> tuple[list, Any, list]:
    """Follow a dominated neuron by closed forms until t1, its first slide (code 0) or its death.

    Returns its crossings [(t, sample, code after)], and the time and its state at the end.
    """
    now, k, events, D = mpmath.mpf(0), -1, [], exact_field(data, z[1:])
    while True:
        wait, k = first_hit(data, z, D, k)
        if now + wait > t1:
            return events, t1, flow(z, D, t1 - now)
        now, z = now + wait, flow(z, D, wait)
        x = [mpmath.mpf(value) for value in data.X[k].tolist()]
        side = 1 if mpmath.fdot(x, D) * z[0] < 0 else -1  # the one that it comes from
        jump = mpmath.mpf(float(data.y[k])) / data.n
        D = [entry - side * jump * x[i] for i, entry in enumerate(D)]
        dead = all(abs(entry) < mpmath.mpf(10) ** -50 for entry in D)
        slides = not dead and mpmath.fdot(x, D) * z[0] * side > 0  # driven back
        events.append((now, k, 0 if slides else -side))
        if slides or dead:
            return events, now, z


@pytest.mark.parametrize("seed", range(12))
def test_a_frozen_run_passes_every_hyperplane_when_the_closed_form_does(seed):
    """Up to the first slide or death: the same samples and codes, times and state to 1e-12."""
    rng = np.random.default_rng(200 + seed)
    data = gaussian_data(rng, 12, 3)
    net = fs.init.balanced(1, 3, 1e-2, seed=seed)
    with mpmath.workdps(60):
        events, end, z = walk(data, [float(net.a[0]), *net.W[0].tolist()], 20.0)
    sol = simulate(net, data, residual="frozen", t1=20.0, rtol=1e-14)
    rows = pattern_rows(sol)
    rows = rows[: len(events)] if end < 20.0 else rows
    assert len(events) > 0
    assert [(k, after) for _, _, k, _, after in rows] == [(k, after) for _, k, after in events]
    exact = [float(t) for t, _, _ in events]
    assert [row[0] for row in rows] == pytest.approx(exact, rel=1e-12, abs=0)
    found = sol.network(float(end))
    size = float(mp_norm(z))
    assert np.append(found.a, found.W) == pytest.approx([float(x) for x in z], abs=1e-12 * size)


def test_the_neuron_of_case_2_dies_when_and_where_the_closed_form_says():
    death = death_of_case_2()
    start = balanced_neuron(120.0, sign=-1.0, size=1e-3)
    sol = simulate(start, fs.datasets.three_points(), residual="frozen", t1=10.0, rtol=1e-14)
    assert [row[2] for row in pattern_rows(sol)] == [2, 1, 0]
    times = [float(t) for t in death.times]
    assert [row[0] for row in pattern_rows(sol)] == pytest.approx(times, rel=1e-12, abs=0)
    shrunk = math.exp(sol.final.network.log_norm[0] - sol.initial.log_norm[0])
    assert shrunk == pytest.approx(float(death.ratio), rel=1e-12, abs=0)
    ratio = 3839 * (80 - 31 * math.sqrt(3.0)) / 797790
    assert float(death.ratio) == pytest.approx(ratio, rel=1e-14, abs=0)
    turned = [172.87498365109819, 206.56505117707799, 216.86989764584402]
    assert [float(x) for x in death.angles] == pytest.approx(turned, rel=1e-15, abs=0)


def test_xor_at_0_degrees_meets_its_hyperplane_at_twice_asinh_1():
    net = neuron(1e-3, [1e-3, 0.0])
    sol = simulate(net, fs.datasets.xor(), residual="frozen", t1=10.0, rtol=1e-14)
    rows = pattern_rows(sol)
    assert rows[0][0] == pytest.approx(2 * math.asinh(1.0), rel=1e-13, abs=0)
    assert sorted(row[2] for row in rows) == [1, 3]
