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
# # One flow, many engines
#
# `fs.simulate` follows $\dot\theta = -\nabla L(\theta)$ by one of three engines:
#
# | engine | integrates by | what |
# |---|---|---|
# | `fs.engines.Piecewise()` | Taylor series in every activation cell | two-layer ReLU networks |
# | `fs.engines.Diffrax(solver)` | adaptive Runge–Kutta methods in JAX | any differentiable model |
# | `fs.engines.Scipy(method)` | `scipy.integrate`'s solvers | any differentiable model |
#
# The last two integrate ReLU networks too: cell by cell, with the switching rules of the first, but
# with other steps, other interpolants and another way to find events. So they check each other.
# Every claim below is an `assert`.

# %%
# %matplotlib inline
from itertools import combinations

import numpy as np
from IPython.display import display
from matplotlib.figure import Figure

import flowsim as fs


def axes(**options):
    """Return the Axes of a new figure."""
    return Figure(figsize=(8, 3.2), layout="constrained").add_subplot(**options)


def state(sol, t):
    """Return all parameters at a time."""
    net = sol.network(t)
    return np.column_stack([net.a, net.W])


# %% [markdown]
# ## A ReLU network that slides, on five methods
#
# Five points, twelve neurons, λ = 10⁻⁴. Up to t = 60 there are activation changes, deaths and
# slides along hyperplanes. One `rtol` (10⁻¹² by default) holds for all engines: the local error of
# a step relative to each neuron.

# %%
data = fs.datasets.five_points()
net = fs.init.balanced(m=12, d=2, scale=1e-4, seed=0)
engines = {
    "piecewise": fs.engines.Piecewise(),
    "diffrax Dopri8": fs.engines.Diffrax("Dopri8"),
    "diffrax Kvaerno5": fs.engines.Diffrax("Kvaerno5"),
    "scipy DOP853": fs.engines.Scipy("DOP853"),
    "scipy Radau": fs.engines.Scipy("Radau"),
}
runs = {name: fs.simulate(net, data, engine=engine, t1=60.0) for name, engine in engines.items()}
for name, sol in runs.items():
    print(f"{name:18s} {sol.steps:5d} steps, {len(sol.events)} events, loss {sol.final.loss:.12f}")
print(runs["piecewise"].events)

assert all(sol.status == "t1" for sol in runs.values())
losses = [sol.final.loss for sol in runs.values()]
assert np.ptp(losses) <= 1e-8 * runs["piecewise"].history.loss[0]

# %% [markdown]
# The same events in the same order, and their times differ by less than 10⁻⁶, relatively. (The
# order of events that are simultaneous would be arbitrary.)

# %%
reference = runs["piecewise"].events
kinds = ["pattern", "death", "alignment_end"]
slides = np.sum((reference.kind == "pattern") & (reference.after == 0))
print(slides, "slides begin,", len(reference.where("death")), "neurons die")
assert slides == 4


def table(events):
    """Return rows (kind, neuron, sample, before, after), and times, of what the flow does."""
    kept = np.isin(events.kind, kinds)
    columns = (events.kind, events.neuron, events.sample, events.before, events.after)
    return [row for row, k in zip(zip(*columns, strict=True), kept, strict=True) if k], events.t[
        kept
    ]


rows, times = table(reference)
for name, sol in runs.items():
    again, when = table(sol.events)
    assert again == rows
    worst = np.max(np.abs(when - times) / times)
    print(f"{name:18s} largest relative difference of an event's time: {worst:.1e}")
    assert worst <= 1e-6

# %% [markdown]
# The distance of each pair of runs over time, relative to the size of the state. All are far above
# the rounding 10⁻¹⁶ and far below anything that one could see: each engine's error at `rtol` 10⁻¹²,
# as the flow carries it along.

