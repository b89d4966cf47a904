"""What makes runs of very many neurons quick changes nothing of them."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from typing import Any

import numpy as np
import pytest

import flowsim as fs
from flowsim._distinct import distinct_rows, sorted_rows
from flowsim._rows import largest, norms, squares
from flowsim.cells import Cells
from flowsim.engines.groups import Groups
from flowsim.engines.piecewise import Integrator, blocks, expansion, integrator, walkers
from flowsim.events import ALIVE, DEAD, EventLog
from flowsim.state import State


@pytest.mark.parametrize(("m", "k"), [(0, 3), (1, 1), (500, 2), (500, 6), (300, 40)])
def test_distinct_rows_are_numbered_as_they_come(m: int, k: int) -> None:
    rows = np.random.default_rng(k).integers(-1, 2, (m, k)).astype(np.int8)
    first, number = distinct_rows(rows)
    known: dict[bytes, int] = {}
    np.testing.assert_array_equal(
        number, [known.setdefault(row.tobytes(), len(known)) for row in rows]
    )
    assert len(first) == len(known)
    np.testing.assert_array_equal(rows[first][number], rows)
    np.testing.assert_array_equal(sorted_rows(rows), np.unique(rows, axis=0))


@pytest.mark.parametrize("k", [1, 3, 7, 8, 20])
def test_rows_have_the_norms_that_numpy_gives_them_to_the_bit(k: int) -> None:
    scales = 10.0 ** np.random.default_rng(k).uniform(-3.0, 3.0, (500, k))
    rows = np.random.default_rng(0).standard_normal((500, k + 1))[:, 1:] * scales
    np.testing.assert_array_equal(squares(rows), np.sum(rows**2, axis=1))
    np.testing.assert_array_equal(norms(rows), np.linalg.norm(rows, axis=1))
    np.testing.assert_array_equal(largest(rows), np.max(np.abs(rows), axis=1))
    assert np.isnan(largest(np.where(rows == rows[0, k - 1], np.nan, rows))[0])


def _same(one: fs.Solution, other: fs.Solution) -> None:
    for name in ("t", "neuron", "sample", "kind_code", "before", "after"):
        np.testing.assert_array_equal(getattr(one.events, name), getattr(other.events, name))
    np.testing.assert_array_equal(one.final.network.a, other.final.network.a)
    np.testing.assert_array_equal(one.final.network.W, other.final.network.W)
    np.testing.assert_array_equal(one.history.speed, other.history.speed)


def test_how_far_a_step_looks_at_first_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = fs.datasets.three_points()
    net = fs.init.balanced(500, 2, log10_scale=-3, seed=0)
    runs = []
    for nearer in (integrator.NEARER, 0.5, np.inf):
        monkeypatch.setattr(integrator, "NEARER", nearer)
        runs.append(fs.simulate(net, data))
    for run in runs[1:]:
        _same(runs[0], run)


def test_cores_change_nothing_of_large_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    data = fs.datasets.three_points()
    net = fs.init.balanced(5000, 2, log10_scale=-3, seed=0)
    monkeypatch.setattr(blocks, "MEMBERS", 400)
    runs = []
    for cores in (1, 4):
        for module in (blocks, walkers):
            monkeypatch.setattr(module, "available_cores", lambda cores=cores: cores)
        runs.append(fs.simulate(net, data, max_steps=40))
    _same(*runs)


def _flow(m: int) -> Integrator:
    data = fs.datasets.three_points()
    net = fs.init.balanced(m, 2, log10_scale=-1, seed=0)
    cells = Cells.of(data, 0.0, "half_mean", net(data.X), 1e-12)
    flow = Integrator(cells, State.of(net, cells), 1e-12)
    flow.start()
    return flow


def test_a_step_that_has_been_taken_leaves_no_walkers_in_memory() -> None:
    flow = _flow(200)
    gc.disable()
    try:
        for _ in range(100):
            step = flow.plan(flow.expand(), np.inf)
            party = step.walked.party if step.walked is not None else None
            known = None if party is None else weakref.ref(party)
            del party
            flow.take(step, EventLog())
            if known is not None:
                assert known() is None
                return
    finally:
        gc.enable()
    pytest.fail("nothing has walked")


def test_what_is_kept_between_steps_is_what_would_be_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take, seen = Integrator.take, []

    def taken(flow: Integrator, *step: Any) -> None:
        flow.whole()
        take(flow, *step)
        whole, members = flow.whole(), flow.members
        again = flow.state if members is None else members.spread(flow.state)
        for item in dataclasses.fields(State):
            np.testing.assert_array_equal(getattr(whole, item.name), getattr(again, item.name))
        assert flow.whole() is whole
        seen.append((members is not None, flow.alive))
        assert flow.alive == np.count_nonzero(whole.fate == ALIVE)

    monkeypatch.setattr(Integrator, "take", taken)
    net = fs.init.balanced(100, 2, log10_scale=-3, seed=0)
    twice = fs.TwoLayerReLU(np.tile(net.a, 2), np.tile(net.W, (2, 1)))
    for start in (net, twice):
        solution = fs.simulate(start, fs.datasets.three_points(), t1=40.0)
        fs.resume(solution, t1=60.0)
    for united in (False, True):
        assert len({alive for one, alive in seen if one == united}) > 2  # some have died


def _moving(scale: float) -> Integrator:
    net = fs.init.balanced(700, 3, log10_scale=scale, seed=3)
    data = fs.Dataset(np.random.default_rng(1).standard_normal((4, 3)), [1.0, -2.0, 0.5, 1.5])
    cells = Cells.of(data, 0.1, "half_mean", np.zeros(4))
    flow = Integrator(cells, State.of(net, cells), 1e-12)
    flow.start()
    return flow


@pytest.mark.parametrize("members", [16, 100, 2**14])
@pytest.mark.parametrize("cores", [1, 3])
def test_what_an_expansion_sums_is_of_all_neurons(
    monkeypatch: pytest.MonkeyPatch, members: int, cores: int
) -> None:
    monkeypatch.setattr(blocks, "MEMBERS", members)
    monkeypatch.setattr(blocks, "available_cores", lambda: cores)
    flow = _moving(-1.0)
    flow.state.exponent[::3] += 5
    e, state = flow.expand(), flow.state
    assert np.max(np.diff(e.start)) > 100
    assert np.min(np.diff(e.start)) > 0
    np.testing.assert_array_equal(np.sort(e.members), np.flatnonzero(state.fate == ALIVE))
    np.testing.assert_array_equal(e.mass[e.members], state.mass[e.members])
    own, z = e.mass[e.members], state.z[e.members]
    assert e.size == pytest.approx(own @ squares(z), rel=1e-14)
    D = np.repeat(e.D[:, 0], np.diff(e.start), axis=0)
    along = np.sum(z[:, 1:] * D, axis=1)
    speed = own @ (along**2 + z[:, 0] ** 2 * squares(D))
    assert flow.speed(e) == pytest.approx(speed, rel=1e-13)
    outputs = np.maximum(z[:, 1:] @ flow.X, 0.1 * (z[:, 1:] @ flow.X))
    np.testing.assert_allclose(e.r[0], flow.cells.y - (own * z[:, 0]) @ outputs, rtol=1e-13)


def test_a_speed_of_which_moments_have_lost_the_digits_is_summed_over_members() -> None:
    angle = 0.3 + 1e-6 * np.random.default_rng(0).standard_normal(50)
    z = np.column_stack([np.full(50, 1e-7), np.cos(angle), np.sin(angle)])
    D = np.array([[[-np.sin(0.3), np.cos(0.3)]]])
    exact = np.sum(np.sin(angle - 0.3) ** 2 + 1e-14)
    speed = expansion.speed(
        np.array([0, 50]), np.arange(50), z, np.ones(50), (z.T @ z)[None], np.zeros(1, int), D
    )
    np.testing.assert_allclose(speed, exact, rtol=1e-8)


def test_groups_hold_the_neurons_of_one_cell() -> None:
    """However neurons move, die, and come back to cells that others have left."""
    rng = np.random.default_rng(0)
    cells, m = _flow(10).cells, 60
    groups = Groups(cells, m)
    codes, signs = np.ones((m, cells.n_hyperplanes), np.int8), np.ones(m, np.int64)
    fates = np.full(m, ALIVE)
    groups.place_all(np.arange(m), codes, signs, fates)
    for _ in range(50):
        some = rng.permutation(m)[: rng.integers(1, m)]
        codes[some] = rng.integers(-1, 2, (len(some), cells.n_hyperplanes))
        signs[some] = rng.choice([-1, 1], len(some))
        fates[some] = np.where(rng.random(len(some)) < 0.2, DEAD, ALIVE)
        groups.place_all(some, codes, signs, fates)
        active, start, members = groups.ordered()
        assert sorted(members.tolist()) == np.flatnonzero(fates == ALIVE).tolist()
        seen = set()
        for q, slot in enumerate(active):
            own = members[start[q] : start[q + 1]]
            assert np.all(groups.slot[own] == slot)
            assert np.all(np.diff(own) > 0)
            sliding = not np.all(groups.code[slot])
            assert np.all(codes[own] == groups.code[slot])
            assert np.all(groups.on[slot] == cells.sample_codes(groups.code[slot]))
            assert not sliding or len(set(signs[own])) == 1
            seen.add((groups.code[slot].tobytes(), signs[own[0]] if sliding else 0))
        assert len(seen) == len(active)
        alive = np.flatnonzero(fates == ALIVE)
        group, member = groups.places(alive)
        np.testing.assert_array_equal(members[start[group] + member], alive)
