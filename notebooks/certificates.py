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
# # Proofs of where the flow goes
#
# "The gradient is small" says little: it is small on every plateau. flowsim proves, in ball
# arithmetic, that from some state on no neuron leaves its cell, and so where the loss tends. This
# notebook goes from one such certificate to a computer-assisted proof that *this* initialisation's
# gradient flow converges to *that* spurious local minimum. The theorem and its proof are in
# [docs/certificates.md](../docs/certificates.md).

# %%
# %matplotlib inline
import json
from fractions import Fraction
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np

import flowsim as fs

# %% [markdown]
# ## A certificate
#
# Three points in the line, ten balanced neurons of scale 10⁻³. A run without `t1` ends as soon as
# it is proved where it goes.

# %%
data = fs.datasets.three_points()
net = fs.init.balanced(m=10, d=2, scale=1e-3, seed=0)
sol = fs.simulate(net, data)
proof = sol.final.certificate
print(sol)
print(proof)
assert proof.proved
assert proof.limit_loss == Fraction(256, 2925)

# %% [markdown]
# The limit is exact, since these data are rational, and so is the limit function: one affine map,
# the least-squares fit of all three points, on which two neurons could improve. The proof also
# says how fast the loss gets there.

# %%
for piece in proof.pieces:
    print(piece.pattern, piece.beta)
rate = proof.quantities["rate"]
print(f"from t = {proof.t:.3g} on, L - 256/2925 <= {sol.final.loss - 256 / 2925:.3g} "
      f"exp(-{rate:.3g} (t - {proof.t:.3g}))")  # fmt: skip
assert proof.pieces[0].beta == (Fraction(-4, 65), Fraction(251, 390))

# %% [markdown]
# The run can be taken on to rest all the same, and does what has been proved.

# %%
rest = fs.resume(sol, end="rest")
t = np.linspace(0.0, 120.0, 241)
excess = rest.loss(t) - 256 / 2925
late = t >= proof.t
bound = (sol.final.loss - 256 / 2925) * np.exp(-rate * (t[late] - proof.t))
figure, ax = plt.subplots(figsize=(6, 3.5))
ax.semilogy(t, excess, label="L − 256/2925")
ax.semilogy(t[late], bound, "--", label="proved bound")
ax.axvline(proof.t, color="0.7")
ax.set_xlabel("t")
ax.legend()
assert np.all(excess[late] <= bound * (1 + 1e-9))
print(f"certified at t = {sol.t_end:.3g}, at rest at t = {rest.t_end:.3g}")

# %% [markdown]
# ## Not every plateau is an end
#
# On the five points the flow stays near 0.0318 for long. There, too, something can be proved: the
# neurons that have grown tend to a saddle, which the light ones will leave, and about when.

# %%
five = fs.datasets.five_points()
start = fs.init.balanced(m=60, d=2, scale=1e-6, seed=0)
plateau = fs.simulate(start, five, t1=230.0).final.certificate
print(plateau)
print(f"escape predicted near t = {plateau.escape_time:.0f}")
assert plateau.kind == "saddle"
assert plateau.limit_loss == Fraction(1209, 38000)

# %%
end = fs.simulate(start, five)
print(end.final.certificate)
assert end.final.kind == "interpolation"
assert end.final.certificate.proved

# %% [markdown]
# ## A certificate is a file
#
# It holds the data, the state and the role of every neuron in exact numbers. `fs.verify` proves the
# statement again from the file alone, without anything of the integrator; a file that has been
# changed does not pass.

# %%
path = Path(mkdtemp()) / "certificate.json"
proof.save(path)
print(fs.verify(path).message)

raw = json.loads(path.read_text())
raw["claim"]["y"][0] = "6/5"
path.write_text(json.dumps(raw))
print(fs.verify(path).message)
assert not fs.verify(path)

# %% [markdown]
# ## The whole trajectory
#
# So far the state at t ≈ 13 has come from floating point, with small errors. `Validated` encloses
# the whole trajectory of the initialisation in balls: every step, every activation change with its
# time and order. The certificate is then one of all states in the enclosure.

# %%
whole = fs.simulate(net, data, engine=fs.engines.Validated())
enclosure = whole.enclosure
print(whole)
first = enclosure.events[0]
print("first change at t =", first.t, "neuron", first.neuron, "sample", first.sample)
print("the state is known to", enclosure.state.error.str(3, radius=False))
assert whole.status == "certified"
np.testing.assert_allclose(
    [float(e.t.mid()) for e in enclosure.events],
    sol.events.select(np.isin(sol.events.kind, ["pattern", "death"])).t, rtol=1e-9,
)  # fmt: skip

# %%
final = whole.final.certificate
final.save(path)
print(fs.verify(path).message)
assert final.kind == "spurious_local_minimum"
assert fs.verify(path)

# %% [markdown]
# Together: the gradient flow of these ten neurons from this initialisation converges, its loss
# tends to 256/2925, and that is a spurious local minimum: a better network of ten neurons is in
# the file.
