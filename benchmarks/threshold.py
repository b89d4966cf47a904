"""The optimization threshold of linear data as one study, and how it scales with workers.

1. The study of `flowsim threshold`: n from 5 to 2000, d = 5, two levels of noise, 10 seeds, and the
   same from a large scale for small n. Records are kept in benchmarks/threshold.shards, so that a
   run that is cut off goes on.
2. Growth of the threshold with d.
3. The paper's variants: GeLU, Adam and gradient descent instead of the flow, unbalanced networks.
4. One sweep on one worker and on two.

Prints a page and writes benchmarks/threshold.json, docs/benchmarks-threshold.md and
docs/threshold.png. On two idle cores it takes about 40 minutes. Arguments name the parts that are
made anew: study, dimensions, variants, workers.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import flowsim as fs
from flowsim.experiments import StudyProgress, Sweep

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "benchmarks"
DIMENSIONS = (2, 3, 5, 8, 12)
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
        "unbalanced": {"init": "unbalanced"},
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
    """Return the seconds of one sweep on one worker and on two, nothing kept between."""
    grid: dict[str, Any] = {"n": [20, 100, 150, 200], "seed": range(12), "m": 200}
    fs.sweep(**{**grid, "seed": range(2)}, workers=2)  # compiled code is on the disk
    seconds = {}
    for count in (1, 2):
        folder = Path(tempfile.mkdtemp())
        began = time.perf_counter()
        fs.sweep(**grid, workers=count, path=folder / "sweep.nc", progress=look)
        seconds[f"{count}"] = time.perf_counter() - began
        assert Sweep.load(folder / "sweep.nc").failed == 0
        shutil.rmtree(folder)
    return seconds


def page(result: dict[str, Any]) -> str:
    """Return the page of a result."""
    a = result["study"]
    lines = [
        "# The optimization threshold", "",
        "`python benchmarks/threshold.py` writes this page, on 2 cores.", "",
        "## Linear teacher, d = 5, m = 200, λ = 1e-6", "",
        f"{a['runs']} runs to their ends, {a['failed']} failed, and those from λ = 10: "
        f"{a['core_hours']:.2g} hours of one core. Medians over {a['seeds']} seeds.", "",
        "```text", a["table"], "```", "",
        "![The threshold](threshold.png)", "",
        "Verdicts: " + ", ".join(f"{name} {count}" for name, count in a["kinds"].items()) + ".", "",
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
        one, two = result["workers"]["1"], result["workers"]["2"]
        lines += [
            "",
            "## Workers",
            "",
            f"48 runs took {one:.3g} s on one worker and {two:.3g} s on two, the start of the "
            f"cluster included: {one / two:.2f} times.",
        ]
    versions = f"python {platform.python_version()}, flowsim {fs.__version__}, {platform.machine()}"
    return "\n".join([*lines, "", f"({versions})", ""])


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
    known = {"study": study, "dimensions": dimensions, "variants": variants, "workers": workers}
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