# %%
grid = np.linspace(0.0, 60.0, 121)[1:]
states = {name: np.array([state(sol, t) for t in grid]) for name, sol in runs.items()}
size = np.linalg.norm(states["piecewise"], axis=(1, 2))
ax = axes(xlabel="t", ylabel="relative distance", yscale="log", ylim=(1e-16, 1e-5))
for one, other in combinations(runs, 2):
    apart = np.linalg.norm(states[one] - states[other], axis=(1, 2)) / size
    ax.plot(grid, np.maximum(apart, 1e-16), lw=1, label=f"{one} – {other}")
    assert np.max(apart) <= 1e-7
ax.axhline(1e-7, color="0.6", ls=":")
ax.legend(fontsize=6, ncols=2)
display(ax.figure)

# %% [markdown]
# ## GELU beside ReLU
#
# The general engines take any differentiable model: those of `fs.models`, an equinox module, or a
# loss function with its parameters. A smooth activation has no cells, no deaths and no slides. Here
# are three points and the same small initial weights, with ReLU and with GELU
# $\sigma(u) = u\,\Phi(u)$. While weights are small, GELU is about $u/2$: the network is nearly
# linear in $x$ at first, and slower by the slope.

# %%
three = fs.datasets.three_points()
start = fs.init.balanced(m=12, d=2, scale=1e-3, seed=0)
relu = fs.simulate(start, three)
model = fs.models.TwoLayer.of(start, "gelu")
gelu = fs.simulate(model, three, engine=fs.engines.Diffrax("Dopri8"))
print(relu, gelu, sep="\n")
print("early alignment ends at", relu.alignment.end_time, "and", gelu.alignment.end_time)
assert gelu.alignment.end_time > relu.alignment.end_time

ax = axes(xlabel="t", ylabel="loss", xscale="log", xlim=(1, 2000))
for sol, label in ((relu, "ReLU"), (gelu, "GELU")):
    ax.plot(sol.history.t, sol.history.loss, label=label)
ax.axhline(256 / 2925, color="0.6", ls=":")
ax.legend()
display(ax.figure)

# %% [markdown]
# Both come to the loss 256/2925 of the affine least-squares fit. For ReLU that is the end: all
# neurons are active on all points, and no change of the weights lowers the loss. For GELU it is a
# plateau: the network is curved, if only a little, so that it can do better. It creeps on, and
# interpolates.

# %%
(t,) = gelu.events.where("plateau").t
print("GELU's plateau at t =", t, "with the loss", gelu.loss(t))
assert (relu.final.kind, relu.final.limit_loss_exact) == ("spurious_local_minimum", "256/2925")
assert (gelu.status, gelu.final.kind) == ("stationary", "interpolation")
assert abs(gelu.loss(t) - 256 / 2925) < 1e-3
assert gelu.audit["dissipation"] < 1e-8

# %% [markdown]
# ## From saddle to saddle, with a theory to compare
#
# The diagonal linear network $h(x) = (u\odot v)\cdot x$ with $u = \sqrt2\,\alpha$, $v = 0$ and
# $\alpha\to0$ jumps from saddle to saddle at times proportional to $\ln(1/\alpha)$ (Pesme &
# Flammarion, [2304.00488](https://arxiv.org/abs/2304.00488)). With
# $L = \frac12(\beta-\beta^*)^\top H(\beta-\beta^*)$, $H = \begin{pmatrix}1&\frac12\\\frac12&1
# \end{pmatrix}$, $\beta^* = (2, 1)$: at rest $\beta = u\odot v = 0$ is pushed by
# $g = H\beta^* = (2.5, 2)$. Coordinate $i$ grows as $\alpha^2 e^{2 s_i}$ with $\dot s = g$, and
# reaches size one at $s_i = \ln(1/\alpha)$: the first at $t = \ln(1/\alpha)/2.5$. Then
# $\beta = (2.5, 0)$, the loss is 0.375, and the second, now pushed by
# $g_2 = 2 - \frac12\,2.5 = 0.75$, needs $\ln(1/\alpha)\,(1 - 2\cdot0.4)/0.75$ more. So the drops
# are at $t/\ln(1/\alpha) = 0.4$ and $2/3$.

