"""The command line's engines and activations: ``--engine --solver --activation --beta``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import flowsim as fs
from flowsim import cli

RUN = ["run", "three-points", "--m", "4", "--scale", "0.1"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(cli.TRACEBACK, raising=False)
    return tmp_path


def start(seed: int = 0) -> fs.TwoLayerReLU:
    return fs.init.balanced(4, 2, 0.1, seed=seed)


def test_a_relu_network_runs_on_the_engine_that_is_asked_for(folder: Path, capsys: Capture) -> None:
    assert cli.main([*RUN, "--engine", "scipy", "--t1", "4", "--output", "out"]) == 0
    loaded = fs.load("out/run.nc")
    assert (loaded.settings["engine"], loaded.settings["solver"]) == ("scipy", "DOP853")
    assert "engine scipy DOP853" in capsys.readouterr().out
    names = ["directions.png", "function.png", "run.nc", "timeline.png"]
    assert sorted(path.name for path in (folder / "out").iterdir()) == names
    same = fs.simulate(start(), fs.datasets.three_points(), engine=fs.engines.Scipy(), t1=4.0)
    np.testing.assert_array_equal(loaded.history.loss, same.history.loss)
    exact = fs.simulate(start(), fs.datasets.three_points(), t1=4.0)
    assert loaded.loss(4.0) == pytest.approx(exact.loss(4.0), rel=1e-10)


def test_without_an_engine_relu_is_piecewise(capsys: Capture) -> None:
    for engine in ([], ["--engine", "piecewise"]):
        assert cli.main([*RUN, *engine, "--t1", "1", "--output", "out"]) == 0
        assert fs.load("out/run.nc").settings["engine"] == "piecewise"
        assert ", engine piecewise\n" in capsys.readouterr().out


def test_another_activation_makes_a_model_that_can_be_plotted_again(
    folder: Path, capsys: Capture
) -> None:
    chosen = ["--activation", "softplus", "--beta", "3", "--engine", "scipy", "--solver", "Radau"]
    again = ["--rtol", "1e-6", "--seed", "2", "--t1", "2", "--output", "out"]
    assert cli.main([*RUN, *chosen, *again]) == 0
    printed, errors = capsys.readouterr()
    assert printed.startswith(
        "three_points (n = 3, d = 2), TwoLayer(m=4, d=2, activation=softplus(beta=3))\n"
        "loss L½ = (1/2n) Σ r², rtol 1e-06, engine scipy Radau\n"
    )
    assert errors == ""
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["run.nc", "timeline.png"]
    loaded = fs.load("out/run.nc")
    model = fs.models.TwoLayer.of(start(2), "softplus", beta=3.0)
    np.testing.assert_array_equal(loaded.initial.a, model.a)
    assert loaded.initial.activation == model.activation
    assert np.isfinite(loaded.loss(1.0))
    assert cli.main(["plot", "out/run.nc", "--output", "pictures"]) == 0
    assert [path.name for path in (folder / "pictures").iterdir()] == ["timeline.png"]


def test_the_angle_within_which_neurons_go_on_as_one_is_an_option() -> None:
    for options in ([], ["--engine", "piecewise"]):
        assert cli.main([*RUN, "--t1", "1", "--coalesce", "1e-6", *options, "--output", "o"]) == 0
        assert fs.load("o/run.nc").settings["coalesce"] == 1e-6


def test_another_activation_runs_on_diffrax_by_default() -> None:
    assert cli.main([*RUN, "--activation", "tanh", "--t1", "1", "--output", "out"]) == 0
    settings = fs.load("out/run.nc").settings
    assert (settings["engine"], settings["solver"]) == ("diffrax", "auto")


def test_a_toml_file_has_these_options_too() -> None:
    Path("study.toml").write_text(
        '[data]\nsource = "three-points"\n'
        '[init]\na = [0.1]\nW = [[0.3, -0.2]]\nactivation = "gelu"\n'
        '[run]\nengine = "scipy"\nsolver = "RK45"\nrtol = 1e-6\nt1 = 1\n'
    )
    assert cli.main(["run", "study.toml", "--output", "out"]) == 0
    loaded = fs.load("out/run.nc")
    assert (loaded.settings["engine"], loaded.settings["solver"]) == ("scipy", "RK45")
    assert loaded.initial.activation.name == "gelu"
    np.testing.assert_array_equal(loaded.initial.W, [[0.3, -0.2]])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--activation gelu --engine piecewise",
         "Option --engine must be diffrax or scipy with --activation gelu, but is piecewise."),
        ("--solver Radau",
         "Option --solver must be given with --engine diffrax or scipy, but there is none."),
        ("--engine piecewise --solver DOP853",
         "Option --solver must not be given with --engine piecewise."),
        ("--coalesce 1e-6 --engine scipy",
         "Option --coalesce must be given with --engine piecewise only."),
        ("--coalesce 1e-6 --activation gelu",
         "Option --coalesce must be given with --activation relu only."),
        ("--coalesce 1",
         "Argument `coalesce` must be in [0, 0.01], but is 1.0."),
        ("--engine scipy --solver Tsit5",
         "Option --solver with --engine scipy must be one of Radau, BDF, LSODA, DOP853, RK45, "
         "RK23, but is 'Tsit5'."),
        ("--engine diffrax --solver Radau",
         "Option --solver with --engine diffrax must be one of auto, Tsit5, "),
        ("--activation gelu --negative-slope 0.1",
         "Option --negative-slope must be given with --activation relu only, but the activation "
         "is gelu."),
        ("--beta 3", "Option --beta must be given with --activation softplus only."),
        ("--activation gelu --beta 3",
         "Option --beta must be given with --activation softplus only."),
        ("--activation softplus --beta 0",
         "Argument `beta` must be positive and finite, but is 0."),
        ("--activation gelu --alignment theory",
         'Argument `alignment` must be "residual" or "growth" for a smooth model'),
        ("--engine euler", "Option --engine must be one of "),
        ("--activation sine", "Option --activation must be one of 'relu', 'gelu', "),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_together_are_one_sentence(
    folder: Path, capsys: Capture, options: str, sentence: str
) -> None:
    assert cli.main([*RUN, "--t1", "1", *options.split()]) == 2
    printed, errors = capsys.readouterr()
    assert printed == ""
    assert errors.startswith(f"flowsim: error: {sentence}")
    assert errors.count("\n") == 1
    assert "None'" not in errors
    assert list(folder.iterdir()) == []
