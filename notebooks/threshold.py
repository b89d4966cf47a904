# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The optimization threshold
#
# Data of a linear teacher with noise, `y = β*·x + σ ε`, and a two-layer ReLU network that starts
# from tiny weights. With few samples its gradient flow interpolates them, noise included. Beyond
# some number of samples it no longer does: it ends at a spurious local minimum near two linear
# fits, one for each half-space `±β*·x > 0`, and generalises far better than any interpolator.
# (Boursier & Flammarion, [arXiv 2410.02348](https://arxiv.org/abs/2410.02348).)
#
# This notebook goes from single runs to the threshold.

# %%
# %matplotlib inline
import numpy as np
from IPython.display import display

import flowsim as fs
from flowsim.experiments import HalfSpaces, KernelInterpolator, excess_loss

# %% [markdown]
# ## One run with few samples, one with many

# %%
few = fs.datasets.linear_teacher(n=6, d=3, noise=0.5, seed=0)
many = fs.datasets.linear_teacher(n=200, d=3, noise=0.5, seed=0)
net = fs.init.balanced(m=50, d=3, scale=1e-6, seed=1)

ends = {data.n: fs.simulate(net, data) for data in (few, many)}
for n, sol in ends.items():
    print(f"n = {n:3d}: {sol.final.kind}, training loss {sol.final.loss:.3g}")
assert ends[6].final.kind == "interpolation"
assert ends[200].final.kind == "spurious_local_minimum"

# %% [markdown]
# Six noisy labels are fitted exactly. Two hundred are not, although 50 neurons could do far better:
# the training loss stays near that of the noise, `σ²/2 = 0.125`.
#
# ## Where it ends
#
# Least squares on the two half-spaces give two vectors, and `(b₊·x)₊ − (−b₋·x)₊` is a network of
# two neurons. The flow ends close to it.

# %%
halves = HalfSpaces.of(many)
network = ends[200].final.network
print("least squares, b₊ and b₋:", halves.plus.round(3), halves.minus.round(3))
plus = network.a > 0
print("sum of a w, a > 0:       ", (network.a[plus] @ network.W[plus]).round(3))
print("sum of a w, a < 0:       ", (network.a[~plus] @ network.W[~plus]).round(3))
print(f"training losses: {ends[200].final.loss:.5f} and {halves.network.loss(many):.5f}")

# %% [markdown]
# Antipodal inputs in two clouds are the case of a theorem: then these are equal, to rounding.

# %%
symmetric = fs.datasets.half_spaces(q=20, seed=0, noise=0.3)
sol = fs.simulate(fs.init.balanced(m=100, d=2, scale=1e-4, seed=1), symmetric)
fits = HalfSpaces.of(symmetric).network
print(f"limit {sol.final.limit_loss:.14f}, fits {fits.loss(symmetric):.14f}")
assert abs(sol.final.limit_loss / fits.loss(symmetric) - 1) < 1e-10

# %% [markdown]
# ## Why it stops there
#
# All of it is decided early. With many samples the fields `D` of all neurons are near `β*/2`, the
# population's, so that those with a > 0 turn to nearly one direction and those with a < 0 to nearly
# the opposite one, and two directions cannot interpolate.

# %%
for n, sol in ends.items():
    D = sol.alignment.D
    spread = np.max(np.linalg.norm(D - 0.5 * np.eye(3)[0], axis=1))
    print(f"n = {n:3d}: {len(D)} extremal vectors, at most {spread:.2f} from β*/2")

# %% [markdown]
# ## It generalises better
#
# The excess test loss `½E(h(x) − β*·x)²` over Gaussian inputs, in closed form for two-layer
# networks, beside that of the interpolator of minimal norm in the tangent kernel's space, where
# training from large weights ends.

# %%
for n, sol in ends.items():
    interpolator = KernelInterpolator.of(sol.data, "ntk")
    print(
        f"n = {n:3d}: network {excess_loss(sol.final.network, sol.data):.4f}, "
        f"interpolator {excess_loss(interpolator, sol.data):.4f}"
    )
assert excess_loss(network, many) < 0.2 * excess_loss(KernelInterpolator.of(many, "ntk"), many)

# %% [markdown]
# ## The threshold
#
# `fs.threshold` makes such runs for many n and seeds, in parallel processes by default, and keeps
# their records: every one that is made is on the disk if `path=` is given. This is a small study;
# `flowsim threshold` in a shell makes the large one.

# %%
found = fs.threshold(n=[4, 8, 16, 40, 100, 250], d=3, noise=0.5, seed=range(4), m=50, workers=0)
print(found.table())

# %%
display(found.plot())

# %% [markdown]
# Everything is an `xarray.Dataset` over the axes of the study.

# %%
runs = found.sweep.dataset
print(runs.train_loss.sel(n=100).values.round(4))
print(runs.kind.sel(n=[4, 250]).values)
assert found.analysis.probability.sel(n=250).item() == 0.0
assert 4 < found.analysis.n_star.item() < 100

# %% [markdown]
# A run of the study can be made again, whole.

# %%
sol = found.sweep.simulate(n=250, seed=2)
print(sol)
assert sol.final.loss == runs.train_loss.sel(n=250, seed=2).item()