# %%
H, target = np.array([[1.0, 0.5], [0.5, 1.0]]), np.array([2.0, 1.0])
X = np.sqrt(2.0) * np.linalg.cholesky(H).T
linear = fs.Dataset(X, X @ target)
alphas = [1e-4, 1e-8, 1e-16, 1e-64]
models = [fs.models.DiagonalLinear([np.sqrt(2.0) * a] * 2, [0.0, 0.0]) for a in alphas]


def half_drops(t, model):
    """Return the loss minus halfway values: its zeros are when the loss drops."""
    gap = model.u * model.v - target
    return 0.5 * gap @ H @ gap - np.array([0.5 * (3.5 + 0.375), 0.5 * 0.375])


half_drops.direction = -1.0
jumps = fs.simulate_batch(models, linear, engine=fs.engines.Diffrax("Dopri8"), events=[half_drops])

ax = axes(xlabel="t / ln(1/α)", ylabel="loss", xlim=(0, 1.1))
for alpha, sol in zip(alphas, jumps, strict=True):
    unit = np.log(1.0 / alpha)
    drops = sol.events.where("user").t / unit
    print(f"α = {alpha:.0e}: half-drops at {drops.round(4)}, {sol.final.kind}, {sol.steps} steps")
    ax.plot(sol.history.t / unit, sol.history.loss, label=f"α = {alpha:.0e}")
    assert sol.status == "stationary"
    assert sol.final.kind == "interpolation"
for t in (0.4, 2 / 3):
    ax.axvline(t, color="0.7", ls=":")
ax.axhline(0.375, color="0.7", ls=":")
ax.legend()
display(ax.figure)

np.testing.assert_allclose(
    jumps[2].events.where("user").t / np.log(1e16), [0.404, 0.649], atol=5e-4
)
np.testing.assert_allclose(jumps[3].events.where("user").t / np.log(1e64), [0.4, 2 / 3], atol=5e-3)

# %% [markdown]
# The saddle is a `plateau` event: a minimum in time of the scale-free speed $-\frac{d}{dt}\ln L$,
# with a hundred times larger values before and after.

# %%
for alpha, sol in zip(alphas[1:], jumps[1:], strict=True):
    (t,) = sol.events.where("plateau").t
    beta = sol.network(t).vector
    print(f"α = {alpha:.0e}: plateau at t/ln(1/α) = {t / np.log(1 / alpha):.3f}, β = {beta}")
    assert abs(sol.loss(t) - 0.375) < 1e-2
np.testing.assert_allclose(beta, [2.5, 0.0], atol=1e-9)
np.testing.assert_allclose(sol.loss(t), 0.375, rtol=1e-12)

# %% [markdown]
# ## An event of your own
#
# A function $g(t, \text{model})$ is watched as in `scipy.integrate.solve_ivp`, but it may return an
# array, and two zeros inside one step are both found: when does each neuron outgrow 0.1, and when
# does the loss fall below 0.01?


# %%
def outgrown(t, model):
    """Return ln of the neurons' norms over 0.1."""
    return model.log_norm - np.log(0.1)


def low(t, model):
    """Return how far the loss is above 0.01; end the run there."""
    return model.loss(data) - 0.01


outgrown.direction, low.terminal = 1.0, True

sol = fs.simulate(net, data, events=[outgrown, low])
user = sol.events.where("user")
print(sol.message)
for t, j in zip(user.t[user.neuron == 0], user.sample[user.neuron == 0], strict=True):
    print(f"neuron {j:2d} outgrows 0.1 at t = {t:.9f}")
    assert abs(np.exp(sol.network(t).log_norm[j]) - 0.1) < 1e-13
assert sol.status == "event"
assert abs(sol.final.loss - 0.01) < 1e-14

# %% [markdown]
# ## Exercises
#
# 1. Repeat the first section with `rtol=1e-9`. Which engine is the first to have other events?
# 2. Softplus $\ln(1+e^{\beta u})/\beta$ tends to ReLU as $\beta\to\infty$. Plot the distance of
#    both flows over $\beta$ on a system with a slide.
# 3. Draw `u` and `v` of the diagonal network while it passes its saddle. What does $u^2 - v^2$ do?
