"""The command line: files, options, and one clear sentence for whatever is wrong."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import flowsim as fs
from flowsim import cli, config, config_build
from flowsim.engines.record import Progress
from flowsim.progress import ProgressBar, describe

RUN = ["run", "three-points", "--m", "20", "--scale", "1e-3"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(cli.TRACEBACK, raising=False)
    return tmp_path


def write(name: str, text: str) -> None:
    Path(name).write_text(text)


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# -- runs --------------------------------------------------------------------------------------


def test_a_run_writes_its_files_and_ends_with_the_verdict(folder: Path, capsys: Capture) -> None:
    assert cli.main([*RUN, "--output", "out"]) == 0
    printed, errors = capsys.readouterr()
    names = ["run.nc", "timeline.png", "directions.png", "function.png"]
    assert tree(folder / "out") == sorted(names)
    assert printed.startswith("three_points (n = 3, d = 2), m = 20, balanced, λ = 0.001, seed 0")
    assert [line.strip() for line in printed.splitlines() if line.startswith("  out")] == [
        f"out/{name}" for name in names
    ]
    assert printed.splitlines()[-1] == (
        "The flow tends to a spurious local minimum with L½ = 256/2925 = 0.08752136752."
    )
    assert errors == ""
    for name in names[1:]:
        assert (folder / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_the_saved_run_is_the_one_of_the_library() -> None:
    assert cli.main([*RUN, "--seed", "3", "--t1", "9", "--output", "out"]) == 0
    net = fs.init.balanced(20, 2, 1e-3, seed=3)
    solution = fs.simulate(net, fs.datasets.three_points(), t1=9.0)
    loaded = fs.load("out/run.nc")
    np.testing.assert_array_equal(loaded.history.loss, solution.history.loss)
    assert loaded.settings == solution.settings


def test_without_a_folder_no_run_replaces_another(folder: Path) -> None:
    for _ in range(3):
        assert cli.main([*RUN, "--t1", "1"]) == 0
    made = sorted(path.name for path in (folder / "runs").iterdir())
    assert made == ["three-points", "three-points-2", "three-points-3"]


def test_data_of_more_than_two_inputs_get_a_timeline_only(folder: Path, capsys: Capture) -> None:
    write_to = ["--output", "out"]
    assert cli.main([*RUN, "--t1", "1", *write_to]) == 0
    teacher = ["run", "linear-teacher", "--n", "6", "--d", "3", "--m", "5", "--t1", "2"]
    capsys.readouterr()
    assert cli.main([*teacher, *write_to]) == 0
    printed = capsys.readouterr().out
    assert "out/timeline.png\n" in printed
    # Those that the first run has left are not passed off as this one's.
    assert "out/function.png (of an earlier run" in printed


def test_a_run_that_gave_up_is_saved_and_exits_with_1(folder: Path, capsys: Capture) -> None:
    assert cli.main([*RUN, "--max-steps", "5", "--output", "out"]) == cli.FAILED
    assert "raise max_steps" in capsys.readouterr().err
    assert fs.load("out/run.nc").status == "max_steps"
    assert "timeline.png" in tree(folder / "out")


def test_pictures_are_drawn_again_from_the_file(folder: Path, capsys: Capture) -> None:
    assert cli.main([*RUN, "--t1", "9", "--output", "out"]) == 0
    capsys.readouterr()
    assert cli.main(["plot", "out/run.nc", "--output", "again"]) == 0
    assert tree(folder / "again") == ["directions.png", "function.png", "timeline.png"]
    assert "again/timeline.png" in capsys.readouterr().out


def test_a_csv_file_with_a_bias_is_univariate_data(folder: Path) -> None:
    write("points.csv", "x,y\n-0.75,1.1\n-0.5,0.1\n0.125,0.8\n")
    assert cli.main(["run", "points.csv", "--bias", "--m", "20", "--t1", "5"]) == 0
    loaded = fs.load("runs/points/run.nc").data
    assert loaded.X_exact == fs.datasets.three_points().X_exact
    assert loaded.y_exact == fs.datasets.three_points().y_exact


# -- TOML --------------------------------------------------------------------------------------

TOML = """
[data]
x = [-0.75, -0.5, 0.125]
y = [1.1, 0.1, "4/5"]

