"""The compiled loop of a descent: many steps, and what changes on the way, in one call."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flowsim.engines.descent.problem import Loss, ModelLoss
from flowsim.engines.descent.rules import Rule
from flowsim.models.functional import Arguments

#: A pytree of arrays.
Tree = Any
#: Changes of patterns that are kept between two calls; a step's are noted in parts of at most
#: `PART`.
ROOM, PART = 2**15, 2**12


class Batches(NamedTuple):
    """Of which samples a step's gradient is; hashable. 0 for all."""

    size: int
    samples: int

    def args(self, args: Arguments, seed: Any, step: Any) -> Arguments:
        """Return the arguments of a step's gradient."""
        if self.size == 0:
            return args
        per_epoch = -(-self.samples // self.size)
        key = jax.random.fold_in(jax.random.key(seed), step // per_epoch)
        order = jax.random.permutation(key, self.samples)
        first = (step % per_epoch) * self.size
        place = first + jnp.arange(self.size)
        held = place < self.samples  # the last batch of an epoch may be smaller
        chosen = order[jnp.where(held, place, 0)]
        count = jnp.minimum(self.samples - first, self.size)
        weight = args.weight * (self.samples / count).astype(args.weight.dtype)
        X = jnp.where(held[:, None], args.X[chosen], 0)
        y = jnp.where(held.reshape(-1, *[1] * (args.y.ndim - 1)), args.y[chosen], 0)
        return args._replace(X=X, y=y, weight=weight)


class Watch(NamedTuple):
    """What ends the alignment phase; infinite where it does not."""

    departure: Any  # of |h| at the data
    growth: Any  # of ln |(a, w)| since the start
    time: Any
    sizes: Any  # (m,) at the start


class Changes(NamedTuple):
    """Places where patterns have changed, with the step and time after which."""

    place: Any  # (ROOM + PART,) neuron * (n + 1) + sample, sample n for the sign of a
    step: Any
    time: Any
    after: Any  # bool
    count: Any


class Going(NamedTuple):
    """A descent that goes on."""

    params: Tree
    memory: Tree
    step: Any  # int64
    time: Any  # float64, of the flow's clock
    tail: Any  # float64, what time has lost to rounding
    codes: Any  # (m, n+1) bool: on, and a > 0; (0, 0) where nobody looks
    changes: Changes
    departed: Any  # bool: the alignment phase ends here


def begin(loss: Loss, rule: Rule, params: Tree, args: Arguments, *, patterns: bool) -> Going:
    """Return a descent at its start."""
    patterns = patterns and not isinstance(loss, ModelLoss)
    codes = _codes(loss, params, args) if patterns else jnp.zeros((0, 0), bool)
    zero = jnp.zeros((), jnp.float64)
    return Going(
        params, rule.init(params), jnp.zeros((), jnp.int64), zero, zero, codes, no_changes(),
        jnp.asarray(False),
    )  # fmt: skip


def no_changes() -> Changes:
    """Return an empty list of changes."""
    length = ROOM + PART
    return Changes(
        jnp.zeros(length, jnp.int64), jnp.zeros(length, jnp.int64), jnp.zeros(length),
        jnp.zeros(length, bool), jnp.zeros((), jnp.int64),
    )  # fmt: skip


@partial(jax.jit, static_argnames=("loss", "rule", "batches", "waits"))
def run(
    loss: Loss, rule: Rule, batches: Batches, waits: bool, going: Going, args: Arguments,
    watch: Watch, rate: Any, seed: Any, last: Any, until: Any,
) -> Going:  # fmt: skip
    """Take steps until number `last`, the time `until`, no room for changes, or a departure.

    Parameters
    ----------
    waits : bool
        The alignment phase has not ended.
    """

    def goes_on(g: Going) -> Any:
        room = g.changes.count <= ROOM
        return (g.step < last) & (g.time < until) & room & ~g.departed

    def step(g: Going) -> Going:
        whole = jnp.asarray(True)
        if g.codes.size:
            g, whole = _noted(loss, g, args)
        if waits:
            g = g._replace(departed=whole & _departs(loss, g, args, watch))
        return jax.lax.cond(whole & ~g.departed, advance, lambda g: g, g)

    def advance(g: Going) -> Going:
        gradient = loss.gradient(g.params, batches.args(args, seed, g.step))
        params, memory = rule.update(g.params, g.memory, gradient, g.step, rate)
        dt = rule.time_unit() * rule.rate(g.step, rate)
        if rule.schedule is None:
            time, tail = (g.step + 1) * dt, g.tail
        else:  # Neumaier's sum, of positive terms
            time = g.time + (g.tail + dt)
            tail = g.tail + dt - (time - g.time)
        return g._replace(
            params=loss.retract(params), memory=memory, step=g.step + 1, time=time, tail=tail
        )

    return jax.lax.while_loop(goes_on, step, going)


@partial(jax.jit, static_argnames=("loss", "waits"))
def look(loss: Loss, waits: bool, going: Going, args: Arguments, watch: Watch) -> Going:
    """Note what has changed up to the present state, without a step."""
    whole = jnp.asarray(True)
    if going.codes.size:
        going, whole = _noted(loss, going, args)
    if waits:
        going = going._replace(departed=whole & _departs(loss, going, args, watch))
    return going


@partial(jax.jit, static_argnames="loss")
def codes_of(loss: Any, params: Tree, args: Arguments) -> Any:
    """Return where neurons are on, and whether a > 0, (m, n+1) bool."""
    return _codes(loss, params, args)


def _codes(loss: Any, params: Tree, args: Arguments) -> Any:
    pre = loss.look(params, args)[1]
    return jnp.concatenate([pre.T > 0, loss.signs(params, args)[:, None]], axis=1)


def _noted(loss: Loss, g: Going, args: Arguments) -> tuple[Going, Any]:
    """Note what has changed since the last look; return whether that was all."""
    now = _codes(loss, g.params, args)
    changed = (now != g.codes).ravel()
    count = jnp.sum(changed)

    def note(g: Going) -> Going:
        size = min(PART, changed.size)
        place = jnp.nonzero(changed, size=size, fill_value=changed.size)[0]
        after = now.ravel().at[place].get(mode="fill", fill_value=False)
        c = g.changes
        put = lambda old, new: jax.lax.dynamic_update_slice(  # noqa: E731
            old, jnp.broadcast_to(new, size).astype(old.dtype), (c.count,)
        )
        changes = Changes(
            put(c.place, place), put(c.step, g.step), put(c.time, g.time), put(c.after, after),
            c.count + jnp.minimum(count, size),
        )  # fmt: skip
        codes = g.codes.ravel().at[place].set(after, mode="drop").reshape(g.codes.shape)
        return g._replace(codes=codes, changes=changes)

    return jax.lax.cond(count > 0, note, lambda g: g, g), count <= PART


def _departs(loss: Any, g: Going, args: Arguments, watch: Watch) -> Any:
    """Return whether the alignment phase is over."""
    over = g.time >= watch.time
    outputs = loss.look(g.params, args)[0]
    if outputs.size:
        # In double: squares of small outputs must not underflow.
        over |= jnp.sqrt(jnp.sum(outputs.astype(jnp.float64) ** 2)) >= watch.departure
    if watch.sizes.size:
        over |= jnp.max(loss.sizes(g.params, args) - watch.sizes) >= watch.growth
    return over
