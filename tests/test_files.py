"""Saved runs: they come back whole, people can open them, and no failure loses a file."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowsim as fs
from flowsim import files, schema
from flowsim.certificates.says import to_text
from flowsim.events import EVENT_KINDS, Events
from flowsim.network import TwoLayerReLU
from flowsim.solution import Alignment, Final, History, States


@pytest.fixture(scope="module")
def solution() -> fs.Solution:
    return fs.simulate(fs.init.balanced(20, 2, 1e-3, seed=0), fs.datasets.three_points())


@pytest.fixture(scope="module")
def saved(solution: fs.Solution, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "run.nc"
    solution.save(path)
    return path


def assert_same(first: Any, second: Any, where: str = "solution") -> None:
    """Compare two results bit by bit, through all dataclasses that they are made of."""
    assert type(first) is type(second), where
    if isinstance(first, np.ndarray):
        assert first.dtype == second.dtype, where
        np.testing.assert_array_equal(first, second, err_msg=where)
    elif isinstance(first, fs.Dataset):
        for name in ("X", "y", "X_exact", "y_exact", "rational", "teacher", "name", "noise"):
            np.testing.assert_equal(getattr(first, name), getattr(second, name), where)
        assert first.inputs == second.inputs
    elif type(first) is tuple:
        assert len(first) == len(second), where
        for i, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{where}[{i}]")
    elif dataclasses.is_dataclass(first):
        for item in dataclasses.fields(first):
            name = item.name
            if name == "certificate":  # files hold what it says, not its claim
                assert to_text(getattr(first, name)) == to_text(getattr(second, name)), where
                continue
            assert_same(getattr(first, name), getattr(second, name), f"{where}.{name}")
    else:
        np.testing.assert_equal(first, second, where)


# -- round trips -------------------------------------------------------------------------------


def test_a_saved_run_comes_back_bit_by_bit(solution: fs.Solution, saved: Path) -> None:
    assert_same(solution, fs.load(saved))


def test_dense_output_works_after_loading(solution: fs.Solution, saved: Path) -> None:
    loaded = fs.load(saved)
    for part in (0.0, 0.013, 0.37, 1.0):
        t = part * solution.t_end
        assert_same(solution.network(t), loaded.network(t))


@pytest.mark.parametrize(
    ("net", "data", "settings"),
    [
        pytest.param(
            fs.init.unbalanced(6, 2, 0.5, seed=1),
            fs.datasets.five_points(),
            {"t1": 20.0, "loss": "mean"},
            id="sign-changes-mean-loss",
        ),
        pytest.param(
            fs.init.balanced(5, 2, log10_scale=-3000, seed=1),
            fs.datasets.orthogonal_pair(),
            {"max_steps": 40},
            id="beyond-float64-scale",
        ),
        pytest.param(
            fs.init.balanced(6, 3, 1e-2, seed=1, negative_slope=0.1),
            fs.datasets.linear_teacher(8, 3, noise=0.5, seed=2),
            {"max_steps": 40},
            id="floats-teacher-leaky",
        ),
        pytest.param(
            fs.init.from_arrays([1e-3, 0.0], [[0.0, -1e-3], [0.0, 0.0]]),
            fs.datasets.three_points(),
            {},
            id="nothing-moves",
        ),
        pytest.param(
            fs.init.balanced(4, 2, 1e-2, seed=0),
            fs.datasets.xor(),
            {"t1": 2.0, "residual": "frozen"},
            id="frozen",
        ),
    ],
)
def test_every_kind_of_run_comes_back(
    net: fs.TwoLayerReLU, data: fs.Dataset, settings: dict[str, Any], tmp_path: Path
) -> None:
    solution = fs.simulate(net, data, **settings)
    solution.save(tmp_path / "run.nc")
    assert_same(solution, fs.load(tmp_path / "run.nc"))


def test_exact_rationals_survive_and_floats_do_not_become_rational(tmp_path: Path) -> None:
    net = fs.init.balanced(3, 2, 1e-2, seed=0)
    exact = fs.Dataset([["1/3", 1], ["-0.1", 1]], ["0.7", "-2/7"])
    fs.simulate(net, exact, max_steps=3).save(tmp_path / "exact.nc")
    loaded = fs.load(tmp_path / "exact.nc").data
    assert loaded.rational
    assert loaded.X_exact[0][0] == Fraction(1, 3)
    assert loaded.y_exact == (Fraction(7, 10), Fraction(-2, 7))
    fs.simulate(net, fs.Dataset(exact.X, exact.y), max_steps=3).save(tmp_path / "float.nc")
    assert not fs.load(tmp_path / "float.nc").data.rational


def test_no_field_of_a_solution_is_left_out() -> None:
    tables = {Events: schema.EVENTS, History: schema.HISTORY, States: schema.STATES}
    for cls, specs in tables.items():
        assert [item.name for item in dataclasses.fields(cls)] == list(specs)
    texts = {"definition", "network", "kind", "reason", "limit_loss_exact", "certificate"}
    again = {"_cells"}  # made again from the data
    for cls, specs in ((Alignment, schema.ALIGNMENT), (Final, schema.FINAL)):
        assert {item.name for item in dataclasses.fields(cls)} - texts - again == set(specs)
    network = {item.name.removeprefix("_") for item in dataclasses.fields(TwoLayerReLU)}
    assert network - {"negative_slope", "metadata"} == set(schema.NETWORK)


def test_event_kinds_are_read_by_name(solution: fs.Solution) -> None:
    # A file of a flowsim that listed the kinds in another order.
    groups = schema.groups_of(solution)
    kinds = groups["events"].variables["kind_code"]
    last = len(EVENT_KINDS) - 1
    attrs = kinds.attrs | {"flag_meanings": " ".join(reversed(EVENT_KINDS))}
    backwards = schema.Variable((last - kinds.values).astype(np.int8), kinds.dims, attrs)
    groups["events"].variables["kind_code"] = backwards
    np.testing.assert_array_equal(schema.solution_of(groups).events.kind, solution.events.kind)


# -- for other programs ------------------------------------------------------------------------


def test_xarray_opens_the_file_as_what_to_xarray_returns(
    solution: fs.Solution, saved: Path
) -> None:
    xarray = pytest.importorskip("xarray")
    with xarray.open_datatree(saved, engine="h5netcdf") as opened:
        assert opened.load().identical(solution.to_xarray())


def test_the_tree_says_what_its_arrays_are(solution: fs.Solution) -> None:
    tree = solution.to_xarray()
    events = tree["events"]
    assert tree.attrs["settings_rtol"] == solution.settings["rtol"]
    assert tree.attrs["status"] == "certified"
    assert events["kind_code"].attrs["flag_meanings"].split() == list(EVENT_KINDS)
    assert list(events["kind_code"].attrs["flag_values"]) == list(range(len(EVENT_KINDS)))
    assert "t" in events.coords
    for group in tree.subtree:
        for name, variable in group.variables.items():
            assert variable.attrs["long_name"], f"{group.path}/{name}"


# -- failures ----------------------------------------------------------------------------------


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failing_save_keeps_the_earlier_file(
    solution: fs.Solution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.nc"
    path.write_text("earlier")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for function in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, full)
            with pytest.raises(OSError, match=r"run\.nc cannot: no space left on device\.$"):
                solution.save(path)
        assert path.read_text() == "earlier"
        assert entries(tmp_path) == ["run.nc"]


@pytest.mark.parametrize("error", [RuntimeError("drawing failed"), KeyboardInterrupt()])
def test_an_interrupted_replacement_leaves_nothing_behind(
    tmp_path: Path, error: BaseException
) -> None:
    (tmp_path / "a.png").write_text("earlier")

    def interrupted() -> None:
        with files.replacing(tmp_path / "a.png") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        interrupted()
    assert entries(tmp_path) == ["a.png"]
    assert (tmp_path / "a.png").read_text() == "earlier"


def test_a_replaced_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("earlier")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with files.replacing(tmp_path / "link") as temporary:
        temporary.write_text("later")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "later"


def test_saving_where_no_file_can_be_is_one_sentence(solution: fs.Solution, tmp_path: Path) -> None:
    (tmp_path / "folder.nc").mkdir()
    (tmp_path / "file").touch()
    places = {
        "folder.nc": "it is a folder",
        "none/run.nc": "no such file or directory",
        "file/run.nc": "not a directory",
    }
    for place, reason in places.items():
        with pytest.raises(OSError, match=rf"{place} cannot: {reason}\.$"):
            solution.save(tmp_path / place)


def test_loading_what_is_no_saved_run_is_one_sentence(saved: Path, tmp_path: Path) -> None:
    import h5netcdf

    whole = saved.read_bytes()
    (tmp_path / "text.nc").write_text("t, loss\n0, 1\n")
    (tmp_path / "empty.nc").touch()
    (tmp_path / "cut.nc").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "folder.nc").mkdir()
    with h5netcdf.File(tmp_path / "other.nc", "w") as file:
        file.attrs["title"] = "something else"
    with h5netcdf.File(tmp_path / "newer.nc", "w") as file:
        file.attrs["flowsim_format"] = schema.FORMAT + 1
    with h5netcdf.File(tmp_path / "part.nc", "w") as file:
        file.attrs["flowsim_format"] = schema.FORMAT
    for name, error, reason in (
        ("none.nc", FileNotFoundError, "is not there"),
        ("folder.nc", IsADirectoryError, "is a folder"),
        ("text.nc", OSError, "damaged or no netCDF4 file"),
        ("empty.nc", OSError, "damaged or no netCDF4 file|cut short"),
        ("cut.nc", OSError, "cut short"),
        ("other.nc", ValueError, "a run that flowsim saved"),
        ("newer.nc", ValueError, "newer flowsim"),
        ("part.nc", ValueError, "something is missing"),
    ):
        with pytest.raises(error, match=reason):
            fs.load(tmp_path / name)


def test_damaged_bytes_never_pass_as_a_crash(saved: Path, tmp_path: Path) -> None:
    whole = np.frombuffer(saved.read_bytes(), dtype=np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(40):
        damaged = whole.copy()
        places = rng.integers(0, len(whole), 20)
        damaged[places] = rng.integers(0, 256, 20)
        (tmp_path / "damaged.nc").write_bytes(damaged.tobytes())
        with contextlib.suppress(OSError, ValueError):  # nothing else may come out
            fs.load(tmp_path / "damaged.nc")
