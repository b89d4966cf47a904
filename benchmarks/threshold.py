"""The optimization threshold of linear data as one study, and how it scales with workers.

1. The study of `flowsim threshold`: n from 5 to 2000, d = 5, two levels of noise, 10 seeds, and the
   same from a large scale for small n. Records are kept in benchmarks/threshold.shards, so that a
   run that is cut off goes on.
2. Growth of the threshold with d.
3. The paper's variants: GeLU, Adam and gradient descent instead of the flow, unbalanced networks.
4. One sweep on 1, 2, 4, ... workers.
5. A sweep of 504 runs that is killed again and again, against one that is not.

Prints a page and writes benchmarks/threshold.json, docs/benchmarks-threshold.md and
docs/threshold.png. On two idle cores it takes about 40 minutes. Arguments name the parts that are
made anew: study, dimensions, variants, workers, kills.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

import flowsim as fs
from flowsim._cores import available_cores
from flowsim.experiments import StudyProgress, Sweep

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "benchmarks"
DIMENSIONS = (2, 3, 5, 8)
LAZY = (5, 10, 20, 40)


def look(progress: StudyProgress) -> None:
    """Say on one line how far a study is."""
    print(
        f"\r{progress.done} of {progress.total} runs, {progress.seconds:.0f} s, "
        f"{progress.left:.0f} s left    ",
        end="", file=sys.stderr, flush=True,
    )  # fmt: skip


def study() -> dict[str, Any]:
    """Make the large study, and its picture."""
    found = fs.threshold(lazy=10.0, lazy_n=LAZY, path=HERE / "threshold.nc", progress=look)
    assert found.lazy is not None
    figure = found.plot()
    figure.savefig(ROOT / "docs" / "threshold.png", dpi=80)
    runs = found.sweep.dataset
    seconds = float(runs.seconds.sum())
    return {
        "table": found.table(),
        "runs": int(runs.status.size),
        "failed": found.sweep.failed,
        "seeds": runs.sizes["seed"],
        "proved": int((runs.proved == 1).sum()),
        "can_be_proved": int((runs.proved >= 0).sum()),
        "core_hours": (seconds + float(found.lazy.dataset.seconds.sum())) / 3600.0,
        "kinds": kinds(runs),
        "lazy": lazy(found),
    }


def kinds(runs: Any) -> dict[str, int]:
    """Return how often each verdict was found."""
    names = runs.kind.values.ravel().tolist()
    return {name or "none": names.count(name) for name in sorted(set(names))}


def lazy(found: fs.Threshold) -> list[dict[str, float]]:
    """Return the excess losses of the large scale's runs beside the small scale's."""
    assert found.lazy is not None
    rows = []
    for n in found.lazy.dataset.n.values:
        for noise in found.lazy.dataset.noise.values:
            at = {"n": n, "noise": noise}
            large, small = found.lazy.dataset.sel(at), found.sweep.dataset.sel(at)
            rows.append({
                "n": int(n), "noise": float(noise),
                "large": float(large.excess_loss.median()),
                "small": float(small.excess_loss.median()),
                "ntk": float(small.ntk_excess.median()),
                "interpolate": float((large.kind == "interpolation").mean()),
            })  # fmt: skip
    return rows


def dimensions() -> dict[str, Any]:
    """Estimate the threshold for several d."""
    found = fs.threshold(
        n=[3, 5, 8, 12, 18, 27, 40, 60, 90, 140], d=DIMENSIONS, noise=0.5, m=100,
        path=HERE / "threshold-d.nc", progress=look,
    )  # fmt: skip
    a = found.analysis
    return {
        "d": list(DIMENSIONS),
        "n_star": a.n_star.values.tolist(),
        "low": a.n_star_low.values.tolist(),
        "high": a.n_star_high.values.tolist(),
        "law": found.table().splitlines()[-1],
    }


def variants() -> list[dict[str, Any]]:
    """Repeat a small study with other activations, optimizers and initialisations."""
    common: dict[str, Any] = {
        "n": [5, 20, 80, 200], "d": 5, "noise": 0.5, "seed": range(4), "m": 100, "scale": 1e-3,
        "progress": look,
    }  # fmt: skip
    steps = {"t1": 2000.0, "max_steps": 10_000_000}
    cases: dict[str, dict[str, Any]] = {
        "flow": {},
        "gradient descent, η = 0.01": {"engine": "gd:0.01", **steps},
        "gradient descent, η = 0.1": {"engine": "gd:0.1", **steps},
        "Adam, η = 1e-3": {"engine": "adam:0.001", "t1": 100.0, "max_steps": 10_000_000},
        "GeLU": {"activation": "gelu", "engine": "diffrax", "t1": 2000.0, "rtol": 1e-8},
    }
    rows = []
    for index, (name, case) in enumerate(cases.items()):
        file = HERE / f"threshold-variant-{index}.nc"
        found = fs.threshold(path=file, **{**common, **case})
        a = found.analysis
        rows.append({
            "name": name, "n": a.n.values.tolist(), "train": a.train_loss.values.tolist(),
            "excess": a.excess_loss.values.tolist(),
        })  # fmt: skip
    return rows


def workers() -> dict[str, float]:
    """Return the seconds of one sweep on 1, 2, 4, ... workers, nothing kept between."""
    grid: dict[str, Any] = {"n": [20, 100, 150, 200], "seed": range(12), "m": 200}
    fs.sweep(**{**grid, "seed": range(2)}, workers=2)  # compiled code is on the disk
    seconds, count = {}, 1
    while count <= available_cores():
        folder = Path(tempfile.mkdtemp())
        began = time.perf_counter()
        fs.sweep(**grid, workers=count, path=folder / "sweep.nc", progress=look)
        seconds[f"{count}"] = time.perf_counter() - began
        assert Sweep.load(folder / "sweep.nc").failed == 0
        shutil.rmtree(folder)
        count *= 2
    return seconds


KILLED = """
import sys
import flowsim as fs
if __name__ == "__main__":
    fs.sweep(n=[5, 10, 20, 30, 40, 50], d=[2, 3], seed=range(42), m=60, path=sys.argv[1],
             progress=lambda p: print(p.done, flush=True))
