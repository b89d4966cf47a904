"""Saved runs of models: what flowsim can build comes back whole, the rest as its parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest
from model_runs import MODELS, SCIPY, diagonal, diagonal_data, eqx_mlp, run, wells

import flowsim as fs
from flowsim import schema
from flowsim.models import MLP, Activation, TwoLayer
from flowsim.schema_models import SavedModel
from flowsim.solution import History, ModelStates

#: Those that flowsim builds again from their files, and those whose code it must be given.
BUILT = [name for name in MODELS if name not in ("equinox", "equinox-2", "loss")]
GIVEN = ["equinox", "equinox-2", "loss"]


def saved(name: str, folder: Path, model: Any = None) -> tuple[fs.Solution, fs.Solution]:
    """Return a run and what comes back from its file."""
    sol = run(name)
    sol.save(folder / "run.nc")
    return sol, fs.load(folder / "run.nc", model)


def assert_equal_trees(one: Any, other: Any) -> None:
    first, structure = jax.tree.flatten(one)
    second, again = jax.tree.flatten(other)
    assert structure == again
    for a, b in zip(first, second, strict=True):
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        else:
            assert a is b


def assert_equal_tables(one: Any, other: Any, cls: type) -> None:
    assert type(one) is type(other) is cls
    for name, value in vars(one).items():
        assert getattr(other, name).dtype == value.dtype, name
        np.testing.assert_array_equal(getattr(other, name), value, err_msg=name)


def assert_same_run(sol: fs.Solution, loaded: fs.Solution) -> None:
    """Compare everything but the models, bit by bit."""
    assert loaded.settings == sol.settings
    assert (loaded.status, loaded.message) == (sol.status, sol.message)
    assert (loaded.audit, loaded.provenance) == (sol.audit, sol.provenance)
    assert_equal_tables(sol.history, loaded.history, History)
    assert_equal_tables(sol.states, loaded.states, ModelStates)
    assert_equal_tables(sol.events, loaded.events, type(sol.events))
    for part in ("final", "alignment"):
        for name, value in vars(getattr(sol, part)).items():
            if name not in ("network", "certificate", "_cells"):
                np.testing.assert_equal(getattr(getattr(loaded, part), name), value, name)
    if sol.data is None:
        assert loaded.data is None
    else:
        np.testing.assert_array_equal(loaded.data.X, sol.data.X)
        np.testing.assert_array_equal(loaded.data.y, sol.data.y)


def assert_same_dense_output(sol: fs.Solution, loaded: fs.Solution) -> None:
    for part in (0.0, 0.123, 0.77, 1.0):
        t = part * sol.t_end
        assert loaded.loss(t) == sol.loss(t)
        assert_equal_trees(sol.network(t), loaded.network(t))
        if sol.data is not None:
            np.testing.assert_array_equal(loaded.residual(t), sol.residual(t))


@pytest.mark.parametrize("name", BUILT)
def test_a_run_of_a_built_in_model_comes_back_whole(name: str, tmp_path: Path):
    sol, loaded = saved(name, tmp_path)
    assert_same_run(sol, loaded)
    assert_equal_trees(sol.initial, loaded.initial)
    assert_equal_trees(sol.final.network, loaded.final.network)
    assert_same_dense_output(sol, loaded)
    assert repr(loaded) == repr(sol)
    assert loaded.summary() == sol.summary()


@pytest.mark.parametrize("name", GIVEN)
def test_a_run_whose_code_is_given_comes_back_whole(name: str, tmp_path: Path):
    sol, loaded = saved(name, tmp_path, model=MODELS[name]()[0])
    assert_same_run(sol, loaded)
    assert_equal_trees(sol.final.network, loaded.final.network)
    assert_same_dense_output(sol, loaded)
    assert loaded.summary() == sol.summary()


def test_the_given_model_lends_its_code_but_not_its_parameters(tmp_path: Path):
    other = eqx.nn.MLP(2, "scalar", 3, 1, activation=jax.nn.tanh, key=jax.random.key(9))
    sol, loaded = saved("equinox", tmp_path, model=other)
    assert_same_dense_output(sol, loaded)
    moved = (wells, {"x": np.array([5.0, 5.0])})
    sol, loaded = saved("loss", tmp_path, model=moved)
    assert_same_dense_output(sol, loaded)


@pytest.mark.parametrize("name", GIVEN)
def test_without_its_code_a_run_has_its_parameters_by_name_and_no_dense_output(
    name: str, tmp_path: Path
):
    sol, loaded = saved(name, tmp_path)
    assert_same_run(sol, loaded)
    assert isinstance(loaded.initial, SavedModel)
    assert loaded.initial.kind == ("loss function" if name == "loss" else "custom")
    names = ["x"] if name == "loss" else [
        "layers_0__weight", "layers_0__bias", "layers_1__weight", "layers_1__bias",
    ]  # fmt: skip
    assert list(loaded.initial.parameters) == names
    with pytest.raises(TypeError, match=r"flowsim\.load\(path, model=\.\.\.\)"):
        loaded.network(0.0)
    assert "flowsim.load(path, model=...)" in repr(loaded.initial)
    assert "SavedModel" in loaded.summary()
    loaded.save(tmp_path / "again.nc")  # nothing is lost by it
    assert fs.load(tmp_path / "again.nc").initial.kind == loaded.initial.kind
    again = fs.load(tmp_path / "again.nc", MODELS[name]()[0])
    assert_same_dense_output(sol, again)


def test_a_model_of_other_shapes_is_refused(tmp_path: Path):
    sol = run("equinox")
    sol.save(tmp_path / "run.nc")
    for wrong in (eqx_mlp(2), eqx.nn.MLP(2, "scalar", 4, 1, key=jax.random.key(0))):
        with pytest.raises(ValueError, match=r"^Argument `model` must have parameters of the"):
            fs.load(tmp_path / "run.nc", model=wrong)


@pytest.mark.parametrize(
    "model",
    [
        TwoLayer([[0.1, 0.2]], [[0.3, 0.4]], "softplus", beta=7.5),
        TwoLayer([[0.1, 0.2]], [[0.3, 0.4]], "leaky_relu", negative_slope=0.25),
        MLP([[[0.1, 0.2]], [[0.3], [0.4]]], [None, [0.5, -0.5]], "gelu_tanh"),
        MLP([[[0.1, 0.2]]] * 1 + [[[0.3]]] * 10 + [[[0.3], [0.1]]], None, "tanh"),
    ],
    ids=["beta", "slope", "one-bias", "twelve-layers"],
)
def test_activations_biases_and_many_layers_are_built_again(model: Any):
    data = fs.Dataset([[1.0, 0.5]], [[0.1, 0.2]])
    sol = fs.simulate(model, data, engine=SCIPY, t1=1e-3, rtol=1e-3)
    again = schema.solution_of(schema.groups_of(sol))
    assert_equal_trees(sol.initial, again.initial)
    assert isinstance(again.initial.activation, Activation)


def test_exact_labels_of_several_outputs_survive(tmp_path: Path):
    data = fs.Dataset([["1/3", 1], ["-0.1", 1]], [["0.7", "-2/7"], [1, 2]])
    model = TwoLayer([[0.1, 0.2]], [[0.3, 0.4]], "tanh")
    fs.simulate(model, data, engine=SCIPY, t1=1e-3, rtol=1e-3).save(tmp_path / "run.nc")
    loaded = fs.load(tmp_path / "run.nc").data
    assert loaded.rational
    assert loaded.y_exact == data.y_exact
    np.testing.assert_array_equal(loaded.y, data.y)


def test_a_thinned_run_stays_thinned(tmp_path: Path):
    sol = fs.simulate(diagonal(1e-8), diagonal_data(), engine=SCIPY, state_bytes=96 * 20)
    sol.save(tmp_path / "run.nc")
    loaded = fs.load(tmp_path / "run.nc")
    assert_same_run(sol, loaded)
    with pytest.raises(ValueError, match="raise state_bytes"):
        loaded.loss(0.5 * float(sol.states.t[0] + sol.states.t[1]))


@pytest.mark.parametrize("name", ["softplus-2", "loss"])
def test_xarray_opens_the_file_as_what_to_xarray_returns(name: str, tmp_path: Path):
    xarray = pytest.importorskip("xarray")
    sol, _ = saved(name, tmp_path)
    with xarray.open_datatree(tmp_path / "run.nc", engine="h5netcdf") as opened:
        assert opened.load().identical(sol.to_xarray())
        assert ("data" in opened) == (name != "loss")
        kind = "loss function" if name == "loss" else "TwoLayer"
        assert opened["initial"].attrs["kind"] == kind
        for group in opened.subtree:
            for key, variable in group.variables.items():
                assert variable.attrs["long_name"], f"{group.path}/{key}"


def test_a_file_of_format_2_still_loads(tmp_path: Path):
    import h5py

    sol = fs.simulate(fs.init.balanced(5, 2, 1e-2, seed=0), fs.datasets.three_points(), t1=5.0)
    sol.save(tmp_path / "run.nc")
    with h5py.File(tmp_path / "run.nc", "r+") as file:
        assert file.attrs["flowsim_format"] == schema.FORMAT == 4
        file.attrs["flowsim_format"] = 2
        for name in ("lowest_curvature", "highest_curvature"):
            del file["final"][name]  # pyright: ignore
        del file.attrs["settings_solver"]
    loaded = fs.load(tmp_path / "run.nc")
    assert np.isnan(loaded.final.lowest_curvature)
    assert np.isnan(loaded.final.highest_curvature)
    assert loaded.loss(2.5) == sol.loss(2.5)
    assert "engine piecewise" in loaded.summary()
