"""``flowsim extremal`` and ``flowsim align``: tables, summaries, files, and what is wrong."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import flowsim as fs
from flowsim import cli
from flowsim.alignment._report import summary
from flowsim.commands import alignment

Capture = pytest.CaptureFixture[str]
ALIGN = ["align", "three-points", "--m", "12", "--frames", "3"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(cli.TRACEBACK, raising=False)
    return tmp_path


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def printed(capsys: Capture, *arguments: str) -> str:
    assert cli.main(list(arguments)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def row(table: str, pattern: str) -> str:
    (found,) = [line for line in table.splitlines() if line.split()[:1] == [pattern]]
    return found


# -- extremal ----------------------------------------------------------------------------------


def test_exact_extremal_vectors_are_printed_as_fractions(capsys: Capture) -> None:
    table = printed(capsys, "extremal", "five-points", "--exact")
    assert "7 nonzero extremal vectors" in table
    assert "(16/325, 24/325)" in row(table, "b1111")
    assert "a < 0, shrink" in row(table, "b1111")
    assert "48/91" in row(table, "b1111")
    assert "(-3/20, 1/50)" in row(table, "11100")
    assert "a > 0, grow" in row(table, "11100")


def test_without_exact_they_are_decimals(capsys: Capture) -> None:
    table = printed(capsys, "extremal", "three_points")
    assert "(-0.2583333333, 0.6666666667)" in row(table, "111")
    assert "111.18134950°" in row(table, "111")


def test_latex_is_that_of_the_library(capsys: Capture) -> None:
    found = printed(capsys, "extremal", "orthogonal-pair", "--exact", "--latex")
    vectors = fs.extremal_vectors(fs.datasets.orthogonal_pair(), exact=True)
    assert found == vectors.to_latex()
    assert r"\frac{\sqrt{5}}{2}" in found


def test_a_file_gets_what_the_terminal_would_get(folder: Path, capsys: Capture) -> None:
    Path("table.txt").write_text("earlier")
    expected = printed(capsys, "extremal", "xor", "--exact")
    assert printed(capsys, "extremal", "xor", "--exact", "--output", "table.txt") == (
        "Files\n  table.txt\n"
    )
    assert Path("table.txt").read_text(encoding="utf-8") == expected
    assert tree(folder) == ["table.txt"]


def test_the_mean_loss_has_twice_the_vectors(capsys: Capture) -> None:
    half = printed(capsys, "extremal", "orthogonal-pair", "--exact")
    mean = printed(capsys, "extremal", "orthogonal-pair", "--exact", "--loss", "mean")
    assert "(1, 1/2)" in row(half, "b1")
    assert "(2, 1)" in row(mean, "b1")


def test_a_csv_file_of_the_same_data_has_the_same_vectors(capsys: Capture) -> None:
    Path("points.csv").write_text("x,y\n-0.5,-1\n2,1\n")
    found = printed(capsys, "extremal", "points.csv", "--bias", "--exact")
    assert found == printed(capsys, "extremal", "orthogonal-pair", "--exact")


def test_a_study_gives_data_slope_and_loss_and_the_command_line_overrides(capsys: Capture) -> None:
    Path("my.toml").write_text(
        '[data]\nx = ["-0.5", 2]\ny = [-1, 1]\n[init]\nnegative-slope = 0.25\n'
        '[run]\nloss = "mean"\nt1 = 3\n'
    )
    pair = fs.datasets.orthogonal_pair()
    found = printed(capsys, "extremal", "my.toml")
    assert found == f"{fs.extremal_vectors(pair, negative_slope=0.25, loss='mean')}\n"
    found = printed(capsys, "extremal", "my.toml", "--negative-slope", "0", "--loss", "half_mean")
    assert found == f"{fs.extremal_vectors(pair)}\n"


def test_options_of_the_search_reach_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def search(data: fs.Dataset, **given: Any) -> Any:
        seen.update(given)
        return fs.extremal_vectors(data)

    original = fs.extremal_vectors
    monkeypatch.setattr("flowsim.alignment.extremal.extremal_vectors", search)
    monkeypatch.setattr(fs, "extremal_vectors", original)
    arguments = ["--method", "sample", "--samples", "77", "--seed", "5"]
    assert cli.main(["extremal", "three-points", *arguments]) == 0
    assert (seen["method"], seen["samples"], seen["seed"]) == ("sample", 77, 5)


# -- align -------------------------------------------------------------------------------------


def test_alignment_is_summed_up_and_drawn(folder: Path, capsys: Capture) -> None:
    found = printed(capsys, *ALIGN, "--output", "out")
    flow = fs.alignment.until(fs.init.balanced(12, 2, 1e-6, seed=0), fs.datasets.three_points())
    assert found == f"{summary(flow)}\n\nFiles\n  out/align.png\n  out/align.gif\n"
    assert tree(folder) == ["out", "out/align.gif", "out/align.png"]
    assert Path("out/align.png").read_bytes().startswith(b"\x89PNG")
    with Image.open("out/align.gif") as film:
        assert film.format == "GIF"
        assert getattr(film, "n_frames") == 3  # noqa: B009 (unknown to Pillow's types)


def test_the_summary_says_who_goes_where_and_until_when() -> None:
    net = fs.TwoLayerReLU(
        [1.0, -1.0, 1.0],
        [[0.5, 0.75**0.5], [-0.5, 0.75**0.5], [0.5, -(0.75**0.5)]],
        metadata={"log10_scale": -6.0},
    )
    text = summary(fs.alignment.until(net, fs.datasets.three_points()))
    assert row(text, "111").split() == [
        "111", "(-0.258333,", "0.666667)", "0.71496892", "111.1813°", ">", "0", "1", "33.3%",
        "+0.714969", row(text, "111").split()[-1],
    ]  # fmt: skip
    assert row(text, "dead").split()[:3] == ["dead", "2", "66.7%"]
    # The neuron from 120 degrees dies last, as tests of the flow say.
    assert "Last event          t = 4.6131749" in text
    assert "‖D‖max              0.71496892" in text
    assert f"t = {6 * np.log(10) / 0.7149689193:.6g}," in text  # ln(1/λ) / |D|


def test_a_time_or_an_angle_may_be_the_end(capsys: Capture) -> None:
    net, data = fs.init.balanced(12, 2, 1e-6, seed=0), fs.datasets.three_points()
    found = printed(capsys, *ALIGN, "--t", "1.5", "--output", "out")
    assert found.startswith(summary(fs.alignment.flow(net, data, 1.5)))
    assert "undecided" in found
    found = printed(capsys, *ALIGN, "--angle", "0.01", "--output", "out")
    assert found.startswith(summary(fs.alignment.until(net, data, angle=np.radians(0.01))))


def test_a_study_gives_the_network(capsys: Capture) -> None:
    Path("my.toml").write_text(
        '[data]\nsource = "xor"\n[init]\nkind = "dominated"\nm = 6\nseed = 4\nscale = 1e-3\n'
        '[run]\nloss = "mean"\n'
    )
    found = printed(capsys, "align", "my.toml", "--m", "8", "--frames", "2", "--output", "out")
    net = fs.init.dominated(8, 2, 1e-3, seed=4)
    flow = fs.alignment.until(net, fs.datasets.xor(), loss="mean")
    assert found.startswith(summary(flow))


def test_data_of_four_inputs_get_no_film(capsys: Capture) -> None:
    Path("out").mkdir()
    Path("out/align.gif").write_text("earlier")
    teacher = ["linear-teacher", "--n", "6", "--d", "4", "--m", "5", "--output", "out"]
    found = printed(capsys, "align", *teacher)
    assert "out/align.gif (of an earlier run" in found
    assert Path("out/align.gif").read_text() == "earlier"
    assert Path("out/align.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_folder_no_alignment_replaces_another(folder: Path) -> None:
    for _ in range(2):
        assert cli.main(["align", "linear-teacher", "--n", "5", "--d", "4", "--m", "3"]) == 0
    names = ["linear-teacher-alignment", "linear-teacher-alignment-2"]
    assert sorted(path.name for path in (folder / "runs").iterdir()) == names


def test_a_flow_that_is_stuck_exits_with_1(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(*given: Any) -> Any:
        return dataclasses.replace(original(*given), status="stuck", message="Events pile up.")

    original = alignment._flow
    monkeypatch.setattr(alignment, "_flow", stuck)
    arguments = ["align", "linear-teacher", "--n", "5", "--d", "4", "--m", "3", "--output", "out"]
    assert cli.main(arguments) == cli.FAILED
    out, err = capsys.readouterr()
    assert err == "flowsim: warning: Events pile up.\n"
    assert "out/align.png" in out


def test_ctrl_c_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(alignment, "_flow", interrupted)
    assert cli.main([*ALIGN, "--output", "out"]) == cli.INTERRUPTED
    assert tree(folder) == []


# -- what is wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["extremal"], "must be given NAME|FILE.toml|DATA.csv, but is not; see flowsim extremal"),
        (["extremal", "tree-points"], "did you mean three-points?"),
        (["extremal", "none.csv"], "none.csv: no such file"),
        (["extremal", "none.toml"], "none.toml cannot be read: no such file"),
        (["extremal", "xor", "--n", "3"], "--n must not be given with xor"),
        (["extremal", "xor", "--samples", "x"], "--samples must be a whole number, but is 'x'"),
        (["extremal", "xor", "--samples", "-1"], "`samples` must be at least 0"),
        (["extremal", "xor", "--loss", "max"], "--loss must be one of"),
        (["extremal", "xor", "--negative-slope", "1"], "must be in [0, 1)"),
        (["extremal", "xor", "--m", "5"], "these are not: --m 5; see flowsim extremal --help."),
        (["extremal", "xor", "--exact", "--method", "sample"], '`method` must not be "sample"'),
        (["extremal", "xor", "--output", "."], "it is a folder"),
        (["extremal", "xor", "--output", "none/table.txt"], "no such file or directory"),
        (["align", "xor", "--t", "1", "--angle", "1"], "--angle must not be given with --t"),
        (["align", "xor", "--t", "-1"], "`t` must be finite and at least 0"),
        (["align", "xor", "--t", "soon"], "--t must be a number, but is 'soon'"),
        (["align", "xor", "--angle", "90"], "--angle must lie between 0 and 90 degrees"),
        (["align", "xor", "--angle", "nan"], "--angle must lie between 0 and 90 degrees"),
        (["align", "xor", "--frames", "1"], "--frames must be at least 2, but is 1"),
        (["align", "xor", "--seconds", "0"], "--seconds must be positive and finite"),
        (["align", "xor", "--seconds", "inf"], "--seconds must be positive and finite"),
        (["align", "xor", "--m", "0"], "`m` must be at least 1"),
        (["align", "xor", "--output", "/proc/none"], "output folder /proc/none cannot be written"),
        (
            ["alin", "xor"],
            "must be one of run, resume, plot, extremal, align, compare, threshold, certify, "
            "verify, but is 'alin'",
        ),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(
    folder: Path, capsys: Capture, arguments: list[str], reason: str
) -> None:
    assert cli.main(arguments) == cli.WRONG_INPUT
    out, err = capsys.readouterr()
    assert out == ""
    assert reason in err
    assert err.startswith("flowsim: error: ")
    assert err.count("\n") == 1
    assert err.endswith((".\n", "?).\n"))
    assert tree(folder) == []


def test_help_of_the_commands_imports_nothing_heavy() -> None:
    code = (
        "import sys; from flowsim.cli import main\n"
        "assert main(['align', '--help']) == main(['extremal', '--help']) == 0\n"
        "heavy = {'numpy', 'numba', 'scipy', 'sympy', 'flint', 'matplotlib', 'PIL'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)


def test_a_table_needs_no_pictures() -> None:
    code = (
        "import sys; from flowsim.cli import main\n"
        "assert main(['extremal', 'five-points', '--exact']) == 0\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True)


def test_a_run_takes_the_definition_of_the_phase(tmp_path: Path, capsys: Any) -> None:
    arguments = ["run", "three-points", "--m", "10", "--output", str(tmp_path), "--t1", "20"]
    assert cli.main([*arguments, "--alignment", "growth", "--alignment-epsilon", "0.2"]) == 0
    assert "a neuron has grown by λ^-0.2" in capsys.readouterr().out
