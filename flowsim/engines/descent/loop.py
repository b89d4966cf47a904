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
#: Changes of patterns that are kept between two calls.
ROOM = 2**15
#: Up to so many codes are compared inside the loop; for more the host is faster at that.
FEW = 2**12


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

    place: Any  # (ROOM + FEW,) neuron * (n + 1) + sample, sample n for the sign of a
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
    now: Any  # like codes, of the present step where the host is to note what has changed
    halted: Any  # bool: it is
    departed: Any  # bool: the alignment phase ends here


def begin(loss: Loss, rule: Rule, params: Tree, args: Arguments, *, patterns: bool) -> Going:
    """Return a descent at its start."""
    patterns = patterns and not isinstance(loss, ModelLoss)
    codes = _codes(loss, params, args) if patterns else jnp.zeros((0, 0), bool)
    zero, no = jnp.zeros((), jnp.float64), jnp.asarray(False)
    now = codes if codes.size > FEW else jnp.zeros((0, 0), bool)
    return Going(
        params, rule.init(params), jnp.zeros((), jnp.int64), zero, zero, codes, no_changes(),
        now, no, no,
    )  # fmt: skip


def no_changes() -> Changes:
    """Return an empty list of changes."""
    length = ROOM + FEW
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
        return (g.step < last) & (g.time < until) & room & ~g.departed & ~g.halted

    def step(g: Going) -> Going:
        g = looked(g, loss, args, watch if waits else None)
        return jax.lax.cond(g.halted | g.departed, lambda g: g, advance, g)

    def advance(g: Going) -> Going:
        gradient = loss.gradient(g.params, batches.args(args, seed, g.step))
        params, memory = rule.update(g.params, g.memory, gradient, g.step, rate)
        if rule.schedule is None:
            time, tail = rule.time(g.step + 1, rate), g.tail
        else:  # Neumaier's sum, of positive terms; a rate that is none makes it nan and ends this
            eta = rule.rate(g.step, rate)
            dt = rule.interval(g.step, jnp.where((eta >= 0) & (eta < jnp.inf), eta, jnp.nan))
            time = g.time + (g.tail + dt)
            tail = g.tail + dt - (time - g.time)
        params = loss.retract(params, g.params, args)
        return g._replace(params=params, memory=memory, step=g.step + 1, time=time, tail=tail)

    return jax.lax.while_loop(goes_on, step, going)


@partial(jax.jit, static_argnames=("loss", "waits"))
def look(loss: Loss, waits: bool, going: Going, args: Arguments, watch: Watch) -> Going:
    """Note what has changed up to the present state, without a step."""
    return looked(going, loss, args, watch if waits else None)


def looked(g: Going, loss: Any, args: Arguments, watch: Watch | None) -> Going:
    """Return a descent with what has changed noted, or halted for the host to note it."""
    if g.now.size:
        now = _codes(loss, g.params, args)
        g = g._replace(now=now, halted=jnp.any(now != g.codes))
    elif g.codes.size:
        g = _noted(loss, g, args)
    if watch is None:
        return g
    return g._replace(departed=~g.halted & _departs(loss, g, args, watch))


@partial(jax.jit, static_argnames="loss")
def codes_of(loss: Any, params: Tree, args: Arguments) -> Any:
    """Return where neurons are on, and whether a > 0, (m, n+1) bool."""
    return _codes(loss, params, args)


def _codes(loss: Any, params: Tree, args: Arguments) -> Any:
    pre = loss.look(params, args)[1]
    return jnp.concatenate([pre.T > 0, loss.signs(params, args)[:, None]], axis=1)


def _noted(loss: Loss, g: Going, args: Arguments) -> Going:
    """Note what has changed since the last look."""
    now = _codes(loss, g.params, args)
    changed = (now != g.codes).ravel()

    def note(g: Going) -> Going:
        size = changed.size
        place = jnp.nonzero(changed, size=size, fill_value=size)[0]
        after = now.ravel().at[place].get(mode="fill", fill_value=False)
        c = g.changes
        put = lambda old, new: jax.lax.dynamic_update_slice(  # noqa: E731
            old, jnp.broadcast_to(new, size).astype(old.dtype), (c.count,)
        )
        changes = Changes(
            put(c.place, place), put(c.step, g.step), put(c.time, g.time), put(c.after, after),
            c.count + jnp.sum(changed),
        )  # fmt: skip
        return g._replace(codes=now, changes=changes)

    return jax.lax.cond(jnp.any(changed), note, lambda g: g, g)


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
