"""Batches: runs whose steps are taken together are the runs that each would be alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from run_comparison import compare_runs
from support import Reference, pattern_rows

import flowsim as fs
from flowsim.engines import Diffrax, Scipy
from flowsim.engines.frozen import FrozenProblem

REFERENCE = Reference("precise_slides")
DATA = REFERENCE.data


@pytest.fixture(scope="module")
def nets() -> list[fs.TwoLayerReLU]:
    kinds = ("balanced", "dominated", "unbalanced")
    drawn = [fs.init.get(kind)(6, 3, 1e-3, seed=seed) for seed, kind in enumerate(kinds)]
    return [*drawn, fs.init.balanced(6, 3, 1e-100, seed=5), REFERENCE.start]


@pytest.mark.parametrize("solver", ["Tsit5", "auto"])
def test_a_batch_is_its_runs_alone_in_their_order(nets, solver: str):
    engine = Diffrax(solver)
    together = fs.simulate_batch(nets, DATA, engine=engine, t1=40.0)
    assert len(together) == len(nets)
    for net, sol in zip(nets, together, strict=True):
        alone = fs.simulate(net, DATA, engine=engine, t1=40.0)
        assert sol.initial is net
        assert sol.status == alone.status == "t1"
        comparison = compare_runs(alone, sol, samples=20)
        assert comparison.agrees(), comparison
        assert comparison.time < 1e-9
        assert comparison.state < 1e-9
        assert abs(sol.steps - alone.steps) <= 0.05 * alone.steps
    assert REFERENCE.time_error(together[-1]) < 1e-9
    assert REFERENCE.end_error(together[-1]) < 1e-9


def test_runs_of_a_batch_have_their_own_ends(nets):
    """One rests at once, one at a terminal event, the others at their own times."""
    zero = fs.Dataset(DATA.X, -np.abs(DATA.y))  # neurons with a > 0 can only shrink
    pushed = fs.TwoLayerReLU(np.abs(nets[0].a), nets[0].W)
    dead = fs.TwoLayerReLU(np.zeros(6), np.zeros((6, 3)))

    def grown(t: float, net: fs.TwoLayerReLU) -> float:
        return float(np.max(np.abs(net.a))) - 0.1

    setattr(grown, "terminal", True)  # noqa: B010
    chosen = [nets[0], dead, pushed]
    options: dict[str, Any] = {"events": [grown], "t1": 12.0, "stationary_rtol": 0.0}
    engine = Diffrax("Tsit5")
    together = fs.simulate_batch(chosen, zero, engine=engine, **options)
    alone = [fs.simulate(net, zero, engine=engine, **options) for net in chosen]
    assert [sol.status for sol in together] == [sol.status for sol in alone]
    assert [sol.t_end for sol in together] == pytest.approx([s.t_end for s in alone], rel=1e-9)
    assert together[0].status == "event"
    assert together[1].steps <= 2
    assert together[2].t_end == 12.0


def test_networks_of_several_shapes_go_together(nets):
    small = fs.TwoLayerReLU(nets[0].a[:5], nets[0].W[:5])
    chosen = [nets[0], small, nets[1]]
    together = fs.simulate_batch(chosen, DATA, engine=Diffrax("Tsit5"), t1=5.0)
    for net, sol in zip(chosen, together, strict=True):
        alone = fs.simulate(net, DATA, t1=5.0)
        assert [row[1:] for row in pattern_rows(sol)] == [row[1:] for row in pattern_rows(alone)]
        assert sol.final.network.m == net.m


def test_another_batch_of_the_same_size_compiles_nothing(nets, monkeypatch):
    """The field is called when it is traced, and never by compiled code."""
    engine = Diffrax("Tsit5")
    fs.simulate_batch(nets, DATA, engine=engine, t1=40.0)
    traced = 0
    field = FrozenProblem.field

    def counted(self: FrozenProblem, t: Any, y: Any, args: Any) -> Any:
        nonlocal traced
        traced += self.traceable
        return field(self, t, y, args)

    monkeypatch.setattr(FrozenProblem, "field", counted)
    others = [fs.init.balanced(6, 3, 1e-2, seed=seed) for seed in range(10, 15)]
    fs.simulate_batch(others, fs.Dataset(DATA.X, 2.0 * DATA.y), engine=engine, t1=30.0)
    fs.simulate_batch(nets, DATA, engine=engine, t1=35.0, rtol=1e-9)
    assert traced == 0
    fs.simulate_batch(nets[:2], DATA, engine=Diffrax("Dopri5"), t1=1e-3)
    assert traced > 0  # so it does count


def test_a_failed_run_of_a_batch_is_raised_once_all_have_ended(nets):
    with pytest.raises(fs.RunError) as caught:
        fs.simulate_batch(nets, DATA, engine=Diffrax("Tsit5"), max_steps=7, throw=True)
    assert caught.value.solution.steps == 7
    stopped = fs.simulate_batch(nets, DATA, engine=Diffrax("Tsit5"), max_steps=7)
    assert {sol.status for sol in stopped} == {"max_steps"}


def test_an_empty_batch_has_no_runs_and_another_engine_is_refused(nets):
    assert fs.simulate_batch([], DATA) == []
    wrong: Any = Scipy()
    with pytest.raises(TypeError, match="Argument `engine` must be a Diffrax for a batch, but"):
        fs.simulate_batch(nets, DATA, engine=wrong)


def test_bad_arguments_of_a_batch_are_named() -> None:
    data, net = fs.datasets.three_points(), fs.init.balanced(m=2, d=2, scale=1e-2, seed=0)
    with pytest.raises(TypeError, match="`nets` must be a list"):
        fs.simulate_batch(net, data)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="'bogus'"):
        fs.simulate_batch([net], data, bogus=1)
    with pytest.raises(TypeError, match="`engine` must be a Diffrax"):
        fs.simulate_batch([net], data, engine=fs.engines.Scipy())  # type: ignore[arg-type]
