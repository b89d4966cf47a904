"""A descent on the host's side: compiled calls, and states as vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flowsim._jax import x64
from flowsim.alignment.end import EndRule
from flowsim.engines.descent.changes import ChangeReader
from flowsim.engines.descent.config import Descent
from flowsim.engines.descent.loop import (
    Batches,
    Changes,
    Going,
    Watch,
    begin,
    codes_of,
    look,
    no_changes,
    run,
)
from flowsim.engines.descent.problem import Start
from flowsim.engines.descent.rules import Rule, rate_of
from flowsim.engines.descent.schedule import check_rate, check_transformation
from flowsim.events import Events

#: A pytree of arrays.
Tree = Any


@dataclass(frozen=True, eq=False)
class Packed:
    """A state between two steps as vectors of float64, which hold float32 and counts exactly."""

    iteration: int
    t: float
    tail: float
    params: np.ndarray  # (P,)
    memory: np.ndarray  # (Q,)


class Machine:
    """Take the steps of one descent.

    Parameters
    ----------
    start : Start
    engine : Descent
    """

    def __init__(self, start: Start, engine: Descent) -> None:
        self.start, self.engine = start, engine
        self.rule = Rule.of(engine)
        samples = 0 if start.args.X is None else len(start.args.X)
        size = engine.batch_size or 0
        self.batches = Batches(size if size < samples else 0, samples)
        dtype = np.dtype(engine.dtype)
        with x64():
            self._args = jax.tree.map(lambda x: _cast(x, dtype), start.args)
            params = jax.tree.map(lambda x: _cast(x, dtype), start.params)
            if self.rule.transformation is not None:
                check_transformation(self.rule.transformation, params)
            self.first: Going = begin(
                start.loss, self.rule, params, self._args, patterns=engine.patterns
            )
            self.rate = rate_of(engine, params)
        slope = getattr(start.loss, "slope", 0.0)
        self._reader = ChangeReader(np.asarray(self.first.codes), slope)
        self._sizes: Any = None

    def time_after(self, steps: int) -> float | None:
        """Return the time after so many steps; None if that takes a schedule's rates."""
        if self.rule.schedule is not None:
            return None
        with x64():
            return float(self.rule.time(steps, self.rate))

    def go(self, going: Going, last: int, until: float, watch: Watch | None) -> Going:
        """Take steps up to number `last`, or the time `until`; None watches for nothing.

        Raises
        ------
        ValueError
            If the schedule gives a rate that is none.
        """
        with x64():
            found = run(
                self.start.loss, self.rule, self.batches, watch is not None, going, self._args,
                _never() if watch is None else watch, self.rate, self.engine.seed, last, until,
            )  # fmt: skip
            found = jax.block_until_ready(found)
            if np.isnan(found.time):
                step = int(found.step) - 1
                check_rate(float(self.rule.rate(jnp.asarray(step), 0.0)), step)
            return found

    def look(self, going: Going, watch: Watch | None) -> Going:
        """Note what has happened up to the present state, without a step."""
        with x64():
            found = look(
                self.start.loss, watch is not None, going, self._args,
                _never() if watch is None else watch,
            )  # fmt: skip
            return jax.block_until_ready(found)

    def watch(self, rule: EndRule) -> Watch:
        """Return what to watch for the end of the alignment phase by `rule`, in user's units."""
        inf = float("inf")
        if rule.definition == "residual":
            return Watch(rule.threshold * float(np.linalg.norm(self.start.args.y)), inf, inf,
                         np.zeros(0))  # fmt: skip
        if rule.definition == "theory":
            return Watch(inf, inf, rule.time, np.zeros(0))
        if self._sizes is None:
            with x64():
                loss: Any = self.start.loss
                sizes = np.array(loss.sizes(self.first.params, self._args))
            self._sizes = np.where(np.isfinite(sizes), sizes, inf)
        return Watch(inf, rule.log_growth, inf, self._sizes)

    def events(self, going: Going) -> Events:
        """Return the events that the loop has noted, or has halted for."""
        return self._reader.read(_by_host(going) if bool(going.halted) else going.changes)

    def emptied(self, going: Going) -> Going:
        """Return the same descent with nothing left to note."""
        with x64():
            no = jnp.asarray(False)
            codes = going.now if bool(going.halted) else going.codes
            return going._replace(changes=no_changes(), codes=codes, departed=no, halted=no)

    def params(self, going: Going) -> Tree:
        """Return the parameters in float64."""
        return jax.tree.map(lambda x: np.asarray(x, np.float64), going.params)

    def packed(self, going: Going) -> Packed:
        """Return a state as vectors."""
        return Packed(
            int(going.step), float(going.time), float(going.tail), _flat(going.params),
            _flat(going.memory),
        )  # fmt: skip

    def unpacked(self, packed: Packed) -> Going:
        """Return a descent that goes on from a packed state."""
        with x64():
            first = self.first
            params, codes = _unflat(packed.params, first.params), first.codes
            if codes.size:
                codes = codes_of(self.start.loss, params, self._args)
                self._reader = ChangeReader(np.asarray(codes), self._reader.slope)
            return first._replace(
                params=params,
                memory=_unflat(packed.memory, first.memory),
                step=jnp.asarray(packed.iteration, jnp.int64),
                time=jnp.asarray(packed.t, jnp.float64),
                tail=jnp.asarray(packed.tail, jnp.float64),
                codes=codes,
            )

    def unflat(self, params: np.ndarray) -> Tree:
        """Return stored parameters (P,) as a pytree of float64."""
        like = jax.tree.map(lambda x: np.zeros(x.shape), self.first.params)
        return _unflat(params, like, np)


def _by_host(going: Going) -> Changes:
    """Return what has changed in the present step."""
    now = np.asarray(going.now).ravel()
    place = np.flatnonzero(now != np.asarray(going.codes).ravel())
    count = len(place)
    step, time = np.full(count, int(going.step)), np.full(count, float(going.time))
    return Changes(place, step, time, now[place], count)


def _never() -> Watch:
    return Watch(np.inf, np.inf, np.inf, np.zeros(0))


def _cast(x: Any, dtype: np.dtype) -> Any:
    """Return floats in another precision; what is none stays what it is."""
    x = np.asarray(x)
    return jnp.asarray(x, dtype if np.issubdtype(x.dtype, np.floating) else x.dtype)


def _flat(tree: Tree) -> np.ndarray:
    leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)]
    return np.concatenate(leaves) if leaves else np.zeros(0)


def _unflat(vector: np.ndarray, like: Tree, xp: Any = jnp) -> Tree:
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([leaf.size for leaf in leaves])
    parts = [
        xp.asarray(vector[end - leaf.size : end].reshape(leaf.shape), leaf.dtype)
        for end, leaf in zip(ends.tolist(), leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, parts)
