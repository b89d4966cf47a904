"""The optimization threshold: estimates, curves, the command, and what the flow does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import xarray as xr

import flowsim as fs
from flowsim.cli import main
from flowsim.config_threshold import ThresholdConfig, read_study
from flowsim.experiments import Sweep, Threshold, threshold
from flowsim.experiments.analysis import analyse, interpolates
from flowsim.experiments.estimates import (
    PowerLaw,
    ThresholdEstimate,
    binomial_interval,
    half_crossing,
)
from flowsim.experiments.records import FIELDS


def test_intervals_are_wilsons() -> None:
    k, n = np.array([0, 1, 5, 9, 10, 0]), np.array([10, 10, 10, 10, 10, 0])
    low, high = binomial_interval(k, n)
    for i in range(5):
        expected = scipy.stats.binomtest(k[i], n[i]).proportion_ci(method="wilson")
        assert (low[i], high[i]) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (low[5], high[5]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        ([1.0, 0.0, 0.0], np.sqrt(10 * 40)),
        ([1.0, 0.75, 0.25], np.sqrt(40 * 160)),
        ([0.8, 0.5, 0.0], 40.0),
        ([0.5, 0.5, 0.5], 40.0),
        ([0.9, 0.8, 0.7], np.inf),
        ([0.2, 0.1, 0.0], 0.0),
        ([0.5, 0.0, 0.0], 10.0),
    ],
)
def test_where_a_probability_passes_one_half(p: list[float], expected: float) -> None:
    assert half_crossing(np.array([10.0, 40.0, 160.0]), np.array(p)) == pytest.approx(expected)


def test_the_estimate_finds_the_threshold_of_many_runs() -> None:
    n = np.array([5, 10, 20, 40, 80, 160])
    p = 1.0 / (1.0 + (n / 30.0) ** 3)
    rng = np.random.default_rng(1)
    many = ThresholdEstimate.of(n, rng.binomial(4000, p), np.full(6, 4000))
    assert many.n_star == pytest.approx(30.0, rel=0.06)
    assert many.high / many.low < 1.1
    covered = 0
    for _ in range(40):
        few = ThresholdEstimate.of(n, rng.binomial(10, p), np.full(6, 10))
        covered += few.low <= many.n_star <= few.high
    assert 34 <= covered <= 40


def test_a_sharp_threshold_is_known_up_to_its_neighbours() -> None:
    """All runs interpolate at 20, none at 40: the interval does not shrink to a point."""
    found = ThresholdEstimate.of(np.array([40, 20]), np.array([0, 10]), np.array([10, 10]))
    assert found.n_star == pytest.approx(np.sqrt(800))
    assert 20 < found.low < 27 < 29 < found.high < 40
    none = ThresholdEstimate.of(np.array([5]), np.array([0]), np.array([0]))
    assert np.isnan(none.n_star)


def test_thresholds_grow_with_a_power_of_the_dimension() -> None:
    d, n = np.array([2, 4, 8]), np.array([4, 8, 16, 32, 64, 128, 256])
    estimates = [
        ThresholdEstimate.of(n, np.where(n < 3 * x**1.5, 50, 0), np.full(7, 50)) for x in d
    ]
    law = PowerLaw.of(d, estimates)
    assert law.exponent == pytest.approx(1.5, abs=0.2)
    assert law.low < law.exponent < law.high
    outside = ThresholdEstimate.of(n, np.zeros(7, int), np.full(7, 50))
    assert np.isnan(PowerLaw.of(d, [*estimates[:2], outside]).exponent)
    few = [ThresholdEstimate.of(n[1:3], np.array([1, 0]), np.array([1, 1]))] * 3
    assert (PowerLaw.of(d, few).low, PowerLaw.of(d, few).high) == (-np.inf, np.inf)
    assert np.isnan(PowerLaw.of(d[:1], estimates[:1]).exponent)


def records(**fields: np.ndarray) -> xr.Dataset:
    """Return made-up records over n and seed."""
    n, seeds = np.array([10, 20, 40]), np.arange(4)
    variables = {
        name: (("n", "seed"), np.full((3, 4), f.missing, object if f.kind is str else f.kind))
        for name, f in FIELDS.items()
    }
    variables |= {name: (("n", "seed"), values) for name, values in fields.items()}
    return xr.Dataset(variables, {"n": n, "seed": seeds, "noise": 0.5, "d": 2, "m": 5})


def test_runs_without_an_end_decide_nothing() -> None:
    rate = np.zeros((3, 4))
    loss = np.array([[1e-9, 1e-9, 1e-9, 1e-9], [1e-9, 1.0, np.nan, 1.0], [1.0, 1.0, 1.0, 1.0]])
    status = np.full((3, 4), "stationary", dtype=object)
    status[1, 2:] = ["error", "max_steps"]
    status[0, 0] = "max_steps"  # but it interpolates
    status[2, 3] = "t1"  # settled
    runs = records(
        train_loss=loss, label_loss=np.ones((3, 4)), status=status, gradient_norm=rate,
        t_end=np.full((3, 4), 100.0),
    )  # fmt: skip
    fits = interpolates(runs)
    assert fits.values[0].tolist() == [1.0] * 4
    assert fits.values[1, :2].tolist() == [1.0, 0.0]
    assert np.isnan(fits.values[1, 2:]).all()
    found = analyse(runs)
    assert found.probability.values.tolist() == [1.0, 0.5, 0.0]
    assert found.decided.values.tolist() == [4, 2, 4]
    assert found.n_star.item() == pytest.approx(20.0)
    assert found.train_loss.values[2] == 1.0
    runs.gradient_norm[2, 3] = 0.05  # t |grad|^2 = 0.25 L: it still falls
    assert analyse(runs).decided.values.tolist() == [4, 2, 3]


def test_runs_that_decide_nothing_are_told_of() -> None:
    found = threshold(n=[6, 40], d=2, m=6, noise=0.5, seed=range(2), max_steps=5, workers=0)
    text = found.table()
    assert "no run has been decided" in text
    assert "4 of 4 runs have decided nothing, and do not count as runs (max_steps 4)" in text
    found.plot()


def test_thresholds_outside_of_the_grid_are_said_to_be(tmp_path: Path) -> None:
    found = threshold(n=[150, 200], d=[2, 3], m=10, noise=1.0, seed=range(2), workers=0)
    text = found.table()
    assert "Half of the runs interpolate below n = 150, the smallest (95 %: below 150 to" in text
    assert "Fit: none, since some n* lies outside the numbers of samples." in text
    assert found.dataset is found.sweep.dataset
    assert found.simulate(n=150, d=2, seed=0).data.n == 150


def test_lazy_runs_beside_several_scales_come_back(tmp_path: Path) -> None:
    found = threshold(
        n=[2, 9], d=2, m=6, noise=0.5, seed=range(2), scale=[1e-3, 1e-2], lazy=10.0, workers=0,
        path=tmp_path / "a.nc",
    )  # fmt: skip
    again = Threshold.load(tmp_path / "a.nc")
    assert found.lazy is not None
    assert again.lazy is not None
    assert again.lazy.dataset.n.values.tolist() == [2]
    assert again.lazy.dataset.scale.item() == 10.0
    assert again.lazy.dataset.status.values.tolist() == found.lazy.dataset.status.values.tolist()
    small = {"n": [2], "d": 2, "m": 4, "noise": 0.5, "seed": [0], "workers": 0}
    assert threshold(**small, log10_scale=-300.0, lazy=10.0).lazy is not None


@pytest.mark.parametrize(
    "options",
    [
        {"max_steps": 3},  # nothing is decided
        {"activation": "gelu", "engine": "gd:0.1", "t1": 1.0},  # no extremal vectors
        {"d": 1, "m": 1, "n": [1], "noise": 0.0},
    ],
)
def test_pictures_of_little(options: dict, tmp_path: Path) -> None:
    found = threshold(**{"n": [4], "d": 2, "m": 6, "seed": [0], "workers": 0, **options})
    found.plot().savefig(tmp_path / "a.png")
    assert found.table()


def test_default_numbers_of_samples_suit_symmetric_inputs() -> None:
    from flowsim.experiments.threshold import _samples

    assert all(n % 2 == 0 for n in _samples(False, "symmetric"))
    assert _samples(True, None)[0] == 5


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Threshold:
    path = tmp_path_factory.mktemp("study") / "threshold.nc"
    return threshold(
        n=[2, 30, 300], d=2, noise=[0.3, 1.0], m=24, seed=range(3), lazy=8.0, workers=0,
        path=path, trajectories=True,
    )  # fmt: skip


def test_small_data_are_interpolated_and_large_data_are_not(small: Threshold) -> None:
    found = small.analysis
    assert found.probability.sel(n=2).values.tolist() == [1.0, 1.0]
    assert found.probability.sel(n=300).values.tolist() == [0.0, 0.0]
    assert ((found.n_star > 2) & (found.n_star < 300)).all()
    # The level of the noise, less what two fits of two parameters take of it.
    expected = 0.5 * found.noise**2 * (1.0 - 4.0 / 300.0)
    assert found.train_loss.sel(n=300).values == pytest.approx(expected.values, rel=0.15)
    ends = small.sweep.dataset.sel(n=300)
    assert (ends.ols_distance < 0.1 * ends.noise).all()


def test_not_to_interpolate_generalises_better(small: Threshold) -> None:
    at = small.analysis.sel(n=300)
    assert (at.excess_loss < 0.2 * at.ntk_excess).all()
    spread = small.analysis.extremal_spread
    assert (spread.sel(n=300) < 0.5 * spread.sel(n=2)).all()


def test_large_scales_interpolate_what_they_are_given(small: Threshold) -> None:
    assert small.lazy is not None
    assert small.lazy.dataset.n.values.tolist() == [2]
    assert (small.lazy.dataset.kind == "interpolation").all()
    assert small.lazy.dataset.init.item() == "mirrored"


def test_a_study_comes_back_from_its_file(small: Threshold, tmp_path: Path) -> None:
    small.save(tmp_path / "again.nc")
    again = Threshold.load(tmp_path / "again.nc")
    assert again.sweep.dataset.identical(small.sweep.dataset)
    assert again.analysis.identical(small.analysis)
    assert again.lazy is not None
    assert again.lazy.dataset.kind.sel(n=2).values.tolist() == [["interpolation"] * 3] * 2
    assert again.sweep.trajectories is not None
    assert again.table() == small.table()
    small.sweep.save(tmp_path / "sweep.nc")
    with pytest.raises(OSError, match="must name a netCDF4 file that can be read"):
        Threshold.load(tmp_path / "none.nc")
    with pytest.raises(ValueError, match="must name the file of a threshold's study"):
        Threshold.load(tmp_path / "sweep.nc")
    with xr.open_dataset(tmp_path / "again.nc") as plain:
        assert "train_loss" in plain


def test_the_table_and_the_picture_have_every_group(small: Threshold) -> None:
    text = small.table()
    assert text.count("Half of the runs interpolate at n* = ") == 2
    assert "d = 2, noise = 0.3, m = 24" in text
    assert f"{small.analysis.train_loss.sel(n=30, noise=1.0).item():.4g}" in text
    axes = small.plot().axes
    assert len(axes) == 8
    (line,) = [x for x in axes[2].lines if x.get_label() == "network"]
    assert line.get_ydata() == pytest.approx(small.analysis.excess_loss.sel(noise=0.3).values)


@pytest.mark.parametrize(
    ("wrong", "kind", "text"),
    [
        ({"n": 5}, TypeError, "`n` must be a sequence"),
        ({"seed": 5}, TypeError, "`seed` must be a sequence"),
        ({"interpolation_rtol": 2.0}, ValueError, "`interpolation_rtol` must be in"),
        ({"speed": 5.0}, TypeError, "threshold() got an argument that it does not have, 'speed'"),
        ({"lazy": 5.0, "m": 4}, ValueError, "`lazy` must be given with a number of samples"),
        ({"lazy": 5.0, "lazy_n": [7]}, ValueError, "`lazy_n` must be some of"),
        ({"noise": -1.0}, ValueError, "`noise` must be finite"),
        ({"lazy": -1.0, "n": [2]}, ValueError, "`scale` must be positive"),
    ],
)
def test_nonsense_is_refused(wrong: dict, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind) as caught:
        threshold(**{"n": [3, 4], "workers": 0, **wrong})
    assert text in str(caught.value)


def test_the_command_writes_its_files_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text(
        '[study]\nn = [3, 12]\nd = 2\nnoise = 0.5\nseeds = 2\nm = 6\nmax-steps = 100000\n',
        encoding="utf-8",
    )  # fmt: skip
    command = ["threshold", "study.toml", "--workers", "0", "--noise", "0.25"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("study-")
    assert "d = 2, noise = 0.25, m = 6" in printed
    assert {x.name for x in folder.iterdir()} == {
        "threshold.nc", "threshold.png", "threshold.shards",
    }  # fmt: skip
    first = Sweep.load(folder / "threshold.nc").dataset
    assert first.attrs["option_max_steps"] == 100000
    assert main(command) == 0  # all is there, in the same folder
    assert Sweep.load(folder / "threshold.nc").dataset.seconds.identical(first.seconds)
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[study]\nsize = 3\n", "'size' is a key there"),
        ("[study]\nn = 2.5\n", "must be a whole number"),
        ("[study]\nn = [2, 'a']\n", "must be a whole number"),
        ("[run]\nn = 3\n", "must have only the tables study"),
        ("[study]\nquick = 1\n", "must be true or false"),
        ("[study", "is not valid TOML"),
    ],
)
def test_studies_are_checked(
    tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "study.toml"
    path.write_text(text, encoding="utf-8")
    assert main(["threshold", str(path), "--workers", "0"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_studys_folder_is_named_after_what_it_is(tmp_path: Path) -> None:
    one = ThresholdConfig(n=(3, 4))
    assert one.label == ThresholdConfig(n=(3, 4), workers=2, shard=3).label
    assert one.label != ThresholdConfig(n=(3, 5)).label
    path = tmp_path / "s.toml"
    path.write_text("[study]\nn = 3\nscale = [0.1, 1e-6]\n", encoding="utf-8")
    study = read_study(path)
    assert (study.n, study.scale) == ((3,), (0.1, 1e-6))
    assert ThresholdConfig(m=(5,), d=(2, 3)).arguments() == {"m": 5, "d": [2, 3]}
    assert ThresholdConfig(workers=0, t1=3.0).arguments() == {"workers": 0, "t1": 3.0}


def test_public_names_are_there() -> None:
    assert fs.threshold is threshold
    assert fs.Threshold is Threshold


def test_files_without_proofs_are_read(tmp_path: Path) -> None:
    """Studies of before there were certificates."""
    from flowsim.files import read_xarray, write_xarray

    fs.sweep(n=3, d=2, m=3, seed=range(2), path=tmp_path / "new.nc", workers=0)
    tree = read_xarray(tmp_path / "new.nc")
    assert np.all(tree.dataset.proved.values >= 0)
    tree.dataset = tree.to_dataset().drop_vars("proved")
    write_xarray(tree, tmp_path / "old.nc")
    old = Sweep.load(tmp_path / "old.nc")
    assert np.all(old.dataset.proved.values == -1)
