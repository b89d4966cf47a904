"""Sweeps: records of runs, whoever makes them, and what is kept of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import flowsim as fs
from flowsim.experiments import Point, StudyProgress, Sweep, sweep
from flowsim.experiments import records as record_file
from flowsim.experiments.pool import shards_of
from flowsim.experiments.records import COST, FIELDS
from flowsim.experiments.words import engine_of

SMALL = {"n": [3, 8], "seed": range(2), "d": 2, "m": 10}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return sweep(**SMALL, workers=0, trajectories=True)


def science(found: Sweep) -> xr.Dataset:
    """Return what must not depend on who has made the runs."""
    dataset = found.dataset.drop_vars(COST)
    dataset.attrs = {k: v for k, v in dataset.attrs.items() if k.startswith("option")}
    return dataset


class StoppedError(Exception):
    """What ends a study in the middle."""


def stop_after(runs: int):
    def look(progress: StudyProgress) -> None:
        if progress.done >= runs:
            raise StoppedError

    return look


def test_axes_are_dimensions_and_values_are_coordinates(small: Sweep) -> None:
    dataset = small.dataset
    assert dict(dataset.sizes) == {"n": 2, "seed": 2}
    assert dataset.n.values.tolist() == [3, 8]
    assert dataset.m.item() == 10
    assert dataset.scale.item() == 1e-6
    assert set(dataset.data_vars) == set(FIELDS)


def test_a_record_is_what_simulate_says(small: Sweep) -> None:
    data = fs.datasets.linear_teacher(8, 2, 0.5, 1)
    net = fs.init.balanced(10, 2, 1e-6, 2**31 + 1)
    sol = fs.simulate(net, data, end="rest")
    row = small.dataset.sel(n=8, seed=1)
    assert row.train_loss.item() == sol.final.loss
    assert row.kind.item() == sol.final.kind
    assert row.proved.item() == sol.final.certificate.proved
    assert row.status.item() == sol.status
    assert row.steps.item() == sol.steps
    assert row.events.item() == len(sol.events)
    assert row.alignment_end.item() == sol.alignment.end_time
    assert row.extremal_count.item() == len(sol.alignment.norm)
    assert row.excess_loss.item() == fs.experiments.excess_loss(sol.final.network, data)
    assert row.test_loss.item() == row.excess_loss.item() + 0.125
    assert small.point(n=8, seed=1, m=10) == small.point(n=8, seed=1)
    again = small.simulate(n=8, seed=1)
    assert again.final.loss == sol.final.loss


def test_a_network_shares_no_random_numbers_with_its_data() -> None:
    point = Point(n=6, d=3, m=6, seed=4)
    X = fs.datasets.linear_teacher(6, 3, seed=4).X
    W = point.network().W
    cosines = np.abs(np.sum(W * X, axis=1)) / np.linalg.norm(W, axis=1) / np.linalg.norm(X, axis=1)
    assert np.all(cosines < 0.999)


def test_trajectories_are_a_contiguous_ragged_array(small: Sweep) -> None:
    rows = small.trajectories
    assert rows is not None
    assert rows.row_size.attrs["sample_dimension"] == "obs"
    assert rows.sizes["obs"] == int(rows.row_size.sum())
    ends = np.cumsum(rows.row_size.values)
    losses = small.dataset.train_loss.values.ravel()
    assert rows.loss.values[ends - 1] == pytest.approx(losses, rel=1e-12, abs=1e-30)
    assert rows.t.values[[0, *ends[:-1]]].tolist() == [0.0] * 4


def test_workers_give_the_same_bits(small: Sweep, tmp_path: Path) -> None:
    found = sweep(**SMALL, workers=2, trajectories=True, path=tmp_path / "two.nc")
    assert science(found).identical(science(small))
    assert found.trajectories is not None
    assert small.trajectories is not None
    assert found.trajectories.identical(small.trajectories)


def test_files_are_read_by_xarray_and_by_load(small: Sweep, tmp_path: Path) -> None:
    small.save(tmp_path / "study.nc")
    with xr.open_dataset(tmp_path / "study.nc") as plain:
        assert plain.train_loss.sel(n=3).values.tolist() == (
            small.dataset.train_loss.sel(n=3).values.tolist()
        )
    again = Sweep.load(tmp_path / "study.nc")
    assert again.dataset.identical(small.dataset)
    assert again.trajectories is not None
    assert small.trajectories is not None
    assert again.trajectories.identical(small.trajectories)
    assert again.point(n=3, seed=1) == small.point(n=3, seed=1)
    sol = again.simulate(n=3, seed=1)
    assert sol.final.loss == small.dataset.train_loss.sel(n=3, seed=1).item()


def test_a_study_goes_on_where_it_was_cut_off(
    small: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Point] = []
    real = record_file.run_point

    def counted(point: Point, recipe) -> dict:
        made.append(point)
        return real(point, recipe)

    monkeypatch.setattr(record_file, "run_point", counted)
    where = {"path": tmp_path / "study.nc", "workers": 0, "trajectories": True}
    with pytest.raises(StoppedError):
        sweep(**SMALL, **where, progress=stop_after(3))
    assert len(made) == 3
    assert not (tmp_path / "study.nc").exists()
    found = sweep(**SMALL, **where)
    assert len(made) == 4
    assert science(found).identical(science(small))
    # A larger grid makes only what is new, in any shards; another option makes all again.
    larger = {**SMALL, "seed": range(3)}
    assert sweep(**larger, **where, shard=5).dataset.sizes["seed"] == 3
    assert len(made) == 6
    sweep(**SMALL, **where, rtol=1e-9)
    assert len(made) == 10


def test_progress_counts_runs_and_expects_an_end() -> None:
    seen: list[StudyProgress] = []
    sweep(n=3, d=2, m=4, seed=range(3), workers=0, progress=seen.append)
    assert [look.done for look in seen] == [0, 1, 2, 3]
    assert seen[-1].part == 1.0
    assert seen[-1].left == 0.0
    assert np.isnan(seen[0].left)


def test_long_runs_come_first() -> None:
    points = [Point(n=n, m=10) for n in (5, 500, 50)]
    assert [[p.n for p in shard] for shard in shards_of(points, 2)] == [[500, 50], [5]]


def half_space_data(n: int, d: int, noise: float, seed: int, inputs: str) -> fs.Dataset:
    return fs.datasets.half_spaces(n // 2, seed, noise)


def test_the_flow_ends_at_the_half_spaces_fits_for_many_samples() -> None:
    """The linear-data theorem: from small weights and many samples exactly, from few often not."""
    found = sweep(
        n=[8, 40, 200], d=2, noise=[0.3, 1.0, 2.0], m=100, scale=1e-4, seed=range(4),
        data=half_space_data, workers=0,
    ).dataset  # fmt: skip
    gap = found.limit_loss / found.ols_loss - 1.0
    exact = [gap.sel(n=200), gap.sel(n=40, noise=0.3, seed=0)]
    assert all(np.all(np.abs(part) < 1e-10) for part in exact)
    assert found.ols_distance.sel(n=200).max() < 2e-9
    assert (gap.sel(n=8, noise=[1.0, 2.0]) < -1e-3).sum() >= 4
    # Antipodal data cannot be interpolated, so that no end is.
    assert not (found.kind == "interpolation").any()
    assert (found.kind.sel(n=200) == "spurious_local_minimum").all()


def test_engines_are_words_or_are_named() -> None:
    named = {"fine": fs.engines.Descent("gd", 0.05, patterns=False)}
    found = sweep(n=4, d=2, m=4, scale=0.3, seed=0, engine=named, t1=20.0, workers=0)
    row = found.dataset.isel(engine=0)
    assert row.engine.item() == "fine"
    assert row.status.item() == "t1"
    word = sweep(n=4, d=2, m=4, scale=0.3, seed=0, engine="gd:0.05", t1=20.0, workers=0)
    assert word.dataset.train_loss.item() == row.train_loss.item()
    flow = sweep(n=4, d=2, m=4, scale=0.3, seed=0, engine="scipy:DOP853", t1=20.0, workers=0)
    assert flow.dataset.train_loss.item() == pytest.approx(row.train_loss.item(), rel=0.1)
    assert engine_of("diffrax:Kvaerno5") == fs.engines.Diffrax("Kvaerno5")


def test_smooth_activations_run_on_general_engines() -> None:
    found = sweep(
        n=5, d=2, m=4, scale=0.3, seed=0, activation="gelu", engine="diffrax", t1=5.0, workers=0
    )
    assert found.dataset.status.item() == "t1"
    assert np.isfinite(found.dataset.excess_loss.item())
    assert np.isfinite(found.dataset.plus_error.item())


def own_data(n: int, d: int, noise: float, seed: int, inputs: str) -> fs.Dataset:
    return fs.datasets.linear_teacher(n, d, noise, seed, inputs)


def test_a_loaded_study_makes_the_same_runs_or_none(tmp_path: Path) -> None:
    short: dict[str, Any] = {"n": 6, "d": 2, "m": 5, "seed": 0, "workers": 0}
    sweep(**short, t1=3.0, rtol=1e-9).save(tmp_path / "a.nc")
    sol = Sweep.load(tmp_path / "a.nc").simulate()
    assert (sol.t_end, sol.settings["rtol"]) == (3.0, 1e-9)
    sweep(**short, t1=3.0, data=own_data).save(tmp_path / "b.nc")
    with pytest.raises(ValueError, match="must have its own functions and engines"):
        Sweep.load(tmp_path / "b.nc").simulate()


def without_noise(data: fs.Dataset) -> fs.Dataset:
    X = np.eye(data.d)
    assert data.teacher is not None
    return fs.Dataset(X, X @ data.teacher)


def test_a_test_set_of_ones_own() -> None:
    found = sweep(n=5, d=2, m=4, seed=0, test=without_noise, workers=0)
    net = found.simulate().final.network
    expected = 0.5 * np.mean(np.square(net(np.eye(2)) - [1.0, 0.0]))
    assert found.dataset.excess_loss.item() == pytest.approx(expected, rel=1e-12)


def test_other_peoples_clusters_make_the_runs(small: Sweep) -> None:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        found = sweep(**SMALL, client=client, trajectories=True)
    assert science(found).identical(science(small))


def test_a_named_engine_is_the_one_that_was_named() -> None:
    net = {"n": 4, "d": 2, "m": 4, "scale": 1e-2, "seed": 0, "t1": 5.0, "workers": 0}
    named: Any = {"piecewise": fs.engines.Scipy("DOP853")}
    steps = [sweep(**{**net, "engine": e}).dataset.steps.values.item() for e in (named, "scipy")]
    assert steps[0] == steps[1]


def test_runs_are_found_by_the_values_of_their_axes(small: Sweep) -> None:
    assert small.point(n=3, seed=0) == Point(n=3, d=2, m=10, seed=0)
    with pytest.raises(KeyError, match="`seed` must be given"):
        small.point(n=3)
    with pytest.raises(KeyError, match="`n` must be of the study"):
        small.point(n=4, seed=0)
    rows = small.trajectory(n=8, seed=1)
    assert rows.loss.values[-1] == small.dataset.train_loss.sel(n=8, seed=1).item()
    assert rows.t.values[0] == 0.0
