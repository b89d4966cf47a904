"""Random problems for hypothesis: data, starts and horizons of every kind."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import flowsim as fs

deterministic = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@st.composite
def datasets(draw, max_d: int, max_n: int) -> fs.Dataset:
    """Gaussian, lattice (ties, parallel and antipodal samples) or biased inputs; mixed labels."""
    n, d = draw(st.integers(1, max_n)), draw(st.integers(1, max_d))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    inputs = draw(st.sampled_from(["gaussian", "lattice", "bias"]))
    if inputs == "lattice":
        X = rng.integers(-2, 3, (n, d)).astype(float)
        X[~X.any(axis=1)] = 1.0
    else:
        X = rng.standard_normal((n, d))
    if inputs == "bias":
        X[:, -1] = 1.0
    labels = draw(st.sampled_from(["gaussian", "signs", "linear"]))
    if labels == "gaussian":
        y = rng.standard_normal(n)
    elif labels == "signs":
        y = rng.choice([-1.0, 1.0], n)
    else:
        y = X @ rng.standard_normal(d) + 0.3 * rng.standard_normal(n)
    return fs.Dataset(X, y)


@st.composite
def starts(draw, d: int, max_m: int) -> fs.TwoLayerReLU:
    kind = draw(st.sampled_from(["balanced", "dominated", "unbalanced", "mirrored"]))
    m = draw(st.integers(1, max_m))
    m += m % 2 if kind == "mirrored" else 0
    return getattr(fs.init, kind)(
        m,
        d,
        10.0 ** -draw(st.floats(0.0, 8.0)),
        seed=draw(st.integers(0, 2**32 - 1)),
        negative_slope=draw(st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.5])),
    )


@st.composite
def problems(
    draw, max_d: int = 5, max_n: int = 20, max_m: int = 30
) -> tuple[fs.TwoLayerReLU, fs.Dataset]:
    data = draw(datasets(max_d, max_n))
    return draw(starts(data.d, max_m)), data


def horizon(data: fs.Dataset, units: float = 300.0) -> float:
    """Return a time of `units` e-foldings at the fastest rate that the data allow."""
    return units / float(np.max(np.abs(data.y) * np.linalg.norm(data.X, axis=1)))