[init]
kind = "dominated"
m = 12
scale = 1e-3
seed = 4

[run]
t1 = 5
loss = "mean"
output = "out"
"""


def test_a_toml_file_gives_options_and_exact_data() -> None:
    write("my.toml", TOML)
    assert cli.main(["run", "my.toml"]) == 0
    loaded = fs.load("out/run.nc")
    assert loaded.data.name == "my"
    assert loaded.data.y_exact == (Fraction(11, 10), Fraction(1, 10), Fraction(4, 5))
    assert loaded.initial.metadata["kind"] == "dominated"
    assert (loaded.initial.m, loaded.settings["loss"], loaded.t_end) == (12, "mean", 5.0)


def test_the_command_line_overrides_the_toml_file() -> None:
    write("my.toml", TOML)
    assert cli.main(["run", "my.toml", "--m", "7", "--t1", "2", "--output", "other"]) == 0
    loaded = fs.load("other/run.nc")
    assert (loaded.initial.m, loaded.t_end) == (7, 2.0)
    assert loaded.initial.metadata["seed"] == 4


def test_a_toml_file_finds_its_data_beside_it(folder: Path) -> None:
    (folder / "sub").mkdir()
    write("sub/points.csv", "1,2,3\n2,1,0\n")
    write("sub/my.toml", '[data]\nsource = "points.csv"\n[init]\nnegative-slope = 0.1\n')
    found = config.read_toml(Path("sub/my.toml"))
    assert config_build.build_data(found).n == 2
    assert found.init.negative_slope == 0.1


def test_a_toml_file_may_hold_the_weights() -> None:
    write("my.toml", '[data]\nsource = "xor"\n[init]\na = [1, -0.5]\nW = [[0.5, 0], [0, 0.25]]\n')
    net = config_build.build_network(config.read_toml(Path("my.toml")).init, 2)
    np.testing.assert_array_equal(net.a, [1.0, -0.5])
    np.testing.assert_array_equal(net.W, [[0.5, 0.0], [0.0, 0.25]])


# -- what is wrong -----------------------------------------------------------------------------

WRONG = {
    "": [
        (["run", "three-points", "--m", "0"], "`m` must be at least 1, but it is 0"),
        (["run", "three-points", "--m", "many"], "--m must be a whole number, but is 'many'"),
        (["run", "three-points", "--m", "2.5"], "--m must be a whole number, but is '2.5'"),
        (["run", "three-points", "--scale", "-1"], "`scale` must be positive"),
        (["run", "three-points", "--scale", "nan"], "`scale` must be positive"),
        (["run", "three-points", "--scale", "x"], "--scale must be a number, but is 'x'"),
        (["run", "three-points", "--scale", "1", "--log10-scale", "0"], "`scale` must be given"),
        (["run", "three-points", "--init", "best"], "--init must be one of 'balanced'"),
        (["run", "three-points", "--init", "mirrored", "--m", "3"], "must be even"),
        (["run", "three-points", "--negative-slope", "1"], "must be in [0, 1)"),
        (["run", "three-points", "--rtol", "7"], "`rtol` must"),
        (["run", "three-points", "--t1", "-1"], "`t1` must be positive"),
        (["run", "three-points", "--residual", "frozen"], "`t1` must be finite"),
        (["run", "three-points", "--max-steps", "0"], "`max_steps` must be positive"),
        (["run", "three-points", "--n", "5"], "--n must not be given with three-points"),
        (["run", "three-points", "--target", "y"], "--target must not be given"),
        (["run", "linear-teacher", "--n", "5"], "--d must be given with linear-teacher"),
        (["run", "linear-teacher", "--n", "5", "--d", "0"], "`d` must be at least 1"),
        (["run", "three-points", "--speed", "9"], "these are not: --speed"),
        (["run", "three-points", "--m"], "--m must have a value"),
        (["run", "three-points", "xor"], "these are not: xor"),
        (["run"], "must be given NAME|FILE.toml|DATA.csv"),
        (["run", "tree-points"], "did you mean three-points?"),
        (["run", "none.csv"], "none.csv: no such file"),
        (["run", "none.npz"], "none.npz: no such file"),
        (["run", "none.toml"], "none.toml cannot be read: no such file"),
        (["three-points"], "must be one of run, resume, plot"),
        (["plot"], "must be given RUN.nc"),
        (["plot", "none.nc"], "none.nc is not there"),
        (["plot", "."], "is a folder"),
    ],
    "1,2\n2,nan\n": [(["run", "bad"], "line 2, column 2 of bad.csv is 'nan'")],
    "1,2\n2,inf\n": [(["run", "bad"], "line 2, column 2 of bad.csv is 'inf'")],
    "1,2\n2\n": [(["run", "bad"], "line 2 of bad.csv has 1 cells")],
    "\n": [(["run", "bad"], "bad.csv has none")],
    "x,y\n": [(["run", "bad"], "bad.csv has none")],
    "1,2\ntwo,3\n": [(["run", "bad"], "line 2, column 1 of bad.csv is 'two'")],
    "1,1,2\n0,0,3\n": [(["run", "bad"], "no zero rows, but X[1]")],
    "x,y\n1,2\n": [(["run", "bad", "--target", "z"], "columns are: x, y")],
    "1,2\n3,4\n": [(["run", "bad", "--noise", "1"], "--noise must not be given with a CSV file")],
}


@pytest.mark.parametrize(
    ("content", "arguments", "reason"),
    [(content, *case) for content, cases in WRONG.items() for case in cases],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(
    folder: Path, capsys: Capture, content: str, arguments: list[str], reason: str
) -> None:
    if content:
        write("bad.csv", content)
        arguments = [name.replace("bad", "bad.csv") for name in arguments]
    before = tree(folder)
    assert cli.main(arguments) == cli.WRONG_INPUT
    assert_one_sentence(capsys, reason)
    assert tree(folder) == before


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[data]\nsource =\n", "my.toml is not valid TOML"),
        ("[init]\nm = 3\n", "must have a source"),
        ("[date]\n", "'date' is a table or key there (did you mean data?)"),
        ("data = 3\n", "must have a table [data]"),
        ('[data]\nsource = "xor"\n[init]\nscal = 1\n', "'scal' is a key there (did you mean scale"),
        ('[data]\nsource = "xor"\n[init]\nm = "3"\n', "`m` in [init] of file my.toml must be a wh"),
        ('[data]\nsource = "xor"\n[init]\nm = true\n', "must be a whole number, but is True"),
        ('[data]\nsource = "xor"\n[init]\nm = 2.5\n', "must be a whole number, but is 2.5"),
        ('[data]\nsource = "xor"\n[run]\nt1 = "1"\n', "`t1` in [run] of file my.toml must be a n"),
        ('[data]\nsource = "xor"\n[run]\nloss = "max"\n', "must be one of half_mean, mean"),
        ('[data]\nsource = "xor"\n[init]\na = [1]\n', "weights W in [init] must be lists"),
        (
            '[data]\nsource = "xor"\n[init]\na=[1]\nW=[[1,1]]\nm=1\n',
            "no other option than negative",
        ),
        ("[data]\nsource = 3\n", "must be a text, but is 3"),
        ("[data]\nX = [[1, nan]]\ny = [1]\n", "must hold finite"),
        ("[data]\nX = [[1, 2], [1]]\ny = [1, 2]\n", "rows of one length"),
        ("[data]\nx = [1]\nX = [[1]]\ny = [1]\n", "X and y or as x and y"),
    ],
)
def test_a_wrong_toml_file_is_one_sentence(
    folder: Path, capsys: Capture, content: str, reason: str
) -> None:
    write("my.toml", content)
    assert cli.main(["run", "my.toml"]) == cli.WRONG_INPUT
    assert_one_sentence(capsys, reason)
    assert tree(folder) == ["my.toml"]


@pytest.mark.parametrize("output", ["file", "file/sub", "/proc/none"])
def test_a_folder_that_cannot_be_written_is_found_before_the_run(
    folder: Path, capsys: Capture, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("file", "earlier")
    monkeypatch.setattr(cli, "_simulate", lambda *_: pytest.fail("the run began"))
    assert cli.main([*RUN, "--output", output]) == cli.WRONG_INPUT
    assert_one_sentence(capsys, f"output folder {output} cannot be written")
    assert (folder / "file").read_text() == "earlier"


def test_a_run_that_cannot_be_saved_is_still_reported(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert cli.main([*RUN, "--t1", "1", "--output", "out"]) == cli.WRONG_INPUT
    printed, errors = capsys.readouterr()
    assert "What happened when" in printed
    assert errors.endswith("out/run.nc cannot: no space left on device.\n")
    assert tree(folder) == []


def test_ctrl_c_says_so_and_leaves_nothing(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_simulate", interrupted)
    assert cli.main([*RUN, "--output", "out"]) == cli.INTERRUPTED
    assert "interrupted" in capsys.readouterr().err
    assert tree(folder) == []


@pytest.mark.parametrize("error", [IndexError("index 3"), MemoryError(), AssertionError()])
def test_a_defect_is_one_sentence_too(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "_simulate", broken)
    assert cli.main([*RUN, "--output", "out"]) == cli.WRONG_INPUT
    assert_one_sentence(capsys, "memory" if isinstance(error, MemoryError) else "defect")
    monkeypatch.setenv(cli.TRACEBACK, "1")
    with pytest.raises(type(error)):
        cli.main([*RUN, "--output", "out"])


def assert_one_sentence(capsys: Capture, reason: str) -> None:
    printed, errors = capsys.readouterr()
    assert printed == ""
    assert reason in errors
    assert errors.startswith("flowsim: error: ")
    assert errors.count("\n") == 1
    assert errors.endswith((".\n", "?).\n"))
    assert "Traceback" not in errors


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_only() -> None:
    where = Progress("descent", 10.0, 0.25, 0.5, 42, 7, 0.1, 20)
    for stream, shown in ((io.StringIO(), False), (Terminal(), True)):
        with ProgressBar(stream) as progress:
            progress(where)
        assert (describe(where) in stream.getvalue()) == shown
    for part in ("descent", "log10 t  1.000", "loss 0.25 of 0.5", "events 42"):
        assert part in describe(where)
    assert "t 0" in describe(dataclasses.replace(where, t=0.0))


# -- the process -------------------------------------------------------------------------------


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flowsim.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["plot", "--help"], []])
def test_help_is_printed(capsys: Capture, arguments: list[str]) -> None:
    assert cli.main(arguments) == 0
    assert "usage: flowsim" in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from flowsim.cli import main; main(['--help']); main(['run', '--help'])\n"
        "heavy = {'numpy', 'numba', 'scipy', 'xarray', 'h5py', 'matplotlib', 'tqdm'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)


def test_a_run_needs_neither_xarray_nor_pyplot() -> None:
    code = (
        "import sys; from flowsim.cli import main\n"
        "assert main(['run', 'xor', '--m', '4', '--t1', '1', '--output', 'out']) == 0\n"
        "assert not {'xarray', 'pandas', 'matplotlib.pyplot'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, capture_output=True)


def test_the_version_is_that_of_the_package(capsys: Capture) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"flowsim {fs.__version__}\n"


def test_the_process_exits_with_the_code() -> None:
    done = command("run", "tree-points")
    assert done.returncode == cli.WRONG_INPUT
    assert done.stderr.count("\n") == 1
