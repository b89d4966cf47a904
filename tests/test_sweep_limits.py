"""Sweeps of what cannot be run: bad input, failing runs, dying workers, damaged files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowsim as fs
from flowsim.experiments import StudyProgress, Sweep, pool, sweep


def never(progress: StudyProgress) -> None:
    """Fail where a study begins."""
    raise AssertionError("a run was begun")


class Made:
    """Something whose methods have one name but many meanings."""

    def data(self, n: int, d: int, noise: float, seed: int, inputs: str) -> fs.Dataset:
        return fs.datasets.linear_teacher(n, d, noise, seed, inputs)


def bad_data(n: int, d: int, noise: float, seed: int, inputs: str) -> fs.Dataset:
    if seed == 1:
        raise ValueError("no such data")
    return fs.datasets.linear_teacher(n, d, noise, seed, inputs)


def test_a_run_that_fails_is_a_record() -> None:
    found = sweep(n=4, d=2, m=5, seed=range(3), data=bad_data, workers=0)
    assert found.dataset.status.values.tolist() == ["stationary", "error", "stationary"]
    assert found.failed == 1
    row = found.dataset.sel(seed=1)
    assert "no such data" in row.message.item()
    assert np.isnan(row.train_loss.item())
    assert row.steps.item() == -1


def test_a_run_that_kills_its_worker_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly_data.py").write_text(
        "import os\nimport flowsim as fs\n"
        "def deadly(n, d, noise, seed, inputs):\n"
        "    if seed == 1:\n"
        "        os._exit(9)\n"
        "    return fs.datasets.linear_teacher(n, d, noise, seed, inputs)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    from deadly_data import deadly  # type: ignore[import-not-found]

    found = sweep(n=4, d=2, m=5, seed=range(3), data=deadly, workers=1, shard=3)
    assert found.dataset.status.values.tolist() == ["stationary", "error", "stationary"]
    assert "KilledWorker" in found.dataset.message.values[1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "{",
        lambda text: "[" * 10**5,
        lambda text: "[1, 2]",
        lambda text: text.replace('"steps": ', '"steps": 0.5'),
        lambda text: text.replace('"train_loss": ', '"train_loss": "x", "y": '),
        lambda text: text.replace('"status"', '"stasus"'),
    ],
)
def test_a_damaged_shard_is_named(tmp_path: Path, damage: Any) -> None:
    sweep(n=3, d=2, m=4, seed=0, workers=0, path=tmp_path / "a.nc")
    (shard,) = (tmp_path / "a.shards").iterdir()
    shard.write_text(damage(shard.read_text()))
    with pytest.raises(ValueError, match="must hold the shards of a study only"):
        sweep(n=3, d=2, m=4, seed=0, workers=0, path=tmp_path / "a.nc")


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text("import flowsim as fs\nfs.sweep(n=3, d=2, m=3, seed=0)\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1
    assert (
        done.stderr.rstrip()
        .splitlines()[-1]
        .startswith("RuntimeError: Workers must be started by a script below")
    )


@pytest.mark.parametrize(
    ("wrong", "kind", "text"),
    [
        ({"n": 0}, ValueError, "`n` must be at least 1"),
        ({"n": []}, ValueError, "`n` must have at least one value"),
        ({"n": [3, 3]}, ValueError, "`n` must have distinct values"),
        ({"n": "many"}, TypeError, "`n` must be an integer"),
        ({"n": 2.5}, TypeError, "`n` must be an integer"),
        ({"noise": -1.0}, ValueError, "`noise` must be finite and at least 0"),
        ({"noise": float("nan")}, ValueError, "`noise` must be a number"),
        ({"scale": 0.0}, ValueError, "`scale` must be positive"),
        ({"scale": 1.0, "log10_scale": 1.0}, ValueError, "`scale` must not be given with"),
        ({"init": "tiny"}, ValueError, "`init` must be one of"),
        ({"inputs": "cauchy"}, ValueError, "`inputs` must be one of"),
        ({"activation": "gelu"}, ValueError, "`engine` must be diffrax, scipy or a descent"),
        ({"engine": "euler"}, ValueError, "`engine` must be one of"),
        ({"engine": "gd"}, ValueError, "`engine` must give a learning rate"),
        ({"engine": {"a": 1}}, TypeError, "`engine` must map names to engines"),
        ({"engine": [1]}, TypeError, "`engine` must be a word"),
        ({"inputs": "symmetric"}, ValueError, "`n` must be even for symmetric inputs"),
        ({"init": "mirrored", "m": 3}, ValueError, "`m` must be even for mirrored pairs"),
        ({"negative_slope": 1.0}, ValueError, "negative_slope"),
        ({"seed": 2**31}, ValueError, "`seed` must be below 2^31"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0"),
        ({"rtol": 1.0}, ValueError, "`rtol` must lie between"),
        ({"workers": -1}, ValueError, "`workers` must be at least 0"),
        ({"shard": 0}, ValueError, "`shard` must be at least 1"),
        ({"data": lambda **_: None}, ValueError, "`data` must be a function of a module"),
        ({"data": Made().data}, ValueError, "`data` must be a function of a module"),
        ({"client": 3}, TypeError, "`client` must be a distributed.Client or an address"),
        ({"n": 10**30}, ValueError, "`n` must be below 2^31"),
        ({"noise": 1e200}, ValueError, "`noise` must be finite and at least 0, at most 1e+100"),
        (
            {"activation": "gelu", "engine": {"mine": fs.engines.Piecewise()}},
            ValueError,
            "`engine` must be diffrax, scipy or a descent",
        ),
        ({"test": 3}, TypeError, "`test` must be a function"),
        ({"speed": 3}, TypeError, "does not have, 'speed'"),
    ],
)
def test_nonsense_is_refused_before_anything_is_run(
    wrong: dict, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind) as caught:
        sweep(**{"n": 3, "progress": never, "workers": 0, **wrong})
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("path", "kind", "text"),
    [
        ("", OSError, "'.' cannot: it is no name of a file"),
        (".", OSError, "it is no name of a file"),
        ("taken", OSError, "it is a folder"),
        ("a\0b", OSError, "it is no name of a file"),
        ("file/a.nc", OSError, "cannot:"),
        (5, TypeError, "must be the name of a file, but is of type int"),
        ("a.shards", ValueError, "must not end in .shards"),
    ],
)
def test_paths_are_tried_before_anything_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any, kind: type[Exception], text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(kind) as caught:
        sweep(n=3, d=2, m=3, seed=0, workers=0, path=path, progress=never)
    assert text in str(caught.value)
    assert {x.name for x in tmp_path.iterdir()} == {"taken", "file"}


def test_pipes_and_devices_are_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    found = sweep(n=3, d=2, m=3, seed=0, workers=0)
    with pytest.raises(OSError, match="no regular file"):
        found.save(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        sweep(n=3, d=2, m=3, seed=0, workers=0, path=tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def odd_words(n: int, d: int, noise: float, seed: int, inputs: str) -> fs.Dataset:
    raise (SystemExit if seed else ValueError)("bad \0 \udc80")


def test_what_files_cannot_hold_does_not_lose_them(tmp_path: Path) -> None:
    found = sweep(
        n=3, d=2, m=3, seed=range(2), workers=0, data=odd_words, path=tmp_path / "a.nc",
        states=None, max_steps=np.int64(10**6), rtol=np.float32(1e-8), t1=10**30,
    )  # fmt: skip
    assert found.failed == 2
    again = Sweep.load(tmp_path / "a.nc")
    assert again.dataset.identical(found.dataset)
    assert "SystemExit" in again.dataset.message.values[1]


def test_threads_are_the_callers_again() -> None:
    from numba import get_num_threads

    before = get_num_threads()
    sweep(n=3, d=2, m=3, seed=0, workers=0)
    assert get_num_threads() == before


def test_schedulers_must_answer() -> None:
    small: dict[str, Any] = {"n": 3, "d": 2, "m": 3, "seed": 0}
    with pytest.raises(OSError, match="`client` must be the address of a running scheduler"):
        sweep(**small, client="tcp://127.0.0.1:1")
    with pytest.raises(ValueError, match="`client` must be the address of a scheduler"):
        sweep(**small, client="somewhere")


def test_a_local_cluster_that_has_lost_all_workers_gets_new_ones() -> None:
    from distributed import Client

    with pool._local(1) as cluster, Client(cluster) as client:
        (nanny,) = cluster.workers.values()  # pyright: ignore[reportAttributeAccessIssue]
        client.sync(nanny.close)
        pool._revive(client)
        client.wait_for_workers(1, timeout=60)
        assert client.submit(sum, [1, 2]).result(timeout=60) == 3