"""


def kills() -> dict[str, Any]:
    """Kill a sweep's driver thrice and a worker once, and compare with one left alone."""
    folder = Path(tempfile.mkdtemp())
    script = folder / "sweep.py"
    script.write_text(KILLED, encoding="utf-8")
    assert _swept(script, folder / "alone.nc", until=None) == 0
    runs = Sweep.load(folder / "alone.nc").dataset.status.size
    for part in (0.2, 0.4, 0.6):
        _swept(script, folder / "killed.nc", until=int(part * runs))
    assert _swept(script, folder / "killed.nc", until=int(0.8 * runs), worker=True) == 0
    alone, killed = (Sweep.load(folder / f"{x}.nc").dataset for x in ("alone", "killed"))
    differing = [x for x in alone.data_vars if x != "seconds" and not alone[x].equals(killed[x])]
    shutil.rmtree(folder)
    return {"runs": int(runs), "differing": differing}


def _swept(script: Path, path: Path, until: int | None, *, worker: bool = False) -> int:
    """Run the sweep; once `until` runs are done kill it, or one of its workers. Return its code."""
    process = subprocess.Popen([sys.executable, script, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if until is not None and int(line) >= until:
            children = psutil.Process(process.pid).children(recursive=True)
            # multiprocessing's resource tracker is no worker
            found = [x for x in children if "spawn_main" in " ".join(x.cmdline())]
            (found[0] if worker else process).kill()
            until = None
            if not worker:
                for child in children:
                    child.kill()
    return process.wait()


def page(result: dict[str, Any]) -> str:
    """Return the page of a result."""
    a = result["study"]
    proved = f"; {a['proved']} of {a['can_be_proved']} proved." if a.get("can_be_proved") else "."
    lines = [
        "# The optimization threshold", "",
        "`python benchmarks/threshold.py` writes this page.", "",
        "## Linear teacher, d = 5, m = 200, λ = 1e-6", "",
        f"{a['runs']} runs to their ends, {a['failed']} failed, and those from λ = 10: "
        f"{a['core_hours']:.2g} hours of one core. Medians over {a['seeds']} seeds.", "",
        "```text", a["table"], "```", "",
        "![The threshold](threshold.png)", "",
        "Verdicts: " + ", ".join(f"{name} {count}" for name, count in a["kinds"].items())
        + proved, "",
        "From a large scale (mirrored networks, λ = 10), excess test losses:", "",
        "| n | noise | part that interpolates | λ = 10 | λ = 1e-6 | NTK |",
        "|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    lines += [
        f"| {x['n']} | {x['noise']:g} | {x['interpolate']:.2g} | {x['large']:.3g} | "
        f"{x['small']:.3g} | {x['ntk']:.3g} |"
        for x in a["lazy"]
    ]
    if "dimensions" in result:
        b = result["dimensions"]
        lines += ["", "## The threshold n* against d (noise 0.5, m = 100)", "",
                  "| d | n* | 95 % |", "|---:|---:|---|"]  # fmt: skip
        lines += [
            f"| {d} | {n:.3g} | {low:.3g} to {high:.3g} |"
            for d, n, low, high in zip(b["d"], b["n_star"], b["low"], b["high"], strict=True)
        ]
        lines += ["", b["law"]]
    if "variants" in result:
        lines += _variants_table(result["variants"])
    if "workers" in result:
        lines += _workers_table(result["workers"])
    if "kills" in result:
        k = result["kills"]
        same = "every field equal, bit for bit" if not k["differing"] else f"other {k['differing']}"
        lines += [
            "",
            "## Killed sweeps",
            "",
            f"{k['runs']} runs, the driver killed by -9 three times and then a worker, against the "
            f"same runs left alone: {same} (but for `seconds`).",
        ]
    versions = f"python {platform.python_version()}, flowsim {fs.__version__}, {platform.machine()}"
    return "\n".join([*lines, "", f"({versions})", ""])


def _workers_table(seconds: dict[str, float]) -> list[str]:
    lines = ["", "## Workers", "", "48 runs, the start of the cluster included.", "",
             "| workers | seconds | times one worker |", "|---:|---:|---:|"]  # fmt: skip
    one = seconds["1"]
    return lines + [f"| {k} | {x:.3g} | {one / x:.2f} |" for k, x in seconds.items()]


def _variants_table(variants: list[dict[str, Any]]) -> list[str]:
    sizes = variants[0]["n"]
    lines = [
        "",
        "## Variants (noise 0.5, m = 100, λ = 1e-3, 4 seeds)",
        "",
        "Medians of the training loss, and of the excess test loss in brackets.",
        "",
        "| | " + " | ".join(f"n = {n}" for n in sizes) + " |",
        "|---" * (1 + len(sizes)) + "|",
    ]
    for x in variants:
        cells = [f"{t:.3g} ({e:.3g})" for t, e in zip(x["train"], x["excess"], strict=True)]
        lines.append(f"| {x['name']} | " + " | ".join(cells) + " |")
    return lines


def main(parts: list[str]) -> None:
    """Run the benchmark, or some parts of it, and write its page."""
    file = HERE / "threshold.json"
    known = {
        "study": study, "dimensions": dimensions, "variants": variants, "workers": workers,
        "kills": kills,
    }  # fmt: skip
    result: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for name in parts or known:
        result[name] = known[name]()
        print(file=sys.stderr)
    text = page(result)
    print(text)
    file.write_text(json.dumps(result, indent=1) + "\n")
    (ROOT / "docs" / "benchmarks-threshold.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
