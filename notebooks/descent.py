# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Where gradient descent follows the flow, and where it leaves it
#
# `fs.compare` runs the gradient flow and discrete descents from one start, and measures at
# matched times $t = \sum \eta$ how far apart they are. Every claim below is an `assert`.

# %%
# %matplotlib inline
import numpy as np
from IPython.display import display

import flowsim as fs

# %% [markdown]
# ## First order
#
# Gradient descent is the explicit Euler method of $\dot\theta = -\nabla L(\theta)$. On a problem
# where no neuron slides along a hyperplane its distance from the flow is proportional to η.

# %%
data = fs.datasets.linear_teacher(8, 3, noise=0.0, seed=0)
net = fs.init.balanced(m=8, d=3, scale=1e-2, seed=0)
found = fs.compare(net, data, learning_rates=[2e-2, 1e-2, 5e-3], optimizers=["gd"], t1=40.0)
print(found.table())
assert abs(found.order("gd") - 1.0) < 0.05

# %% [markdown]
# The **modified flow** $\dot\theta = -\nabla L - \frac{\eta}{4}\nabla\|\nabla L\|^2$ is followed
# one order closer, until a neuron crosses a hyperplane: $\|\nabla L\|^2$ jumps there.

# %%
for descent in found.descents:
    first = found.flow.events.where("pattern").t[0]
    before = (descent.t > 0) & (descent.t < first)
    closer = descent.modified_distance[before] / descent.distance[before]
    print(f"η = {descent.learning_rate:g}: before t = {first:.3g} closer by {np.max(closer):.1g}")
    assert np.max(closer) < descent.learning_rate

# %% [markdown]
# ## Five points: a saddle that descent cannot leave
#
# From λ = 10⁻⁶ the flow passes a saddle at L = 0.0318 and then interpolates. Gradient descent with
# a step of 4·10⁻³ stays there for ever. Is the step too long? No: in the coordinates
# (direction of w, ln‖w‖), with a from the conserved $a^2 - \|w\|^2$, the same step does what the
# flow does.

# %%
five = fs.datasets.five_points()
tiny = fs.init.balanced(m=60, d=2, log10_scale=-6, seed=0)
found = fs.compare(
    tiny, five, [4e-3], ["gd", "log_norm"], t1=1500.0, modified=False, sharpness=0, points=80
)
euler, log_norm = found.descents
for descent in found.descents:
    print(f"{descent.name}: {found.why(descent)}")
assert abs(euler.run.final.loss - 0.03181578947) < 1e-9
assert log_norm.run.final.loss < 1e-12
assert found.flow.final.loss < 1e-12
display(found.plot())

# %% [markdown]
# What has gone wrong is a sign. In the flow of a balanced start $a^2 = \|w\|^2$ for ever, and a
# never changes its sign. An Euler step changes $a^2 - \|w\|^2$ by
# $\eta^2((w\cdot D)^2 - a^2\|D\|^2) \le 0$, relatively most for the neurons that shrink: they end
# with $|a| < \|w\|$, and can flip.

# %%
print(f"signs flipped: {euler.flips[-1] * tiny.m:.0f} of {tiny.m}; in log-norms: none")
assert euler.flips[-1] > 0.0
assert np.max(log_norm.flips) == 0.0
assert np.max(euler.gap_drift) > 0.5
assert np.max(log_norm.gap_drift) < 1e-3

# %% [markdown]
# ## The edge of stability
#
# With η above 2/sharpness descent cannot rest where the flow does.

# %%
three = fs.datasets.three_points()
start = fs.init.balanced(m=12, d=2, scale=1e-2, seed=0)
found = fs.compare(start, three, [0.1, 1.6], t1=60.0, modified=False)
large, small = found.descents
for descent in found.descents:
    print(f"η = {descent.learning_rate:g}: {found.why(descent)}")
assert np.isinf(small.edge)
assert np.isfinite(large.edge)
